//! A stand-in for PostgreSQL that answers at next to no cost: for measuring a proxy where the database
//! would be the limit. It logs in anybody, keeps no data and understands only the shape of statements:
//! what begins with SELECT gets rows, everything else a bare completion.
//!
//! ```text
//! cargo run --release -p maitred-reactor --example stub_postgres -- --port 5433 --threads 1
//! ```
//!
//! Never part of the product. Started by `bench/` and by hand.

mod stub;

use std::collections::HashMap;

use stub::{Settings, PIECE_BYTES};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stub::serve::<Client>("stub_postgres", 5433)
}

/// What a SELECT gets, encoded once.
struct Answers {
    columns: Vec<u8>,
    binary_columns: Vec<u8>,
    row: Vec<u8>,
    binary_row: Vec<u8>,
    rows: u64,
    done: Vec<u8>,
}

/// Part of what a client still has to get.
enum Owed {
    Bytes(Vec<u8>),
    Rows { left: u64, binary: bool },
}

#[derive(Clone, Copy)]
struct Statement {
    selects: bool,
    parameters: u16,
    tag: &'static str,
}

#[derive(Default)]
struct Client {
    input: Vec<u8>,
    started: bool,
    in_transaction: bool,
    /// After an error, until Sync.
    skipping: bool,
    statements: HashMap<Vec<u8>, Statement>,
    portals: HashMap<Vec<u8>, (Statement, bool)>,
    owed: std::collections::VecDeque<Owed>,
    leaving: bool,
}

fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
}

fn row(value: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value);
    let mut out = Vec::new();
    message(&mut out, b'D', &body);
    out
}

impl Answers {
    fn new(settings: &Settings) -> Self {
        let is_number = settings.bytes <= 9;
        let (kind, size): (u32, i16) = if is_number { (23, 4) } else { (25, -1) };
        let mut body = vec![0, 1];
        body.extend(b"abalance\0");
        body.extend([0; 6]);
        body.extend(kind.to_be_bytes());
        body.extend(size.to_be_bytes());
        body.extend((-1i32).to_be_bytes());
        let mut columns = Vec::new();
        message(&mut columns, b'T', &[&body[..], &[0, 0]].concat());
        let mut binary_columns = Vec::new();
        message(&mut binary_columns, b'T', &[&body[..], &[0, 1]].concat());
        let text = vec![b'1'; settings.bytes];
        let number = (0..settings.bytes.min(9)).fold(0u32, |number, _| number * 10 + 1);
        let mut done = Vec::new();
        message(&mut done, b'C', format!("SELECT {}\0", settings.rows).as_bytes());
        Self {
            columns,
            binary_columns,
            row: row(&text),
            binary_row: if is_number { row(&number.to_be_bytes()) } else { row(&text) },
            rows: settings.rows,
            done,
        }
    }
}

impl Client {
    fn out(&mut self) -> &mut Vec<u8> {
        if !matches!(self.owed.back(), Some(Owed::Bytes(_))) {
            self.owed.push_back(Owed::Bytes(Vec::new()));
        }
        match self.owed.back_mut() {
            Some(Owed::Bytes(bytes)) => bytes,
            _ => unreachable!("just pushed"),
        }
    }

    fn rows(&mut self, answers: &Answers, binary: bool) {
        if answers.rows <= 16 {
            let row = if binary { &answers.binary_row } else { &answers.row };
            for _ in 0..answers.rows {
                self.out().extend(row);
            }
        } else {
            self.owed.push_back(Owed::Rows { left: answers.rows, binary });
        }
        self.out().extend(&answers.done);
    }

    fn run(&mut self, statement: Statement, binary: bool, answers: &Answers) {
        if statement.selects {
            return self.rows(answers, binary);
        }
        match statement.tag {
            "BEGIN\0" => self.in_transaction = true,
            "COMMIT\0" | "ROLLBACK\0" => self.in_transaction = false,
            _ => {}
        }
        if statement.tag.is_empty() {
            message(self.out(), b'I', &[]);
        } else {
            message(self.out(), b'C', statement.tag.as_bytes());
        }
    }

    fn ready(&mut self) {
        let state = if self.in_transaction { b'T' } else { b'I' };
        message(self.out(), b'Z', &[state]);
    }

    fn fail(&mut self, code: &str, text: &str) {
        let body = format!("SERROR\0VERROR\0C{code}\0M{text}\0\0");
        message(self.out(), b'E', body.as_bytes());
        self.skipping = true;
    }

    fn messages_of(&mut self, bytes: &[u8], answers: &Answers) -> usize {
        let mut at = 0;
        while !self.leaving {
            let head = usize::from(self.started);
            let Some(length) = bytes[at..].get(head..head + 4) else { break };
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(whole) = bytes[at..].get(..head + length) else { break };
            if length < 4 {
                self.leaving = true;
                break;
            }
            at += whole.len();
            let body = &whole[head + 4..];
            if self.started {
                self.message(whole[0], body, answers);
            } else {
                self.startup(body);
            }
        }
        at
    }

    fn startup(&mut self, body: &[u8]) {
        match body.get(..4).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes"))) {
            Some(80_877_103 | 80_877_104) => self.out().push(b'N'),
            Some(version) if version >> 16 == 3 => {
                self.started = true;
                let out = self.out();
                message(out, b'R', &[0; 4]);
                for (name, value) in [
                    ("server_version", "18.0"),
                    ("server_encoding", "UTF8"),
                    ("client_encoding", "UTF8"),
                    ("DateStyle", "ISO, MDY"),
                    ("TimeZone", "UTC"),
                    ("integer_datetimes", "on"),
                    ("standard_conforming_strings", "on"),
                ] {
                    message(out, b'S', format!("{name}\0{value}\0").as_bytes());
                }
                message(out, b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
                self.ready();
            }
            _ => self.leaving = true,
        }
    }

    fn message(&mut self, tag: u8, body: &[u8], answers: &Answers) {
        match tag {
            b'Q' => {
                self.query(text(body).0, answers);
                self.ready();
            }
            b'S' => {
                self.skipping = false;
                if !self.in_transaction {
                    self.portals.clear();
                }
                self.ready();
            }
            b'X' => self.leaving = true,
            _ if self.skipping => {}
            b'P' => {
                let (name, rest) = text(body);
                let statement = statement_of(text(rest).0);
                self.statements.insert(name.to_vec(), statement);
                message(self.out(), b'1', &[]);
            }
            b'B' => self.bind(body),
            b'D' => self.describe(body, answers),
            b'E' => match self.portals.get(text(body).0).copied() {
                Some((statement, binary)) => self.run(statement, binary, answers),
                None => self.fail("34000", "no such portal"),
            },
            b'C' => {
                let name = text(body.get(1..).unwrap_or_default()).0;
                match body.first() {
                    Some(b'S') => drop(self.statements.remove(name)),
                    _ => drop(self.portals.remove(name)),
                }
                message(self.out(), b'3', &[]);
            }
            b'H' => {}
            _ => self.leaving = true,
        }
    }

    fn query(&mut self, query: &[u8], answers: &Answers) {
        let mut is_empty = true;
        for part in query.split(|&byte| byte == b';') {
            if part.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            is_empty = false;
            let statement = statement_of(part);
            if statement.selects {
                self.out().extend(&answers.columns);
            }
            self.run(statement, false, answers);
        }
        if is_empty {
            message(self.out(), b'I', &[]);
        }
    }

    fn bind(&mut self, body: &[u8]) {
        let (portal, rest) = text(body);
        let (name, rest) = text(rest);
        let Some(&statement) = self.statements.get(name) else {
            return self.fail("26000", "no such prepared statement");
        };
        let binary = result_format(rest) == Some(1);
        self.portals.insert(portal.to_vec(), (statement, binary));
        message(self.out(), b'2', &[]);
    }

    fn describe(&mut self, body: &[u8], answers: &Answers) {
        let name = text(body.get(1..).unwrap_or_default()).0;
        let found = match body.first() {
            Some(b'S') => self.statements.get(name).map(|&statement| (statement, false)),
            _ => self.portals.get(name).copied(),
        };
        let Some((statement, binary)) = found else {
            return self.fail("26000", "no such statement or portal");
        };
        if body.first() == Some(&b'S') {
            let mut kinds = statement.parameters.to_be_bytes().to_vec();
            kinds.extend((0..statement.parameters).flat_map(|_| 23u32.to_be_bytes()));
            message(self.out(), b't', &kinds);
        }
        if statement.selects {
            let columns = if binary { &answers.binary_columns } else { &answers.columns };
            self.out().extend(columns);
        } else {
            message(self.out(), b'n', &[]);
        }
    }
}

impl stub::Client for Client {
    type Answers = Answers;

    fn answers(settings: &Settings) -> Answers {
        Answers::new(settings)
    }

    fn new() -> Self {
        Self::default()
    }

    fn take(&mut self, bytes: &[u8], answers: &Answers) -> bool {
        if self.input.is_empty() {
            let used = self.messages_of(bytes, answers);
            self.input.extend(&bytes[used..]);
        } else {
            self.input.extend(bytes);
            let input = std::mem::take(&mut self.input);
            let used = self.messages_of(&input, answers);
            self.input = input;
            self.input.drain(..used);
        }
        !self.leaving
    }

    fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    fn next_piece(&mut self, answers: &Answers, buffer: &mut Vec<u8>) {
        while buffer.len() < PIECE_BYTES {
            match self.owed.front_mut() {
                None => return,
                Some(Owed::Bytes(bytes)) => {
                    buffer.append(bytes);
                    self.owed.pop_front();
                }
                Some(Owed::Rows { left, binary }) => {
                    let row = if *binary { &answers.binary_row } else { &answers.row };
                    while *left > 0 && buffer.len() < PIECE_BYTES {
                        buffer.extend(row);
                        *left -= 1;
                    }
                    if *left == 0 {
                        self.owed.pop_front();
                    }
                }
            }
        }
    }
}

/// A text up to its zero, and what follows.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// The format asked for the results, from what follows the names in a Bind.
fn result_format(bytes: &[u8]) -> Option<u16> {
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let mut at = 2 + 2 * usize::from(number(0)?);
    let values = number(at)?;
    at += 2;
    for _ in 0..values {
        let length = i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    if number(at)? == 0 {
        return None;
    }
    number(at + 2)
}

fn statement_of(query: &[u8]) -> Statement {
    let query = query.trim_ascii();
    let word: Vec<u8> =
        query.iter().take_while(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_uppercase).collect();
    let tag = match word.as_slice() {
        b"" => "",
        b"BEGIN" | b"START" => "BEGIN\0",
        b"COMMIT" | b"END" => "COMMIT\0",
        b"ROLLBACK" | b"ABORT" => "ROLLBACK\0",
        b"INSERT" => "INSERT 0 1\0",
        b"UPDATE" => "UPDATE 1\0",
        b"DELETE" => "DELETE 1\0",
        b"DISCARD" => "DISCARD ALL\0",
        b"RESET" => "RESET\0",
        b"DEALLOCATE" => "DEALLOCATE\0",
        _ => "SET\0",
    };
    let mut parameters = 0;
    for (at, _) in query.iter().enumerate().filter(|(_, &byte)| byte == b'$') {
        let digits = query[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).take(4);
        let number = digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        parameters = parameters.max(number);
    }
    Statement { selects: matches!(word.as_slice(), b"SELECT" | b"SHOW" | b"VALUES"), parameters, tag }
}
