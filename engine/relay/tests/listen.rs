//! LISTEN, UNLISTEN and NOTIFY when clients share servers: one server listens for all of them.
//!
//! The scripted database judges the three commands itself, so what a client hears here is compared
//! with what PostgreSQL's documentation promises.

use maitred_relay::sim::database::Door;
use maitred_relay::sim::frontend::{bind, execute, parse, query, sync, Reply};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, World};
use maitred_relay::snapshot::{ListenMode, Snapshot};

fn pins(world: &mut World) -> usize {
    world.with(0, |relay, now| relay.report(now, true)).pins.len()
}

/// What each open session listens to, those that listen to nothing left out.
fn listening(world: &World) -> Vec<String> {
    let open = world.lines.iter().filter(|line| !line.session.is_over);
    open.map(|line| line.session.channels().join(",")).filter(|names| !names.is_empty()).collect()
}

fn with_listening(size: u32, change: impl Fn(&mut maitred_relay::snapshot::PoolSettings)) -> Snapshot {
    let mut snapshot = snapshot(size);
    change(&mut snapshot.databases[0].pool);
    snapshot
}

#[test]
fn one_server_listens_for_all_and_nobody_keeps_one() {
    let mut world = World::new(snapshot(1));
    let clients: Vec<usize> = (0..20).map(|_| world.login(0)).collect();
    for (at, client) in clients.iter().enumerate() {
        assert_eq!(world.query(*client, &format!("listen c{}", at % 4)), "C:LISTEN Z:I");
        world.run_for(10_000);
    }
    assert_eq!(world.sessions(), 2);
    assert_eq!(listening(&world), ["c0,c1,c2,c3"]);
    assert_eq!(pins(&mut world), 0);
    let speaker = world.login(0);
    assert_eq!(world.query(speaker, "notify c1 five"), "C:NOTIFY Z:I");
    world.run_for(10_000);
    for (at, client) in clients.iter().enumerate() {
        let expected = if at % 4 == 1 { "A:c1=five" } else { "" };
        assert_eq!(world.brief(*client), expected, "client {at}");
    }
    for client in &clients {
        world.leave(*client);
    }
    world.run_for(10_000);
    assert_eq!(listening(&world), [] as [String; 0]);
    world.everybody_leaves();
}

#[test]
fn its_own_words_come_before_the_ready_and_bear_its_own_number() {
    for workers in 1..=2 {
        let mut world = World::with_workers(snapshot(1), workers, 1);
        let client = world.login(workers - 1);
        let own = world.clients[client].key.clone().expect("a key").pid;
        world.query(client, "listen c");
        for _ in 0..3 {
            world.send(client, &query("notify c 1"));
            world.run_for(10_000);
            let replies = world.take(client);
            assert_eq!(maitred_relay::sim::frontend::brief(&replies), "C:NOTIFY A:c=1 Z:I");
            let Reply::Notification(pid, ..) = replies[1] else { panic!("{replies:?}") };
            assert_eq!(pid, own);
        }
        world.everybody_leaves();
    }
}

#[test]
fn who_has_asked_its_server_for_its_number_is_known_by_that() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    world.query(two, "listen c");
    for sql in ["begin", "select pg_backend_pid()", "listen c"] {
        world.query(one, sql);
    }
    // The first time in the transaction that asked, the second time behind it.
    for statements in [["notify c 1", "commit"], ["select 1", "notify c 2"]] {
        world.query(one, statements[0]);
        world.send(one, &query(statements[1]));
        world.run_for(10_000);
        let replies = world.take(one);
        let Reply::Notification(own, ..) = replies[1] else { panic!("{replies:?}") };
        assert_ne!(own, world.clients[one].key.clone().expect("a key").pid);
        let heard = world.take(two);
        assert!(matches!(&heard[..], [Reply::Notification(pid, ..)] if *pid == own), "{heard:?}");
    }
    world.everybody_leaves();
}

#[test]
fn another_client_is_known_by_its_own_number() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "listen c");
    world.run_for(10_000);
    world.query(two, "notify c 1");
    world.run_for(10_000);
    let own = world.clients[two].key.clone().expect("a key").pid;
    let heard = world.take(one);
    assert!(matches!(&heard[..], [Reply::Notification(pid, ..)] if *pid == own), "{heard:?}");
    world.everybody_leaves();
}

#[test]
fn a_transaction_that_rolls_back_changes_nothing() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    for (change, end, heard) in [
        ("listen c", "rollback", ""),
        ("listen c", "commit", "A:c=x"),
        ("unlisten c", "rollback", "A:c=x"),
        ("unlisten *", "rollback", "A:c=x"),
        ("listen d", "commit", "A:c=x"),
        ("unlisten c", "commit", ""),
    ] {
        for sql in ["begin", change, end] {
            world.query(one, sql);
        }
        world.run_for(10_000);
        assert_eq!(pins(&mut world), 0, "{change} {end}");
        assert_eq!(world.query(two, "notify c x"), "C:NOTIFY Z:I");
        world.run_for(10_000);
        assert_eq!(world.brief(one), heard, "{change} {end}");
    }
    assert_eq!(listening(&world), ["d"]);
    assert_eq!(world.query(one, "discard all"), "C:DISCARD ALL Z:I");
    world.run_for(10_000);
    assert_eq!(listening(&world), [] as [String; 0]);
    world.everybody_leaves();
}

#[test]
fn nothing_is_heard_inside_a_transaction_and_all_of_it_before_its_end() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "listen c");
    world.run_for(10_000);
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    for word in 0..3 {
        world.query(two, &format!("notify c {word}"));
    }
    world.run_for(10_000);
    assert_eq!(world.brief(one), "");
    assert_eq!(world.query(one, "select 1"), "T D:1 C:SELECT 1 Z:T");
    assert_eq!(world.query(one, "notify c own"), "C:NOTIFY Z:T");
    assert_eq!(world.query(one, "commit"), "C:COMMIT A:c=0 A:c=1 A:c=2 A:c=own Z:I");
    world.run_for(10_000);
    assert_eq!(world.brief(one), "");
    world.everybody_leaves();
}

#[test]
fn a_batch_that_listens_and_speaks_hears_itself() {
    let mut world = World::new(snapshot(1));
    let one = world.login(0);
    let step = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0)].concat();
    let batch = [step("listen c"), step("notify c 1"), sync()].concat();
    assert_eq!(world.ask(one, &batch), "1 2 C:LISTEN 1 2 C:NOTIFY A:c=1 Z:I");
    world.run_for(10_000);
    assert_eq!(world.brief(one), "");
    let batch = [step("unlisten c"), sync(), step("notify c 2"), sync()].concat();
    assert_eq!(world.ask_for(one, &batch, 2), "1 2 C:UNLISTEN Z:I 1 2 C:NOTIFY Z:I");
    world.run_for(10_000);
    assert_eq!(world.brief(one), "");
    world.everybody_leaves();
}

#[test]
fn the_loss_of_the_listening_server_is_told_and_it_comes_back() {
    for workers in 1..=2 {
        let mut world = World::with_workers(snapshot(2), workers, 3);
        let (idle, busy, other) = (world.login(workers - 1), world.login(0), world.login(0));
        for client in [idle, busy] {
            world.query(client, "listen c");
        }
        world.run_for(10_000);
        assert_eq!(world.query(busy, "begin"), "C:BEGIN Z:T");
        let hub = world
            .lines
            .iter()
            .position(|line| !line.session.channels().is_empty() && !line.session.is_busy());
        world.disturb(hub.expect("one listens"), |session| session.terminate(b"57P01", "going down"));
        world.run_for(10_000);
        assert_eq!(world.brief(idle), "F:57P01");
        // A transaction is not lost with it.
        assert_eq!(world.brief(busy), "");
        world.send(busy, &query("commit"));
        world.run_for(10_000);
        assert_eq!(world.brief(busy), "C:COMMIT Z:I F:57P01");
        let again = world.login(0);
        assert_eq!(world.query(again, "listen c"), "C:LISTEN Z:I");
        world.run_for(10_000);
        world.query(other, "notify c 1");
        world.run_for(10_000);
        assert_eq!(world.brief(again), "A:c=1");
        assert_eq!(pins(&mut world), 0);
        world.everybody_leaves();
    }
}

#[test]
fn a_listening_server_killed_while_it_logs_in_is_opened_anew() {
    for workers in 1..=2 {
        for named in [None, Some("shop")] {
            let mut world = World::with_workers(snapshot(2), workers, 3);
            let one = world.login(workers - 1);
            world.query(one, "select 1");
            let before = world.attempts.len();
            world.doors.insert("db1".into(), Door::Mute);
            assert_eq!(world.query(one, "listen c"), "C:LISTEN Z:I");
            world.run_for(10_000);
            assert_eq!((world.attempts.len(), world.sessions()), (before + 1, 1), "one is logging in");
            world.with_all(|relay, now| {
                relay.kill(now, named);
            });
            world.run_for(1_000_000);
            assert_eq!(world.brief(one), "F:57P01");
            world.doors.clear();
            let (again, other) = (world.login(0), world.login(workers - 1));
            assert_eq!(world.query(again, "listen c"), "C:LISTEN Z:I");
            world.run_for(30_000_000);
            assert_eq!(pins(&mut world), 0);
            assert_eq!(listening(&world), ["c"]);
            world.query(other, "notify c 1");
            world.run_for(10_000);
            assert_eq!(world.brief(again), "A:c=1");
            world.everybody_leaves();
        }
    }
}

#[test]
fn where_no_listening_server_can_be_had_the_client_keeps_its_own() {
    let mut world = World::new(snapshot(2));
    world.max_sessions = 2;
    let (one, two) = (world.login(0), world.login(0));
    // Both servers are open, and the database allows no third session.
    world.send(one, &query("sleep 1000 a"));
    world.query(two, "select 1");
    world.run_for(10_000);
    world.brief(one);
    assert_eq!(world.query(one, "listen c"), "C:LISTEN Z:I");
    world.run_for(3_000_000);
    assert_eq!(pins(&mut world), 1);
    world.query(two, "notify c 1");
    world.run_for(10_000);
    assert_eq!(world.brief(one), "A:c=1");
    // With room it is handed over, and hears each word once.
    world.max_sessions = 0;
    world.run_for(10_000_000);
    assert_eq!(pins(&mut world), 0);
    world.query(two, "notify c 2");
    world.run_for(10_000);
    assert_eq!(world.brief(one), "A:c=2");
    world.everybody_leaves();
}

#[test]
fn whoever_wants_servers_of_their_own_to_listen_gets_them() {
    let mut world = World::new(with_listening(2, |pool| pool.listen = ListenMode::Pinned));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "listen c"), "C:LISTEN Z:I");
    world.run_for(10_000);
    assert_eq!(pins(&mut world), 1);
    world.query(two, "notify c 1");
    world.run_for(10_000);
    assert_eq!((world.brief(one).as_str(), world.sessions()), ("A:c=1", 2));
    world.everybody_leaves();
}

#[test]
fn a_client_of_another_encoding_keeps_its_own_server() {
    let mut world = World::new(snapshot(2));
    let one = world.login(0);
    world.query(one, "set client_encoding=LATIN1");
    world.query(one, "listen c");
    world.run_for(10_000);
    assert_eq!((pins(&mut world), world.sessions()), (1, 1));
    world.query(one, "unlisten *");
    world.run_for(10_000);
    assert_eq!(pins(&mut world), 0);
    world.everybody_leaves();
}

#[test]
fn a_listener_that_does_not_read_is_bounded_and_told() {
    let mut world = World::new(with_listening(2, |pool| pool.listen_buffer_bytes = 100_000));
    let (slow, other, two) = (world.login(0), world.login(0), world.login(0));
    for client in [slow, other] {
        world.query(client, "listen c");
    }
    world.run_for(10_000);
    world.clients[slow].reads = false;
    let word = "x".repeat(1000);
    for _ in 0..300 {
        world.query(two, &format!("notify c {word}"));
        world.run_for(100);
    }
    world.run_for(10_000);
    assert!(world.desks[0].relay.held_bytes() < 10_000, "nothing is held any more");
    assert_eq!(world.take(other).len(), 300);
    world.read_again(slow);
    world.run_for(10_000);
    let told = world.take(slow);
    let (last, words) = told.split_last().expect("something");
    assert_eq!(last.brief(), "F:53400");
    assert!(words.len() > 90 && words.len() < 300, "{}", words.len());
    world.everybody_leaves();
}

#[test]
fn a_listener_in_the_middle_of_something_is_told_when_that_is_over() {
    let mut world = World::new(with_listening(2, |pool| pool.listen_buffer_bytes = 50_000));
    let (busy, two) = (world.login(0), world.login(0));
    world.query(busy, "listen c");
    world.run_for(10_000);
    let question = query("select 1");
    let (some, rest) = question.split_at(7);
    world.send(busy, some);
    world.run_for(10_000);
    let word = "x".repeat(1000);
    for _ in 0..100 {
        world.query(two, &format!("notify c {word}"));
    }
    world.run_for(10_000);
    assert_eq!(world.brief(busy), "");
    world.send(busy, rest);
    world.run_for(10_000);
    assert_eq!(world.brief(busy), "T D:1 C:SELECT 1 Z:I F:53400");
    world.everybody_leaves();
}

/// Listeners that come, go, query and open transactions while others speak: from the Ready of LISTEN to
/// the Ready before UNLISTEN each hears every word once, in order.
#[test]
fn every_word_is_heard_once_and_in_order() {
    for seed in 0..60 {
        let workers = 1 + (seed as usize % 2);
        let mut world = World::with_workers(snapshot(6), workers, seed);
        if seed % 3 == 0 {
            world.pieces = Pieces::Random;
        }
        let speakers: Vec<usize> = (0..2).map(|at| world.login(at % workers)).collect();
        let listeners: Vec<usize> = (0..4).map(|at| world.login(at % workers)).collect();
        let mut spoken = 0;
        for _ in 0..8 {
            let began: Vec<u64> = listeners
                .iter()
                .map(|client| {
                    assert!(world.query(*client, "listen c").ends_with("C:LISTEN Z:I"));
                    spoken
                })
                .collect();
            let first = spoken;
            for _ in 0..world.random.below(25) {
                let speaker = speakers[world.random.below(2) as usize];
                // One after the other, so that there is one order.
                assert_eq!(world.query(speaker, &format!("notify c {spoken}")), "C:NOTIFY Z:I");
                spoken += 1;
                let listener = listeners[world.random.below(4) as usize];
                let sql =
                    ["select 1", "begin", "commit", "set app.x=1", "sleep 300 x", "listen d", "unlisten d"]
                        [world.random.below(7) as usize];
                world.send(listener, &query(sql));
                if world.random.once_in(2) {
                    let pause = world.random.below(1_000);
                    world.run_for(pause);
                }
            }
            for (at, client) in listeners.iter().enumerate() {
                world.send(*client, &query("commit"));
                world.run_for(50_000);
                let heard: Vec<u64> = world.clients[*client]
                    .replies
                    .iter()
                    .filter_map(|reply| match reply {
                        Reply::Notification(_, _, word) => Some(word.parse().expect("a number")),
                        _ => None,
                    })
                    .collect();
                let expected: Vec<u64> = (began[at].max(first)..spoken).collect();
                assert_eq!(heard, expected, "seed {seed}, listener {at}");
                world.take(*client);
                assert!(world.query(*client, "unlisten *").ends_with("C:UNLISTEN Z:I"));
            }
            world.run_for(50_000);
            assert_eq!(listening(&world), [] as [String; 0], "seed {seed}");
        }
        assert_eq!(pins(&mut world), 0);
        world.everybody_leaves();
    }
}

#[test]
fn a_database_that_is_listened_to_is_not_left() {
    let mut config = snapshot(2);
    config.databases.push(maitred_relay::sim::setup::database("other", 0, 5));
    let mut world = World::new(config);
    let (one, admin) = (world.login(0), world.login_as(0, "ann", "other"));
    world.query(one, "listen c");
    world.run_for(10_000);
    world.query(admin, "drop database shop");
    world.run_for(1_000_000);
    assert_eq!(world.brief(one), "");
    assert_eq!(listening(&world), ["c"]);
    world.everybody_leaves();
}

#[test]
fn whoever_loses_its_own_server_hears_on() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "listen c");
    world.run_for(10_000);
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    world.query(two, "notify c 1");
    let line = world.session_that_ran("begin");
    world.disturb(line, |session| session.terminate(b"57P01", "going down"));
    world.run_for(10_000);
    world.query(two, "notify c 2");
    world.run_for(10_000);
    let told = world.brief(one);
    assert!(told.ends_with("A:c=1 A:c=2"), "{told}");
    assert!(world.query(one, "select 1").starts_with("E:57P01"));
    assert_eq!(world.query(one, "select 1"), "T D:1 C:SELECT 1 Z:I");
    world.everybody_leaves();
}
