//! What a client has chosen to be told of its session, while its servers tell us everything.
//!
//! Reads what a server says its choice is and leaves out of the server's news what it did not choose; asks nothing by
//! itself. Called by `reply`, by `leftovers`, and by `relay` through `Dialect`.
//!
//! Spec: MySQL manual, "Server Tracking of Client Session State"; MariaDB manual, "Session Tracking".

use super::frame;
use super::settings::push_text;
use super::spec::track;

/// The variables that say it, in the order of the answer to [`QUESTION`].
pub const NAMES: [&str; 4] = [
    "session_track_system_variables",
    "session_track_schema",
    "session_track_state_change",
    "session_track_transaction_info",
];

/// Their values behind [`super::setup::SETUP`].
const OURS: [&[u8]; 4] = [b"*", b"1", b"1", b"CHARACTERISTICS"];

/// Asks a session for them. Why bytes and a limit: else they came in the session's character set, or
/// not at all; why a sum: cast by itself, MariaDB 10.11 says ON and OFF.
pub const QUESTION: &str = "SELECT CAST(@@session_track_system_variables AS BINARY),\
    CAST(@@session_track_schema+0 AS BINARY),CAST(@@session_track_state_change+0 AS BINARY),\
    CAST(@@session_track_transaction_info AS BINARY) FROM DUAL LIMIT 1";

/// What sessions tell of variables if nobody wishes otherwise, in MySQL and in MariaDB.
const USUAL: &str =
    "autocommit,character_set_client,character_set_connection,character_set_results,time_zone";

/// A client's choice; None: what a session tells if nobody wishes otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking([Option<Box<str>>; 4]);

impl Tracking {
    /// Take over the values of `names` from a row of the answer to [`QUESTION`], header included. `may_have_failed`:
    /// nothing need have been set, so that what is ours is not the client's choice.
    pub fn read(&mut self, row: &[u8], names: &[Box<str>], may_have_failed: bool) {
        let mut rest = row.get(frame::HEADER..).unwrap_or_default();
        for (at, name) in NAMES.iter().enumerate() {
            let (value, after) = match rest.strip_prefix(&[frame::NULL]) {
                Some(after) => (&[][..], after),
                None => match frame::string(rest) {
                    Ok(read) => read,
                    Err(_) => return,
                },
            };
            rest = after;
            let is_named = names.iter().any(|named| **named == **name);
            if is_named && !(may_have_failed && value == OURS[at]) {
                self.0[at] = Some(String::from_utf8_lossy(value).into());
            }
        }
    }

    /// What stands for the variable of this place where a text reads it.
    pub fn literal(&self, at: usize) -> String {
        let mut sql = String::new();
        match self.0[at].as_deref() {
            None => sql = format!("@@global.{}", NAMES[at]),
            // Measured: columns of these have the type of those that are asked for.
            Some(value @ ("0" | "1")) if at == 1 || at == 2 => {
                sql = format!("NULLIF(CAST({value}|0 AS SIGNED),NULL)")
            }
            Some(value) => {
                sql.push_str("NULLIF(");
                push_text(&mut sql, value);
                sql.push_str(",NULL)");
            }
        }
        sql
    }

    fn tells_variable(&self, name: &[u8]) -> bool {
        let listed = self.0[0].as_deref().unwrap_or(USUAL);
        let is_it = |one: &str| one.trim() == "*" || one.trim().as_bytes().eq_ignore_ascii_case(name);
        listed.split(',').any(is_it)
    }

    fn tells(&self, kind: u8) -> bool {
        let value = |at: usize| self.0[at].as_deref();
        match kind {
            track::SCHEMA => value(1) != Some("0"),
            track::STATE_CHANGE => value(2) == Some("1"),
            // Why: servers tell it to those alone who set `session_track_gtids`, which we do not.
            track::GTIDS => true,
            track::TRANSACTION_STATE => value(3).is_some_and(|value| value != "OFF"),
            track::TRANSACTION_CHARACTERISTICS => value(3) == Some("CHARACTERISTICS"),
            _ => false,
        }
    }

    /// That of a server's news which its client is told. What is not well formed ends it.
    pub fn told(&self, mut news: &[u8]) -> Vec<u8> {
        let mut told = Vec::new();
        while let Some((kind, Ok((data, rest)))) =
            news.split_first().map(|(kind, at)| (*kind, frame::string(at)))
        {
            news = rest;
            if kind != track::SYSTEM_VARIABLES {
                if self.tells(kind) {
                    told.push(kind);
                    frame::put_string(&mut told, data);
                }
                continue;
            }
            let mut within = data;
            while let Ok((name, rest)) = frame::string(within) {
                let Ok((value, rest)) = frame::string(rest) else { break };
                within = rest;
                if self.tells_variable(name) {
                    let mut pair = Vec::with_capacity(name.len() + value.len() + 2);
                    frame::put_string(&mut pair, name);
                    frame::put_string(&mut pair, value);
                    told.push(track::SYSTEM_VARIABLES);
                    frame::put_string(&mut told, &pair);
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(values: [&str; 4], named: &[usize], may_have_failed: bool) -> Tracking {
        let mut row = vec![0; frame::HEADER];
        for value in values {
            frame::put_string(&mut row, value.as_bytes());
        }
        let names: Vec<Box<str>> = named.iter().map(|at| NAMES[*at].into()).collect();
        let mut tracking = Tracking::default();
        tracking.read(&row, &names, may_have_failed);
        tracking
    }

    fn news() -> Vec<u8> {
        let mut news = Vec::new();
        let mut piece = |kind: u8, data: &[&str]| {
            let mut body = Vec::new();
            for text in data {
                frame::put_string(&mut body, text.as_bytes());
            }
            news.push(kind);
            frame::put_string(&mut news, &body);
        };
        // MariaDB puts several variables into one piece.
        piece(track::SYSTEM_VARIABLES, &["autocommit", "OFF", "sql_mode", "ANSI"]);
        piece(track::SCHEMA, &["shop"]);
        piece(track::STATE_CHANGE, &["1"]);
        piece(track::GTIDS, &["x"]);
        piece(track::TRANSACTION_CHARACTERISTICS, &["START TRANSACTION;"]);
        piece(track::TRANSACTION_STATE, &["T_______"]);
        news
    }

    #[test]
    fn a_client_is_told_what_it_chose() {
        let ours = ["*", "1", "1", "CHARACTERISTICS"];
        let kinds = |tracking: &Tracking| {
            let mut told = &tracking.told(&news())[..];
            let mut kinds = Vec::new();
            while let Some((kind, rest)) = told.split_first() {
                kinds.push(*kind);
                told = frame::string(rest).unwrap().1;
            }
            kinds
        };
        assert_eq!(kinds(&Tracking::default()), [0, 1, 3]);
        assert_eq!(kinds(&chosen(ours, &[], false)), [0, 1, 3]);
        assert_eq!(kinds(&chosen(ours, &[0, 1, 2, 3], true)), [0, 1, 3]);
        assert_eq!(kinds(&chosen(ours, &[0, 1, 2, 3], false)), [0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(kinds(&chosen(["", "0", "0", "STATE"], &[0, 1, 3], true)), [3, 5]);
        let told = chosen(["a, SQL_MODE", "0", "0", "OFF"], &[0, 1], false).told(&news());
        assert_eq!(told, [&b"\0\x0e\x08sql_mode\x04ANSI"[..], b"\x03\x02\x01x"].concat());
    }

    #[test]
    fn a_choice_is_read_as_it_was_made() {
        let tracking = chosen(["time_zone", "0", "1", "STATE"], &[0, 1, 3], false);
        let literals: Vec<String> = (0..4).map(|at| tracking.literal(at)).collect();
        let expected = [
            "NULLIF('time_zone',NULL)",
            "NULLIF(CAST(0|0 AS SIGNED),NULL)",
            "@@global.session_track_state_change",
            "NULLIF('STATE',NULL)",
        ];
        assert_eq!(literals, expected);
    }
}
