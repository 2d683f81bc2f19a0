//! Garbage from clients: 08P01 and closed, and nobody else notices.
//!
//! Spec: "Message Formats", messages marked (F): what is not there may not be sent.

use maitred_relay::sim::frontend::{message, parse, query, sync, Reply};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, Random, World};

fn violates(what: &str, garbage: &[u8]) {
    for in_transaction in [false, true] {
        let mut world = World::new(snapshot(2));
        let (other, client) = (world.login(0), world.login(0));
        assert_eq!(world.query(other, "begin"), "C:BEGIN Z:T");
        if in_transaction {
            assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
        }
        world.send(client, garbage);
        world.run_for(50_000);
        let told = world.take(client);
        assert!(
            matches!(told.last(), Some(Reply::Error { fatal: true, code, .. }) if code == "08P01"),
            "{what}: {told:?}"
        );
        assert!(world.clients[client].is_closed, "{what}");
        assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:T", "{what}");
        assert_eq!(world.query(other, "commit"), "C:COMMIT Z:I");
        let next = world.login(0);
        assert_eq!(world.query(next, "select n"), "T D:n C:SELECT 1 Z:I", "{what}");
        world.everybody_leaves();
    }
}

#[test]
fn what_no_client_may_send_is_a_violation() {
    violates("unknown type", &message(b'z', b""));
    violates("type zero", &message(0, b"abc"));
    violates("a server's message", &message(b'T', b"\0\0"));
    violates("length below four", b"Q\0\0\0\x03");
    violates("length zero", b"S\0\0\0\0");
    violates("Sync with a body", &message(b'S', b"x"));
    violates("Flush with a body", &message(b'H', b"x"));
    violates("Describe of nothing", &message(b'D', b""));
    violates("Describe of a table", &message(b'D', b"Tx\0"));
    violates("Close of a table", &message(b'C', b"Tx\0"));
    violates("Describe without end", &message(b'D', b"Sname"));
    violates("Describe with more behind", &message(b'D', b"Sname\0more"));
    violates("Parse without end", &message(b'P', b"name\0select"));
    violates("Parse without types", &message(b'P', b"\0select 1\0"));
    violates("Parse with too few types", &message(b'P', b"\0select 1\0\0\x02\0\0\0\x17"));
    violates("Bind without end", &message(b'B', b"portal"));
    violates("Bind whose names never end", &message(b'B', &[b'x'; 9_000]));
    violates("Describe with an endless name", &message(b'D', &[&b"S"[..], &[b'x'; 20_000]].concat()));
    violates("a password", &message(b'p', b"secret\0"));
    violates("garbage behind a query", &[query("select a"), b"\xff\xff\xff\xff\xff\xff".to_vec()].concat());
    violates("garbage in a batch", &[parse("", "select a"), message(b'!', b"")].concat());
}

#[test]
fn a_message_beyond_the_limit_is_refused_by_name() {
    let mut config = snapshot(1);
    config.limits.message_bytes = 100_000;
    let mut world = World::new(config);
    let client = world.login(0);
    assert_eq!(world.query(client, &format!("select {}", "a".repeat(50_000))).len(), 50_000 + 19);
    world.send(client, b"Q\0\x02\0\0");
    world.run_for(50_000);
    let told = format!("{:?}", world.take(client));
    assert!(told.contains("54000") && told.contains("limits.message"), "{told}");
    assert!(world.clients[client].is_closed);
    world.everybody_leaves();
}

#[test]
fn garbage_before_login_is_refused() {
    let starts: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: db\r\n\r\n",
        b"\0\0\0\x04",
        b"\0\0\0\x08\0\x07\0\0",
        b"\0\0\0\x10\0\x03\0\0user\0ann",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x09\0\x03\0\0\0",
    ];
    for start in starts {
        let mut world = World::new(snapshot(1));
        let other = world.login(0);
        let client = world.open(0);
        world.clients[client].is_raw = true;
        world.send(client, start);
        world.run_for(61_000_000);
        assert!(world.clients[client].is_closed, "{start:?}");
        assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn random_bytes_touch_nobody_else() {
    for seed in Random::seeds(300) {
        let mut random = Random::new(seed);
        let mut world = World::with_workers(snapshot(2), 1, seed);
        world.pieces = Pieces::Random;
        let (other, client) = (world.login(0), world.login(0));
        world.clients[client].is_raw = true;
        let mut bytes = if random.once_in(2) { query("begin") } else { Vec::new() };
        for _ in 0..1 + random.below(30) {
            match random.below(4) {
                0 => bytes.extend([&query("select m"), &sync()].map(|b| b.as_slice()).concat()),
                1 => bytes.extend(message(
                    *random.pick(b"QPBDECSHdcfFX"),
                    &[random.below(256) as u8; 6][..random.below(7) as usize],
                )),
                2 => bytes.extend((0..random.below(12)).map(|_| 0u8)),
                _ => bytes.push(random.below(256) as u8),
            }
        }
        // A statement that the scripted database cannot read as text is of no interest here.
        bytes.retain(|byte| byte.is_ascii());
        world.send(client, &bytes);
        for round in 0..5 {
            assert_eq!(
                world.query(other, &format!("select o{round}")),
                format!("T D:o{round} C:SELECT 1 Z:I")
            );
            world.run_for(random.below(3_000));
        }
        world.leave(client);
        world.run_for(11_000_000);
        world.everybody_leaves();
    }
}
