//! In which order one session's settings become another's.
//!
//! Knows no setting by name. Called by `pool` when a lease begins and when one goes on, by `trace` and `numbered`
//! for what they change in between.

use maitred_wire::dialect::SettingChange;
use maitred_wire::Dialect;

use crate::ids::Time;
use crate::server::Server;
use crate::session_state::Settings;

impl Server {
    /// Write these changes, unseen, in front of what comes next.
    pub(crate) fn change_settings(&mut self, changes: &[SettingChange<'_>], now: Time) {
        if changes.is_empty() {
            return;
        }
        self.made.note_changes(self.dialect, changes);
        let requests = self.dialect.write_settings(&mut self.output, changes);
        for _ in 0..requests {
            self.owe_adjustment(now);
        }
        self.statements.unnamed = None;
    }
}

/// What leads from the settings `from` to those `to`; None means "back to the default".
///
/// A role is left before anything else is said, though it be the same afterwards, and taken when all else has been
/// said: it may lack the right to what comes between. A statement is forgotten before one of its name is made. A
/// limit of time is lifted first and set last: it is meant for the statements of its own client, not for these.
pub(crate) fn plan<'a>(dialect: Dialect, from: &'a Settings, to: &'a Settings) -> Vec<SettingChange<'a>> {
    let changes = from.changes_to(to);
    if changes.is_empty() {
        return changes;
    }
    let is_role = |name: &str| dialect.is_unlisted(name);
    let is_statement = |name: &str| dialect.is_statement_among_settings(name);
    let is_anew = |name: &str| {
        is_role(name) || (dialect.is_limit(name) || is_statement(name)) && from.value(name) != to.value(name)
    };
    let left = from.iter().filter(|(name, _)| is_anew(name)).map(|(name, _)| (name, None));
    let rest =
        changes.into_iter().filter(|(name, value)| !is_role(name) && (value.is_some() || !is_anew(name)));
    let mut taken: Vec<_> = to.iter().filter(|(name, _)| is_role(name)).collect();
    // Why in reverse: whose session it is comes before the role in it.
    taken.reverse();
    let mut all: Vec<SettingChange<'a>> = left.chain(rest).collect();
    all.extend(taken.into_iter().map(|(name, value)| (name, Some(value))));
    all.sort_by_key(|(name, value)| match (dialect.is_limit(name), is_role(name), value) {
        (true, _, None) => 0,
        (_, true, None) => 1,
        (false, false, _) => 2,
        (false, true, Some(_)) => 3,
        (true, _, Some(_)) => 4,
    });
    all
}

/// Settings that no word returns to what the session began with are returned to what a fresh session says of them.
pub(crate) fn name_defaults<'a>(
    dialect: Dialect,
    changes: &mut [SettingChange<'a>],
    fresh: Option<&'a Settings>,
) {
    if dialect.is_default_of_all() {
        for (name, value) in changes.iter_mut().filter(|(_, value)| value.is_none()) {
            *value = fresh.and_then(|fresh| fresh.value(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(from: &[(&str, &str)], to: &[(&str, &str)]) -> String {
        let settings = |pairs: &[(&str, &str)]| {
            let mut all = Settings::default();
            for (name, value) in pairs {
                all.set(name, value);
            }
            all
        };
        let (from, to) = (settings(from), settings(to));
        let said = |(name, value): &SettingChange<'_>| format!("{name}={}", value.unwrap_or("-"));
        plan(Dialect::Postgres, &from, &to).iter().map(said).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn roles_are_left_first_and_taken_last() {
        assert_eq!(planned(&[("a", "1"), ("role", "r"), ("z", "1")], &[]), "role=- a=- z=-");
        assert_eq!(planned(&[], &[("role", "r"), ("z", "1")]), "z=1 role=r");
        assert_eq!(planned(&[("role", "r")], &[("role", "r"), ("a", "1")]), "role=- a=1 role=r");
        assert_eq!(planned(&[("role", "r")], &[("role", "s")]), "role=- role=s");
        assert_eq!(planned(&[("role", "r")], &[("role", "r")]), "");
        assert_eq!(
            planned(&[("session_authorization", "a")], &[("role", "r"), ("session_authorization", "b")]),
            "session_authorization=- session_authorization=b role=r"
        );
    }

    #[test]
    fn statements_and_limits_are_made_anew() {
        let name = Dialect::Postgres.name_among_settings("p");
        let (one, two) = ("prepare p as select 1", "prepare p as select 2");
        let limited =
            planned(&[("statement_timeout", "1")], &[("statement_timeout", "2"), ("z", "1"), ("role", "r")]);
        assert_eq!(limited, "statement_timeout=- z=1 role=r statement_timeout=2");
        assert_eq!(planned(&[(&name, one)], &[(&name, two)]), format!("{name}=- {name}={two}"));
        assert_eq!(planned(&[(&name, one), ("a", "1")], &[(&name, one)]), "a=-");
    }

    #[test]
    fn defaults_of_all_are_not_those_of_a_session() {
        let mut fresh = Settings::default();
        fresh.set("lock_wait_timeout", "7");
        for (dialect, expected) in [(Dialect::Mysql, Some("7")), (Dialect::Postgres, None)] {
            let mut changes = vec![("lock_wait_timeout", None), ("@x", None), ("sql_mode", Some("ANSI"))];
            name_defaults(dialect, &mut changes, Some(&fresh));
            assert_eq!(changes, [("lock_wait_timeout", expected), ("@x", None), ("sql_mode", Some("ANSI"))]);
        }
    }
}
