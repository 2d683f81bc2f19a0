//! What a lease leaves in its server's session: suspected from texts, proven by asking the server.
//!
//! ```text
//!   text shows an effect ──► pending ── all answered, no transaction ──► asked ──► answered
//!                               ▲                                                 │      │
//!                               └───── more texts, same lease ── pinned ◄─────────┘      ▼
//!                                                                                    clean: lease over
//! ```
//!
//! A setting that was found is carried from then on; what cannot be carried pins: the lease lasts until it is
//! proven gone. Guesses nothing and reads no text itself. Called by `forward` and `pool`, by
//! `departure` when the client leaves; what is answered, `findings` reads.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_wire::effects::{Effects, Finding, Question, Thing, Things, Traces};
use maitred_wire::{Code, Complaint, Dialect};

use crate::budget::Welcome;
use crate::ids::{ServerId, Time};
use crate::server::Server;
use crate::session_state::Settings;
use crate::snapshot::{ListenMode, Pinning, PoolMode, SequenceScope};
use crate::things::schema_under;
use crate::tracking::Choice;
use crate::Relay;

/// How much of the statement that pinned is kept for operators.
const TEXT_KEPT: usize = 1024;

/// What is suspected, asked and known of one server's session. No server without any has one.
#[derive(Debug)]
pub struct Trace {
    /// Suspected since the last answer.
    pub(crate) pending: Effects,
    pub(crate) asked: Option<Asked>,
    /// A statement failed since the last answer: what was named may be as it was, by whomever that was set.
    has_failed: bool,
    /// The statement under way, or the last one, did.
    pub(crate) has_statement_failed: bool,
    /// What statements said of things with names since the server was asked last; of those that failed, no
    /// statements that they would have prepared or forgotten.
    pub(crate) settled: Option<Vec<Thing>>,
    /// Proven to be there, or not to be disproven.
    pub pins: Traces,
    /// What is there by name, where kinds come and go so.
    pub held: Things,
    pub since: Time,
    /// Beginning of the last statement with effects.
    pub text: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) effects: Effects,
    pub(crate) question: Question,
    pub(crate) findings: Vec<Finding>,
    /// It was told to stop to listen, and asked nothing.
    pub(crate) is_stop: bool,
    /// It was asked what went wrong, and tells it in these rows.
    pub(crate) messages: Option<Vec<Box<[u8]>>>,
    /// It was asked what its client has chosen to be told, by settings of these names.
    pub(crate) choice: Option<Choice>,
    pub(crate) is_damaged: bool,
    /// Limits of its client's are lifted meanwhile: what that says next waits.
    pub(crate) is_lifted: bool,
    /// It was cancelled instead of something of the client's: to be asked again.
    pub(crate) is_void: bool,
}

/// Does the server say by itself when this setting changes? Then it is known already.
pub(crate) fn is_reported(dialect: Dialect, fresh: Option<&Welcome>, name: &str) -> bool {
    !dialect.is_identity(name)
        && (dialect.is_tracked(name) || fresh.is_some_and(|fresh| fresh.settings.value(name).is_some()))
}

/// Does the server leave it out when it lists what a session has set?
pub(crate) fn is_hidden(dialect: Dialect, name: &str) -> bool {
    name.contains('.') || dialect.is_unlisted(name)
}

/// May a lease end, as far as its session goes?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Clean,
    /// The server has been asked.
    Asked,
    Pinned,
}

impl Trace {
    /// May its lease end, or something hidden be asked, as far as is known?
    fn may_end(&self) -> bool {
        self.pins.is_empty() || !self.pending.is_empty() || self.settled.is_some()
    }

    /// What sequences gave is gone; `is_last`: nothing that asks for it stands behind.
    pub(crate) fn forget_sequences(&mut self, is_last: bool) {
        self.pins = self.pins.without(Traces::SEQUENCES);
        if is_last {
            self.pending.begins = self.pending.begins.without(Traces::SEQUENCES);
        }
    }
}

impl Server {
    /// Is the answer that comes next one to our question?
    pub(crate) fn is_questioned(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.asked.is_some())
    }

    /// May something that was sent bring back some of its client's `own` settings, which is known only once it is
    /// answered? What the client says next waits for that; within a batch, nothing waits.
    #[inline]
    pub(crate) fn may_reset(&self, own: &Settings) -> bool {
        let Some(trace) = &self.trace else { return false };
        let is_asked = trace.asked.as_ref().is_some_and(|asked| asked.effects.settings.resets());
        let is_sent = trace.pending.settings.resets() && !self.owed.is_empty() && self.unsynced == 0;
        (is_asked || is_sent) && !own.is_empty()
    }

    /// Is it being asked what the next statement may ask as well, may end, or depends on? That waits for the answer.
    pub(crate) fn is_telling(&self) -> bool {
        let asked = self.trace.as_ref().and_then(|trace| trace.asked.as_ref());
        asked.is_some_and(|asked| {
            asked.choice.is_some()
                || asked.is_lifted
                || asked.question.traces.has(Traces::INSERT_ID)
                || asked.effects.settings.asks("last_insert_id")
        })
    }

    /// May it have other values for some of `names` than are known?
    pub(crate) fn may_ask_for(&self, names: &[&str]) -> bool {
        self.suspected().any(|effects| names.iter().any(|name| effects.settings.asks(name)))
    }

    /// What is suspected and not known yet.
    pub(crate) fn suspected(&self) -> impl Iterator<Item = &Effects> {
        let trace = self.trace.as_deref();
        let asked = trace.and_then(|trace| trace.asked.as_ref());
        trace.map(|trace| &trace.pending).into_iter().chain(asked.map(|asked| &asked.effects))
    }

    /// Does its client know `name` as reset by what it said last?
    pub(crate) fn is_resetting(&self, name: &str) -> bool {
        let Some(trace) = &self.trace else { return false };
        let touched = &trace.pending.settings;
        touched.reset_all || touched.reset.iter().any(|reset| reset.eq_ignore_ascii_case(name))
    }

    /// Its trace, made if it has none.
    pub(crate) fn trace_mut(&mut self, now: Time) -> &mut Trace {
        self.trace.get_or_insert_with(|| {
            Box::new(Trace {
                pending: Effects::default(),
                asked: None,
                has_failed: false,
                has_statement_failed: false,
                settled: None,
                pins: Traces::NONE,
                held: Things::default(),
                since: now,
                text: Vec::new(),
            })
        })
    }

    /// Does it hold something of its client's that no other server has, and that would be missed unheard?
    /// `is_heard_elsewhere`: not so what its client listens to.
    pub(crate) fn has_irreplaceable(&self, is_heard_elsewhere: bool) -> bool {
        // Why suspicions too: what was answered is its client's, whether the server has been asked or not.
        let pins = self.suspected().fold(self.pins(), |all, effects| all.with(effects.begins));
        let pins = pins.without(Traces::SEQUENCES);
        !if is_heard_elsewhere { pins.without(Traces::LISTENS) } else { pins }.is_empty()
    }

    /// May its client have prepared or forgotten statements of SQL's that we do not know of yet?
    pub(crate) fn may_have_prepared(&self) -> bool {
        self.suspected()
            .any(|effects| effects.begins.has(Traces::PREPARED) || effects.ends.has(Traces::PREPARED))
    }

    /// Has its client asked for the number of its process, in this lease?
    pub(crate) fn has_told_its_number(&self) -> bool {
        self.trace
            .as_ref()
            .is_some_and(|trace| trace.pins.has(Traces::PROCESS) || trace.pending.begins.has(Traces::PROCESS))
    }

    /// What holds it for its client beyond a transaction.
    pub fn pins(&self) -> Traces {
        self.trace.as_ref().map_or(Traces::NONE, |trace| trace.pins)
    }

    /// The text under way failed: had it not been understood by us, it was not by the server either. `is_first`: none
    /// of its statements was carried out.
    pub(crate) fn note_failed_text(&mut self, is_first: bool) {
        if let Some(trace) = &mut self.trace {
            if is_first {
                trace.pending.things.retain(|thing| !thing.is_made_whole());
            }
            trace.has_failed = true;
            trace.has_statement_failed = true;
            trace.pending.begins = trace.pending.begins.without(Traces::UNKNOWN);
        }
    }

    /// All that can be undone in the session was, by its client's wish.
    pub(crate) fn note_discarded(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.pins = trace.pins.without(self.dialect.undone());
            // What was set before has gone with the rest, and what its client began with is due again.
            trace.pending.settings.reset_all |= !trace.pending.settings.is_empty();
        }
    }
}

impl Relay {
    /// What was judged of `text`, and what the configuration of this pool adds to it.
    #[inline]
    pub(crate) fn judged_here<'a>(
        &self,
        id: ServerId,
        judged: Option<&'a Effects>,
        text: &[u8],
    ) -> Option<Cow<'a, Effects>> {
        let server = &self.servers[id];
        let (route, dialect) = (&self.pools[server.pool.0 as usize].route, server.dialect);
        if route.stateful.is_none() && route.settings.sequences == SequenceScope::Transaction {
            return judged.map(Cow::Borrowed);
        }
        let mut effects = judged.cloned().unwrap_or_default();
        if let Some(stateful) = &route.stateful {
            if let Some(named) = dialect.effects_of_stateful(text, stateful) {
                effects.add(&named);
            }
        }
        if route.settings.sequences == SequenceScope::Session && dialect.advances_sequences(text) {
            effects.begins.add(Traces::SEQUENCES);
        }
        (!effects.is_empty()).then_some(Cow::Owned(effects))
    }

    /// What a text does to others than its own session; taken out of its `effects`.
    fn spread(&mut self, id: ServerId, effects: &mut Effects) {
        let server = &self.servers[id];
        effects.lists_statements = false;
        if std::mem::take(&mut effects.notifies) {
            if let Some(client) = server.client().filter(|id| self.clients.contains_key(*id)) {
                let known_as = self.number_of(client);
                self.shared.note_notifier(&server.shared.key.endpoint, server.key.pid, known_as);
            }
        }
        for database in std::mem::take(&mut effects.vacates) {
            self.vacate(id, &database);
        }
        let has_defined = std::mem::take(&mut effects.defines);
        let touched = &effects.settings;
        let server = &mut self.servers[id];
        let naming = server.dialect.naming_settings();
        let mut names = touched.set.iter().chain(&touched.reset);
        if touched.unnamed
            || touched.reset_all
            || names.any(|name| naming.iter().any(|naming| naming.eq_ignore_ascii_case(name)))
        {
            server.names = None;
        }
        if has_defined {
            server.has_defined = true;
            server.shared.definitions.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A text with `effects` goes to a server.
    ///
    /// # Errors
    /// It would pin, and that is refused here.
    pub(crate) fn suspect(&mut self, id: ServerId, effects: &Effects, text: &[u8]) -> Result<(), Complaint> {
        let now = self.now;
        let mut effects = effects.clone();
        self.spread(id, &mut effects);
        let server = &self.servers[id];
        let settings = &self.pools[server.pool.0 as usize].route.settings;
        if settings.mode == PoolMode::Session {
            // The session is the client's own; but what a reset brings back it would not know.
            let (settings, blinds) = (effects.settings, effects.blinds);
            if settings.reset.is_empty() && !settings.reset_all && blinds.is_empty() {
                return Ok(());
            }
            effects = Effects { settings, blinds, ..Effects::default() };
        }
        let (pinning, pin_ignore, listen) = (settings.pinning, settings.pin_ignore, settings.listen);
        self.suspect_sequences(id, &mut effects);
        let server = &mut self.servers[id];
        effects.begins = effects.begins.without(pin_ignore);
        if pinning == Pinning::Refuse {
            // Why no error: nobody else is kept from anything, or shown anything, by what is private.
            effects.begins = effects.begins.without(Traces::PRIVATE);
        }
        let fresh = server.shared.welcome();
        if !effects.things.is_empty() {
            effects.qualify(schema_under(&server.settings, fresh.as_deref()));
        }
        effects.settings.set.retain(|name| !is_reported(server.dialect, fresh.as_deref(), name));
        if effects.is_empty() {
            return Ok(());
        }
        let mut plain_pins = effects.plain_pins();
        if listen == ListenMode::Shared {
            plain_pins = plain_pins.without(Traces::LISTENS);
        }
        if pinning == Pinning::Refuse && !plain_pins.is_empty() {
            let words = plain_pins.names().collect::<Vec<_>>().join(", ");
            return Err(Complaint::error(
                Code::Unsupported,
                format!("this statement would keep its server ({words}), which is refused here"),
            )
            .hint("set pool.pinning = \"allow\", or pool.mode = \"session\" for this database or user"));
        }
        let trace = self.servers[id].trace_mut(now);
        trace.pending.add(&effects);
        if trace.pins.is_empty() {
            trace.text.clear();
            trace.text.extend_from_slice(&text[..text.len().min(TEXT_KEPT)]);
        }
        Ok(())
    }

    /// May the lease of a free server end? Asks the server, if only it knows.
    pub(crate) fn standing(&mut self, id: ServerId) -> Standing {
        let now = self.now;
        self.doubt_routine(id);
        if self.must_tell(id) && self.servers[id].trace.as_ref().is_none_or(|trace| trace.may_end()) {
            return self.ask_what_went_wrong(id);
        }
        if self.ask_what_changed(id) {
            return Standing::Asked;
        }
        let is_wanted = self.is_wanted(id);
        self.servers[id].settle_things();
        let server = &self.servers[id];
        let Some(trace) = &server.trace else { return Standing::Clean };
        if trace.pending.is_empty() && trace.settled.is_none() {
            if trace.pins == Traces::LISTENS && server.client().is_some_and(|id| self.may_stop_listening(id))
            {
                self.stop_listening(id);
                return Standing::Asked;
            }
            if !trace.pins.is_empty() {
                return Standing::Pinned;
            }
            let server = &mut self.servers[id];
            server.trace = None;
            return Standing::Clean;
        }
        if trace.pending.begins.has(Traces::FOUND_ROWS) && server.client().is_some() {
            // Why nothing asked: what a statement before may have left waits for the next; the answer would be what
            // rows were found.
            let new = Traces::FOUND_ROWS.without(trace.pins);
            self.servers[id].trace_mut(now).pins.add(Traces::FOUND_ROWS);
            self.count_pins(new);
            return Standing::Pinned;
        }
        let server = &mut self.servers[id];
        let trace = server.trace.as_mut().expect("looked at above");
        // Why first: a limit would end the rest of the question.
        let limits = trace.pending.split_asked(|name| server.dialect.unlimited(name).is_some());
        let is_first = limits.is_some();
        let mut effects = limits.unwrap_or_else(|| std::mem::take(&mut trace.pending));
        if !is_first {
            effects.things = trace.settled.take().unwrap_or_default();
        }
        let fresh = server.shared.welcome();
        let dialect = server.dialect;
        let is_reported = |name: &str| is_reported(dialect, fresh.as_deref(), name);
        let is_statement = |name: &str| dialect.is_statement_among_settings(name);
        let is_hidden = |name: &str| is_hidden(dialect, name);
        let may_be_refused = trace.has_failed;
        trace.has_failed &= is_first;
        let mut question = Question { traces: effects.begins, may_be_refused, ..Question::default() };
        let mut kept = trace.pins;
        if server.settings.iter().any(|(name, _)| is_statement(name)) {
            kept.add(Traces::PREPARED);
        }
        question.traces.add(effects.ends.and(kept));
        question.traces = question.traces.and(dialect.provable()).without(trace.spared(&effects, is_wanted));
        if question.traces.has(dialect.kinds_by_name().with(Traces::ROUTINE)) {
            question.lock_names = trace.held.names(Traces::LOCKS).map(Box::from).collect();
        }
        // Why: drivers reset all whenever a connection goes back to their pool, mostly for nothing.
        let touched = &effects.settings;
        question.values.clone_from(&touched.asked);
        let is_any_set = !touched.set.is_empty()
            || server.settings.iter().any(|(name, _)| !is_reported(name) && !is_statement(name));
        question.all_values = touched.unnamed || touched.untold || touched.reset_all && is_any_set;
        for name in touched.set.iter().chain(&touched.reset).filter(|name| !is_reported(name)) {
            let was_set = touched.set.iter().any(|set| set.eq_ignore_ascii_case(name));
            if !was_set && server.settings.value(name).is_none() {
                continue;
            }
            if was_set || is_hidden(name) {
                question.values.push(name.clone());
            } else if !question.all_values {
                question.own_values.push(name.clone());
            }
        }
        if question.all_values {
            let known = server.settings.iter().map(|(name, _)| name).filter(|name| is_hidden(name));
            question.values.extend(known.map(Box::from));
        }
        if touched.untold {
            question.traces.add(Traces::INSERT_ID.and(dialect.provable()));
            let known = server.settings.iter().map(|(name, _)| name);
            question.differing =
                Some(known.filter(|name| dialect.is_variable(name)).map(Box::from).collect());
        }
        if !question.is_empty() {
            let names = question.values.iter().chain(&question.own_values).map(|name| &**name);
            let names: Vec<&str> = names.chain(server.settings.iter().map(|(name, _)| name)).collect();
            let may_be_set = |limit: &str| names.iter().any(|name| name.eq_ignore_ascii_case(limit));
            let limits = dialect.limits_to_lift().iter().copied();
            // Why not each: a setting that the server does not know would be an error.
            let is_everywhere = |limit: &str| question.all_values && limit != "transaction_timeout";
            let lifted = limits.filter(|limit| is_everywhere(limit) || may_be_set(limit)).collect();
            question.lifted = lifted;
        }
        let lasting = trace.lasting(effects.begins, question.traces, dialect);
        if trace.pins.is_empty() && !lasting.is_empty() {
            trace.since = now;
        }
        let new = lasting.without(trace.pins);
        trace.pins = trace.pins.without(dialect.kinds_by_name().without(dialect.provable()));
        trace.pins.add(lasting);
        if dialect.takes_turns() {
            // Why before it is proven: the text says so, and an operator may look meanwhile.
            trace.pins.add(question.traces.and(Traces::LOCKS));
        }
        let trace = server.trace.as_mut().expect("looked at above");
        trace.asked = Some(Asked { effects, question, ..Asked::default() });
        let asked = trace.asked.as_ref().expect("just set");
        if asked.question.is_empty() {
            // Only what needs no asking, own settings to be brought back among it.
            let client = server.client();
            self.count_pins(new);
            self.note_answered(id, client);
            return self.standing(id);
        }
        // Why not then: these limits are what it is asked for.
        let is_lifted = !is_first && self.lift_limits(id);
        let server = &mut self.servers[id];
        let asked = server.trace.as_mut().and_then(|trace| trace.asked.as_mut()).expect("just set");
        asked.is_lifted = is_lifted;
        dialect.write_probe(&mut server.output, &asked.question);
        server.statements.unnamed = None;
        server.owe_hidden(now);
        self.disturb(self.servers[id].client());
        self.count_pins(new);
        self.flush_server(id);
        Standing::Asked
    }

    /// Lift what its client has set and what would end a question, too: as settings of the server's that differ from
    /// its client's, which are due again behind it. Returns whether there was something.
    fn lift_limits(&mut self, id: ServerId) -> bool {
        let now = self.now;
        let server = &mut self.servers[id];
        let (dialect, own) = (server.dialect, Arc::clone(&server.settings));
        let mut settings = (*own).clone();
        let mut is_any = false;
        for (name, _) in own.iter() {
            if let Some(value) = dialect.unlimited(name) {
                settings.set(name, value);
                is_any = true;
            }
        }
        if is_any {
            server.change_settings(&own.changes_to(&settings), now);
            server.settings = self.settings.intern(settings);
        }
        is_any
    }

    /// What went wrong in the last statement is told before the server is anybody else's.
    pub(crate) fn ask_what_went_wrong(&mut self, id: ServerId) -> Standing {
        let now = self.now;
        let server = &mut self.servers[id];
        server.dialect.write_show(&mut server.output);
        server.owe_hidden(now);
        server.trace_mut(now).asked = Some(Asked { messages: Some(Vec::new()), ..Asked::default() });
        self.disturb_by_show(self.servers[id].client());
        self.flush_server(id);
        Standing::Asked
    }

    /// What its client listens to is heard elsewhere now.
    fn stop_listening(&mut self, id: ServerId) {
        let now = self.now;
        let server = &mut self.servers[id];
        let client = server.client();
        server.dialect.write_query(&mut server.output, server.dialect.stop_listening_text());
        server.statements.unnamed = None;
        server.owe_hidden(now);
        server.trace_mut(now).asked = Some(Asked { is_stop: true, ..Asked::default() });
        if let Some(client) = client {
            self.note_stopping(client);
        }
        self.flush_server(id);
    }
}
