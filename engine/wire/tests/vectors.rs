//! Golden vectors: bytes written down apart from this code, read by every decoder and compared with
//! every message that we author.

use maitred_wire::auth::channel_binding::certificate_hash;
use maitred_wire::postgres::startup::{self, Opening};
use maitred_wire::postgres::{frame, intent, progress, reply, spec, statement};
use maitred_wire::{CancelKey, Code, Complaint, Fault, Transaction};

mod vector;
use vector::{read, Vector};

const LIMIT: usize = spec::limits::MESSAGE_BYTES;

/// Cut all messages with `next`; what each was, in words.
fn cut(
    bytes: &[u8],
    next: impl Fn(&[u8]) -> Result<Option<(String, usize)>, Fault>,
) -> Result<String, Fault> {
    let mut words = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (word, total) = next(rest)?.expect("a vector holds whole messages");
        assert!(total <= rest.len(), "message of {total} bytes in {}", rest.len());
        words.push(word);
        rest = &rest[total..];
    }
    Ok(words.join(" "))
}

fn client(input: &[u8]) -> Result<Option<(String, usize)>, Fault> {
    Ok(intent::next(input, LIMIT)?.map(|found| (format!("{:?}", found.intent), found.total)))
}

fn server(input: &[u8]) -> Result<Option<(String, usize)>, Fault> {
    Ok(progress::next(input, LIMIT)?.map(|found| (format!("{:?}", found.progress), found.total)))
}

/// Every vector means what it says, and every beginning of it means the same or nothing yet.
fn check(vectors: &[Vector], next: impl Fn(&[u8]) -> Result<Option<(String, usize)>, Fault>) {
    for vector in vectors {
        let expected = vector.header("expect");
        let found = cut(&vector.bytes, &next);
        match expected {
            // Messages of a login have no place in a session.
            "fault" | "login" => assert!(found.is_err(), "{}: {found:?}", vector.name),
            _ => assert_eq!(found.as_deref(), Ok(expected), "{}", vector.name),
        }
        let whole = next(&vector.bytes);
        for end in 0..vector.bytes.len() {
            let part = next(&vector.bytes[..end]);
            assert!(part == Ok(None) || part == whole, "{}: {part:?} of {end} bytes", vector.name);
        }
        for header in ["meaning", "section", "direction"] {
            assert!(!vector.header(header).is_empty());
        }
    }
}

#[test]
fn client_messages() {
    let vectors = read("postgres/client");
    assert!(vectors.len() >= 27);
    check(&vectors, client);
}

#[test]
fn server_messages() {
    let vectors = read("postgres/server");
    assert!(vectors.len() >= 32);
    check(&vectors, server);
}

#[test]
fn transcripts_of_a_real_server() {
    let vectors = read("postgres/transcripts");
    assert!(vectors.len() >= 11);
    check(&vectors, server);
    for vector in vectors {
        assert!(vector.header("expect").contains("Ready("), "{}", vector.name);
    }
}

fn opening(bytes: &[u8]) -> Result<String, Complaint> {
    let length = startup::packet_length(bytes)?.expect("a vector holds a whole packet");
    assert_eq!(length, bytes.len(), "the length fits");
    Ok(match startup::read(bytes)? {
        Opening::Tls => "Tls".into(),
        Opening::GssEncryption => "GssEncryption".into(),
        Opening::Cancel(key) => {
            let hex: String = key.secret.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("Cancel {} {hex}", key.pid)
        }
        Opening::Session(session) => {
            let found = session.startup;
            let database = if found.database.is_empty() { "-" } else { &found.database };
            format!("Session {} {database} 3.{}", found.user, found.minor)
        }
        Opening::Unsupported { .. } => "Unsupported".into(),
    })
}

#[test]
fn first_packets() {
    let vectors = read("postgres/startup");
    assert!(vectors.len() >= 14);
    for vector in vectors {
        match vector.header("expect") {
            "fault" => {
                let found = opening(&vector.bytes);
                assert!(found.is_err_and(|complaint| complaint.fatal), "{}", vector.name);
            }
            expected => assert_eq!(opening(&vector.bytes).as_deref(), Ok(expected), "{}", vector.name),
        }
    }
}

/// What the function of that name writes.
fn authored(name: &str) -> Vec<u8> {
    let key = |secret: Vec<u8>| CancelKey { pid: 4711, secret };
    let short = || key(vec![1, 2, 3, 4]);
    let mut out = Vec::new();
    let to = &mut out;
    match name {
        "auth_ok" => reply::auth_ok(to),
        "bound" => reply::bound(to),
        "cancel_request" => reply::cancel_request(to, &short()),
        "close_statement" => reply::close_statement(to, "s1"),
        "closed" => reply::closed(to),
        "command_complete" => reply::command_complete(to, "SELECT 1"),
        "data_row" => reply::data_row(to, &[Some("x"), None, Some("")]),
        "empty_query" => reply::empty_query(to),
        "error" => {
            let complaint = Complaint::fatal(Code::TooManyConnections, "too many clients");
            reply::error(to, &complaint.detail("10 of 10").hint("raise limits.clients"));
        }
        "key" => reply::key(to, &short()),
        "key_long" => reply::key(to, &key((0..32).collect())),
        "negotiate_version" => reply::negotiate_version(to, 0, &["_pq_.test".to_owned()]),
        "no_data" => reply::no_data(to),
        "notice" => reply::notice(to, "hello"),
        "prepared" => reply::prepared(to),
        "query" => reply::query(to, "SELECT 1"),
        "ready_failed" => reply::ready(to, Transaction::Failed),
        "ready_none" => reply::ready(to, Transaction::None),
        "ready_open" => reply::ready(to, Transaction::Open),
        "row_description" => {
            use reply::ColumnType::{Int8, Text};
            reply::row_description(to, &[("a", Text), ("b", Int8)]);
        }
        "setting" => reply::setting(to, "TimeZone", "UTC"),
        "ssl_request" => reply::ssl_request(to),
        "startup" => reply::startup(to, 0, [("user", "app"), ("database", "shop")]),
        "sync" => reply::sync(to),
        "terminate" => reply::terminate(to),
        "write_copy_fail" => statement::write_copy_fail(to, "client gone"),
        "write_describe" => statement::write_describe(to, b"s1"),
        "write_prepare" => statement::write_prepare(to, b"s1", b"SELECT $1\0\0\x01\0\0\0\x17"),
        other => panic!("no function is known by the name {other}"),
    }
    out
}

#[test]
fn messages_that_we_author() {
    let mut count = 0;
    for folder in ["postgres/client", "postgres/server", "postgres/startup"] {
        for vector in read(folder) {
            if let Some(name) = vector.authored() {
                assert_eq!(authored(name), vector.bytes, "{name}");
                count += 1;
            }
        }
    }
    assert!(count >= 28, "{count}");
}

#[test]
fn names_inside_messages() {
    let vectors = read("postgres/client");
    let bytes = |name: &str| &vectors.iter().find(|vector| vector.name == name).expect("there").bytes[..];
    let prepare = statement::prepare_of(bytes("parse")).expect("well formed");
    assert_eq!(
        (prepare.name, statement::definition_text(prepare.definition)),
        (&b"s1"[..], &b"SELECT $1"[..])
    );
    let bind = bytes("bind");
    let head = statement::bind_head(bind, bind.len()).expect("well formed").expect("whole");
    assert_eq!((head.portal, head.statement), (&b"p1"[..], &b"s1"[..]));
    assert_eq!(statement::target_name(bytes("close-portal")), Ok(&b"p1"[..]));
    assert_eq!(statement::query_text(bytes("query")), b"SELECT 1");
}

#[test]
fn errors_of_a_real_server_are_read() {
    let vectors = read("postgres/transcripts");
    let vector = vectors.iter().find(|vector| vector.name == "simple-error-in-transaction").expect("there");
    let mut rest = &vector.bytes[..];
    while let Some((tag, total)) = frame::header(rest, LIMIT).expect("well formed") {
        if tag == spec::ERROR_RESPONSE {
            let fields = reply::error_fields(&rest[frame::HEADER..total]);
            assert_eq!((fields.severity, &fields.state()), (&b"ERROR"[..], b"22012"));
            assert_eq!((fields.text().as_str(), fields.routine), ("division by zero", &b"int4div"[..]));
            return;
        }
        rest = &rest[total..];
    }
    panic!("the transcript holds an error");
}

#[test]
fn certificates_give_their_end_point_hash() {
    let vectors = read("certificates");
    assert!(vectors.len() >= 9);
    for vector in vectors {
        let found = certificate_hash(&vector.bytes)
            .map_or("none".to_owned(), |hash| hash.iter().map(|byte| format!("{byte:02x}")).collect());
        assert_eq!(found, vector.header("expect"), "{}", vector.name);
        for end in 0..vector.bytes.len() {
            assert_eq!(certificate_hash(&vector.bytes[..end]), None, "{} cut at {end}", vector.name);
        }
    }
}
