//! The loop of one worker: bytes arrive, the relay is asked, bytes leave.
//!
//! Knows sockets and the relay, no protocol and no policy: it performs the relay's actions in
//! order, all writes of one round together. Started by `engine`, one thread each.
//!
//! ```text
//!   wait ──► events, mail, time ──► relay ──► actions ──► wait
//! ```

mod actions;
mod address;
mod arrival;
mod cancel;
mod connecting;
mod encrypted;
mod mailbox;
mod patience;

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use maitred_relay::action::{Action, Event as RelayEvent};
use maitred_relay::ids::{ClientId, ServerId, Time, WorkerId};
use maitred_relay::Relay;
use slotmap::SecondaryMap;
use socket2::SockRef;

use self::address::borrow;
use self::connecting::Lookup;
use self::encrypted::TLS_HANDSHAKE;
use self::patience::Patience;
use crate::backend::{AnyBackend, Backend, Chunk, Event, Received, SocketId};
use crate::errand::Errands;
use crate::mail::{EventQueue, Peer, TlsSetup, WorkerMail};
use crate::socket::{Owner, SocketTable};

/// Between two looks at the clock's duties while there is work.
const TICK_US: u64 = 10_000;

/// How long a socket may take to write what is left before it is closed anyway.
const LEAVING_US: u64 = 5_000_000;

/// What a worker is given at its start.
pub struct Outfit {
    pub id: WorkerId,
    pub backend: AnyBackend,
    pub relay: Relay,
    pub mailbox: Receiver<WorkerMail>,
    pub peers: Arc<[Peer]>,
    pub events: Arc<EventQueue>,
    pub errands: Arc<Errands>,
    pub tls: Arc<TlsSetup>,
    pub started: Instant,
    /// Workers whose clients have all left.
    pub drained: Arc<AtomicUsize>,
}

pub struct Worker {
    id: WorkerId,
    backend: AnyBackend,
    relay: Relay,
    mailbox: Receiver<WorkerMail>,
    peers: Arc<[Peer]>,
    events: Arc<EventQueue>,
    errands: Arc<Errands>,
    tls: Arc<TlsSetup>,
    started: Instant,
    sockets: SocketTable,
    client_sockets: SecondaryMap<ClientId, SocketId>,
    server_sockets: SecondaryMap<ServerId, SocketId>,
    lookups: HashMap<u64, Lookup>,
    next_ticket: u64,
    /// Sockets with a deadline of their own, in no order: leaving ones and cancels.
    deadlines: Vec<(Time, SocketId)>,
    actions: Vec<Action>,
    plaintext: Vec<u8>,
    patience: Patience,
    loops: u64,
    is_stopping: bool,
    has_drained: bool,
    drained: Arc<AtomicUsize>,
}

impl Worker {
    pub fn new(outfit: Outfit) -> Self {
        Self {
            id: outfit.id,
            backend: outfit.backend,
            relay: outfit.relay,
            mailbox: outfit.mailbox,
            peers: outfit.peers,
            events: outfit.events,
            errands: outfit.errands,
            tls: outfit.tls,
            started: outfit.started,
            sockets: SocketTable::default(),
            client_sockets: SecondaryMap::new(),
            server_sockets: SecondaryMap::new(),
            lookups: Default::default(),
            next_ticket: 0,
            deadlines: Vec::new(),
            actions: Vec::new(),
            plaintext: Vec::new(),
            patience: Patience::default(),
            loops: 0,
            is_stopping: false,
            has_drained: false,
            drained: outfit.drained,
        }
    }

    fn now(&self) -> Time {
        Time(self.started.elapsed().as_micros() as u64)
    }

    /// Run until told to stop.
    pub fn run(mut self) {
        self.relay.prepare_pools();
        let mut events = Vec::new();
        let mut ticked = Time(0);
        let mut next_tick = Time(0);
        while !self.is_stopping {
            let deadline =
                (next_tick != Time::NEVER).then(|| self.started + Duration::from_micros(next_tick.0));
            if self.backend.sends_later() {
                let started = self.started;
                self.patience.give_way(|| Time(started.elapsed().as_micros() as u64));
            }
            if let Err(error) = self.backend.wait(deadline, &mut events) {
                // The back end itself failed; nothing can be served without it.
                eprintln!("maitred: worker {}: {} failed: {error}", self.id.0, self.backend.name());
                return;
            }
            self.loops += 1;
            let now = self.now();
            for event in events.drain(..) {
                self.on_event(now, event);
            }
            self.read_mail(now);
            if ticked.since(Time(0)) == 0 || now.since(ticked) >= TICK_US || now >= next_tick {
                next_tick = self.relay.tick(now).min(self.tick_sockets(now));
                ticked = now;
                self.patience.observe(self.relay.busy_servers());
            } else {
                // Something happened since the last look: look again soon, once for all of it.
                next_tick = next_tick.min(ticked + TICK_US);
            }
            self.perform(now);
            self.report_drained();
        }
    }

    /// Once all clients of all workers have left, say so.
    fn report_drained(&mut self) {
        if !self.has_drained && self.relay.is_drained() {
            self.has_drained = true;
            if self.drained.fetch_add(1, Ordering::AcqRel) + 1 == self.peers.len() {
                self.events.push(RelayEvent::Drained);
            }
        }
    }

    fn on_event(&mut self, now: Time, event: Event) {
        match event {
            Event::Received(received) => self.on_received(now, received),
            Event::Written { socket, buffer, result } => {
                self.relay.give_buffer(buffer);
                self.on_written(now, socket, result.map_err(|error| error.to_string()));
            }
            Event::Accepted { listener, socket } => self.on_accepted(now, listener, socket),
            Event::AcceptFailed { error, .. } => {
                self.events.push(RelayEvent::LoginFailed {
                    user: String::new(),
                    database: String::new(),
                    address: String::new(),
                    cause: format!("cannot accept a connection: {error}; raise the limit on open files"),
                });
            }
            Event::Connected { socket, result } => self.on_connected(now, socket, result),
            Event::Ended { socket, error } => {
                self.on_ended(now, socket, error.map(|error| error.to_string()))
            }
            Event::Detached { socket, descriptor } => {
                let Some(mut entry) = self.sockets.remove(socket) else { return };
                if let Owner::Server(id) = entry.owner {
                    self.server_sockets.remove(id);
                    if let Some((to, server)) = self.relay.take_parcel(now, id) {
                        let mail = WorkerMail::Parcel { socket: descriptor, tls: entry.tls.take(), server };
                        self.peers[usize::from(to.0)].send(mail);
                    }
                }
            }
        }
    }

    #[inline]
    fn on_received(&mut self, now: Time, received: Received) {
        let id = received.socket;
        let Some(socket) = self.sockets.get_mut(id) else {
            self.backend.recycle(received);
            return;
        };
        let ended = match self.backend.chunk(&received) {
            Chunk::Bytes(bytes) => {
                let is_first = std::mem::take(&mut socket.is_fresh);
                match (&mut socket.tls, &mut socket.owner) {
                    // The hot path: plain bytes of a client or a server.
                    (None, Owner::Server(server)) => self.relay.server_bytes(now, *server, bytes),
                    (None, Owner::Client(client)) if !(is_first && bytes[0] == TLS_HANDSHAKE) => {
                        self.relay.client_bytes(now, *client, bytes);
                    }
                    (Some(tls), _) => {
                        let was_handshaking = tls.is_handshaking();
                        self.plaintext.clear();
                        let fed = tls.feed(bytes, &mut self.plaintext);
                        self.backend.recycle(received);
                        self.on_decrypted(now, id, was_handshaking, fed);
                        return;
                    }
                    _ => {
                        let bytes = bytes.to_vec();
                        self.backend.recycle(received);
                        self.on_rare_bytes(now, id, &bytes, is_first);
                        return;
                    }
                }
                None
            }
            Chunk::Nothing => None,
            Chunk::Ended(error) => Some(error.map(|error| error.to_string())),
        };
        self.backend.recycle(received);
        if let Some(error) = ended {
            self.on_ended(now, id, error);
        }
    }

    fn on_written(&mut self, now: Time, id: SocketId, result: Result<(), String>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.is_writing = false;
        if let Err(error) = result {
            self.on_ended(now, id, Some(error));
            return;
        }
        match socket.owner {
            Owner::Client(client) => self.relay.client_written(now, client),
            Owner::Server(server) => self.relay.server_written(now, server),
            _ => {}
        }
        self.pump(now, id);
    }

    fn on_ended(&mut self, now: Time, id: SocketId, error: Option<String>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match &socket.owner {
            Owner::Client(client) => {
                let client = *client;
                self.relay.client_closed(now, client);
            }
            Owner::Server(server) | Owner::Connecting { server, .. } => {
                let server = *server;
                self.relay.server_closed(now, server, error);
            }
            Owner::Cancel(_) => self.finish_cancel(id),
            Owner::Arriving(_) | Owner::Leaving => self.drop_socket(id),
            Owner::Listener(_) => {}
        }
    }

    /// Forget a socket and close it.
    fn drop_socket(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(id) else { return };
        match socket.owner {
            Owner::Client(client) => {
                self.client_sockets.remove(client);
            }
            Owner::Server(server) | Owner::Connecting { server, .. } => {
                self.server_sockets.remove(server);
            }
            Owner::Arriving(_) => self.count_client_gone(),
            _ => {}
        }
        self.backend.close(id);
    }

    fn tick_sockets(&mut self, now: Time) -> Time {
        let mut next = Time::NEVER;
        let deadlines = std::mem::take(&mut self.deadlines);
        for (deadline, id) in deadlines {
            let Some(socket) = self.sockets.get_mut(id) else { continue };
            match socket.owner {
                Owner::Leaving | Owner::Arriving(_) if deadline <= now => self.drop_socket(id),
                Owner::Cancel(_) if deadline <= now => self.finish_cancel(id),
                Owner::Leaving | Owner::Arriving(_) | Owner::Cancel(_) => {
                    next = next.min(deadline);
                    self.deadlines.push((deadline, id));
                }
                _ => {}
            }
        }
        next
    }

    /// Do what the relay wants done, until it wants nothing more.
    fn perform(&mut self, now: Time) {
        let mut actions = std::mem::take(&mut self.actions);
        loop {
            self.relay.take_actions(&mut actions);
            if actions.is_empty() {
                break;
            }
            for action in actions.drain(..) {
                self.act(now, action);
            }
        }
        self.actions = actions;
    }

    /// Write `last_words` and what is under way, then close.
    fn leave(&mut self, now: Time, id: SocketId, last_words: Vec<u8>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.owner = Owner::Leaving;
        socket.has_last_words = !last_words.is_empty();
        socket.is_lingering = socket.has_last_words;
        socket.last_words = last_words;
        self.deadlines.push((now + LEAVING_US, id));
        self.pump(now, id);
    }

    /// Write what is due on a socket, unless a write is under way.
    #[inline]
    fn pump(&mut self, now: Time, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.is_writing {
            return;
        }
        let is_ready = socket.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        let mut buffer = Vec::new();
        if is_ready {
            match socket.owner {
                Owner::Client(client) => self.relay.take_client_output(client, &mut buffer),
                Owner::Server(server) => self.relay.take_server_output(server, &mut buffer),
                _ => buffer = std::mem::take(&mut socket.last_words),
            }
        }
        if let Some(tls) = &mut socket.tls {
            let mut sealed = self.relay.buffer();
            if !buffer.is_empty() {
                tls.encrypt(&buffer, &mut sealed);
            }
            if matches!(socket.owner, Owner::Leaving) && is_ready {
                tls.close_notify(&mut sealed);
            }
            tls.take_output(&mut sealed);
            self.relay.give_buffer(std::mem::replace(&mut buffer, sealed));
        }
        if !buffer.is_empty() {
            self.write(now, id, buffer);
            return;
        }
        self.relay.give_buffer(buffer);
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match (&socket.owner, socket.moving_to) {
            // Why not closed at once: bytes that nobody has read would turn the close into a reset,
            // and the peer would lose our last words. It closes first, or the deadline does.
            (Owner::Leaving, _) if socket.has_last_words => {
                socket.has_last_words = false;
                if let Some(raw) = self.backend.descriptor(id) {
                    // A peer that has gone already is closed all the same.
                    drop(SockRef::from(&borrow(raw)).shutdown(Shutdown::Write));
                }
            }
            (Owner::Leaving, _) if !socket.is_lingering => self.drop_socket(id),
            (Owner::Server(_), Some(_)) => self.backend.detach(id),
            _ => {}
        }
    }

    fn write(&mut self, now: Time, id: SocketId, buffer: Vec<u8>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.is_writing = true;
        if let Some(buffer) = self.backend.send_now(id, buffer) {
            self.relay.give_buffer(buffer);
            self.on_written(now, id, Ok(()));
        }
    }
}
