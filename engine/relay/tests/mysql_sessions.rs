//! MySQL's sessions: what they keep from server to server, begin anew, and do to each other; classes of clients.
//!
//! Never touches a socket.

use maitred_relay::sim::mysql::can;
use maitred_relay::sim::mysql::frontend::{
    change_user, command, init_db, kill_connection, ping, prepare, query, reset_connection, run,
};
use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::World;

#[test]
fn what_a_client_set_is_found_on_every_server() {
    for is_mariadb in [false, true] {
        let mut world = World::new(with_mysql(2));
        world.has_mariadb = is_mariadb;
        let (one, two) = (world.login_mysql(0), world.login_mysql(0));
        assert_eq!(world.run_sql(one, "SET @x='mine', sql_mode='ANSI'"), "C:ok Z:I");
        assert_eq!(world.ask(one, &init_db("here")), "S:schema=here C:ok Z:I");
        let asked = "SELECT @x, @@sql_mode, DATABASE()";
        assert_eq!(world.run_sql(two, asked), "T D:NULL,STRICT_TRANS_TABLES,store C:rows Z:I");
        assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
        assert_eq!(world.run_sql(one, asked), "T D:mine,ANSI,here C:rows Z:I");
        assert_eq!(world.run_sql(two, asked), "T D:NULL,STRICT_TRANS_TABLES,store C:rows Z:T");
        world.everybody_leaves();
    }
}

#[test]
fn the_number_of_the_last_row_is_its_clients_own() {
    let mut world = World::new(with_mysql(1));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let asked = "SELECT LAST_INSERT_ID()";
    assert_eq!(world.run_sql(one, "INSERT INTO t VALUES (1)"), "C:ok 1 id 1 Z:I");
    assert_eq!(world.run_sql(two, "INSERT INTO t VALUES (1) RETURNING id"), "T D:2 C:rows Z:I");
    // What makes no row leaves the number alone, and a stranger's is nobody's.
    assert_eq!(world.run_sql(one, "CALL p()"), "C:ok Z:I");
    assert_eq!(world.run_sql(one, asked), "T D:1 C:rows Z:I");
    assert_eq!(world.run_sql(two, asked), "T D:2 C:rows Z:I");
    let number = world.prepare(one, "INSERT INTO t VALUES (1) RETURNING id");
    assert_eq!(world.ask(one, &run(number, &[])), "T D:3 C:rows Z:I");
    assert_eq!(world.run_sql(two, asked), "T D:2 C:rows Z:I");
    assert_eq!(world.run_sql(one, asked), "T D:3 C:rows Z:I");
    world.run_sql(two, "BEGIN");
    assert_eq!(world.run_sql(two, "INSERT INTO t VALUES (1) RETURNING id"), "T D:4 C:rows Z:T");
    assert_eq!(world.run_sql(two, asked), "T D:4 C:rows Z:T");
    world.run_sql(two, "COMMIT");
    assert_eq!(world.run_sql(one, asked), "T D:3 C:rows Z:I");
    assert_eq!(world.run_sql(two, asked), "T D:4 C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn what_no_other_server_has_pins() {
    let mut world = World::new(with_mysql(1));
    let (client, other) = (world.login_mysql(0), world.login_mysql(0));
    for (begin, end) in [
        ("CREATE TEMPORARY TABLE tmp_a (a int)", "DROP TEMPORARY TABLE tmp_a"),
        ("LOCK TABLES t READ", "UNLOCK TABLES"),
        ("SELECT GET_LOCK('l', 1)", "SELECT RELEASE_LOCK('l')"),
        ("SET autocommit=0; INSERT INTO t VALUES (1)", "COMMIT; SET autocommit=1"),
    ] {
        world.run_sql(client, begin);
        world.send(other, &query("SELECT 'free'"));
        world.run_for(50_000);
        assert_eq!(world.brief(other), "", "{begin}");
        world.run_sql(client, end);
        world.run_for(50_000);
        assert_eq!(world.brief(other), "T D:free C:rows Z:I", "{end}");
    }
    world.everybody_leaves();
}

#[test]
fn a_client_that_leaves_takes_along_what_it_held() {
    for begin in
        ["CREATE TEMPORARY TABLE tmp_a (a int)", "LOCK TABLES t READ", "SELECT GET_LOCK('l', 1)", "BEGIN"]
    {
        let mut world = World::new(with_mysql(1));
        let (client, other) = (world.login_mysql(0), world.login_mysql(0));
        world.run_sql(client, begin);
        world.leave(client);
        assert_eq!(world.run_sql(other, "SELECT 'a' FROM tmp_a"), "E:1146 Z:?");
        world.everybody_leaves();
    }
}

#[test]
fn rows_beyond_a_limit_are_counted_though_their_server_has_told_a_warning() {
    for is_mariadb in [false, true] {
        let mut world = World::new(with_mysql(2));
        world.has_mariadb = is_mariadb;
        let (client, other) = (world.login_mysql(0), world.login_mysql(0));
        // MySQL warns of it, and is asked for the warning before anybody else gets the server.
        assert_eq!(world.run_sql(client, "SELECT SQL_CALC_FOUND_ROWS 'a' FROM dual"), "T D:a C:rows Z:I");
        assert_eq!(world.run_sql(other, "SELECT 'b'"), "T D:b C:rows Z:I");
        assert_eq!(world.run_sql(client, "SELECT FOUND_ROWS()"), "T D:99 C:rows Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn what_cleaning_changes_is_not_the_next_clients() {
    let mut world = World::new(with_mysql(1));
    for _ in 0..2 {
        let (client, next, other) = (world.login_mysql(0), world.login_mysql(0), world.login_mysql(0));
        world.run_sql(client, "CREATE TEMPORARY TABLE tmp_a (a int)");
        world.run_sql(client, "SELECT 'a' FROM tmp_a");
        world.leave(client);
        // MySQL tells nobody which variables a session has: to suspect some is to keep the server.
        assert_eq!(world.run_sql(next, "SELECT 'next'"), "T D:next C:rows Z:I");
        assert_eq!(world.run_sql(other, "SELECT 'other'"), "T D:other C:rows Z:I");
        world.leave(next);
        world.leave(other);
    }
    world.everybody_leaves();
}

#[test]
fn a_connection_that_is_reset_keeps_its_schema_alone() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    world.prepare(client, "SELECT ?");
    world.run_sql(client, "SET @x=1, sql_mode='ANSI'");
    world.run_sql(client, "USE here");
    world.run_sql(client, "CREATE TEMPORARY TABLE tmp_a (a int)");
    assert_eq!(world.ask(client, &reset_connection()), "C:ok Z:I");
    let asked = "SELECT @x, @@sql_mode, DATABASE()";
    assert_eq!(world.run_sql(client, asked), "T D:NULL,STRICT_TRANS_TABLES,here C:rows Z:I");
    assert_eq!(world.run_sql(client, "SELECT 'a' FROM tmp_a"), "E:1146 Z:?");
    let gone = run(1, &["x"]);
    assert_eq!(world.ask(client, &gone), "E:1243 Z:?");
    world.everybody_leaves();
}

#[test]
fn another_user_begins_anew() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    world.run_sql(client, "SET @x=1");
    assert_eq!(world.ask(client, &change_user("bob", "store")), "R C:ok Z:I");
    assert_eq!(world.run_sql(client, "SELECT @x, DATABASE()"), "T D:NULL,store C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn a_kill_hits_the_query_of_its_victim_and_no_other() {
    let mut world = World::with_workers(with_mysql(4), 3, 1);
    let clients: Vec<usize> = (0..3).map(|worker| world.login_mysql(worker)).collect();
    for client in &clients {
        world.send(*client, &query(&format!("SELECT 'm{client}' FROM sleep_200000")));
    }
    world.run_for(20_000);
    let killer = world.login_mysql(0);
    let number = world.frontend(clients[2]).number;
    assert_eq!(world.run_sql(killer, &format!("KILL QUERY {number}")), "C:ok Z:I");
    world.run_for(500_000);
    assert_eq!(world.brief(clients[0]), "T D:m0 C:rows Z:I");
    assert_eq!(world.brief(clients[1]), "T D:m1 C:rows Z:I");
    assert_eq!(world.brief(clients[2]), "E:1317 Z:?");
    // Whoever gets that server next is not hit by what came late.
    for client in &clients {
        assert_eq!(world.run_sql(*client, "SELECT 'on'"), "T D:on C:rows Z:I");
    }
    assert_eq!(world.ask(killer, &kill_connection(number)), "C:ok Z:I");
    world.run_for(50_000);
    assert!(world.clients[clients[2]].is_closed);
    assert_eq!(world.ask(killer, &kill_connection(number)), "E:1094 Z:?");
    world.everybody_leaves();
}

#[test]
fn clients_of_all_classes_share_a_pool_in_turn() {
    for size in [1, 2] {
        let mut world = World::new(with_mysql(size));
        let classes = [can::PLAIN, can::PLAIN | can::FOUND_ROWS, can::MODERN, can::MODERN | can::FOUND_ROWS];
        let clients: Vec<usize> =
            classes.iter().cycle().take(12).map(|class| world.login_mysql_as(0, *class)).collect();
        for _ in 0..10 {
            for client in &clients {
                world.send(*client, &query("UPDATE t SET a=1"));
            }
            world.run_for(3_000_000);
            for (client, class) in clients.iter().zip(classes.iter().cycle()) {
                let rows = if class & can::FOUND_ROWS != 0 { 2 } else { 1 };
                assert_eq!(world.brief(*client), format!("C:ok {rows} Z:I"));
            }
        }
        assert!(world.sessions() <= size as usize);
        world.everybody_leaves();
    }
}

#[test]
fn commands_that_come_at_once_are_answered_in_order() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    let all = [
        query("SELECT 'a'"),
        ping(),
        query("SELECT 'b' FROM missing"),
        command(0x63, b"no such command"),
        query("BEGIN"),
        ping(),
        query("COMMIT"),
        query("SELECT 'c'"),
    ];
    assert_eq!(
        world.ask_for(client, &all.concat(), all.len()),
        "T D:a C:rows Z:I C:ok Z:I E:1146 Z:? E:1047 Z:? C:ok Z:T C:ok Z:T C:ok Z:I T D:c C:rows Z:I"
    );
    world.everybody_leaves();
}

#[test]
fn a_query_of_more_than_one_packet_goes_through_in_pieces() {
    let mut config = with_mysql(1);
    config.limits.buffer_bytes = 4_000;
    let mut world = World::new(config);
    let client = world.login_mysql(0);
    let long = "x".repeat(17 << 20);
    assert_eq!(world.run_sql(client, &format!("SELECT 'a', '{long}' FROM missing")), "E:1146 Z:?");
    let told = world.run_sql(client, "SELECT 'a' FROM rows_1_17000000");
    assert!(told.starts_with("T D:axxx") && told.ends_with("x C:rows Z:I"), "{}", told.len());
    assert_eq!(world.run_sql(client, "SELECT 'b'"), "T D:b C:rows Z:I");
    assert!(world.desks[0].relay.held_bytes() < 100_000);
    world.everybody_leaves();
}

#[test]
fn a_drain_lets_transactions_end_and_turns_the_rest_away() {
    let mut world = World::new(with_mysql(2));
    let (busy, idle) = (world.login_mysql(0), world.login_mysql(0));
    assert_eq!(world.run_sql(busy, "BEGIN"), "C:ok Z:T");
    world.with_all(|relay, now| relay.drain(now));
    world.run_for(50_000);
    assert!(world.clients[idle].is_closed && !world.clients[busy].is_closed);
    assert_eq!(world.brief(idle), "F:1053 Z:?");
    assert_eq!(world.run_sql(busy, "SELECT 'a'"), "T D:a C:rows Z:T");
    world.send(busy, &query("COMMIT"));
    world.run_for(50_000);
    assert_eq!(world.brief(busy), "C:ok Z:I F:1053 Z:?");
    assert!(world.clients[busy].is_closed);
    world.everybody_leaves();
}

#[test]
fn what_a_routine_sets_and_nobody_tells_is_its_clients_alone() {
    let mut world = World::new(with_mysql(1));
    world.has_mariadb = true;
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let asked = "SELECT @@lock_wait_timeout, @@time_zone";
    let (usual, own) = ("T D:86400,SYSTEM C:rows Z:I", "T D:7,SYSTEM C:rows Z:I");
    assert_eq!(world.run_sql(one, "CALL bare_lock_wait_timeout_7"), "C:ok Z:I");
    assert_eq!(world.run_sql(two, asked), usual);
    assert_eq!(world.run_sql(one, asked), own);
    assert_eq!(world.run_sql(two, asked), usual);
    // What its client had set is known, and so what a routine makes of it.
    assert_eq!(world.run_sql(one, "SET time_zone='utc'"), "S:time_zone=utc C:ok Z:I");
    assert_eq!(world.run_sql(two, "CALL p()"), "C:ok Z:I");
    assert_eq!(world.run_sql(one, "CALL bare_time_zone_SYSTEM"), "C:ok Z:I");
    assert_eq!(world.run_sql(two, asked), usual);
    assert_eq!(world.run_sql(one, asked), own);
    assert_eq!(world.run_sql(one, "CALL bare_lock_wait_timeout_86400"), "C:ok Z:I");
    assert_eq!(world.run_sql(two, asked), usual);
    assert_eq!(world.run_sql(one, asked), usual);
    world.everybody_leaves();
}

#[test]
fn a_server_is_asked_what_differs_only_where_something_was_set() {
    let mut world = World::new(with_mysql(1));
    world.has_mariadb = true;
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let asked =
        |world: &World| world.ran().iter().filter(|ran| ran.text.contains("SYSTEM_VARIABLES")).count();
    world.run_sql(two, "SET lock_wait_timeout=5");
    // Once: which of them were set before is not known.
    world.run_sql(one, "CALL p()");
    world.run_sql(two, "SELECT 'a'");
    let before = asked(&world);
    assert_eq!(before, 1);
    for _ in 0..5 {
        world.run_sql(one, "CALL p()");
        assert_eq!(world.run_sql(two, "SELECT @@lock_wait_timeout"), "T D:5 C:rows Z:I");
    }
    assert_eq!(asked(&world), before, "though nothing but maitred set anything");
    world.run_sql(one, "CALL bare_lock_wait_timeout_7");
    world.run_sql(two, "SELECT 'a'");
    assert_eq!(asked(&world), before + 1);
    world.everybody_leaves();
}

#[test]
fn a_routine_that_forgets_what_it_has_prepared_keeps_no_server() {
    let mut world = World::new(with_mysql(1));
    world.has_mariadb = true;
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    world.run_sql(one, "SET lock_wait_timeout=7");
    world.run_sql(one, "PREPARE own FROM 'kept'");
    for _ in 0..3 {
        assert_eq!(world.run_sql(one, "CALL dynamic()"), "C:ok Z:I");
        assert_eq!(world.run_sql(two, "SELECT @@lock_wait_timeout"), "T D:86400 C:rows Z:I");
        assert_eq!(world.run_sql(two, "PREPARE p FROM 'other'"), "C:ok Z:I");
        assert_eq!(world.run_sql(two, "DEALLOCATE PREPARE p"), "C:ok Z:I");
    }
    assert_eq!(world.run_sql(one, "SELECT @@lock_wait_timeout"), "T D:7 C:rows Z:I");
    assert_eq!(world.run_sql(one, "EXECUTE own"), "T D:kept C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn a_clients_limits_are_not_meant_for_what_maitred_asks() {
    let mut world = World::new(with_mysql(1));
    world.has_mariadb = true;
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let asked = "SELECT @@max_join_size, @x";
    assert_eq!(world.run_sql(one, "SET max_join_size=1"), "C:ok Z:I");
    assert_eq!(world.run_sql(one, "SET @x='mine'"), "C:ok Z:I");
    assert_eq!(world.run_sql(two, asked), "T D:18446744073709551615,NULL C:rows Z:I");
    // What it says next, at once, has its limit again.
    let both = [query("SET @x='other'"), query(asked)].concat();
    assert_eq!(world.ask_for(one, &both, 2), "C:ok Z:I T D:1,other C:rows Z:I");
    assert_eq!(world.run_sql(one, "SELECT @x := 'last', @@max_join_size"), "T D:last,1 C:rows Z:I");
    assert_eq!(world.run_sql(two, asked), "T D:18446744073709551615,NULL C:rows Z:I");
    assert_eq!(world.run_sql(one, asked), "T D:1,last C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn a_table_that_was_not_made_keeps_no_server() {
    for is_mariadb in [false, true] {
        let mut world = World::new(with_mysql(1));
        world.has_mariadb = is_mariadb;
        let client = world.login_mysql_as(0, can::MODERN | can::MULTI_STATEMENTS);
        let other = world.login_mysql(0);
        for text in
            ["CREATE TEMPORARY TABLE denied (n int)", "CREATE TEMPORARY TABLE denied (n int); SELECT 'a'"]
        {
            assert_eq!(world.run_sql(client, text), "E:1044 Z:?");
            assert_eq!(world.run_sql(other, "SELECT 'b'"), "T D:b C:rows Z:I", "{text}");
        }
        // Nor is what was made before anything else failed.
        assert_eq!(world.run_sql(client, "CREATE TEMPORARY TABLE first (n int)"), "C:ok Z:I");
        let both = [query("CREATE TEMPORARY TABLE made (n int)"), prepare("SELECT bad")].concat();
        assert_eq!(world.ask_for(client, &both, 2), "C:ok Z:I E:1064 Z:?");
        assert_eq!(world.run_sql(client, "DROP TEMPORARY TABLE first"), "C:ok Z:I");
        world.send(other, &query("SELECT 'b'"));
        world.run_for(10_000);
        assert_eq!(world.brief(other), "");
        assert_eq!(world.run_sql(client, "DROP TEMPORARY TABLE made"), "C:ok Z:I");
        world.run_for(100_000);
        assert_eq!(world.brief(other), "T D:b C:rows Z:I");
        world.take(other);
        // What was carried out before a statement that failed was made.
        let text = "CREATE TEMPORARY TABLE own (n int); CREATE TEMPORARY TABLE denied (n int)";
        assert_eq!(world.run_sql(client, text), "C:ok E:1044 Z:?");
        world.send(other, &query("SELECT 'b'"));
        world.run_for(10_000);
        assert_eq!(world.brief(other), "");
        assert_eq!(world.run_sql(client, "CREATE TEMPORARY TABLE own (n int)"), "E:1050 Z:?");
        assert_eq!(world.run_sql(client, "DROP TEMPORARY TABLE own"), "C:ok Z:I");
        assert_eq!(world.ask(client, &reset_connection()), "C:ok Z:I");
        world.run_for(100_000);
        assert_eq!(world.brief(other), "T D:b C:rows Z:I");
        world.everybody_leaves();
    }
}
