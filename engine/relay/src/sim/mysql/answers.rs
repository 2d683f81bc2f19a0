//! What the scripted database answers: done, failed, rows in both forms.
//!
//! Only bytes; what is said is decided elsewhere. Called by `session`, `statements` and `prepared`.
//!
//! Spec: "OK_Packet", "ERR_Packet", "Text Resultset", "Binary Protocol Resultset".

use std::collections::VecDeque;

use super::packets::{put_number, put_text};
use super::session::{Form, Session};
use super::tracker::Change;
use super::{can, says};

/// One row; None is NULL.
pub type Row = Vec<Option<String>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub number: u16,
    pub state: [u8; 5],
    pub text: String,
}

impl Failure {
    pub fn new(number: u16, state: &[u8; 5], text: &str) -> Self {
        Self { number, state: *state, text: text.to_owned() }
    }

    pub fn interrupted() -> Self {
        Self::new(1317, b"70100", "Query execution was interrupted")
    }
}

/// What becomes of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done {
        affected: u64,
        insert_id: u64,
        info: String,
    },
    Rows {
        names: Vec<String>,
        rows: VecDeque<Row>,
    },
    Failed(Failure),
    /// As the one, but later.
    Sleep {
        us: u64,
        then: Box<Outcome>,
    },
    /// It is never answered.
    Silent,
    /// The client is asked for this file.
    File(String),
    /// Some rows, and then half of one of this size; the connection ends.
    Cut(usize),
    /// The connection ends without an answer.
    Gone,
    /// Rows, and then an error in the place of their end.
    Broken {
        names: Vec<String>,
        rows: VecDeque<Row>,
    },
}

impl Outcome {
    pub fn done() -> Self {
        Outcome::Done { affected: 0, insert_id: 0, info: String::new() }
    }

    pub fn failed(number: u16, state: &[u8; 5], text: &str) -> Self {
        Outcome::Failed(Failure::new(number, state, text))
    }

    pub fn one_row(names: &[String], row: Row) -> Self {
        Outcome::Rows { names: names.to_vec(), rows: VecDeque::from([row]) }
    }
}

impl Session {
    pub(super) fn is_in_transaction(&self) -> bool {
        self.left.is_in_transaction
    }

    fn status(&self) -> u16 {
        let autocommit = if self.variables.is_autocommit() { says::AUTOCOMMIT } else { 0 };
        let open = if self.is_in_transaction() { says::IN_TRANSACTION } else { 0 };
        let more = if self.queue.is_empty() { 0 } else { says::MORE_RESULTS };
        autocommit | open | more
    }

    fn end_with(&mut self, first: u8, affected: u64, insert_id: u64, info: &str, more: u16) {
        let mut changes = std::mem::take(&mut self.changes);
        if self.capabilities & can::SESSION_TRACK == 0 {
            changes.clear();
        } else if !self.is_mariadb && self.variables.is_tracking() {
            let number = self.ran.len().to_string();
            changes.push(Change::Variable("statement_id".into(), number));
        }
        let ok = super::tracker::Ok {
            first,
            affected,
            insert_id,
            status: self.status() | more,
            warnings: if first == 0xfe { std::mem::take(&mut self.left.warnings) } else { 0 },
            info,
            changes: &changes,
        };
        let payload = ok.payload();
        self.packet(&payload);
    }

    pub(super) fn done(&mut self, affected: u64, insert_id: u64, info: &str) {
        self.end_with(0, affected, insert_id, info, 0);
    }

    /// The end of descriptions or rows.
    pub(super) fn rows_end(&mut self, more: u16) {
        if self.capabilities & can::DEPRECATE_EOF != 0 {
            self.end_with(0xfe, 0, 0, "", more);
        } else {
            let [low, high] = (self.status() | more).to_le_bytes();
            self.packet(&[0xfe, 0, 0, low, high]);
        }
    }

    pub(super) fn fail(&mut self, failure: &Failure) {
        let mut payload = vec![0xff];
        payload.extend_from_slice(&failure.number.to_le_bytes());
        // Spec: before the login there is no state.
        if self.capabilities & can::PROTOCOL_41 != 0 {
            payload.push(b'#');
            payload.extend_from_slice(&failure.state);
        }
        payload.extend_from_slice(failure.text.as_bytes());
        self.packet(&payload);
    }

    pub(super) fn column(&mut self, name: &str) {
        let mut payload = Vec::new();
        for text in ["def", "", "", "", name, ""] {
            put_text(&mut payload, text.as_bytes());
        }
        payload.extend_from_slice(&[12, 45, 0, 255, 255, 0, 0, 253, 0, 0, 0, 0, 0]);
        self.packet(&payload);
    }

    /// Descriptions of columns, and their end where the client wants it.
    pub(super) fn columns(&mut self, names: &[String]) {
        names.iter().for_each(|name| self.column(name));
        if !names.is_empty() && self.capabilities & can::DEPRECATE_EOF == 0 {
            let [low, high] = self.status().to_le_bytes();
            self.packet(&[0xfe, 0, 0, low, high]);
        }
    }

    fn count(&mut self, names: &[String]) {
        let mut payload = Vec::new();
        put_number(&mut payload, names.len() as u64);
        self.packet(&payload);
    }

    pub(super) fn row(&mut self, row: &Row, is_binary: bool) {
        let mut payload = Vec::new();
        if is_binary {
            payload.push(0);
            let mut nulls = vec![0u8; (row.len() + 9) / 8];
            for (at, _) in row.iter().enumerate().filter(|(_, value)| value.is_none()) {
                nulls[(at + 2) / 8] |= 1 << ((at + 2) % 8);
            }
            payload.extend_from_slice(&nulls);
            row.iter().flatten().for_each(|value| put_text(&mut payload, value.as_bytes()));
        } else {
            for value in row {
                match value {
                    Some(value) => put_text(&mut payload, value.as_bytes()),
                    None => payload.push(0xfb),
                }
            }
        }
        self.packet(&payload);
    }

    /// Say what became of the statement at the front of the queue, which is over with that.
    pub(super) fn answer(&mut self, outcome: Outcome) {
        self.queue.pop_front();
        let form = self.form;
        match outcome {
            Outcome::Done { affected, insert_id, info } => {
                self.left.found(None, affected, insert_id);
                self.done(affected, insert_id, &info);
            }
            Outcome::Failed(failure) => {
                self.queue.clear();
                self.left.found(None, 0, 0);
                self.fail(&failure);
            }
            Outcome::Rows { names, rows } => self.result(&names, rows, form),
            Outcome::Broken { names, rows } => {
                self.queue.clear();
                self.head(&names, &rows, form);
                self.fail(&Failure::new(1028, b"HY000", "Sort aborted"));
            }
            Outcome::Cut(size) => {
                let names = ["c".to_owned()];
                let row = VecDeque::from([vec![Some("whole".to_owned())]]);
                self.head(&names, &row, form);
                let before = self.out.len();
                self.row(&vec![Some("h".repeat(size))], form.is_binary);
                self.out.truncate(before + size / 2);
                self.end();
            }
            Outcome::Gone => self.end(),
            Outcome::Sleep { .. } | Outcome::Silent | Outcome::File(_) => unreachable!("not over yet"),
        }
    }

    fn head(&mut self, names: &[String], rows: &VecDeque<Row>, form: Form) {
        self.count(names);
        self.columns(names);
        rows.iter().for_each(|row| self.row(row, form.is_binary));
    }

    fn result(&mut self, names: &[String], rows: VecDeque<Row>, form: Form) {
        self.left.found(Some(rows.len() as u64), 0, 0);
        let Some(cursor) = form.cursor else {
            self.head(names, &rows, form);
            return self.rows_end(0);
        };
        self.count(names);
        names.iter().for_each(|name| self.column(name));
        self.statements.open_cursor(cursor, rows);
        // Spec: where EOF is deprecated, the one packet behind the descriptions is this.
        self.rows_end(says::CURSOR_EXISTS);
    }
}
