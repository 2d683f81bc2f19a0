//! Functions and tables that touch the session without a text saying so, as the configuration names them (MySQL).
//!
//! Never touches a socket.

use maitred_relay::sim::mysql::frontend::run;
use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::World;

/// What a server begins with, and what the trigger of the table `bare_lock_wait_timeout_7` makes of it.
const USUAL: &str = "T D:86400 C:rows Z:I";
const OWN: &str = "T D:7 C:rows Z:I";
const ASKED: &str = "SELECT @@lock_wait_timeout";

fn named(table: &str, touched: &str) -> World {
    let mut config = with_mysql(1);
    let store = config.databases.last_mut().expect("the database of MySQL's");
    store.stateful_tables = vec![(table.to_owned(), vec![touched.to_owned()])];
    let mut world = World::new(config);
    world.has_mariadb = true;
    world
}

#[test]
fn what_a_trigger_sets_and_nobody_tells_is_its_clients_alone() {
    for table in ["bare_lock_wait_timeout_7", "store.BARE_lock_wait_timeout_7", "*"] {
        for touched in ["routine", "lock_wait_timeout", "any setting"] {
            let mut world = named(table, touched);
            let (one, two) = (world.login_mysql(0), world.login_mysql(0));
            let insert = "INSERT INTO bare_lock_wait_timeout_7 VALUES (1)";
            assert_eq!(world.run_sql(one, insert), "C:ok 1 id 1 Z:I");
            assert_eq!(world.run_sql(two, ASKED), USUAL, "{table} {touched}");
            assert_eq!(world.run_sql(one, ASKED), OWN, "{table} {touched}");
            assert_eq!(world.run_sql(two, ASKED), USUAL);
            world.everybody_leaves();
        }
    }
}

#[test]
fn a_statement_that_was_prepared_before_names_it_too() {
    let mut world = named("bare_lock_wait_timeout_7", "routine");
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let number = world.prepare(one, "INSERT INTO bare_lock_wait_timeout_7 VALUES (1)");
    assert_eq!(world.run_sql(two, ASKED), USUAL);
    assert_eq!(world.ask(one, &run(number, &[])), "C:ok 1 id 1 Z:I");
    assert_eq!(world.run_sql(two, ASKED), USUAL);
    assert_eq!(world.run_sql(one, ASKED), OWN);
    world.everybody_leaves();
}
