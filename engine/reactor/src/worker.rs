//! The loop of one worker: bytes arrive, the relay is asked, bytes leave.
//!
//! Knows sockets and the relay, no protocol and no policy: it performs the relay's actions in
//! order, all writes of one round together. Started by `engine`, one thread each.
//!
//! ```text
//!   wait ──► events, mail, time ──► relay ──► actions ──► wait
//! ```

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use maitred_relay::action::{Action, Event as RelayEvent, Patron};
use maitred_relay::ids::{ClientId, ServerId, Time, WorkerId};
use maitred_relay::snapshot::{Address, Endpoint, SslMode};
use maitred_relay::{ClientOpened, Relay};
use maitred_wire::proxy_protocol;
use slotmap::SecondaryMap;
use socket2::{SockAddr, SockRef};

use crate::backend::{AnyBackend, Backend, Chunk, Event, Received, SocketId};
use crate::connect;
use crate::errand::{Errands, Job, Outcome};
use crate::listen;
use crate::mail::{EventQueue, ListenerFacts, Peer, TlsSetup, WorkerMail, WorkerReport};
use crate::socket::{Arriving, Errand, Owner, SocketTable};
use crate::tls::TlsSession;

/// Between two looks at the clock's duties while there is work.
const TICK_US: u64 = 10_000;

/// How long a socket may take to write what is left before it is closed anyway.
const LEAVING_US: u64 = 5_000_000;

/// How long a cancel request may take. Origin: PgBouncer's `cancel_wait_timeout`.
const CANCEL_US: u64 = 10_000_000;

/// Longest PROXY protocol header: version 2 allows 16 + 65535 bytes, ours is what senders use.
const PROXY_HEADER_MOST: usize = 4096;

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

/// A server that waits for its endpoint's address.
struct Lookup {
    server: ServerId,
    endpoint: Arc<Endpoint>,
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
    lookups: std::collections::HashMap<u64, Lookup>,
    next_ticket: u64,
    /// Sockets with a deadline of their own, in no order: leaving ones and cancels.
    deadlines: Vec<(Time, SocketId)>,
    actions: Vec<Action>,
    plaintext: Vec<u8>,
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
        prefer_batches();
        self.relay.prepare_pools();
        let mut events = Vec::new();
        let mut ticked = Time(0);
        let mut next_tick = Time(0);
        while !self.is_stopping {
            let now = self.now();
            let sleep = Duration::from_micros(next_tick.since(now));
            let sleep = (next_tick != Time::NEVER).then_some(sleep);
            if let Err(error) = self.backend.wait(sleep, &mut events) {
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
            Event::Ended { socket, error } => self.on_ended(now, socket, error.map(|error| error.to_string())),
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

    /// Bytes that are encrypted, or that come before there is a client or server.
    fn on_rare_bytes(&mut self, now: Time, id: SocketId, bytes: &[u8], is_first: bool) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.tls.is_some() {
            self.on_ciphertext(now, id, bytes);
            return;
        }
        match &mut socket.owner {
            Owner::Client(client) if is_first && self.tls.clients.is_some() => {
                let _ = client;
                self.start_client_tls(id, true);
                self.on_ciphertext(now, id, bytes);
            }
            Owner::Client(client) => self.relay.client_bytes(now, *client, bytes),
            Owner::Arriving(arriving) => {
                arriving.bytes.extend_from_slice(bytes);
                self.on_proxy_header(now, id);
            }
            Owner::Cancel(errand) if errand.asks_tls => {
                errand.asks_tls = false;
                self.on_cancel_tls_answer(id, bytes[0] == b'S');
            }
            _ => {}
        }
    }

    fn on_ciphertext(&mut self, now: Time, id: SocketId, bytes: &[u8]) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let Some(tls) = &mut socket.tls else { return };
        let was_handshaking = tls.is_handshaking();
        let mut plaintext = std::mem::take(&mut self.plaintext);
        plaintext.clear();
        let fed = tls.feed(bytes, &mut plaintext);
        let is_up = was_handshaking && !tls.is_handshaking() && fed.is_ok();
        if is_up {
            self.on_tls_up(now, id);
        }
        if !plaintext.is_empty() {
            match self.sockets.get_mut(id).map(|socket| &socket.owner) {
                Some(Owner::Client(client)) => self.relay.client_bytes(now, *client, &plaintext),
                Some(Owner::Server(server)) => self.relay.server_bytes(now, *server, &plaintext),
                _ => {}
            }
        }
        let has_ended = self.sockets.get_mut(id).and_then(|socket| socket.tls.as_ref()).is_some_and(|tls| tls.peer_ended());
        plaintext.clear();
        self.plaintext = plaintext;
        self.pump(now, id);
        match fed {
            Err(cause) => self.on_ended(now, id, Some(format!("TLS: {cause}"))),
            Ok(()) if has_ended => self.on_ended(now, id, None),
            Ok(()) => {}
        }
    }

    fn on_tls_up(&mut self, now: Time, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let Some(tls) = &socket.tls else { return };
        match &socket.owner {
            Owner::Client(client) => {
                let (name, binding) = (tls.peer_common_name(), tls.server_end_point_hash());
                self.relay.client_secured(now, *client, name, binding);
            }
            Owner::Server(server) => {
                let server = *server;
                self.relay.server_secured(now, server);
            }
            Owner::Connecting { server, .. } => {
                let server = *server;
                socket.owner = Owner::Server(server);
                let (address, local) = self.addresses_of(id);
                self.relay.server_connected(now, server, address, local, true);
            }
            Owner::Cancel(_) => self.send_cancel(id),
            _ => {}
        }
    }

    fn on_accepted(&mut self, now: Time, listener: SocketId, socket: std::os::fd::OwnedFd) {
        let Some(Owner::Listener(facts)) = self.sockets.get_mut(listener).map(|socket| &socket.owner) else { return };
        let facts = Arc::clone(facts);
        let own = self.peers[usize::from(self.id.0)].clients.load(Ordering::Relaxed);
        let least = self.peers.iter().enumerate().min_by_key(|(_, peer)| peer.clients.load(Ordering::Relaxed));
        match least {
            Some((at, peer)) if at != usize::from(self.id.0) && peer.clients.load(Ordering::Relaxed) < own => {
                peer.clients.fetch_add(1, Ordering::Relaxed);
                peer.send(WorkerMail::Adopt { socket, listener: facts });
            }
            _ => {
                self.peers[usize::from(self.id.0)].clients.fetch_add(1, Ordering::Relaxed);
                self.adopt_client(now, socket, facts);
            }
        }
    }

    fn adopt_client(&mut self, now: Time, socket: std::os::fd::OwnedFd, listener: Arc<ListenerFacts>) {
        let peer = if listener.is_unix { String::new() } else { peer_address(socket.as_raw_fd()) };
        let id = self.backend.adopt(socket);
        if listener.proxy_protocol {
            self.sockets.insert(id, Owner::Arriving(Box::new(Arriving { listener, bytes: Vec::new() })));
            self.deadlines.push((now + LEAVING_US, id));
        } else {
            self.become_client(now, id, peer, &listener.address);
        }
    }

    fn become_client(&mut self, now: Time, id: SocketId, address: String, local_address: &Arc<str>) {
        // Invariant: a closed client's socket is found by its id, whose slot the new one may take.
        self.perform(now);
        let opened = ClientOpened { address, local_address: Arc::clone(local_address), is_tls: false };
        let client = self.relay.client_opened(now, opened);
        match self.sockets.get_mut(id) {
            Some(socket) => socket.owner = Owner::Client(client),
            None => drop(self.sockets.insert(id, Owner::Client(client)).id),
        }
        self.client_sockets.insert(client, id);
    }

    fn on_proxy_header(&mut self, now: Time, id: SocketId) {
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
                socket.is_fresh = true;
                self.become_client(now, id, address, &listener.address);
                if let Some(first) = rest.first() {
                    let is_tls = *first == TLS_HANDSHAKE;
                    if let Some(socket) = self.sockets.get_mut(id) {
                        socket.is_fresh = false;
                    }
                    if is_tls {
                        self.on_rare_bytes(now, id, &rest, true);
                    } else if let Some(Owner::Client(client)) = self.sockets.get_mut(id).map(|socket| &socket.owner) {
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

    fn on_connected(&mut self, now: Time, id: SocketId, result: std::io::Result<()>) {
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
                let direct = endpoint.as_ref().filter(|endpoint| endpoint.tls.direct && endpoint.tls.mode != SslMode::Disable);
                if let Some(endpoint) = direct {
                    let name = endpoint.name.clone();
                    self.start_server_tls(now, id, &name);
                    return;
                }
                socket.owner = Owner::Server(server);
                let (address, local) = self.addresses_of(id);
                self.relay.server_connected(now, server, address, local, false);
            }
            Owner::Cancel(errand) if errand.asks_tls => {
                let mut ask = Vec::new();
                self.relay.dialect().write_tls_request(&mut ask);
                self.write(now, id, ask);
            }
            Owner::Cancel(_) => self.send_cancel(id),
            _ => {}
        }
    }

    fn on_cancel_tls_answer(&mut self, id: SocketId, agreed: bool) {
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

    fn send_cancel(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let Owner::Cancel(errand) = &mut socket.owner {
            let request = std::mem::take(&mut errand.request);
            socket.last_words = request;
            let now = self.now();
            self.pump(now, id);
        }
    }

    fn finish_cancel(&mut self, id: SocketId) {
        let now = self.now();
        if let Some(socket) = self.sockets.get_mut(id) {
            if let Owner::Cancel(errand) = &socket.owner {
                let server = errand.server;
                self.drop_socket(id);
                self.relay.cancel_done(now, server);
            }
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
            Owner::Client(client) => drop(self.client_sockets.remove(client)),
            Owner::Server(server) | Owner::Connecting { server, .. } => drop(self.server_sockets.remove(server)),
            Owner::Arriving(_) => self.count_client_gone(),
            _ => {}
        }
        self.backend.close(id);
    }

    fn count_client_gone(&self) {
        self.peers[usize::from(self.id.0)].clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Both ends of a socket as text: the peer's, ours.
    fn addresses_of(&self, id: SocketId) -> (String, String) {
        let Some(raw) = self.backend.descriptor(id) else { return Default::default() };
        match listen::ends(borrow(raw)) {
            Ok((peer, own)) => (in_text(peer), in_text(own)),
            Err(_) => Default::default(),
        }
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

    fn read_mail(&mut self, now: Time) {
        self.peers[usize::from(self.id.0)].is_woken.store(false, Ordering::Release);
        while let Ok(mail) = self.mailbox.try_recv() {
            self.on_mail(now, mail);
        }
    }

    fn on_mail(&mut self, now: Time, mail: WorkerMail) {
        match mail {
            WorkerMail::Relay(mail) => self.relay.mail(now, mail),
            WorkerMail::Adopt { socket, listener } => self.adopt_client(now, socket, listener),
            WorkerMail::Parcel { socket, tls, server } => {
                self.perform(now);
                let socket = self.backend.adopt(socket);
                let id = self.relay.accept_parcel(now, *server);
                let entry = self.sockets.insert(socket, Owner::Server(id));
                entry.tls = tls;
                entry.is_fresh = false;
                self.server_sockets.insert(id, socket);
                self.relay.parcel_ready(now, id);
            }
            WorkerMail::Errand { patron, salted } => self.relay.errand_done(now, patron, salted),
            WorkerMail::Resolved { ticket, addresses } => self.on_resolved(now, ticket, addresses),
            WorkerMail::Apply { routes, tls } => {
                self.tls = tls;
                self.relay.apply(now, routes);
            }
            WorkerMail::Listen { add, close } => {
                let gone = self.sockets.find(
                    |socket| matches!(&socket.owner, Owner::Listener(facts) if close.iter().any(|a| **a == *facts.address)),
                );
                for id in gone {
                    self.drop_socket(id);
                }
                for (descriptor, facts) in add {
                    let id = self.backend.listen(descriptor);
                    self.sockets.insert(id, Owner::Listener(facts));
                }
            }
            WorkerMail::Pause(database) => self.relay.pause(database.as_deref()),
            WorkerMail::Resume(database) => self.relay.resume(now, database.as_deref()),
            // Whoever asked may have stopped waiting; then nobody needs the answer.
            WorkerMail::Kill(database, reply) => drop(reply.send(self.relay.kill(now, database.as_deref()))),
            WorkerMail::KillClient(client, reply) => drop(reply.send(self.relay.kill_client(now, client))),
            WorkerMail::Reconnect(database) => self.relay.reconnect(now, database.as_deref()),
            WorkerMail::Leased(database, reply) => drop(reply.send(self.relay.leased(database.as_deref()))),
            WorkerMail::UserAnswered(token, user) => self.relay.user_answered(now, token, user.map(|user| *user)),
            WorkerMail::Console(client, answer) => self.relay.console_answered(now, client, &answer),
            WorkerMail::Report { with_connections, reply } => {
                let report = WorkerReport {
                    worker: self.id.0,
                    relay: self.relay.report(now, with_connections),
                    loops: self.loops,
                    sockets: self.backend.sockets(),
                    backend: self.backend.name(),
                };
                drop(reply.send(report));
            }
            WorkerMail::Drain => {
                for id in self.sockets.find(|socket| matches!(socket.owner, Owner::Listener(_))) {
                    self.drop_socket(id);
                }
                self.relay.drain(now);
            }
            WorkerMail::Stop => self.is_stopping = true,
        }
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

    fn act(&mut self, now: Time, action: Action) {
        match action {
            Action::FlushClient(client) => {
                if let Some(id) = self.client_sockets.get(client).copied() {
                    self.pump(now, id);
                }
            }
            Action::FlushServer(server) => {
                if let Some(id) = self.server_sockets.get(server).copied() {
                    self.pump(now, id);
                }
            }
            Action::CloseClient { client, last_words } => {
                self.count_client_gone();
                if let Some(id) = self.client_sockets.remove(client) {
                    self.leave(now, id, last_words);
                }
            }
            Action::CloseServer { server, last_words } => {
                self.lookups.retain(|_, lookup| lookup.server != server);
                if let Some(id) = self.server_sockets.remove(server) {
                    self.leave(now, id, last_words);
                }
            }
            Action::PauseClient(client) => {
                if let Some(id) = self.client_sockets.get(client) {
                    self.backend.pause(*id);
                }
            }
            Action::ResumeClient(client) => {
                if let Some(id) = self.client_sockets.get(client) {
                    self.backend.resume(*id);
                }
            }
            Action::PauseServer(server) => {
                if let Some(id) = self.server_sockets.get(server) {
                    self.backend.pause(*id);
                }
            }
            Action::ResumeServer(server) => {
                if let Some(id) = self.server_sockets.get(server) {
                    self.backend.resume(*id);
                }
            }
            Action::StartClientTls(client) => {
                if let Some(id) = self.client_sockets.get(client).copied() {
                    self.start_client_tls(id, false);
                }
            }
            Action::StartServerTls(server) => {
                if let (Some(id), Some(endpoint)) = (self.server_sockets.get(server).copied(), self.relay.endpoint_of(server)) {
                    self.start_server_tls(now, id, &endpoint.name);
                }
            }
            Action::OpenServer { server, endpoint, .. } => {
                self.look_up(now, Lookup { server, endpoint });
            }
            Action::OpenCancel { server, endpoint, key } => {
                let mut request = Vec::new();
                self.relay.dialect().write_cancel(&mut request, &key);
                let asks_tls = self.relay.is_server_tls(server) && !endpoint.tls.direct;
                let errand = Box::new(Errand { server, endpoint: endpoint.name.clone(), request, asks_tls });
                self.connect_cancel(now, errand);
            }
            Action::Errand { patron, errand } => self.run_errand(now, patron, errand),
            Action::Mail { to, mail } => self.peers[usize::from(to.0)].send(WorkerMail::Relay(mail)),
            Action::MoveServer { server, to } => {
                if let Some(id) = self.server_sockets.get(server).copied() {
                    if let Some(socket) = self.sockets.get_mut(id) {
                        socket.moving_to = Some(to);
                        if !socket.is_writing {
                            self.backend.detach(id);
                        }
                    }
                }
            }
            Action::Tell(event) => self.events.push(event),
        }
    }

    fn run_errand(&mut self, now: Time, patron: Patron, errand: maitred_wire::handshake::Errand) {
        let own = self.peers[usize::from(self.id.0)].clone();
        let deliver = Box::new(move |outcome| {
            if let Outcome::Salted(salted) = outcome {
                own.send(WorkerMail::Errand { patron, salted });
            }
        });
        if let Err(busy) = self.errands.submit(Job::Handshake(errand), deliver) {
            match patron {
                Patron::Client(client) => self.relay.login_overload(now, client, busy.to_string()),
                Patron::Server(server) => self.relay.server_closed(now, server, Some(busy.to_string())),
            }
        }
    }

    /// Find where an endpoint is: at once where that is known, else by asking elsewhere.
    fn look_up(&mut self, now: Time, lookup: Lookup) {
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
                let server = lookup.server;
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

    fn on_resolved(&mut self, now: Time, ticket: u64, addresses: Result<Vec<SocketAddr>, String>) {
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
    fn connect_next(&mut self, now: Time, server: ServerId, mut destinations: Vec<SockAddr>, mut cause: String) {
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

    fn connect_cancel(&mut self, now: Time, errand: Box<Errand>) {
        let server = errand.server;
        // Why the very same address: a name may stand for several hosts.
        let peer = self.server_sockets.get(server).and_then(|id| self.backend.descriptor(*id)).map(peer_of);
        let opened = match peer {
            Some(Ok(peer)) => connect::socket_for(&peer, self.relay.limits()).map(|descriptor| (descriptor, peer)),
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

    fn start_client_tls(&mut self, id: SocketId, is_direct: bool) {
        let Some(config) = self.tls.clients.clone() else { return };
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.tls = Some(Box::new(TlsSession::accept(&config, is_direct)));
        }
    }

    fn start_server_tls(&mut self, now: Time, id: SocketId, endpoint: &str) {
        let config = self.tls.servers.get(endpoint).cloned();
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match config.ok_or_else(|| "no TLS is configured for this endpoint".to_owned()).and_then(|c| TlsSession::connect(&c)) {
            Ok(session) => {
                socket.tls = Some(Box::new(session));
                self.pump(now, id);
            }
            Err(cause) => self.on_ended(now, id, Some(format!("TLS: {cause}"))),
        }
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
                    drop(SockRef::from(&borrow(raw)).shutdown(std::net::Shutdown::Write));
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

/// Ask the scheduler not to let us interrupt whoever runs.
///
/// Why: woken for each event at once, a worker goes through its loop for one event at a time; when
/// it waits its turn, it finds several and pays for the loop once.
/// Measured: bench, CPU per query at 32 and 200 clients, a quarter to a third less with io_uring.
fn prefer_batches() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid structure; a kernel that refuses leaves the thread as it was.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameters) };
}

fn peer_of(raw: RawFd) -> std::io::Result<SockAddr> {
    SockRef::from(&borrow(raw)).peer_addr()
}

fn peer_address(raw: RawFd) -> String {
    listen::ends(borrow(raw)).map(|(peer, _)| in_text(peer)).unwrap_or_default()
}

fn in_text((host, port): listen::End) -> String {
    match (host.contains(':'), port) {
        (_, 0) => host,
        (true, port) => format!("[{host}]:{port}"),
        (false, port) => format!("{host}:{port}"),
    }
}

fn borrow<'a>(raw: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the back end names only descriptors that it holds open, and each use here ends
    // before the back end is called again.
    unsafe { BorrowedFd::borrow_raw(raw) }
}

/// First byte of a TLS handshake. Spec: RFC 8446, section 5.1.
const TLS_HANDSHAKE: u8 = 0x16;
