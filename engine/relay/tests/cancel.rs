//! Cancel requests: the right query or nothing, whatever crosses what.
//!
//! Every query carries its client's marker, so a cancel that hits another client is seen.

use maitred_relay::sim::frontend::{query, terminate, Reply};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, Random, World};
use maitred_wire::CancelKey;

#[test]
fn a_cancel_stops_the_query_that_runs_and_only_that() {
    for workers in [1, 3] {
        let mut world = World::with_workers(snapshot(3), workers, 1);
        let clients: Vec<usize> = (0..3).map(|at| world.login(at % workers)).collect();
        for client in &clients {
            world.send(*client, &query(&format!("sleep 500000 m{client}")));
        }
        world.run_for(100_000);
        let key = world.clients[clients[1]].key.clone().expect("key");
        let requester = world.cancel_with(workers - 1, &key);
        world.run_for(50_000);
        assert_eq!(world.brief(clients[1]), "E:57014 Z:I");
        assert!(world.clients[requester].is_closed && world.clients[requester].replies.is_empty());
        world.run_for(1_000_000);
        assert_eq!(world.brief(clients[0]), "T D:m0 C:SELECT 1 Z:I");
        assert_eq!(world.brief(clients[2]), "T D:m2 C:SELECT 1 Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn a_cancel_removes_a_client_that_only_waits() {
    let mut world = World::new(snapshot(1));
    let (busy, waits) = (world.login(0), world.login(0));
    world.send(busy, &query("sleep 500000 b"));
    world.run_for(1_000);
    world.send(waits, &query("select w"));
    world.run_for(1_000);
    let requester = world.cancel(waits);
    world.run_for(10_000);
    assert_eq!(world.brief(waits), "E:57014 Z:I");
    assert!(world.clients[requester].is_closed);
    world.run_for(1_000_000);
    assert_eq!(world.brief(busy), "T D:b C:SELECT 1 Z:I");
    assert!(world.ran().iter().all(|ran| ran.text != "select w"));
    assert_eq!(world.query(waits, "select again"), "T D:again C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_wrong_key_stops_nothing() {
    let mut world = World::with_workers(snapshot(1), 2, 1);
    let client = world.login(0);
    let key = world.clients[client].key.clone().expect("key");
    world.send(client, &query("sleep 100000 x"));
    world.run_for(10_000);
    let mut wrong = vec![
        CancelKey { pid: key.pid + 1, ..key.clone() },
        CancelKey { pid: 0, secret: key.secret.clone() },
        CancelKey { pid: u32::MAX, secret: key.secret.clone() },
        CancelKey { pid: key.pid, secret: key.secret[..2].to_vec() },
        CancelKey { pid: key.pid, secret: [&key.secret[..], &[0]].concat() },
    ];
    for bit in 0..32 {
        let mut other = key.clone();
        other.secret[bit / 8] ^= 1 << (bit % 8);
        wrong.push(other);
    }
    let requesters: Vec<usize> = wrong.iter().map(|key| world.cancel_with(0, key)).collect();
    world.run_for(200_000);
    assert_eq!(world.brief(client), "T D:x C:SELECT 1 Z:I");
    assert!(requesters.iter().all(|requester| world.clients[*requester].is_closed));
    world.everybody_leaves();
}

#[test]
fn an_idle_client_cannot_be_cancelled_and_nobody_else_is() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "select x"), "T D:x C:SELECT 1 Z:I");
    world.send(two, &query("sleep 50000 y"));
    world.run_for(1_000);
    world.cancel(one);
    world.run_for(100_000);
    assert_eq!(world.brief(two), "T D:y C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_server_is_not_lent_before_the_cancel_has_ended_and_a_round_trip_has_passed() {
    let mut world = World::new(snapshot(1));
    world.cancel_us = 20_000;
    world.cancel_end_us = 30_000;
    let (one, two) = (world.login(0), world.login(0));
    world.send(one, &query("sleep 10000 x"));
    world.run_for(5_000);
    let asked = world.now;
    world.cancel(one);
    world.run_for(1_000);
    // Its query ends by itself before the database hears the cancel.
    world.send(two, &query("sleep 60000 y"));
    world.run_for(200_000);
    assert_eq!(world.brief(one), "T D:x C:SELECT 1 Z:I");
    assert_eq!(world.brief(two), "T D:y C:SELECT 1 Z:I");
    let began = world.ran().iter().find(|ran| ran.text.ends_with('y')).expect("ran").at - 60_000;
    assert!(began >= asked + 50_000, "lent {} us after the cancel was asked for", began - asked);
    world.everybody_leaves();
}

#[test]
fn a_cancel_while_settings_are_applied_costs_the_query_and_not_the_client() {
    let mut hit = 0;
    for delay in 0..40 {
        let mut world = World::new(snapshot(1));
        world.latency_us = 2_000;
        world.cancel_us = 100;
        let (one, two) = (world.login(0), world.login(0));
        assert_eq!(world.query(two, "set TimeZone=Asia/Tokyo"), "C:SET S:TimeZone=Asia/Tokyo Z:I");
        assert_eq!(world.query(one, "select x"), "T D:x C:SELECT 1 Z:I");
        world.slow_settings_us = 3_000;
        world.send(two, &query("sleep 20000 y"));
        world.run_for(delay * 500);
        world.cancel(two);
        world.run_for(300_000);
        let told = world.brief(two);
        assert!(told == "E:57014 Z:I" || told == "T D:y C:SELECT 1 Z:I", "{told} with a delay of {delay}");
        hit += usize::from(told.starts_with("E:57014"));
        assert!(!world.clients[two].is_closed);
        assert_eq!(world.query(two, "show TimeZone"), "T D:Asia/Tokyo C:SELECT 1 Z:I");
        world.everybody_leaves();
    }
    assert!(hit > 10);
}

/// Random queries and cancels at random moments: each query ends with its own marker or with 57014,
/// and 57014 comes only to clients for whom somebody asked.
fn cancel_storm(seed: u64) -> (usize, usize) {
    let mut random = Random::new(seed);
    let workers = 1 + random.below(3) as usize;
    let mut world = World::with_workers(snapshot(2), workers, seed);
    world.cancel_us = random.below(3_000);
    world.cancel_end_us = random.below(2_000);
    world.latency_us = 20 + random.below(300);
    if random.once_in(3) {
        world.pieces = Pieces::Random;
    }
    let clients: Vec<usize> = (0..6).map(|at| world.login(at % workers)).collect();
    let (mut served, mut cancelled) = (0, 0);
    let mut asked = vec![false; clients.len()];
    for round in 0..6 {
        for (at, client) in clients.iter().enumerate() {
            world.send(*client, &query(&format!("sleep {} m{at}.{round}", 100 + random.below(2_500))));
        }
        for _ in 0..4 {
            world.run_for(random.below(1_500));
            let at = random.below(clients.len() as u64) as usize;
            let key = world.clients[clients[at]].key.clone().expect("key");
            world.cancel_with(random.below(workers as u64) as usize, &key);
            asked[at] = true;
        }
        world.run_until(|world| clients.iter().all(|client| world.is_ready(*client)), 60_000_000);
        for (at, client) in clients.iter().enumerate() {
            match world.brief(*client).as_str() {
                "E:57014 Z:I" => {
                    assert!(asked[at], "client {at} was hit in round {round} and nobody asked");
                    cancelled += 1;
                }
                told => {
                    assert_eq!(told, format!("T D:m{at}.{round} C:SELECT 1 Z:I"));
                    served += 1;
                }
            }
        }
        // Otherwise a cancel of this round may yet arrive in the next, for whom it was meant.
        if random.once_in(2) {
            world.run_for(20_000);
            asked.fill(false);
        }
    }
    world.everybody_leaves();
    (served, cancelled)
}

#[test]
fn cancels_that_cross_releases_hit_nobody_else() {
    let (mut served, mut cancelled) = (0, 0);
    for seed in Random::seeds(1_500) {
        let (s, c) = cancel_storm(seed);
        served += s;
        cancelled += c;
    }
    assert!(served > cancelled && cancelled > 0, "{served} served, {cancelled} cancelled");
}

#[test]
fn the_key_of_a_new_client_is_not_the_key_of_one_that_left() {
    let mut world = World::new(snapshot(1));
    let old = world.login(0);
    let key = world.clients[old].key.clone().expect("key");
    world.leave(old);
    world.run_for(10_000);
    let new = world.login(0);
    assert_ne!(world.clients[new].key.as_ref(), Some(&key));
    world.send(new, &query("sleep 50000 n"));
    world.run_for(1_000);
    world.cancel_with(0, &key);
    world.run_for(100_000);
    assert_eq!(world.brief(new), "T D:n C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_cancel_of_a_client_whose_server_dies_ends_too() {
    let mut world = World::new(snapshot(1));
    world.cancel_us = 50_000;
    let client = world.login(0);
    world.send(client, &query("sleep 500000 x"));
    world.run_for(10_000);
    let requester = world.cancel(client);
    world.run_for(5_000);
    world.disturb(0, |session| session.end());
    world.run_for(10_000);
    assert_eq!(world.brief(client), "E:08006 Z:I");
    assert!(world.clients[requester].is_closed);
    assert!(world.clients[requester].replies.iter().all(|reply| !matches!(reply, Reply::Error { .. })));
    world.everybody_leaves();
}

#[test]
fn a_newcomer_is_not_told_the_number_of_somebody_who_has_just_left() {
    let mut world = World::new(snapshot(1));
    let mut told = std::collections::HashSet::new();
    for _ in 0..10 {
        let client = world.login(0);
        let key = world.clients[client].key.clone().expect("key");
        assert!(told.insert(key.pid) && i32::try_from(key.pid).is_ok_and(|pid| pid > 0));
        world.send(client, &query("sleep 500000 x"));
        world.run_for(1_000);
        world.cancel(client);
        world.run_for(10_000);
        assert_eq!(world.brief(client), "E:57014 Z:I");
        world.send(client, &terminate());
        world.run_for(10_000);
    }
    world.everybody_leaves();
}
