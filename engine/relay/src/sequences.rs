//! What sequences last gave to a session (`lastval`, `currval`) is told to nobody but its client.
//!
//! A server that others have used since is made to forget it before the first statement that asks. Reads no
//! text itself. Called by `trace` and `forward` for such statements, by `pool` when a server is lent.

use std::sync::atomic::Ordering;

use maitred_wire::effects::{Effects, Traces};
use maitred_wire::{ClientMessage, Intent, Transaction};

use crate::answers::{Answer, Unit};
use crate::ids::{ClientId, ServerId};
use crate::server::Server;
use crate::snapshot::{PoolMode, SequenceScope};
use crate::Relay;

impl Server {
    /// Has its client's lease come no further than a BEGIN? Then what is asked of sequences was not given
    /// in this lease.
    fn is_fresh_lease(&self) -> bool {
        let is_running = self.owed.iter().any(|owed| {
            owed.shown && matches!(owed.answer, Answer::Executed | Answer::Ready(Unit::Query | Unit::Call))
        });
        let is_begun = self.finished == 1 && self.transaction == Transaction::Open;
        !is_running && (self.finished == 0 || is_begun)
    }

    /// Sequences were discarded by the client's wish.
    pub(crate) fn note_discarded_sequences(&mut self) {
        // Why: what stands behind it in a pipeline has been suspected already.
        let is_last = self.owed.len() <= 1;
        if let Some(trace) = &mut self.trace {
            trace.forget_sequences(is_last);
        }
    }
}

impl Relay {
    /// Is what the sequences of an idle server last gave to `client` still there?
    pub(crate) fn has_own_sequences(&self, client: ClientId, server: ServerId) -> bool {
        let leases = self.servers[server].leases;
        leases == 0 || self.clients[client].last_lease == Some((server, leases))
    }

    /// Where in its pool's idle servers is the one to be lent, `place` being the best for anything else? Its
    /// own, if the client asks what sequences gave and nobody has used that one since.
    #[inline]
    pub(crate) fn place_of_sequences(
        &self,
        id: ClientId,
        place: usize,
        message: ClientMessage,
        here: &[u8],
    ) -> usize {
        let client = &self.clients[id];
        let idle = &self.pools[client.pool.0 as usize].idle;
        let own = client.last_lease.filter(|(own, leases)| {
            *own != idle[place] && self.servers.get(*own).is_some_and(|server| server.leases == *leases)
        });
        match own {
            Some((own, _)) if self.may_ask_of_sequences(id, message, here) => {
                idle.iter().rposition(|idle| *idle == own).unwrap_or(place)
            }
            _ => place,
        }
    }

    /// May `message`, the first of a lease, ask what sequences gave?
    fn may_ask_of_sequences(&self, id: ClientId, message: ClientMessage, here: &[u8]) -> bool {
        let dialect = self.clients[id].dialect;
        let judge = |text| dialect.effects_of(text).is_some_and(|effects| effects.reads_sequences);
        match message.intent {
            Intent::Query => judge(dialect.query_text(here)),
            Intent::Prepare if here.len() == message.total => {
                dialect.prepare_of(here).is_ok_and(|parts| judge(dialect.definition_text(parts.definition)))
            }
            Intent::Bind => {
                let Ok(Some(head)) = dialect.bind_head(here, message.total) else { return false };
                let statements = self.clients[id].statements.as_ref();
                let held = statements.and_then(|statements| match head.statement {
                    b"" => statements.unnamed.as_ref(),
                    name => statements.named(name),
                });
                held.is_some_and(|held| held.reads_sequences())
            }
            _ => false,
        }
    }

    /// Must a server that is lent forget at once what sequences gave to others?
    pub(crate) fn must_forget_sequences(&self, id: ServerId) -> bool {
        let server = &self.servers[id];
        let is_shared = self.pools[server.pool.0 as usize].mode() != PoolMode::Session;
        !server.has_own_sequences && is_shared && server.shared.reads_sequences.load(Ordering::Relaxed)
    }

    /// A statement that asks what sequences last gave is about to go to a server.
    /// True: it asks for what an earlier lease was given.
    pub(crate) fn guard_sequences(&mut self, id: ServerId) -> bool {
        let server = &mut self.servers[id];
        let is_fresh = server.is_fresh_lease();
        let is_shared = self.pools[server.pool.0 as usize].mode() != PoolMode::Session;
        if server.has_own_sequences || !is_shared {
            return is_fresh;
        }
        if is_fresh && server.unsynced == 0 && !server.skipping {
            self.forget_sequences(id);
        } else {
            // Why not now: the client's own statements may have advanced them a moment ago. From the next
            // lease on they are forgotten beforehand.
            server.shared.reads_sequences.store(true, Ordering::Relaxed);
        }
        is_fresh
    }

    /// Make a server forget what its sequences gave, hidden, before what comes next.
    pub(crate) fn forget_sequences(&mut self, id: ServerId) {
        let now = self.now;
        let server = &mut self.servers[id];
        server.has_own_sequences = true;
        if server.dialect.takes_turns() {
            // Why all: nothing makes it forget these alone.
            return self.begin_anew(id);
        }
        server.dialect.write_query(&mut server.output, server.dialect.sequences_reset_text());
        server.owe_adjustment(now);
        server.statements.unnamed = None;
    }

    /// What of `effects` holds for this statement, as far as sequences go.
    pub(crate) fn suspect_sequences(&mut self, id: ServerId, effects: &mut Effects) {
        let reads = std::mem::take(&mut effects.reads_sequences);
        if !reads && !effects.begins.has(Traces::SEQUENCES) {
            return;
        }
        let is_for_earlier = self.guard_sequences(id);
        if reads && !is_for_earlier && self.sequence_scope(id) == SequenceScope::Transaction {
            effects.begins = effects.begins.without(Traces::SEQUENCES);
        }
    }

    pub(crate) fn sequence_scope(&self, id: ServerId) -> SequenceScope {
        self.pools[self.servers[id].pool.0 as usize].route.settings.sequences
    }
}
