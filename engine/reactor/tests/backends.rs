//! One behaviour, two back ends: every test here runs on io_uring and on epoll.
//!
//! Uses nothing but the public interface of `backend`; a kernel without io_uring fails these tests
//! loudly unless MAITRED_TEST_WITHOUT_IO_URING is set.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use maitred_reactor::backend::{open, AnyBackend, Backend, Chunk, Event, SocketId};

/// A back end with everything that happened to it so far.
struct World {
    backend: AnyBackend,
    received: HashMap<SocketId, Vec<u8>>,
    ended: HashMap<SocketId, Option<io::Error>>,
    written: HashMap<SocketId, Vec<io::Result<()>>>,
    connected: HashMap<SocketId, io::Result<()>>,
    detached: HashMap<SocketId, OwnedFd>,
    accepted: Vec<(SocketId, OwnedFd)>,
    accept_failures: usize,
    events: Vec<Event>,
}

impl World {
    fn new(kind: &str) -> Self {
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
    fn turn(&mut self, timeout: Duration) {
        let mut events = std::mem::take(&mut self.events);
        self.backend.wait(Some(timeout), &mut events).unwrap();
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

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            self.turn(Duration::from_millis(50));
        }
    }

    /// Give everything that might still happen the time to happen.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.turn(Duration::from_millis(10));
        }
    }

    fn adopt(&mut self, socket: impl Into<OwnedFd>) -> SocketId {
        self.backend.adopt(socket.into())
    }

    fn pair(&mut self) -> (SocketId, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (self.adopt(ours), theirs)
    }

    fn tcp_pair(&mut self) -> (SocketId, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (self.adopt(ours), theirs)
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        let mut buffer = self.backend.spare_buffer();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(bytes);
        self.backend.send(socket, buffer);
    }

    fn bytes(&self, socket: SocketId) -> &[u8] {
        self.received.get(&socket).map_or(&[], Vec::as_slice)
    }

    fn sends_done(&self, socket: SocketId) -> usize {
        self.written.get(&socket).map_or(0, Vec::len)
    }
}

fn pattern(length: usize, seed: u32) -> Vec<u8> {
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

on_both! {
    bytes_go_both_ways
    empty_send_is_written
    written_alone_ends_a_wait
    end_of_peer_is_reported_once_and_last
    reset_by_peer_is_an_end_with_an_error
    closed_socket_is_never_heard_of_again
    peer_sees_the_end_when_we_close
    close_with_a_send_stuck_frees_everything
    bytes_sent_before_close_arrive
    stale_ids_are_ignored
    places_are_reused_without_mixing_sockets
    paused_socket_is_silent_and_resume_brings_all
    pause_and_resume_at_once_lose_nothing
    sixty_four_mebibytes_with_pauses_arrive_in_order
    random_splits_arrive_in_order
    many_sockets_at_once_each_get_their_own
    more_bytes_than_buffers_arrive
    detached_socket_moves_to_another_thread
    detach_of_an_ended_socket_gives_it_back
    accept_flood_is_accepted_whole
    closed_listener_refuses
    running_out_of_descriptors_is_reported_and_healed
    connect_over_tcp_and_unix
    refused_connect_is_an_error_and_the_socket_is_gone
    connect_closed_under_way_is_forgotten
    waker_ends_a_wait_from_another_thread
    wake_before_the_wait_is_not_lost
    timeout_is_kept
    failed_send_is_reported
    drop_with_everything_in_flight_closes_all
}

fn bytes_go_both_ways(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    peer.write_all(b"question").unwrap();
    world.until("the question is here", |world| world.bytes(socket) == b"question");
    world.send(socket, b"answer");
    world.until("the answer is out", |world| world.sends_done(socket) == 1);
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    assert!(world.backend.descriptor(socket).is_some());
    assert!(world.ended.is_empty());
}

fn empty_send_is_written(kind: &str) {
    let mut world = World::new(kind);
    let (socket, _peer) = world.pair();
    world.send(socket, b"");
    world.until("nothing was written", |world| world.sends_done(socket) == 1);
}

fn written_alone_ends_a_wait(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    let reader = std::thread::spawn(move || std::io::copy(&mut peer, &mut std::io::sink()).unwrap());
    let begin = Instant::now();
    for piece in 1..=40 {
        world.send(socket, &pattern(if piece % 2 == 0 { 100 } else { 300_000 }, piece));
        while world.sends_done(socket) < piece as usize {
            world.turn(Duration::from_secs(10));
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(8), "a wait slept although a send was over");
    world.backend.close(socket);
    world.settle();
    assert_eq!(reader.join().unwrap(), 20 * 300_100);
}

fn end_of_peer_is_reported_once_and_last(kind: &str) {
    let mut world = World::new(kind);
    for round in 0..20 {
        let (socket, mut peer) = world.tcp_pair();
        peer.write_all(&pattern(100 + 7000 * round, 1)).unwrap();
        drop(peer);
        world.until("the peer's end", |world| world.ended.contains_key(&socket));
        assert!(world.ended[&socket].is_none());
        assert_eq!(world.bytes(socket), pattern(100 + 7000 * round, 1));
        world.settle();
        world.backend.close(socket);
    }
}

fn reset_by_peer_is_an_end_with_an_error(kind: &str) {
    let mut world = World::new(kind);
    let (socket, peer) = world.tcp_pair();
    world.settle();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    world.until("the reset", |world| world.ended.contains_key(&socket));
    let error = world.ended[&socket].as_ref().expect("a reset is an error");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

fn closed_socket_is_never_heard_of_again(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.pair();
    peer.write_all(b"unread").unwrap();
    world.backend.close(socket);
    let _ = peer.write_all(b"too late");
    world.settle();
    assert!(world.received.is_empty() && world.ended.is_empty() && world.written.is_empty());
    assert_eq!(world.backend.sockets(), 0);
}

fn peer_sees_the_end_when_we_close(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    world.settle();
    world.backend.close(socket);
    world.settle();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
}

fn close_with_a_send_stuck_frees_everything(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    world.send(socket, &pattern(32 << 20, 3));
    world.settle();
    assert_eq!(world.sends_done(socket), 0, "32 MiB fit nowhere");
    world.backend.close(socket);
    world.until("the place is free", |world| world.backend.sockets() == 0);
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, pattern(32 << 20, 3)[..rest.len()], "what came is a beginning of what was sent");
    assert_eq!(world.sends_done(socket), 0);
}

fn bytes_sent_before_close_arrive(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    world.send(socket, b"last words");
    world.backend.close(socket);
    world.settle();
    let mut words = Vec::new();
    peer.read_to_end(&mut words).unwrap();
    assert_eq!(words, b"last words");
}

fn stale_ids_are_ignored(kind: &str) {
    let mut world = World::new(kind);
    let (old, _peer) = world.pair();
    world.settle();
    world.backend.close(old);
    world.settle();
    let (new, mut new_peer) = world.pair();
    assert_eq!(old.index, new.index, "the place is reused, or this test shows nothing");
    world.send(old, b"to nobody");
    world.backend.pause(old);
    world.backend.close(old);
    world.backend.detach(old);
    world.backend.resume(old);
    assert!(world.backend.descriptor(old).is_none());
    new_peer.write_all(b"still here").unwrap();
    world.until("the new socket works", |world| world.bytes(new) == b"still here");
    world.settle();
    assert!(world.written.is_empty() && world.ended.is_empty() && world.detached.is_empty());
}

fn places_are_reused_without_mixing_sockets(kind: &str) {
    let mut world = World::new(kind);
    for round in 0..300u32 {
        let (socket, mut peer) = if round % 2 == 0 {
            world.pair()
        } else {
            let (socket, peer) = world.tcp_pair();
            (socket, UnixStream::from(OwnedFd::from(peer)))
        };
        let marker = round.to_be_bytes();
        peer.write_all(&marker).unwrap();
        world.send(socket, &marker);
        if round % 3 != 0 {
            world.until("the marker", |world| !world.bytes(socket).is_empty());
            assert_eq!(world.bytes(socket), marker);
        }
        let _ = peer.write_all(&pattern(20_000, round));
        world.backend.close(socket);
        world.received.clear();
    }
    world.settle();
    assert!(world.received.is_empty(), "bytes after close");
    world.until("all places are free", |world| world.backend.sockets() == 0);
}

fn paused_socket_is_silent_and_resume_brings_all(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.pair();
    world.settle();
    world.backend.pause(socket);
    world.settle();
    peer.write_all(b"held back").unwrap();
    world.settle();
    assert!(world.received.is_empty());
    world.backend.resume(socket);
    world.until("the bytes", |world| world.bytes(socket) == b"held back");
    world.backend.pause(socket);
    world.settle();
    drop(peer);
    world.settle();
    assert!(world.ended.is_empty());
    world.backend.resume(socket);
    world.until("the end", |world| world.ended.contains_key(&socket));
}

fn pause_and_resume_at_once_lose_nothing(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    let mut expected = Vec::new();
    for round in 0..200u32 {
        peer.write_all(&pattern(50, round)).unwrap();
        expected.extend(pattern(50, round));
        world.backend.pause(socket);
        if round % 3 == 0 {
            world.turn(Duration::ZERO);
        }
        world.backend.resume(socket);
        if round % 5 == 0 {
            world.backend.pause(socket);
            world.backend.resume(socket);
            world.turn(Duration::from_millis(1));
        }
    }
    world.until("all of it", |world| world.bytes(socket).len() == expected.len());
    assert_eq!(world.bytes(socket), expected);
}

fn sixty_four_mebibytes_with_pauses_arrive_in_order(kind: &str) {
    const TOTAL: usize = 64 << 20;
    let mut world = World::new(kind);
    let (inlet, mut source) = world.tcp_pair();
    let (outlet, mut sink) = world.tcp_pair();
    let writer = std::thread::spawn(move || {
        let block = pattern(1 << 20, 5);
        for _ in 0..TOTAL / block.len() {
            source.write_all(&block).unwrap();
        }
    });
    let reader = std::thread::spawn(move || {
        let block = pattern(1 << 20, 5);
        let mut arrived = vec![0; block.len()];
        for _ in 0..TOTAL / block.len() {
            sink.read_exact(&mut arrived).unwrap();
            assert!(arrived == block, "bytes came out of order");
        }
    });
    // A relay with a bound: at most one send under way, and no reading while much is waiting.
    let (mut sending, mut passed, mut paused, mut most) = (false, 0, false, 0);
    world.until("all has passed", |world| {
        let waiting = world.received.entry(inlet).or_default();
        most = most.max(waiting.len());
        if sending && world.written.get(&outlet).is_some_and(|results| !results.is_empty()) {
            assert!(world.written.remove(&outlet).unwrap().iter().all(Result::is_ok));
            sending = false;
        }
        if !paused && waiting.len() > 256 * 1024 {
            world.backend.pause(inlet);
            paused = true;
        }
        if !sending && !waiting.is_empty() {
            let buffer = std::mem::take(waiting);
            passed += buffer.len();
            sending = true;
            world.backend.send(outlet, buffer);
            if paused {
                world.backend.resume(inlet);
                paused = false;
            }
        }
        passed == TOTAL && !sending
    });
    assert!(most < 8 << 20, "a pause must hold back the sender; {most} bytes waited");
    writer.join().unwrap();
    reader.join().unwrap();
}

fn random_splits_arrive_in_order(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.pair();
    let bytes = pattern(300_000, 9);
    let mut rest = &bytes[..];
    let mut seed = 1u32;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = match seed >> 30 {
            0 => 1 + (seed >> 8) as usize % 4,
            1 => 1 + (seed >> 8) as usize % 200,
            _ => 1 + (seed >> 8) as usize % 30_000,
        };
        let (now, later) = rest.split_at(size.min(rest.len()));
        peer.write_all(now).unwrap();
        rest = later;
        world.turn(Duration::ZERO);
    }
    world.until("all of it", |world| world.bytes(socket).len() == bytes.len());
    assert_eq!(world.bytes(socket), bytes);
}

fn many_sockets_at_once_each_get_their_own(kind: &str) {
    let mut world = World::new(kind);
    let mut pairs: Vec<_> = (0..700).map(|_| world.pair()).collect();
    for (number, (socket, peer)) in pairs.iter_mut().enumerate() {
        peer.write_all(&pattern(1000, number as u32)).unwrap();
        world.send(*socket, &pattern(500, number as u32 + 10_000));
    }
    world.until("everybody has their bytes", |world| {
        pairs.iter().all(|(socket, _)| world.bytes(*socket).len() == 1000 && world.sends_done(*socket) == 1)
    });
    for (number, (socket, peer)) in pairs.iter_mut().enumerate() {
        assert_eq!(world.bytes(*socket), pattern(1000, number as u32));
        let mut answer = vec![0; 500];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, pattern(500, number as u32 + 10_000));
        world.backend.close(*socket);
    }
    world.until("all places are free", |world| world.backend.sockets() == 0);
}

fn more_bytes_than_buffers_arrive(kind: &str) {
    let mut world = World::new(kind);
    let mut pairs: Vec<_> = (0..200).map(|_| world.pair()).collect();
    // 200 × 128 KiB is more than all provided buffers together.
    for (_, peer) in &mut pairs {
        peer.set_nonblocking(true).unwrap();
    }
    let block = pattern(128 * 1024, 4);
    let mut sent = vec![0; pairs.len()];
    world.until("everything arrived", |world| {
        for (number, (_, peer)) in pairs.iter_mut().enumerate() {
            if let Ok(count) = peer.write(&block[sent[number]..]) {
                sent[number] += count;
            }
        }
        pairs.iter().all(|(socket, _)| world.bytes(*socket).len() == block.len())
    });
    assert!(pairs.iter().all(|(socket, _)| world.bytes(*socket) == block));
}

fn detached_socket_moves_to_another_thread(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    let mut expected = Vec::new();
    for part in 0..20u32 {
        peer.write_all(&pattern(3000, part)).unwrap();
        expected.extend(pattern(3000, part));
    }
    world.turn(Duration::from_millis(10));
    world.backend.detach(socket);
    world.until("it is detached", |world| world.detached.contains_key(&socket));
    let before = world.received.remove(&socket).unwrap_or_default();
    assert!(world.backend.descriptor(socket).is_none());
    assert_eq!(world.backend.sockets(), 0);
    let descriptor = world.detached.remove(&socket).unwrap();
    peer.write_all(b"after").unwrap();
    expected.extend(b"after");
    let other = if kind == "epoll" { "io_uring" } else { "epoll" };
    let other = if std::env::var_os("MAITRED_TEST_WITHOUT_IO_URING").is_some() { kind } else { other };
    let other = other.to_owned();
    let whole = std::thread::spawn(move || {
        let mut world = World::new(&other);
        let socket = world.adopt(descriptor);
        let length = expected.len();
        world.until("the rest", |world| before.len() + world.bytes(socket).len() == length);
        world.send(socket, b"from the new home");
        world.until("the send", |world| world.sends_done(socket) == 1);
        let whole = [before.as_slice(), world.bytes(socket)].concat();
        assert!(whole == expected);
        whole.len()
    })
    .join()
    .unwrap();
    assert_eq!(whole, 60_005);
    let mut greeting = [0; 17];
    peer.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"from the new home");
}

fn detach_of_an_ended_socket_gives_it_back(kind: &str) {
    let mut world = World::new(kind);
    let (socket, peer) = world.pair();
    drop(peer);
    world.until("the end", |world| world.ended.contains_key(&socket));
    world.backend.detach(socket);
    world.until("it is detached", |world| world.detached.contains_key(&socket));
    assert_eq!(world.backend.sockets(), 0);
}

fn accept_flood_is_accepted_whole(kind: &str) {
    let mut world = World::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let id = world.backend.listen(listener.into());
    let flood = std::thread::spawn(move || {
        (0..600u32)
            .map(|number| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(&number.to_be_bytes()).unwrap();
                stream
            })
            .collect::<Vec<_>>()
    });
    let mut sockets = Vec::new();
    world.until("all are here and spoke", |world| {
        for (listener, socket) in std::mem::take(&mut world.accepted) {
            assert_eq!(listener, id);
            // SAFETY: asks for flags only.
            let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
            assert!(flags & libc::O_NONBLOCK != 0);
            // SAFETY: as above.
            let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
            assert!(flags & libc::FD_CLOEXEC != 0);
            sockets.push(world.adopt(socket));
        }
        sockets.len() == 600 && sockets.iter().all(|&socket| world.bytes(socket).len() == 4)
    });
    let mut numbers: Vec<_> =
        sockets.iter().map(|&id| u32::from_be_bytes(world.bytes(id).try_into().unwrap())).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    flood.join().unwrap();
}

fn closed_listener_refuses(kind: &str) {
    let mut world = World::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let id = world.backend.listen(listener.into());
    world.settle();
    world.backend.close(id);
    world.settle();
    assert!(TcpStream::connect(address).is_err());
    assert!(world.accepted.is_empty());
    assert_eq!(world.backend.sockets(), 0);
}

fn running_out_of_descriptors_is_reported_and_healed(kind: &str) {
    // Why: the limit is the process's, and other tests run beside this one; so a child of its own plays it.
    const ROLE: &str = "MAITRED_TEST_OUT_OF_DESCRIPTORS";
    if std::env::var_os(ROLE).is_none() {
        let name = format!("{kind}::running_out_of_descriptors_is_reported_and_healed");
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(ROLE, "1")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && output.contains("1 passed"), "{output}");
        return;
    }
    // Why: before listening, because io_uring looks at the limit when an accept is submitted.
    let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // SAFETY: lowers a limit of this process, which exists for this test only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut world = World::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    world.backend.listen(listener.into());
    world.settle();
    let mut peers: Vec<_> = (0..3)
        .map(|_| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap())
        .collect();
    let mut fillers = vec![std::fs::File::open("/dev/null").unwrap()];
    while let Ok(file) = fillers[0].try_clone() {
        fillers.push(file);
    }
    for peer in &mut peers {
        peer.connect(&address.into()).unwrap();
    }
    world.until("the failure is reported", |world| world.accept_failures > 0);
    assert!(world.accepted.is_empty());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) {
        world.turn(Duration::from_millis(100));
    }
    assert!(world.accept_failures < 10, "it must rest, not spin: {}", world.accept_failures);
    fillers.clear();
    world.until("all are accepted", |world| world.accepted.len() == 3);
}

fn connect_over_tcp_and_unix(kind: &str) {
    let mut world = World::new(kind);
    let folder = std::env::temp_dir().join(format!("maitred-{kind}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let address = socket2::SockAddr::unix(&path).unwrap();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let by_unix = world.backend.connect(socket.into(), &address);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let by_tcp = world.backend.connect(socket.into(), &tcp.local_addr().unwrap().into());
    world.until("both are connected", |world| world.connected.len() == 2);
    assert!(world.connected[&by_unix].is_ok() && world.connected[&by_tcp].is_ok());
    unix.accept().unwrap().0.write_all(b"over unix").unwrap();
    tcp.accept().unwrap().0.write_all(b"over tcp").unwrap();
    world.until("both have spoken", |world| world.ended.len() == 2);
    assert_eq!(world.bytes(by_unix), b"over unix");
    assert_eq!(world.bytes(by_tcp), b"over tcp");
    std::fs::remove_dir_all(&folder).unwrap();
}

fn refused_connect_is_an_error_and_the_socket_is_gone(kind: &str) {
    let mut world = World::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let id = world.backend.connect(socket.into(), &address.into());
    world.until("it is refused", |world| world.connected.contains_key(&id));
    let error = world.connected[&id].as_ref().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(world.backend.descriptor(id).is_none());
    assert_eq!(world.backend.sockets(), 0);
}

fn connect_closed_under_way_is_forgotten(kind: &str) {
    let mut world = World::new(kind);
    // 192.0.2.0/24 is for documentation: nobody answers, or the network says so at once.
    let address: std::net::SocketAddr = "192.0.2.1:5432".parse().unwrap();
    for wait in [false, true] {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let id = world.backend.connect(socket.into(), &address.into());
        if wait {
            world.turn(Duration::from_millis(10));
        }
        world.connected.clear();
        world.backend.close(id);
        world.until("the place is free", |world| world.backend.sockets() == 0);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let id = world.backend.connect(socket.into(), &listener.local_addr().unwrap().into());
    world.connected.clear();
    world.backend.close(id);
    world.until("the place is free", |world| world.backend.sockets() == 0);
    assert!(world.received.is_empty() && world.ended.is_empty());
}

fn waker_ends_a_wait_from_another_thread(kind: &str) {
    let mut world = World::new(kind);
    world.settle();
    for _ in 0..3 {
        let waker = world.backend.waker();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            waker.wake();
        });
        let begin = Instant::now();
        world.backend.wait(Some(Duration::from_secs(20)), &mut world.events).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert!(world.events.is_empty());
        other.join().unwrap();
    }
}

fn wake_before_the_wait_is_not_lost(kind: &str) {
    let mut world = World::new(kind);
    world.backend.waker().wake();
    let begin = Instant::now();
    world.backend.wait(Some(Duration::from_secs(20)), &mut world.events).unwrap();
    world.backend.waker().wake();
    world.backend.wait(Some(Duration::from_secs(20)), &mut world.events).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10));
}

fn timeout_is_kept(kind: &str) {
    let mut world = World::new(kind);
    world.settle();
    let begin = Instant::now();
    world.turn(Duration::from_millis(80));
    assert!(begin.elapsed() >= Duration::from_millis(79));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

fn failed_send_is_reported(kind: &str) {
    let mut world = World::new(kind);
    let (socket, peer) = world.pair();
    drop(peer);
    world.until("the end", |world| world.ended.contains_key(&socket));
    world.send(socket, b"too late");
    world.until("the failure", |world| world.sends_done(socket) == 1);
    assert!(world.written[&socket][0].is_err());
    world.backend.close(socket);
    world.until("the place is free", |world| world.backend.sockets() == 0);
}

fn drop_with_everything_in_flight_closes_all(kind: &str) {
    let mut world = World::new(kind);
    let (reading, mut reading_peer) = world.tcp_pair();
    let (writing, mut writing_peer) = world.tcp_pair();
    let (closed, mut closed_peer) = world.tcp_pair();
    world.send(writing, &pattern(32 << 20, 3));
    world.settle();
    assert!(world.backend.descriptor(reading).is_some());
    world.backend.close(closed);
    drop(world);
    assert_eq!(reading_peer.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(closed_peer.read(&mut [0; 8]).unwrap(), 0);
    let mut rest = Vec::new();
    let _ = writing_peer.read_to_end(&mut rest);
    assert!(rest.len() < 32 << 20);
}
