//! Settings: each client has its own, whichever server it is lent; reports reach whom they concern.
//!
//! The scripted database keeps settings per session and reports changes just before Ready.

use maitred_relay::sim::frontend::{query, startup};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::World;

fn login_with(world: &mut World, parameters: &[(&str, &str)]) -> (usize, String) {
    let client = world.open(0);
    let all = [&[("user", "ann"), ("database", "shop")], parameters].concat();
    world.send(client, &startup(&all));
    world.run_until(|world| world.is_ready(client), 10_000_000);
    let told = world.brief(client);
    (client, told)
}

#[test]
fn startup_parameters_are_told_and_applied_on_each_server() {
    let mut world = World::new(snapshot(2));
    let (tokyo, told) = login_with(&mut world, &[("TimeZone", "Asia/Tokyo"), ("application_name", "one")]);
    assert!(told.contains("S:TimeZone=Asia/Tokyo") && told.contains("S:application_name=one"), "{told}");
    let (utc, told) = login_with(&mut world, &[("client_encoding", "utf-8")]);
    assert!(told.contains("S:TimeZone=UTC") && told.contains("S:client_encoding=UTF8"), "{told}");
    for _ in 0..3 {
        assert_eq!(world.query(tokyo, "show TimeZone"), "T D:Asia/Tokyo C:SELECT 1 Z:I");
        assert_eq!(world.query(utc, "show TimeZone"), "T D:UTC C:SELECT 1 Z:I");
        assert_eq!(world.query(utc, "show application_name"), "T D: C:SELECT 1 Z:I");
    }
    assert_eq!(world.query(tokyo, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(utc, "show TimeZone"), "T D:UTC C:SELECT 1 Z:I");
    assert_eq!(world.query(tokyo, "show TimeZone"), "T D:Asia/Tokyo C:SELECT 1 Z:T");
    world.everybody_leaves();
}

#[test]
fn a_parameter_that_nobody_reports_is_applied_too() {
    let mut world = World::new(snapshot(1));
    let (one, _) = login_with(&mut world, &[("options", "-c statement_timeout=5s -c my.own=it\\ works")]);
    let (two, _) = login_with(&mut world, &[]);
    for _ in 0..2 {
        assert_eq!(world.query(one, "show statement_timeout"), "T D:5s C:SELECT 1 Z:I");
        assert_eq!(world.query(two, "show statement_timeout"), "T D: C:SELECT 1 Z:I");
        assert_eq!(world.query(one, "show my.own"), "T D:it works C:SELECT 1 Z:I");
    }
    world.everybody_leaves();
}

#[test]
fn set_lasts_for_its_client_and_is_told_once() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "set TimeZone=Asia/Tokyo"), "C:SET S:TimeZone=Asia/Tokyo Z:I");
    assert_eq!(world.query(two, "show TimeZone"), "T D:UTC C:SELECT 1 Z:I", "and hears nothing of it");
    assert_eq!(world.query(one, "show TimeZone"), "T D:Asia/Tokyo C:SELECT 1 Z:I", "no second report");
    assert_eq!(world.query(one, "set TimeZone=UTC"), "C:SET S:TimeZone=UTC Z:I");
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(one, "set TimeZone=Europe/Paris"), "C:SET S:TimeZone=Europe/Paris Z:T");
    assert_eq!(world.query(one, "rollback"), "C:ROLLBACK S:TimeZone=UTC Z:I");
    assert_eq!(world.query(one, "show TimeZone"), "T D:UTC C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_server_with_the_same_settings_is_preferred() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(one, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(two, "set TimeZone=Asia/Tokyo"), "C:SET S:TimeZone=Asia/Tokyo Z:I");
    assert_eq!(world.query(one, "commit"), "C:COMMIT Z:I");
    for round in 0..5 {
        world.query(one, &format!("select one{round}"));
        world.query(two, &format!("select two{round}"));
    }
    let changes =
        world.ran().into_iter().filter(|ran| ran.text.contains("set_config") || ran.text.contains("RESET"));
    assert_eq!(changes.count(), 0, "each found its own again");
    world.everybody_leaves();
}

#[test]
fn a_setting_that_the_database_refuses_costs_only_the_client_that_brought_it() {
    let mut world = World::new(snapshot(1));
    let other = world.login(0);
    let (client, _) = login_with(&mut world, &[("no_such", "1")]);
    let told = world.query(client, "select x");
    assert_eq!(told, "F:42704");
    assert!(world.clients[client].is_closed);
    world.run_for(10_000);
    assert_eq!(world.query(other, "select o"), "T D:o C:SELECT 1 Z:I");
    let cancels = world.told.iter().filter(|event| format!("{event:?}").contains("cancel")).count();
    assert_eq!(cancels, 0);
    world.everybody_leaves();
}

#[test]
fn a_promotion_disturbs_nobody() {
    let mut world = World::new(snapshot(2));
    let (idle, busy) = (world.login(0), world.login(0));
    assert_eq!(world.query(busy, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(idle, "select a"), "T D:a C:SELECT 1 Z:I");
    for line in 0..world.lines.len() {
        world.disturb(line, |session| session.change_default("in_hot_standby", "on"));
    }
    world.run_for(10_000);
    assert_eq!(world.brief(busy), "S:in_hot_standby=on", "its own session says so");
    assert_eq!(world.query(busy, "commit"), "C:COMMIT Z:I");
    for client in [idle, busy, idle] {
        assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    }
    world.everybody_leaves();
}

#[test]
fn a_default_that_changes_under_a_reload_of_the_database_disturbs_nobody() {
    let mut world = World::new(snapshot(1));
    let (one, two) = (world.login(0), world.login(0));
    assert_eq!(world.query(two, "set TimeZone=Asia/Tokyo"), "C:SET S:TimeZone=Asia/Tokyo Z:I");
    assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I");
    world.disturb(0, |session| session.change_default("DateStyle", "German"));
    world.run_for(10_000);
    for _ in 0..2 {
        assert!(world.query(one, "select b").ends_with("C:SELECT 1 Z:I"));
        assert_eq!(world.query(two, "show TimeZone"), "T D:Asia/Tokyo C:SELECT 1 Z:I");
    }
    world.everybody_leaves();
}

#[test]
fn discard_all_and_reset_bring_back_what_the_client_began_with() {
    let mut world = World::new(snapshot(1));
    let (client, _) = login_with(&mut world, &[("TimeZone", "Asia/Tokyo")]);
    assert_eq!(world.query(client, "set TimeZone=Europe/Paris"), "C:SET S:TimeZone=Europe/Paris Z:I");
    assert!(world.query(client, "discard all").ends_with("Z:I"));
    assert_eq!(world.query(client, "show TimeZone"), "T D:Asia/Tokyo C:SELECT 1 Z:I");
    let (other, _) = login_with(&mut world, &[]);
    assert_eq!(world.query(other, "show TimeZone"), "T D:UTC C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_query_sent_with_the_startup_packet_is_answered_after_it() {
    for wait in [0, 50, 1_000] {
        let mut world = World::new(snapshot(1));
        let client = world.open(0);
        world.send(
            client,
            &[startup(&[("user", "ann"), ("database", "shop")]), query("select first")].concat(),
        );
        world.run_for(wait);
        world.send(client, &query("select second"));
        world.run_for(1_000_000);
        let told = world.brief(client);
        assert!(told.ends_with("Z:I T D:first C:SELECT 1 Z:I T D:second C:SELECT 1 Z:I"), "{wait}: {told}");
        world.everybody_leaves();
    }
}
