//! Each side of a MySQL login against bytes written by hand: order, refusals, and what nobody should send.

use maitred_wire::auth::{caching_sha2, mysql_native};
use maitred_wire::handshake::{ClientStep, Credentials, LoginTo, Method, Refusal, ServerStep, Startup};
use maitred_wire::mysql::handshake_in::{Greeting, HandshakeIn};
use maitred_wire::mysql::handshake_out::{HandshakeOut, SETUP};
use maitred_wire::mysql::spec::capability;
use maitred_wire::mysql::startup::{self, Response};
use maitred_wire::mysql::{errors, frame, greeting};
use maitred_wire::{CancelKey, Code, Complaint, Dialect};

const MOCK: [u8; 32] = [9; 32];
const CAPABILITIES: u64 = capability::PROTOCOL_41
    | capability::LONG_PASSWORD
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::CONNECT_WITH_DB
    | capability::SESSION_TRACK;

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::packet(&mut out, sequence, |out| out.extend_from_slice(payload));
    out
}

fn response(sequence: u8, capabilities: u64, plugin: &str, answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let startup = Startup { user: "app".into(), database: "shop".into(), capabilities, ..Startup::default() };
    let plugin = Some(plugin.to_owned());
    startup::write(&mut out, sequence, &Response { startup, answer: answer.to_vec(), plugin });
    out
}

fn taken(machine: &mut HandshakeIn) -> Vec<u8> {
    let mut out = Vec::new();
    machine.take_output(&mut out);
    out
}

fn plain(password: &str) -> Credentials {
    Credentials { plain: Some(password.into()), ..Credentials::default() }
}

fn greeting(method: Method) -> Greeting {
    Greeting { method, capabilities: capability::SESSION_TRACK, ..Greeting::default() }
}

/// A client that has been greeted: its machine and the nonce it was told.
fn greeted(greeting: Greeting) -> (HandshakeIn, [u8; 20]) {
    let mut machine = HandshakeIn::new(greeting);
    let told = greeting::read(&taken(&mut machine)[4..]).unwrap();
    assert_eq!(told.nonce, machine.nonce());
    (machine, told.nonce)
}

/// Feed bytes that must make it fail: the error number it says, its sequence number, and the complaint.
fn refused(machine: &mut HandshakeIn, bytes: &[u8]) -> (u16, u8, Complaint) {
    machine.feed(bytes);
    let ClientStep::Failed(complaint) = machine.next() else { panic!("went on") };
    assert!(complaint.fatal);
    let out = taken(machine);
    let head = frame::header(&out).unwrap();
    assert_eq!(head.total(), out.len());
    machine.feed(b"more");
    assert_eq!((machine.next(), machine.take_rest()), (ClientStep::NeedMore, Vec::new()));
    (errors::read(&out[4..]).number, head.sequence, complaint)
}

#[test]
fn an_answer_to_the_greeting_is_enough() {
    for (method, plugin) in
        [(Method::MysqlNative, "mysql_native_password"), (Method::CachingSha2, "caching_sha2_password")]
    {
        let (mut machine, nonce) = greeted(greeting(method));
        let answer = match method {
            Method::MysqlNative => mysql_native::answer(b"secret", &nonce).to_vec(),
            _ => caching_sha2::answer(b"secret", &nonce).to_vec(),
        };
        machine.feed(&response(1, CAPABILITIES, plugin, &answer));
        machine.feed(b"what comes behind");
        let ClientStep::Startup(startup) = machine.next() else { panic!("no startup") };
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("app", "shop"));
        assert_eq!(startup.capabilities, CAPABILITIES);
        assert_eq!(machine.next(), ClientStep::NeedMore);
        machine.demand(method, Some(&plain("secret")), &MOCK, None);
        assert_eq!((machine.next(), machine.next()), (ClientStep::LoggedIn, ClientStep::NeedMore));
        let (said, next) = match method {
            Method::MysqlNative => (Vec::new(), 2),
            _ => (packet(2, &[1, 3]), 3),
        };
        assert_eq!((taken(&mut machine), machine.next_sequence()), (said, next));
        assert_eq!(machine.take_rest(), b"what comes behind");
    }
}

#[test]
fn another_plugin_is_switched_to_with_the_same_nonce() {
    for (capabilities, is_switched) in
        [(CAPABILITIES, true), (CAPABILITIES & !capability::PLUGIN_AUTH, false)]
    {
        let (mut machine, nonce) = greeted(greeting(Method::MysqlNative));
        machine.feed(&response(1, capabilities, "mysql_native_password", &[7; 20]));
        assert!(matches!(machine.next(), ClientStep::Startup(_)));
        machine.demand(Method::CachingSha2, Some(&plain("secret")), &MOCK, None);
        let said = taken(&mut machine);
        if is_switched {
            assert_eq!(machine.next(), ClientStep::NeedMore);
            assert_eq!(said, packet(2, &[b"\xfecaching_sha2_password\0", &nonce[..], &[0]].concat()));
            machine.feed(&packet(3, &caching_sha2::answer(b"secret", &nonce)));
            assert_eq!(machine.next(), ClientStep::LoggedIn);
            assert_eq!((taken(&mut machine), machine.next_sequence()), (packet(4, &[1, 3]), 5));
        } else {
            assert!(matches!(machine.next(), ClientStep::Failed(_)));
            assert_eq!(errors::read(&said[4..]).number, 1251);
        }
    }
}

#[test]
fn what_begins_tls_is_not_read_here() {
    let offered = Greeting { tls: true, ..greeting(Method::MysqlNative) };
    let startup = Startup { capabilities: CAPABILITIES | capability::SSL, ..Startup::default() };
    let mut request = Vec::new();
    startup::write_tls_request(&mut request, 1, &startup);
    let (mut machine, _) = greeted(offered.clone());
    machine.feed(&[&request[..], b"\x16\x03\x01"].concat());
    assert_eq!((machine.next(), machine.next()), (ClientStep::TlsAsked, ClientStep::NeedMore));
    machine.answer_tls(true);
    machine.feed(b"\x02\0");
    assert_eq!(machine.next(), ClientStep::NeedMore);
    assert_eq!((machine.take_rest(), taken(&mut machine)), (b"\x16\x03\x01\x02\0".to_vec(), Vec::new()));
    machine.tls_started();
    machine.feed(&response(2, CAPABILITIES | capability::SSL, "mysql_native_password", b""));
    let ClientStep::Startup(startup) = machine.next() else { panic!("no startup") };
    assert_eq!(startup.capabilities, CAPABILITIES | capability::SSL);

    // Twice, or where it was not offered.
    let (mut machine, _) = greeted(offered);
    machine.feed(&request);
    assert_eq!(machine.next(), ClientStep::TlsAsked);
    machine.answer_tls(true);
    machine.tls_started();
    request[3] = 2;
    assert_eq!(refused(&mut machine, &request).0, 1043);
    let (mut machine, _) = greeted(greeting(Method::MysqlNative));
    request[3] = 1;
    machine.feed(&request);
    assert_eq!(machine.next(), ClientStep::TlsAsked);
    machine.answer_tls(false);
    assert_eq!(refused(&mut machine, b"").0, 1043);
}

#[test]
fn a_client_without_tls_does_not_have_its_flag() {
    let (mut machine, _) = greeted(Greeting { tls: true, ..greeting(Method::MysqlNative) });
    machine.feed(&response(1, CAPABILITIES | capability::SSL, "mysql_native_password", b""));
    let ClientStep::Startup(startup) = machine.next() else { panic!("no startup") };
    assert_eq!(startup.capabilities, CAPABILITIES);
}

#[test]
fn broken_packets_are_bad_handshakes() {
    for (bytes, text) in [
        (packet(2, &[0; 40]), "packets out of order"),
        (vec![0xff, 0xff, 0xff, 1], "too long"),
        (packet(1, b""), "too short"),
        (packet(1, &[0x00, 0x02, 0, 0, 0, 0]), "too short"),
        (response(1, CAPABILITIES, "x", b"")[..40].to_vec(), ""),
    ] {
        let (mut machine, _) = greeted(greeting(Method::MysqlNative));
        if text.is_empty() {
            machine.feed(&bytes);
            assert_eq!(machine.next(), ClientStep::NeedMore, "half a packet");
            continue;
        }
        let sequence = bytes[3] + 1;
        let (number, said, complaint) = refused(&mut machine, &bytes);
        assert_eq!((number, said, complaint.code), (1043, sequence, Code::ProtocolViolation));
        assert!(complaint.message.contains(text), "{}", complaint.message);
    }
    let (mut machine, _) = greeted(greeting(Method::MysqlNative));
    assert_eq!(refused(&mut machine, &vec![1; 300 * 1024]).0, 1043);
    // Before 4.1: an error in the form of that time.
    let (mut machine, _) = greeted(greeting(Method::MysqlNative));
    machine.feed(&packet(1, b"\x05\0\0\0\x01app\0secret12\0"));
    assert!(matches!(machine.next(), ClientStep::Failed(_)));
    let said = taken(&mut machine);
    assert_eq!((&said[3..7], said[7]), (&b"\x02\xff\xe3\x04"[..], b't'));
}

#[test]
fn a_refusal_takes_the_place_of_a_greeting_that_was_not_sent() {
    let complaint = Complaint::fatal(Code::TooManyConnections, "too many clients");
    let mut machine = HandshakeIn::new(greeting(Method::MysqlNative));
    machine.refuse(complaint.clone());
    assert!(matches!(machine.next(), ClientStep::Failed(_)));
    assert_eq!(taken(&mut machine), packet(0, b"\xff\x10\x04too many clients"));
    // Sent already: the client reads it behind its own response.
    let (mut machine, _) = greeted(greeting(Method::MysqlNative));
    machine.refuse(complaint.clone());
    assert_eq!(taken(&mut machine), packet(2, b"\xff\x10\x04#08004too many clients"));
    // The database's own number goes before.
    let (mut machine, _) = greeted(greeting(Method::MysqlNative));
    machine.refuse(Complaint { number: Some(1203), sqlstate: Some(*b"42000"), ..complaint });
    assert_eq!(taken(&mut machine), packet(2, b"\xff\xb3\x04#42000too many clients"));
}

#[test]
fn another_user_proves_itself_with_the_nonce_of_the_login() {
    let nonce = *b"0123456789abcdefghij";
    let change = |answer: &[u8], plugin: &str| {
        let head = [b"\x11new\0", &[answer.len() as u8][..], answer, b"store\0\x2d\0"].concat();
        [&head[..], plugin.as_bytes(), &[0]].concat()
    };
    let begin = |payload: &[u8], nonce| {
        let greeting = Greeting { nonce, ..greeting(Method::MysqlNative) };
        HandshakeIn::for_change_user(greeting, payload, 1, CAPABILITIES)
    };
    let right = change(&mysql_native::answer(b"secret", &nonce), "mysql_native_password");
    let mut machine = begin(&right, Some(nonce));
    let ClientStep::Startup(startup) = machine.next() else { panic!("no startup") };
    assert_eq!((startup.user.as_str(), startup.database.as_str()), ("new", "store"));
    assert_eq!((startup.character_set, startup.capabilities), (45, CAPABILITIES));
    machine.demand(Method::MysqlNative, Some(&plain("secret")), &MOCK, None);
    assert_eq!((machine.next(), machine.next_sequence()), (ClientStep::LoggedIn, 1));
    assert_eq!(taken(&mut machine), b"");

    // As `relay` begins it, with the whole message.
    let greeting = Greeting { nonce: Some(nonce), ..greeting(Method::MysqlNative) };
    let mut machine = Dialect::Mysql.changed_user(greeting, &packet(0, &right), CAPABILITIES);
    let ClientStep::Startup(startup) = machine.next() else { panic!("no startup") };
    assert_eq!(startup.user, "new");

    // Where nobody has kept the nonce it is asked anew, and so it is for another plugin.
    for (payload, kept) in [(&right, None), (&change(b"", "caching_sha2_password"), Some(nonce))] {
        let mut machine = begin(payload, kept);
        assert!(matches!(machine.next(), ClientStep::Startup(_)));
        machine.demand(Method::MysqlNative, Some(&plain("secret")), &MOCK, None);
        let nonce = machine.nonce();
        let said = packet(1, &[b"\xfemysql_native_password\0", &nonce[..], &[0]].concat());
        assert_eq!(taken(&mut machine), said);
        machine.feed(&packet(2, &mysql_native::answer(b"secret", &nonce)));
        assert_eq!((machine.next(), machine.next_sequence()), (ClientStep::LoggedIn, 3));
    }

    let mut machine = begin(&change(&[7; 20], "mysql_native_password"), Some(nonce));
    assert!(matches!(machine.next(), ClientStep::Startup(_)));
    machine.demand(Method::MysqlNative, Some(&plain("secret")), &MOCK, None);
    assert!(matches!(machine.next(), ClientStep::Failed(_)));
    assert_eq!(&taken(&mut machine)[3..7], b"\x01\xff\x15\x04");
    let mut machine = begin(b"\x11new", Some(nonce));
    assert!(matches!(machine.next(), ClientStep::Failed(_)));
}

#[test]
fn a_password_is_sent_in_clear_only_where_that_is_safe() {
    let answered = |is_local: bool| {
        let (mut machine, _) = greeted(Greeting { is_local, ..greeting(Method::Password) });
        machine.feed(&response(1, CAPABILITIES, "caching_sha2_password", &[7; 32]));
        assert!(matches!(machine.next(), ClientStep::Startup(_)));
        machine.demand(Method::Password, Some(&plain("secret")), &MOCK, None);
        (taken(&mut machine), machine.next())
    };
    assert_eq!(answered(true), (packet(2, b"\xfemysql_clear_password\0"), ClientStep::NeedMore));
    let (said, step) = answered(false);
    assert_eq!((errors::read(&said[4..]).number, matches!(step, ClientStep::Failed(_))), (1045, true));
}

#[test]
fn long_passwords_are_not_hashed() {
    let (mut machine, _) = greeted(Greeting { is_local: true, ..greeting(Method::CachingSha2) });
    machine.feed(&response(1, CAPABILITIES, "caching_sha2_password", &[7; 32]));
    assert!(matches!(machine.next(), ClientStep::Startup(_)));
    machine.demand(Method::CachingSha2, None, &MOCK, None);
    assert_eq!((machine.next(), taken(&mut machine)), (ClientStep::NeedMore, packet(2, &[1, 4])));
    assert_eq!(refused(&mut machine, &packet(3, &[b'x'; 300])).0, 1045);
}

// Our side towards servers.

fn login() -> LoginTo {
    LoginTo {
        user: "app".into(),
        database: "shop".into(),
        password: Some("secret".into()),
        ..LoginTo::default()
    }
}

/// The first packet of a server, and its nonce.
fn hello(offered: u64, version: &str) -> (Vec<u8>, [u8; 20]) {
    let greeting = Greeting {
        connection_id: 42,
        server_version: version.into(),
        capabilities: offered,
        tls: offered & capability::SSL != 0,
        method: Method::MysqlNative,
        ..Greeting::default()
    };
    let nonce = greeting::nonce();
    let mut out = Vec::new();
    greeting.write(&mut out, &nonce);
    (out, nonce)
}

/// The steps until more bytes are needed, or until the last.
fn steps(machine: &mut HandshakeOut) -> Vec<ServerStep> {
    let mut steps = Vec::new();
    loop {
        match machine.next() {
            ServerStep::NeedMore => return steps,
            step => steps.push(step),
        }
    }
}

fn said(machine: &mut HandshakeOut) -> Vec<u8> {
    let mut out = Vec::new();
    machine.take_output(&mut out);
    out
}

fn setting(name: &str, value: &str) -> ServerStep {
    ServerStep::Setting { name: name.into(), value: value.into() }
}

const OK: &[u8] = b"\0\0\0\x02\0\0\0";

#[test]
fn a_server_is_logged_in_to_and_set_up() {
    let (bytes, nonce) = hello(capability::SESSION_TRACK, "5.5.5-10.11.2-MariaDB");
    let mut machine = HandshakeOut::new(login());
    assert_eq!((steps(&mut machine), said(&mut machine)), (vec![], vec![]));
    machine.feed(&bytes);
    let key = ServerStep::Key(CancelKey { pid: 42, secret: Vec::new() });
    assert_eq!(steps(&mut machine), [setting("version", "10.11.2-MariaDB"), key]);
    let out = said(&mut machine);
    let startup::Opening::Response(found) = startup::read(&out[4..]).unwrap() else { panic!("no response") };
    assert!(mysql_native::is_answer(&mysql_native::stored(b"secret"), &nonce, &found.answer));
    assert_eq!((out[3], found.startup.database.as_str()), (1, "shop"));
    machine.feed(&packet(2, OK));
    assert_eq!(steps(&mut machine), [setting("schema", "shop")]);
    let asked = said(&mut machine);
    let first = frame::header(&asked).unwrap();
    assert_eq!(
        (first.sequence, &asked[4..first.total()]),
        (0, [b"\x03", SETUP.as_bytes()].concat().as_slice())
    );
    assert_eq!(&asked[first.total() + 3..][..34], b"\0\x03SHOW SESSION VARIABLES WHERE Var");
    for (sequence, payload) in [
        (1, OK),
        (1, b"\x02"),
        (2, b"\x03def"),
        (3, b"\x03def"),
        (4, b"\xfe\0\0\x02\0"),
        (5, b"\x08sql_mode\x00"),
    ] {
        machine.feed(&packet(sequence, payload));
    }
    assert_eq!(steps(&mut machine), [setting("sql_mode", "")]);
    machine.feed(&packet(6, b"\xfe\0\0\x22\0"));
    machine.feed(b"rest");
    assert_eq!(steps(&mut machine), [ServerStep::Ready]);
    assert_eq!((machine.status(), machine.take_rest()), (0x22, b"rest".to_vec()));
}

#[test]
fn servers_are_given_up_with_a_reason() {
    let good = hello(capability::SESSION_TRACK, "8.0.36").0;
    let without_tracking = hello(0, "5.6.24").0;
    let mut newer = good.clone();
    newer[4] = 9;
    for (bytes, text) in [
        (without_tracking, "does not track"),
        (newer, "version 10"),
        (packet(0, b"\x0a8.0"), "terminated"),
        (packet(0, b""), "empty packet"),
        (packet(1, b"\x0a"), "out of order"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "too long a packet"),
        ([&good[..], &packet(2, b"\xfe")].concat(), "mysql_old_password"),
        ([&good[..], &packet(2, b"\xfedialog\0")].concat(), "a login by dialog"),
        ([&good[..], &packet(2, b"\xfemysql_clear_password\0")].concat(), "clear text"),
        ([&good[..], &packet(2, b"\xfemysql_native_password\0short\0")].concat(), "20 bytes"),
        ([&good[..], &packet(2, b"\x01\x03")].concat(), "does not have"),
        ([&good[..], &packet(2, b"\0\0\0\x03\0\0\0")].concat(), "transaction is open"),
        ([&good[..], &packet(2, b"\0\0")].concat(), "too short"),
        ([&good[..], &packet(2, b"\x07")].concat(), "no place"),
        ([&good[..], &packet(2, OK), &packet(1, b"\xff\xa9\x04#HY000Unknown")].concat(), "Unknown (1193)"),
        ([&good[..], &packet(2, OK), &packet(1, OK), &packet(1, b"\x03")].concat(), "two columns"),
    ] {
        let mut machine = HandshakeOut::new(login());
        machine.feed(&bytes);
        let steps = steps(&mut machine);
        let Some(ServerStep::Failed(complaint)) = steps.last() else { panic!("{text}: {steps:?}") };
        assert!(complaint.message.contains(text), "{text}: {}", complaint.message);
        machine.feed(b"more");
        assert_eq!((machine.next(), machine.take_rest()), (ServerStep::NeedMore, vec![]));
    }
    let endless: Vec<u8> = (2..40)
        .flat_map(|at: u8| {
            let switch = [b"\xfecaching_sha2_password\0", &[7; 20][..], &[0]].concat();
            packet(at.wrapping_mul(2).wrapping_sub(2), &switch)
        })
        .collect();
    let mut machine = HandshakeOut::new(login());
    machine.feed(&[&good[..], &endless].concat());
    assert!(matches!(steps(&mut machine).last(), Some(ServerStep::Failed(c)) if c.message.contains("end")));
}

#[test]
fn a_server_that_cannot_say_what_clients_read_is_given_up() {
    for (wanted, works) in [
        (capability::DEPRECATE_EOF, false),
        (capability::OPTIONAL_RESULTSET_METADATA, false),
        (capability::MARIADB_CACHE_METADATA, false),
        (capability::MARIADB_EXTENDED_TYPE_INFO, false),
        (capability::FOUND_ROWS | capability::MARIADB_STMT_BULK_OPERATIONS, true),
    ] {
        let mut machine = HandshakeOut::new(LoginTo { capabilities: wanted, ..login() });
        machine.feed(&hello(capability::SESSION_TRACK, "8.0.36").0);
        match steps(&mut machine).last() {
            Some(ServerStep::Failed(complaint)) => {
                assert!(!works && complaint.hint.as_ref().is_some_and(|hint| hint.contains("mysql_version")));
            }
            _ => assert!(works && !said(&mut machine).is_empty()),
        }
    }
}

#[test]
fn a_refusal_before_the_greeting_is_the_databases() {
    for (bytes, state) in [
        (packet(0, b"\xff\x10\x04Too many connections"), b"HY000"),
        (packet(255, b"\xff\x10\x04#08004Too many connections"), b"08004"),
    ] {
        let mut machine = HandshakeOut::new(login());
        machine.feed(&bytes);
        let message = "Too many connections".to_owned();
        let refusal = Refusal { number: 1040, sqlstate: *state, message };
        assert_eq!(steps(&mut machine), [ServerStep::Refused(refusal)]);
    }
}

#[test]
fn tls_is_asked_for_as_configured() {
    let with = |ask_tls, tls_optional, offered| {
        let mut machine = HandshakeOut::new(LoginTo { ask_tls, tls_optional, ..login() });
        machine.feed(&hello(offered | capability::SESSION_TRACK, "8.0.36").0);
        let steps = steps(&mut machine);
        (machine, steps)
    };
    let (mut machine, steps) = with(true, true, capability::SSL);
    assert_eq!(steps.last(), Some(&ServerStep::StartTls));
    let request = said(&mut machine);
    assert_eq!(startup::read(&request[4..]), Ok(startup::Opening::Tls));
    machine.tls_started();
    let response = said(&mut machine);
    assert_eq!((response[3], machine.capabilities() & capability::SSL != 0), (2, true));
    machine.feed(&packet(3, b"\xfemysql_clear_password\0"));
    assert_eq!((machine.next(), said(&mut machine)), (ServerStep::NeedMore, packet(4, b"secret\0")));

    let (mut machine, steps) = with(true, true, 0);
    assert!(!steps.contains(&ServerStep::StartTls));
    assert_eq!(said(&mut machine)[3], 1, "the response, in clear text");
    let (_, steps) = with(true, false, 0);
    assert!(matches!(steps.last(), Some(ServerStep::Failed(c)) if c.message.contains("TLS")));
    // Bytes in clear text behind the request cannot have been encrypted.
    let (mut machine, _) = with(true, true, capability::SSL);
    machine.feed(b"x");
    assert!(matches!(machine.next(), ServerStep::Failed(_)));
}

#[test]
fn nothing_secret_is_shown() {
    let machine = HandshakeOut::new(login());
    assert!(!format!("{machine:?}").contains("secret"));
    let (mut machine, _) = greeted(greeting(Method::MysqlNative));
    machine.feed(&response(1, CAPABILITIES, "mysql_native_password", &[7; 20]));
    assert!(matches!(machine.next(), ClientStep::Startup(_)));
    machine.demand(Method::CachingSha2, Some(&plain("secret")), &MOCK, None);
    assert_eq!(format!("{machine:?}"), "HandshakeIn { user: \"app\", .. }");
}
