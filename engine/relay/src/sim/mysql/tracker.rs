//! What the scripted database tells of changes in a session, and the ends of statements that carry it.
//!
//! Decides nothing. Called by `answers`.
//!
//! Spec: "OK_Packet", session state information.

use super::packets::{put_number, put_text};
use super::says;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Variable(String, String),
    Schema(String),
    /// Of user variables, temporary tables or prepared statements.
    Unnamed,
    /// What the next transaction will be like; empty: nothing special.
    Characteristics(String),
    /// Eight letters, of which the last says that tables are locked.
    Transaction(String),
}

/// An OK packet, or the one that stands in its place behind rows.
pub struct Ok<'a> {
    pub first: u8,
    pub affected: u64,
    pub insert_id: u64,
    pub status: u16,
    pub warnings: u16,
    pub info: &'a str,
    pub changes: &'a [Change],
}

impl Ok<'_> {
    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![self.first];
        put_number(&mut out, self.affected);
        put_number(&mut out, self.insert_id);
        let changed = if self.changes.is_empty() { 0 } else { says::SESSION_STATE_CHANGED };
        out.extend_from_slice(&(self.status | changed).to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if changed != 0 || !self.info.is_empty() {
            put_text(&mut out, self.info.as_bytes());
        }
        if changed != 0 {
            let mut all = Vec::new();
            self.changes.iter().for_each(|change| change.write(&mut all));
            put_text(&mut out, &all);
        }
        out
    }
}

impl Change {
    fn write(&self, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        let kind = match self {
            Change::Variable(name, value) => {
                put_text(&mut data, name.as_bytes());
                put_text(&mut data, value.as_bytes());
                0
            }
            Change::Schema(name) => {
                put_text(&mut data, name.as_bytes());
                1
            }
            Change::Unnamed => {
                put_text(&mut data, b"1");
                2
            }
            Change::Characteristics(text) => {
                put_text(&mut data, text.as_bytes());
                4
            }
            Change::Transaction(letters) => {
                put_text(&mut data, letters.as_bytes());
                5
            }
        };
        put_number(out, kind);
        put_text(out, &data);
    }

    /// What a client reads.
    pub fn read(rest: &mut &[u8]) -> Change {
        use super::packets::{take_bytes, take_int, take_number, take_text};
        let kind = take_int(rest, 1);
        let length = take_number(rest) as usize;
        let mut data = take_bytes(rest, length);
        let first = take_text(&mut data);
        let change = match kind {
            0 => Change::Variable(first, take_text(&mut data)),
            1 => Change::Schema(first),
            2 => Change::Unnamed,
            4 => Change::Characteristics(first),
            5 => Change::Transaction(first),
            _ => panic!("a change of kind {kind}"),
        };
        assert!(data.is_empty(), "a change with more to it");
        change
    }
}
