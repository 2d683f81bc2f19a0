//! A scripted PostgreSQL: one session per connection, statements of a small language, real rules.
//!
//! Written from the protocol's documentation and not from the relay's code, so that the two check
//! each other; never touches a relay. Driven by `World`, which carries its bytes and wakes it.
//!
//! The language, statements separated by `;`: `select X`, `sleep MICROSECONDS X`, `rows N SIZE X`,
//! `copyin X`, `copyout N X`, `begin`, `commit`, `rollback`, `set NAME=VALUE`, `show NAME`, `fail`,
//! `prepare NAME`, `notice X`, `discard all`, `deallocate all`, `die`, `fatal`, `garbage`, `halfrow`,
//! `silent`, `bad` (does not parse). `$1` in it stands for the first bound value.

use std::collections::{BTreeMap, HashMap, VecDeque};

use maitred_wire::CancelKey;

/// What meets somebody who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// The connection itself is refused.
    Down,
    /// Nobody answers the connection attempt.
    Silent,
    /// Connected, but the login is never answered.
    Mute,
    /// The login is refused with this SQLSTATE and text.
    Refuse([u8; 5], String),
    /// The connection is closed in the middle of the login.
    Hangup,
}

/// Settings that are told to the client when they change.
const REPORTED: [&str; 6] =
    ["application_name", "client_encoding", "DateStyle", "in_hot_standby", "server_version", "TimeZone"];

fn defaults() -> BTreeMap<String, String> {
    let pairs = [
        ("application_name", ""),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("in_hot_standby", "off"),
        ("server_version", "18.0"),
        ("TimeZone", "UTC"),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// One statement that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub at: u64,
    pub text: String,
    pub was_cancelled: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    Startup,
    Serving,
    Over,
}

#[derive(Clone, Debug)]
struct Prepared {
    sql: String,
    /// The schema's version when it was prepared.
    version: u64,
}

#[derive(Clone, Debug)]
struct Portal {
    sql: String,
    /// Rows still to come of a suspended portal.
    rest: Option<VecDeque<String>>,
    tag: String,
}

/// What runs now and does not end at once.
#[derive(Clone, Debug)]
enum Running {
    Sleep { until: u64, marker: String },
    CopyIn { bytes: Vec<u8> },
    Silent,
}

/// The statements of the message under way.
#[derive(Clone, Debug)]
struct Job {
    statements: VecDeque<String>,
    is_simple: bool,
    limit: usize,
    portal: String,
}

/// One session of the scripted database.
#[derive(Debug)]
pub struct Session {
    pub number: usize,
    pub key: CancelKey,
    phase: Phase,
    input: Vec<u8>,
    buffered: Vec<u8>,
    /// Bytes ready to be sent; `World` takes them.
    pub out: Vec<u8>,
    /// It closes when `out` has been sent.
    pub is_over: bool,
    running: Option<Running>,
    job: Option<Job>,
    skips_to_sync: bool,
    transaction: u8,
    prepared: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    settings: BTreeMap<String, String>,
    /// As they were when the transaction began.
    settings_before: Option<BTreeMap<String, String>>,
    start: BTreeMap<String, String>,
    told: BTreeMap<String, String>,
    pub door: Door,
    pub ran: Vec<Ran>,
    /// Copy of the database's schema version, for stale plans.
    pub version: u64,
    pub startup: BTreeMap<String, String>,
    pub was_told_goodbye: bool,
    pub is_replication: bool,
    is_cancel_pending: bool,
}

fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

fn cut(body: &[u8]) -> (&str, &[u8]) {
    let end = body.iter().position(|byte| *byte == 0).expect("a text that ends");
    (std::str::from_utf8(&body[..end]).expect("text"), &body[end + 1..])
}

impl Session {
    pub fn new(number: usize, door: Door, version: u64) -> Self {
        let key = CancelKey { pid: 1000 + number as u32, secret: vec![number as u8, (number >> 8) as u8, 7, 7] };
        Self {
            number,
            key,
            phase: Phase::Startup,
            input: Vec::new(),
            buffered: Vec::new(),
            out: Vec::new(),
            is_over: false,
            running: None,
            job: None,
            skips_to_sync: false,
            transaction: b'I',
            prepared: HashMap::new(),
            portals: HashMap::new(),
            settings: defaults(),
            settings_before: None,
            start: defaults(),
            told: BTreeMap::new(),
            door,
            ran: Vec::new(),
            version,
            startup: BTreeMap::new(),
            was_told_goodbye: false,
            is_replication: false,
            is_cancel_pending: false,
        }
    }

    /// When it wants to be woken.
    pub fn wake_at(&self) -> Option<u64> {
        match &self.running {
            Some(Running::Sleep { until, .. }) => Some(*until),
            _ => None,
        }
    }

    pub fn is_logged_in(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub fn is_busy(&self) -> bool {
        self.running.is_some() || self.transaction != b'I' || !self.input.is_empty() || self.skips_to_sync
    }

    pub fn prepared_names(&self) -> Vec<&str> {
        self.prepared.keys().map(String::as_str).collect()
    }

    pub fn prepared_bytes(&self) -> usize {
        self.prepared.values().map(|prepared| prepared.sql.len()).sum()
    }

    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Bytes from the relay.
    pub fn feed(&mut self, now: u64, bytes: &[u8]) {
        if self.phase == Phase::Over {
            return;
        }
        if self.is_replication && self.phase == Phase::Serving {
            // A walsender of the tests: says back what it hears.
            self.out.extend_from_slice(bytes);
            return;
        }
        self.input.extend_from_slice(bytes);
        self.go_on(now);
    }

    /// Time has come for what runs.
    pub fn wake(&mut self, now: u64) {
        if let Some(Running::Sleep { until, marker }) = self.running.clone() {
            if until <= now {
                self.running = None;
                self.note(now, false);
                self.one_row(&marker);
                self.finish_statement(now);
                self.go_on(now);
            }
        }
    }

    /// A cancel request with the right key.
    pub fn cancel(&mut self, now: u64) {
        match &self.running {
            Some(Running::Sleep { .. }) => {
                self.running = None;
                self.note(now, true);
                self.fail(now, b"57014", "canceling statement due to user request");
                self.go_on(now);
            }
            // Spec: a backend that waits for COPY data looks at interrupts when data comes.
            Some(Running::CopyIn { .. }) => self.is_cancel_pending = true,
            _ => {}
        }
    }

    /// The database wants this session to end: FATAL, then closed.
    pub fn terminate(&mut self, state: &[u8; 5], text: &str) {
        self.flush();
        let out = &mut self.out;
        error(out, "FATAL", state, text, "ProcessInterrupts");
        self.end();
    }

    pub fn end(&mut self) {
        self.phase = Phase::Over;
        self.is_over = true;
        self.running = None;
        self.job = None;
    }

    /// An asynchronous ParameterStatus, as after a configuration reload or a promotion.
    pub fn change_default(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
        self.start.insert(name.to_owned(), value.to_owned());
        if self.phase == Phase::Serving && self.running.is_none() {
            self.report_settings();
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.out.append(&mut self.buffered);
    }

    fn note(&mut self, now: u64, was_cancelled: bool) {
        if let Some(job) = &self.job {
            if let Some(text) = job.statements.front() {
                self.ran.push(Ran { at: now, text: text.clone(), was_cancelled });
            }
        }
    }

    fn go_on(&mut self, now: u64) {
        loop {
            if self.phase == Phase::Over {
                return;
            }
            if matches!(self.running, Some(Running::Sleep { .. } | Running::Silent)) {
                return;
            }
            if self.phase == Phase::Startup {
                if !self.start_up() {
                    return;
                }
                continue;
            }
            let Some(head) = self.input.first_chunk::<5>() else { return };
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            assert!((4..1 << 30).contains(&length), "the relay sent a broken length to a server: {head:?}");
            if self.input.len() < length + 1 {
                return;
            }
            let whole: Vec<u8> = self.input.drain(..=length).collect();
            self.act(now, whole[0], &whole[5..]);
        }
    }

    fn start_up(&mut self) -> bool {
        let Some(head) = self.input.first_chunk::<8>() else { return false };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if self.input.len() < length {
            return false;
        }
        let whole: Vec<u8> = self.input.drain(..length).collect();
        assert_eq!(&whole[4..6], &[0, 3], "protocol 3");
        let mut rest = &whole[8..];
        while rest[0] != 0 {
            let (name, after) = cut(rest);
            let (value, after) = cut(after);
            self.startup.insert(name.to_owned(), value.to_owned());
            if !matches!(name, "user" | "database" | "replication") {
                self.settings.insert(name.to_owned(), value.to_owned());
                self.start.insert(name.to_owned(), value.to_owned());
            }
            self.is_replication |= name == "replication";
            rest = after;
        }
        match self.door.clone() {
            Door::Mute => return false,
            Door::Hangup => {
                self.end();
                return false;
            }
            Door::Refuse(state, text) => {
                error(&mut self.out, "FATAL", &state, &text, "InitPostgres");
                self.end();
                return false;
            }
            _ => {}
        }
        message(&mut self.buffered, b'R', &0u32.to_be_bytes());
        self.report_settings();
        let mut key = self.key.pid.to_be_bytes().to_vec();
        key.extend_from_slice(&self.key.secret);
        message(&mut self.buffered, b'K', &key);
        self.phase = Phase::Serving;
        self.ready();
        true
    }

    fn report_settings(&mut self) {
        for name in REPORTED {
            let value = self.settings[name].clone();
            if self.told.get(name) != Some(&value) {
                let body = [name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat();
                message(&mut self.buffered, b'S', &body);
                self.told.insert(name.to_owned(), value);
            }
        }
    }

    fn ready(&mut self) {
        // Spec: since PostgreSQL 14 changed settings are told just before ReadyForQuery.
        self.report_settings();
        let state = [self.transaction];
        message(&mut self.buffered, b'Z', &state);
        self.flush();
    }

    /// One message. `act` is never called while something runs, but for COPY.
    fn act(&mut self, now: u64, tag: u8, body: &[u8]) {
        if tag == b'X' {
            self.was_told_goodbye = true;
            self.end();
            return;
        }
        if let Some(Running::CopyIn { bytes }) = &mut self.running {
            match tag {
                b'd' if self.is_cancel_pending => {
                    self.is_cancel_pending = false;
                    self.running = None;
                    self.note(now, true);
                    self.fail(now, b"57014", "canceling statement due to user request");
                }
                b'd' => bytes.extend_from_slice(body),
                b'c' => {
                    let count = bytes.len();
                    self.running = None;
                    self.note(now, false);
                    self.done(&format!("COPY {count}"));
                    self.finish_statement(now);
                }
                b'f' => {
                    self.running = None;
                    self.fail(now, b"57014", "COPY from stdin failed");
                }
                // Spec: "COPY Operations": Flush and Sync are ignored in copy-in mode.
                b'H' | b'S' => {}
                _ => {
                    self.running = None;
                    self.fail(now, b"08P01", "unexpected message type during COPY from stdin");
                }
            }
            return;
        }
        if self.skips_to_sync && tag != b'S' {
            return;
        }
        match tag {
            b'Q' => {
                let (text, rest) = cut(body);
                assert!(rest.is_empty(), "bytes after a query's text");
                self.prepared.remove("");
                self.portals.clear();
                let statements: VecDeque<String> =
                    text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect();
                if statements.is_empty() {
                    message(&mut self.buffered, b'I', &[]);
                }
                self.job = Some(Job { statements, is_simple: true, limit: 0, portal: String::new() });
                self.run(now);
            }
            b'P' => self.parse(now, body),
            b'B' => self.bind(now, body),
            b'D' => self.describe(now, body),
            b'E' => self.execute(now, body),
            b'C' => {
                let (name, _) = cut(&body[1..]);
                if body[0] == b'S' {
                    self.prepared.remove(name);
                } else {
                    self.portals.remove(name);
                }
                message(&mut self.buffered, b'3', &[]);
            }
            b'H' => self.flush(),
            b'S' => {
                self.skips_to_sync = false;
                self.end_implicit();
                self.ready();
            }
            b'F' => {
                message(&mut self.buffered, b'V', &(-1i32).to_be_bytes());
                self.ready();
            }
            // Spec: ignored, for clients that have not noticed that their COPY failed.
            b'd' | b'c' | b'f' => {}
            _ => panic!("the relay sent a message of type {} to a server", tag as char),
        }
    }

    fn end_implicit(&mut self) {
        if self.transaction == b'I' {
            self.portals.clear();
        }
    }

    fn parse(&mut self, now: u64, body: &[u8]) {
        let (name, rest) = cut(body);
        let (sql, _) = cut(rest);
        let (name, sql) = (name.to_owned(), sql.to_owned());
        if name.is_empty() {
            self.prepared.remove("");
        }
        if sql.starts_with("bad") {
            self.fail(now, b"42601", "syntax error");
        } else if self.is_refused(&sql) {
            self.fail(now, b"25P02", "current transaction is aborted");
        } else if self.prepared.contains_key(&name) {
            self.fail(now, b"42P05", &format!("prepared statement \"{name}\" already exists"));
        } else {
            self.prepared.insert(name, Prepared { sql, version: self.version });
            message(&mut self.buffered, b'1', &[]);
        }
    }

    fn bind(&mut self, now: u64, body: &[u8]) {
        let (portal, rest) = cut(body);
        let (name, rest) = cut(rest);
        let Some(prepared) = self.prepared.get(name).cloned() else {
            let text = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            self.fail(now, b"26000", &text);
            return;
        };
        if self.is_refused(&prepared.sql) {
            self.fail(now, b"25P02", "current transaction is aborted");
            return;
        }
        if prepared.version != self.version {
            let text = "cached plan must not change result type";
            self.fail_as(now, b"0A000", text, "RevalidateCachedQuery");
            return;
        }
        let formats = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let rest = &rest[2 + 2 * formats..];
        let count = u16::from_be_bytes([rest[0], rest[1]]);
        let mut rest = &rest[2..];
        let mut sql = prepared.sql;
        for at in 1..=count {
            let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let value = std::str::from_utf8(&rest[4..4 + length]).expect("text value");
            sql = sql.replace(&format!("${at}"), value);
            rest = &rest[4 + length..];
        }
        self.portals.insert(portal.to_owned(), Portal { sql, rest: None, tag: String::new() });
        message(&mut self.buffered, b'2', &[]);
    }

    fn describe(&mut self, now: u64, body: &[u8]) {
        let (name, _) = cut(&body[1..]);
        let sql = if body[0] == b'S' {
            self.prepared.get(name).map(|prepared| prepared.sql.clone())
        } else {
            self.portals.get(name).map(|portal| portal.sql.clone())
        };
        let Some(sql) = sql else {
            let state = if body[0] == b'S' { b"26000" } else { b"34000" };
            self.fail(now, state, &format!("\"{name}\" does not exist"));
            return;
        };
        if body[0] == b'S' {
            message(&mut self.buffered, b't', &0u16.to_be_bytes());
        }
        if ["select", "sleep", "rows", "show"].iter().any(|word| sql.starts_with(word)) {
            self.columns();
        } else {
            message(&mut self.buffered, b'n', &[]);
        }
    }

    fn execute(&mut self, now: u64, body: &[u8]) {
        let (name, rest) = cut(body);
        let limit = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let Some(portal) = self.portals.get(name).cloned() else {
            self.fail(now, b"34000", &format!("portal \"{name}\" does not exist"));
            return;
        };
        if let Some(rest) = portal.rest {
            self.portal_rows(name, rest, limit, &portal.tag);
            return;
        }
        let statements = VecDeque::from([portal.sql]);
        self.job = Some(Job { statements, is_simple: false, limit, portal: name.to_owned() });
        self.run(now);
    }

    fn portal_rows(&mut self, name: &str, mut rows: VecDeque<String>, limit: usize, tag: &str) {
        let count = if limit == 0 { rows.len() } else { limit.min(rows.len()) };
        for row in rows.drain(..count) {
            self.row(&row);
        }
        if limit > 0 && count == limit {
            message(&mut self.buffered, b's', &[]);
            let portal = self.portals.get_mut(name).expect("it runs");
            portal.rest = Some(rows);
            portal.tag = tag.to_owned();
        } else {
            self.done(tag);
        }
    }

    fn is_refused(&self, statement: &str) -> bool {
        self.transaction == b'E' && !matches!(statement.to_ascii_lowercase().as_str(), "commit" | "rollback")
    }

    /// Carry out the statements of the message under way, as far as that goes now.
    fn run(&mut self, now: u64) {
        while let Some(job) = &self.job {
            let Some(statement) = job.statements.front().cloned() else {
                let is_simple = job.is_simple;
                self.job = None;
                if is_simple {
                    self.end_implicit();
                    self.ready();
                }
                return;
            };
            if self.is_refused(&statement) {
                self.fail(now, b"25P02", "current transaction is aborted");
                return;
            }
            self.carry_out(now, &statement);
            if self.running.is_some() || self.phase == Phase::Over {
                return;
            }
            // Failed: `fail` has ended the job.
            let Some(job) = &mut self.job else { return };
            job.statements.pop_front();
        }
    }

    /// What suspended the job is over.
    fn finish_statement(&mut self, now: u64) {
        if let Some(job) = &mut self.job {
            job.statements.pop_front();
            self.run(now);
        }
    }

    fn carry_out(&mut self, now: u64, statement: &str) {
        let is_simple = self.job.as_ref().is_some_and(|job| job.is_simple);
        let mut words = statement.splitn(2, ' ');
        let verb = words.next().unwrap_or_default().to_ascii_lowercase();
        let rest = words.next().unwrap_or_default().trim();
        if !matches!(verb.as_str(), "sleep" | "copyin" | "silent") {
            self.note(now, false);
        }
        match verb.as_str() {
            "select" if rest.starts_with("pg_catalog.set_config(") => self.set_config(now, rest),
            "select" => self.one_row(rest),
            "show" => {
                let value = self.setting(rest).unwrap_or_default().to_owned();
                self.one_row(&value);
            }
            "sleep" => {
                let (us, marker) = rest.split_once(' ').unwrap_or((rest, ""));
                let until = now + us.parse::<u64>().expect("microseconds");
                self.running = Some(Running::Sleep { until, marker: marker.to_owned() });
            }
            "rows" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let (count, size) = (words[0].parse().expect("count"), words[1].parse::<usize>().expect("size"));
                let row = format!("{}{}", words[2], "x".repeat(size));
                let rows: VecDeque<String> = std::iter::repeat_n(row, count).collect();
                if is_simple {
                    self.columns();
                    rows.iter().for_each(|row| self.row(row));
                    self.done(&format!("SELECT {count}"));
                } else {
                    let (name, limit) = self.job.as_ref().map(|job| (job.portal.clone(), job.limit)).expect("it runs");
                    self.portal_rows(&name, rows, limit, &format!("SELECT {count}"));
                }
            }
            "copyin" => {
                message(&mut self.buffered, b'G', &[0, 0, 0]);
                self.flush();
                self.running = Some(Running::CopyIn { bytes: Vec::new() });
            }
            "copyout" => {
                let (count, marker) = rest.split_once(' ').expect("count and marker");
                message(&mut self.buffered, b'H', &[0, 0, 0]);
                for _ in 0..count.parse::<usize>().expect("count") {
                    message(&mut self.buffered, b'd', marker.as_bytes());
                }
                message(&mut self.buffered, b'c', &[]);
                self.done(&format!("COPY {count}"));
            }
            "begin" => {
                if self.transaction == b'I' {
                    self.settings_before = Some(self.settings.clone());
                    self.transaction = b'T';
                }
                self.done("BEGIN");
            }
            "commit" | "rollback" => {
                let keeps = verb == "commit" && self.transaction == b'T';
                if let (Some(before), false) = (self.settings_before.take(), keeps) {
                    self.settings = before;
                }
                self.transaction = b'I';
                self.done(if keeps { "COMMIT" } else { "ROLLBACK" });
            }
            "set" => {
                let (name, value) = rest.split_once('=').expect("name=value");
                self.change(name, Some(value));
                self.done("SET");
            }
            "reset" => {
                self.change(&rest.replace('"', ""), None);
                self.done("RESET");
            }
            "prepare" => {
                self.prepared.insert(rest.to_owned(), Prepared { sql: format!("select {rest}"), version: self.version });
                self.done("PREPARE");
            }
            "deallocate" => {
                self.prepared.clear();
                self.done("DEALLOCATE ALL");
            }
            "discard" if self.transaction != b'I' => {
                self.fail(now, b"25001", "DISCARD ALL cannot run inside a transaction block");
            }
            "discard" => {
                self.prepared.clear();
                self.settings = self.start.clone();
                self.done("DISCARD ALL");
            }
            "notice" => {
                error_as(&mut self.buffered, b'N', "NOTICE", b"00000", rest, "exec");
                self.done("NOTICE");
            }
            "die" => self.end(),
            "fatal" => self.terminate(b"57P01", "terminating connection due to administrator command"),
            "garbage" => {
                self.flush();
                self.out.extend_from_slice(b"\x00\x01garbage");
            }
            "halfrow" => {
                self.columns();
                self.flush();
                let size: usize = rest.parse().expect("size");
                self.out.push(b'D');
                self.out.extend_from_slice(&(size as u32 + 4).to_be_bytes());
                self.out.extend(std::iter::repeat_n(b'h', size / 2));
                self.end();
            }
            "silent" => self.running = Some(Running::Silent),
            "fail" => self.fail(now, b"22012", "division by zero"),
            _ => self.fail(now, b"42601", &format!("syntax error at \"{statement}\"")),
        }
    }

    fn change(&mut self, name: &str, value: Option<&str>) {
        let name = self.settings.keys().find(|have| have.eq_ignore_ascii_case(name)).cloned().unwrap_or(name.to_owned());
        match value.map(str::to_owned).or_else(|| self.start.get(&name).cloned()) {
            Some(value) => drop(self.settings.insert(name, value)),
            None => drop(self.settings.remove(&name)),
        }
    }

    fn set_config(&mut self, now: u64, call: &str) {
        let parts: Vec<&str> = call.split('\'').collect();
        let (name, value) = (parts[1].to_owned(), parts[3].to_owned());
        if name == "no_such" || name == "in_hot_standby" {
            self.fail(now, b"42704", &format!("unrecognized configuration parameter \"{name}\""));
            return;
        }
        self.change(&name, Some(&value));
        self.one_row(&value);
    }

    fn columns(&mut self) {
        let mut body = 1u16.to_be_bytes().to_vec();
        body.extend_from_slice(b"c\0");
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
        message(&mut self.buffered, b'T', &body);
    }

    fn row(&mut self, value: &str) {
        let mut body = 1u16.to_be_bytes().to_vec();
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
        message(&mut self.buffered, b'D', &body);
    }

    fn one_row(&mut self, value: &str) {
        if self.job.as_ref().is_some_and(|job| job.is_simple) {
            self.columns();
        }
        self.row(value);
        self.done("SELECT 1");
    }

    fn done(&mut self, tag: &str) {
        message(&mut self.buffered, b'C', format!("{tag}\0").as_bytes());
    }

    fn fail(&mut self, now: u64, state: &[u8; 5], text: &str) {
        self.fail_as(now, state, text, "exec");
    }

    /// An error: the job ends; after a simple query comes Ready, after others the wait for a Sync.
    fn fail_as(&mut self, now: u64, state: &[u8; 5], text: &str, routine: &str) {
        let _ = now;
        error(&mut self.buffered, "ERROR", state, text, routine);
        if self.transaction != b'I' {
            self.transaction = b'E';
        }
        self.is_cancel_pending = false;
        let is_simple = self.job.take().is_some_and(|job| job.is_simple);
        if is_simple {
            self.end_implicit();
            self.ready();
        } else {
            self.skips_to_sync = true;
            self.flush();
        }
    }
}

fn error(out: &mut Vec<u8>, severity: &str, state: &[u8; 5], text: &str, routine: &str) {
    error_as(out, b'E', severity, state, text, routine);
}

fn error_as(out: &mut Vec<u8>, tag: u8, severity: &str, state: &[u8; 5], text: &str, routine: &str) {
    let state = std::str::from_utf8(state).expect("letters");
    let body = format!("S{severity}\0V{severity}\0C{state}\0M{text}\0R{routine}\0\0");
    message(out, tag, body.as_bytes());
}
