//! Asking a server what has become of its session, and reading what it says.
//!
//! Only texts and rows; when to ask and what follows is `relay`'s matter. Called through `Dialect`.
//!
//! Source: PostgreSQL manual, "System Views" (`pg_settings`, `pg_locks`, `pg_cursors`,
//! `pg_prepared_statements`) and "Session Information Functions".

use super::statement::push_literal;
use super::{frame, reply, spec};
use crate::effects::{Finding, Question, Traces};

/// Each kind with the condition under which some of it is left.
const CONDITIONS: [(Traces, &str, &str); 3] = [
    (
        Traces::LOCKS,
        "locks",
        "EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype='advisory' AND pid=pg_catalog.pg_backend_pid())",
    ),
    (
        Traces::TEMPORARY,
        "temporary",
        "EXISTS(SELECT FROM pg_catalog.pg_class WHERE relnamespace=pg_catalog.pg_my_temp_schema()) \
         OR EXISTS(SELECT FROM pg_catalog.pg_proc WHERE pronamespace=pg_catalog.pg_my_temp_schema()) \
         OR EXISTS(SELECT FROM pg_catalog.pg_type WHERE typnamespace=pg_catalog.pg_my_temp_schema())",
    ),
    (Traces::CURSORS, "cursors", "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
];

/// What a client may have set that ends, or holds up, what is asked. A limit is lifted only where it may have
/// been set, so each is known to the server. Why the isolation: SERIALIZABLE READ ONLY DEFERRABLE waits for
/// others.
pub const LIMITS: &[&str] =
    &["statement_timeout", "lock_timeout", "transaction_timeout", "default_transaction_isolation"];

const ISOLATION: &str = "default_transaction_isolation";

/// Where a lifted limit's own value is to be found meanwhile.
fn stored(name: &str) -> String {
    format!("pg_catalog.current_setting('maitred.{name}')")
}

/// Lift limits for the rest of the request, which is one transaction. Spec: a limit of time that was changed
/// holds from the next statement of a request on.
fn lift(sql: &mut String, names: &[&str]) {
    if names.contains(&ISOLATION) {
        sql.push_str("SET TRANSACTION ISOLATION LEVEL READ COMMITTED;");
    }
    let mut begin = "SELECT WHERE ";
    for name in time_limits(names) {
        sql.push_str(begin);
        sql.push_str(&format!(
            "pg_catalog.set_config('maitred.{name}',pg_catalog.current_setting('{name}'),true)\
             ||pg_catalog.set_config('{name}','0',true) IS NULL"
        ));
        begin = " OR ";
    }
    if begin == " OR " {
        sql.push(';');
    }
}

fn time_limits<'a>(names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    names.iter().copied().filter(|name| *name != ISOLATION)
}

/// Ask `question`: one request with one `Ready`, whose rows `finding` reads.
pub fn write(out: &mut Vec<u8>, question: &Question) {
    let mut sql = String::with_capacity(256);
    lift(&mut sql, &question.lifted);
    let start = sql.len();
    let mut part = |text: &dyn Fn(&mut String)| {
        sql.push_str(if sql.len() == start { "SELECT " } else { " UNION ALL SELECT " });
        text(&mut sql);
    };
    for (kind, word, condition) in CONDITIONS {
        if question.traces.has(kind) {
            part(&|sql| sql.push_str(&format!("'{word}',NULL,NULL WHERE {condition}")));
        }
    }
    if question.traces.has(Traces::LISTENS) {
        part(&|sql| sql.push_str("'channel',c,NULL FROM pg_catalog.pg_listening_channels() c"));
    }
    if question.traces.has(Traces::PREPARED) {
        part(&|sql| {
            sql.push_str("'statement',name,statement FROM pg_catalog.pg_prepared_statements WHERE from_sql");
        });
    }
    for name in question.values.iter().filter(|name| !spec::is_of_transaction(name)) {
        let lifted = time_limits(&question.lifted).find(|lifted| lifted.eq_ignore_ascii_case(name));
        part(&|sql| {
            sql.push_str("'set',");
            push_literal(sql, name);
            if let Some(lifted) = lifted {
                sql.push(',');
                return sql.push_str(&stored(lifted));
            }
            sql.push(',');
            if question.may_be_refused {
                sql.push_str(
                    "CASE WHEN NOT EXISTS(SELECT FROM pg_catalog.pg_settings WHERE source<>'session' \
                     AND pg_catalog.lower(name)=",
                );
                push_literal(sql, &name.to_ascii_lowercase());
                sql.push_str(") THEN ");
            }
            sql.push_str("pg_catalog.current_setting(");
            push_literal(sql, name);
            sql.push_str(",true)");
            sql.push_str(if question.may_be_refused { " END" } else { "" });
        });
    }
    if question.all_values || !question.own_values.is_empty() {
        part(&|sql| {
            sql.push_str("'set',name,CASE name WHEN '' THEN ''");
            for name in time_limits(&question.lifted) {
                sql.push_str(&format!(" WHEN '{name}' THEN {}", stored(name)));
            }
            sql.push_str(" ELSE setting END FROM pg_catalog.pg_settings WHERE source='session'");
            // Why: after SET TRANSACTION they are listed as set by the session.
            for name in spec::OF_TRANSACTIONS {
                sql.push_str(" AND name<>");
                push_literal(sql, name);
            }
            for name in time_limits(&question.lifted) {
                // Why: lifted, it is the session's in any case.
                sql.push_str(&format!(
                    " AND NOT (name='{name}' AND {}::pg_catalog.interval=(reset_val||'ms')::pg_catalog.interval)",
                    stored(name)
                ));
            }
            if !question.all_values {
                sql.push_str(" AND pg_catalog.lower(name) IN (");
                for (at, name) in question.own_values.iter().enumerate() {
                    sql.push_str(if at > 0 { "," } else { "" });
                    push_literal(sql, &name.to_ascii_lowercase());
                }
                sql.push(')');
            }
        });
    }
    if sql.len() == start {
        sql.push_str("SELECT NULL,NULL,NULL WHERE false");
    }
    reply::query(out, &sql);
}

/// Read one whole row of the answer.
pub fn finding(message: &[u8]) -> Option<Finding> {
    let mut rest = message.get(frame::HEADER + 2..)?;
    let mut column = || -> Option<Option<&[u8]>> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        if length < 0 {
            rest = after;
            return Some(None);
        }
        let (text, after) = after.split_at_checked(length as usize)?;
        rest = after;
        Some(Some(text))
    };
    let (kind, name, value) = (column()??, column()?, column()?);
    // Why: in a session of another encoding it may be no text to us. It is there, and cannot be said again.
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    let setting = || match (text(name?), value.map(text).transpose()) {
        (Ok(name), Ok(value)) => Some(Finding::Setting(name, value)),
        _ => Some(Finding::Trace(Traces::UNKNOWN)),
    };
    let statement = || match (text(name?), text(value?)) {
        (Ok(name), Ok(value)) => Some(Finding::Statement(name, value)),
        _ => Some(Finding::Trace(Traces::UNKNOWN)),
    };
    match kind {
        b"set" => return setting(),
        b"statement" => return statement(),
        b"channel" => {
            return Some(text(name?).map_or(Finding::Trace(Traces::LISTENS), Finding::Channel));
        }
        _ => {}
    }
    let known = CONDITIONS.iter().find(|(_, word, _)| word.as_bytes() == kind)?;
    Some(Finding::Trace(known.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::statement::query_text;

    fn text_of(question: &Question) -> String {
        let mut out = Vec::new();
        write(&mut out, question);
        String::from_utf8(query_text(&out).to_vec()).expect("text")
    }

    #[test]
    fn a_question_is_one_statement() {
        let question = Question {
            traces: Traces::CURSORS,
            values: vec!["a'b".into()],
            own_values: vec!["Work_Mem".into()],
            ..Question::default()
        };
        let text = text_of(&question);
        assert_eq!(text.matches("UNION ALL").count(), 2);
        assert!(text.contains("current_setting('a''b',true)"), "{text}");
        assert!(text.ends_with("AND pg_catalog.lower(name) IN ('work_mem')"), "{text}");
        assert!(!text.contains(';'));
        assert!(text_of(&Question::default()).starts_with("SELECT "));
        let refused = Question { may_be_refused: true, ..question };
        assert!(text_of(&refused).contains("THEN pg_catalog.current_setting('a''b',true) END UNION"));
        let of_transaction = Question { values: vec!["Transaction_Read_Only".into()], ..Question::default() };
        assert_eq!(text_of(&of_transaction), text_of(&Question::default()));
    }

    #[test]
    fn limits_are_lifted_first_and_told_as_they_were() {
        let question = Question {
            values: vec!["Statement_Timeout".into(), "work_mem".into()],
            all_values: true,
            lifted: vec!["statement_timeout", "default_transaction_isolation"],
            ..Question::default()
        };
        let text = text_of(&question);
        let parts: Vec<&str> = text.split(';').collect();
        assert_eq!(parts[0], "SET TRANSACTION ISOLATION LEVEL READ COMMITTED");
        assert!(parts[1].contains("set_config('statement_timeout','0',true)"), "{text}");
        assert!(
            parts[2].contains("'Statement_Timeout',pg_catalog.current_setting('maitred.statement_timeout')")
        );
        assert!(parts[2].contains("'work_mem',pg_catalog.current_setting('work_mem',true)"), "{text}");
        assert!(parts[2].contains("WHEN 'statement_timeout' THEN"), "{text}");
        assert_eq!(parts.len(), 3);
    }

    #[test]
    fn rows_are_findings() {
        let row = |values: &[Option<&str>]| {
            let mut out = Vec::new();
            reply::data_row(&mut out, values);
            finding(&out)
        };
        assert_eq!(row(&[Some("locks"), None, None]), Some(Finding::Trace(Traces::LOCKS)));
        let set = Finding::Setting("a.b".to_owned(), Some("x".to_owned()));
        assert_eq!(row(&[Some("set"), Some("a.b"), Some("x")]), Some(set));
        let channel = Finding::Channel("Jobs".to_owned());
        assert_eq!(row(&[Some("channel"), Some("Jobs"), None]), Some(channel));
        let unknown = Finding::Setting("no_such".to_owned(), None);
        assert_eq!(row(&[Some("set"), Some("no_such"), None]), Some(unknown));
        assert_eq!(row(&[Some("other"), None, None]), None);
        assert_eq!(row(&[Some("set")]), None);
        let foreign = b"D\0\0\0\x16\0\x03\0\0\0\x03set\0\0\0\x01a\0\0\0\x01\xe9";
        assert_eq!(finding(foreign), Some(Finding::Trace(Traces::UNKNOWN)));
    }
}
