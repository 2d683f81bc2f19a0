//! Readers slower than writers: memory stays bounded, and nobody else notices.
//!
//! The bound is `limits.buffer_bytes` and what is on its way, per connection.

use maitred_relay::sim::frontend::{copy_data, copy_done, query};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;

#[test]
fn a_client_that_does_not_read_holds_no_memory_and_nobody_else() {
    let mut world = World::new(snapshot(2));
    let (slow, other) = (world.login(0), world.login(0));
    world.clients[slow].reads = false;
    world.send(slow, &query("rows 5000 1000 x"));
    for _ in 0..20 {
        world.run_for(10_000);
        assert!(world.desks[0].relay.held_bytes() < 400_000, "{}", world.desks[0].relay.held_bytes());
        assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    }
    world.read_again(slow);
    world.run_for(1_000_000);
    let told = world.take(slow);
    assert_eq!(told.len(), 5_003);
    assert_eq!(world.query(slow, "select s"), "T D:s C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn many_queries_of_a_client_that_does_not_read_hold_no_memory_either() {
    let mut world = World::new(snapshot(1));
    let slow = world.login(0);
    world.clients[slow].reads = false;
    for _ in 0..300 {
        world.send(slow, &query("rows 50 1000 x"));
        world.run_for(2_000);
        assert!(world.desks[0].relay.held_bytes() < 400_000, "{}", world.desks[0].relay.held_bytes());
    }
    world.read_again(slow);
    world.run_for(5_000_000);
    assert_eq!(world.brief(slow).matches("Z:I").count(), 300);
    world.everybody_leaves();
}

#[test]
fn a_server_that_was_held_back_for_a_slow_reader_serves_the_next() {
    let mut world = World::new(snapshot(1));
    let (slow, next) = (world.login(0), world.login(0));
    world.clients[slow].reads = false;
    world.send(slow, &query("rows 80 1000 x"));
    world.run_for(50_000);
    assert_eq!(world.query(next, "select n"), "T D:n C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_database_that_does_not_read_stops_the_client_that_writes() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.slow_writes = true;
    world.send(client, &query("copyin t"));
    world.run_for(10_000);
    assert_eq!(world.brief(client), "G");
    for _ in 0..200 {
        world.send(client, &copy_data(&[b'c'; 10_000]));
        world.run_for(1_000);
        assert!(world.desks[0].relay.held_bytes() < 400_000, "{}", world.desks[0].relay.held_bytes());
    }
    world.slow_writes = false;
    world.run_for(5_000_000);
    assert_eq!(world.ask(client, &copy_done()), "C:COPY 2000000 Z:I");
    world.everybody_leaves();
}
