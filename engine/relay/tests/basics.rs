//! The virtual world itself, and the plain road of a query: login, lend, answer, give back.
//!
//! Never touches a socket. What is more special has a file of its own beside this one.

use maitred_relay::sim::frontend::{bind, describe, execute, parse, query, sync};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;

#[test]
fn a_client_logs_in_and_is_told_what_a_session_of_its_own_would_say() {
    let mut world = World::new(snapshot(2));
    let client = world.arrive(0, "ann", "shop");
    world.run_for(10_000);
    let told = world.brief(client);
    assert_eq!(
        told,
        "R S:application_name= S:client_encoding=UTF8 S:DateStyle=ISO, MDY S:in_hot_standby=off \
         S:server_version=18.0 S:TimeZone=UTC K Z:I"
    );
    world.everybody_leaves();
}

#[test]
fn one_server_serves_many_clients_one_after_the_other() {
    let mut world = World::new(snapshot(1));
    let clients: Vec<usize> = (0..50).map(|_| world.login(0)).collect();
    for client in &clients {
        world.send(*client, &query(&format!("sleep 1000 m{client}")));
    }
    world.run_for(200_000);
    for client in &clients {
        assert_eq!(world.brief(*client), format!("T D:m{client} C:SELECT 1 Z:I"));
    }
    assert_eq!(world.sessions(), 1);
    world.everybody_leaves();
}

#[test]
fn a_transaction_keeps_its_server() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(two, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(one, "select a1"), "T D:a1 C:SELECT 1 Z:T");
    assert_eq!(world.query(two, "select b1"), "T D:b1 C:SELECT 1 Z:T");
    assert_eq!(world.query(one, "fail"), "E:22012 Z:E");
    assert_eq!(world.query(one, "select a2"), "E:25P02 Z:E");
    assert_eq!(world.query(one, "commit"), "C:ROLLBACK Z:I");
    assert_eq!(world.query(two, "commit"), "C:COMMIT Z:I");
    assert_ne!(world.session_that_ran("a1"), world.session_that_ran("b1"));
    world.everybody_leaves();
}

#[test]
fn extended_queries_pass_as_they_are() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let batch =
        [parse("", "select $1"), bind("", "", &["x"]), describe('P', ""), execute("", 0), sync()].concat();
    assert_eq!(world.ask(client, &batch), "1 2 T D:x C:SELECT 1 Z:I");
    let portals = [
        query("begin"),
        parse("", "rows 3 0 r"),
        bind("p", "", &[]),
        execute("p", 2),
        execute("p", 2),
        sync(),
        query("commit"),
    ];
    assert_eq!(
        world.ask_for(client, &portals.concat(), 3),
        "C:BEGIN Z:T 1 2 D:r D:r s D:r C:SELECT 3 Z:T C:COMMIT Z:I"
    );
    world.everybody_leaves();
}

#[test]
fn several_statements_in_one_query_and_none() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(
        world.query(client, "begin; select a; commit; select b"),
        "C:BEGIN T D:a C:SELECT 1 C:COMMIT T D:b C:SELECT 1 Z:I"
    );
    assert_eq!(world.query(client, ""), "I Z:I");
    assert_eq!(world.query(client, "select a; fail; select b"), "T D:a C:SELECT 1 E:22012 Z:I");
    world.everybody_leaves();
}

#[test]
fn what_takes_no_time_ends_even_behind_what_ends_at_the_same_moment() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.send(client, &[query("sleep 100 a"), query("sleep 0 b"), query("sleep 0 c;sleep 0 d")].concat());
    world.run_for(100_000);
    assert_eq!(
        world.brief(client),
        "T D:a C:SELECT 1 Z:I T D:b C:SELECT 1 Z:I T D:c C:SELECT 1 T D:d C:SELECT 1 Z:I"
    );
    world.everybody_leaves();
}
