//! Servers that are lost, at each point of an answer: MySQL's clients hear one error with the right number.
//!
//! Never touches a socket. That the number is right, and that nothing is answered twice, the clients themselves see.

use maitred_relay::sim::mysql::frontend::{append, ping, query, run, run_appended, run_as};
use maitred_relay::sim::mysql::{can, session::Session};
use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::World;

/// A client that has asked for this, and what it is told when its server then ends in this way.
fn told(text: &str, after_us: u64, end: fn(&mut Session)) -> (String, bool) {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    world.send(client, &query(text));
    world.run_for(after_us);
    for line in world.mysql_lines() {
        world.disturb_mysql(line, end);
    }
    world.run_for(1_000_000);
    let told = world.brief(client);
    let is_closed = world.clients[client].is_closed;
    if !is_closed {
        assert_eq!(world.run_sql(client, "SELECT 'again'"), "T D:again C:rows Z:I");
    }
    // Nothing is said twice.
    let runs = world.ran().iter().filter(|ran| ran.text == text).count();
    assert!(runs <= 1, "{runs} times {text}");
    world.everybody_leaves();
    (told, is_closed)
}

#[test]
fn a_server_that_is_lost_while_it_works_is_one_error() {
    for end in [Session::end, Session::terminate, Session::babble] {
        let (told, is_closed) = told("SELECT 'a' FROM sleep_100000", 10_000, end);
        assert_eq!((told.as_str(), is_closed), ("E:2013 Z:?", false));
    }
}

#[test]
fn a_server_that_is_lost_before_it_answers_is_one_error() {
    assert_eq!(told("SELECT 'a' FROM die", 10_000, |_| {}), ("E:2013 Z:?".into(), false));
    assert_eq!(told("SELECT 'a' FROM silent", 10_000, Session::end), ("E:2013 Z:?".into(), false));
}

#[test]
fn a_server_that_is_lost_between_rows_is_one_error_behind_them() {
    assert_eq!(told("SELECT 'a' FROM halfrow_1000", 10_000, |_| {}), ("T D:whole E:2013 Z:?".into(), false));
    assert_eq!(
        told("SELECT 'a'; SELECT 'b' FROM sleep_100000", 10_000, Session::end),
        ("T D:a C:rows E:2013 Z:?".into(), false)
    );
}

#[test]
fn a_server_that_is_lost_within_a_row_that_was_begun_takes_its_client_along() {
    let (told, is_closed) = told("SELECT 'a' FROM halfrow_500000", 100_000, |_| {});
    assert_eq!((told.as_str(), is_closed), ("T D:whole", true));
}

#[test]
fn a_transaction_that_is_lost_is_told_once() {
    let mut world = World::new(with_mysql(2));
    let client = world.login_mysql(0);
    assert_eq!(world.run_sql(client, "BEGIN"), "C:ok Z:T");
    let line = world.session_that_ran("BEGIN");
    world.disturb_mysql(line, Session::end);
    world.run_for(10_000);
    assert_eq!(world.brief(client), "", "an answer to nothing");
    assert_eq!(world.run_sql(client, "INSERT INTO t VALUES (1)"), "E:2013 Z:?");
    assert_eq!(world.run_sql(client, "SELECT 'a'"), "T D:a C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn idle_servers_that_are_all_cut_are_nobodys_error() {
    let mut world = World::new(with_mysql(4));
    let clients: Vec<usize> = (0..4).map(|_| world.login_mysql(0)).collect();
    for client in &clients {
        world.send(*client, &query("SELECT 'a' FROM sleep_5000"));
    }
    world.run_for(100_000);
    clients.iter().for_each(|client| drop(world.take(*client)));
    assert_eq!(world.mysql_lines().len(), 4);
    for (at, line) in world.mysql_lines().into_iter().enumerate() {
        world.disturb_mysql(line, if at % 2 == 0 { Session::end } else { Session::terminate });
    }
    world.run_for(10_000);
    for client in &clients {
        world.send(*client, &query("SELECT 'b'"));
    }
    world.run_for(200_000);
    for client in &clients {
        assert_eq!(world.brief(*client), "T D:b C:rows Z:I");
    }
    world.everybody_leaves();
}

#[test]
fn a_server_that_is_lost_during_unseen_work_is_an_error_of_the_run() {
    let mut world = World::new(with_mysql(2));
    let (one, two) = (world.login_mysql(0), world.login_mysql(0));
    let number = world.prepare(one, "SELECT 'a', ?");
    assert_eq!(world.run_sql(two, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(one, "SELECT 'elsewhere'"), "T D:elsewhere C:rows Z:I");
    let line = world.session_that_ran("elsewhere");
    world.send(one, &run(number, &["x"]));
    // The preparation is on its way.
    world.run_for(150);
    world.disturb_mysql(line, Session::end);
    world.run_for(1_000_000);
    let told = world.brief(one);
    assert!(["E:2013 Z:?", "T D:a,x C:rows Z:I"].contains(&told.as_str()), "{told}");
    assert_eq!(world.ask(one, &run(number, &["x"])), "T D:a,x C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn values_that_are_lost_fail_the_run_that_would_miss_them() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    let number = world.prepare(client, "SELECT ?");
    world.send(client, &append(number, 0, b"lost"));
    world.run_for(10_000);
    let line = world.mysql_lines()[0];
    assert!(world.mysql_session(line).has_kept_values());
    world.disturb_mysql(line, Session::end);
    world.run_for(10_000);
    let rest = [append(number, 0, b"more"), run_appended(number), ping()].concat();
    assert_eq!(world.ask_for(client, &rest, 2), "E:2013 Z:? C:ok Z:I");
    let all = [append(number, 0, b"all"), run_appended(number)].concat();
    assert_eq!(world.ask(client, &all), "T D:all C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn a_value_that_only_the_lost_server_knew_is_not_lost_in_silence() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    let number = world.prepare(client, "SELECT ? FROM rows_3_0");
    assert_eq!(world.run_sql(client, "SET @x='old'"), "C:ok Z:I");
    // Its cursor keeps the server, and so from being asked.
    assert_eq!(world.ask(client, &run_as(number, &[Some("v")], true, true)), "T C:cursor Z:I");
    assert_eq!(world.run_sql(client, "SET @x='new'"), "C:ok Z:I");
    let line = world.mysql_lines()[0];
    world.disturb_mysql(line, Session::end);
    world.run_for(10_000);
    assert_eq!(world.run_sql(client, "SELECT @x"), "E:2013 Z:?");
    assert_eq!(world.run_sql(client, "SELECT @x"), "T D:old C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn what_was_known_before_is_not_lost_with_a_server_whenever_that_ends() {
    let unseen = ["CALL set_y_1", "CALL dynamic", "CALL bare_time_zone_utc", "SELECT 'a' FROM missing"];
    for (text, is_mariadb) in unseen.into_iter().flat_map(|text| [(text, false), (text, true)]) {
        // A server is asked which variables there are, and then for each.
        for after_us in (0..2_000).step_by(20) {
            let mut world = World::new(with_mysql(1));
            world.has_mariadb = is_mariadb;
            let client = world.login_mysql(0);
            assert_eq!(world.run_sql(client, "SET @x='old', lock_wait_timeout=7"), "C:ok Z:I");
            world.send(client, &query(text));
            world.run_for(after_us);
            let line = world.mysql_lines()[0];
            world.disturb_mysql(line, Session::end);
            world.run_for(10_000);
            world.take(client);
            let asked = "SELECT @x, @@lock_wait_timeout";
            let told = world.run_sql(client, asked);
            let again = if told == "E:2013 Z:?" { world.run_sql(client, asked) } else { told };
            assert_eq!(again, "T D:old,7 C:rows Z:I", "{text} ended after {after_us} us");
            world.everybody_leaves();
        }
    }
}

#[test]
fn what_a_server_held_is_not_lost_in_silence() {
    for held in ["SELECT GET_LOCK('held', 1)", "CREATE TEMPORARY TABLE held (n int)", "PREPARE held FROM 'x'"]
    {
        let mut world = World::new(with_mysql(1));
        let client = world.login_mysql(0);
        let number = world.prepare(client, "SELECT ? FROM rows_3_0");
        // Its cursor keeps the server, and so from being asked.
        assert_eq!(world.ask(client, &run_as(number, &[Some("v")], true, true)), "T C:cursor Z:I");
        assert!(world.run_sql(client, held).ends_with(" Z:I"), "{held}");
        let line = world.mysql_lines()[0];
        world.disturb_mysql(line, Session::end);
        world.run_for(10_000);
        assert_eq!(world.run_sql(client, "SELECT 'a'"), "E:2013 Z:?", "{held}");
        assert_eq!(world.run_sql(client, "SELECT 'b'"), "T D:b C:rows Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn a_file_is_sent_to_its_end_before_its_client_hears_of_the_loss() {
    for size in [10, 400_000] {
        let mut world = World::new(with_mysql(1));
        let client = world.login_mysql_as(0, can::MODERN | can::LOCAL_FILES);
        // Its packets are numbered all around, and each looks like a command that would be run.
        world.frontend(client).file = b"\x03SELECT 'from the file'".repeat(size / 22 + 1);
        world.send(client, &query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t"));
        world.run_for(350);
        for line in world.mysql_lines() {
            world.disturb_mysql(line, Session::end);
        }
        world.run_for(1_000_000);
        assert_eq!(world.brief(client), "E:2013 Z:?", "{size}");
        assert!(world.ran().iter().all(|ran| !ran.text.contains("from the file")));
        assert_eq!(world.run_sql(client, "SELECT 'a'"), "T D:a C:rows Z:I");
        world.everybody_leaves();
    }
}

/// A client whose statement is being answered with a warning; its server has not heard the question what it is.
fn warned() -> (World, usize) {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    world.send(client, &query("SELECT 'a' FROM warned_once"));
    world.run_for(350);
    (world, client)
}

#[test]
fn warnings_that_are_lost_untold_are_an_error_to_who_asks_for_them() {
    for asks in ["SHOW WARNINGS", "SHOW COUNT(*) WARNINGS", "GET DIAGNOSTICS CONDITION 1 @x = MESSAGE_TEXT"] {
        let (mut world, client) = warned();
        let line = world.mysql_lines()[0];
        world.disturb_mysql(line, Session::end);
        world.run_for(10_000);
        assert_eq!(world.brief(client), "T D:a C:rows Z:I");
        assert_eq!(world.run_sql(client, asks), "E:2013 Z:?", "{asks}");
        assert_eq!(world.run_sql(client, "SELECT 'b'"), "T D:b C:rows Z:I");
        assert_eq!(world.run_sql(client, "SHOW WARNINGS"), "T C:rows Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn warnings_that_are_lost_untold_are_no_error_to_who_does_not_ask() {
    let (mut world, client) = warned();
    let line = world.mysql_lines()[0];
    world.disturb_mysql(line, Session::end);
    world.run_for(10_000);
    assert_eq!(world.brief(client), "T D:a C:rows Z:I");
    assert_eq!(world.run_sql(client, "SELECT 'b'"), "T D:b C:rows Z:I");
    world.everybody_leaves();
}

#[test]
fn warnings_are_asked_for_again_where_a_kill_hit_the_question() {
    let (mut world, client) = warned();
    let line = world.mysql_lines()[0];
    world.disturb_mysql(line, |session| session.cancel(0));
    world.run_for(10_000);
    assert_eq!(world.brief(client), "T D:a C:rows Z:I");
    assert_eq!(world.run_sql(client, "SHOW WARNINGS"), "T D:Warning,1292,once C:rows Z:I");
    world.everybody_leaves();
}
