//! A scripted MySQL or MariaDB: one session per connection, statements of a small language, real rules.
//!
//! Never touches a relay. Driven by `World`, which carries its bytes and wakes it; what the statements mean is
//! in `statements`.

use std::collections::VecDeque;

use super::answers::{Failure, Outcome};
use super::login::{self, Response};
use super::packets::{put_packet, take_int, Packets};
use super::prepared::Statements;
use super::statements::Left;
use super::tracker::Change;
use super::variables::Variables;
use crate::sim::database::{Door, Ran};
use crate::sim::parts::trace;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Login,
    /// It has asked for another answer.
    Switched,
    Serving,
    Over,
}

/// What runs now and does not end at once.
#[derive(Debug)]
pub(super) enum Running {
    Sleep {
        until: u64,
        then: Outcome,
    },
    /// The client sends a file.
    File {
        bytes: Vec<u8>,
    },
    Silent,
}

/// How rows are written, and whether they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub is_binary: bool,
    /// The statement whose cursor keeps them.
    pub cursor: Option<u32>,
}

/// One session of the scripted database.
#[derive(Debug)]
pub struct Session {
    pub number: usize,
    /// By which others stop it.
    pub id: u32,
    pub is_mariadb: bool,
    pub door: Door,
    /// Bytes ready to be sent; `World` takes them.
    pub out: Vec<u8>,
    /// It closes when `out` has been sent.
    pub is_over: bool,
    pub ran: Vec<Ran>,
    pub capabilities: u64,
    /// Sessions that are to be stopped, for `World` to carry, and whether they are to end.
    pub kills: Vec<(u32, bool)>,
    /// It refuses to prepare anything.
    pub refuses_to_prepare: bool,
    /// How many statements it takes; None: as many as one likes.
    pub most_statements: Option<usize>,
    /// A schema that is no more.
    pub dropped_schema: Option<String>,
    pub was_told_goodbye: bool,
    /// Commands that it has heard, by their numbers.
    pub heard: Vec<u8>,
    phase: Phase,
    packets: Packets,
    pub(super) sequence: u8,
    pub(super) running: Option<Running>,
    pub(super) queue: VecDeque<String>,
    pub(super) form: Form,
    pub(super) is_kill_pending: bool,
    pub(super) changes: Vec<Change>,
    pub(super) variables: Variables,
    pub(super) left: Left,
    pub(super) statements: Statements,
}

impl Session {
    pub fn new(number: usize, door: Door, is_mariadb: bool) -> Self {
        Self {
            number,
            id: 5000 + number as u32,
            is_mariadb,
            door,
            out: Vec::new(),
            is_over: false,
            ran: Vec::new(),
            capabilities: 0,
            kills: Vec::new(),
            refuses_to_prepare: false,
            most_statements: None,
            dropped_schema: None,
            was_told_goodbye: false,
            heard: Vec::new(),
            phase: Phase::Login,
            packets: Packets::default(),
            sequence: 0,
            running: None,
            queue: VecDeque::new(),
            form: Form::default(),
            is_kill_pending: false,
            changes: Vec::new(),
            variables: Variables::new(45),
            left: Left::new(number),
            statements: Statements::new(number),
        }
    }

    /// Somebody has connected.
    pub fn greet(&mut self) {
        if let (Door::Refuse(state, text), true) = (self.door.clone(), self.number % 2 == 0) {
            // Why only some: with too many connections the error stands in the place of the greeting.
            self.refuse(state, &text);
            return;
        }
        if self.door != Door::Mute {
            let version = if self.is_mariadb { "5.5.5-10.11.2-MariaDB" } else { "8.4.2" };
            self.packet(&login::greeting(version, self.id));
        }
    }

    pub fn is_logged_in(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// When it wants to be woken.
    pub fn wake_at(&self) -> Option<u64> {
        match &self.running {
            Some(Running::Sleep { until, .. }) => Some(*until),
            _ => None,
        }
    }

    /// Does it do nothing, for nobody?
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Serving && self.running.is_none() && !self.is_in_transaction()
    }

    pub fn end(&mut self) {
        self.phase = Phase::Over;
        self.is_over = true;
        self.running = None;
        self.queue.clear();
    }

    /// The database wants this session to end: an error, then closed.
    pub fn terminate(&mut self) {
        self.fail(&Failure::new(1927, b"70100", "Connection was killed"));
        self.end();
    }

    /// Says what no server says.
    pub fn babble(&mut self) {
        self.out.extend_from_slice(b"\x03\0\0\0\x01ab");
    }

    /// Bytes from the relay.
    pub fn feed(&mut self, now: u64, bytes: &[u8]) {
        if self.phase != Phase::Over {
            self.packets.feed(bytes);
            self.go_on(now);
        }
    }

    /// Time has come for what runs.
    pub fn wake(&mut self, now: u64) {
        if !matches!(&self.running, Some(Running::Sleep { until, .. }) if *until <= now) {
            return;
        }
        let Some(Running::Sleep { then, .. }) = self.running.take() else { return };
        self.note(now, false);
        self.finish(now, then);
        self.go_on(now);
    }

    /// Somebody has said `KILL QUERY`.
    ///
    /// Spec: MySQL manual, "KILL Statement"; one that comes when nothing runs hits what comes next.
    pub fn cancel(&mut self, now: u64) {
        if let Some(Running::Sleep { .. }) = &self.running {
            self.running = None;
            self.note(now, true);
            self.finish(now, Outcome::Failed(Failure::interrupted()));
            self.go_on(now);
        } else {
            self.is_kill_pending = true;
        }
    }

    pub(super) fn note(&mut self, now: u64, was_cancelled: bool) {
        if let Some(text) = self.queue.front() {
            self.ran.push(Ran { at: now, text: text.clone(), was_cancelled });
        }
    }

    pub(super) fn packet(&mut self, payload: &[u8]) {
        put_packet(&mut self.out, &mut self.sequence, payload);
    }

    fn refuse(&mut self, state: [u8; 5], text: &str) {
        let number = if &state == b"53300" { 1040 } else { 1045 };
        self.fail(&Failure::new(number, b"08004", text));
        self.end();
    }

    fn go_on(&mut self, now: u64) {
        while self.phase != Phase::Over
            && !matches!(self.running, Some(Running::Sleep { .. } | Running::Silent))
        {
            if matches!(self.running, Some(Running::File { .. })) && !self.packets.is_next(self.sequence) {
                // A goodbye that crossed the wish for a file: to the server, a file that is broken.
                return self.end();
            }
            let Some(payload) = self.packets.next(&mut self.sequence, "the database") else { return };
            match self.phase {
                Phase::Login => self.log_in(&payload),
                Phase::Switched => self.let_in(),
                _ if matches!(self.running, Some(Running::File { .. })) => self.take_file(now, &payload),
                _ => {
                    self.command(now, &payload);
                    if self.running.is_none() {
                        self.sequence = 0;
                    }
                }
            }
        }
    }

    fn log_in(&mut self, payload: &[u8]) {
        match self.door.clone() {
            Door::Hangup => return self.end(),
            Door::Refuse(state, text) => return self.refuse(state, &text),
            _ => {}
        }
        let response = Response::read(payload);
        self.capabilities = response.capabilities;
        self.variables = Variables::new(response.collation);
        self.left.schema = response.database;
        if self.left.schema.starts_with("no_") {
            let text = format!("Unknown database '{}'", self.left.schema);
            self.fail(&Failure::new(1049, b"42000", &text));
            return self.end();
        }
        if self.number % 3 == 1 {
            self.packet(b"\xfemysql_native_password\0saltsaltsaltsaltsalt\0");
            self.phase = Phase::Switched;
        } else {
            self.let_in();
        }
    }

    fn let_in(&mut self) {
        self.phase = Phase::Serving;
        self.done(0, 0, "");
        self.sequence = 0;
    }

    fn take_file(&mut self, now: u64, payload: &[u8]) {
        let Some(Running::File { bytes }) = &mut self.running else { return };
        bytes.extend_from_slice(payload);
        if payload.is_empty() {
            let count = bytes.len() as u64;
            self.running = None;
            self.note(now, false);
            let info = format!("Records: {count}  Deleted: 0  Skipped: 0  Warnings: 0");
            self.finish(now, Outcome::Done { affected: count, insert_id: 0, info });
        }
    }

    fn command(&mut self, now: u64, payload: &[u8]) {
        let (kind, mut body) = (payload[0], &payload[1..]);
        self.heard.push(kind);
        trace(|| format!("{now}   session {} hears {kind:x} {}", self.number, String::from_utf8_lossy(body)));
        let is_hit = std::mem::take(&mut self.is_kill_pending) && matches!(kind, 0x03 | 0x16 | 0x17 | 0x1c);
        if is_hit {
            self.fail(&Failure::interrupted());
            return;
        }
        let text = || String::from_utf8_lossy(body).into_owned();
        match kind {
            0x01 => {
                self.was_told_goodbye = true;
                self.end();
            }
            0x02 => {
                let outcome = self.use_schema(&text());
                self.finish(now, outcome);
            }
            0x03 => self.query(now, &text()),
            0x04 => {
                self.column("c");
                self.rows_end(0);
            }
            0x09 => self.packet(b"Uptime: 1"),
            0x0c => {
                let id = take_int(&mut body, 4) as u32;
                self.kills.push((id, true));
                self.done(0, 0, "");
            }
            0x0e => self.done(0, 0, ""),
            0x16 => self.prepare(&text()),
            0x17 => self.execute(now, body),
            0x18 => self.append(body),
            0x19 => self.close(body),
            0x1a => self.rewind(body),
            0x1c => self.fetch(body),
            0x1f => {
                self.renew();
                self.done(0, 0, "");
            }
            _ => self.fail(&Failure::new(1047, b"08S01", "Unknown command")),
        }
    }

    fn query(&mut self, now: u64, text: &str) {
        let statements: VecDeque<String> =
            super::values::split(text, ";").into_iter().filter(|text| !text.is_empty()).collect();
        self.form = Form::default();
        if statements.is_empty() {
            self.fail(&Failure::new(1065, b"42000", "Query was empty"));
        } else if statements.len() > 1 && self.capabilities & super::can::MULTI_STATEMENTS == 0 {
            self.fail(&Failure::new(1064, b"42000", "You have an error in your SQL syntax"));
        } else {
            self.queue = statements;
            self.run(now);
        }
    }

    /// Carry out the statements of the command under way, as far as that goes now.
    pub(super) fn run(&mut self, now: u64) {
        while let Some(statement) = self.queue.front().cloned() {
            match self.carry_out(&statement) {
                Outcome::Sleep { us, then } => {
                    self.running = Some(Running::Sleep { until: now + us, then: *then });
                    return;
                }
                Outcome::Silent => {
                    self.running = Some(Running::Silent);
                    return;
                }
                Outcome::File(name) => {
                    self.packet(&[&[0xfb], name.as_bytes()].concat());
                    self.running = Some(Running::File { bytes: Vec::new() });
                    return;
                }
                outcome => {
                    self.note(now, false);
                    self.answer(outcome);
                }
            }
        }
    }

    /// What suspended the command is over, or it was no query.
    pub(super) fn finish(&mut self, now: u64, outcome: Outcome) {
        self.answer(outcome);
        self.run(now);
        if self.running.is_none() {
            self.sequence = 0;
        }
    }

    /// A new session in the same connection. Spec: "COM_RESET_CONNECTION".
    fn renew(&mut self) {
        let schema = std::mem::take(&mut self.left.schema);
        self.variables = Variables::new(self.variables.collation);
        self.left = Left::new(self.number);
        self.left.schema = schema;
        self.statements.forget();
        self.changes.clear();
    }
}
