//! Servers that die: each lost unit of work gets one error and its Ready, and the client stays.
//!
//! The database dies in every phase of a request; what the client has been shown must stay readable.

use maitred_relay::sim::database::Door;
use maitred_relay::sim::frontend::{bind, copy_data, copy_done, execute, flush, parse, query, sync, Reply};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, World};
use maitred_relay::snapshot::{PoolMode, WhenDown};

#[test]
fn a_server_that_dies_idle_is_replaced_unseen() {
    let mut world = World::new(snapshot(2));
    let client = world.login(0);
    assert_eq!(world.query(client, "select a"), "T D:a C:SELECT 1 Z:I");
    world.disturb(0, |session| session.end());
    world.run_for(1_000);
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    world.disturb(1, |session| session.terminate(b"57P01", "terminating connection"));
    world.run_for(1_000);
    assert_eq!(world.query(client, "select c"), "T D:c C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_server_that_has_said_goodbye_is_not_lent_before_it_hangs_up() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.disturb(0, |session| session.say_goodbye_only(b"57P01", "terminating connection"));
    world.run_for(1_000);
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn what_a_server_says_in_one_breath_with_its_login_is_heard() {
    for splits in [Pieces::Whole, Pieces::Random] {
        for seed in 1..20 {
            let mut world = World::with_workers(snapshot(1), 1, seed);
            world.pieces = splits;
            world.breath = b"S\0\0\0\x0eTimeZone\0X\0N\0\0\0\x05\0".to_vec();
            world.breath[4] = 4 + 9 + 2;
            let client = world.login(0);
            assert_eq!(world.query(client, "select a"), "T D:a C:SELECT 1 Z:I");
            assert_eq!(world.lines.len(), 1, "nothing was lost, so there was no doubt");
            world.breath.clear();
            world.everybody_leaves();
        }
    }
    let mut world = World::new(snapshot(1));
    world.breath = b"E\0\0\0\x26SFATAL\0VFATAL\0C57P01\0Mgoodbye now\0\0".to_vec();
    world.breath[4] = world.breath.len() as u8 - 1;
    let client = world.arrive(0, "ann", "shop");
    world.run_for(2_000);
    world.breath.clear();
    world.run_for(5_000_000);
    assert!(world.is_ready(client));
    world.take(client);
    assert_eq!(world.query(client, "select a"), "T D:a C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_server_that_says_fatal_and_hangs_leaves_nobody_waiting() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.send(client, &query("sleep 5000000 x"));
    world.run_for(1_000);
    world.disturb(0, |session| session.say_goodbye_only(b"57P01", "terminating connection"));
    world.run_for(10_000);
    let told = world.take(client);
    let text = format!("{told:?}");
    assert!(
        text.contains("57P01") && text.contains("terminating connection") && !text.contains("fatal: true"),
        "{text}"
    );
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn one_that_dies_running_costs_one_error_and_one_ready() {
    for death in ["die", "fatal"] {
        let mut world = World::new(snapshot(1));
        let client = world.login(0);
        let code = if death == "fatal" { "57P01" } else { "08006" };
        assert_eq!(world.query(client, death), format!("E:{code} Z:I"));
        // What a process has not sent when it is killed nobody gets.
        let told = if death == "fatal" { "T D:a C:SELECT 1 E:57P01 Z:I" } else { "E:08006 Z:I" };
        assert_eq!(world.query(client, &format!("select a; {death}; select b")), told);
        assert_eq!(world.query(client, "select c"), "T D:c C:SELECT 1 Z:I");
        world.everybody_leaves();
    }
}

#[test]
fn the_cause_is_told_in_the_databases_words() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.send(client, &query("fatal"));
    world.run_for(10_000);
    let text = format!("{:?}", world.take(client));
    assert!(
        text.contains("terminating connection due to administrator command") && text.contains("db1"),
        "{text}"
    );
    world.everybody_leaves();
}

#[test]
fn one_that_dies_in_an_idle_transaction_tells_the_next_request() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    world.disturb(0, |session| session.end());
    world.run_for(10_000);
    assert_eq!(world.brief(client), "", "nothing was asked");
    assert_eq!(world.query(client, "select lost"), "E:08006 Z:I");
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    assert!(world.ran().iter().all(|ran| ran.text != "select lost"));

    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    world.disturb(1, |session| session.end());
    world.run_for(10_000);
    let batch = [parse("", "select lost"), bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(world.ask(client, &batch), "E:08006 Z:I", "a whole batch is one unit");
    assert_eq!(world.ask(client, &batch), "1 2 D:lost C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn the_databases_own_code_tells_why_a_transaction_ended() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    world.disturb(0, |session| session.terminate(b"25P03", "terminating connection due to idle"));
    world.run_for(10_000);
    assert_eq!(world.query(client, "select lost"), "E:25P03 Z:I");
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn one_that_dies_with_what_its_client_left_there_tells_the_next_request() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    for (at, (left, told)) in
        [("select pg_advisory_lock(1)", "E:57P01 Z:I"), ("select lastval", "T D:b C:SELECT 1 Z:I")]
            .into_iter()
            .enumerate()
    {
        world.query(client, left);
        world.run_for(10_000);
        world.disturb(at, |session| session.terminate(b"57P01", "terminating connection"));
        world.run_for(10_000);
        assert_eq!(world.query(client, "select b"), told, "{left}");
        assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    }
    world.everybody_leaves();
}

#[test]
fn one_that_dies_in_a_busy_transaction_ends_the_transaction() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(world.query(client, "begin"), "C:BEGIN Z:T");
    assert_eq!(world.query(client, "die"), "E:08006 Z:I");
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn each_unit_of_a_pipeline_gets_its_error_and_its_ready() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    let unit = |text: &str| [parse("", text), bind("", "", &[]), execute("", 0), sync()].concat();
    let pipeline =
        [unit("select a"), unit("die"), unit("select c"), query("select d"), unit("select e")].concat();
    let told = world.ask_for(client, &pipeline, 5);
    assert_eq!(told, "1 2 D:a C:SELECT 1 Z:I E:08006 Z:I E:08006 Z:I E:08006 Z:I E:08006 Z:I");
    assert_eq!(world.query(client, "select f"), "T D:f C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn what_follows_a_loss_before_the_sync_is_skipped() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.send(client, &[parse("", "die"), bind("", "", &[]), execute("", 0), flush()].concat());
    world.run_for(10_000);
    assert_eq!(world.brief(client), "E:08006");
    world.send(client, &[bind("", "", &[]), execute("", 0)].concat());
    world.run_for(10_000);
    assert_eq!(world.brief(client), "");
    assert_eq!(world.ask(client, &sync()), "Z:I");
    assert_eq!(world.query(client, "select f"), "T D:f C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn one_that_dies_in_the_middle_of_copy() {
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    world.send(client, &query("copyin t"));
    world.run_for(1_000);
    assert_eq!(world.brief(client), "G");
    world.send(client, &copy_data(b"one"));
    world.run_for(1_000);
    world.disturb(0, |session| session.end());
    world.run_for(1_000);
    assert_eq!(world.brief(client), "E:08006 Z:I");
    // The client has not noticed yet.
    world.send(client, &[copy_data(b"two"), copy_done()].concat());
    assert_eq!(world.query(client, "select f"), "T D:f C:SELECT 1 Z:I");

    let batch = [parse("", "copyin t"), bind("", "", &[]), execute("", 0), flush()].concat();
    world.send(client, &batch);
    world.run_for(1_000);
    assert_eq!(world.brief(client), "1 2 G");
    world.disturb(1, |session| session.end());
    world.run_for(1_000);
    world.send(client, &[copy_data(b"two"), copy_done()].concat());
    assert_eq!(world.ask(client, &sync()), "E:08006 Z:I");
    assert_eq!(world.query(client, "select f"), "T D:f C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn half_a_message_is_never_followed_by_another() {
    // Small enough to be held whole: the client is told and stays.
    let mut world = World::new(snapshot(1));
    let client = world.login(0);
    assert_eq!(world.query(client, "halfrow 1000"), "T E:08006 Z:I");
    assert_eq!(world.query(client, "select f"), "T D:f C:SELECT 1 Z:I");
    // Too large: half of it is with the client already, who can only be closed.
    world.clients[client].is_raw = true;
    world.send(client, &query("halfrow 100000"));
    world.run_for(100_000);
    assert!(world.clients[client].is_closed);
    let raw = &world.clients[client].raw;
    assert!(raw.ends_with(&[b'h'; 1000]), "nothing was put behind half a message");
    world.everybody_leaves();
}

#[test]
fn in_session_mode_the_session_is_over_with_its_server() {
    let mut config = snapshot(1);
    config.databases[0].pool.mode = PoolMode::Session;
    let mut world = World::new(config);
    let client = world.login(0);
    assert_eq!(world.query(client, "select a"), "T D:a C:SELECT 1 Z:I");
    assert_eq!(world.query(client, "die"), "F:08006");
    assert!(world.clients[client].is_closed);
    let client = world.login(0);
    assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I");
    world.everybody_leaves();
}

#[test]
fn a_restart_under_load_costs_only_what_was_running() {
    let mut world = World::with_workers(snapshot(5), 2, 7);
    let clients: Vec<usize> = (0..32).map(|at| world.login(at % 2)).collect();
    let (mut errors, mut answers) = (0, 0);
    for client in &clients {
        world.send(*client, &query("sleep 3000 x"));
    }
    let until = world.now + 3_000_000;
    let (dies_at, back_at) = (world.now + 500_000, world.now + 1_500_000);
    let (mut has_died, mut is_back) = (false, false);
    while world.now < until {
        world.step();
        if world.now >= dies_at && !has_died {
            has_died = true;
            world.doors.insert("db1".into(), Door::Down);
            for line in 0..world.lines.len() {
                world.disturb(line, |session| session.terminate(b"57P01", "the database restarts"));
            }
        }
        if world.now >= back_at && !is_back {
            is_back = true;
            world.doors.clear();
        }
        for client in &clients {
            if world.is_ready(*client) {
                match world.brief(*client).as_str() {
                    "T D:x C:SELECT 1 Z:I" => answers += 1,
                    "E:08006 Z:I" | "E:57P01 Z:I" => errors += 1,
                    told => panic!("{told}"),
                }
                world.send(*client, &query("sleep 3000 x"));
            }
        }
    }
    assert!((1..=5).contains(&errors), "{errors} errors where five were running");
    assert!(answers > 1_000, "{answers}");
    world.run_for(2_000_000);
    world.everybody_leaves();
}

#[test]
fn lasting_refusals_are_told_at_once_and_passing_ones_are_waited_for() {
    let lasting: [(&[u8; 5], &str); 3] = [
        (b"28P01", "password authentication failed"),
        (b"3D000", "database does not exist"),
        (b"28000", "no pg_hba.conf entry"),
    ];
    for (state, text) in lasting {
        let mut world = World::new(snapshot(1));
        world.doors.insert("db1".into(), Door::Refuse(*state, text.into()));
        let client = world.arrive(0, "ann", "shop");
        world.run_for(50_000);
        assert!(world.clients[client].is_closed, "{text}");
        let told = format!("{:?}", world.take(client));
        assert!(told.contains(text) && told.contains(std::str::from_utf8(state).expect("letters")), "{told}");
        world.everybody_leaves();
    }
    let mut world = World::new(snapshot(1));
    world.doors.insert("db1".into(), Door::Refuse(*b"57P03", "the database system is starting up".into()));
    let client = world.arrive(0, "ann", "shop");
    world.run_for(1_000_000);
    assert!(!world.clients[client].is_closed);
    world.doors.clear();
    world.run_for(3_000_000);
    assert!(world.is_ready(client) && !world.clients[client].is_closed);
    world.everybody_leaves();
}

#[test]
fn a_newcomer_is_told_of_a_try_of_its_own_and_not_of_an_older_one() {
    let mut world = World::new(snapshot(1));
    world.doors.insert("db1".into(), Door::Refuse(*b"3D000", "database does not exist".into()));
    for _ in 0..5 {
        let client = world.arrive(0, "ann", "shop");
        world.run_for(200_000);
        assert!(world.clients[client].is_closed);
    }
    assert_eq!(world.attempts.len(), 5);
    world.doors.clear();
    let client = world.arrive(0, "ann", "shop");
    world.run_for(200_000);
    assert!(world.is_ready(client) && !world.clients[client].is_closed);
    world.everybody_leaves();
}

#[test]
fn known_to_be_down_fails_at_once_where_that_is_configured() {
    let mut config = snapshot(1);
    config.databases[0].pool.when_down = WhenDown::Fail;
    let mut world = World::with_workers(config, 2, 1);
    let clients = [world.login(0), world.login(1)];
    for door in [Door::Down, Door::Hangup, Door::Refuse(*b"53300", "too many clients already".into())] {
        for line in 0..world.lines.len() {
            world.disturb(line, |session| session.end());
        }
        world.doors.insert("db1".into(), door.clone());
        world.run_for(10_000);
        for client in clients {
            let from = world.now;
            assert!(world.query(client, "select a").starts_with("E:"), "{door:?}");
            assert!(world.now - from < 20_000, "{door:?}: {}", world.now - from);
        }
        let from = world.now;
        let told = world.query(clients[0], "select a");
        assert!(told.starts_with("E:") && world.now - from < 1_000, "{door:?}: {told}");
        world.doors.clear();
        world.run_for(5_000_000);
        world.query(clients[0], "select probe");
        world.run_for(1_000_000);
        for client in clients {
            assert_eq!(world.query(client, "select b"), "T D:b C:SELECT 1 Z:I", "{door:?}");
        }
    }
    world.everybody_leaves();
}

#[test]
fn a_client_that_gave_up_its_login_leaves_no_trace() {
    let mut world = World::new(snapshot(1));
    world.doors.insert("db1".into(), Door::Down);
    let clients: Vec<usize> = (0..5).map(|_| world.arrive(0, "ann", "shop")).collect();
    world.run_for(300_000);
    for client in clients {
        world.leave(client);
    }
    world.run_for(10_000);
    let attempts = world.attempts.len();
    world.run_for(10_000_000);
    assert_eq!(world.attempts.len(), attempts, "nobody waits, nothing is tried");
    world.everybody_leaves();
}

#[test]
fn garbage_from_a_server_closes_that_server_only() {
    let mut world = World::new(snapshot(2));
    let (one, two) = (world.login(0), world.login(0));
    world.send(two, &query("sleep 50000 t"));
    world.run_for(1_000);
    let told = world.ask(one, &query("garbage"));
    assert_eq!(told, "E:08006 Z:I");
    world.run_for(100_000);
    assert_eq!(world.brief(two), "T D:t C:SELECT 1 Z:I");
    assert_eq!(world.query(one, "select a"), "T D:a C:SELECT 1 Z:I");
    assert!(world.take(two).iter().all(|reply| !matches!(reply, Reply::Error { .. })));
    world.everybody_leaves();
}
