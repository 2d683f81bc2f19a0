//! What a server owes: one entry for each answer that is still to come, counted off as they come.
//!
//! Only the account; passing the bytes on is `server`'s, lending is `pool`'s. Called by `server` for
//! each message of a server and by `forward` for each of a client.

use std::sync::Arc;

use maitred_wire::dialect::Explained;
use maitred_wire::{CopyDirection, Fault, Progress, Reply, Target, Transaction};

use crate::ids::Time;
use crate::server::Server;
use crate::statements::{Statement, StatementKey};

/// What ended in a `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Query,
    Call,
    Sync,
    /// A command whose answer is built so.
    Reply(Reply),
}

impl Unit {
    /// May there be rows in its answer?
    fn has_rows(self) -> bool {
        matches!(self, Unit::Query | Unit::Reply(_))
    }
}

/// An answer that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ready(Unit),
    /// `named`: the client gave it a name, noted in `pending_names`.
    Prepared {
        key: Option<StatementKey>,
        named: bool,
    },
    PreparedUnnamed,
    Bound(Option<StatementKey>),
    Closed(Option<StatementKey>),
    Described(Target, Option<StatementKey>),
    Executed,
    /// Not the server's: we say it when everything before it has been answered.
    SayPrepared,
    SayClosed,
    /// Not an answer: the client sent the end of COPY data here.
    CopyEnded,
    /// The server will fail here, made to by us; the client is shown one of our `refusals` instead.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    pub answer: Answer,
    /// The client is waiting for it. False: it answers something that we asked.
    pub shown: bool,
    /// It answers what brings the server to the state of its client.
    pub adjusts: bool,
    /// Which statements of it show why the server would say that its session's state changed.
    pub explained: Explained,
    /// One of several statements was carried out.
    pub goes_on: bool,
}

/// What an error made void.
#[derive(Debug, Default)]
pub struct Skipped {
    /// The client sees the error.
    pub shown: bool,
    /// Names of the client's statements that were not prepared.
    pub unprepared: Vec<Box<[u8]>>,
    /// Those that were not closed.
    pub unclosed: Vec<(Box<[u8]>, Arc<Statement>)>,
    pub lost_unnamed: bool,
}

impl Server {
    pub fn owe(&mut self, answer: Answer, shown: bool, now: Time) {
        if self.asked_at == Time::NEVER {
            self.asked_at = now;
            self.unit_at = now;
        }
        let explained = self.explaining;
        self.owed.push_back(Owed { answer, shown, adjusts: false, explained, goes_on: false });
    }

    /// Owe what nobody but us has asked for.
    pub(crate) fn owe_hidden(&mut self, now: Time) {
        self.owe(Answer::Ready(Unit::Query), false, now);
    }

    /// Owe what brings it to the state of its client, hidden.
    pub(crate) fn owe_adjustment(&mut self, now: Time) {
        self.owe_hidden(now);
        if let Some(owed) = self.owed.back_mut() {
            owed.adjusts = true;
        }
    }

    /// Does what comes next from it answer such a thing?
    pub(crate) fn is_adjusting(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.adjusts)
    }

    /// Nothing is owed and nothing half done: the next client may have it, once clean.
    pub fn is_free(&self) -> bool {
        self.owed.is_empty()
            && self.unsynced == 0
            && !self.skipping
            && self.transaction == Transaction::None
            && self.copy.is_none()
            && self.held.is_empty()
            && self.passing == 0
            && self.input.is_empty()
    }

    /// Is a query of its client running (or about to)?
    pub fn is_working(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Does its client wait for an answer?
    pub fn is_awaited(&self) -> bool {
        self.owed.iter().any(|owed| owed.shown)
    }

    /// What the answer that comes next is built like.
    #[inline]
    pub(crate) fn asked(&self) -> Reply {
        match self.owed.front().map(|owed| owed.answer) {
            Some(Answer::Ready(Unit::Reply(reply))) => reply,
            _ => Reply::Rows,
        }
    }

    pub fn backlog(&self) -> usize {
        self.output.len() + self.in_flight
    }

    /// Count one message off against what is owed. Returns whether the client sees it.
    ///
    /// # Errors
    /// The message answers nothing that was asked.
    #[inline]
    pub(crate) fn settle_answer(&mut self, progress: Progress) -> Result<bool, Fault> {
        let front = self.owed.front().copied();
        let (answer, shown) = match front {
            Some(owed) => (owed.answer, owed.shown),
            None => return Err(Fault("an answer to nothing")),
        };
        let is_running = match answer {
            Answer::Executed => true,
            Answer::Ready(unit) => unit.has_rows(),
            _ => false,
        };
        let fits = match progress {
            Progress::Data => is_running,
            Progress::CopyData | Progress::CopyDone => is_running && self.copy.is_some(),
            Progress::Parameters => matches!(answer, Answer::Described(Target::Statement, _)),
            Progress::Columns => match answer {
                Answer::Described(..) => self.pop_answer(),
                Answer::Ready(unit) => unit.has_rows(),
                _ => false,
            },
            Progress::Finished => {
                self.copy = None;
                match answer {
                    Answer::Executed => self.pop_answer(),
                    Answer::Ready(unit) => unit.has_rows(),
                    _ => false,
                }
            }
            Progress::Prepared => {
                answer == Answer::Ready(Unit::Reply(Reply::Prepared))
                    || matches!(answer, Answer::Prepared { .. } | Answer::PreparedUnnamed)
                        && self.pop_answer()
            }
            Progress::Bound => matches!(answer, Answer::Bound(_)) && self.pop_answer(),
            Progress::Closed => matches!(answer, Answer::Closed(_)) && self.pop_answer(),
            Progress::Called => answer == Answer::Ready(Unit::Call),
            Progress::Copy(direction) => {
                self.begin_copy(direction, answer)?;
                is_running
            }
            Progress::Ready(transaction) => {
                self.copy = None;
                self.transaction = transaction;
                matches!(answer, Answer::Ready(_)) && self.pop_answer()
            }
            Progress::Failed
            | Progress::Setting
            | Progress::Aside
            | Progress::Notification
            | Progress::Key => false,
        };
        if fits {
            Ok(shown)
        } else {
            Err(Fault("an answer of the wrong kind"))
        }
    }

    pub(crate) fn pop_answer(&mut self) -> bool {
        if let Some(owed) = self.owed.pop_front() {
            self.settled = Some(owed);
        }
        // A COPY ending that no COPY consumed was a stray, which the server has ignored.
        while matches!(self.owed.front(), Some(Owed { answer: Answer::CopyEnded, .. })) {
            self.owed.pop_front();
        }
        if self.owed.is_empty() {
            self.asked_at = Time::NEVER;
        }
        true
    }

    /// Spec: "COPY Operations": a server in copy-in mode ignores Flush and Sync. Those that were
    /// sent after an Execute and before the end of the data have been, so their `Ready` will not come.
    ///
    /// # Errors
    /// The client sent a request behind its COPY and before the end of the data: the server takes it
    /// for data of a wrong kind, and what it answers to the rest is not worth guessing.
    pub(crate) fn begin_copy(&mut self, direction: CopyDirection, answer: Answer) -> Result<(), Fault> {
        self.copy = Some(direction);
        self.copy_failed = false;
        if direction != CopyDirection::In {
            return Ok(());
        }
        let mut ignored = 0;
        while let Some(Owed { answer: next, .. }) = self.owed.get(1) {
            match next {
                Answer::Ready(Unit::Sync) => ignored += u32::from(answer == Answer::Executed),
                // The client sent its data without waiting to be asked, up to the end.
                Answer::CopyEnded => self.copy = None,
                // After the error everything up to the Sync is skipped, this with the rest.
                _ if answer == Answer::Executed => break,
                _ => return Err(Fault("a request came behind COPY FROM STDIN, before its data")),
            }
            self.owed.remove(1);
            if self.copy.is_none() {
                break;
            }
        }
        // Why not always: the client may have sent the Sync that counts already, behind its data.
        if !self.owed.iter().any(|owed| matches!(owed.answer, Answer::Ready(_))) {
            self.unsynced += ignored;
        }
        Ok(())
    }

    /// Does it take COPY data of its client now?
    pub fn is_copying_in(&self) -> bool {
        self.copy == Some(CopyDirection::In)
    }

    /// Is the COPY part of a batch, which a `Sync` must end?
    pub fn is_copy_in_batch(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.answer == Answer::Executed)
    }

    /// The client ends its COPY data, or some COPY that may yet begin.
    pub fn end_copy(&mut self) {
        if self.copy == Some(CopyDirection::In) {
            self.copy = None;
        } else {
            let (answer, explained) = (Answer::CopyEnded, Explained::NOTHING);
            self.owed.push_back(Owed { answer, shown: false, adjusts: false, explained, goes_on: false });
        }
    }

    /// Is something ours to say next?
    pub(crate) fn is_speech_due(&self) -> bool {
        matches!(self.owed.front(), Some(Owed { answer: Answer::SayPrepared | Answer::SayClosed, .. }))
    }

    /// Count an error off, and what is skipped because of it.
    pub(crate) fn settle_failure(&mut self) -> Skipped {
        self.copy = None;
        let mut skipped = Skipped::default();
        if let Some(Owed { answer: Answer::Ready(_), shown, .. }) = self.owed.front() {
            // The error belongs to a query, a call, or to the commit in a Sync: its Ready follows.
            skipped.shown = *shown;
            return skipped;
        }
        // A step failed: the server skips everything, queries and calls too, up to the Sync.
        while let Some(owed) = self.owed.front().copied() {
            skipped.shown |= owed.shown;
            match owed.answer {
                Answer::Ready(Unit::Sync) => break,
                Answer::Prepared { key, named } => {
                    if let Some(key) = key {
                        self.statements.remove(key);
                    }
                    if named {
                        skipped.unprepared.extend(self.pending_names.pop_front());
                    }
                }
                Answer::PreparedUnnamed => {
                    // Whatever it has now, it is not what was noted.
                    self.statements.unnamed = None;
                    skipped.lost_unnamed |= owed.shown;
                }
                Answer::SayPrepared => skipped.unprepared.extend(self.pending_names.pop_front()),
                Answer::SayClosed => skipped.unclosed.extend(self.pending_closes.pop_front()),
                Answer::Refused => drop(self.refusals.pop_front()),
                // What was to close it was skipped; it is there, and wants to be closed again.
                Answer::Closed(Some(key)) => self.stale.push(key),
                _ => {}
            }
            self.pop_answer();
        }
        self.skipping = self.owed.is_empty();
        let is_unnamed_to_come = |owed: &Owed| owed.shown && owed.answer == Answer::PreparedUnnamed;
        skipped.lost_unnamed &= !self.owed.iter().any(is_unnamed_to_come);
        skipped
    }
}
