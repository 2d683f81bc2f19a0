//! Every time limit, to the moment: what it ends, what the client is told, what becomes of the server.
//!
//! Virtual time makes these exact; the grain allowed is that of the relay's own look at the clock.

use maitred_relay::sim::database::Door;
use maitred_relay::sim::frontend::{bind, execute, flush, parse, query, sync, Reply};
use maitred_relay::sim::setup::{snapshot, user};
use maitred_relay::sim::World;
use maitred_relay::snapshot::{PoolMode, PoolSettings};

const MS: u64 = 1_000;

fn world_with(size: u32, change: impl FnOnce(&mut PoolSettings)) -> World {
    let mut config = snapshot(size);
    change(&mut config.databases[0].pool);
    World::new(config)
}

fn error_of(replies: &[Reply]) -> String {
    replies
        .iter()
        .find_map(|r| match r {
            Reply::Error { code, message, detail, hint, .. } => {
                Some(format!("{code} {message} | {detail} | {hint}"))
            }
            _ => None,
        })
        .unwrap_or_default()
}

#[test]
fn the_queue_timeout_is_an_error_and_the_client_stays() {
    let mut world = world_with(1, |pool| pool.queue_timeout_ms = 500);
    let (busy, waits) = (world.login(0), world.login(0));
    world.send(busy, &query("sleep 2000000 x"));
    world.run_for(MS);
    world.send(waits, &query("select y"));
    world.run_for(480 * MS);
    assert!(world.clients[waits].replies.is_empty());
    world.run_for(40 * MS);
    let told = world.take(waits);
    let text = error_of(&told);
    assert!(
        text.starts_with("53300")
            && text.contains("pool.queue_timeout")
            && text.contains("1 of 1 servers open"),
        "{text}"
    );
    assert_eq!(told.last(), Some(&Reply::Ready('I')));
    world.run_for(2_000 * MS);
    assert_eq!(world.query(waits, "select y"), "T D:y C:SELECT 1 Z:I");
    assert_eq!(world.ran().iter().filter(|ran| ran.text == "select y").count(), 1);
    world.everybody_leaves();
}

#[test]
fn the_queue_timeout_of_a_batch_fails_up_to_its_sync() {
    let mut world = world_with(1, |pool| pool.queue_timeout_ms = 500);
    let (busy, waits) = (world.login(0), world.login(0));
    world.send(busy, &query("sleep 800000 x"));
    world.run_for(MS);
    world.send(
        waits,
        &[parse("", "select y"), bind("", "", &[]), execute("", 0), sync(), query("select z")].concat(),
    );
    world.run_for(5_000 * MS);
    assert_eq!(world.brief(waits), "E:53300 Z:I T D:z C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn each_users_queue_timeout_is_its_own_in_a_shared_queue() {
    let mut config = snapshot(1);
    config.databases[0].pool.queue_timeout_ms = 10_000;
    let mut hasty = user("hasty");
    hasty.pool.queue_timeout_ms = Some(300);
    config.users.push(hasty);
    let mut world = World::new(config);
    let (busy, patient, hasty) = (world.login(0), world.login(0), world.login_as(0, "hasty", "shop"));
    world.send(busy, &query("sleep 5000000 x"));
    world.run_for(MS);
    world.send(patient, &query("select p"));
    world.run_for(MS);
    world.send(hasty, &query("select h"));
    world.run_for(400 * MS);
    assert_eq!(world.brief(hasty), "E:53300 Z:I", "behind one that may wait longer");
    world.run_for(5_000 * MS);
    assert_eq!(world.brief(patient), "T D:p C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn the_query_timeout_lets_the_database_cancel_the_query() {
    let mut world = world_with(1, |pool| pool.query_timeout_ms = 300);
    let client = world.login(0);
    let from = world.now;
    assert_eq!(world.query(client, "sleep 5000000 x"), "E:57014 Z:I");
    let took = world.now - from;
    assert!((300 * MS..330 * MS).contains(&took), "{took}");
    assert_eq!(world.query(client, "sleep 200000 y"), "T D:y C:SELECT 1 Z:I");
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    assert_eq!(
        world.query(client, "sleep 5000000 x"),
        "E:57014 Z:E",
        "the transaction is the database's to fail"
    );
    assert_eq!(world.query(client, "rollback"), "C:ROLLBACK Z:I");
    assert_eq!(world.lines.len(), 1, "the server lives on");
    world.everybody_leaves();
}

#[test]
fn a_database_that_does_not_obey_the_query_timeout_loses_its_connection() {
    let mut world = world_with(1, |pool| pool.query_timeout_ms = 300);
    let (client, other) = (world.login(0), world.login(0));
    let from = world.now;
    world.send(client, &query("silent"));
    world.run_for(MS);
    world.send(other, &query("select o"));
    world.run_until(|world| world.is_ready(client), 2_000 * MS);
    let took = world.now - from;
    assert!((600 * MS..660 * MS).contains(&took), "{took}");
    assert_eq!(world.brief(client), "E:08006 Z:I");
    world.run_for(100 * MS);
    assert_eq!(world.brief(other), "T D:o C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_pipeline_of_short_queries_is_not_one_long_query() {
    let mut world = world_with(1, |pool| pool.query_timeout_ms = 300);
    let client = world.login(0);
    let batch: Vec<u8> = (0..10).flat_map(|_| query("sleep 100000 x")).collect();
    let told = world.ask_for(client, &batch, 10);
    assert_eq!(told, ["T D:x C:SELECT 1 Z:I"; 10].join(" "));
    world.everybody_leaves();
}

#[test]
fn the_idle_transaction_timeout_closes_the_client_and_saves_the_server() {
    let mut world = world_with(1, |pool| pool.idle_transaction_timeout_ms = 300);
    let (client, other) = (world.login(0), world.login(0));
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    for _ in 0..3 {
        world.run_for(250 * MS);
        assert_eq!(world.query(client, "select x"), "T D:x C:SELECT 1 Z:T");
    }
    assert_eq!(world.query(client, "sleep 400000 x"), "T D:x C:SELECT 1 Z:T", "working is not idle");
    let from = world.now;
    world.send(other, &query("select o"));
    world.run_until(|world| world.clients[client].is_closed, 1_000 * MS);
    assert!(world.now - from < 330 * MS);
    let text = error_of(&world.take(client));
    assert!(text.starts_with("25P03") && text.contains("idle_transaction_timeout"), "{text}");
    world.run_for(100 * MS);
    assert_eq!(world.brief(other), "T D:o C:SELECT 1 Z:I");
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn half_a_batch_holds_a_server_no_longer_than_an_idle_transaction() {
    let mut world = world_with(1, |pool| pool.idle_transaction_timeout_ms = 300);
    let (client, other) = (world.login(0), world.login(0));
    world.send(client, &[parse("", "select x"), bind("", "", &[]), execute("", 0), flush()].concat());
    world.run_for(100 * MS);
    assert_eq!(world.brief(client), "1 2 D:x C:SELECT 1");
    world.send(other, &query("select o"));
    world.run_for(400 * MS);
    assert!(world.clients[client].is_closed);
    assert_eq!(world.brief(client), "F:25P03");
    assert_eq!(world.brief(other), "T D:o C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn the_transaction_timeout_ends_even_a_busy_transaction() {
    let mut world = world_with(1, |pool| pool.transaction_timeout_ms = 500);
    let client = world.login(0);
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    let from = world.now;
    world.send(client, &query("sleep 5000000 x"));
    world.run_until(|world| world.clients[client].is_closed, 1_000 * MS);
    assert!((480 * MS..540 * MS).contains(&(world.now - from)));
    let text = error_of(&world.take(client));
    assert!(text.starts_with("25P04") && text.contains("transaction_timeout"), "{text}");
    world.run_for(100 * MS);
    let ran = world.ran();
    assert!(ran.iter().any(|ran| ran.text.starts_with("sleep") && ran.was_cancelled), "{ran:?}");
    assert_eq!(ran.last().map(|ran| ran.text.as_str()), Some("ROLLBACK"));
    let other = world.login(0);
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn an_idle_client_is_let_go_and_a_busy_one_is_not() {
    let mut world = world_with(2, |pool| pool.client_idle_timeout_ms = 3_000);
    let (idle, busy, in_transaction) = (world.login(0), world.login(0), world.login(0));
    assert_eq!(world.query(in_transaction, "begin"), "C:BEGIN Z:T");
    for _ in 0..3 {
        world.run_for(2_000 * MS);
        assert_eq!(world.query(busy, "select x"), "T D:x C:SELECT 1 Z:I");
    }
    assert!(
        world.clients[idle].is_closed
            && !world.clients[busy].is_closed
            && !world.clients[in_transaction].is_closed
    );
    assert_eq!(world.brief(idle), "F:57P05");
    world.everybody_leaves();
}

#[test]
fn a_login_has_its_time_too() {
    let mut config = snapshot(1);
    config.limits.client_login_timeout_ms = 1_000;
    let mut world = World::new(config);
    let silent = world.open(0);
    let half = world.open(0);
    world.send(half, b"\0\0\0\x50\0\x03\0\0user");
    world.run_for(990 * MS);
    assert!(!world.clients[silent].is_closed && !world.clients[half].is_closed);
    world.run_for(30 * MS);
    for client in [silent, half] {
        assert!(world.clients[client].is_closed);
        let text = error_of(&world.take(client));
        assert!(text.contains("client_login_timeout"), "{text}");
    }
    world.everybody_leaves();
}

#[test]
fn connecting_and_logging_in_to_the_database_have_their_limits() {
    for (door, what) in [(Door::Silent, "connecting"), (Door::Mute, "logging in")] {
        let mut world = world_with(1, |pool| {
            pool.connect_timeout_ms = 700;
            pool.login_timeout_ms = 900;
            pool.queue_timeout_ms = 5_000;
        });
        let client = world.login(0);
        world.disturb(0, |session| session.end());
        world.run_for(MS);
        world.doors.insert("db1".into(), door.clone());
        world.send(client, &query("select x"));
        let from = world.now;
        let limit = if door == Door::Silent { 700 } else { 900 };
        let is_given_up = |world: &World| world.lines.len() == 2 && world.lines[1].session.is_over;
        world.run_until(is_given_up, 2_000 * MS);
        let took = (world.now - from) / MS;
        assert!((limit..limit + 30).contains(&took), "{what}: {took}");
        let failure = format!("{:?}", world.told.last());
        assert!(failure.contains(what), "{failure}");
        world.doors.clear();
        world.run_for(4_000 * MS);
        assert_eq!(world.brief(client), "T D:x C:SELECT 1 Z:I", "{what}");
        world.everybody_leaves();
    }
}

#[test]
fn a_queue_timeout_names_the_real_cause() {
    let mut world = world_with(1, |pool| pool.queue_timeout_ms = 1_000);
    let client = world.login(0);
    world.disturb(0, |session| session.end());
    world.doors.insert("db1".into(), Door::Refuse(*b"57P03", "the database system is starting up".into()));
    world.run_for(MS);
    world.send(client, &query("select x"));
    world.run_for(1_100 * MS);
    let text = error_of(&world.take(client));
    assert!(
        text.contains("the database system is starting up") && text.contains("pool.queue_timeout"),
        "{text}"
    );
    assert!(!world.clients[client].is_closed);
    world.doors.clear();
    world.run_for(3_000 * MS);
    assert_eq!(world.query(client, "select x"), "T D:x C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn servers_retire_at_their_lifetime_less_the_jitter_and_never_while_lent() {
    let mut world = world_with(20, |pool| {
        pool.server_lifetime_ms = 10_000;
        pool.server_lifetime_jitter = 50;
    });
    let clients: Vec<usize> = (0..20).map(|_| world.login(0)).collect();
    for client in &clients {
        world.send(*client, &query("sleep 100000 x"));
    }
    world.run_for(1_000 * MS);
    assert_eq!(world.sessions(), 20);
    assert_eq!(world.query(clients[0], "begin"), "T D:x C:SELECT 1 Z:I");
    world.run_for(MS);
    let mut ends = vec![0; 20];
    for _ in 0..120 {
        world.run_for(100 * MS);
        for (at, line) in world.lines.iter().enumerate().take(20) {
            if line.session.is_over && ends[at] == 0 {
                ends[at] = (world.now - line.opened_at) / MS;
            }
        }
    }
    let ended: Vec<u64> = ends.iter().copied().filter(|end| *end > 0).collect();
    assert_eq!(ended.len(), 19, "the one in a transaction stays: {ends:?}");
    assert!(ended.iter().all(|age| (4_900..=10_200).contains(age)), "{ended:?}");
    let spread = ended.iter().max().expect("some") - ended.iter().min().expect("some");
    assert!(spread > 2_000, "jitter: {ended:?}");
    world.everybody_leaves();
}

#[test]
fn idle_servers_are_closed_after_their_time() {
    let mut world = world_with(5, |pool| pool.server_idle_timeout_ms = 2_000);
    let clients: Vec<usize> = (0..5).map(|_| world.login(0)).collect();
    for client in &clients {
        world.send(*client, &query("sleep 100000 x"));
    }
    for _ in 0..5 {
        world.run_for(1_000 * MS);
        world.take(clients[0]);
        assert_eq!(world.query(clients[0], "select y"), "T D:y C:SELECT 1 Z:I");
    }
    assert_eq!(world.sessions(), 1, "only the one in use is left");
    world.run_for(2_100 * MS);
    assert_eq!(world.sessions(), 0);
    world.everybody_leaves();
}

#[test]
fn time_limits_hold_in_session_mode() {
    let mut world = world_with(1, |pool| {
        pool.mode = PoolMode::Session;
        pool.query_timeout_ms = 300;
        pool.idle_transaction_timeout_ms = 500;
    });
    let client = world.login(0);
    assert_eq!(world.query(client, "sleep 5000000 x"), "E:57014 Z:I");
    world.run_for(2_000 * MS);
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T", "idle without a transaction is no offence");
    world.run_for(600 * MS);
    assert!(world.clients[client].is_closed);
    world.everybody_leaves();
}
