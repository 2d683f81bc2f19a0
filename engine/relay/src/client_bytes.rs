//! A client's bytes as they arrive and as they leave, compressed where that was agreed.
//!
//! Reads nothing in them: that is `login`'s and `client`'s. Called by the worker with what its socket gave, and
//! when its socket may be written to.

use maitred_wire::Fault;

use crate::client::State;
use crate::ids::{ClientId, Time};
use crate::Relay;

impl Relay {
    /// Bytes arrived from a client.
    pub fn client_bytes(&mut self, now: Time, id: ClientId, bytes: &[u8]) {
        self.now = now;
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.agreed.as_ref().is_some_and(|agreed| agreed.compression.is_some()) {
            return self.packed_bytes(id, bytes);
        }
        self.plain_bytes(id, bytes);
        self.settle();
    }

    /// As `client_bytes`, for a client that compresses what it sends.
    fn packed_bytes(&mut self, id: ClientId, bytes: &[u8]) {
        match self.unpacked(id, bytes) {
            Ok(plain) if plain.is_empty() => {}
            Ok(plain) => self.plain_bytes(id, &plain),
            Err(fault) => self.violate(id, fault),
        }
        self.settle();
    }

    /// What is in the frames that these bytes complete.
    fn unpacked(&mut self, id: ClientId, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut plain = Vec::new();
        let agreed = self.clients.get_mut(id).and_then(|client| client.agreed.as_mut());
        match agreed.and_then(|agreed| agreed.compression.as_mut()) {
            Some(compression) => compression.feed(bytes, &mut plain)?,
            None => plain.extend_from_slice(bytes),
        }
        Ok(plain)
    }

    /// Hand over what came behind a login.
    pub(crate) fn hand_rest(&mut self, id: ClientId, rest: Vec<u8>) {
        match self.unpacked(id, &rest) {
            Ok(plain) => self.hand_input(id, plain),
            Err(fault) => self.violate(id, fault),
        }
    }

    /// The login's last word is said: what follows is compressed, if that was agreed.
    pub(crate) fn compress_from_here(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            let said = client.output.len();
            if let Some(compression) = client.agreed.as_mut().and_then(|agreed| agreed.compression.as_mut()) {
                compression.begin(said);
            }
        }
    }

    fn plain_bytes(&mut self, id: ClientId, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(pool) = self.pools.get_mut(client.pool.0 as usize) {
            pool.counters.received_bytes += bytes.len() as u64;
        }
        match client.state {
            State::Login(_) => self.login_fed(id, bytes),
            State::Raw(server) => self.pass_to_server(server, id, bytes),
            _ if client.input.is_empty() => {
                let used = self.consume(id, bytes);
                self.keep_input(id, &bytes[used..]);
                self.tell_held(id);
            }
            _ => {
                client.input.extend_from_slice(bytes);
                self.proceed(id);
            }
        }
    }

    /// Take a client's output for writing.
    pub fn take_client_output(&mut self, id: ClientId, into: &mut Vec<u8>) {
        if let Some(client) = self.clients.get_mut(id) {
            client.is_dirty = false;
            std::mem::swap(&mut client.output, into);
            if let Some(compression) = client.agreed.as_mut().and_then(|agreed| agreed.compression.as_mut()) {
                compression.frame(into);
            }
            client.in_flight = into.len();
            if let Some(pool) = self.pools.get_mut(client.pool.0 as usize) {
                pool.counters.sent_bytes += into.len() as u64;
            }
        }
    }
}
