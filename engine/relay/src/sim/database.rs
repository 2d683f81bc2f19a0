//! A scripted PostgreSQL: one session per connection, statements of a small language, real rules.
//!
//! Written from the protocol's documentation and not from the relay's code, so that the two check
//! each other; never touches a relay. Driven by `World`, which carries its bytes and wakes it.
//!
//! The language, statements separated by `;`: `select X`, `sleep MICROSECONDS X`, `rows N SIZE X`,
//! `copyin X`, `copyout N X`, `begin`, `commit`, `rollback`, `set NAME=VALUE`, `show NAME`, `fail`,
//! `prepare NAME`, `notice X`, `discard all`, `deallocate all`, `die`, `fatal`, `garbage`, `halfrow`,
//! `silent`, `listen X`, `notify X Y`, `bad` (does not parse). `$1` in it stands for the first bound value.

use std::collections::{BTreeMap, HashMap, VecDeque};

use maitred_wire::CancelKey;

use super::extended::{cut, is_well_formed};
use super::notify::Ears;
use super::statements::Left;

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
pub(super) struct Prepared {
    pub sql: String,
    /// The schema's version when it was prepared.
    pub version: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub sql: String,
    /// Rows still to come of a suspended portal.
    pub rest: Option<VecDeque<String>>,
    pub tag: String,
}

/// What runs now and does not end at once.
#[derive(Clone, Debug)]
pub(super) enum Running {
    Sleep { until: u64, marker: String },
    CopyIn { bytes: Vec<u8> },
    Silent,
}

/// The statements of the message under way.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub statements: VecDeque<String>,
    pub is_simple: bool,
    pub limit: usize,
    pub portal: String,
}

/// One session of the scripted database.
#[derive(Debug)]
pub struct Session {
    pub number: usize,
    pub key: CancelKey,
    phase: Phase,
    input: Vec<u8>,
    pub(super) buffered: Vec<u8>,
    /// Bytes ready to be sent; `World` takes them.
    pub out: Vec<u8>,
    /// It closes when `out` has been sent.
    pub is_over: bool,
    pub(super) running: Option<Running>,
    pub(super) job: Option<Job>,
    skips_to_sync: bool,
    pub(super) transaction: u8,
    pub(super) prepared: HashMap<String, Prepared>,
    pub(super) portals: HashMap<String, Portal>,
    pub(super) settings: BTreeMap<String, String>,
    /// As they were when the transaction began.
    pub(super) settings_before: Option<BTreeMap<String, String>>,
    pub(super) start: BTreeMap<String, String>,
    told: BTreeMap<String, String>,
    pub door: Door,
    pub ran: Vec<Ran>,
    /// Copy of the database's schema version, for stale plans.
    pub version: u64,
    /// What it says right behind the Ready of its login.
    pub breath: Vec<u8>,
    pub(super) left: Left,
    pub(super) ears: Ears,
    /// How long `set_config` takes.
    pub slow_settings_us: u64,
    pub startup: BTreeMap<String, String>,
    pub was_told_goodbye: bool,
    pub is_replication: bool,
    pub heard_raw: Vec<u8>,
    is_cancel_pending: bool,
}

pub(super) fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

impl Session {
    pub fn new(number: usize, door: Door, version: u64) -> Self {
        let key =
            CancelKey { pid: 1000 + number as u32, secret: vec![number as u8, (number >> 8) as u8, 7, 7] };
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
            breath: Vec::new(),
            left: Left::default(),
            ears: Ears::default(),
            slow_settings_us: 0,
            startup: BTreeMap::new(),
            was_told_goodbye: false,
            is_replication: false,
            heard_raw: Vec::new(),
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
        self.settings
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Bytes from the relay.
    pub fn feed(&mut self, now: u64, bytes: &[u8]) {
        if self.phase == Phase::Over {
            return;
        }
        if self.is_replication && self.phase == Phase::Serving {
            // A walsender of the tests: says back what it hears.
            self.heard_raw.extend_from_slice(bytes);
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

    /// As if somebody had run DEALLOCATE ALL unseen.
    pub fn forget_statements(&mut self) {
        self.prepared.clear();
    }

    /// FATAL, and then neither closes nor listens.
    pub fn say_goodbye_only(&mut self, state: &[u8; 5], text: &str) {
        error(&mut self.out, "FATAL", state, text, "ProcessInterrupts");
        self.running = Some(Running::Silent);
    }

    /// Says what no server says.
    pub fn babble(&mut self) {
        self.out.extend_from_slice(b"Z\0\0\0\x09what");
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

    pub(super) fn flush(&mut self) {
        self.out.append(&mut self.buffered);
    }

    pub(super) fn note(&mut self, now: u64, was_cancelled: bool) {
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
        self.out.append(&mut self.breath);
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
        self.send_heard();
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
        if !is_well_formed(tag, body) {
            self.job = (tag == b'Q').then(|| Job::new(VecDeque::new(), true));
            self.fail(now, b"08P01", "invalid message format");
            return;
        }
        match tag {
            b'Q' => {
                let (text, _) = cut(body);
                self.prepared.remove("");
                self.portals.clear();
                let statements: VecDeque<String> = text
                    .split(';')
                    .map(str::trim)
                    .filter(|text| !text.is_empty())
                    .map(|text| text.strip_prefix("call ").unwrap_or(text).to_owned())
                    .collect();
                if statements.is_empty() {
                    message(&mut self.buffered, b'I', &[]);
                }
                self.job = Some(Job::new(statements, true));
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

    pub(super) fn is_refused(&self, statement: &str) -> bool {
        self.transaction == b'E' && !matches!(statement.to_ascii_lowercase().as_str(), "commit" | "rollback")
    }

    /// Carry out the statements of the message under way, as far as that goes now.
    pub(super) fn run(&mut self, now: u64) {
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

    pub(super) fn columns(&mut self) {
        let mut body = 1u16.to_be_bytes().to_vec();
        body.extend_from_slice(b"c\0");
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
        message(&mut self.buffered, b'T', &body);
    }

    pub(super) fn row(&mut self, value: &str) {
        let mut body = 1u16.to_be_bytes().to_vec();
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
        message(&mut self.buffered, b'D', &body);
    }

    pub(super) fn one_row(&mut self, value: &str) {
        if self.job.as_ref().is_some_and(|job| job.is_simple) {
            self.columns();
        }
        self.row(value);
        self.done("SELECT 1");
    }

    pub(super) fn done(&mut self, tag: &str) {
        message(&mut self.buffered, b'C', format!("{tag}\0").as_bytes());
    }

    pub(super) fn fail(&mut self, now: u64, state: &[u8; 5], text: &str) {
        self.fail_as(now, state, text, "exec");
    }

    /// An error: the job ends; after a simple query comes Ready, after others the wait for a Sync.
    pub(super) fn fail_as(&mut self, _now: u64, state: &[u8; 5], text: &str, routine: &str) {
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

impl Job {
    fn new(statements: VecDeque<String>, is_simple: bool) -> Self {
        Self { statements, is_simple, limit: 0, portal: String::new() }
    }
}

fn error(out: &mut Vec<u8>, severity: &str, state: &[u8; 5], text: &str, routine: &str) {
    error_as(out, b'E', severity, state, text, routine);
}

pub(super) fn error_as(
    out: &mut Vec<u8>,
    tag: u8,
    severity: &str,
    state: &[u8; 5],
    text: &str,
    routine: &str,
) {
    let state = std::str::from_utf8(state).expect("letters");
    let body = format!("S{severity}\0V{severity}\0C{state}\0M{text}\0R{routine}\0\0");
    message(out, tag, body.as_bytes());
}
