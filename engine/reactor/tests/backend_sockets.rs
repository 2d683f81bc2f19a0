//! One behaviour, two back ends: accepting, connecting, closing, moving, waking.
//!
//! Uses nothing but the public interface of `backend`.

#[macro_use]
mod world;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use maitred_reactor::backend::Backend;
use world::{pattern, World};

on_both! {
    closed_socket_is_never_heard_of_again
    close_with_a_send_stuck_frees_everything
    stale_ids_are_ignored
    places_are_reused_without_mixing_sockets
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
    drop_with_everything_in_flight_closes_all
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
        world.backend.wait(Some(Instant::now() + Duration::from_secs(20)), &mut world.events).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert!(world.events.is_empty());
        other.join().unwrap();
    }
}

fn wake_before_the_wait_is_not_lost(kind: &str) {
    let mut world = World::new(kind);
    world.backend.waker().wake();
    let begin = Instant::now();
    world.backend.wait(Some(Instant::now() + Duration::from_secs(20)), &mut world.events).unwrap();
    world.backend.waker().wake();
    world.backend.wait(Some(Instant::now() + Duration::from_secs(20)), &mut world.events).unwrap();
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
    // Why to the end: what the kernel still has to tidy up may interrupt one read.
    assert_eq!(reading_peer.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(closed_peer.read_to_end(&mut Vec::new()).unwrap(), 0);
    let mut rest = Vec::new();
    let _ = writing_peer.read_to_end(&mut rest);
    assert!(rest.len() < 32 << 20);
}
