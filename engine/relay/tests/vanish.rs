//! Clients that vanish at every point: what ran is cancelled, the server rolled back, clean and reused.
//!
//! The next client on the same server must find nothing of the one before.

use maitred_relay::sim::frontend::{
    bind, copy_data, copy_done, describe, execute, flush, message, parse, query, sync, terminate,
};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, Random, World};
use maitred_relay::snapshot::PoolMode;

#[test]
fn a_query_that_runs_is_cancelled_and_the_server_reused() {
    let mut world = World::new(snapshot(1));
    let (gone, next) = (world.login(0), world.login(0));
    world.send(gone, &query("sleep 60000000 x"));
    world.run_for(5_000);
    world.leave(gone);
    world.run_for(1_000);
    assert_eq!(world.query(next, "select n"), "T D:n C:SELECT 1 Z:I");
    assert!(world.now < 1_100_000, "nobody waits for the dead: {}", world.now);
    assert!(world.ran().iter().any(|ran| ran.text.starts_with("sleep") && ran.was_cancelled));
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn a_transaction_is_rolled_back() {
    for last in ["select t", "fail", "set TimeZone=Asia/Tokyo"] {
        let mut world = World::new(snapshot(1));
        let (gone, next) = (world.login(0), world.login(0));
        assert_eq!(world.query(gone, "begin"), "C:BEGIN Z:T");
        world.query(gone, last);
        world.leave(gone);
        world.run_for(10_000);
        assert_eq!(world.ran().last().map(|ran| ran.text.clone()), Some("ROLLBACK".into()));
        assert_eq!(world.query(next, "show TimeZone"), "T D:UTC C:SELECT 1 Z:I");
        assert_eq!(world.lines.len(), 1, "reused, not thrown away");
        world.everybody_leaves();
    }
}

#[test]
fn copy_in_is_failed_as_often_as_it_is_left() {
    let mut world = World::new(snapshot(1));
    for round in 0..3 {
        let gone = world.login(0);
        world.send(gone, &[query("copyin t"), copy_data(b"half")].concat());
        world.run_for(5_000);
        assert_eq!(world.brief(gone), "G");
        world.leave(gone);
        world.run_for(5_000);
        let next = world.login(0);
        let from = world.now;
        assert_eq!(world.query(next, "select n"), "T D:n C:SELECT 1 Z:I", "round {round}");
        assert!(world.now - from < 10_000, "round {round}");
        let gone = world.login(0);
        world.send(gone, &[parse("", "copyin t"), bind("", "", &[]), execute("", 0), sync()].concat());
        world.run_for(5_000);
        world.leave(gone);
        world.run_for(5_000);
        let from = world.now;
        assert_eq!(world.query(next, "select n"), "T D:n C:SELECT 1 Z:I", "round {round}, extended");
        assert!(world.now - from < 10_000, "round {round}, extended");
    }
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn a_large_result_is_drained() {
    let mut world = World::new(snapshot(1));
    let (gone, next) = (world.login(0), world.login(0));
    world.clients[gone].reads = false;
    world.send(gone, &query("rows 2000 500 x"));
    world.run_for(50_000);
    world.leave(gone);
    world.run_for(50_000);
    assert_eq!(world.query(next, "select n"), "T D:n C:SELECT 1 Z:I");
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn session_mode_runs_the_reset_query() {
    let mut config = snapshot(1);
    config.databases[0].pool.mode = PoolMode::Session;
    let mut world = World::new(config);
    let gone = world.login(0);
    assert_eq!(world.query(gone, "set application_name=left"), "C:SET S:application_name=left Z:I");
    assert_eq!(world.query(gone, "begin"), "C:BEGIN Z:T");
    world.send(gone, &terminate());
    world.run_for(10_000);
    let ran: Vec<String> = world.ran().into_iter().map(|ran| ran.text).collect();
    assert_eq!(ran[ran.len() - 2..], ["ROLLBACK", "DISCARD ALL"]);
    let next = world.login(0);
    assert_eq!(world.query(next, "show application_name"), "T D: C:SELECT 1 Z:I");
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn a_reset_query_that_fails_costs_the_server_and_not_the_next_client() {
    let mut config = snapshot(1);
    config.databases[0].pool.mode = PoolMode::Session;
    config.databases[0].pool.reset_query = "fail".into();
    let mut world = World::new(config);
    let gone = world.login(0);
    assert_eq!(world.query(gone, "set statement_timeout=5"), "C:SET Z:I");
    world.leave(gone);
    world.run_for(10_000);
    let next = world.login(0);
    assert_eq!(world.query(next, "show statement_timeout"), "T D: C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn half_a_statement_is_never_made_whole_by_a_goodbye() {
    type End = fn(&mut World, usize);
    let ends: [End; 3] = [
        |world, client| world.leave(client),
        |world, _| world.with_all(|relay, now| assert_eq!(relay.kill(now, None), 1)),
        |world, _| world.run_for(2_000_000),
    ];
    for missing in 1..12 {
        for end in ends {
            let mut config = snapshot(1);
            config.databases[0].pool.query_timeout_ms = 300;
            let mut world = World::new(config);
            let client = world.login(0);
            let mut statement = query(&format!("select {} where id=12345", "y".repeat(40_000)));
            statement.truncate(statement.len() - missing);
            world.send(client, &statement);
            world.run_for(5_000);
            end(&mut world, client);
            world.run_for(1_000_000);
            assert_eq!(world.ran(), [], "{missing} bytes were missing");
            world.everybody_leaves();
        }
    }
}

/// A client says some of these, cut off anywhere, and is gone; then another asks on the same server.
fn vanish_at_random(seed: u64) {
    let mut random = Random::new(seed);
    let mut config = snapshot(1);
    let is_session = random.once_in(4);
    if is_session {
        config.databases[0].pool.mode = PoolMode::Session;
    }
    let mut world = World::with_workers(config, 1, seed);
    if random.once_in(2) {
        world.pieces = Pieces::Random;
    }
    let next = if !is_session && random.once_in(2) { Some(world.login(0)) } else { None };
    for round in 0..4 {
        let gone = world.login(0);
        let mut said = Vec::new();
        for _ in 0..1 + random.below(8) {
            said.extend(match random.below(18) {
                0 => query("begin"),
                1 => query("select secret"),
                2 => query("fail"),
                3 => query("sleep 3000000 s"),
                4 => query("set TimeZone=Asia/Tokyo"),
                5 => query("rows 300 900 r"),
                6 => query("copyin t"),
                7 => copy_data(&[b'c'; 3000]),
                8 => copy_done(),
                9 => parse("", "select secret"),
                10 => parse("s", "select secret"),
                11 => bind("", "s", &[]),
                12 => execute("", 1),
                13 => sync(),
                14 => flush(),
                15 => describe('S', "s"),
                16 => query("copyout 50 out"),
                _ => message(b'Q', &[&b"select "[..], &[b'y'; 40_000], b"\0"].concat()),
            });
        }
        said.truncate(said.len() - random.below(said.len() as u64 + 1) as usize / 2);
        if random.once_in(3) {
            world.clients[gone].reads = false;
        }
        world.send(gone, &said);
        world.run_for(random.below(4_000));
        world.leave(gone);
        world.run_for(random.below(2_000));
        let asker = match next {
            Some(next) if world.desks[0].relay.client_count() == 1 => next,
            _ => world.login(0),
        };
        let sql = format!("show TimeZone; select n{round}");
        let from = world.now;
        assert_eq!(world.query(asker, &sql), format!("T D:UTC C:SELECT 1 T D:n{round} C:SELECT 1 Z:I"));
        assert!(world.now - from < 500_000, "waited for {} us", world.now - from);
        if next != Some(asker) {
            world.leave(asker);
        }
        if let (Some(next), 3) = (next, round) {
            world.leave(next);
        }
        world.run_for(1_000);
    }
    world.everybody_leaves();
}

#[test]
fn whatever_was_under_way_the_next_client_finds_a_clean_server() {
    for seed in Random::seeds(500) {
        vanish_at_random(seed);
    }
}
