//! Statements that the protocol prepares, in the scripted database.
//!
//! Knows numbers, values and cursors; what a statement means is in `statements`. Called by `session`.
//!
//! Spec: "Prepared Statements" and its commands.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::answers::{Failure, Row};
use super::packets::{put_packet, take_bytes, take_int, take_number};
use super::says;
use super::session::{Form, Session};

#[derive(Debug)]
pub(super) struct Statement {
    text: String,
    parameters: usize,
    /// As the client told them last.
    has_types: bool,
    appended: BTreeMap<u16, Vec<u8>>,
    cursor: Option<VecDeque<Row>>,
}

/// All of a session.
#[derive(Debug)]
pub(super) struct Statements {
    newest: u32,
    all: HashMap<u32, Statement>,
}

impl Statements {
    /// Numbers of different sessions differ, so that one that was not exchanged is told apart.
    pub fn new(session: usize) -> Self {
        Self { newest: session as u32 * 1000, all: HashMap::new() }
    }

    pub fn forget(&mut self) {
        self.all.clear();
    }

    pub fn open_cursor(&mut self, number: u32, rows: VecDeque<Row>) {
        self.all.get_mut(&number).expect("it runs").cursor = Some(rows);
    }
}

fn unknown(number: u32, by: &str) -> Failure {
    let text = format!("Unknown prepared statement handler ({number}) given to {by}");
    Failure::new(1243, b"HY000", &text)
}

impl Session {
    /// Texts of the statements that are prepared.
    pub fn prepared_texts(&self) -> Vec<&str> {
        self.statements.all.values().map(|statement| statement.text.as_str()).collect()
    }

    /// Does a statement of its keep a cursor, or values that were appended?
    pub fn has_kept_values(&self) -> bool {
        self.statements
            .all
            .values()
            .any(|statement| statement.cursor.is_some() || !statement.appended.is_empty())
    }

    pub(super) fn prepare(&mut self, text: &str) {
        let is_full = self.most_statements.is_some_and(|most| self.statements.all.len() >= most);
        if self.refuses_to_prepare || is_full {
            return self.fail(&Failure::new(1461, b"42000", "Can't create more statements"));
        }
        if text.contains("bad") {
            return self.fail(&Failure::new(1064, b"42000", "You have an error in your SQL syntax"));
        }
        self.statements.newest += 1;
        let number = self.statements.newest;
        let text = text.replace("whichdb", &format!("whichdb_{}", self.left.schema));
        let parameters = text.matches('?').count();
        let names = self.names_of(&text);
        let mut payload = vec![0];
        payload.extend_from_slice(&number.to_le_bytes());
        payload.extend_from_slice(&(names.len() as u16).to_le_bytes());
        payload.extend_from_slice(&(parameters as u16).to_le_bytes());
        payload.extend_from_slice(&[0, 0, 0]);
        self.packet(&payload);
        self.columns(&vec!["?".to_owned(); parameters]);
        self.columns(&names);
        let statement =
            Statement { text, parameters, has_types: false, appended: BTreeMap::new(), cursor: None };
        self.statements.all.insert(number, statement);
    }

    pub(super) fn execute(&mut self, now: u64, body: &[u8]) {
        let mut rest = body;
        let number = take_int(&mut rest, 4) as u32;
        let flags = take_int(&mut rest, 1);
        take_bytes(&mut rest, 4);
        let Some(statement) = self.statements.all.get_mut(&number) else {
            return self.fail(&unknown(number, "mysqld_stmt_execute"));
        };
        statement.cursor = None;
        let mut values = Vec::new();
        if statement.parameters > 0 {
            let nulls = take_bytes(&mut rest, statement.parameters.div_ceil(8)).to_vec();
            if take_int(&mut rest, 1) == 1 {
                statement.has_types = true;
                for _ in 0..statement.parameters {
                    assert_eq!(take_int(&mut rest, 2), 253, "the only type here");
                }
            }
            if !statement.has_types {
                return self.fail(&Failure::new(
                    1210,
                    b"HY000",
                    "Incorrect arguments to mysqld_stmt_execute",
                ));
            }
            for at in 0..statement.parameters {
                let appended = statement.appended.remove(&(at as u16));
                let value = match appended {
                    Some(appended) => appended,
                    None if nulls[at / 8] & 1 << (at % 8) != 0 => {
                        values.push(None);
                        continue;
                    }
                    None => {
                        let length = take_number(&mut rest) as usize;
                        take_bytes(&mut rest, length).to_vec()
                    }
                };
                values.push(Some(String::from_utf8_lossy(&value).into_owned()));
            }
        }
        statement.appended.clear();
        let mut text = String::new();
        let mut values = values.into_iter();
        for c in statement.text.chars() {
            match c {
                '?' => match values.next().expect("a value for each") {
                    Some(value) => text.push_str(&format!("'{value}'")),
                    None => text.push_str("NULL"),
                },
                c => text.push(c),
            }
        }
        self.form = Form { is_binary: true, cursor: (flags & 1 != 0).then_some(number) };
        self.queue = VecDeque::from([text]);
        self.run(now);
    }

    pub(super) fn append(&mut self, body: &[u8]) {
        let mut rest = body;
        let number = take_int(&mut rest, 4) as u32;
        let parameter = take_int(&mut rest, 2) as u16;
        if let Some(statement) = self.statements.all.get_mut(&number) {
            statement.appended.entry(parameter).or_default().extend_from_slice(rest);
        }
    }

    pub(super) fn close(&mut self, mut body: &[u8]) {
        let number = take_int(&mut body, 4) as u32;
        let was = self.statements.all.remove(&number);
        assert!(was.is_some(), "the relay closed a statement that is not there: {number}");
    }

    pub(super) fn rewind(&mut self, mut body: &[u8]) {
        let number = take_int(&mut body, 4) as u32;
        match self.statements.all.get_mut(&number) {
            Some(statement) => {
                statement.cursor = None;
                statement.appended.clear();
                self.done(0, 0, "");
            }
            None => self.fail(&unknown(number, "mysqld_stmt_reset")),
        }
    }

    pub(super) fn fetch(&mut self, mut body: &[u8]) {
        let number = take_int(&mut body, 4) as u32;
        let count = take_int(&mut body, 4) as usize;
        let Some(statement) = self.statements.all.get_mut(&number) else {
            return self.fail(&unknown(number, "mysqld_stmt_fetch"));
        };
        let Some(mut rows) = statement.cursor.take() else {
            let text = format!("The statement ({number}) has no open cursor.");
            return self.fail(&Failure::new(1421, b"HY000", &text));
        };
        let now: Vec<Row> = rows.drain(..count.min(rows.len())).collect();
        let is_last = rows.is_empty() && now.len() < count;
        if !is_last {
            statement.cursor = Some(rows);
        }
        now.iter().for_each(|row| self.row(row, true));
        self.rows_end(if is_last { says::LAST_ROW_SENT } else { says::CURSOR_EXISTS });
    }
}

/// Commands of clients.
pub mod commands {
    use super::*;
    use crate::sim::mysql::packets::put_text;

    pub fn command(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_packet(&mut out, &mut 0, &[&[kind][..], body].concat());
        out
    }

    pub fn prepare(text: &str) -> Vec<u8> {
        command(0x16, text.as_bytes())
    }

    /// Run with `values`, told to be text (or not told what they are); None is NULL.
    pub fn run_as(number: u32, values: &[Option<&str>], opens_cursor: bool, has_types: bool) -> Vec<u8> {
        let mut body = number.to_le_bytes().to_vec();
        body.push(u8::from(opens_cursor));
        body.extend_from_slice(&1u32.to_le_bytes());
        if !values.is_empty() {
            let mut nulls = vec![0u8; values.len().div_ceil(8)];
            for (at, _) in values.iter().enumerate().filter(|(_, value)| value.is_none()) {
                nulls[at / 8] |= 1 << (at % 8);
            }
            body.extend_from_slice(&nulls);
            body.push(u8::from(has_types));
            if has_types {
                body.extend(std::iter::repeat_n([253, 0], values.len()).flatten());
            }
            values.iter().flatten().for_each(|value| put_text(&mut body, value.as_bytes()));
        }
        command(0x17, &body)
    }

    pub fn run(number: u32, values: &[&str]) -> Vec<u8> {
        let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
        run_as(number, &values, false, true)
    }

    /// Run with one value, which was appended before.
    pub fn run_appended(number: u32) -> Vec<u8> {
        let body = [&number.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0, 1, 253, 0]].concat();
        command(0x17, &body)
    }

    pub fn append(number: u32, parameter: u16, bytes: &[u8]) -> Vec<u8> {
        command(0x18, &[&number.to_le_bytes()[..], &parameter.to_le_bytes(), bytes].concat())
    }

    pub fn close(number: u32) -> Vec<u8> {
        command(0x19, &number.to_le_bytes())
    }

    pub fn rewind(number: u32) -> Vec<u8> {
        command(0x1a, &number.to_le_bytes())
    }

    pub fn fetch(number: u32, rows: u32) -> Vec<u8> {
        command(0x1c, &[number.to_le_bytes(), rows.to_le_bytes()].concat())
    }
}
