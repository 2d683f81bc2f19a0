//! From an accepted connection to a client of the relay's.
//!
//! Decides no more than which worker takes it: the one with the fewest clients. Called by `worker`
//! when a listener accepted, and by `mailbox` for what another worker accepted.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_relay::action::Event as RelayEvent;
use maitred_relay::ids::Time;
use maitred_relay::ClientOpened;
use maitred_wire::{proxy_protocol, Dialect};

use super::address::peer_address;
use super::encrypted::TLS_HANDSHAKE;
use super::{Worker, LEAVING_US};
use crate::backend::{Backend, SocketId};
use crate::mail::{ListenerFacts, WorkerMail};
use crate::socket::{Arriving, Owner};

/// Longest PROXY protocol header: version 2 allows 16 + 65535 bytes, ours is what senders use.
const PROXY_HEADER_MOST: usize = 4096;

impl Worker {
    pub(super) fn on_accepted(&mut self, now: Time, listener: SocketId, socket: OwnedFd) {
        let Some(Owner::Listener(facts)) = self.sockets.get_mut(listener).map(|socket| &socket.owner) else {
            return;
        };
        let facts = Arc::clone(facts);
        let own = self.peers[usize::from(self.id.0)].clients.load(Ordering::Relaxed);
        let least =
            self.peers.iter().enumerate().min_by_key(|(_, peer)| peer.clients.load(Ordering::Relaxed));
        match least {
            Some((at, peer))
                if at != usize::from(self.id.0) && peer.clients.load(Ordering::Relaxed) < own =>
            {
                peer.clients.fetch_add(1, Ordering::Relaxed);
                peer.send(WorkerMail::Adopt { socket, listener: facts });
            }
            _ => {
                self.peers[usize::from(self.id.0)].clients.fetch_add(1, Ordering::Relaxed);
                self.adopt_client(now, socket, facts);
            }
        }
    }

    pub(super) fn adopt_client(&mut self, now: Time, socket: OwnedFd, listener: Arc<ListenerFacts>) {
        let peer = if listener.is_unix { String::new() } else { peer_address(socket.as_raw_fd()) };
        let id = self.backend.adopt(socket);
        if listener.proxy_protocol {
            self.sockets.insert(id, Owner::Arriving(Box::new(Arriving { listener, bytes: Vec::new() })));
            self.deadlines.push((now + LEAVING_US, id));
        } else {
            self.become_client(now, id, peer, &listener);
        }
    }

    fn become_client(&mut self, now: Time, id: SocketId, address: String, listener: &ListenerFacts) {
        // Invariant: a closed client's socket is found by its id, whose slot the new one may take.
        self.perform(now);
        let (local_address, dialect) = (Arc::clone(&listener.address), listener.dialect);
        let opened = ClientOpened { address, local_address, is_tls: false, dialect };
        let client = self.relay.client_opened(now, opened);
        let socket = match self.sockets.get_mut(id) {
            Some(socket) => socket,
            None => self.sockets.insert(id, Owner::Client(client)),
        };
        socket.owner = Owner::Client(client);
        socket.is_fresh = begins_with_tls(dialect);
        socket.dialect = dialect;
        self.client_sockets.insert(client, id);
    }

    pub(super) fn on_proxy_header(&mut self, now: Time, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let Owner::Arriving(arriving) = &mut socket.owner else { return };
        match proxy_protocol::parse(&arriving.bytes) {
            Ok(None) if arriving.bytes.len() < PROXY_HEADER_MOST => {}
            Ok(Some((header, used))) => {
                let rest = arriving.bytes.split_off(used);
                let listener = Arc::clone(&arriving.listener);
                let raw = self.backend.descriptor(id);
                let address = match header.source {
                    Some(source) => source.to_string(),
                    None => raw.map(peer_address).unwrap_or_default(),
                };
                self.become_client(now, id, address, &listener);
                if let Some(first) = rest.first() {
                    let Some(socket) = self.sockets.get_mut(id) else { return };
                    let is_fresh = std::mem::take(&mut socket.is_fresh);
                    if is_fresh && *first == TLS_HANDSHAKE {
                        self.on_rare_bytes(now, id, &rest, true);
                    } else if let Some(Owner::Client(client)) =
                        self.sockets.get_mut(id).map(|socket| &socket.owner)
                    {
                        self.relay.client_bytes(now, *client, &rest);
                    }
                }
            }
            _ => {
                self.events.push(RelayEvent::LoginFailed {
                    user: String::new(),
                    database: String::new(),
                    address: self.backend.descriptor(id).map(peer_address).unwrap_or_default(),
                    cause: "no PROXY protocol header came first; listen.proxy_protocol is on".to_owned(),
                });
                self.drop_socket(id);
            }
        }
    }

    pub(super) fn count_client_gone(&self) {
        self.peers[usize::from(self.id.0)].clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// May a client begin with TLS at once?
fn begins_with_tls(dialect: Dialect) -> bool {
    match dialect {
        Dialect::Postgres => true,
        // Why: servers speak first, and a client's first byte may be any.
        Dialect::Mysql => false,
    }
}
