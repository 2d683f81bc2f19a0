//! Prepared statements in transaction mode: renamed, prepared where they are needed, bounded, healed.
//!
//! The scripted database refuses unknown and duplicate names as PostgreSQL does, so nothing slips by.

use maitred_relay::sim::frontend::{bind, close, describe, execute, flush, parse, query, run_prepared, sync};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;
use maitred_relay::snapshot::PoolMode;

/// Keep a server busy, so that the next client gets another.
fn occupy(world: &mut World, client: usize) {
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
}

fn let_go(world: &mut World, client: usize) {
    assert_eq!(world.query(client, "commit"), "C:COMMIT Z:I");
}

fn prepare(world: &mut World, client: usize, name: &str, sql: &str) -> String {
    world.ask(client, &[parse(name, sql), sync()].concat())
}

#[test]
fn names_of_different_clients_do_not_meet() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(prepare(&mut world, one, "s", "select one-$1"), "1 Z:I");
    assert_eq!(prepare(&mut world, two, "s", "select two-$1"), "1 Z:I");
    for round in ["a", "b"] {
        let told = world.ask(one, &run_prepared("s", &[round]));
        assert_eq!(told, format!("2 D:one-{round} C:SELECT 1 Z:I"));
        let told = world.ask(two, &run_prepared("s", &[round]));
        assert_eq!(told, format!("2 D:two-{round} C:SELECT 1 Z:I"));
    }
    world.everybody_leaves();
}

#[test]
fn a_statement_is_prepared_on_each_server_on_first_use_and_once() {
    let mut world = World::new(snapshot(3));
    let clients: Vec<usize> = (0..6).map(|_| world.login(0)).collect();
    for client in &clients {
        assert_eq!(prepare(&mut world, *client, &format!("n{client}"), "select v-$1"), "1 Z:I");
    }
    let (one, two) = (world.login(0), world.login(0));
    occupy(&mut world, one);
    occupy(&mut world, two);
    for client in &clients {
        let told = world.ask(*client, &run_prepared(&format!("n{client}"), &["x"]));
        assert_eq!(told, "2 D:v-x C:SELECT 1 Z:I", "on a server that has not seen it");
    }
    let_go(&mut world, one);
    let_go(&mut world, two);
    for line in &world.lines {
        assert!(
            line.session.prepared_names().len() <= 1,
            "equal texts are one: {:?}",
            line.session.prepared_names()
        );
    }
    world.everybody_leaves();
}

#[test]
fn a_server_keeps_within_its_bytes() {
    let mut config = snapshot(1);
    config.databases[0].pool.server_statements_bytes = 4_000;
    let mut world = World::new(config);
    let client = world.login(0);
    for at in 0..60 {
        let sql = format!("select {at}-{}-$1", "z".repeat(100));
        assert_eq!(prepare(&mut world, client, &format!("s{at}"), &sql), "1 Z:I");
    }
    assert!(world.lines[0].session.prepared_bytes() <= 4_000, "{}", world.lines[0].session.prepared_bytes());
    for at in [0, 59, 30, 0, 1] {
        let told = world.ask(client, &run_prepared(&format!("s{at}"), &["x"]));
        assert_eq!(told, format!("2 D:{at}-{}-x C:SELECT 1 Z:I", "z".repeat(100)));
        assert!(world.lines[0].session.prepared_bytes() <= 4_000);
    }
    // All in one pipeline, where each pushes out another.
    let batch: Vec<u8> =
        (0..60).flat_map(|at| [bind("", &format!("s{at}"), &["y"]), execute("", 0)].concat()).collect();
    let told = world.ask(client, &[batch, sync()].concat());
    assert_eq!(told.matches("C:SELECT 1").count(), 60);
    assert!(world.lines[0].session.prepared_bytes() <= 4_000);
    world.everybody_leaves();
}

#[test]
fn a_client_keeps_within_its_bytes_and_is_told() {
    let mut config = snapshot(1);
    config.databases[0].pool.client_statements_bytes = 1_000;
    let mut world = World::new(config);
    let client = world.login(0);
    let mut refused = 0;
    for at in 0..20 {
        match prepare(&mut world, client, &format!("s{at}"), &format!("select {at}")).as_str() {
            "1 Z:I" => assert_eq!(refused, 0),
            "E:53400 Z:I" => refused += 1,
            told => panic!("{told}"),
        }
    }
    assert!((5..18).contains(&refused), "{refused}");
    assert_eq!(world.ask(client, &[close('S', "s0"), close('S', "s1"), sync()].concat()), "3 3 Z:I");
    assert_eq!(prepare(&mut world, client, "again", "select x"), "1 Z:I");
    assert_eq!(prepare(&mut world, client, "huge", &format!("select {}", "h".repeat(2_000))), "E:54000 Z:I");
    assert_eq!(world.query(client, "select ok"), "T D:ok C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn the_unnamed_statement_lives_across_leases_and_is_the_clients_own() {
    let mut world = World::new(snapshot(2));
    let (one, two, busy) = (world.login(0), world.login(0), world.login(0));
    assert_eq!(prepare(&mut world, one, "", "select one-$1"), "1 Z:I");
    assert_eq!(prepare(&mut world, two, "", "select two-$1"), "1 Z:I");
    assert_eq!(world.ask(one, &run_prepared("", &["a"])), "2 D:one-a C:SELECT 1 Z:I");
    assert_eq!(world.ask(two, &run_prepared("", &["b"])), "2 D:two-b C:SELECT 1 Z:I");
    occupy(&mut world, busy);
    assert_eq!(world.ask(one, &run_prepared("", &["c"])), "2 D:one-c C:SELECT 1 Z:I");
    assert_eq!(world.ask(two, &[describe('S', ""), sync()].concat()), "t T Z:I");
    assert_eq!(world.query(one, "select simple"), "T D:simple C:SELECT 1 Z:I");
    assert_eq!(world.ask(one, &run_prepared("", &["d"])), "E:26000 Z:I", "a simple query destroys it");
    assert_eq!(world.ask(two, &run_prepared("", &["e"])), "2 D:two-e C:SELECT 1 Z:I");
    let_go(&mut world, busy);
    let fresh = world.login(0);
    assert_eq!(world.ask(fresh, &run_prepared("", &["f"])), "E:26000 Z:I", "not somebody else's");
    world.everybody_leaves();
}

#[test]
fn an_unnamed_parse_that_was_skipped_is_not_there() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(prepare(&mut world, two, "", "select two"), "1 Z:I");
    assert_eq!(prepare(&mut world, one, "", "select one"), "1 Z:I");
    // The batch fails before the server comes to the Parse.
    let batch = [bind("", "nosuch", &[]), parse("", "select two"), sync()].concat();
    assert_eq!(world.ask(one, &batch), "E:26000 Z:I");
    // The server still has `select one`.
    assert_eq!(world.ask(two, &run_prepared("", &[])), "2 D:two C:SELECT 1 Z:I");
    let told = world.ask(one, &run_prepared("", &[]));
    assert!(told == "2 D:one C:SELECT 1 Z:I" || told == "E:26000 Z:I", "{told}");
    world.everybody_leaves();
}

#[test]
fn a_parse_that_fails_leaves_no_name() {
    let mut world = World::new(snapshot(2));
    let client = world.login(0);
    assert_eq!(prepare(&mut world, client, "s", "bad"), "E:42601 Z:I");
    assert_eq!(world.ask(client, &run_prepared("s", &[])), "E:26000 Z:I");
    assert_eq!(prepare(&mut world, client, "s", "select good"), "1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("s", &[])), "2 D:good C:SELECT 1 Z:I");
    assert_eq!(prepare(&mut world, client, "", "bad"), "E:42601 Z:I");
    assert_eq!(world.ask(client, &run_prepared("", &[])), "E:26000 Z:I");
    // Behind an error, in one batch: never prepared, whoever asked.
    let batch = [parse("x", "select x"), parse("y", "bad"), parse("z", "select z"), sync()].concat();
    assert_eq!(world.ask(client, &batch), "1 E:42601 Z:I");
    assert_eq!(world.ask(client, &run_prepared("x", &[])), "2 D:x C:SELECT 1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("z", &[])), "E:26000 Z:I");
    assert_eq!(prepare(&mut world, client, "z", "select z"), "1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("z", &[])), "2 D:z C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_known_statement_parsed_behind_an_error_is_not_named() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(prepare(&mut world, one, "s", "select k"), "1 Z:I");
    let batch = [parse("e", "bad"), parse("s", "select k"), sync()].concat();
    assert_eq!(world.ask(two, &batch), "E:42601 Z:I");
    assert_eq!(world.ask(two, &run_prepared("s", &[])), "E:26000 Z:I");
    assert_eq!(world.ask(one, &run_prepared("s", &[])), "2 D:k C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_name_that_is_taken_is_an_error_at_its_place() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(prepare(&mut world, client, "s", "select a"), "1 Z:I");
    let batch =
        [bind("", "s", &[]), execute("", 0), parse("s", "select b"), bind("", "s", &[]), sync()].concat();
    assert_eq!(world.ask(client, &batch), "2 D:a C:SELECT 1 E:42P05 Z:I");
    assert_eq!(world.ask(client, &run_prepared("s", &[])), "2 D:a C:SELECT 1 Z:I");
    assert_eq!(world.ask(client, &[close('S', "s"), parse("s", "select b"), sync()].concat()), "3 1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("s", &[])), "2 D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn closed_is_closed_and_closing_nothing_is_no_error() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(prepare(&mut world, client, "s", "select a"), "1 Z:I");
    assert_eq!(world.ask(client, &[close('S', "s"), sync()].concat()), "3 Z:I");
    assert_eq!(world.ask(client, &run_prepared("s", &[])), "E:26000 Z:I");
    assert_eq!(world.ask(client, &[describe('S', "s"), sync()].concat()), "E:26000 Z:I");
    assert_eq!(world.ask(client, &[close('S', "never"), close('P', "never"), sync()].concat()), "3 3 Z:I");
    let batch =
        [parse("s", "select b"), bind("", "s", &[]), close('S', "s"), execute("", 0), sync()].concat();
    assert_eq!(world.ask(client, &batch), "1 2 3 D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn discard_all_and_deallocate_all_forget_everything_on_both_sides() {
    for statement in ["discard all", "deallocate all"] {
        let mut world = World::new(snapshot(1));
        let (one, two) = (world.login(0), world.login(0));
        assert_eq!(prepare(&mut world, one, "s", "select a"), "1 Z:I");
        assert_eq!(prepare(&mut world, two, "t", "select a"), "1 Z:I");
        assert!(world.query(one, statement).ends_with("ALL Z:I"));
        assert_eq!(world.ask(one, &run_prepared("s", &[])), "E:26000 Z:I");
        assert_eq!(
            world.ask(two, &run_prepared("t", &[])),
            "2 D:a C:SELECT 1 Z:I",
            "the other's are still its own"
        );
        assert_eq!(prepare(&mut world, one, "s", "select b"), "1 Z:I");
        assert_eq!(world.ask(one, &run_prepared("s", &[])), "2 D:b C:SELECT 1 Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn what_is_prepared_behind_discard_all_in_a_pipeline_stays() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(prepare(&mut world, client, "s", "select a"), "1 Z:I");
    let pipeline = [query("discard all"), parse("t", "select b"), sync(), run_prepared("t", &[])].concat();
    assert_eq!(world.ask_for(client, &pipeline, 3), "C:DISCARD ALL Z:I 1 Z:I 2 D:b C:SELECT 1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("t", &[])), "2 D:b C:SELECT 1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("s", &[])), "E:26000 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_stale_plan_is_healed_where_the_columns_are_asked_for_or_unknown() {
    let mut world = World::new(snapshot(1));
    let (told, untold) = (world.login(0), world.login(0));
    assert_eq!(
        world.ask(told, &[parse("s", "select a-$1"), describe('S', "s"), sync()].concat()),
        "1 t T Z:I"
    );
    assert_eq!(prepare(&mut world, untold, "u", "select b-$1"), "1 Z:I");
    world.version += 1;
    let with_columns = [bind("", "s", &["1"]), describe('P', ""), execute("", 0), sync()].concat();
    assert_eq!(world.ask(told, &with_columns), "2 T D:a-1 C:SELECT 1 Z:I", "asked again in the same batch");
    assert_eq!(world.ask(untold, &run_prepared("u", &["1"])), "2 D:b-1 C:SELECT 1 Z:I", "never told");
    world.version += 1;
    assert_eq!(world.ask(told, &run_prepared("s", &["2"])), "E:0A000 Z:I", "it would misread the rows");
    assert_eq!(
        world.ask(told, &run_prepared("s", &["3"])),
        "2 D:a-3 C:SELECT 1 Z:I",
        "prepared anew by then"
    );
    world.version += 1;
    assert_eq!(world.query(told, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.ask(told, &with_columns), "E:0A000 Z:E", "in a transaction nothing can be healed");
    assert_eq!(world.query(told, "rollback"), "C:ROLLBACK Z:I");
    assert_eq!(world.ask(told, &with_columns), "2 T D:a-1 C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_statement_that_is_missing_on_its_server_is_healed() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(
        world.ask(client, &[parse("s", "select a-$1"), describe('S', "s"), sync()].concat()),
        "1 t T Z:I"
    );
    world.disturb(0, |session| session.forget_statements());
    assert_eq!(world.ask(client, &run_prepared("s", &["1"])), "2 D:a-1 C:SELECT 1 Z:I");
    world.disturb(0, |session| session.forget_statements());
    assert_eq!(world.ask(client, &[describe('S', "s"), sync()].concat()), "t T Z:I");
    world.disturb(0, |session| session.forget_statements());
    let pipeline = [run_prepared("s", &["2"]), run_prepared("s", &["3"])].concat();
    let told = world.ask_for(client, &pipeline, 2);
    // What was sent before the first error came back cannot be called back.
    assert!(told == "E:26000 Z:I E:26000 Z:I" || told.ends_with("2 D:a-3 C:SELECT 1 Z:I"), "{told}");
    assert_eq!(world.ask(client, &run_prepared("s", &["4"])), "2 D:a-4 C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn flush_shows_what_is_there_also_what_is_ours_to_say() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(prepare(&mut world, one, "s", "select a"), "1 Z:I");
    world.send(two, &[parse("s", "select a"), describe('S', "s"), flush()].concat());
    world.run_for(5_000);
    assert_eq!(world.brief(two), "1 t T");
    world.send(two, &[bind("", "s", &[]), execute("", 0), close('S', "s"), flush()].concat());
    world.run_for(5_000);
    assert_eq!(world.brief(two), "2 D:a C:SELECT 1 3");
    assert_eq!(world.ask(two, &sync()), "Z:I");
    world.everybody_leaves();
}

#[test]
fn statements_made_by_sql_work_on_the_server_where_they_are() {
    let mut config = snapshot(1);
    config.databases[0].pool.mode = PoolMode::Session;
    let mut world = World::new(config);
    let client = world.login(0);
    assert_eq!(world.query(client, "prepare mine"), "C:PREPARE Z:I");
    assert_eq!(world.ask(client, &run_prepared("mine", &[])), "2 D:mine C:SELECT 1 Z:I");
    assert_eq!(world.ask(client, &run_prepared("", &[])), "E:26000 Z:I");
    assert_eq!(world.query(client, "select still"), "T D:still C:SELECT 1 Z:I");
    let text =
        |at: usize| [parse("", &format!("select {at}")), bind("", "", &[]), execute("", 0), sync()].concat();
    for at in 0..3 {
        assert_eq!(world.ask(client, &text(at)), format!("1 2 D:{at} C:SELECT 1 Z:I"));
    }
    world.everybody_leaves();
}

#[test]
fn whoever_prepares_anew_after_a_definition_gets_what_it_means_now() {
    let mut world = World::new(snapshot(1));
    let (one, two, three) = (world.login(0), world.login(0), world.login(0));
    assert_eq!(prepare(&mut world, one, "s", "select 1"), "1 Z:I");
    // In its transaction the change is its own; for the others it happens at the end.
    world.query(two, "begin");
    world.query(two, "alter t");
    world.query(two, "commit");
    world.version += 1;
    assert_eq!(prepare(&mut world, three, "t", "select 1"), "1 Z:I");
    let batch = [bind("", "t", &[]), describe('P', ""), execute("", 0), sync()].concat();
    assert_eq!(world.ask(three, &batch), "2 T D:1 C:SELECT 1 Z:I");
    let parses =
        |world: &mut World| world.with(0, |relay, now| relay.report(now, false)).stats[0].server_parses;
    assert_eq!(parses(&mut world), 2);
    // And without a definition between them, once is enough.
    assert_eq!(prepare(&mut world, two, "u", "select 1"), "1 Z:I");
    assert_eq!(parses(&mut world), 2);
    world.everybody_leaves();
}

#[test]
fn equal_texts_under_different_search_paths_are_different_statements() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    let parses =
        |world: &mut World| world.with(0, |relay, now| relay.report(now, false)).stats[0].server_parses;
    assert_eq!(world.query(two, "set search_path=other"), "C:SET Z:I");
    for (round, client) in [one, one, two, two, one].into_iter().enumerate() {
        if round < 1 || round == 2 {
            assert_eq!(prepare(&mut world, client, "s", "select 1"), "1 Z:I");
        }
        assert_eq!(world.ask(client, &run_prepared("s", &[])), "2 D:1 C:SELECT 1 Z:I");
    }
    assert_eq!(parses(&mut world), 3, "anew with each change of the path");
    world.everybody_leaves();
}

#[test]
fn a_statement_of_the_protocol_is_executed_by_sql() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    for (client, text) in [(one, "select mine"), (two, "select yours")] {
        world.send(client, &[parse("Foo", text), parse("bar", "execute \"Foo\""), sync()].concat());
        world.run_for(10_000);
        assert_eq!(world.brief(client), "1 1 Z:I");
    }
    for round in 0..3 {
        // The first of the two gets the one server or the other.
        let (first, second) = if round == 1 { (two, one) } else { (one, two) };
        world.query(first, "begin");
        world.query(second, "begin");
        for (client, row) in [(one, "mine"), (two, "yours")] {
            let answer = world.query(client, "execute \"Foo\"");
            assert_eq!(answer, format!("T D:{row} C:SELECT 1 Z:T"), "{round}");
            for name in ["bar", ""] {
                let made = if name.is_empty() { parse("", "execute \"Foo\"") } else { Vec::new() };
                world.send(client, &[made, bind("", name, &[]), execute("", 0), sync()].concat());
                world.run_for(10_000);
                let answer = world.brief(client);
                assert!(answer.ends_with(&format!("2 D:{row} C:SELECT 1 Z:T")), "{round} {name}: {answer}");
            }
        }
        world.query(first, "commit");
        world.query(second, "commit");
    }
    assert_eq!(world.query(one, "execute other"), "E:26000 Z:I");
    assert_eq!(world.query(one, "execute foo"), "E:26000 Z:I", "names differ by case");
    world.everybody_leaves();
}

#[test]
fn a_statement_that_cannot_be_prepared_again_is_no_end_to_execute() {
    let mut world = World::new(snapshot(1));
    let one = world.login(0);
    world.send(one, &[parse("p", "bad one"), sync()].concat());
    world.run_for(10_000);
    assert_eq!(world.brief(one), "E:42601 Z:I");
    assert_eq!(world.query(one, "execute p"), "E:26000 Z:I");
    world.send(one, &[parse("q", "select a"), sync()].concat());
    world.run_for(10_000);
    assert_eq!(world.brief(one), "1 Z:I");
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(one, "fail"), "E:22012 Z:E");
    assert_eq!(world.query(one, "execute q"), "E:25P02 Z:E");
    assert_eq!(world.query(one, "rollback"), "C:ROLLBACK Z:I");
    assert_eq!(world.query(one, "execute q"), "T D:a C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_client_that_asks_which_statements_are_prepared_is_told_of_its_own() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    for (client, name) in [(one, "a"), (one, "b"), (two, "c")] {
        world.send(client, &[parse(name, &format!("select {name}")), sync()].concat());
        world.run_for(10_000);
        world.brief(client);
    }
    let list = "select * from pg_prepared_statements";
    let asked = |world: &mut World, client, how: usize| {
        match how {
            0 => drop(world.query(client, list)),
            _ => {
                let name = if how == 1 { "" } else { "listing" };
                let batch = [parse(name, list), bind("", name, &[]), execute("", 0), sync()];
                world.send(client, &batch.concat());
                world.run_for(10_000);
                let answer = world.brief(client);
                assert!(answer.ends_with("C:SELECT 1 Z:I"), "{answer}");
            }
        }
        let ran = world.ran();
        let text = &ran.iter().rfind(|ran| ran.text.contains(list)).expect("it ran").text;
        (0..3).map(|at| ["'a'", "'b'", "'c'"][at]).filter(|name| text.contains(*name)).count()
    };
    for how in 0..3 {
        assert_eq!(asked(&mut world, one, how), 2, "{how}");
        assert_eq!(asked(&mut world, two, how), 1, "{how}");
    }
    world.everybody_leaves();
}
