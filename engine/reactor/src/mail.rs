//! What threads send each other: mail to workers, events to Python.
//!
//! Queues and wake-ups only. Called by `worker` and `engine`.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};
use maitred_relay::action::{self, Patron};
use maitred_relay::console::ConsoleAnswer;
use maitred_relay::report::Report;
use maitred_relay::route::{KnownUser, Routes};
use maitred_relay::server::Server;
use maitred_wire::handshake::ErrandOutcome;
use maitred_wire::Dialect;

use crate::backend::Waker;
use crate::tls::TlsSession;

/// Mail to a worker.
pub enum WorkerMail {
    Relay(action::Mail),
    /// A connection accepted by another worker.
    Adopt {
        socket: OwnedFd,
        listener: Arc<ListenerFacts>,
    },
    /// A server from another worker, with its socket.
    Parcel {
        socket: OwnedFd,
        tls: Option<Box<TlsSession>>,
        server: Box<Server>,
    },
    Errand {
        patron: Patron,
        outcome: ErrandOutcome,
    },
    /// Where an endpoint is, that a server waits for.
    Resolved {
        ticket: u64,
        addresses: Result<Vec<std::net::SocketAddr>, String>,
    },
    Apply {
        routes: Arc<Routes>,
        tls: Arc<TlsSetup>,
    },
    /// Listeners to add and, by address, to close.
    Listen {
        add: Vec<(OwnedFd, Arc<ListenerFacts>)>,
        close: Vec<String>,
    },
    Pause(Option<String>),
    Resume(Option<String>),
    Kill(Option<String>, Sender<usize>),
    KillClient(u64, Sender<bool>),
    Reconnect(Option<String>),
    Leased(Option<String>, Sender<usize>),
    UserAnswered(u64, Option<Box<KnownUser>>),
    Console(u64, ConsoleAnswer),
    Report {
        with_connections: bool,
        reply: Sender<WorkerReport>,
    },
    Drain,
    Stop,
}

/// What a connection inherits from the listener that accepted it.
#[derive(Debug)]
pub struct ListenerFacts {
    pub address: Arc<str>,
    pub dialect: Dialect,
    pub proxy_protocol: bool,
    pub is_unix: bool,
}

/// TLS as the snapshot has it, built once for all workers.
#[derive(Default)]
pub struct TlsSetup {
    pub clients: Option<Arc<crate::tls::TlsServerConfig>>,
    /// By endpoint name.
    pub servers: std::collections::HashMap<String, Arc<crate::tls::TlsClientConfig>>,
}

/// A worker's report and the numbers of its loop.
pub struct WorkerReport {
    pub worker: u16,
    pub relay: Report,
    pub loops: u64,
    pub sockets: usize,
    pub backend: &'static str,
}

/// One worker as the others see it.
#[derive(Clone)]
pub struct Peer {
    pub sender: Sender<WorkerMail>,
    pub waker: Waker,
    /// A wake-up is on its way; saves system calls under load.
    pub is_woken: Arc<AtomicBool>,
    /// Clients it has, for balance.
    pub clients: Arc<AtomicUsize>,
}

impl Peer {
    /// A mailbox and what its owner reads from.
    pub fn new(waker: Waker) -> (Peer, Receiver<WorkerMail>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let peer = Peer { sender, waker, is_woken: Arc::default(), clients: Arc::default() };
        (peer, receiver)
    }

    /// Put mail into the box and make sure that it is looked at.
    pub fn send(&self, mail: WorkerMail) {
        // A worker that has ended reads no mail, and nobody needs an answer then.
        if self.sender.send(mail).is_ok() && !self.is_woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// Events that wait for Python, and the descriptor that says so.
pub struct EventQueue {
    events: Mutex<VecDeque<action::Event>>,
    signal: Waker,
    dropped: AtomicUsize,
}

/// Events kept at a time; past that the newest are dropped and counted.
const EVENTS_KEPT: usize = 100_000;

impl EventQueue {
    /// # Errors
    /// No descriptor to be had.
    pub fn new() -> std::io::Result<Arc<EventQueue>> {
        let signal = Waker::new()?;
        Ok(Arc::new(EventQueue { events: Mutex::default(), signal, dropped: AtomicUsize::new(0) }))
    }

    pub fn push(&self, event: action::Event) {
        let mut events = self.events.lock().expect("events");
        let is_asked = matches!(event, action::Event::Console { .. } | action::Event::AskUser { .. });
        if events.len() >= EVENTS_KEPT && !is_asked {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        events.push_back(event);
        if events.len() == 1 {
            drop(events);
            self.signal.wake();
        }
    }

    /// All events, oldest first; the descriptor is no longer readable afterwards.
    pub fn take(&self) -> Vec<action::Event> {
        self.signal.clear();
        self.events.lock().expect("events").drain(..).collect()
    }

    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn descriptor(&self) -> RawFd {
        self.signal.0.as_raw_fd()
    }
}
