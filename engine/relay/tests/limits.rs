//! Budgets: never one server more than allowed, at any step, over one worker or four.
//!
//! `World` counts after every step; these scenarios make it worth counting.

use maitred_relay::sim::database::Door;
use maitred_relay::sim::frontend::{message, query};
use maitred_relay::sim::setup::{database, endpoint, snapshot, user};
use maitred_relay::sim::World;
use maitred_relay::snapshot::{AuthMethod, Snapshot, User};

/// The most sessions that the database has seen open at once, while `clients` ask `rounds` times each.
fn most_sessions(world: &mut World, clients: &[usize], rounds: usize) -> usize {
    let mut most = 0;
    for round in 0..rounds {
        for client in clients {
            world.send(*client, &query(&format!("sleep 2000 m{client}.{round}")));
        }
        let until = world.now + 5_000_000;
        while world.now < until && !clients.iter().all(|client| world.is_ready(*client)) {
            world.step();
            most = most.max(world.sessions());
        }
        for client in clients {
            assert_eq!(world.brief(*client), format!("T D:m{client}.{round} C:SELECT 1 Z:I"));
        }
    }
    most
}

#[test]
fn the_size_of_a_pool_holds_and_is_used_over_one_to_four_workers() {
    for workers in 1..=4 {
        let mut world = World::with_workers(snapshot(5), workers, workers as u64);
        let clients: Vec<usize> = (0..40).map(|at| world.login(at % workers)).collect();
        assert_eq!(most_sessions(&mut world, &clients, 4), 5, "{workers} workers");
        world.everybody_leaves();
    }
}

#[test]
fn the_budget_holds_while_connects_fail() {
    for workers in 1..=4 {
        let mut world = World::with_workers(snapshot(3), workers, workers as u64);
        world.max_sessions = 2;
        let clients: Vec<usize> = (0..24).map(|at| world.login(at % workers)).collect();
        assert_eq!(most_sessions(&mut world, &clients, 5), 2);
        world.max_sessions = 0;
        assert_eq!(most_sessions(&mut world, &clients, 40), 3);
        world.everybody_leaves();
    }
}

#[test]
fn the_reserve_is_for_those_who_waited_long() {
    let mut config = snapshot(1);
    config.databases[0].pool.reserve_size = 2;
    config.databases[0].pool.reserve_after_ms = 1_000;
    let mut world = World::new(config);
    let clients: Vec<usize> = (0..4).map(|_| world.login(0)).collect();
    for client in &clients {
        world.send(*client, &query("sleep 4000000 x"));
    }
    world.run_for(900_000);
    assert_eq!(world.sessions(), 1);
    world.run_for(1_000_000);
    assert_eq!(world.sessions(), 3);
    world.run_for(20_000_000);
    world.everybody_leaves();
}

#[test]
fn a_waiter_that_left_does_not_open_the_reserve_for_others() {
    let mut config = snapshot(1);
    config.databases[0].pool.reserve_size = 1;
    config.databases[0].pool.reserve_after_ms = 1_000;
    let mut world = World::new(config);
    let (one, two, three) = (world.login(0), world.login(0), world.login(0));
    world.send(one, &query("sleep 3000000 x"));
    world.run_for(1_000);
    world.send(two, &query("select x"));
    world.run_for(800_000);
    world.leave(two);
    world.send(three, &query("select x"));
    world.run_for(500_000);
    assert_eq!(world.sessions(), 1, "the one that waits has waited for half a second");
    world.run_for(600_000);
    assert_eq!(world.sessions(), 2);
    world.everybody_leaves();
}

/// Two databases, `shop` and `mail`, at two endpoints, pools of 4 each.
fn two_databases() -> Snapshot {
    let mut config = snapshot(4);
    config.endpoints.push(endpoint("db2"));
    config.databases.push(database("mail", 1, 4));
    config
}

#[test]
fn limits_of_database_user_endpoint_and_total_hold() {
    type Change = fn(&mut Snapshot);
    let changes: [(&str, Change); 4] = [
        ("database", |config| config.databases[0].max_servers = 2),
        ("endpoint", |config| config.endpoints[0].max_servers = 2),
        ("total", |config| config.limits.servers = 2),
        ("user", |config| {
            config.databases[0].user = None;
            config.users.push(user("ann"));
            config.users[0].max_servers = 2;
        }),
    ];
    for (what, change) in changes {
        for workers in [1, 3] {
            let mut config = snapshot(4);
            change(&mut config);
            let mut world = World::with_workers(config, workers, 5);
            let clients: Vec<usize> = (0..12).map(|at| world.login(at % workers)).collect();
            assert_eq!(most_sessions(&mut world, &clients, 3), 2, "{what}, {workers} workers");
            world.everybody_leaves();
        }
    }
}

#[test]
fn an_idle_server_of_another_pool_gives_way() {
    for workers in [1, 2] {
        let mut config = two_databases();
        config.limits.servers = 3;
        let mut world = World::with_workers(config, workers, 1);
        let shop: Vec<usize> = (0..3).map(|_| world.login_as(0, "ann", "shop")).collect();
        assert_eq!(most_sessions(&mut world, &shop, 1), 3);
        let mail = world.login_as(workers - 1, "ann", "mail");
        assert_eq!(world.query(mail, "select m"), "T D:m C:SELECT 1 Z:I");
        world.run_for(1_000_000);
        let open = |world: &World, name: &str| {
            world.lines.iter().filter(|line| line.endpoint == name && !line.session.is_over).count()
        };
        assert_eq!((open(&world, "db1"), open(&world, "db2")), (2, 1));
        world.everybody_leaves();
    }
}

#[test]
fn only_servers_that_count_in_the_full_budget_give_way() {
    let mut config = two_databases();
    config.limits.servers = 100;
    config.endpoints[1].max_servers = 1;
    config.databases.push(database("news", 1, 4));
    let mut world = World::new(config);
    let shop: Vec<usize> = (0..3).map(|_| world.login_as(0, "ann", "shop")).collect();
    assert_eq!(most_sessions(&mut world, &shop, 1), 3);
    let news = world.login_as(0, "ann", "news");
    assert_eq!(world.query(news, "begin"), "C:BEGIN Z:T");
    let mail = world.arrive(0, "ann", "mail");
    world.run_for(2_000_000);
    assert!(world.clients[mail].replies.iter().all(|reply| !reply.brief().starts_with('Z')));
    let shop_open = world.lines.iter().filter(|line| line.endpoint == "db1" && !line.session.is_over).count();
    assert_eq!(shop_open, 3, "closing servers of db1 frees no place at db2");
    assert_eq!(world.query(news, "commit"), "C:COMMIT Z:I");
    world.run_for(1_000_000);
    assert!(world.is_ready(mail), "the idle server of news has given way");
    world.everybody_leaves();
}

#[test]
fn a_pool_that_is_full_itself_takes_no_place_from_others() {
    let mut config = two_databases();
    config.limits.servers = 3;
    config.databases[1].pool.size = 1;
    let mut world = World::new(config);
    let shop: Vec<usize> = (0..2).map(|_| world.login_as(0, "ann", "shop")).collect();
    assert_eq!(most_sessions(&mut world, &shop, 1), 2);
    let mail: Vec<usize> = (0..3).map(|_| world.login_as(0, "ann", "mail")).collect();
    for client in &mail {
        world.send(*client, &query("sleep 300000 x"));
    }
    world.run_for(2_000_000);
    assert_eq!(world.sessions(), 3);
    world.everybody_leaves();
}

#[test]
fn a_minimum_is_kept_warm_and_never_evicted() {
    let mut config = two_databases();
    config.limits.servers = 4;
    config.databases[0].pool.min_size = 3;
    config.databases[0].pool.server_idle_timeout_ms = 500;
    config.databases[1].pool.server_idle_timeout_ms = 500;
    let mut world = World::new(config);
    let shop = world.login(0);
    world.run_for(3_000_000);
    assert_eq!(world.sessions(), 3, "warm without a query");
    let mail: Vec<usize> = (0..3).map(|_| world.login_as(0, "ann", "mail")).collect();
    assert_eq!(most_sessions(&mut world, &mail, 2), 4);
    world.run_for(3_000_000);
    assert_eq!(world.sessions(), 3, "the surplus is gone, the minimum is not");
    world.disturb(0, |session| session.end());
    world.run_for(1_000_000);
    assert_eq!(world.sessions(), 3, "a warm server that died is replaced");
    assert_eq!(world.query(shop, "select x"), "T D:x C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn new_connections_keep_to_their_rate() {
    let mut config = snapshot(20);
    config.databases[0].pool.connects_per_s = 10;
    let mut world = World::with_workers(config, 2, 1);
    let clients: Vec<usize> = (0..20).map(|at| world.login(at % 2)).collect();
    let from = world.now;
    for client in &clients {
        world.send(*client, &query("sleep 10000000 x"));
    }
    world.run_for(1_000_000);
    let opened = world.attempts.iter().filter(|at| **at >= from).count();
    assert!((8..=11).contains(&opened), "{opened} in a second where 10 are allowed");
    world.run_for(30_000_000);
    for pair in world.attempts.windows(2) {
        assert!(pair[1] - pair[0] >= 99_000, "{} us between two", pair[1] - pair[0]);
    }
    world.everybody_leaves();
}

#[test]
fn attempts_after_failures_come_slower_and_not_in_step() {
    let mut gaps_by_seed = Vec::new();
    for secret in 1..=3u8 {
        let mut config = snapshot(2);
        config.databases[0].pool.login_retry_ms = 100;
        config.databases[0].pool.login_retry_max_ms = 1_000;
        config.databases[0].pool.queue_timeout_ms = 0;
        let mut world = World::with_secret(config, 1, 1, [secret; 32]);
        world.doors.insert("db1".into(), Door::Down);
        world.arrive(0, "ann", "shop");
        world.run_for(20_000_000);
        let gaps: Vec<u64> = world.attempts.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
        assert!(gaps.len() >= 15, "{gaps:?}");
        assert!(gaps[0] <= 160 && gaps[4..].iter().all(|gap| (450..=1_100).contains(gap)), "{gaps:?}");
        gaps_by_seed.push(gaps);
    }
    assert!(gaps_by_seed[0] != gaps_by_seed[1] && gaps_by_seed[1] != gaps_by_seed[2], "jitter");
}

#[test]
fn the_limit_of_clients_is_an_error_with_its_counts() {
    let mut config = snapshot(2);
    config.limits.clients = 4;
    config.databases[0].max_clients = 3;
    config.users.push(user("bob"));
    config.users[0].max_clients = 1;
    let mut world = World::with_workers(config, 2, 1);
    let bob = world.login_as(0, "bob", "shop");
    let second = world.arrive(1, "bob", "shop");
    world.run_for(100_000);
    let told = world.take(second);
    let text = format!("{told:?}");
    assert!(text.contains("53300") && text.contains("1 of 1 (users.bob.max_clients"), "{text}");
    let (_one, _two) = (world.login(0), world.login(1));
    let third = world.arrive(0, "ann", "shop");
    world.run_for(100_000);
    let text = format!("{:?}", world.take(third));
    assert!(text.contains("3 of 3") && text.contains("shop.max_clients"), "{text}");
    world.leave(bob);
    world.run_for(100_000);
    world.login(0);
    world.everybody_leaves();
}

#[test]
fn passwords_are_salted_a_few_at_a_time_and_silent_peers_take_no_turn() {
    let mut config = snapshot(2);
    config.limits.logins = 3;
    config.auth.method = AuthMethod::Password;
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    config.users.push(User { scram: Some(format!("SCRAM-SHA-256$10:c2FsdA==${key}:{key}")), ..user("ann") });
    let mut world = World::with_workers(config, 2, 1);
    let _silent: Vec<usize> = (0..10).map(|at| world.open(at % 2)).collect();
    let clients: Vec<usize> = (0..12).map(|at| world.arrive(at % 2, "ann", "shop")).collect();
    world.run_for(1_000);
    for client in &clients {
        world.send(*client, &message(b'p', b"wrong\0"));
    }
    let (from, mut most) = (world.now, 0);
    while clients.iter().any(|client| !world.clients[*client].is_closed) {
        world.step();
        most = most.max(world.shared.logins.used());
    }
    assert_eq!(most, 3);
    let took = (world.now - from) / 1_000;
    assert!((20..100).contains(&took), "twelve by three at 5 ms each: {took} ms");
    assert_eq!(world.brief(clients[11]), "R F:28P01");
    world.everybody_leaves();
}
