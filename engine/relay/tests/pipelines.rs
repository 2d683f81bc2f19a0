//! Pipelines: many units in flight, errors in the middle, COPY among them; every answer at its place.
//!
//! What a direct connection would answer is the measure, also for the number of Ready.

use maitred_relay::sim::frontend::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call, parse, query,
    run_prepared, sync,
};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;
use maitred_relay::snapshot::PoolMode;

fn unit(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat()
}

#[test]
fn an_error_ends_its_unit_and_not_the_next() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let pipeline =
        [unit("select a"), unit("fail"), unit("select b"), query("fail"), query("select c"), unit("bad")];
    assert_eq!(
        world.ask_for(client, &pipeline.concat(), 6),
        "1 2 D:a C:SELECT 1 Z:I 1 2 E:22012 Z:I 1 2 D:b C:SELECT 1 Z:I E:22012 Z:I T D:c C:SELECT 1 Z:I E:42601 Z:I"
    );
    world.everybody_leaves();
}

#[test]
fn everything_behind_an_error_is_skipped_up_to_the_sync() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let batch = [
        parse("a", "select a"),
        parse("", "fail"),
        bind("", "", &[]),
        execute("", 0),
        parse("b", "select b"),
        bind("", "a", &[]),
        describe('P', ""),
        close('S', "a"),
        query("select skipped"),
        function_call(),
        flush(),
        sync(),
        query("select on"),
    ];
    assert_eq!(world.ask_for(client, &batch.concat(), 2), "1 1 2 E:22012 Z:I T D:on C:SELECT 1 Z:I");
    assert_eq!(
        world.ask(client, &run_prepared("a", &[])),
        "2 D:a C:SELECT 1 Z:I",
        "its Close was skipped too"
    );
    assert_eq!(world.ask(client, &run_prepared("b", &[])), "E:26000 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_failed_batch_in_a_transaction_fails_the_transaction() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let pipeline =
        [query("begin"), unit("fail"), unit("select a"), query("rollback"), unit("select b")].concat();
    assert_eq!(
        world.ask_for(client, &pipeline, 5),
        "C:BEGIN Z:T 1 2 E:22012 Z:E E:25P02 Z:E C:ROLLBACK Z:I 1 2 D:b C:SELECT 1 Z:I"
    );
    world.everybody_leaves();
}

#[test]
fn refusals_of_ours_stand_at_their_place_each_with_its_own_words() {
    let mut config = snapshot(1);
    config.databases[0].pool.client_statements_bytes = 400;
    for mode in [PoolMode::Transaction, PoolMode::Session] {
        config.databases[0].pool.mode = mode;
        let mut world = World::new(config.clone());
        let client = world.login(0);
        let big = parse("big", &format!("select {}", "b".repeat(600)));
        let unnamed = [bind("", "", &[]), execute("", 0), sync()].concat();
        let pipeline = [
            query("begin"),
            unnamed.clone(),
            query("rollback"),
            query("begin"),
            big.clone(),
            sync(),
            query("rollback"),
        ];
        assert_eq!(
            world.ask_for(client, &pipeline.concat(), 6),
            "C:BEGIN Z:T E:26000 Z:E C:ROLLBACK Z:I C:BEGIN Z:T E:54000 Z:E C:ROLLBACK Z:I",
            "{mode:?}"
        );
        let pipeline = [unnamed.clone(), big, sync(), unnamed, query("select on")].concat();
        assert_eq!(
            world.ask_for(client, &pipeline, 4),
            "E:26000 Z:I E:54000 Z:I E:26000 Z:I T D:on C:SELECT 1 Z:I",
            "{mode:?}"
        );
        world.everybody_leaves();
    }
}

#[test]
fn a_query_ends_what_was_begun_without_a_sync() {
    let mut world = World::new(snapshot(1));
    let (client, other) = (world.login(0), world.login(0));
    let batch = [parse("", "select a"), bind("", "", &[]), execute("", 0), query("select b")].concat();
    assert_eq!(world.ask(client, &batch), "1 2 D:a C:SELECT 1 T D:b C:SELECT 1 Z:I");
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I", "the server is free again");
    let batch = [parse("", "fail"), bind("", "", &[]), execute("", 0), query("select b")].concat();
    world.send(client, &batch);
    world.run_for(5_000);
    assert_eq!(world.brief(client), "1 2 E:22012", "the query is skipped with the rest");
    assert_eq!(world.ask(client, &sync()), "Z:I");
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_sync_alone_and_a_flush_alone() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(world.ask(client, &sync()), "Z:I");
    world.send(client, &flush());
    world.run_for(5_000);
    assert_eq!(world.brief(client), "");
    assert_eq!(world.ask_for(client, &[sync(), sync(), sync()].concat(), 3), "Z:I Z:I Z:I");
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.ask_for(client, &[sync(), sync()].concat(), 2), "Z:T Z:T");
    assert_eq!(world.query(client, "commit"), "C:COMMIT Z:I");
    assert_eq!(world.ask(client, &function_call()), "V Z:I");
    world.everybody_leaves();
}

#[test]
fn copy_in_by_a_query_asked_for_and_sent_ahead() {
    let mut world = World::new(snapshot(1));
    let (client, other) = (world.login(0), world.login(0));
    world.send(client, &query("copyin t"));
    world.run_for(5_000);
    assert_eq!(world.brief(client), "G");
    let data = [copy_data(b"abc"), sync(), flush(), copy_data(b"de"), copy_done()].concat();
    assert_eq!(world.ask(client, &data), "C:COPY 5 Z:I", "Sync and Flush are ignored");
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I", "and hold no server");
    let ahead =
        [query("copyin t"), copy_data(b"abcd"), copy_done(), query("select on"), unit("select x")].concat();
    assert_eq!(
        world.ask_for(client, &ahead, 3),
        "G C:COPY 4 Z:I T D:on C:SELECT 1 Z:I 1 2 D:x C:SELECT 1 Z:I"
    );
    let failed = [query("copyin t"), copy_data(b"abcd"), copy_fail(), query("select on")].concat();
    assert_eq!(world.ask_for(client, &failed, 2), "G E:57014 Z:I T D:on C:SELECT 1 Z:I");
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn copy_in_by_a_batch_needs_its_own_sync() {
    let mut world = World::new(snapshot(1));
    let (client, other) = (world.login(0), world.login(0));
    for sync_ahead in [false, true] {
        let mut batch = [parse("", "copyin t"), bind("", "", &[]), execute("", 0)].concat();
        batch.extend(if sync_ahead { sync() } else { flush() });
        world.send(client, &batch);
        world.run_for(5_000);
        assert_eq!(world.brief(client), "1 2 G");
        world.send(client, &[copy_data(b"abc"), copy_done()].concat());
        world.run_for(5_000);
        // Flushed by the Sync only; the Sync that was sent ahead is gone.
        assert_eq!(world.ask(client, &sync()), "C:COPY 3 Z:I", "{sync_ahead}");
        assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
        let whole = [
            parse("", "copyin t"),
            bind("", "", &[]),
            execute("", 0),
            copy_data(b"ab"),
            copy_done(),
            sync(),
            unit("select x"),
        ];
        assert_eq!(world.ask_for(client, &whole.concat(), 2), "1 2 G C:COPY 2 Z:I 1 2 D:x C:SELECT 1 Z:I");
        assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    }
    // All in one write, a Sync among the data: the lease ends with the other.
    let whole = [
        parse("", "copyin t"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        copy_data(b"ab"),
        copy_done(),
        sync(),
    ];
    assert_eq!(world.ask(client, &whole.concat()), "1 2 G C:COPY 2 Z:I");
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_request_in_the_middle_of_copy_data_is_a_violation() {
    let mut world = World::new(snapshot(1));
    let (client, other) = (world.login(0), world.login(0));
    world.send(client, &query("copyin t"));
    world.run_for(5_000);
    world.send(client, &[copy_data(b"abc"), query("select x")].concat());
    world.run_for(5_000);
    assert_eq!(world.brief(client), "G F:08P01");
    assert!(world.clients[client].is_closed);
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    let ahead = world.login(0);
    world.send(ahead, &[query("copyin t"), query("select x"), query("select y")].concat());
    world.run_for(5_000);
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I", "nobody else waits");
    world.everybody_leaves();
}

#[test]
fn copy_out_among_other_things() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let pipeline = [query("copyout 2 r; select a"), unit("copyout 1 s")].concat();
    let told = world.ask_for(client, &pipeline, 2);
    assert_eq!(told, "H d:r d:r c C:COPY 2 T D:a C:SELECT 1 Z:I 1 2 H d:s c C:COPY 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn notices_come_through_and_only_to_whom_they_belong() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "notice hello"), "N C:NOTICE Z:I");
    assert_eq!(world.query(two, "select x"), "T D:x C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn statement_mode_lends_for_one_statement_and_refuses_blocks() {
    let mut config = snapshot(1);
    config.databases[0].pool.mode = PoolMode::Statement;
    let mut world = World::new(config);
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I");
    assert_eq!(world.ask(two, &unit("select b")), "1 2 D:b C:SELECT 1 Z:I");
    let told = world.query(one, "begin");
    assert!(told.ends_with("F:0A000") && world.clients[one].is_closed, "{told}");
    world.run_for(5_000);
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn session_mode_keeps_one_server_for_each_client() {
    let mut config = snapshot(2);
    config.databases[0].pool.mode = PoolMode::Session;
    let mut world = World::new(config);
    let (one, two, three) = (world.login(0), world.login(0), world.login(0));
    assert_eq!(world.query(one, "set application_name=one"), "C:SET S:application_name=one Z:I");
    assert_eq!(world.query(two, "set application_name=two"), "C:SET S:application_name=two Z:I");
    assert_eq!(world.query(one, "show application_name"), "T D:one C:SELECT 1 Z:I");
    world.send(three, &query("show application_name"));
    world.run_for(100_000);
    assert_eq!(world.brief(three), "");
    world.leave(one);
    world.run_for(5_000);
    assert_eq!(world.brief(three), "T D: C:SELECT 1 Z:I");
    world.everybody_leaves();
}
