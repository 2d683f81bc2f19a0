//! What sequences gave last: told to the client that was given it, to nobody else.
//!
//! The sequence of the scripted database's session n begins at 1000 n, so a stranger's number shows.

use maitred_relay::sim::frontend::{bind, execute, parse, query, sync};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;
use maitred_relay::snapshot::{Pinning, PoolMode, SequenceScope};
use maitred_wire::effects::Traces;

const UNKNOWN: &str = "E:55000 Z:I";

fn pins(world: &mut World) -> Vec<String> {
    let rows = world.with(0, |relay, now| relay.report(now, true)).pins;
    rows.into_iter().map(|row| row.reasons.join(", ")).collect()
}

fn discards(world: &World) -> usize {
    world.ran().iter().filter(|ran| ran.text == "DISCARD SEQUENCES").count()
}

/// The number in an answer of one row.
fn number(answer: &str) -> &str {
    answer.strip_prefix("T D:").and_then(|rest| rest.split(' ').next()).expect("a row")
}

#[test]
fn nobody_is_told_what_a_sequence_gave_to_others() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "select nextval");
    assert_eq!(world.query(two, "select lastval"), UNKNOWN);
    assert_eq!(discards(&world), 1);
    world.everybody_leaves();
}

#[test]
fn nobody_is_told_by_a_prepared_statement_either() {
    for name in ["", "named"] {
        let mut world = World::new(snapshot(1));
        let (one, two) = (world.login(0), world.login(0));
        world.query(one, "select nextval");
        let batch = [parse(name, "select lastval"), bind("", name, &[]), execute("", 0), sync()];
        world.send(two, &batch.concat());
        world.run_for(10_000);
        assert_eq!(world.brief(two), "1 2 E:55000 Z:I", "{name}");
        world.query(two, "discard all");
        world.query(one, "select nextval");
        if !name.is_empty() {
            world.send(two, &[parse(name, "select lastval"), sync()].concat());
            world.run_for(10_000);
            world.brief(two);
            world.query(one, "select nextval");
            world.send(two, &[bind("", name, &[]), execute("", 0), sync()].concat());
            world.run_for(10_000);
            assert_eq!(world.brief(two), "2 E:55000 Z:I");
        }
        world.everybody_leaves();
    }
}

#[test]
fn what_a_sequence_gave_is_told_while_nobody_else_was_served() {
    let mut world = World::new(snapshot(3));
    let clients: Vec<_> = (0..3).map(|_| world.login(0)).collect();
    for client in &clients {
        world.query(*client, "begin");
    }
    let given: Vec<_> = clients.iter().map(|client| world.query(*client, "select nextval")).collect();
    for client in &clients {
        world.query(*client, "commit");
    }
    for (client, given) in clients.iter().zip(&given) {
        let told = world.query(*client, "select lastval");
        assert_eq!(number(&told), number(given), "its own server was lent again");
    }
    assert_eq!(discards(&world), 0);
    assert_eq!(pins(&mut world), ["sequence"; 3]);
    world.everybody_leaves();
}

#[test]
fn whoever_asks_keeps_the_server_and_what_comes_next_is_right() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    world.query(two, "select nextval");
    assert_eq!(world.query(one, "select lastval"), UNKNOWN);
    assert_eq!(pins(&mut world), ["sequence"]);
    world.send(two, &query("select b"));
    let given = world.query(one, "select nextval");
    assert_eq!(world.query(one, "select lastval"), given);
    assert_eq!(world.brief(two), "", "waits");
    assert_eq!(world.query(one, "discard sequences"), "C:DISCARD SEQUENCES Z:I");
    world.run_for(10_000);
    assert_eq!(world.brief(two), "T D:b C:SELECT 1 Z:I");
    assert!(pins(&mut world).is_empty());
    assert_eq!(world.query(one, "select lastval"), UNKNOWN);
    world.leave(one);
    world.run_for(10_000);
    assert!(world.ran().iter().all(|ran| ran.text != "DISCARD ALL"), "nothing was left to others");
    world.everybody_leaves();
}

#[test]
fn in_its_transaction_a_client_asks_without_keeping_anything() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    for turn in 0..3 {
        for client in [one, two] {
            world.query(client, "begin");
            let given = number(&world.query(client, "select nextval")).to_owned();
            assert_eq!(number(&world.query(client, "select lastval")), given);
            assert_eq!(world.query(client, "commit"), "C:COMMIT Z:I", "{turn}");
            assert!(pins(&mut world).is_empty());
        }
    }
    // From the second lease on, what others were given is forgotten beforehand.
    assert_eq!(discards(&world), 4);
    world.query(one, "begin");
    world.query(one, "select a");
    assert_eq!(world.query(one, "select lastval"), "E:55000 Z:E");
    world.query(one, "rollback");
    assert_eq!(world.query(one, "select nextval;select lastval").matches("D:").count(), 2);
    assert!(pins(&mut world).is_empty(), "it asked of its own text");
    world.everybody_leaves();
}

#[test]
fn behind_a_begin_a_client_asks_for_what_was_before() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    world.query(two, "select nextval");
    world.query(one, "begin");
    assert_eq!(world.query(one, "select lastval"), "E:55000 Z:E");
    world.query(one, "rollback");
    assert_eq!(pins(&mut world), ["sequence"]);
    world.everybody_leaves();
}

#[test]
fn a_pool_may_leave_sequences_to_transactions_alone() {
    for is_refused in [false, true] {
        let mut config = snapshot(1);
        let pool = &mut config.databases[0].pool;
        if is_refused {
            pool.pinning = Pinning::Refuse;
        } else {
            pool.pin_ignore = Traces::SEQUENCES;
        }
        let mut world = World::new(config);
        let (one, two) = (world.login(0), world.login(0));
        world.query(one, "select nextval");
        assert_eq!(world.query(two, "select lastval"), UNKNOWN);
        assert_eq!(world.query(one, "select lastval"), UNKNOWN);
        assert!(pins(&mut world).is_empty());
        world.everybody_leaves();
    }
}

#[test]
fn a_pool_may_keep_servers_for_whoever_advances_a_sequence() {
    let mut config = snapshot(1);
    config.databases[0].pool.sequences = SequenceScope::Session;
    let mut world = World::new(config);
    let (one, two) = (world.login(0), world.login(0));
    let given = world.query(one, "select nextval");
    assert_eq!(pins(&mut world), ["sequence"]);
    world.send(two, &query("select b"));
    assert_eq!(world.query(one, "select lastval"), given);
    assert_eq!(world.query(one, "discard all"), "C:DISCARD ALL Z:I");
    world.run_for(10_000);
    assert_eq!(world.brief(two), "T D:b C:SELECT 1 Z:I");
    let batch = [parse("s", "select nextval"), bind("", "s", &[]), execute("", 0), sync()].concat();
    world.send(two, &batch);
    world.run_for(10_000);
    assert_eq!(pins(&mut world), ["sequence"]);
    world.everybody_leaves();
}

#[test]
fn session_mode_leaves_sequences_alone() {
    let mut config = snapshot(1);
    config.databases[0].pool.mode = PoolMode::Session;
    let mut world = World::new(config);
    let one = world.login(0);
    let given = world.query(one, "select nextval");
    world.query(one, "begin");
    assert_eq!(number(&world.query(one, "select lastval")), number(&given));
    world.query(one, "commit");
    assert_eq!(discards(&world), 0);
    world.everybody_leaves();
}

#[test]
fn a_pin_for_a_sequence_that_nobody_asks_ends_in_time() {
    let mut config = snapshot(1);
    config.databases[0].pool.pin_timeout_ms = 500;
    let mut world = World::new(config);
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "select lastval");
    assert_eq!(pins(&mut world), ["sequence"]);
    world.run_for(1_700_000);
    assert!(pins(&mut world).is_empty());
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I", "it was not closed");
    world.everybody_leaves();
}

#[test]
fn a_cancel_that_meets_what_we_discard_hurts_nobody_else() {
    for late_us in (0..1_000).step_by(100) {
        let mut world = World::new(snapshot(1));
        let (one, two) = (world.login(0), world.login(0));
        world.query(one, "select nextval");
        world.send(two, &query("select lastval"));
        world.run_for(late_us);
        world.cancel(two);
        world.run_for(2_000_000);
        let answer = world.brief(two);
        assert!([UNKNOWN, "E:57014 Z:I"].contains(&answer.as_str()), "{late_us}: {answer}");
        world.leave(two);
        world.run_for(10_000);
        assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I", "{late_us}");
        world.everybody_leaves();
    }
}
