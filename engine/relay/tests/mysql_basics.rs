//! The plain road of MySQL's clients: login, commands, transactions, and one after the other at one server.
//!
//! Never touches a socket. What is more special has a file of its own beside this one.

use maitred_relay::sim::mysql::can;
use maitred_relay::sim::mysql::frontend::{ping, query, statistics};
use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::World;

#[test]
fn a_client_logs_in_and_asks() {
    let mut world = World::new(with_mysql(2));
    let client = world.login_mysql(0);
    assert_eq!(world.run_sql(client, "SELECT 'a', NULL"), "T D:a,NULL C:rows Z:I");
    assert_eq!(world.run_sql(client, "INSERT INTO t VALUES (1)"), "C:ok 1 id 1 Z:I");
    assert_eq!(world.ask(client, &ping()), "C:ok Z:I");
    assert_eq!(world.ask(client, &statistics()), "D:Uptime: 1 Z:I");
    assert_eq!(world.run_sql(client, "SELECT 'a' FROM missing"), "E:1146 Z:?");
    assert_eq!(world.run_sql(client, "SELECT 'b'; SELECT 'c'"), "T D:b C:rows T D:c C:rows Z:I");
    assert_eq!(world.run_sql(client, "SELECT DATABASE()"), "T D:store C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn one_server_serves_many_clients_one_after_the_other() {
    let mut world = World::new(with_mysql(1));
    let clients: Vec<usize> = (0..50).map(|_| world.login_mysql(0)).collect();
    for client in &clients {
        world.send(*client, &query(&format!("SELECT 'm{client}' FROM sleep_1000")));
    }
    world.run_for(200_000);
    for client in &clients {
        assert_eq!(world.brief(*client), format!("T D:m{client} C:rows Z:I"));
    }
    let order: Vec<u64> = clients.iter().map(|client| world.clients[*client].heard_at).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(world.sessions(), 1);
    world.everybody_leaves();
}

#[test]
fn a_transaction_keeps_its_server() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql_as(0, can::MODERN));
    assert_eq!(world.run_sql(one, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(one, "SELECT 'a1'"), "T D:a1 C:rows Z:T");
    assert_eq!(world.run_sql(two, "SELECT 'b1'"), "T D:b1 C:rows Z:T");
    assert_eq!(world.run_sql(one, "SELECT 'x' FROM missing"), "E:1146 Z:?");
    assert_eq!(world.run_sql(one, "SELECT 'a2'"), "T D:a2 C:rows Z:T");
    assert_eq!(world.run_sql(one, "COMMIT"), "C:ok Z:I");
    assert_eq!(world.run_sql(two, "ROLLBACK"), "C:ok Z:I");
    assert_eq!(world.session_that_ran("a1"), world.session_that_ran("a2"));
    assert_ne!(world.session_that_ran("a1"), world.session_that_ran("b1"));
    world.everybody_leaves();
}
