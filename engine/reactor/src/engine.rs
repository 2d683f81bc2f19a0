//! The engine: workers, listeners, helper threads, and one snapshot at a time for all of them.
//!
//! Touches no client byte; it starts threads and puts mail into their boxes. Called by `binding`,
//! whose methods it matches one to one.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use maitred_relay::action::Event;
use maitred_relay::budget::Shared;
use maitred_relay::console::ConsoleAnswer;
use maitred_relay::ids::WorkerId;
use maitred_relay::route::{self, Routes};
use maitred_relay::snapshot::{Listener, Snapshot, SslMode, User};
use maitred_relay::Relay;

use crate::backend::{self, Backend};
use crate::errand::Errands;
use crate::listen::{self, Bound};
use crate::mail::{EventQueue, ListenerFacts, Peer, TlsSetup, WorkerMail, WorkerReport};
use crate::tls::{TlsClientConfig, TlsServerConfig};
use crate::worker::{Outfit, Worker};

/// How long an answer of a worker is waited for; it is busy for milliseconds at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Workers taken by themselves at most; more are started when asked for.
const WORKERS_BY_DEFAULT: usize = 4;

/// More than cancel keys can name.
const WORKERS_MOST: usize = 62;

pub struct Engine {
    peers: Arc<[Peer]>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    events: Arc<EventQueue>,
    backend: &'static str,
    note: Option<String>,
}

/// What changes with each snapshot.
struct State {
    routes: Arc<Routes>,
    bound: Vec<(Listener, Vec<Bound>)>,
}

impl Engine {
    /// Bind the listeners and start the workers.
    ///
    /// # Errors
    /// What is wrong with the snapshot, a listener or the machine, and what to change.
    pub fn start(snapshot: Snapshot, workers: usize, backend: &str) -> Result<Engine, String> {
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_BY_DEFAULT),
            asked if asked <= WORKERS_MOST => asked,
            asked => return Err(format!("engine.workers is {asked}; at most {WORKERS_MOST} are possible")),
        };
        let shared = Shared::new(workers, random_secret()?);
        let tls = Arc::new(build_tls(&snapshot)?);
        let mut bound = Vec::new();
        for listener in &snapshot.listeners {
            bound.push((listener.clone(), listen::bind(listener, &snapshot.limits)?));
        }
        let routes = Routes::new(snapshot, &shared)?;
        let events = EventQueue::new().map_err(|error| format!("no descriptor for events: {error}"))?;
        let errands =
            Errands::start().map_err(|error| format!("helper threads cannot be started: {error}"))?;
        let errands = Arc::new(errands);

        let mut opened = Vec::new();
        let mut note = None;
        for _ in 0..workers {
            let (backend, why) = backend::open(backend).map_err(|error| error.to_string())?;
            note = note.or(why);
            opened.push(backend);
        }
        let name = opened[0].name();
        let boxes: Vec<_> = opened.iter().map(|backend| Peer::new(backend.waker())).collect();
        let peers: Arc<[Peer]> = boxes.iter().map(|(peer, _)| peer.clone()).collect();
        let started = Instant::now();
        let drained = Arc::default();
        let mut threads = Vec::new();
        for (at, (backend, (_, mailbox))) in opened.into_iter().zip(boxes).enumerate() {
            let id = WorkerId(at as u16);
            let outfit = Outfit {
                id,
                backend,
                relay: Relay::new(id, Arc::clone(&shared), Arc::clone(&routes)),
                mailbox,
                peers: Arc::clone(&peers),
                events: Arc::clone(&events),
                errands: Arc::clone(&errands),
                tls: Arc::clone(&tls),
                started,
                drained: Arc::clone(&drained),
            };
            let thread = std::thread::Builder::new()
                .name(format!("maitred-{at}"))
                .spawn(move || Worker::new(outfit).run())
                .map_err(|error| format!("worker {at} cannot be started: {error}"))?;
            threads.push(thread);
        }
        let engine = Engine {
            peers,
            threads: Mutex::new(threads),
            shared,
            state: Mutex::new(State { routes, bound: Vec::new() }),
            events,
            backend: name,
            note,
        };
        engine.open_listeners(&bound)?;
        engine.state.lock().expect("state").bound = bound;
        Ok(engine)
    }

    /// Have the first worker accept on `bound`.
    ///
    /// Why one worker: it knows how many clients each has, and sends a new one to the least busy.
    fn open_listeners(&self, bound: &[(Listener, Vec<Bound>)]) -> Result<(), String> {
        let mut add = Vec::new();
        for (listener, sockets) in bound {
            for socket in sockets {
                let facts = ListenerFacts {
                    address: socket.address.as_str().into(),
                    dialect: listener.dialect,
                    proxy_protocol: listener.proxy_protocol,
                    is_unix: socket.address.starts_with('/'),
                };
                let descriptor = socket.share().map_err(|error| format!("{}: {error}", socket.address))?;
                add.push((descriptor, Arc::new(facts)));
            }
        }
        self.peers[0].send(WorkerMail::Listen { add, close: Vec::new() });
        Ok(())
    }

    /// Replace the snapshot, all or nothing.
    ///
    /// # Errors
    /// What in it cannot be used; nothing has changed then.
    pub fn apply(&self, snapshot: Snapshot) -> Result<(), String> {
        let tls = Arc::new(build_tls(&snapshot)?);
        let mut state = self.state.lock().expect("state");
        let mut fresh = Vec::new();
        for listener in &snapshot.listeners {
            if !state.bound.iter().any(|(have, _)| have == listener) {
                fresh.push((listener.clone(), listen::bind(listener, &snapshot.limits)?));
            }
        }
        let wanted = snapshot.listeners.clone();
        let limits = snapshot.limits.clone();
        let routes = Routes::new(snapshot, &self.shared)?;
        for (_, sockets) in &state.bound {
            for socket in sockets {
                socket.retune(&limits).map_err(|error| format!("{}: {error}", socket.address))?;
            }
        }
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.bound).into_iter().partition(|(have, _)| wanted.contains(have));
        let close =
            gone.iter().flat_map(|(_, sockets)| sockets).map(|socket| socket.address.clone()).collect();
        self.peers[0].send(WorkerMail::Listen { add: Vec::new(), close });
        self.open_listeners(&fresh)?;
        state.bound = kept;
        state.bound.extend(fresh);
        state.routes = Arc::clone(&routes);
        for peer in self.peers.iter() {
            peer.send(WorkerMail::Apply { routes: Arc::clone(&routes), tls: Arc::clone(&tls) });
        }
        Ok(())
    }

    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// Why it is not the back end that was preferred.
    pub fn backend_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    /// Where it listens, ports resolved.
    pub fn addresses(&self) -> Vec<String> {
        let state = self.state.lock().expect("state");
        state.bound.iter().flat_map(|(_, sockets)| sockets).map(|socket| socket.address.clone()).collect()
    }

    /// Readable while events wait.
    pub fn events_descriptor(&self) -> RawFd {
        self.events.descriptor()
    }

    pub fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    /// Answer a console statement.
    pub fn answer_console(&self, client: u64, answer: ConsoleAnswer) {
        self.send_to_owner(client, WorkerMail::Console(client, answer));
    }

    /// Say who the user of an `AskUser` event is; None: nobody knows.
    ///
    /// # Errors
    /// A verifier that cannot be read; the login ends as that of an unknown user.
    pub fn answer_user(&self, token: u64, user: Option<&User>) -> Result<(), String> {
        let known = user.map(route::known_user).transpose();
        let (known, refusal) = match known {
            Ok(known) => (known, Ok(())),
            Err(cause) => (None, Err(cause)),
        };
        self.send_to_owner(token, WorkerMail::UserAnswered(token, known.map(Box::new)));
        refusal
    }

    fn send_to_owner(&self, public: u64, mail: WorkerMail) {
        if let Some(peer) = self.peers.get((public >> 56) as usize) {
            peer.send(mail);
        }
    }

    pub fn pause(&self, database: Option<&str>) {
        self.shared.set_paused(database, true);
        self.broadcast(|| WorkerMail::Pause(database.map(str::to_owned)));
    }

    pub fn resume(&self, database: Option<&str>) {
        self.broadcast(|| WorkerMail::Resume(database.map(str::to_owned)));
    }

    pub fn reconnect(&self, database: Option<&str>) {
        self.broadcast(|| WorkerMail::Reconnect(database.map(str::to_owned)));
    }

    /// Is a pause in force, and has everybody given back the servers of `database`?
    pub fn paused(&self, database: Option<&str>) -> bool {
        let leased = || self.gather(|reply| WorkerMail::Leased(database.map(str::to_owned), reply));
        self.shared.is_paused(database) && leased().into_iter().sum::<usize>() == 0
    }

    /// Close clients and servers of `database` at once; returns how many clients.
    pub fn kill(&self, database: Option<&str>) -> usize {
        self.gather(|reply| WorkerMail::Kill(database.map(str::to_owned), reply)).into_iter().sum()
    }

    pub fn kill_client(&self, client: u64) -> bool {
        self.gather(|reply| WorkerMail::KillClient(client, reply)).contains(&true)
    }

    /// Accept nobody, let everybody finish.
    pub fn drain(&self) {
        self.state.lock().expect("state").bound.clear();
        self.broadcast(|| WorkerMail::Drain);
    }

    /// The workers' reports; one that does not answer in time is left out.
    pub fn report(&self, with_connections: bool) -> Vec<WorkerReport> {
        self.gather(|reply| WorkerMail::Report { with_connections, reply })
    }

    /// Close everything now and wait for the workers to end.
    pub fn stop(&self) {
        self.broadcast(|| WorkerMail::Stop);
        for thread in self.threads.lock().expect("threads").drain(..) {
            // A worker that panicked has said so already.
            drop(thread.join());
        }
        self.state.lock().expect("state").bound.clear();
    }

    fn broadcast(&self, mail: impl Fn() -> WorkerMail) {
        for peer in self.peers.iter() {
            peer.send(mail());
        }
    }

    fn gather<T>(&self, mail: impl Fn(Sender<T>) -> WorkerMail) -> Vec<T> {
        let (sender, receiver): (Sender<T>, Receiver<T>) = crossbeam_channel::bounded(self.peers.len());
        self.broadcast(|| mail(sender.clone()));
        drop(sender);
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut answers = Vec::new();
        while answers.len() < self.peers.len() {
            match receiver.recv_deadline(deadline) {
                Ok(answer) => answers.push(answer),
                Err(_) => break,
            }
        }
        answers
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn build_tls(snapshot: &Snapshot) -> Result<TlsSetup, String> {
    let mut setup = TlsSetup::default();
    if let Some(clients) = snapshot.client_tls.as_ref().filter(|tls| tls.mode != SslMode::Disable) {
        setup.clients = Some(TlsServerConfig::build(clients)?);
    }
    for endpoint in snapshot.endpoints.iter().filter(|endpoint| endpoint.tls.mode != SslMode::Disable) {
        let config = TlsClientConfig::build(&endpoint.tls, &endpoint.address)?;
        setup.servers.insert(endpoint.name.clone(), config);
    }
    Ok(setup)
}

fn random_secret() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| format!("the system gives no randomness: {error}"))?;
    Ok(secret)
}
