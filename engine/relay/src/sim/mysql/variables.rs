//! Variables of the scripted database's sessions, and the `SET` that changes them.
//!
//! Knows no other statement. Called by `session` and `statements`.
//!
//! Spec: MySQL manual, "SET Syntax for Variable Assignment".

use std::collections::BTreeMap;

use super::answers::{Failure, Outcome};
use super::session::Session;
use super::tracker::Change;
use super::values::{charset_of, literal, split, Value};

const DEFAULTS: [(&str, &str); 21] = [
    ("autocommit", "ON"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("group_concat_max_len", "1024"),
    ("insert_id", "0"),
    ("last_insert_id", "0"),
    ("lock_wait_timeout", "86400"),
    ("max_join_size", "18446744073709551615"),
    ("session_track_schema", "ON"),
    ("session_track_state_change", "OFF"),
    ("session_track_system_variables", ""),
    ("session_track_transaction_info", "OFF"),
    ("sql_mode", "STRICT_TRANS_TABLES"),
    ("sql_select_limit", "18446744073709551615"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "OFF"),
    ("wait_timeout", "28800"),
];

/// Those of one session.
#[derive(Debug)]
pub(super) struct Variables {
    /// Of the login.
    pub collation: u8,
    system: BTreeMap<&'static str, String>,
    pub user: BTreeMap<String, Value>,
}

impl Variables {
    pub fn new(collation: u8) -> Self {
        let mut system: BTreeMap<&str, String> =
            DEFAULTS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let spoken = match collation {
            8 => "latin1_swedish_ci",
            33 => "utf8mb3_general_ci",
            46 => "utf8mb4_bin",
            _ => "utf8mb4_general_ci",
        };
        for name in ["character_set_client", "character_set_connection", "character_set_results"] {
            system.insert(name, charset_of(spoken).to_owned());
        }
        system.insert("collation_connection", spoken.to_owned());
        Self { collation, system, user: BTreeMap::new() }
    }

    pub fn is_autocommit(&self) -> bool {
        self.system["autocommit"] == "ON"
    }

    pub fn is_tracking(&self) -> bool {
        self.system["session_track_system_variables"] == "*"
    }

    pub fn tracks_state(&self) -> bool {
        self.system["session_track_state_change"] == "ON"
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.system.get(name.to_ascii_lowercase().as_str()).map(String::as_str)
    }

    /// A value, and whether it is the one that sessions begin with.
    pub fn told(&self, name: &str) -> Option<(&str, bool)> {
        let (name, usual) = DEFAULTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        let value = self.get(name)?;
        Some((value, value == *usual))
    }

    /// Those that differ from what sessions begin with, or are `wanted`, and their values.
    pub fn differing(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &str)> {
        let lasting = DEFAULTS.iter().filter(|(name, _)| !name.ends_with("insert_id"));
        lasting.filter_map(move |(name, value)| {
            Some((*name, self.get(name).filter(|now| now != value || wanted(name))?))
        })
    }

    /// The name as the session has it.
    fn known(name: &str) -> Option<&'static str> {
        let name = name.trim().trim_matches('`');
        DEFAULTS.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(name))
    }
}

impl Session {
    /// Values of a session's variables, user variables with their mark, for scenarios that compare.
    pub fn variable(&self, name: &str) -> Option<String> {
        match name.strip_prefix('@') {
            Some(user) => self.variables.user.get(user).map(Value::text),
            None => self.variables.get(name).map(str::to_owned),
        }
    }

    pub(super) fn set(&mut self, text: &str) -> Outcome {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.first().is_some_and(|word| word.eq_ignore_ascii_case("names")) {
            let named = words.get(1).copied().unwrap_or_default().trim_matches('\'');
            let collation = words.get(3).map_or(format!("{named}_general_ci"), |name| (*name).to_owned());
            for name in ["character_set_client", "character_set_connection", "character_set_results"] {
                self.note_change(name, named.to_owned(), true);
            }
            // Measured: with both servers, this is not told.
            self.note_change("collation_connection", collation, false);
            return Outcome::done();
        }
        if words.first().is_some_and(|word| word.eq_ignore_ascii_case("transaction")) {
            if self.is_in_transaction() {
                let text = "Transaction characteristics can't be changed while a transaction is in progress";
                return Outcome::failed(1568, b"25001", text);
            }
            let told = format!("SET TRANSACTION {};", words[1..].join(" "));
            self.left.next_transaction = true;
            self.changes.push(Change::Characteristics(told));
            return Outcome::done();
        }
        let mut is_done = Ok(());
        for assignment in split(text, ",") {
            is_done = is_done.and_then(|()| self.assign(&assignment));
        }
        match is_done {
            Ok(()) => Outcome::done(),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    fn assign(&mut self, assignment: &str) -> Result<(), Failure> {
        let syntax = || Failure::new(1064, b"42000", "You have an error in your SQL syntax");
        let (name, value) = assignment.split_once('=').ok_or_else(syntax)?;
        let name = name.trim_end_matches(':').trim();
        let lower = name.to_ascii_lowercase();
        let system = lower
            .strip_prefix("@@session.")
            .or(lower.strip_prefix("session "))
            .or(lower.strip_prefix("@@"))
            .or((!name.starts_with('@')).then_some(&lower));
        let Some(system) = system else {
            let collation = self.variables.get("collation_connection").unwrap_or_default();
            let value = match value.trim().strip_prefix('@') {
                Some(other) => self.variables.user.get(other.trim_matches('`')).cloned(),
                None => literal(value, collation).ok_or_else(syntax)?,
            };
            let name = name.trim_start_matches('@').trim_matches('`').to_owned();
            match value {
                Some(value) => drop(self.variables.user.insert(name, value)),
                None => drop(self.variables.user.remove(&name)),
            }
            self.note_unnamed();
            return Ok(());
        };
        let known = Variables::known(system)
            .ok_or_else(|| Failure::new(1193, b"HY000", &format!("Unknown system variable '{system}'")))?;
        let value = match value.trim() {
            default if default.eq_ignore_ascii_case("default") => {
                DEFAULTS.iter().find(|(name, _)| *name == known).map(|(_, value)| (*value).to_owned())
            }
            word if !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
            {
                Some(word.to_owned())
            }
            value => literal(value, "utf8mb4_general_ci").ok_or_else(syntax)?.map(|value| value.text()),
        };
        let mut value = value.unwrap_or_default();
        if value == "wrong" {
            let text = format!("Variable '{known}' can't be set to the value of 'wrong'");
            return Err(Failure::new(1231, b"42000", &text));
        }
        let is_switch = DEFAULTS.iter().any(|(name, value)| *name == known && matches!(*value, "ON" | "OFF"));
        if is_switch {
            value = if matches!(&*value, "1" | "ON" | "on") { "ON".into() } else { "OFF".into() };
        }
        if known == "autocommit" && value == "ON" {
            self.end_transaction();
        }
        match known {
            "character_set_connection" => {
                let collation = format!("{value}_general_ci");
                self.note_change("collation_connection", collation, false);
            }
            "collation_connection" => {
                let charset = charset_of(&value).to_owned();
                self.note_change("character_set_connection", charset, true);
            }
            "last_insert_id" => self.left.insert_id = value.parse().unwrap_or_default(),
            _ => {}
        }
        self.note_change(known, value, true);
        Ok(())
    }

    /// A routine says `SET @@name = value`. Measured: MariaDB 10.11 tells nothing of that.
    pub(super) fn set_untold(&mut self, name: &str, value: &str) {
        let known = Variables::known(name).expect("a variable");
        self.note_change(known, value.to_owned(), !self.is_mariadb);
    }

    fn note_change(&mut self, name: &'static str, value: String, is_told: bool) {
        self.variables.system.insert(name, value.clone());
        if is_told && self.variables.is_tracking() {
            self.changes.retain(|change| !matches!(change, Change::Variable(told, _) if told == name));
            self.changes.push(Change::Variable(name.to_owned(), value));
            // Measured: both servers say of each SET that something changed, whatever else they say of it.
            self.note_unnamed();
        }
    }

    pub(super) fn note_unnamed(&mut self) {
        if self.variables.tracks_state() && !self.changes.contains(&Change::Unnamed) {
            self.changes.push(Change::Unnamed);
        }
    }
}
