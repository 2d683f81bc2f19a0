//! Batches whose prepared statement turned out to be stale on the server: prepared anew and run
//! again, unseen by the client.
//!
//! Only outside transactions, only before any answer has reached the client, and only where the
//! client asks for the columns in the same batch or has never been told them: one that remembers the
//! old columns must get the database's own error, or it would misread the rows. Called by `client` and `server`.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use maitred_wire::effects::Effects;
use maitred_wire::Transaction;

use crate::answers::{Answer, Unit};
use crate::ids::{ServerId, Time};
use crate::server::{Server, State};
use crate::session_state::Settings;
use crate::statements::{Statement, StatementKey, Understood};
use crate::Relay;

/// Largest batch that is kept for a second try.
const KEPT_BYTES: usize = 16 * 1024;

/// A batch as it was sent, until its first answer.
#[derive(Debug, Default)]
pub struct Replay {
    is_on: bool,
    bytes: Vec<u8>,
    answers: Vec<Answer>,
}

impl Server {
    /// Keep what follows, if it begins a batch outside a transaction.
    pub fn begin_recording(&mut self) {
        if self.owed.is_empty() && self.unsynced == 0 && self.transaction == Transaction::None {
            self.replay.is_on = true;
            self.replay.bytes.clear();
            self.replay.answers.clear();
        }
    }

    /// Keep a message as it came, and what it makes owed.
    #[inline]
    pub fn record(&mut self, bytes: &[u8], answer: Option<Answer>) {
        if self.replay.is_on {
            self.replay.bytes.extend_from_slice(bytes);
            self.replay.answers.extend(answer);
            self.replay.is_on = self.replay.bytes.len() <= KEPT_BYTES;
        }
    }

    /// As `record`, for what was written to the output from `start` on.
    pub fn record_written(&mut self, start: usize, answer: Answer) {
        if self.replay.is_on {
            self.replay.bytes.extend_from_slice(&self.output[start..]);
            self.replay.answers.push(answer);
            self.replay.is_on = self.replay.bytes.len() <= KEPT_BYTES;
        }
    }

    #[inline]
    pub fn stop_recording(&mut self) {
        self.replay.is_on = false;
    }

    /// The named statement of the last `Bind` that has not been answered.
    pub fn last_bound(&self) -> Option<StatementKey> {
        self.owed.iter().rev().find_map(|owed| match owed.answer {
            Answer::Bound(key) => Some(key),
            _ => None,
        })?
    }

    /// Close `key` on the server before it is prepared again, if something stale has its name.
    pub fn close_stale(&mut self, key: StatementKey, now: Time) {
        if let Some(at) = self.stale.iter().position(|stale| *stale == key) {
            self.stale.swap_remove(at);
            self.unsynced += 1;
            self.owe(Answer::Closed(Some(key)), false, now);
            self.dialect.write_close(&mut self.output, &key.server_name());
        }
    }

    /// What is prepared now is understood so.
    pub fn understands(&self) -> Understood {
        Understood { epoch: self.shared.definitions.load(Ordering::Acquire), names: self.names }
    }

    /// What it has under this name means something else by now: it is closed before it is prepared again.
    pub fn forget_statement(&mut self, key: StatementKey) {
        if self.statements.has(key) {
            self.statements.remove(key);
            self.stale.push(key);
        }
    }

    /// Is the whole kept batch, and nothing else, what the server owes?
    fn may_replay(&self, must_describe: bool) -> bool {
        let answers = &self.replay.answers;
        self.replay.is_on
            && matches!(self.state, State::Leased(_))
            && self.unsynced == 0
            && self.transaction == Transaction::None
            && answers.last() == Some(&Answer::Ready(Unit::Sync))
            && self.owed.back().map(|owed| owed.answer) == Some(Answer::Ready(Unit::Sync))
            && self.owed.iter().filter(|owed| matches!(owed.answer, Answer::Ready(_))).count() == 1
            && (!must_describe || answers.iter().any(|answer| matches!(answer, Answer::Described(..))))
    }
}

impl Relay {
    pub(crate) fn begin_recording(&mut self, id: ServerId) {
        self.servers[id].begin_recording();
    }

    /// The server called `key` stale: run the batch again with a fresh one. False: it cannot be done.
    ///
    /// `is_harmless`: the client has no idea of the columns that could be wrong now.
    pub(crate) fn heal(&mut self, id: ServerId, key: StatementKey, is_harmless: bool) -> bool {
        let now = self.now;
        let Some(statement) = self.statement_table.known(key) else { return false };
        let server = &mut self.servers[id];
        if !server.may_replay(!is_harmless) {
            return false;
        }
        let replay = std::mem::take(&mut server.replay);
        // The failed batch still owes its Ready, which nobody shall see.
        server.owed.clear();
        server.pending_names.clear();
        server.owe(Answer::Ready(Unit::Sync), false, now);
        server.close_stale(key, now);
        server.statements.insert(key, statement.definition.len(), server.understands());
        server.owe(Answer::Prepared { key: Some(key), named: false }, false, now);
        server.dialect.write_prepare(&mut server.output, &key.server_name(), &statement.definition);
        server.output.extend_from_slice(&replay.bytes);
        server.unsynced = 0;
        for answer in &replay.answers {
            server.owe(*answer, true, now);
        }
        self.pools[server.pool.0 as usize].counters.healed += 1;
        self.flush_server(id);
        true
    }
}

/// Statements by identity, one object each for all clients of a worker.
#[derive(Debug, Default)]
pub struct StatementTable {
    known: HashMap<StatementKey, Weak<Statement>>,
    sweep_at: usize,
}

impl StatementTable {
    /// `judge`: what the text of `definition` shows, and what it runs; asked for only if it is new.
    pub fn intern(
        &mut self,
        key: StatementKey,
        definition: &[u8],
        judge: impl FnOnce() -> (Option<Box<Effects>>, Option<Arc<Statement>>),
    ) -> Arc<Statement> {
        self.intern_in(key, definition, None, judge)
    }

    /// As `intern`, of a statement that was prepared `under` some settings.
    pub fn intern_in(
        &mut self,
        key: StatementKey,
        definition: &[u8],
        under: Option<Arc<Settings>>,
        judge: impl FnOnce() -> (Option<Box<Effects>>, Option<Arc<Statement>>),
    ) -> Arc<Statement> {
        if let Some(statement) = self.known(key) {
            return statement;
        }
        if self.known.len() >= self.sweep_at.max(256) {
            self.known.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at = self.known.len() * 2;
        }
        let (effects, runs) = judge();
        let statement = Arc::new(Statement {
            key,
            definition: definition.into(),
            effects,
            runs,
            under,
            asks: OnceLock::new(),
            parameters: OnceLock::new(),
        });
        self.known.insert(key, Arc::downgrade(&statement));
        statement
    }

    pub fn known(&self, key: StatementKey) -> Option<Arc<Statement>> {
        self.known.get(&key).and_then(Weak::upgrade)
    }
}
