//! LISTEN, UNLISTEN and NOTIFY of the scripted database.
//!
//! Written from PostgreSQL's documentation of the three commands; knows no relay. Called by
//! `statements` for each of them, by `database` at the end of transactions and before each Ready, by
//! `World` to carry what is said from session to session.

use std::collections::{BTreeSet, VecDeque};

use super::database::{message, Session};
use super::World;

/// What a session listens to, and what its open transaction is about to change or say.
#[derive(Debug, Default)]
pub(super) struct Ears {
    listens: BTreeSet<String>,
    /// Of the open transaction, in order: begin or stop to listen; `*` is all.
    pending: Vec<(String, bool)>,
    pending_words: Vec<(String, String)>,
    /// Committed, to be carried to the others.
    said: Vec<(String, String)>,
    /// Heard and not sent yet: who, channel, payload.
    heard: VecDeque<(u32, String, String)>,
}

impl Session {
    pub(super) fn listen(&mut self, channel: &str, begins: bool) {
        self.ears.pending.push((channel.trim_matches('"').to_owned(), begins));
        self.done(if begins { "LISTEN" } else { "UNLISTEN" });
        self.settle_ears(true);
    }

    pub(super) fn notify(&mut self, rest: &str) {
        let (channel, payload) = rest.split_once(' ').unwrap_or((rest, ""));
        self.ears.pending_words.push((channel.to_owned(), payload.to_owned()));
        self.done("NOTIFY");
        self.settle_ears(true);
    }

    /// Outside transactions: what was to be done is done (`keeps`) or never was.
    pub(super) fn settle_ears(&mut self, keeps: bool) {
        if self.transaction != b'I' {
            return;
        }
        let changes = std::mem::take(&mut self.ears.pending);
        let words = std::mem::take(&mut self.ears.pending_words);
        if !keeps {
            return;
        }
        for (channel, begins) in changes {
            match channel.as_str() {
                "*" => self.ears.listens.clear(),
                _ if begins => drop(self.ears.listens.insert(channel)),
                _ => drop(self.ears.listens.remove(&channel)),
            }
        }
        for (channel, payload) in words {
            self.hear(self.key.pid, &channel, &payload);
            self.ears.said.push((channel, payload));
        }
    }

    pub(super) fn stop_listening(&mut self) {
        self.ears.listens.clear();
    }

    pub fn channels(&self) -> Vec<String> {
        self.ears.listens.iter().cloned().collect()
    }

    fn hear(&mut self, pid: u32, channel: &str, payload: &str) {
        if self.ears.listens.contains(channel) {
            self.ears.heard.push_back((pid, channel.to_owned(), payload.to_owned()));
        }
    }

    /// Send what was heard, if no transaction is open.
    pub(super) fn send_heard(&mut self) {
        if self.transaction != b'I' {
            return;
        }
        for (pid, channel, payload) in std::mem::take(&mut self.ears.heard) {
            let body = [&pid.to_be_bytes(), channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat();
            message(&mut self.buffered, b'A', &body);
        }
    }
}

impl World {
    /// Carry what a session has said to the others of its database.
    pub(super) fn carry_words(&mut self, from: usize) {
        let words = std::mem::take(&mut self.lines[from].session.ears.said);
        if words.is_empty() {
            return;
        }
        let pid = self.lines[from].session.key.pid;
        for line in 0..self.lines.len() {
            let is_meant = line != from
                && self.lines[line].endpoint == self.lines[from].endpoint
                && self.lines[line].session.is_logged_in();
            if !is_meant {
                continue;
            }
            let session = &mut self.lines[line].session;
            for (channel, payload) in &words {
                session.hear(pid, channel, payload);
            }
            if !session.is_busy() {
                session.send_heard();
                session.flush();
                self.collect(line);
            }
        }
    }
}
