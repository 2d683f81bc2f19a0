//! Clients that speak MySQL: what they send, and what they understand of what they are told.
//!
//! A packet that no client could read is a panic: a wrong number, an answer to nothing, a field too many. Knows no
//! relay. Used by scenarios through `World`.
//!
//! What was read becomes the same words as in PostgreSQL's clients: `T` before rows, `D:` a row, `C:` the end of a
//! statement, `E:` an error by its number, `Z:` the end of what answers one command.

use std::collections::VecDeque;

use super::can;
use super::login::{read_greeting, Response};
use super::packets::{put_packet, take_bytes, take_int, take_number, take_text, Packets};
use super::says;
use super::tracker::Change;
use crate::sim::frontend::Reply;

pub use super::prepared::commands::*;

/// What a command is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Login,
    Rows { is_binary: bool },
    Prepared,
    Fetched { number: u32 },
    Line,
    Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Greeting,
    Start,
    /// Descriptions; then their end, if there is one; then more.
    Columns {
        left: u64,
        columns: u64,
        is_prepared: bool,
    },
    ColumnsEnd {
        columns: u64,
        is_prepared: bool,
    },
    Rows {
        columns: u64,
    },
}

/// One client.
#[derive(Debug)]
pub struct Frontend {
    pub response: Response,
    /// By which others stop it.
    pub number: u32,
    /// Numbers of the statements that it has prepared, and how many parameters each has.
    pub statements: Vec<(u32, u16)>,
    /// What it sends as soon as it is logged in.
    pub first_words: Vec<u8>,
    /// Bytes that it sends when it is asked for a file.
    pub file: Vec<u8>,
    packets: Packets,
    sequence: u8,
    place: Place,
    /// Each with the number of the first packet that answers it.
    asked: VecDeque<(Asked, u8)>,
    /// Of the command that is being sent, as far as it has been.
    sent: Packets,
    sent_sequence: u8,
    to_send: Vec<u8>,
    columns: u64,
    /// How many columns each of its statements has.
    described: Vec<(u32, u64)>,
}

/// The bytes of a query.
pub fn query(text: &str) -> Vec<u8> {
    command(0x03, text.as_bytes())
}

pub fn ping() -> Vec<u8> {
    command(0x0e, &[])
}

pub fn init_db(name: &str) -> Vec<u8> {
    command(0x02, name.as_bytes())
}

pub fn reset_connection() -> Vec<u8> {
    command(0x1f, &[])
}

pub fn quit() -> Vec<u8> {
    command(0x01, &[])
}

pub fn statistics() -> Vec<u8> {
    command(0x09, &[])
}

pub fn kill_connection(number: u32) -> Vec<u8> {
    command(0x0c, &number.to_le_bytes())
}

/// Become another user.
pub fn change_user(user: &str, database: &str) -> Vec<u8> {
    let (user, database) = (user.to_owned(), database.to_owned());
    let whole = Response { user, database, collation: 45, capabilities: 0 }.change();
    command(whole[0], &whole[1..])
}

impl Frontend {
    pub fn new(user: &str, database: &str, capabilities: u64) -> Self {
        let (user, database) = (user.to_owned(), database.to_owned());
        Self {
            response: Response { capabilities, collation: 45, user, database },
            number: 0,
            statements: Vec::new(),
            first_words: Vec::new(),
            file: Vec::new(),
            packets: Packets::default(),
            sequence: 0,
            place: Place::Greeting,
            asked: VecDeque::from([(Asked::Login, 0)]),
            sent: Packets::default(),
            sent_sequence: 0,
            to_send: Vec::new(),
            columns: 0,
            described: Vec::new(),
        }
    }

    /// Is half a packet there, or half an answer?
    pub fn is_within(&self) -> bool {
        self.packets.is_within() || !matches!(self.place, Place::Greeting | Place::Start)
    }

    /// Commands that are not answered yet.
    pub fn waits_for(&self) -> usize {
        self.asked.len()
    }

    /// It has sent this: what is it to be answered with?
    pub fn note_sent(&mut self, bytes: &[u8]) {
        self.sent.feed(bytes);
        while let Some(payload) = self.sent.next(&mut self.sent_sequence, "a scenario") {
            let first = std::mem::take(&mut self.sent_sequence);
            let asked = match payload[0] {
                0x01 | 0x18 | 0x19 => continue,
                0x04 => Asked::Fields,
                0x09 => Asked::Line,
                0x11 => Asked::Login,
                0x16 => Asked::Prepared,
                0x17 => Asked::Rows { is_binary: true },
                0x1c => Asked::Fetched { number: take_int(&mut &payload[1..], 4) as u32 },
                _ => Asked::Rows { is_binary: false },
            };
            if payload[0] == 0x11 || payload[0] == 0x1f {
                self.statements.clear();
                self.described.clear();
            }
            if self.asked.is_empty() {
                self.sequence = first;
            }
            self.asked.push_back((asked, first));
        }
    }

    /// Bytes have come; what it says at once is returned.
    pub fn feed(&mut self, bytes: &[u8], replies: &mut Vec<Reply>) -> Vec<u8> {
        self.packets.feed(bytes);
        while let Some(payload) = self.packets.next(&mut self.sequence, "a client") {
            // What stands in the place of the next answer: the connection ends with it.
            let is_farewell = self.asked.is_empty() && payload.first() == Some(&0xff);
            if is_farewell {
                self.asked.push_back((Asked::Login, 1));
            }
            let (asked, _) =
                *self.asked.front().unwrap_or_else(|| panic!("an answer to nothing: {payload:?}"));
            self.read(asked, &payload, replies);
        }
        std::mem::take(&mut self.to_send)
    }

    fn end(&mut self, status: Option<u16>, replies: &mut Vec<Reply>) {
        self.asked.pop_front();
        self.place = Place::Start;
        self.sequence = self.asked.front().map_or(1, |(_, first)| *first);
        replies.push(Reply::Ready(match status {
            Some(status) if status & says::IN_TRANSACTION != 0 => 'T',
            Some(_) => 'I',
            None => '?',
        }));
    }

    fn read(&mut self, asked: Asked, payload: &[u8], replies: &mut Vec<Reply>) {
        let first = payload.first().copied();
        if first == Some(0xff) {
            return self.failed(payload, replies);
        }
        match (self.place, asked) {
            (Place::Greeting, _) => {
                let (number, offered) = read_greeting(payload);
                self.number = number;
                self.response.capabilities &= offered;
                put_packet(&mut self.to_send, &mut self.sequence, &self.response.payload());
                self.place = Place::Start;
            }
            (_, Asked::Login) if first == Some(0xfe) => {
                put_packet(&mut self.to_send, &mut self.sequence, &[]);
            }
            (_, Asked::Login) => {
                assert_eq!(first, Some(0), "the end of a login");
                replies.push(Reply::LoggedIn);
                self.ok(payload, replies);
                let words = std::mem::take(&mut self.first_words);
                self.note_sent(&words);
                self.to_send.extend_from_slice(&words);
            }
            (_, Asked::Line) => {
                replies.push(Reply::Row(String::from_utf8_lossy(payload).into_owned()));
                self.end(Some(0), replies);
            }
            (Place::Start, Asked::Prepared) => {
                let mut rest = &payload[1..];
                assert_eq!((first, payload.len()), (Some(0), 12), "the answer to a preparation");
                let number = take_int(&mut rest, 4) as u32;
                let (columns, parameters) = (take_int(&mut rest, 2), take_int(&mut rest, 2));
                self.statements.push((number, parameters as u16));
                self.described.push((number, columns));
                replies.push(Reply::Prepared(number));
                self.next_place(parameters, columns, true, replies);
            }
            (Place::Start, Asked::Fields) => {
                self.place = Place::Rows { columns: 0 };
                self.read_row(asked, payload, replies);
            }
            (Place::Start, Asked::Fetched { number }) => {
                let described = self.described.iter().find(|(known, _)| *known == number);
                self.place = Place::Rows { columns: described.expect("it was prepared").1 };
                self.read_row(asked, payload, replies);
            }
            (Place::Start, _) => match first {
                Some(0) => self.ok(payload, replies),
                Some(0xfe) if payload.len() < 9 => self.eof(payload, replies),
                Some(0xfb) => {
                    for piece in self.file.chunks(1000).chain([&[][..]]) {
                        put_packet(&mut self.to_send, &mut self.sequence, piece);
                    }
                }
                _ => {
                    let mut rest = payload;
                    let columns = take_number(&mut rest);
                    assert!(rest.is_empty() && columns > 0, "the number of columns: {payload:?}");
                    replies.push(Reply::Other('T'));
                    self.columns = columns;
                    self.place = Place::Columns { left: columns, columns: 0, is_prepared: false };
                }
            },
            (Place::Columns { left, columns, is_prepared }, _) => {
                let mut rest = payload;
                assert_eq!(take_text(&mut rest), "def", "a description of a column");
                if left > 1 {
                    self.place = Place::Columns { left: left - 1, columns, is_prepared };
                } else if self.response.capabilities & can::DEPRECATE_EOF == 0 {
                    self.place = Place::ColumnsEnd { columns, is_prepared };
                } else {
                    self.behind_columns(columns, is_prepared, replies);
                }
            }
            (Place::ColumnsEnd { columns, is_prepared }, _) => {
                assert!(first == Some(0xfe) && payload.len() == 5, "the end of descriptions: {payload:?}");
                let status = u16::from_le_bytes([payload[3], payload[4]]);
                if status & says::CURSOR_EXISTS != 0 {
                    replies.push(Reply::Done("cursor".into()));
                    return self.end(Some(status), replies);
                }
                self.behind_columns(columns, is_prepared, replies);
            }
            (Place::Rows { .. }, _) => self.read_row(asked, payload, replies),
        }
    }

    fn next_place(&mut self, parameters: u64, columns: u64, is_prepared: bool, replies: &mut Vec<Reply>) {
        let (left, columns) = if parameters > 0 { (parameters, columns) } else { (columns, 0) };
        if left == 0 {
            return self.end(Some(0), replies);
        }
        self.place = Place::Columns { left, columns, is_prepared };
    }

    fn behind_columns(&mut self, columns: u64, is_prepared: bool, replies: &mut Vec<Reply>) {
        if is_prepared {
            self.next_place(0, columns, true, replies);
        } else {
            self.place = Place::Rows { columns: self.columns };
        }
    }

    fn read_row(&mut self, asked: Asked, payload: &[u8], replies: &mut Vec<Reply>) {
        let Place::Rows { columns } = self.place else { unreachable!() };
        let is_modern = self.response.capabilities & can::DEPRECATE_EOF != 0;
        if payload[0] == 0xfe && (payload.len() < 9 || is_modern && payload.len() < 0xff_ffff) {
            return self.eof(payload, replies);
        }
        if asked == Asked::Fields {
            return replies.push(Reply::Other('t'));
        }
        let mut rest = payload;
        let mut values = Vec::new();
        if matches!(asked, Asked::Rows { is_binary: true } | Asked::Fetched { .. }) {
            assert_eq!(take_int(&mut rest, 1), 0, "a binary row");
            let nulls = take_bytes(&mut rest, (columns as usize + 9) / 8);
            for at in 2..columns as usize + 2 {
                let is_null = nulls[at / 8] & 1 << (at % 8) != 0;
                values.push(if is_null { "NULL".into() } else { take_text(&mut rest) });
            }
        } else {
            for _ in 0..columns {
                if rest[0] == 0xfb {
                    take_bytes(&mut rest, 1);
                    values.push("NULL".into());
                } else {
                    values.push(take_text(&mut rest));
                }
            }
        }
        assert!(rest.is_empty(), "a row of more columns than were described");
        replies.push(Reply::Row(values.join(",")));
    }

    /// The end of rows.
    fn eof(&mut self, payload: &[u8], replies: &mut Vec<Reply>) {
        if self.response.capabilities & can::DEPRECATE_EOF != 0 && payload.len() >= 7 {
            return self.ok(payload, replies);
        }
        assert_eq!(payload.len(), 5, "an EOF packet: {payload:?}");
        let status = u16::from_le_bytes([payload[3], payload[4]]);
        self.finished("rows".into(), status, replies);
    }

    fn finished(&mut self, tag: String, status: u16, replies: &mut Vec<Reply>) {
        let tag = match status {
            _ if status & says::LAST_ROW_SENT != 0 => "last".into(),
            _ if status & says::CURSOR_EXISTS != 0 => "cursor".into(),
            _ => tag,
        };
        replies.push(Reply::Done(tag));
        if status & says::MORE_RESULTS != 0 {
            self.place = Place::Start;
        } else {
            self.end(Some(status), replies);
        }
    }

    fn ok(&mut self, payload: &[u8], replies: &mut Vec<Reply>) {
        let mut rest = payload;
        let is_rows = take_int(&mut rest, 1) == 0xfe;
        let (affected, insert_id) = (take_number(&mut rest), take_number(&mut rest));
        let status = take_int(&mut rest, 2) as u16;
        take_bytes(&mut rest, 2);
        let is_tracking = self.response.capabilities & can::SESSION_TRACK != 0;
        if !rest.is_empty() {
            take_text(&mut rest);
        }
        if status & says::SESSION_STATE_CHANGED != 0 {
            assert!(is_tracking, "a client hears of its session's state that cannot");
            let length = take_number(&mut rest) as usize;
            let mut changes = take_bytes(&mut rest, length);
            while !changes.is_empty() {
                match Change::read(&mut changes) {
                    // MySQL says it behind every statement.
                    Change::Variable(name, _) if name == "statement_id" => {}
                    Change::Variable(name, value) => replies.push(Reply::Setting(name, value)),
                    Change::Schema(name) => replies.push(Reply::Setting("schema".into(), name)),
                    _ => {}
                }
            }
        }
        assert!(rest.is_empty(), "an OK packet with more to it: {payload:?}");
        let tag = match (is_rows, affected, insert_id) {
            (true, ..) => "rows".to_owned(),
            (false, 0, 0) => "ok".to_owned(),
            (false, affected, 0) => format!("ok {affected}"),
            (false, affected, insert_id) => format!("ok {affected} id {insert_id}"),
        };
        self.finished(tag, status, replies);
    }

    fn failed(&mut self, payload: &[u8], replies: &mut Vec<Reply>) {
        let mut rest = &payload[1..];
        let number = take_int(&mut rest, 2);
        let mut detail = String::new();
        if rest.first() == Some(&b'#') {
            detail = String::from_utf8_lossy(&take_bytes(&mut rest, 6)[1..]).into_owned();
        }
        let message = String::from_utf8_lossy(rest).into_owned();
        let (fatal, code) = (matches!(self.asked.front(), Some((Asked::Login, _))), number.to_string());
        replies.push(Reply::Error { fatal, code, message, detail, hint: String::new() });
        self.end(None, replies);
    }
}
