//! A back end and everything that happened to it, for the tests of both back ends.
//!
//! Judges nothing beyond what holds at all times (no byte after the end, nothing twice). Used by
//! `backend_bytes` and `backend_sockets`; a kernel without io_uring fails them loudly unless
//! MAITRED_TEST_WITHOUT_IO_URING is set.

// Why: each of the two uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use maitred_reactor::backend::{open, AnyBackend, Backend, Chunk, Event, SocketId};

/// Make a test of each function, once for each back end.
#[macro_export]
macro_rules! on_both {
    ($($name:ident)*) => {
        mod io_uring {
            $(#[test] fn $name() {
                if std::env::var_os("MAITRED_TEST_WITHOUT_IO_URING").is_none() {
                    super::$name("io_uring");
                }
            })*
        }
        mod epoll { $(#[test] fn $name() { super::$name("epoll"); })* }
    };
}

/// A back end with everything that happened to it so far.
pub struct World {
    pub backend: AnyBackend,
    pub received: HashMap<SocketId, Vec<u8>>,
    pub ended: HashMap<SocketId, Option<io::Error>>,
    pub written: HashMap<SocketId, Vec<io::Result<()>>>,
    pub connected: HashMap<SocketId, io::Result<()>>,
    pub detached: HashMap<SocketId, OwnedFd>,
    pub accepted: Vec<(SocketId, OwnedFd)>,
    pub accept_failures: usize,
    pub events: Vec<Event>,
}

impl World {
    pub fn new(kind: &str) -> Self {
        let (backend, note) = open(kind).unwrap();
        assert!(note.is_none());
        assert_eq!(backend.name(), kind);
        Self {
            backend,
            received: HashMap::new(),
            ended: HashMap::new(),
            written: HashMap::new(),
            connected: HashMap::new(),
            detached: HashMap::new(),
            accepted: Vec::new(),
            accept_failures: 0,
            events: Vec::new(),
        }
    }

    /// Wait once and note what happened.
    pub fn turn(&mut self, timeout: Duration) {
        let mut events = std::mem::take(&mut self.events);
        self.backend.wait(Some(Instant::now() + timeout), &mut events).unwrap();
        for event in events.drain(..) {
            self.note(event);
        }
        self.events = events;
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Accepted { listener, socket } => self.accepted.push((listener, socket)),
            Event::AcceptFailed { .. } => self.accept_failures += 1,
            Event::Connected { socket, result } => {
                assert!(self.connected.insert(socket, result).is_none(), "connected twice");
            }
            Event::Received(received) => {
                let socket = received.socket;
                match self.backend.chunk(&received) {
                    Chunk::Bytes(bytes) => {
                        assert!(!bytes.is_empty());
                        assert!(!self.ended.contains_key(&socket), "bytes after the end");
                        self.received.entry(socket).or_default().extend_from_slice(bytes);
                    }
                    Chunk::Nothing => {}
                    Chunk::Ended(error) => {
                        assert!(self.ended.insert(socket, error).is_none(), "ended twice");
                    }
                }
                self.backend.recycle(received);
            }
            Event::Written { socket, buffer, result } => {
                assert!(buffer.is_empty(), "the buffer comes back emptied");
                self.backend.keep_buffer(buffer);
                self.written.entry(socket).or_default().push(result);
            }
            Event::Ended { socket, error } => {
                assert!(self.ended.insert(socket, error).is_none(), "ended twice");
            }
            Event::Detached { socket, descriptor } => {
                assert!(self.detached.insert(socket, descriptor).is_none(), "detached twice");
            }
        }
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            self.turn(Duration::from_millis(50));
        }
    }

    /// Give everything that might still happen the time to happen.
    pub fn settle(&mut self) {
        for _ in 0..5 {
            self.turn(Duration::from_millis(10));
        }
    }

    pub fn adopt(&mut self, socket: impl Into<OwnedFd>) -> SocketId {
        self.backend.adopt(socket.into())
    }

    pub fn pair(&mut self) -> (SocketId, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (self.adopt(ours), theirs)
    }

    pub fn tcp_pair(&mut self) -> (SocketId, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (self.adopt(ours), theirs)
    }

    pub fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        let mut buffer = self.backend.spare_buffer();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(bytes);
        self.backend.send(socket, buffer);
    }

    pub fn bytes(&self, socket: SocketId) -> &[u8] {
        self.received.get(&socket).map_or(&[], Vec::as_slice)
    }

    pub fn sends_done(&self, socket: SocketId) -> usize {
        self.written.get(&socket).map_or(0, Vec::len)
    }
}

pub fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}
