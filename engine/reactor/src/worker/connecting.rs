//! From a server that the relay wants to a connected socket.
//!
//! Never waits: an unknown name is looked up by `errand`, and the back end connects. Called by
//! `actions` when a pool opens a server, and by `worker` when a connect has ended.

use std::net::SocketAddr;
use std::sync::Arc;

use maitred_relay::ids::{ServerId, Time};
use maitred_relay::snapshot::{Address, Endpoint, SslMode};
use maitred_wire::Dialect;
use socket2::SockAddr;

use super::address::ends_in_text;
use super::Worker;
use crate::backend::{Backend, SocketId};
use crate::connect;
use crate::errand::{Job, Outcome};
use crate::mail::WorkerMail;
use crate::socket::Owner;

/// A server that waits for its endpoint's address.
pub(super) struct Lookup {
    pub(super) server: ServerId,
    endpoint: Arc<Endpoint>,
}

impl Worker {
    pub(super) fn on_connected(&mut self, now: Time, id: SocketId, result: std::io::Result<()>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let Err(error) = result {
            let owner = std::mem::replace(&mut socket.owner, Owner::Leaving);
            self.sockets.remove(id);
            match owner {
                Owner::Connecting { server, destinations } => {
                    self.server_sockets.remove(server);
                    self.connect_next(now, server, destinations, error.to_string());
                }
                Owner::Cancel(errand) => self.relay.cancel_done(now, errand.server),
                _ => {}
            }
            return;
        }
        match &mut socket.owner {
            Owner::Connecting { server, .. } => {
                let server = *server;
                let endpoint = self.relay.endpoint_of(server);
                let direct = endpoint
                    .as_ref()
                    .filter(|endpoint| endpoint.tls.direct && endpoint.tls.mode != SslMode::Disable);
                if let Some(endpoint) = direct {
                    let name = endpoint.name.clone();
                    self.start_server_tls(now, id, &name);
                    return;
                }
                socket.owner = Owner::Server(server);
                let (address, local) = ends_in_text(&self.backend, id);
                self.relay.server_connected(now, server, address, local, false);
            }
            Owner::Cancel(errand) if errand.asks_tls => {
                let mut ask = Vec::new();
                Dialect::Postgres.write_tls_request(&mut ask);
                self.write(now, id, ask);
            }
            Owner::Cancel(_) => self.send_cancel(id),
            _ => {}
        }
    }

    /// Find where an endpoint is: at once where that is known, else by asking elsewhere.
    pub(super) fn look_up(&mut self, now: Time, server: ServerId, endpoint: Arc<Endpoint>) {
        let lookup = Lookup { server, endpoint };
        let Address::Tcp { host, port } = &lookup.endpoint.address else {
            self.connect_server(now, &lookup, &[]);
            return;
        };
        match self.errands.known(host, *port) {
            Some(Ok(addresses)) => self.connect_server(now, &lookup, &addresses),
            Some(Err(cause)) => self.relay.server_closed(now, lookup.server, Some(cause)),
            None => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let own = self.peers[usize::from(self.id.0)].clone();
                let job = Job::Resolve { host: host.clone(), port: *port };
                self.lookups.insert(ticket, lookup);
                let deliver = Box::new(move |outcome| {
                    if let Outcome::Resolved(addresses) = outcome {
                        own.send(WorkerMail::Resolved { ticket, addresses });
                    }
                });
                if let Err(busy) = self.errands.submit(job, deliver) {
                    self.lookups.remove(&ticket);
                    self.relay.server_closed(now, server, Some(busy.to_string()));
                }
            }
        }
    }

    pub(super) fn on_resolved(&mut self, now: Time, ticket: u64, addresses: Result<Vec<SocketAddr>, String>) {
        let Some(lookup) = self.lookups.remove(&ticket) else { return };
        match addresses {
            Ok(addresses) => self.connect_server(now, &lookup, &addresses),
            Err(cause) => self.relay.server_closed(now, lookup.server, Some(cause)),
        }
    }

    fn connect_server(&mut self, now: Time, lookup: &Lookup, addresses: &[SocketAddr]) {
        let mut destinations = match connect::destinations(&lookup.endpoint.address, addresses) {
            Ok(destinations) => destinations,
            Err(error) => {
                self.relay.server_closed(now, lookup.server, Some(error.to_string()));
                return;
            }
        };
        // Tried from the end.
        destinations.reverse();
        self.connect_next(now, lookup.server, destinations, "the endpoint has no address".to_owned());
    }

    /// Try the last of `destinations`; `cause` is what the one before met.
    pub(super) fn connect_next(
        &mut self,
        now: Time,
        server: ServerId,
        mut destinations: Vec<SockAddr>,
        mut cause: String,
    ) {
        while let Some(destination) = destinations.pop() {
            match connect::socket_for(&destination, self.relay.limits()) {
                Ok(descriptor) => {
                    let id = self.backend.connect(descriptor, &destination);
                    let socket = self.sockets.insert(id, Owner::Connecting { server, destinations });
                    socket.is_fresh = false;
                    self.server_sockets.insert(server, id);
                    return;
                }
                Err(error) => cause = error.to_string(),
            }
        }
        self.relay.server_closed(now, server, Some(cause));
    }
}
