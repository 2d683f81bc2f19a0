//! What each fuzz target does with its bytes, and the invariant it holds them to.
//!
//! Uses the public interface of `maitred_wire` and nothing else, so that the same code runs under
//! libFuzzer (`fuzz_targets/`) and in the plain test `engine/wire/tests/fuzz.rs`.
//! A broken invariant panics. The README beside this file states each in words.

use maitred_wire::auth::channel_binding::certificate_hash;
use maitred_wire::auth::scram::{self, Verifier};
use maitred_wire::auth::scram_client::{Binding, ClientExchange};
use maitred_wire::auth::scram_server::ServerExchange;
use maitred_wire::digest::{digest, shape, Lexis};
use maitred_wire::handshake::{ClientStep, Credentials, ErrandOutcome, LoginTo, Method, ServerStep};
use maitred_wire::mysql::compress::Compression;
use maitred_wire::mysql::handshake_in::{self as mysql_in, Greeting};
use maitred_wire::mysql::handshake_out as mysql_out;
use maitred_wire::mysql::spec::capability;
use maitred_wire::postgres::handshake_in::HandshakeIn;
use maitred_wire::postgres::handshake_out::HandshakeOut;
use maitred_wire::postgres::{frame, intent, progress, reply, spec, startup, statement};
use maitred_wire::{proxy_protocol, Intent, Progress};

/// A target: its name, which is also that of its file in `fuzz_targets/`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
#[allow(dead_code)]
pub const ALL: [Target; 12] = [
    ("client_message", client_message),
    ("server_message", server_message),
    ("error_fields", error_fields),
    ("first_packet", first_packet),
    ("handshake_in", handshake_in),
    ("handshake_out", handshake_out),
    ("mysql_handshake_in", mysql_handshake_in),
    ("mysql_handshake_out", mysql_handshake_out),
    ("mysql_compressed", mysql_compressed),
    ("scram_messages", scram_messages),
    ("statement_shape", statement_shape),
    ("proxy_header", proxy_header),
];

const LIMIT: usize = 1 << 20;

pub fn client_message(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(found)) = intent::next(rest, LIMIT) {
        assert!((frame::HEADER..=LIMIT).contains(&found.total));
        let head = &rest[..rest.len().min(frame::HEADER + 1)];
        assert_eq!(intent::next(head, LIMIT), Ok(Some(found)), "six bytes say what a message is");
        if found.intent == Intent::Bind && rest.len() > frame::HEADER {
            bind(&rest[..rest.len().min(found.total)], found.total);
        }
        let Some(message) = rest.get(..found.total) else { return };
        match found.intent {
            Intent::Prepare => prepare(message),
            Intent::Describe(_) | Intent::Close(_) => {
                if let Ok(name) = statement::target_name(message) {
                    assert_eq!(name.len() + frame::HEADER + 2, message.len());
                }
            }
            Intent::Query => {
                assert!(statement::query_text(message).len() <= message.len() - frame::HEADER);
            }
            _ => {}
        }
        rest = &rest[found.total..];
    }
}

/// What was taken apart is written back as it was.
fn prepare(message: &[u8]) {
    if let Ok(prepare) = statement::prepare_of(message) {
        let mut out = Vec::new();
        statement::write_prepare(&mut out, prepare.name, prepare.definition);
        assert_eq!(out, message);
    }
}

fn bind(message: &[u8], total: usize) {
    if let Ok(Some(head)) = statement::bind_head(message, total) {
        let mut out = Vec::new();
        statement::write_bind_head(&mut out, head.portal, head.statement, total - head.rest_at);
        assert_eq!(out, message[..head.rest_at]);
    }
}

pub fn server_message(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(found)) = progress::next(rest, LIMIT) {
        assert!((frame::HEADER..=LIMIT).contains(&found.total));
        let head = &rest[..rest.len().min(frame::HEADER + 1)];
        assert_eq!(progress::next(head, LIMIT), Ok(Some(found)), "six bytes say what a message is");
        let Some(message) = rest.get(..found.total) else { return };
        match found.progress {
            Progress::Failed => error_fields(&message[frame::HEADER..]),
            Progress::Setting => {
                if let Ok((name, value)) = progress::setting_of(message) {
                    assert!(!name.contains(&0) && !value.contains(&0));
                }
            }
            Progress::Finished => {
                progress::tag_of(message);
            }
            _ => {}
        }
        rest = &rest[found.total..];
    }
}

pub fn error_fields(data: &[u8]) {
    let fields = reply::error_fields(data);
    assert!(fields.state().iter().all(u8::is_ascii_alphanumeric));
    let texts =
        [fields.severity, fields.sqlstate, fields.message, fields.detail, fields.hint, fields.routine];
    for text in texts {
        assert!(!text.contains(&0) && text.len() <= data.len());
    }
}

pub fn first_packet(data: &[u8]) {
    let Ok(Some(length)) = startup::packet_length(data) else { return };
    assert!((8..=spec::limits::STARTUP_BYTES).contains(&length));
    let Some(packet) = data.get(..length) else { return };
    match startup::read(packet) {
        Ok(startup::Opening::Session(session)) => {
            let startup = session.startup;
            assert!(!startup.user.is_empty() && startup.minor <= spec::protocol::NEWEST_MINOR);
            let size: usize = startup.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(size <= length, "parameters are not larger than the packet");
            assert!(startup.parameters.iter().all(|(name, _)| !name.is_empty() && !name.contains('\0')));
        }
        Ok(startup::Opening::Cancel(key)) => {
            let mut out = Vec::new();
            reply::cancel_request(&mut out, &key);
            assert_eq!(out, packet);
        }
        Ok(_) => {}
        Err(complaint) => assert!(complaint.fatal),
    }
}

/// Nobody guesses this; and it is compared by its hash, so no comparison gives it away.
const PASSWORD: &str = "correct horse battery staple";

/// The first byte chooses the method and how the rest is split.
pub fn handshake_in(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let method = [Method::Password, Method::Md5, Method::ScramSha256][usize::from(choice % 3)];
    let known = Credentials { plain: Some(PASSWORD.into()), ..Credentials::default() };
    let known = (choice & 0x40 == 0).then_some(known);
    let binding = (choice & 0x80 != 0).then(|| vec![7; 32]);
    let mut machine = HandshakeIn::new();
    let (mut output, mut is_over, mut steps) = (Vec::new(), false, 0);
    for part in bytes.chunks(1 + usize::from(choice >> 2 & 0x0f)) {
        machine.feed(part);
        loop {
            let step = machine.next();
            if step == ClientStep::NeedMore {
                break;
            }
            steps += 1;
            assert!(!is_over, "a step after the last: {step:?}");
            match step {
                ClientStep::TlsAsked => machine.answer_tls(choice & 0x20 != 0),
                ClientStep::Startup(_) => {
                    machine.demand(method, known.as_ref(), &[5; 32], binding.clone());
                }
                // Why: the true work is slow and its result never fits here.
                ClientStep::Errand(_) => machine.errand_done(ErrandOutcome::Salted([0; 32])),
                ClientStep::LoggedIn => panic!("logged in without the password"),
                ClientStep::Cancel(_) | ClientStep::Failed(_) => is_over = true,
                ClientStep::NeedMore => {}
            }
        }
        machine.take_output(&mut output);
    }
    assert!(steps <= 5 && output.len() < 4096 + bytes.len(), "{steps} steps, {} bytes", output.len());
    assert!(!is_over || machine.take_rest().is_empty());
}

/// The first byte chooses TLS, version and how the rest is split.
pub fn handshake_out(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let mut machine = HandshakeOut::new(LoginTo {
        user: "app".into(),
        password: Some(PASSWORD.into()),
        ask_tls: choice & 1 != 0,
        tls_optional: choice & 2 != 0,
        minor: u16::from(choice & 4) / 2,
        ..LoginTo::default()
    });
    if choice & 8 != 0 {
        machine.bind_channel(vec![7; 32]);
    }
    let (mut output, mut is_over, mut settings) = (Vec::new(), false, 0);
    for part in bytes.chunks(1 + usize::from(choice >> 4)) {
        machine.feed(part);
        loop {
            let step = machine.next();
            if step == ServerStep::NeedMore {
                break;
            }
            assert!(!is_over, "a step after the last: {step:?}");
            match step {
                ServerStep::StartTls => machine.tls_started(),
                ServerStep::Errand(_) => machine.errand_done(ErrandOutcome::Salted([0; 32])),
                ServerStep::Setting { .. } => settings += 1,
                ServerStep::Ready => {
                    let mechanism = scram::MECHANISM.as_bytes();
                    let began = output.windows(mechanism.len()).any(|part| part == mechanism);
                    assert!(!began, "a server that does not know the password was believed");
                    is_over = true;
                }
                ServerStep::Refused(_) | ServerStep::Failed(_) => is_over = true,
                ServerStep::Key(_) | ServerStep::NeedMore => {}
            }
            machine.take_output(&mut output);
        }
        machine.take_output(&mut output);
    }
    assert!(settings <= bytes.len() / 7 && output.len() < 4096 + bytes.len());
}

/// The first byte chooses the method and how the rest is split, the second what else is offered.
pub fn mysql_handshake_in(data: &[u8]) {
    let [choice, more, bytes @ ..] = data else { return };
    let methods =
        [Method::Password, Method::MysqlNative, Method::CachingSha2, Method::Ed25519, Method::ScramSha256];
    let method = methods[usize::from(choice % 5)];
    let known = Credentials { plain: Some(PASSWORD.into()), ..Credentials::default() };
    let known = (choice & 0x40 == 0).then_some(known);
    let greeting = Greeting {
        tls: more & 1 != 0,
        is_local: more & 2 != 0,
        method,
        nonce: Some(*b"0123456789abcdefghij"),
        ..Greeting::default()
    };
    let mut output = Vec::new();
    let mut machine = if more & 4 != 0 {
        let flags = capability::PLUGIN_AUTH | capability::SECURE_CONNECTION | capability::CONNECT_ATTRS;
        mysql_in::HandshakeIn::for_change_user(greeting, bytes, 1, flags)
    } else {
        mysql_in::HandshakeIn::new(greeting)
    };
    let (mut is_over, mut steps) = (false, 0);
    for part in bytes.chunks(1 + usize::from(choice >> 2 & 0x0f)) {
        machine.feed(part);
        loop {
            let step = machine.next();
            if step == ClientStep::NeedMore {
                break;
            }
            steps += 1;
            assert!(!is_over, "a step after the last: {step:?}");
            match step {
                ClientStep::TlsAsked => {
                    machine.answer_tls(more & 1 != 0);
                    machine.take_rest();
                    machine.tls_started();
                }
                ClientStep::Startup(_) => machine.demand(method, known.as_ref(), &[5; 32], None),
                // Why: the true work is slow and its result never fits here.
                ClientStep::Errand(_) => {
                    machine.errand_done(ErrandOutcome::Hashed { slow: [0; 32], fast: [0; 32] });
                }
                ClientStep::LoggedIn => panic!("logged in without the password"),
                ClientStep::Failed(complaint) => {
                    assert!(complaint.fatal);
                    is_over = true;
                }
                ClientStep::Cancel(_) => panic!("nothing of MySQL's logins is a cancel"),
                ClientStep::NeedMore => {}
            }
        }
        machine.take_output(&mut output);
    }
    assert!(steps <= 4 && output.len() < 4096, "{steps} steps, {} bytes", output.len());
    assert!(!is_over || machine.take_rest().is_empty());
}

/// The first byte chooses TLS and how the rest is split.
pub fn mysql_handshake_out(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let mut machine = mysql_out::HandshakeOut::new(LoginTo {
        user: "app".into(),
        password: Some(PASSWORD.into()),
        ask_tls: choice & 1 != 0,
        tls_optional: choice & 2 != 0,
        capabilities: if choice & 4 != 0 {
            capability::MARIADB & !capability::MARIADB_CACHE_METADATA
        } else {
            0
        },
        ..LoginTo::default()
    });
    let (mut output, mut is_over, mut settings, mut has_tls) = (Vec::new(), false, 0, false);
    for part in bytes.chunks(1 + usize::from(choice >> 3)) {
        machine.feed(part);
        loop {
            let step = machine.next();
            if step == ServerStep::NeedMore {
                break;
            }
            assert!(!is_over, "a step after the last: {step:?}");
            match step {
                ServerStep::StartTls => {
                    has_tls = true;
                    machine.tls_started();
                }
                ServerStep::Setting { .. } => settings += 1,
                ServerStep::Errand(_) => panic!("there are none on this side"),
                ServerStep::Ready | ServerStep::Refused(_) | ServerStep::Failed(_) => is_over = true,
                ServerStep::Key(_) | ServerStep::NeedMore => {}
            }
            machine.take_output(&mut output);
        }
        machine.take_output(&mut output);
    }
    let is_shown = output.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
    assert!(!is_shown || has_tls, "the password was sent in clear text");
    assert!(settings <= 2 + bytes.len() / 6 && output.len() < 16 * 1024);
}

/// The first byte chooses the algorithm, the second how long a frame says that it is; then as it is.
pub fn mysql_compressed(data: &[u8]) {
    let [choice, length, bytes @ ..] = data else { return };
    let agreed = if choice & 1 != 0 { capability::COMPRESS } else { capability::ZSTD };
    let new = || Compression::agreed(agreed).expect("agreed");
    let mut whole = new();
    let mut output = bytes.to_vec();
    whole.begin(0);
    whole.frame(&mut output);
    let mut plain = Vec::new();
    assert!(new().feed(&output, &mut plain).is_ok() && plain == bytes, "what is framed is read");
    let frame = |payload: &[u8], length: u32| {
        let head = [&(payload.len() as u32).to_le_bytes()[..3], &[0], &length.to_le_bytes()[..3]].concat();
        [&head[..], payload].concat()
    };
    let payload =
        if choice & 2 != 0 && output.len() > 7 { damaged(&output[7..], *length) } else { bytes.to_vec() };
    for stream in
        [frame(&payload, u32::from(*length) * 16), frame(&payload, bytes.len() as u32), bytes.to_vec()]
    {
        let mut plain = Vec::new();
        // What headers say is the most there is: 16 MiB for each seven bytes.
        let most = (stream.len() / 7 + 1) << 24;
        let mut machine = new();
        let fed = machine.feed(&stream, &mut plain);
        assert!(plain.len() <= most && (fed.is_ok() || plain.len() < most));
    }
}

/// With one bit changed.
fn damaged(bytes: &[u8], at: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let place = usize::from(at) % bytes.len();
    bytes[place] ^= 1 << (at % 8);
    bytes
}

pub fn scram_messages(data: &[u8]) {
    let verifier = Verifier::mock(&[1; 32], "app");
    for plus in [false, true] {
        let binding = plus.then_some(&b"hash"[..]);
        if let Ok((exchange, first)) = ServerExchange::open(data, plus, binding, "nonce", b"salt", 4096) {
            assert!(first.starts_with("r=") && first.ends_with(",s=c2FsdA==,i=4096"));
            assert!(exchange.proof(data).is_err(), "one message is not both");
        }
    }
    let first = b"n,,n=,r=client";
    let (exchange, _) =
        ServerExchange::open(first, false, None, "nonce", b"salt", 4096).expect("well formed");
    // Why both: a fuzzer does not find the nonce by itself.
    for last in [data.to_vec(), [&b"c=biws,r=clientnonce,p="[..], data].concat()] {
        if let Ok(proof) = exchange.proof(&last) {
            assert_eq!(proof.check(&verifier), None, "no proof fits a verifier that is made up");
        }
    }
    for message in [data.to_vec(), [&b"r=client"[..], data].concat()] {
        let mut client = ClientExchange::open("", Binding::Unable, "client".into());
        if let Ok((_, iterations)) = client.challenge(&message) {
            assert!((1..=scram::MOST_ITERATIONS).contains(&iterations));
            client.answer(&[0; 32]);
            assert!(client.confirm(data).is_err());
        }
    }
    if let Some(verifier) = std::str::from_utf8(data).ok().and_then(Verifier::parse) {
        assert_eq!(Verifier::parse(&verifier.to_string()), Some(verifier));
    }
    if let Some(hash) = certificate_hash(data) {
        assert!(matches!(hash.len(), 32 | 48 | 64));
    }
}

pub fn statement_shape(data: &[u8]) {
    for lexis in [Lexis::Postgres, Lexis::Mysql] {
        for limit in [0, 1, 17, 4096] {
            let mut out = "kept".to_owned();
            shape(lexis, data, &mut out, limit);
            assert!(out.starts_with("kept") && out.len() <= 4 + limit);
            let mut again = String::new();
            shape(lexis, data, &mut again, limit);
            assert_eq!(out[4..], again);
            assert_eq!(digest(&again), digest(&out[4..]));
        }
    }
}

pub fn proxy_header(data: &[u8]) {
    let Ok(Some((header, length))) = proxy_protocol::parse(data) else { return };
    assert!(length <= data.len());
    assert_eq!(header.source.is_some(), header.destination.is_some());
    assert_eq!(proxy_protocol::parse(&data[..length]), Ok(Some((header, length))));
    assert_eq!(proxy_protocol::parse(&data[..length - 1]), Ok(None));
}
