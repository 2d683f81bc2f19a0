//! Cancel requests on their way to a database, each on a connection of its own.
//!
//! Chooses no server and makes no key: the relay did. Called by `actions` when the relay sends one,
//! by `worker` and `encrypted` as its connection comes up, answers or ends.

use maitred_relay::ids::Time;

use super::address::peer_of;
use super::Worker;
use crate::backend::{Backend, SocketId};
use crate::connect;
use crate::socket::{Errand, Owner};

/// How long a cancel request may take. Origin: PgBouncer's `cancel_wait_timeout`.
const CANCEL_US: u64 = 10_000_000;

impl Worker {
    pub(super) fn on_cancel_tls_answer(&mut self, id: SocketId, agreed: bool) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let Owner::Cancel(errand) = &socket.owner else { return };
        let endpoint = errand.endpoint.clone();
        if agreed {
            let now = self.now();
            self.start_server_tls(now, id, &endpoint);
        } else {
            // Why: the key must not travel in clear text where TLS is required.
            self.finish_cancel(id);
        }
    }

    pub(super) fn send_cancel(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let Owner::Cancel(errand) = &mut socket.owner {
            let request = std::mem::take(&mut errand.request);
            socket.last_words = request;
            let now = self.now();
            self.pump(now, id);
        }
    }

    pub(super) fn finish_cancel(&mut self, id: SocketId) {
        let now = self.now();
        if let Some(socket) = self.sockets.get_mut(id) {
            if let Owner::Cancel(errand) = &socket.owner {
                let server = errand.server;
                self.drop_socket(id);
                self.relay.cancel_done(now, server);
            }
        }
    }

    pub(super) fn connect_cancel(&mut self, now: Time, errand: Box<Errand>) {
        let server = errand.server;
        // Why the very same address: a name may stand for several hosts.
        let peer = self.server_sockets.get(server).and_then(|id| self.backend.descriptor(*id)).map(peer_of);
        let opened = match peer {
            Some(Ok(peer)) => {
                connect::socket_for(&peer, self.relay.limits()).map(|descriptor| (descriptor, peer))
            }
            Some(Err(error)) => Err(error),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        match opened {
            Ok((descriptor, peer)) => {
                let id = self.backend.connect(descriptor, &peer);
                self.sockets.insert(id, Owner::Cancel(errand));
                self.deadlines.push((now + CANCEL_US, id));
            }
            Err(_) => self.relay.cancel_done(now, server),
        }
    }
}
