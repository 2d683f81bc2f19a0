//! What a server answers to the question what its session holds, and what follows from that.
//!
//! Asks nothing and reads no text: `trace` does. Called by `server` for each row, by `aftermath` for the end.

use std::sync::Arc;

use maitred_wire::effects::{Finding, Traces};

use crate::ids::{ClientId, ServerId};
use crate::server::Server;
use crate::session_state::Settings;
use crate::trace::{is_hidden, is_reported};
use crate::Relay;

/// Why a server goes whose client had a routine take a lock.
const UNSEEN_LOCK: &str = "a routine took a named lock, which was not seen and is released now; \
    name the routine in pool.stateful_functions, with \"advisory lock\"";

impl Server {
    /// A cancel that came too late for its query has hit our question.
    pub(crate) fn note_cancelled_question(&mut self) {
        if let Some(asked) = self.trace.as_mut().and_then(|trace| trace.asked.as_mut()) {
            asked.is_void = true;
        }
    }

    /// Keep one row of the answer to our question.
    pub(crate) fn note_finding(&mut self, row: Option<&[u8]>) {
        let dialect = self.dialect;
        let Some(asked) = self.trace.as_mut().and_then(|trace| trace.asked.as_mut()) else { return };
        if let Some(messages) = &mut asked.messages {
            messages.extend(row.map(|row| dialect.message_of(row)));
            return;
        }
        if let Some(choice) = &mut asked.choice {
            choice.row = row.map(Box::from);
            return;
        }
        match row.and_then(|row| dialect.finding_of(row)) {
            Some(finding) => asked.findings.push(finding),
            None => asked.is_damaged = true,
        }
    }
}

impl Relay {
    pub(crate) fn count_pins(&mut self, new: Traces) {
        for name in new.names() {
            *self.counters.pins.entry(name).or_default() += 1;
        }
    }

    /// A server has told a value that is more than its client may carry.
    pub(crate) fn keep_excess(&mut self, id: ServerId) {
        let now = self.now;
        let trace = self.servers[id].trace_mut(now);
        let new = Traces::EXCESS.without(trace.pins);
        trace.pins.add(Traces::EXCESS);
        self.count_pins(new);
    }

    /// The server has answered all that it was asked.
    pub(crate) fn note_answered(&mut self, id: ServerId, client: Option<ClientId>) {
        let now = self.now;
        let server = &mut self.servers[id];
        let dialect = server.dialect;
        let Some(trace) = &mut server.trace else { return };
        let Some(asked) = trace.asked.take() else { return };
        if asked.is_stop {
            if !client.is_some_and(|client| self.note_stopped(client, !asked.is_void)) {
                let trace = self.servers[id].trace_mut(now);
                trace.pins = trace.pins.without(Traces::LISTENS);
            }
            return;
        }
        if let Some(choice) = asked.choice {
            self.keep_choice(id, client, choice, asked.is_void);
            return;
        }
        if let Some(messages) = asked.messages {
            if asked.is_void {
                // It has not told them, and is asked again before its lease ends.
                return;
            }
            self.keep_messages(client, dialect, messages);
            return;
        }
        if asked.is_void {
            let mut effects = asked.effects;
            trace.settled.get_or_insert_with(Vec::new).append(&mut effects.things);
            trace.pending.add(&effects);
            return;
        }
        if asked.is_damaged {
            self.lose_with_state(id, client, "the state of its session could not be read");
            return;
        }
        let mut settings = (*server.settings).clone();
        let mut left = Traces::NONE;
        let (mut is_released, mut insert_id) = (false, None);
        let is_lifted = |settings: &Settings, name: &str| {
            asked.is_lifted
                && dialect.unlimited(name).is_some_and(|value| settings.value(name) == Some(value))
        };
        let mut channels = Vec::new();
        let (fresh, dialect) = (server.shared.welcome(), server.dialect);
        let is_reported = |name: &str| is_reported(dialect, fresh.as_deref(), name);
        let is_statement = |name: &str| dialect.is_statement_among_settings(name);
        if asked.question.all_values {
            let is_kept = dialect.keeps_known(&asked.findings);
            // Why: until its value is told, which takes another question, the one before is all that is known.
            let is_named = |name: &str| {
                asked.findings.iter().any(
                    |finding| matches!(finding, Finding::Name(named) if named.eq_ignore_ascii_case(name)),
                )
            };
            settings.retain(|name| {
                is_kept
                    || is_statement(name)
                    || is_reported(name)
                    || is_hidden(dialect, name)
                    || is_named(name)
            });
        }
        if asked.question.traces.has(Traces::PREPARED) {
            settings.retain(|name| !is_statement(name));
        }
        for name in &asked.question.own_values {
            settings.remove(name);
        }
        let limit = self.pools[server.pool.0 as usize].route.settings.client_state_bytes;
        let begins_with = |name: &str| fresh.as_deref().and_then(|fresh| fresh.settings.value(name));
        let carry = |settings: &mut Settings, left: &mut Traces, name: &str, own: Option<String>| match own {
            Some(value) if !settings.set_within(name, &value, limit) => left.add(Traces::EXCESS),
            Some(_) => {}
            None => {
                settings.remove(name);
            }
        };
        let count_of = |wanted: fn(&Finding) -> Option<u64>| asked.findings.iter().find_map(wanted);
        let prepared = count_of(|finding| match finding {
            Finding::Made(Traces::PREPARED, count) => Some(*count),
            _ => None,
        });
        let forgotten = count_of(|finding| match finding {
            Finding::Forgotten(count) => Some(*count),
            _ => None,
        });
        if let (Some(prepared), Some(forgotten)) = (prepared, forgotten) {
            // Why a new session all the same: it may have forgotten others than its own.
            server.must_reset |= server.made.are_all_forgotten(prepared, forgotten);
        }
        for finding in asked.findings {
            match finding {
                Finding::Trace(kind) => left.add(kind),
                Finding::Channel(name) => {
                    left.add(Traces::LISTENS);
                    channels.push(name);
                }
                Finding::Statement(name, text) => {
                    let name = dialect.name_among_settings(&name);
                    // Why: what we said again ourselves stands there in one text with all else that we said.
                    let known = server.settings.value(&name).filter(|known| text.contains(known));
                    let is_one = known.is_some() || dialect.is_one_prepare(&text);
                    let text = known.unwrap_or(&text);
                    if !is_one || !settings.set_within(&name, text, limit) {
                        left.add(Traces::PREPARED);
                    }
                }
                Finding::Name(name) => trace.pending.settings.set.push(name.into()),
                Finding::Released => is_released = true,
                Finding::Made(kind, count) => {
                    trace.held.note_unseen(kind, count.saturating_sub(server.made.count(kind)));
                }
                Finding::Setting(name, value) if name == "last_insert_id" && dialect.takes_turns() => {
                    insert_id = value.and_then(|value| value.parse().ok());
                }
                Finding::Forgotten(_) => {}
                Finding::Sets(told) => trace.pending.settings.untold |= server.made.has_other_sets(told),
                Finding::Differs(name, _) if !dialect.is_variable(&name) || is_lifted(&settings, &name) => {}
                Finding::Differs(name, value) => {
                    let own = Some(value).filter(|value| begins_with(&name) != Some(value));
                    carry(&mut settings, &mut left, &name, own);
                }
                Finding::Setting(name, _) | Finding::Usual(name, _)
                    if is_reported(&name) && !asked.effects.settings.asks(&name) => {}
                Finding::Usual(name, value) => {
                    // Why not carried where a fresh session has it as well: perhaps nobody may set it.
                    let is_own = |value: &String| begins_with(&name).is_some_and(|fresh| fresh != value);
                    let own = Some(value).filter(is_own);
                    carry(&mut settings, &mut left, &name, own);
                }
                Finding::Setting(name, value) => {
                    let user = &server.shared.key.user;
                    let own = value.filter(|value| !dialect.is_unset(&name, value, user));
                    carry(&mut settings, &mut left, &name, own);
                }
            }
        }
        left.add(trace.keep_things(&asked.effects, &asked.question, left, &mut settings, limit, dialect));
        if trace.pins.is_empty() && !left.is_empty() {
            trace.since = now;
        }
        let mut new = left.without(trace.pins);
        trace.pins = trace.pins.without(asked.question.traces);
        trace.pins.add(left);
        let before = Arc::clone(&server.settings);
        if settings != *before {
            server.settings = self.settings.intern(settings);
        }
        if is_released {
            return self.lose_with_state(id, client, UNSEEN_LOCK);
        }
        if let Some(client) = client {
            self.keep_insert_id(client, id, insert_id);
            self.carry(client, id, &before, &asked.effects);
            // Why after: a client is spoken to in the encoding that it has now.
            let is_asked = asked.question.traces.has(Traces::LISTENS);
            if is_asked && self.clients.contains_key(client) && !self.note_channels(client, channels) {
                new = new.without(Traces::LISTENS);
            }
        }
        self.count_pins(new);
    }
}
