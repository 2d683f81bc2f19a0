//! Whose query does this key stop?
//!
//! Keys are made from a secret and the client's identity, so nothing is stored per client. A cancel
//! reaches the server that works for that client at that moment; until the database has closed the
//! cancel connection, and one harmless round trip has passed, that server is lent to nobody else.
//! Called by `login` for requests, by `lib` for mail.

use std::hash::Hasher as _;

use maitred_wire::{CancelKey, Code, Complaint};
use siphasher::sip128::{Hasher128, SipHasher24};
use slotmap::Key as _;

use crate::action::{Action, ClientEnd, Mail};
use crate::client::State;
use crate::ids::{ClientId, ServerId, Time, WorkerId};
use crate::Relay;

/// Bits of the process number that name the worker, the slot there, and how often it was taken before.
/// Why the last: clients tell their connections apart by this number, as PostgreSQL's are fresh for long.
const WORKER_BITS: u32 = 6;
const TURN_BITS: u32 = 4;
/// Two million clients of one worker: more than a process may hold descriptors.
const SLOT_BITS: u32 = 31 - WORKER_BITS - TURN_BITS;
const WORKER_AT: u32 = SLOT_BITS + TURN_BITS;

/// Secret length under protocol 3.2, as PostgreSQL 18 chooses it.
const LONG_SECRET: usize = 32;

impl Relay {
    /// The key that this client is told.
    pub(crate) fn cancel_key(&self, id: ClientId, minor: u16) -> CancelKey {
        let key = id.data().as_ffi();
        let slot = (key as u32) & ((1 << SLOT_BITS) - 1);
        // Why halved: slotmap counts a slot's taking and its leaving, and shows only odd numbers.
        let turn = ((key >> 33) as u32) & ((1 << TURN_BITS) - 1);
        let length = if minor >= 2 { LONG_SECRET } else { 4 };
        let mut secret = Vec::with_capacity(LONG_SECRET);
        for block in 0..2u8 {
            let mut half = [0; 16];
            half.copy_from_slice(&self.shared.secret[16..]);
            let mut hasher = SipHasher24::new_with_key(&half);
            hasher.write_u64(key);
            hasher.write_u16(self.worker.0);
            hasher.write_u8(block);
            secret.extend_from_slice(&hasher.finish128().as_bytes());
        }
        secret.truncate(length);
        let worker = u32::from(self.worker.0) + 1;
        CancelKey { pid: (worker << WORKER_AT) | (turn << SLOT_BITS) | slot, secret }
    }

    /// The worker whose clients have numbers like this; None: no client of ours has.
    pub(crate) fn worker_of_number(&self, number: u32) -> Option<WorkerId> {
        let worker = (number >> WORKER_AT).checked_sub(1)?;
        (worker < self.shared.workers as u32).then_some(WorkerId(worker as u16))
    }

    /// The client here that has this number.
    pub(crate) fn client_of_number(&self, number: u32) -> Option<ClientId> {
        let id = *self.by_slot.get((number & ((1 << SLOT_BITS) - 1)) as usize)?;
        (self.clients.contains_key(id) && self.cancel_key(id, 0).pid == number).then_some(id)
    }

    /// The client whose key this is.
    fn client_of_key(&self, key: &CancelKey) -> Option<ClientId> {
        let slot = (key.pid & ((1 << SLOT_BITS) - 1)) as usize;
        let id = *self.by_slot.get(slot)?;
        let client = self.clients.get(id)?;
        let own = self.cancel_key(id, client.minor);
        // Why not `==`: the comparison's time must not tell how much of a guess is right.
        let differs = own.secret.iter().zip(&key.secret).fold(0, |sum, (a, b)| sum | (a ^ b));
        (own.pid == key.pid && own.secret.len() == key.secret.len() && differs == 0).then_some(id)
    }

    /// A cancel request arrived on a fresh connection.
    pub(crate) fn cancel_requested(&mut self, requester: ClientId, key: CancelKey) {
        let Some(to) = self.worker_of_number(key.pid) else {
            self.end_client(requester, ClientEnd::CancelRequest, None);
            return;
        };
        if to == self.worker {
            self.cancel_by_key(&key, self.worker, requester);
        } else {
            self.actions.push(Action::Mail { to, mail: Mail::Cancel { key, from: self.worker, requester } });
        }
    }

    /// Stop what the owner of `key` waits for; `requester` is let go when that is done.
    pub(crate) fn cancel_by_key(&mut self, key: &CancelKey, from: WorkerId, requester: ClientId) {
        self.counters.cancel_requests += 1;
        let target = self.client_of_key(key);
        match target.map(|id| (id, &self.clients[id].state)) {
            Some((id, State::Waiting { .. })) => {
                self.leave_queue(id);
                let complaint = Complaint::error(Code::Cancelled, "canceling statement due to user request")
                    .detail("the client was waiting for a server connection");
                self.fail_pending(id, complaint);
                self.cancel_answered(from, requester);
            }
            // Why not just working: what we ask ourselves after the client's last answer is not its query.
            Some((_, State::Leased(server))) if self.servers[*server].is_awaited() => {
                let server = *server;
                self.servers[server].cancel_waiters.push((from, requester));
                self.cancel_server(server);
            }
            _ => self.cancel_answered(from, requester),
        }
        self.settle();
    }

    pub(crate) fn cancel_answered(&mut self, from: WorkerId, requester: ClientId) {
        if from == self.worker {
            self.end_client(requester, ClientEnd::CancelRequest, None);
        } else {
            self.actions.push(Action::Mail { to: from, mail: Mail::CancelDone { requester } });
        }
    }

    /// Ask the database to stop what this server runs.
    pub(crate) fn cancel_server(&mut self, id: ServerId) {
        let server = &mut self.servers[id];
        if server.is_cancelling {
            return;
        }
        server.is_cancelling = true;
        server.cancelled_at = self.now;
        server.must_probe = true;
        if server.dialect.takes_turns() {
            self.open_killer(id);
            return;
        }
        let server = &self.servers[id];
        self.actions.push(Action::OpenCancel {
            server: id,
            endpoint: std::sync::Arc::clone(&server.endpoint),
            key: server.key.clone(),
        });
    }

    /// The cancel connection to the server's database has ended, one way or the other.
    pub fn cancel_done(&mut self, now: Time, id: ServerId) {
        self.now = now;
        self.cancel_over(id);
        self.settle();
    }

    pub(crate) fn cancel_over(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get_mut(id) {
            server.is_cancelling = false;
            for (from, requester) in std::mem::take(&mut server.cancel_waiters) {
                self.cancel_answered(from, requester);
            }
            self.clean(id);
        }
    }
}
