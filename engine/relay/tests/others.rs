//! What is not a pooled client: the console, replication, and the report of all there is.
//!
//! None of it may take a server from those who share them, but by the rules.

use maitred_relay::action::Event;
use maitred_relay::console::ConsoleAnswer;
use maitred_relay::sim::frontend::{query, startup};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;

#[test]
fn the_console_takes_simple_queries_one_at_a_time() {
    let mut world = World::new(snapshot(1));
    let client = world.login_as(0, "ann", "maitred");
    world.send(client, &[query("show pools"), query("nonsense")].concat());
    world.run_for(10_000);
    let asked = |world: &World| -> Vec<(u64, String)> {
        let text = |event: &Event| match event {
            Event::Console { client, text, admin: true, .. } => Some((*client, text.clone())),
            _ => None,
        };
        world.told.iter().filter_map(text).collect()
    };
    let first = asked(&world);
    assert_eq!(first.iter().map(|ask| ask.1.as_str()).collect::<Vec<_>>(), ["show pools"]);
    let rows =
        ConsoleAnswer::Rows { columns: Vec::new(), rows: vec![vec![Some("1".into())]], tag: "SHOW".into() };
    world.with(0, |relay, now| relay.console_answered(now, first[0].0, &rows));
    world.run_for(10_000);
    assert_eq!(world.brief(client), "T D:1 C:SHOW Z:I");
    assert_eq!(asked(&world).len(), 2);
    let refused = ConsoleAnswer::Refused { sqlstate: *b"42601", message: "what?".into(), hint: None };
    world.with(0, |relay, now| relay.console_answered(now, first[0].0, &refused));
    world.run_for(10_000);
    assert_eq!(world.brief(client), "E:42601 Z:I");
    assert_eq!(world.lines.len(), 0, "no server was needed");
    world.everybody_leaves();
}

#[test]
fn a_statement_sent_with_the_startup_packet_reaches_the_console() {
    let mut world = World::new(snapshot(1));
    let client = world.open(0);
    world.send(
        client,
        &[startup(&[("user", "ann"), ("database", "maitred")]), query("show version")].concat(),
    );
    world.run_for(10_000);
    assert!(world
        .told
        .iter()
        .any(|event| matches!(event, Event::Console { text, .. } if text == "show version")));
    world.everybody_leaves();
}

#[test]
fn replication_takes_the_place_of_an_idle_server_and_of_no_other() {
    let mut world = World::new(snapshot(1));
    let other = world.login(0);
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    let hello = startup(&[("user", "ann"), ("database", "shop"), ("replication", "true")]);
    let client = world.open(0);
    world.send(client, &hello);
    world.run_for(50_000);
    assert!(world.brief(client).ends_with("Z:I"));
    assert_eq!(world.sessions(), 1);
    world.leave(client);
    world.run_for(50_000);
    assert_eq!(world.query(other, "begin"), "C:BEGIN Z:T");
    let client = world.open(0);
    world.send(client, &hello);
    world.run_for(50_000);
    assert!(world.brief(client).ends_with("F:53300"));
    assert_eq!(world.query(other, "commit"), "C:COMMIT Z:I");
    world.everybody_leaves();
}

#[test]
fn replication_has_a_server_of_its_own_and_passes_unread() {
    let mut world = World::new(snapshot(3));
    let other = world.login(0);
    let client = world.open(0);
    world.send(client, &startup(&[("user", "ann"), ("database", "shop"), ("replication", "database")]));
    world.run_for(50_000);
    assert!(world.is_ready(client));
    world.take(client);
    world.clients[client].is_raw = true;
    for wait in [0, 150, 250, 350] {
        let early = world.open(0);
        world.clients[early].is_raw = true;
        world.send(early, &startup(&[("user", "ann"), ("database", "shop"), ("replication", "true")]));
        world.run_for(wait);
        world.send(early, &query("IDENTIFY_SYSTEM"));
        world.run_for(50_000);
        assert!(world.clients[early].raw.ends_with(&query("IDENTIFY_SYSTEM")), "it is said back");
        let heard = world.lines.last().expect("its own").session.heard_raw.clone();
        assert_eq!(heard, query("IDENTIFY_SYSTEM"), "sent after {wait} us");
        world.leave(early);
        world.run_for(10_000);
    }
    let said: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
    world.send(client, &said);
    world.run_for(100_000);
    assert!(world.clients[client].raw == said, "as it was said: {} bytes", world.clients[client].raw.len());
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    world.leave(client);
    world.run_for(10_000);
    assert_eq!(world.sessions(), 1, "its server went with it");
    world.everybody_leaves();
}

#[test]
fn reports_count_what_is_there() {
    let mut world = World::new(snapshot(2));
    let clients: Vec<usize> = (0..4).map(|_| world.login(0)).collect();
    for client in &clients {
        world.send(*client, &query("sleep 100000 x"));
    }
    world.run_for(50_000);
    let report = world.with(0, |relay, now| relay.report(now, true));
    let row = &report.pools[0];
    assert_eq!((row.clients, row.clients_active, row.clients_waiting), (4, 2, 2));
    assert_eq!((row.servers_active, row.servers_idle, row.servers_opening), (2, 0, 0));
    assert!(row.max_wait_us >= 40_000);
    world.run_for(1_000_000);
    let report = world.with(0, |relay, now| relay.report(now, true));
    assert_eq!((report.pools[0].servers_idle, report.pools[0].max_wait_us), (2, 0));
    let stats = &report.stats[0];
    assert_eq!((stats.queries, stats.transactions, stats.leases), (4, 4, 4));
    assert!(stats.query_us >= 400_000 && stats.wait_us >= 190_000, "{stats:?}");
    world.everybody_leaves();
}
