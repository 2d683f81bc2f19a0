//! A stand-in for MySQL that answers at next to no cost: for measuring a proxy where the database would be
//! the limit. It logs in anybody with any password, keeps no data and understands only the shape of
//! statements: what begins with SELECT gets rows, SHOW VARIABLES the variables it names, SET is reported as
//! session tracking would, everything else gets a bare OK.
//!
//! ```text
//! cargo run --release -p maitred-reactor --example stub_mysql -- --port 3307 --threads 1
//! ```
//!
//! Never part of the product. Started by `bench/` and by hand.

mod stub;

use std::collections::{HashMap, VecDeque};

use stub::{Settings, PIECE_BYTES};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stub::serve::<Client>("stub_mysql", 3307)
}

/// Spec: MySQL, "Capabilities Flags".
mod capability {
    pub const SESSION_TRACK: u32 = 1 << 23;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    /// LONG_PASSWORD, FOUND_ROWS, LONG_FLAG, CONNECT_WITH_DB, LOCAL_FILES, PROTOCOL_41, INTERACTIVE,
    /// TRANSACTIONS, SECURE_CONNECTION, multiple statements and results, plug-ins, attributes.
    pub const OFFERED: u32 = 0x003f_a68f | SESSION_TRACK | DEPRECATE_EOF;
}

mod status {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 2;
    pub const STATE_CHANGED: u16 = 0x4000;
}

/// Spec: MySQL, "Command Phase".
mod command {
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const RESET_CONNECTION: u8 = 0x1f;
}

const VAR_STRING: u8 = 0xfd;
const UTF8MB4: u8 = 45;

/// What variables are at a login, where that matters to who asks.
const VARIABLES: [(&str, &str); 14] = [
    ("autocommit", "ON"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("interactive_timeout", "28800"),
    ("net_write_timeout", "60"),
    ("sql_mode", "STRICT_TRANS_TABLES"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "OFF"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("tx_read_only", "OFF"),
    ("wait_timeout", "28800"),
];

/// What a SELECT gets, encoded once but for the packets' numbers.
struct Answers {
    column: Vec<u8>,
    row: Vec<u8>,
    binary_row: Vec<u8>,
    rows: u64,
}

/// Part of what a client still has to get.
enum Owed {
    Bytes(Vec<u8>),
    Rows { left: u64, binary: bool, sequence: u8 },
}

#[derive(Clone, Copy)]
struct Statement {
    selects: bool,
    parameters: u16,
    begins: Option<bool>,
}

struct Client {
    input: Vec<u8>,
    capabilities: Option<u32>,
    status: u16,
    statements: HashMap<u32, Statement>,
    last_statement: u32,
    owed: VecDeque<Owed>,
    is_leaving: bool,
}

fn lenenc(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..=250 => out.push(length as u8),
        length @ 251..=0xffff => {
            out.push(0xfc);
            out.extend((length as u16).to_le_bytes());
        }
        length => {
            out.push(0xfd);
            out.extend(&(length as u32).to_le_bytes()[..3]);
        }
    }
    out.extend(text);
}

fn packet(out: &mut Vec<u8>, sequence: &mut u8, body: &[u8]) {
    out.extend(&(body.len() as u32).to_le_bytes()[..3]);
    out.push(*sequence);
    out.extend(body);
    *sequence = sequence.wrapping_add(1);
}

fn column(name: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in [&b"def"[..], b"stub", b"t", b"t", name, name] {
        lenenc(&mut body, text);
    }
    body.extend([0x0c, UTF8MB4, 0]);
    body.extend(1024u32.to_le_bytes());
    body.extend([VAR_STRING, 0, 0, 0, 0, 0]);
    body
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

    fn packet(&mut self, sequence: &mut u8, body: &[u8]) {
        packet(self.out(), sequence, body);
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities.unwrap_or_default() & capability != 0
    }

    fn greet(&mut self) {
        let mut body = vec![10];
        body.extend(b"8.0.36-stub\0");
        body.extend(1u32.to_le_bytes());
        body.extend(b"saltsalt\0");
        body.extend((capability::OFFERED as u16).to_le_bytes());
        body.push(UTF8MB4);
        body.extend(self.status.to_le_bytes());
        body.extend(((capability::OFFERED >> 16) as u16).to_le_bytes());
        body.push(21);
        body.extend([0; 10]);
        body.extend(b"saltsaltsalt\0mysql_native_password\0");
        self.packet(&mut 0, &body);
    }

    /// `changes`: what session tracking reports, in pairs of kind and data.
    fn ok(&mut self, sequence: &mut u8, header: u8, changes: &[(u8, Vec<u8>)]) {
        let is_told = !changes.is_empty() && self.has(capability::SESSION_TRACK);
        let status = self.status | if is_told { status::STATE_CHANGED } else { 0 };
        let mut body = vec![header, 0, 0];
        body.extend(status.to_le_bytes());
        body.extend([0, 0]);
        if is_told {
            body.push(0);
            let mut all = Vec::new();
            for (kind, data) in changes {
                all.push(*kind);
                lenenc(&mut all, data);
            }
            lenenc(&mut body, &all);
        }
        self.packet(sequence, &body);
    }

    /// What ends columns (unless they end by themselves) or rows.
    fn end(&mut self, sequence: &mut u8, is_last: bool) {
        if !self.has(capability::DEPRECATE_EOF) {
            let status = self.status.to_le_bytes();
            self.packet(sequence, &[0xfe, 0, 0, status[0], status[1]]);
        } else if is_last {
            self.ok(sequence, 0xfe, &[]);
        }
    }

    fn fail(&mut self, number: u16, text: &str) {
        let mut body = vec![0xff];
        body.extend(number.to_le_bytes());
        body.extend(b"#HY000");
        body.extend(text.as_bytes());
        self.packet(&mut 1, &body);
    }

    fn run(&mut self, statement: Statement, binary: bool, answers: &Answers) {
        let mut sequence = 1;
        if statement.selects {
            self.packet(&mut sequence, &[1]);
            self.packet(&mut sequence, &answers.column);
            self.end(&mut sequence, false);
            if answers.rows <= 16 {
                let row = if binary { &answers.binary_row } else { &answers.row };
                for _ in 0..answers.rows {
                    self.packet(&mut sequence, row);
                }
                return self.end(&mut sequence, true);
            }
            self.owed.push_back(Owed::Rows { left: answers.rows, binary, sequence });
            sequence = sequence.wrapping_add(answers.rows as u8);
            return self.end(&mut sequence, true);
        }
        match statement.begins {
            Some(true) => self.status |= status::IN_TRANSACTION,
            Some(false) => self.status &= !status::IN_TRANSACTION,
            None => {}
        }
        self.ok(&mut sequence, 0, &[]);
    }

    fn query(&mut self, text: &[u8], answers: &Answers) {
        let words = String::from_utf8_lossy(text);
        let words = words.trim();
        let head: String = words.chars().take(12).collect::<String>().to_ascii_uppercase();
        if head.starts_with("SHOW ") {
            return self.variables(words);
        }
        if let Some(rest) = head.starts_with("SET ").then(|| words[4..].trim()) {
            let changes = self.set(rest);
            return self.ok(&mut 1, 0, &changes);
        }
        if head.starts_with("USE ") {
            return self.use_schema(words[4..].trim_matches(['`', ' ', ';']).as_bytes());
        }
        self.run(statement_of(words.as_bytes()), false, answers);
    }

    fn use_schema(&mut self, name: &[u8]) {
        let mut data = Vec::new();
        lenenc(&mut data, name);
        self.ok(&mut 1, 0, &[(1, data)]);
    }

    /// Rows for the variables whose names stand in quotes.
    fn variables(&mut self, text: &str) {
        let mut sequence = 1;
        self.packet(&mut sequence, &[2]);
        self.packet(&mut sequence, &column(b"Variable_name"));
        self.packet(&mut sequence, &column(b"Value"));
        self.end(&mut sequence, false);
        for name in text.split('\'').skip(1).step_by(2) {
            let Some((_, value)) = VARIABLES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
            else {
                continue;
            };
            let mut row = Vec::new();
            lenenc(&mut row, name.to_ascii_lowercase().as_bytes());
            lenenc(&mut row, value.as_bytes());
            self.packet(&mut sequence, &row);
        }
        self.end(&mut sequence, true);
    }

    /// What `SET a = 1, b = 'x'` changes. Values with commas in them are none that the bench sets.
    fn set(&mut self, text: &str) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        for part in text.trim_end_matches(';').split(',') {
            let Some((name, value)) = part.split_once('=') else { continue };
            let name = name.trim().trim_start_matches("@@").to_ascii_lowercase();
            let name = name.trim_start_matches("session").trim_start_matches(['.', ' ', ':']).trim();
            let value = value.trim().trim_matches(['\'', '"']);
            if name.starts_with('@') || name.contains("global") {
                continue;
            }
            if name == "autocommit" {
                let is_on = matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "true");
                self.status = if is_on { status::AUTOCOMMIT } else { 0 };
            }
            let mut data = Vec::new();
            lenenc(&mut data, name.as_bytes());
            lenenc(&mut data, value.as_bytes());
            found.push((0, data));
        }
        found
    }

    fn prepare(&mut self, text: &[u8], answers: &Answers) {
        let statement = statement_of(text.trim_ascii());
        self.last_statement += 1;
        self.statements.insert(self.last_statement, statement);
        let mut sequence = 1;
        let mut body = vec![0];
        body.extend(self.last_statement.to_le_bytes());
        body.extend(u16::from(statement.selects).to_le_bytes());
        body.extend(statement.parameters.to_le_bytes());
        body.extend([0, 0, 0]);
        self.packet(&mut sequence, &body);
        for _ in 0..statement.parameters {
            self.packet(&mut sequence, &column(b"?"));
        }
        if statement.parameters > 0 {
            self.end(&mut sequence, false);
        }
        if statement.selects {
            self.packet(&mut sequence, &answers.column);
            self.end(&mut sequence, false);
        }
    }

    fn act(&mut self, body: &[u8], answers: &Answers) {
        let Some((&kind, rest)) = body.split_first() else {
            return self.fail(1835, "Malformed communication packet");
        };
        let number = rest.get(..4).map(|four| u32::from_le_bytes(four.try_into().expect("four bytes")));
        match kind {
            command::QUIT => self.is_leaving = true,
            command::QUERY => self.query(rest, answers),
            command::INIT_DB => self.use_schema(rest),
            command::PING | command::STMT_RESET | command::CHANGE_USER => self.ok(&mut 1, 0, &[]),
            command::RESET_CONNECTION => {
                self.status = status::AUTOCOMMIT;
                self.statements.clear();
                self.ok(&mut 1, 0, &[]);
            }
            command::SET_OPTION => self.end(&mut 1, true),
            command::STMT_PREPARE => self.prepare(rest, answers),
            command::STMT_EXECUTE => match number.and_then(|number| self.statements.get(&number).copied()) {
                Some(statement) => self.run(statement, true, answers),
                None => self.fail(1243, "Unknown prepared statement handler"),
            },
            command::STMT_CLOSE => drop(number.map(|number| self.statements.remove(&number))),
            command::STMT_SEND_LONG_DATA => {}
            _ => self.fail(1047, "Unknown command"),
        }
    }

    fn packets_of(&mut self, bytes: &[u8], answers: &Answers) -> usize {
        let mut at = 0;
        while !self.is_leaving {
            let Some(head) = bytes[at..].get(..4) else { break };
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            let Some(body) = bytes[at..].get(4..4 + length) else { break };
            at += 4 + length;
            if self.capabilities.is_some() {
                self.act(body, answers);
            } else if let Some(flags) = body.get(..4) {
                let flags = u32::from_le_bytes(flags.try_into().expect("four bytes"));
                self.capabilities = Some(flags & capability::OFFERED);
                self.ok(&mut head[3].wrapping_add(1), 0, &[]);
            } else {
                self.is_leaving = true;
            }
        }
        at
    }
}

impl stub::Client for Client {
    type Answers = Answers;

    fn answers(settings: &Settings) -> Answers {
        let mut row = Vec::new();
        lenenc(&mut row, &vec![b'1'; settings.bytes]);
        Answers { column: column(b"c"), binary_row: [&[0, 0], &row[..]].concat(), row, rows: settings.rows }
    }

    fn new() -> Self {
        let mut client = Self {
            input: Vec::new(),
            capabilities: None,
            status: status::AUTOCOMMIT,
            statements: HashMap::new(),
            last_statement: 0,
            owed: VecDeque::new(),
            is_leaving: false,
        };
        client.greet();
        client
    }

    fn take(&mut self, bytes: &[u8], answers: &Answers) -> bool {
        if self.input.is_empty() {
            let used = self.packets_of(bytes, answers);
            self.input.extend(&bytes[used..]);
        } else {
            self.input.extend(bytes);
            let input = std::mem::take(&mut self.input);
            let used = self.packets_of(&input, answers);
            self.input = input;
            self.input.drain(..used);
        }
        !self.is_leaving
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
                Some(Owed::Rows { left, binary, sequence }) => {
                    let row = if *binary { &answers.binary_row } else { &answers.row };
                    while *left > 0 && buffer.len() < PIECE_BYTES {
                        packet(buffer, sequence, row);
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

fn statement_of(text: &[u8]) -> Statement {
    let word: Vec<u8> =
        text.iter().take_while(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_uppercase).collect();
    let begins = match word.as_slice() {
        b"BEGIN" | b"START" => Some(true),
        b"COMMIT" | b"ROLLBACK" => Some(false),
        _ => None,
    };
    let parameters = text.iter().filter(|byte| **byte == b'?').count() as u16;
    Statement { selects: matches!(word.as_slice(), b"SELECT" | b"VALUES"), parameters, begins }
}
