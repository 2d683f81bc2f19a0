//! What clients leave in sessions: settings that nobody reports are carried, the rest keeps its server.
//!
//! The scripted database knows advisory locks and SQL's PREPARE, and answers what the relay asks about them.

use maitred_relay::sim::frontend::{bind, execute, parse, query, sync};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;
use maitred_relay::snapshot::Pinning;
use maitred_wire::effects::Traces;

fn pins(world: &mut World) -> Vec<String> {
    let rows = world.with(0, |relay, now| relay.report(now, true)).pins;
    rows.into_iter().map(|row| format!("{}: {}", row.reasons.join(", "), row.shape)).collect()
}

#[test]
fn a_setting_that_nobody_reports_is_its_clients() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "set work_mem=4096"), "C:SET Z:I");
    assert_eq!(world.query(one, "set app.user=ann"), "C:SET Z:I");
    for _ in 0..2 {
        assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
        assert_eq!(world.query(two, "show app.user"), "T D: C:SELECT 1 Z:I");
        assert_eq!(world.query(one, "show work_mem"), "T D:4096 C:SELECT 1 Z:I");
        assert_eq!(world.query(one, "show app.user"), "T D:ann C:SELECT 1 Z:I");
    }
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn a_setting_of_a_transaction_that_rolls_back_is_not_kept() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "set work_mem=1"), "C:SET Z:I");
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(one, "set work_mem=2"), "C:SET Z:T");
    assert_eq!(world.query(one, "rollback"), "C:ROLLBACK Z:I");
    assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "show work_mem"), "T D:1 C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn settings_of_a_pipeline_and_of_a_batch_are_kept() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    let batch = [parse("", "set work_mem=7"), bind("", "", &[]), execute("", 0), sync()].concat();
    world.send(one, &[batch, query("set app.b=8"), query("select a")].concat());
    world.run_for(10_000);
    assert_eq!(world.brief(one), "1 2 C:SET Z:I C:SET Z:I T D:a C:SELECT 1 Z:I");
    assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "show work_mem"), "T D:7 C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "show app.b"), "T D:8 C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn reset_brings_back_what_the_client_began_with() {
    let mut world = World::new(snapshot(1));
    let options = [("user", "ann"), ("database", "shop"), ("options", "-c work_mem=5")];
    let one = world.open(0);
    world.send(one, &maitred_relay::sim::frontend::startup(&options));
    world.run_until(|world| world.is_ready(one), 10_000_000);
    world.brief(one);
    let two = world.login(0);
    for reset in ["reset work_mem", "discard all"] {
        assert_eq!(world.query(one, "set work_mem=6"), "C:SET Z:I");
        assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
        assert!(world.query(one, reset).ends_with("Z:I"));
        assert_eq!(world.query(one, "show work_mem"), "T D:5 C:SELECT 1 Z:I", "{reset}");
    }
    world.everybody_leaves();
}

#[test]
fn a_lock_keeps_its_server_until_it_is_released() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    for key in [1, 2] {
        world.query(one, &format!("select pg_advisory_lock({key})"));
    }
    assert_eq!(pins(&mut world), ["advisory lock: select pg_advisory_lock(?)"]);
    world.send(two, &query("select b"));
    world.run_for(100_000);
    assert_eq!(world.brief(two), "", "waits");
    world.query(one, "select pg_advisory_unlock(1)");
    world.run_for(100_000);
    assert_eq!(world.brief(two), "", "one lock is left");
    assert_eq!(world.query(one, "select pg_advisory_unlock(2)").split(' ').next_back(), Some("Z:I"));
    world.run_for(100_000);
    assert_eq!(world.brief(two), "T D:b C:SELECT 1 Z:I");
    assert!(pins(&mut world).is_empty());
    world.everybody_leaves();
}

#[test]
fn statements_of_sql_are_carried_under_their_own_names() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "prepare p"), "C:PREPARE Z:I");
    assert_eq!(world.query(two, "prepare p"), "C:PREPARE Z:I", "the same name, in another client");
    assert!(pins(&mut world).is_empty());
    let prepared = |world: &World| world.ran().iter().filter(|ran| ran.text == "prepare p").count();
    assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I");
    let before = prepared(&world);
    assert_eq!(world.query(one, "deallocate p"), "C:DEALLOCATE Z:I");
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    assert_eq!(prepared(&world), before + 1, "its own comes back");
    assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I");
    assert_eq!(prepared(&world), before + 1, "what was forgotten does not");
    world.everybody_leaves();
}

#[test]
fn what_a_client_leaves_behind_is_gone_before_anybody_else_comes() {
    for left in ["select pg_advisory_lock(1)", "prepare p", "set work_mem=9", "begin;set work_mem=9"] {
        let mut world = World::new(snapshot(1));
        let (one, two) = (world.login(0), world.login(0));
        world.query(one, left);
        world.leave(one);
        world.run_for(10_000);
        assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I", "{left}");
        assert!(pins(&mut world).is_empty());
        assert_eq!(world.lines.len(), 1, "{left}: reused");
        world.everybody_leaves();
    }
}

#[test]
fn what_is_not_understood_keeps_its_server_unless_it_failed() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert!(world.query(one, "frobnicate").starts_with("E:42601"));
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    assert!(pins(&mut world).is_empty());
    world.everybody_leaves();
}

#[test]
fn pinning_may_be_refused() {
    let mut config = snapshot(1);
    config.databases[0].pool.pinning = Pinning::Refuse;
    let mut world = World::new(config);
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "select pg_advisory_lock(1)"), "E:0A000 Z:I");
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(one, "select pg_advisory_lock(1)"), "E:0A000 Z:E");
    assert_eq!(world.query(one, "rollback"), "C:ROLLBACK Z:I");
    let batch = [parse("", "select pg_advisory_lock(1)"), bind("", "", &[]), execute("", 0), sync()];
    world.send(one, &batch.concat());
    world.run_for(10_000);
    assert_eq!(world.brief(one), "1 E:0A000 Z:I");
    assert_eq!(world.query(one, "set work_mem=3"), "C:SET Z:I", "settings are carried all the same");
    assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_pinned_client_that_asks_nothing_is_closed_after_its_time() {
    let mut config = snapshot(1);
    config.databases[0].pool.pin_timeout_ms = 500;
    let mut world = World::new(config);
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "select pg_advisory_lock(1)");
    for _ in 0..3 {
        world.run_for(300_000);
        assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I", "it asks");
    }
    world.send(two, &query("select b"));
    world.run_for(700_000);
    assert!(world.brief(one).starts_with("F:57P05"));
    assert_eq!(world.brief(two), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_cancel_that_meets_our_question_hurts_nobody() {
    for late_us in (0..2_000).step_by(100) {
        let mut world = World::new(snapshot(1));
        let (one, two) = (world.login(0), world.login(0));
        world.send(one, &query("set work_mem=3"));
        world.run_for(late_us);
        world.cancel(one);
        world.run_for(2_000_000);
        let answer = world.brief(one);
        assert!(["C:SET Z:I", "E:57014 Z:I"].contains(&answer.as_str()), "{late_us}: {answer}");
        let kept = if answer.starts_with('C') { "3" } else { "" };
        assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I", "{late_us}");
        assert_eq!(world.query(one, "show work_mem"), format!("T D:{kept} C:SELECT 1 Z:I"), "{late_us}");
        assert_eq!(world.lines.len(), 1, "{late_us}");
        world.everybody_leaves();
    }
}

#[test]
fn an_error_of_ours_leaves_a_pinned_client_its_server() {
    let mut config = snapshot(1);
    config.databases[0].pool.client_statements_bytes = 40;
    let mut world = World::new(config);
    let one = world.login(0);
    world.query(one, "select pg_advisory_lock(1)");
    world.run_for(10_000);
    world.send(one, &[parse("long", &format!("select {}", "x".repeat(60))), sync()].concat());
    world.run_for(10_000);
    assert_eq!(world.brief(one), "E:54000 Z:I");
    assert_eq!(pins(&mut world).len(), 1, "it has its lock still");
    let answer = world.query(one, "select pg_advisory_unlock(1)");
    assert_eq!(answer, "T D:pg_advisory_unlock(1) C:SELECT 1 Z:I");
    assert_eq!(world.session_that_ran("pg_advisory_unlock"), world.session_that_ran("pg_advisory_lock"));
    let two = world.login(0);
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn whoever_is_told_the_number_of_its_process_keeps_it() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "select pg_terminate_backend(pg_backend_pid())");
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I", "nothing left that statement");
    world.query(one, "select pg_backend_pid()");
    assert_eq!(pins(&mut world), ["backend pid: select pg_backend_pid()"]);
    world.send(two, &query("select b"));
    world.run_for(100_000);
    assert_eq!(world.brief(two), "", "waits");
    world.leave(one);
    world.run_for(10_000);
    assert_eq!(world.brief(two), "T D:b C:SELECT 1 Z:I");
    assert!(world.ran().iter().all(|ran| ran.text != "DISCARD ALL"), "nothing was there to be undone");
    assert_eq!(world.lines.len(), 1);
    world.everybody_leaves();
}

#[test]
fn the_number_of_a_process_pins_until_all_is_discarded() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    let batch = [parse("", "select pg_backend_pid()"), bind("", "", &[]), execute("", 0), sync()];
    world.send(one, &batch.concat());
    world.run_for(10_000);
    assert_eq!(world.brief(one), "1 2 D:pg_backend_pid() C:SELECT 1 Z:I");
    assert_eq!(pins(&mut world).len(), 1);
    assert_eq!(world.query(one, "discard all"), "C:DISCARD ALL Z:I");
    assert!(pins(&mut world).is_empty());
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn kinds_that_nobody_else_meets_may_be_left_unpinned() {
    for is_refused in [false, true] {
        let mut config = snapshot(1);
        let pool = &mut config.databases[0].pool;
        if is_refused {
            pool.pinning = Pinning::Refuse;
        } else {
            pool.pin_ignore = Traces::PROCESS;
        }
        let mut world = World::new(config);
        let (one, two) = (world.login(0), world.login(0));
        assert!(world.query(one, "select pg_backend_pid()").ends_with("C:SELECT 1 Z:I"));
        assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
        assert!(pins(&mut world).is_empty());
        world.everybody_leaves();
    }
}

#[test]
fn more_state_than_a_client_may_carry_keeps_its_server() {
    let long = "x".repeat(100);
    for name in ["work_mem", "app.mark", "DateStyle"] {
        let mut config = snapshot(1);
        config.databases[0].pool.client_state_bytes = 100;
        let mut world = World::new(config);
        let (one, two) = (world.login(0), world.login(0));
        world.query(one, &format!("set {name}=short"));
        world.run_for(10_000);
        assert!(pins(&mut world).is_empty(), "{name}");
        world.query(one, &format!("set {name}={long}"));
        world.run_for(10_000);
        assert_eq!(pins(&mut world).len(), 1, "{name}");
        world.send(two, &query(&format!("show {name}")));
        assert_eq!(world.query(one, &format!("show {name}")), format!("T D:{long} C:SELECT 1 Z:I"));
        assert_eq!(world.brief(two), "", "waits");
        world.query(one, "discard all");
        world.run_for(10_000);
        let default = if name == "DateStyle" { "ISO, MDY" } else { "" };
        let told = world.brief(two);
        assert_eq!(told, format!("T D:{default} C:SELECT 1 Z:I"));
        world.query(one, &format!("set {name}={long}"));
        world.leave(one);
        world.run_for(10_000);
        assert_eq!(world.query(two, &format!("show {name}")), format!("T D:{default} C:SELECT 1 Z:I"));
        assert_eq!(world.lines.len(), 1);
        world.everybody_leaves();
    }
}

#[test]
fn a_time_limit_of_a_client_is_lifted_while_its_server_is_asked() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    world.query(one, "set statement_timeout=1");
    world.query(one, "set default_transaction_isolation=serializable");
    world.query(one, "set work_mem=2");
    assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "show work_mem"), "T D:2 C:SELECT 1 Z:I");
    let lifted = |what: &str| world.ran().iter().filter(|ran| ran.text.contains(what)).count();
    assert_eq!(lifted("set_config('statement_timeout','0',true)"), 3);
    // Twice for questions, twice for settings that are taken back or applied.
    assert_eq!(lifted("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"), 4);
    world.everybody_leaves();
}

#[test]
fn functions_and_tables_that_touch_the_session_unseen_are_known_by_configuration() {
    let touched = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut config = snapshot(1);
    config.databases[0].stateful_functions = vec![
        ("app.login".to_owned(), touched(&["work_mem"])),
        ("lock".to_owned(), touched(&["advisory lock"])),
    ];
    config.databases[0].stateful_tables = vec![("app.orders".to_owned(), touched(&["work_mem"]))];
    let mut world = World::new(config);
    let (one, two) = (world.login(0), world.login(0));
    // The scripted database carries a function's body out as statements behind its call.
    world.query(one, "select app.login();call set work_mem=5");
    assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "show work_mem"), "T D:5 C:SELECT 1 Z:I");
    // As if a trigger of this table's had.
    world.query(one, "select 1 from Orders;call set work_mem=6");
    assert_eq!(world.query(two, "show work_mem"), "T D: C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "show work_mem"), "T D:6 C:SELECT 1 Z:I");
    world.query(two, "select b");
    let batch = [parse("s", "select lock()"), bind("", "s", &[]), execute("", 0), sync()].concat();
    let asked = |world: &World| world.ran().iter().filter(|ran| ran.text.contains("'locks'")).count();
    world.send(two, &batch);
    world.run_for(10_000);
    assert_eq!(asked(&world), 1);
    assert!(pins(&mut world).is_empty(), "no lock was taken");
    world.everybody_leaves();
}

#[test]
fn a_time_limit_is_applied_last_and_taken_back_first() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    for (client, value) in [(one, 1), (two, 2)] {
        for name in ["a.a", "statement_timeout", "work_mem"] {
            world.query(client, &format!("set {name}={value}"));
        }
    }
    world.run_for(10_000);
    let before = world.ran().len();
    assert_eq!(world.query(one, "show work_mem"), "T D:1 C:SELECT 1 Z:I");
    let ran: Vec<String> = world.ran().into_iter().skip(before).map(|ran| ran.text).collect();
    assert_eq!(ran.len(), 5, "{ran:?}");
    assert_eq!(ran[0], "RESET \"statement_timeout\"");
    assert!(ran[3].contains("'statement_timeout','1'"), "{ran:?}");
    world.everybody_leaves();
}

#[test]
fn a_seed_keeps_its_server_and_the_server_ends_with_it() {
    let mut world = World::new(snapshot(1));
    let one = world.login(0);
    world.query(one, "select setseed(0.5)");
    assert_eq!(pins(&mut world), ["seed: select setseed(?)"]);
    world.query(one, "discard all");
    assert_eq!(pins(&mut world).len(), 1, "random numbers go on as before");
    world.leave(one);
    world.run_for(10_000);
    let two = world.login(0);
    assert_eq!(world.query(two, "select b"), "T D:b C:SELECT 1 Z:I");
    assert_ne!(world.session_that_ran("setseed"), world.session_that_ran("select b"));
    world.everybody_leaves();
}
