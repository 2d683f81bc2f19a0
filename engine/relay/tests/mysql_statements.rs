//! Statements that MySQL's protocol prepares: numbers, servers that lack them, cursors, long values.
//!
//! Never touches a socket. What happens to them when servers are lost is in `mysql_loss`.

use maitred_relay::sim::mysql::can;
use maitred_relay::sim::mysql::frontend::{
    append, close, fetch, ping, prepare, query, rewind, run, run_appended, run_as,
};
use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::World;

#[test]
fn a_statement_is_prepared_wherever_it_is_run() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let of_one = world.prepare(one, "SELECT 'a', ?");
    let of_two = world.prepare(two, "SELECT 'b', ?");
    assert_eq!((of_one, of_two), (1, 1), "each client counts its own");
    // Whoever began first has the server on which both are prepared.
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.ask(one, &run(of_one, &["x"])), "T D:a,x C:rows Z:I");
    assert_eq!(world.ask(two, &run(of_two, &["y"])), "T D:b,y C:rows Z:T");
    assert_eq!(world.ask(one, &run(7, &["x"])), "E:1243 Z:?");
    assert_eq!(world.run_sql(two, "COMMIT"), "C:ok Z:I");
    assert_eq!(world.mysql_lines().len(), 2);
    world.everybody_leaves();
}

#[test]
fn types_are_told_once_and_known_everywhere() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let number = world.prepare(one, "SELECT ?");
    assert_eq!(world.ask(one, &run(number, &["x"])), "T D:x C:rows Z:I");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    let untyped = run_as(number, &[Some("y")], false, false);
    assert_eq!(world.ask(one, &untyped), "T D:y C:rows Z:I");
    assert_eq!(world.ask(one, &run_as(number, &[None], false, false)), "T D:NULL C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn types_that_came_with_a_run_in_vain_are_known() {
    let mut config = with_mysql(1);
    config.databases[1].pool.queue_timeout_ms = 100;
    let mut world = World::new(config);
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let number = world.prepare(one, "SELECT ?");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.ask(one, &run(number, &["x"])), "E:1205 Z:?");
    assert_eq!(world.run_sql(two, "COMMIT"), "C:ok Z:I");
    let untyped = run_as(number, &[Some("y")], false, false);
    assert_eq!(world.ask(one, &untyped), "T D:y C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn an_error_of_the_unseen_preparation_is_told_in_the_place_of_the_rows() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let number = world.prepare(one, "SELECT 'a', ?");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(one, "SELECT 'elsewhere'"), "T D:elsewhere C:rows Z:I");
    for line in world.mysql_lines() {
        world.disturb_mysql(line, |session| session.refuses_to_prepare = true);
    }
    assert_eq!(world.ask(one, &run(number, &["x"])), "E:1461 Z:?");
    for line in world.mysql_lines() {
        world.disturb_mysql(line, |session| session.refuses_to_prepare = false);
    }
    assert_eq!(world.ask(one, &run(number, &["x"])), "T D:a,x C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn where_no_more_statements_are_taken_those_that_nobody_uses_make_room() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    assert_eq!(world.run_sql(client, "BEGIN"), "C:ok Z:T");
    for line in world.mysql_lines() {
        world.disturb_mysql(line, |session| session.most_statements = Some(3));
    }
    let numbers: Vec<u32> = (0..8).map(|n| world.prepare(client, &format!("SELECT 'a{n}', ?"))).collect();
    for _ in 0..2 {
        for (n, number) in numbers.iter().enumerate() {
            assert_eq!(world.ask(client, &run(*number, &["x"])), format!("T D:a{n},x C:rows Z:T"));
        }
    }
    // What is open stays.
    for number in &numbers[..3] {
        assert_eq!(world.ask(client, &run_as(*number, &[Some("x")], true, true)), "T C:cursor Z:T");
    }
    assert_eq!(world.ask(client, &run(numbers[3], &["x"])), "E:1461 Z:?");
    assert_eq!(world.ask(client, &prepare("SELECT 'another'")), "E:1461 Z:?");
    assert_eq!(world.ask(client, &fetch(numbers[0], 1)), "D:a0,x C:cursor Z:T");
    assert_eq!(world.run_sql(client, "COMMIT"), "C:ok Z:I");
    world.everybody_leaves();
}

#[test]
fn names_in_a_statement_stay_those_of_its_preparation() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    assert_eq!(world.run_sql(one, "USE first"), "S:schema=first C:ok Z:I");
    let number = world.prepare(one, "SELECT 'x' FROM whichdb");
    assert_eq!(world.run_sql(one, "USE second"), "S:schema=second C:ok Z:I");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    // Inside a transaction, with values that only the server knows, and without autocommit.
    assert_eq!(world.run_sql(one, "SET autocommit=0"), "S:autocommit=OFF C:ok Z:I");
    assert_eq!(world.run_sql(one, "INSERT INTO t VALUES (1)").split(' ').next_back(), Some("Z:T"));
    assert_eq!(world.run_sql(one, "SET @x='mine'"), "C:ok Z:T");
    assert_eq!(world.ask(one, &run(number, &[])), "T D:first C:rows Z:T");
    assert_eq!(world.run_sql(one, "SELECT DATABASE(), @x"), "T D:second,mine C:rows Z:T");
    let line = world.session_that_ran("SET @x='mine'");
    let said: Vec<&str> = world.lines[line].ran().iter().map(|ran| ran.text.as_str()).collect();
    let behind = said.iter().skip_while(|text| !text.contains("@x='mine'")).skip(1);
    assert!(behind.clone().all(|text| !text.contains("autocommit") && !text.contains("@`x`")), "{said:?}");
    world.everybody_leaves();
}

#[test]
fn a_statement_whose_schema_is_gone_fails_and_its_client_stays() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    world.run_sql(one, "USE first");
    let number = world.prepare(one, "SELECT 'x' FROM whichdb");
    world.run_sql(one, "USE second");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(one, "SELECT 'elsewhere'"), "T D:elsewhere C:rows Z:I");
    for line in world.mysql_lines() {
        world.disturb_mysql(line, |session| session.dropped_schema = Some("first".into()));
    }
    assert_eq!(world.ask(one, &run(number, &[])), "E:1049 Z:?");
    assert_eq!(world.run_sql(one, "SELECT DATABASE()"), "T D:second C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn a_cursor_keeps_its_server_until_it_is_read_to_its_end() {
    let mut world = World::new(with_mysql(1));
    for capabilities in [can::PLAIN, can::MODERN] {
        let client = world.login_mysql_as(0, capabilities);
        let number = world.prepare(client, "SELECT ? FROM rows_3_0");
        let opened = world.ask(client, &run_as(number, &[Some("v")], true, true));
        assert_eq!(opened, "T C:cursor Z:I");
        let other = world.login_mysql_as(0, capabilities);
        world.send(other, &query("SELECT 'waits'"));
        world.run_for(50_000);
        assert_eq!(world.brief(other), "");
        assert_eq!(world.ask(client, &fetch(number, 2)), "D:v D:v C:cursor Z:I");
        assert_eq!(world.ask(client, &fetch(number, 2)), "D:v C:last Z:I");
        world.run_for(50_000);
        assert_eq!(world.brief(other), "T D:waits C:rows Z:I");
        assert_eq!(world.ask(client, &fetch(number, 2)), "E:1421 Z:?");
        world.leave(client);
        world.leave(other);
        world.run_for(50_000);
    }
    world.everybody_leaves();
}

#[test]
fn rewinding_and_closing_end_what_a_cursor_or_a_value_keeps() {
    let mut world = World::new(with_mysql(1));
    let (client, other) = (world.login_mysql(0), world.login_mysql(0));
    let number = world.prepare(client, "SELECT ? FROM rows_3_0");
    for end in [rewind(number), [append(number, 0, b"x"), rewind(number)].concat()] {
        assert_eq!(world.ask(client, &run_as(number, &[Some("v")], true, true)), "T C:cursor Z:I");
        assert_eq!(world.ask(client, &end), "C:ok Z:I");
        assert_eq!(world.run_sql(other, "SELECT 'free'"), "T D:free C:rows Z:I");
    }
    let long = [append(number, 0, b"lo"), append(number, 0, b"ng"), run_appended(number)].concat();
    assert_eq!(world.ask(client, &long), "T D:long D:long D:long C:rows Z:I");
    assert_eq!(world.ask(client, &run_as(number, &[Some("v")], true, true)), "T C:cursor Z:I");
    assert_eq!(world.ask(client, &[close(number), ping()].concat()), "C:ok Z:I");
    assert_eq!(world.run_sql(other, "SELECT 'free'"), "T D:free C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn a_cursor_outlives_the_room_of_its_server() {
    let mut config = with_mysql(1);
    config.databases[1].pool.server_statements_bytes = 100;
    let mut world = World::new(config);
    let client = world.login_mysql(0);
    let number = world.prepare(client, "SELECT ? FROM rows_3_0");
    assert_eq!(world.ask(client, &run_as(number, &[Some("v")], true, true)), "T C:cursor Z:I");
    for at in 0..10 {
        world.ask(client, &prepare(&format!("SELECT 'another statement {at}', ?")));
    }
    assert_eq!(world.ask(client, &fetch(number, 9)), "D:v D:v D:v C:last Z:I");
    // Unseen preparations make room as well.
    for number in 2..12 {
        world.ask(client, &run(number, &["x"]));
    }
    let line = world.mysql_lines()[0];
    assert!(world.mysql_session(line).prepared_texts().len() < 6);
    world.everybody_leaves();
}

#[test]
fn clients_of_two_classes_run_what_they_have_prepared_at_one_server() {
    let mut world = World::new(with_mysql(1));
    let clients = [world.login_mysql_as(0, can::PLAIN), world.login_mysql_as(0, can::MODERN)];
    let numbers = clients.map(|client| world.prepare(client, "SELECT ?"));
    for round in 0..20 {
        for (client, number) in clients.iter().zip(numbers) {
            world.send(*client, &run(number, &[&format!("r{round}")]));
        }
        world.run_for(200_000);
        for client in clients {
            assert_eq!(world.brief(client), format!("T D:r{round} C:rows Z:I"));
        }
    }
    world.everybody_leaves();
}

#[test]
fn a_name_that_stands_for_no_statement_keeps_no_server() {
    let mut world = World::new(with_mysql(1));
    let (client, other) = (world.login_mysql(0), world.login_mysql(0));
    let is_free = |world: &mut World| {
        assert_eq!(world.run_sql(other, "SELECT 'free'"), "T D:free C:rows Z:I");
    };
    assert_eq!(world.run_sql(client, "EXECUTE p"), "E:1243 Z:?");
    is_free(&mut world);
    assert_eq!(world.run_sql(client, "PREPARE p FROM 'SELECT 5'"), "C:ok Z:I");
    assert_eq!(world.run_sql(client, "EXECUTE p"), "T D:SELECT 5 C:rows Z:I");
    is_free(&mut world);
    assert_eq!(world.run_sql(client, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(client, "PREPARE q FROM 'SELECT 6'"), "C:ok Z:T");
    assert_eq!(world.run_sql(client, "EXECUTE q"), "T D:SELECT 6 C:rows Z:T");
    assert_eq!(world.run_sql(client, "DEALLOCATE PREPARE q"), "C:ok Z:T");
    assert_eq!(world.run_sql(client, "EXECUTE q"), "E:1243 Z:?");
    assert_eq!(world.run_sql(client, "COMMIT"), "C:ok Z:I");
    is_free(&mut world);
    assert_eq!(world.run_sql(client, "EXECUTE q; EXECUTE p"), "E:1243 Z:?");
    world.everybody_leaves();
}
