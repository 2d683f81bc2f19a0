//! One behaviour, two back ends: reading, writing, pausing, ending.
//!
//! Uses nothing but the public interface of `backend`.

#[macro_use]
mod world;

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use maitred_reactor::backend::Backend;
use world::{pattern, World};

on_both! {
    bytes_go_both_ways
    empty_send_is_written
    written_alone_ends_a_wait
    end_of_peer_is_reported_once_and_last
    reset_by_peer_is_an_end_with_an_error
    peer_sees_the_end_when_we_close
    bytes_sent_before_close_arrive
    paused_socket_is_silent_and_resume_brings_all
    pause_and_resume_at_once_lose_nothing
    sixty_four_mebibytes_with_pauses_arrive_in_order
    random_splits_arrive_in_order
    many_sockets_at_once_each_get_their_own
    more_bytes_than_buffers_arrive
    failed_send_is_reported
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

fn peer_sees_the_end_when_we_close(kind: &str) {
    let mut world = World::new(kind);
    let (socket, mut peer) = world.tcp_pair();
    world.settle();
    world.backend.close(socket);
    world.settle();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
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
