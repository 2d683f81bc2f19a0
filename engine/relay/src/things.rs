//! What a session holds by name, and what its server tells of it without being asked (MySQL).
//!
//! Asks nothing itself: `trace` does. Called by `trace` for its answers, by `commands` for each end of a statement.

use maitred_wire::dialect::{Change, Explained, Outcome};
use maitred_wire::effects::{Effects, Question, Thing, Things, Traces};
use maitred_wire::{Dialect, Fault, Transaction};

use crate::answers::{Answer, Unit};
use crate::budget::Welcome;
use crate::ids::{ClientId, ServerId, Time};
use crate::made::Made;
use crate::server::Server;
use crate::session_state::Settings;
use crate::snapshot::PoolMode;
use crate::trace::Trace;
use crate::Relay;

/// How long one waits before servers are asked what routines have left in them: asking undoes it.
const PATIENCE_MS: u64 = 5;
const OPENING_PATIENCE_MS: u64 = 200;
const LOOK_AGAIN_MS: u64 = 50;

/// The setting that says it.
pub(crate) const SCHEMA: &str = "schema";

/// What a server said that something has changed of, at the end of rows, which cannot say what; or may have had to
/// say with an error. Measured: MariaDB 10.11 tells it with the next SET or the next transaction, MySQL 9.7 with
/// whatever comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unexplained {
    #[default]
    Nothing,
    /// Within a transaction: MariaDB calls it a change that a transaction has read. Hence most often nothing else.
    Transaction,
    /// A statement failed, which may have run a trigger or a routine. Most often nothing has changed.
    Failure,
    Session,
}

/// The schema that names without one stand for under these settings, in sessions that begin with those of `fresh`.
pub(crate) fn schema_under<'a>(settings: &'a Settings, fresh: Option<&'a Welcome>) -> Option<&'a str> {
    value_under(settings, fresh, SCHEMA).filter(|schema| !schema.is_empty())
}

/// What a setting is under these, in sessions that begin with those of `fresh`.
pub(crate) fn value_under<'a>(
    settings: &'a Settings,
    fresh: Option<&'a Welcome>,
    name: &str,
) -> Option<&'a str> {
    settings.value(name).or_else(|| fresh?.settings.value(name))
}

fn is_gone(thing: &Thing) -> bool {
    let is_new = matches!(thing, Thing::Made(..) | Thing::Prepared(..));
    !is_new && !matches!(thing, Thing::Obscured(_) | Thing::Elsewhere(..))
}

/// Does the client give something back?
fn gives_back(effects: &Effects) -> bool {
    effects.ends.has(Traces::LOCKS) || effects.things.iter().any(is_gone)
}

impl Trace {
    /// Take over what texts say that have been answered.
    pub(crate) fn note_things(&mut self, made: &mut Made, things: &[Thing], has_failed: bool) {
        let unnamed = |held: &Things| (held.unnamed(Traces::TEMPORARY), held.unnamed(Traces::PREPARED));
        let before = unnamed(&self.held);
        self.held.note(things, has_failed);
        let after = unnamed(&self.held);
        made.note_named(before.0.saturating_sub(after.0), before.1.saturating_sub(after.1));
        made.note(things, has_failed);
    }

    /// What of `begins` stays without being asked for, and what is held by name.
    pub(crate) fn lasting(&self, begins: Traces, asked: Traces, dialect: Dialect) -> Traces {
        let by_name = dialect.kinds_by_name();
        let mut lasting = begins.without(dialect.provable()).without(by_name);
        if !by_name.is_empty() {
            // Why: the server tells when that is over.
            lasting = lasting.without(Traces::NEXT_TRANSACTION);
        }
        lasting.add(self.held.kinds().without(dialect.provable()));
        lasting.add(begins.and(Traces::ROUTINE).without(asked));
        lasting
    }

    /// What is not asked yet. Why: to ask what a routine has left undoes it, so its client keeps the server until
    /// somebody else wants one, or until it gives a lock back.
    pub(crate) fn spared(&self, effects: &Effects, is_wanted: bool) -> Traces {
        if is_wanted || gives_back(effects) {
            Traces::NONE
        } else {
            Traces::ROUTINE
        }
    }

    /// Take over what an answer says of things with names; returns the kinds that pin.
    pub(crate) fn keep_things(
        &mut self,
        effects: &Effects,
        question: &Question,
        left: Traces,
        settings: &mut Settings,
        limit: u64,
        dialect: Dialect,
    ) -> Traces {
        let by_name = dialect.kinds_by_name();
        if by_name.is_empty() {
            return Traces::NONE;
        }
        if question.traces.has(Traces::LOCKS) && !left.has(Traces::LOCKS) {
            self.held.forget(Traces::LOCKS);
        }
        let found = [(Traces::VARIABLES, ""), (Traces::TEMPORARY, ""), (Traces::CLOCK, "timestamp")];
        let found = found.into_iter().filter(|(kind, _)| left.has(*kind));
        let mut found: Vec<Thing> = found.map(|(kind, name)| Thing::Made(kind, name.into())).collect();
        for thing in &effects.things {
            match thing {
                Thing::Prepared(name, text) => {
                    let fits = settings.set_within(&dialect.name_among_settings(name), text, limit);
                    found.extend((!fits).then(|| Thing::Made(Traces::PREPARED, name.clone())));
                }
                Thing::Forgotten(name) => drop(settings.remove(&dialect.name_among_settings(name))),
                _ => {}
            }
        }
        self.held.note(&found, false);
        self.held.kinds().without(dialect.provable())
    }

    /// Its pins are those of what is held, as far as names go.
    fn agree_with_held(&mut self, dialect: Dialect) {
        let by_name = dialect.kinds_by_name().without(dialect.provable());
        self.pins = self.pins.without(by_name);
        self.pins.add(self.held.kinds().and(by_name));
    }

    /// Has a routine been called since the server was asked last, or is the next transaction's kind settled?
    fn may_have_routine(&self) -> bool {
        self.pending.begins.has(Traces::ROUTINE) || self.pins.has(Traces::NEXT_TRANSACTION)
    }

    /// A statement has come: what lasted until it is over, or may be.
    pub(crate) fn next_statement(&mut self) {
        if self.pins.has(Traces::INSERT_ID) {
            // Whether that is still to be given to a row is asked again.
            self.pins = self.pins.without(Traces::INSERT_ID);
            self.pending.begins.add(Traces::INSERT_ID);
        }
        self.pins = self.pins.without(Traces::FOUND_ROWS);
        self.pending.begins = self.pending.begins.without(Traces::FOUND_ROWS);
    }
}

impl Server {
    /// What made the statement `name` of SQL's own, if its client made or forgot one of this name in this lease;
    /// Some(None): it forgot it.
    pub(crate) fn made_here(&self, name: &str) -> Option<Option<&str>> {
        let things = self.trace.as_ref()?.settled.as_ref()?;
        things.iter().rev().find_map(|thing| match thing {
            Thing::Prepared(of, made) if **of == *name => Some(Some(&**made)),
            Thing::Forgotten(of) if **of == *name => Some(None),
            _ => None,
        })
    }

    /// May it have a statement of this name that no text shows, or whose text cannot be said again?
    pub(crate) fn may_have_unseen(&self, name: &str) -> bool {
        let Some(trace) = &self.trace else { return false };
        let hides = Traces::ROUTINE.with(Traces::UNKNOWN);
        let is_hidden = |effects: &Effects| effects.settings.unnamed || effects.begins.has(hides);
        // Why variables: where a server does not tell of those, it does not tell of statements either.
        trace.pins.has(hides.with(Traces::VARIABLES))
            || trace.held.names(Traces::PREPARED).any(|held| held.is_empty() || held == name)
            || self.suspected().any(is_hidden)
    }

    /// Does what it has answered show by itself why its session's state would have changed?
    fn is_explained(&self) -> bool {
        self.settled.is_some_and(|owed| owed.explained.is_so())
    }

    /// Have it tell, hidden, whatever it has to tell of its session.
    pub(crate) fn ask_for_untold(&mut self, now: Time) {
        self.dialect.write_tracking(&mut self.output);
        self.made.note_set();
        self.owe_hidden(now);
    }

    /// What the last statement said of things with names is known now to be so, or not.
    pub(crate) fn settle_things(&mut self) {
        let Some(trace) = &mut self.trace else { return };
        let has_failed = std::mem::take(&mut trace.has_statement_failed);
        let mut things = std::mem::take(&mut trace.pending.things);
        if things.is_empty() {
            return;
        }
        trace.note_things(&mut self.made, &things, has_failed);
        things.retain(|thing| !has_failed || !matches!(thing, Thing::Prepared(..) | Thing::Forgotten(_)));
        trace.settled.get_or_insert_with(Vec::new).append(&mut things);
    }
}

impl Relay {
    /// A statement of the client's begins.
    #[inline]
    pub(crate) fn begin_statement(&mut self, id: ServerId, text: &[u8], effects: Option<&Effects>) {
        let server = &mut self.servers[id];
        server.settle_things();
        server.explaining = server.dialect.explained(text, effects);
        if let Some(trace) = &mut server.trace {
            trace.next_statement();
        }
    }

    /// A server tells what changed in its session.
    ///
    /// # Errors
    /// It is not well formed.
    pub(crate) fn note_changes(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        changed: &[u8],
    ) -> Result<(), Fault> {
        let now = self.now;
        let dialect = self.servers[id].dialect;
        // Why: what ends of rows could not tell before is told with this, whatever this statement is.
        let server = &mut self.servers[id];
        let was_untold = std::mem::take(&mut server.unexplained) != Unexplained::Nothing;
        let is_explained = !was_untold && server.is_explained();
        for change in dialect.changes_of(changed) {
            match change? {
                Change::Setting(name, value) => {
                    self.note_setting(id, client, dialect.usual_name(name), value, false);
                }
                Change::Schema(name) => {
                    self.note_setting(id, client, SCHEMA.as_bytes(), name, false);
                }
                // Why: whose it was has left, and who comes next must not answer for it.
                Change::Unnamed if client.is_none() => self.servers[id].must_reset |= !is_explained,
                Change::Characteristics(true) | Change::Locked(true) if client.is_none() => {
                    self.servers[id].must_reset = true;
                }
                Change::Unnamed if !is_explained && self.is_shared(id) => {
                    let unseen = dialect.effects_unseen();
                    self.servers[id].trace_mut(now).pending.add(&unseen);
                }
                Change::Characteristics(is_next) => {
                    if is_next && self.is_shared(id) {
                        self.servers[id].trace_mut(now).pins.add(Traces::NEXT_TRANSACTION);
                    } else if let Some(trace) = &mut self.servers[id].trace {
                        trace.pins = trace.pins.without(Traces::NEXT_TRANSACTION);
                    }
                }
                Change::Locked(is_locked) => {
                    if is_locked && self.is_shared(id) {
                        let thing = Thing::Made(Traces::TABLE_LOCKS, "tables".into());
                        let trace = self.servers[id].trace_mut(now);
                        trace.held.note(&[thing], false);
                        trace.agree_with_held(dialect);
                    } else if let Some(trace) = &mut self.servers[id].trace {
                        trace.held.forget(Traces::TABLE_LOCKS);
                        trace.agree_with_held(dialect);
                    }
                }
                Change::Unnamed | Change::Other => {}
            }
        }
        Ok(())
    }

    /// A statement has failed: what it had changed until then, its server has not told.
    pub(crate) fn note_untold_by_failure(&mut self, id: ServerId) {
        if self.is_shared(id) && !self.servers[id].is_explained() {
            let server = &mut self.servers[id];
            server.unexplained = server.unexplained.max(Unexplained::Failure);
        }
    }

    /// Rows have ended in a way that does not tell what changed meanwhile, in a view or a function.
    pub(crate) fn note_silent_end(&mut self, id: ServerId, outcome: &Outcome<'_>) {
        if !self.is_shared(id) {
            return;
        }
        let now = self.now;
        let server = &mut self.servers[id];
        if outcome.has_changed() {
            let is_inside = outcome.is_in_transaction();
            let what = if is_inside { Unexplained::Transaction } else { Unexplained::Session };
            server.unexplained = server.unexplained.max(what);
        } else if !outcome.goes_on() && server.trace.as_ref().is_some_and(|trace| trace.may_have_routine()) {
            server.explaining = Explained::NOTHING;
            server.dialect.write_sync(&mut server.output);
            server.owe(Answer::Ready(Unit::Sync), false, now);
            self.flush_server(id);
        }
    }

    /// Ask a server what it has changed and not told yet. Returns whether there was something.
    pub(crate) fn ask_what_changed(&mut self, id: ServerId) -> bool {
        let now = self.now;
        let server = &mut self.servers[id];
        match std::mem::take(&mut server.unexplained) {
            Unexplained::Nothing => return false,
            Unexplained::Transaction if server.transaction == Transaction::None => {
                server.explaining = Explained::NOTHING;
                for _ in 0..server.dialect.write_empty_transaction(&mut server.output) {
                    server.owe_hidden(now);
                }
            }
            Unexplained::Failure => {
                server.explaining = Explained::NOTHING;
                server.ask_for_untold(now);
            }
            _ => {
                let unseen = server.dialect.effects_unseen();
                server.trace_mut(now).pending.add(&unseen);
                server.explaining = Explained::ALL;
                server.ask_for_untold(now);
            }
        }
        self.disturb(self.servers[id].client());
        self.flush_server(id);
        true
    }

    /// Does somebody wait for a server of this pool, who gets no other?
    pub(crate) fn is_wanted(&self, id: ServerId) -> bool {
        let at = self.servers[id].pool;
        let pool = &self.pools[at.0 as usize];
        // Why a while: one that is idle elsewhere may be on its way, and one that is being opened, too.
        let patience_ms = if pool.shared.is_opening() { OPENING_PATIENCE_MS } else { PATIENCE_MS };
        let is_old = |since: Time| since.after_ms(patience_ms) <= self.now;
        pool.waiting > 0 && self.oldest_waiter(at).is_some_and(is_old)
            || pool.shared.longest_waiting(self.worker).is_some_and(|(_, since)| is_old(since))
    }

    /// When is a server that is kept for what a routine may have left looked at again?
    pub(crate) fn look_again(&self, id: ServerId) -> Time {
        let is_kept = self.servers[id].pins().has(Traces::ROUTINE);
        if is_kept {
            self.now.after_ms(LOOK_AGAIN_MS)
        } else {
            Time::NEVER
        }
    }

    /// What a routine may have left is to be asked for, if its server is wanted or its client gives a lock back.
    pub(crate) fn doubt_routine(&mut self, id: ServerId) {
        let is_wanted = self.is_wanted(id);
        let Some(trace) = &mut self.servers[id].trace else { return };
        if trace.pins.has(Traces::ROUTINE) && (is_wanted || gives_back(&trace.pending)) {
            trace.pins = trace.pins.without(Traces::ROUTINE);
            trace.pending.begins.add(Traces::ROUTINE);
        }
    }

    /// Does it serve several clients in turn?
    pub(crate) fn is_shared(&self, id: ServerId) -> bool {
        self.pools[self.servers[id].pool.0 as usize].mode() != PoolMode::Session
    }
}
