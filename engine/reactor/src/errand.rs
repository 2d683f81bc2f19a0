//! Work that is too slow for a worker's loop: salting passwords and resolving names.
//!
//! Never touches a socket of a client or server, and never runs a worker's code except the closure that
//! came with the job. Called by `worker`; the closure usually puts the outcome in its mailbox and wakes it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, Receiver, Sender};
use maitred_wire::handshake::{Errand, ErrandOutcome};

/// What is asked.
#[derive(Debug)]
pub enum Job {
    /// Part of a login.
    Handshake(Errand),
    /// The addresses of a host.
    Resolve { host: String, port: u16 },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of `Job::Handshake`.
    Handshake(ErrandOutcome),
    /// Of `Job::Resolve`: at least one address, or the reason in words.
    Resolved(Result<Vec<SocketAddr>, String>),
}

/// Run on a helper thread with the outcome.
pub type Deliver = Box<dyn FnOnce(Outcome) + Send>;

/// The queue is full; the job was not taken and its closure never runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("too many logins or name look-ups are waiting")
    }
}

impl std::error::Error for Busy {}

const SALTERS: usize = 2;
const RESOLVERS: usize = 2;
/// Why: enough for every client that may be logging in at once; behind that, refusing is quicker than waiting.
const QUEUE: usize = 4096;
/// As PgBouncer's `dns_max_ttl`.
const FOUND_FOR: Duration = Duration::from_secs(15);
/// Why: short, for a name that was just added must be found; but not each retry of a pool asks again.
const MISSED_FOR: Duration = Duration::from_secs(2);

type Lookup = Result<Vec<IpAddr>, String>;

/// The helper threads. They end when it is dropped, after the job they are at.
///
/// Salting and resolving have threads of their own, because a name server that does not answer
/// holds a thread for many seconds, and no login may wait for that.
pub struct Errands {
    salting: Sender<(Errand, Deliver)>,
    resolving: Sender<(String, u16, Deliver)>,
    names: Arc<Names>,
}

impl Errands {
    /// Start the threads.
    ///
    /// # Errors
    /// The machine refuses more threads.
    pub fn start() -> std::io::Result<Self> {
        let (salting, salting_jobs) = bounded::<(Errand, Deliver)>(QUEUE);
        let (resolving, resolving_jobs) = bounded::<(String, u16, Deliver)>(QUEUE);
        let names = Arc::new(Names::default());
        for _ in 0..SALTERS {
            spawn(&salting_jobs, |(errand, deliver)| deliver(Outcome::Handshake(errand.run())))?;
        }
        for _ in 0..RESOLVERS {
            let names = Arc::clone(&names);
            spawn(&resolving_jobs, move |(host, port, deliver)| {
                deliver(Outcome::Resolved(names.look_up(&host, port)));
            })?;
        }
        Ok(Self { salting, resolving, names })
    }

    /// Have `job` done; `deliver` is run on a helper thread, exactly once.
    ///
    /// # Errors
    /// `Busy`: nothing was queued.
    pub fn submit(&self, job: Job, deliver: Deliver) -> Result<(), Busy> {
        match job {
            Job::Handshake(errand) => self.salting.try_send((errand, deliver)).map_err(|_| Busy),
            Job::Resolve { host, port } => self.resolving.try_send((host, port, deliver)).map_err(|_| Busy),
        }
    }

    /// The addresses of `host` without waiting: it is a literal, or was looked up a moment ago.
    pub fn known(&self, host: &str, port: u16) -> Option<Result<Vec<SocketAddr>, String>> {
        self.names.known(host).map(|lookup| with_port(lookup, port))
    }
}

fn spawn<J: Send + 'static>(jobs: &Receiver<J>, work: impl Fn(J) + Send + 'static) -> std::io::Result<()> {
    let jobs = jobs.clone();
    // Why: not joined; a look-up may hang for longer than anybody waits for a stop.
    std::thread::Builder::new().name("errand".to_owned()).spawn(move || jobs.iter().for_each(work)).map(drop)
}

fn with_port(lookup: Lookup, port: u16) -> Result<Vec<SocketAddr>, String> {
    lookup.map(|found| found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// What names stood for when they were last looked up.
#[derive(Default)]
struct Names {
    seen: Mutex<HashMap<String, (Instant, Lookup)>>,
}

impl Names {
    fn known(&self, host: &str) -> Option<Lookup> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse() {
            return Some(Ok(vec![address]));
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, lookup) = seen.get(host)?;
        (Instant::now() < *until).then(|| lookup.clone())
    }

    fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let lookup = self.known(host).unwrap_or_else(|| {
            let lookup = ask_system(host);
            let kept = if lookup.is_ok() { FOUND_FOR } else { MISSED_FOR };
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            seen.retain(|_, (until, _)| now < *until);
            seen.insert(host.to_owned(), (now + kept, lookup.clone()));
            lookup
        });
        with_port(lookup, port)
    }
}

fn ask_system(host: &str) -> Lookup {
    let found = (host, 0).to_socket_addrs();
    let found = found.map_err(|error| format!("the host name \"{host}\" cannot be resolved: {error}"))?;
    let mut addresses = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("the host name \"{host}\" has no address"));
    }
    Ok(addresses)
}
