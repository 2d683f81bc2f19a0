//! Operators: pause, resume, kill, reload, reconnect, drain.
//!
//! What is asked of every worker is asked of each here too, as `reactor::engine` does.

use maitred_relay::sim::frontend::query;
use maitred_relay::sim::setup::{database, endpoint, snapshot};
use maitred_relay::sim::World;
use maitred_relay::snapshot::PoolMode;

#[test]
fn a_paused_pool_finishes_what_runs_and_lends_nothing_new() {
    let mut world = World::with_workers(snapshot(2), 2, 1);
    let clients: Vec<usize> = (0..4).map(|at| world.login(at % 2)).collect();
    assert_eq!(world.query(clients[0], "begin"), "C:BEGIN Z:T");
    world.with_all(|relay, _| relay.pause(Some("shop")));
    for client in &clients[1..] {
        world.send(*client, &query("select later"));
    }
    world.run_for(2_000_000);
    assert_eq!(world.desks.iter().map(|desk| desk.relay.leased(Some("shop"))).sum::<usize>(), 1);
    assert_eq!(world.query(clients[0], "select now"), "T D:now C:SELECT 1 Z:T");
    assert_eq!(world.query(clients[0], "commit"), "C:COMMIT Z:I");
    world.run_for(100_000);
    assert_eq!(world.desks.iter().map(|desk| desk.relay.leased(Some("shop"))).sum::<usize>(), 0);
    assert!(clients[1..].iter().all(|client| world.clients[*client].replies.is_empty()));
    world.with_all(|relay, now| relay.resume(now, Some("shop")));
    world.run_for(200_000);
    for client in &clients[1..] {
        assert_eq!(world.brief(*client), "T D:later C:SELECT 1 Z:I");
    }
    world.everybody_leaves();
}

#[test]
fn kill_closes_clients_and_servers_and_nothing_stays_behind() {
    let mut config = snapshot(2);
    config.databases.push(database("mail", 0, 2));
    let mut world = World::new(config);
    let mail = world.login_as(0, "ann", "mail");
    let clients: Vec<usize> = (0..5).map(|_| world.login(0)).collect();
    for client in &clients {
        world.send(*client, &query("sleep 500000 x"));
    }
    world.run_for(50_000);
    let killed = world.with(0, |relay, now| relay.kill(now, Some("shop")));
    assert_eq!(killed, 5);
    world.run_for(10_000);
    for client in &clients {
        assert!(world.clients[*client].is_closed);
        assert_eq!(world.brief(*client), "F:57P01");
    }
    assert_eq!(world.sessions(), 1, "that of mail");
    assert_eq!(world.query(mail, "select m"), "T D:m C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn kill_client_closes_that_one() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    let report = world.with(0, |relay, now| relay.report(now, true));
    assert_eq!(report.clients.len(), 2);
    let id = report.clients[0].id;
    assert!(world.with(0, |relay, now| relay.kill_client(now, id)));
    assert!(!world.with(0, |relay, now| relay.kill_client(now, id)));
    assert!(!world.with(0, |relay, now| relay.kill_client(now, 77)));
    world.run_for(10_000);
    assert!(world.clients[one].is_closed && !world.clients[two].is_closed);
    world.everybody_leaves();
}

#[test]
fn reconnect_renews_each_server_when_it_is_free() {
    let mut world = World::with_workers(snapshot(2), 2, 1);
    let (one, two) = (world.login(0), world.login(1));
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(two, "select a"), "T D:a C:SELECT 1 Z:I");
    world.with_all(|relay, now| relay.reconnect(now, Some("shop")));
    assert_eq!(world.query(one, "select b"), "T D:b C:SELECT 1 Z:T");
    assert_eq!(world.query(one, "commit"), "C:COMMIT Z:I");
    world.run_for(10_000);
    for client in [one, two] {
        assert_eq!(world.query(client, "select fresh"), "T D:fresh C:SELECT 1 Z:I");
    }
    assert!(world.session_that_ran("fresh") >= 2, "not one of the old");
    assert!(world.lines[..2].iter().all(|line| line.session.is_over && line.session.was_told_goodbye));
    world.everybody_leaves();
}

#[test]
fn a_reload_changes_sizes_both_ways() {
    let mut world = World::new(snapshot(2));
    let clients: Vec<usize> = (0..6).map(|_| world.login(0)).collect();
    let ask_all = |world: &mut World| {
        for client in &clients {
            world.send(*client, &query("sleep 100000 x"));
        }
        world.run_for(50_000);
        let sessions = world.sessions();
        world.run_for(3_000_000);
        for client in &clients {
            assert_eq!(world.brief(*client), "T D:x C:SELECT 1 Z:I");
        }
        sessions
    };
    assert_eq!(ask_all(&mut world), 2);
    world.apply(snapshot(5));
    assert_eq!(ask_all(&mut world), 5);
    for client in &clients[..5] {
        assert_eq!(world.query(*client, "begin"), "C:BEGIN Z:T");
    }
    world.relaxed = true;
    world.apply(snapshot(1));
    for client in &clients[..5] {
        assert_eq!(world.query(*client, "commit"), "C:COMMIT Z:I", "what runs is not cut off");
    }
    world.run_for(100_000);
    world.relaxed = false;
    assert_eq!(ask_all(&mut world), 1);
    world.everybody_leaves();
}

#[test]
fn a_reload_that_moves_a_database_moves_its_clients() {
    for mode in [PoolMode::Transaction, PoolMode::Session] {
        let mut config = snapshot(1);
        config.databases[0].pool.mode = mode;
        let mut world = World::new(config.clone());
        let (busy, waits, idle) = (world.login(0), world.login(0), world.login(0));
        assert_eq!(world.query(busy, "begin"), "C:BEGIN Z:T");
        world.send(waits, &query("select w"));
        world.run_for(1_000);
        config.number = 2;
        config.endpoints.push(endpoint("db2"));
        config.databases[0].endpoint = 1;
        world.apply(config);
        world.run_for(500_000);
        assert_eq!(world.brief(waits), "T D:w C:SELECT 1 Z:I", "{mode:?}");
        assert_eq!(world.lines[world.session_that_ran("select w")].endpoint, "db2", "{mode:?}");
        assert_eq!(world.query(busy, "select old"), "T D:old C:SELECT 1 Z:T");
        assert_eq!(world.query(busy, "commit"), "C:COMMIT Z:I");
        assert_eq!(world.lines[world.session_that_ran("select old")].endpoint, "db1");
        if mode == PoolMode::Session {
            world.leave(waits);
            world.run_for(10_000);
        }
        assert_eq!(world.query(idle, "select new"), "T D:new C:SELECT 1 Z:I");
        assert_eq!(world.lines[world.session_that_ran("select new")].endpoint, "db2", "{mode:?}");
        if mode == PoolMode::Transaction {
            assert_eq!(world.query(busy, "select also"), "T D:also C:SELECT 1 Z:I");
            assert_eq!(world.lines[world.session_that_ran("select also")].endpoint, "db2");
            let left =
                world.lines.iter().filter(|line| line.endpoint == "db1" && !line.session.is_over).count();
            assert_eq!(left, 0, "nothing is left open at the old endpoint");
        }
        world.everybody_leaves();
    }
}

#[test]
fn a_reload_that_removes_a_database_tells_its_clients() {
    let mut config = snapshot(2);
    config.databases.push(database("mail", 0, 2));
    let mut world = World::with_workers(config, 2, 1);
    let (shop, mail) = (world.login(0), world.login_as(1, "ann", "mail"));
    assert_eq!(world.query(mail, "begin"), "C:BEGIN Z:T");
    world.apply(snapshot(2));
    world.run_for(100_000);
    assert_eq!(world.brief(mail), "F:57P01");
    assert!(world.clients[mail].is_closed && !world.clients[shop].is_closed);
    assert_eq!(world.query(shop, "select s"), "T D:s C:SELECT 1 Z:I");
    let late = world.arrive(0, "ann", "mail");
    world.run_for(10_000);
    assert!(world.brief(late).ends_with("F:3D000"));
    world.everybody_leaves();
}

#[test]
fn a_removed_database_is_not_kept_warm() {
    let mut config = snapshot(2);
    config.databases.push(database("mail", 0, 2));
    config.databases[1].pool.min_size = 2;
    let mut world = World::new(config);
    world.login_as(0, "ann", "mail");
    world.run_for(1_000_000);
    assert_eq!(world.sessions(), 2);
    world.apply(snapshot(2));
    world.run_for(1_000_000);
    let attempts = world.attempts.len();
    world.run_for(5_000_000);
    assert_eq!((world.sessions(), world.attempts.len()), (0, attempts));
    world.everybody_leaves();
}

#[test]
fn a_server_that_travels_while_its_database_is_removed_is_closed() {
    for steps in 0..12 {
        let mut config = snapshot(1);
        config.databases.push(database("mail", 0, 1));
        let mut world = World::with_workers(config, 2, 1);
        let (one, two) = (world.login_as(0, "ann", "mail"), world.login_as(1, "ann", "mail"));
        assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I");
        world.send(two, &query("select b"));
        for _ in 0..steps {
            world.step();
        }
        world.apply(snapshot(1));
        world.run_for(1_000_000);
        assert!(world.clients[one].is_closed && world.clients[two].is_closed);
        assert_eq!(world.sessions(), 0);
        world.everybody_leaves();
    }
}

#[test]
fn a_drain_lets_transactions_finish_and_everybody_else_go() {
    for mode in [PoolMode::Transaction, PoolMode::Session] {
        let mut config = snapshot(2);
        config.databases[0].pool.mode = mode;
        let mut world = World::with_workers(config, 2, 1);
        let (idle, open, running, waits) = (world.login(0), world.login(0), world.login(1), world.login(1));
        assert_eq!(world.query(open, "begin"), "C:BEGIN Z:T");
        world.send(running, &query("sleep 300000 r"));
        world.run_for(10_000);
        world.send(waits, &query("select w"));
        world.run_for(10_000);
        world.with_all(|relay, now| relay.drain(now));
        world.run_for(10_000);
        assert_eq!(world.brief(idle), "F:57P01", "{mode:?}");
        assert_eq!(world.brief(waits), "F:57P01", "it has not begun: {mode:?}");
        let late = world.arrive(0, "ann", "shop");
        world.run_for(10_000);
        assert!(world.brief(late).contains("F:57P0"));
        assert_eq!(world.query(open, "select o"), "T D:o C:SELECT 1 Z:T");
        world.send(open, &query("commit"));
        world.run_for(10_000);
        assert_eq!(world.brief(open), "C:COMMIT Z:I F:57P01", "{mode:?}");
        world.run_for(400_000);
        assert_eq!(world.brief(running), "T D:r C:SELECT 1 Z:I F:57P01", "{mode:?}");
        assert!(world.desks.iter().all(|desk| desk.relay.is_drained()));
        world.run_for(1_000_000);
        assert_eq!(world.sessions(), 0);
        world.everybody_leaves();
    }
}

#[test]
fn a_drain_ends_a_pipeline_between_two_transactions() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let pipeline: Vec<u8> = (0..5).flat_map(|at| query(&format!("sleep 100000 p{at}"))).collect();
    world.send(client, &pipeline);
    world.run_for(50_000);
    world.with_all(|relay, now| relay.drain(now));
    world.run_for(2_000_000);
    let told = world.brief(client);
    assert!(told.starts_with("T D:p0") && told.ends_with("F:57P01"), "{told}");
    assert!(world.clients[client].is_closed);
    world.everybody_leaves();
}

#[test]
fn idle_servers_leave_a_database_that_is_to_be_dropped() {
    let mut config = snapshot(5);
    config.databases.push(maitred_relay::sim::setup::database("other", 0, 5));
    for workers in 1..=2 {
        let mut world = World::with_workers(config.clone(), workers, 1);
        let clients = [world.login(0), world.login(workers - 1)];
        for client in clients {
            world.send(client, &query("sleep 1000 x"));
        }
        world.run_for(1_000_000);
        assert_eq!(world.sessions(), 2);
        let admin = world.login_as(0, "ann", "other");
        world.query(admin, "drop database shop");
        world.run_for(10_000);
        assert_eq!(world.sessions(), 1);
        // Who is still here is served anew.
        world.take(clients[0]);
        assert_eq!(world.query(clients[0], "select 1"), "T D:1 C:SELECT 1 Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn a_server_at_work_leaves_a_database_that_is_to_be_dropped_as_soon_as_it_is_free() {
    let mut config = snapshot(5);
    config.databases.push(maitred_relay::sim::setup::database("other", 0, 5));
    let mut world = World::new(config);
    let (client, admin) = (world.login(0), world.login_as(0, "ann", "other"));
    world.query(client, "begin");
    world.query(admin, "drop database shop");
    world.run_for(10_000);
    assert_eq!(world.sessions(), 2);
    world.query(client, "commit");
    world.run_for(10_000);
    assert_eq!(world.sessions(), 1);
    world.everybody_leaves();
}
