//! However the bytes arrive, what comes of them is the same.
//!
//! Each scripted conversation is held with whole messages, byte by byte, and in random pieces.

use maitred_relay::sim::frontend::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call, message, parse,
    query, startup, sync, terminate, Reply,
};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, Random, World};
use maitred_relay::snapshot::PoolMode;

/// Something a client might say, sensible or not.
fn conversation(random: &mut Random) -> Vec<u8> {
    let mut said = Vec::new();
    for _ in 0..1 + random.below(12) {
        said.extend(match random.below(24) {
            0 => query("begin"),
            1 => query("commit"),
            2 => query("select a; select b"),
            3 => query("fail"),
            4 => query(&format!("select {}", "l".repeat(random.below(40_000) as usize))),
            5 => query("rows 20 3000 r"),
            6 => query("set TimeZone=Asia/Tokyo"),
            7 => parse("s", "select s-$1"),
            8 => parse("", "rows 3 10 u"),
            9 => parse("", "bad"),
            10 => bind("", "s", &["x"]),
            11 => bind("", "", &[]),
            12 => bind("", "s", &[&"v".repeat(random.below(30_000) as usize)]),
            13 => describe('P', ""),
            14 => describe('S', "s"),
            15 => execute("", random.below(3) as u32),
            16 => close('S', "s"),
            17 | 18 => sync(),
            19 => flush(),
            20 => [query("copyin t"), copy_data(&[b'd'; 20_000]), copy_data(b"e"), copy_done()].concat(),
            21 => [query("copyin t"), copy_fail()].concat(),
            22 => function_call(),
            _ => query("notice n"),
        });
    }
    match random.below(8) {
        0 => said.extend(terminate()),
        1 => said.extend(message(b'!', b"what")),
        2 => said.extend(message(b'D', b"Xname\0")),
        3 => said.truncate(said.len() - 1),
        _ => said.extend(sync()),
    }
    said
}

/// What a client was told, whether it was closed, and what the database carried out.
type Outcome = (Vec<Reply>, bool, Vec<String>);

fn outcome(seed: u64, mode: PoolMode, pieces: Pieces, seed_of_pieces: u64) -> Outcome {
    let mut random = Random::new(seed);
    let mut config = snapshot(1);
    config.databases[0].pool.mode = mode;
    if random.once_in(3) {
        config.databases[0].pool.server_statements_bytes = 100;
    }
    let mut world = World::with_workers(config, 1, seed_of_pieces);
    world.pieces = pieces;
    let client = world.open(0);
    let hello = startup(&[("user", "ann"), ("database", "shop"), ("DateStyle", "German")]);
    world.send(client, &[hello, conversation(&mut random)].concat());
    world.run_for(2_000_000);
    if random.once_in(2) {
        world.send(client, &conversation(&mut random));
        world.run_for(2_000_000);
    }
    let replies = world.take(client);
    let is_closed = world.clients[client].is_closed;
    // Why not ours: how often a session is asked about depends on what arrives together.
    let ours = ["SELECT '", "SELECT WHERE", "SET TRANSACTION", "DISCARD ALL"];
    let is_ours = |text: &String| ours.iter().any(|begin| text.starts_with(begin));
    let ran = world.ran().into_iter().map(|ran| ran.text).filter(|text| !is_ours(text)).collect();
    world.everybody_leaves();
    (replies, is_closed, ran)
}

fn compare(one: &Outcome, other: &Outcome, how: &str) {
    let short = |text: &str| text.chars().take(60).collect::<String>();
    for at in 0..one.0.len().max(other.0.len()) {
        let (a, b) = (one.0.get(at), other.0.get(at));
        let brief = |reply: Option<&Reply>| reply.map(|reply| short(&reply.brief()));
        assert!(a == b, "{how}: reply {at} is {:?}, not {:?}", brief(a), brief(b));
    }
    assert_eq!(one.1, other.1, "{how}: closed");
    for at in 0..one.2.len().max(other.2.len()) {
        let (a, b) = (one.2.get(at), other.2.get(at));
        assert!(a == b, "{how}: ran {:?}, not {:?}", a.map(|a| short(a)), b.map(|b| short(b)));
    }
}

#[test]
fn any_split_of_the_bytes_gives_the_same_result() {
    for seed in Random::seeds(80) {
        for mode in [PoolMode::Transaction, PoolMode::Session] {
            let whole = outcome(seed, mode, Pieces::Whole, seed);
            compare(
                &outcome(seed, mode, Pieces::Bytes, seed),
                &whole,
                &format!("byte by byte, seed {seed}, {mode:?}"),
            );
            for at in 0..3 {
                let pieces = outcome(seed, mode, Pieces::Random, 1_000 * seed + at);
                compare(&pieces, &whole, &format!("in pieces {at}, seed {seed}, {mode:?}"));
            }
        }
    }
}
