//! Logging in, one side alone: against bytes that it must refuse, and against its caller's answers.

use maitred_wire::auth::scram::{salted_password, Verifier};
use maitred_wire::handshake::{ClientStep, Credentials, Errand, LoginTo, Method, ServerStep};
use maitred_wire::postgres::handshake_in::HandshakeIn;
use maitred_wire::postgres::handshake_out::HandshakeOut;
use maitred_wire::postgres::reply;
use maitred_wire::{CancelKey, Code, Complaint};

const MOCK: [u8; 32] = [9; 32];

/// What is known of the password "secret" of user "app".
fn credentials(kind: &str) -> Option<Credentials> {
    let nothing = Credentials::default();
    match kind {
        "plain" => Some(Credentials { plain: Some("secret".into()), ..nothing }),
        _ => {
            let salted = salted_password("secret", b"0123456789abcdef", 16);
            let verifier = Verifier::from_salted(&salted, b"0123456789abcdef".to_vec(), 16);
            Some(Credentials { scram: Some(verifier), ..nothing })
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], body].concat()
}

fn sasl_first(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_be_bytes();
    message(b'p', &[mechanism.as_bytes(), &[0], &length, data].concat())
}

fn packet(version: u32, body: &[u8]) -> Vec<u8> {
    [&((body.len() + 8) as u32).to_be_bytes()[..], &version.to_be_bytes(), body].concat()
}

fn startup_bytes() -> Vec<u8> {
    packet(196_608, b"user\0app\0database\0shop\0\0")
}

/// Feed and take the next step, which must be a refusal; its complaint and what the client is sent.
fn refused(inner: &mut HandshakeIn, bytes: &[u8]) -> (Complaint, Vec<u8>) {
    inner.feed(bytes);
    let ClientStep::Failed(complaint) = inner.next() else { panic!("accepted {bytes:?}") };
    assert_eq!(inner.next(), ClientStep::NeedMore);
    let mut out = Vec::new();
    inner.take_output(&mut out);
    (complaint, out)
}

fn demanded(method: Method, kind: &str) -> HandshakeIn {
    let mut inner = HandshakeIn::new();
    inner.feed(&startup_bytes());
    assert!(matches!(inner.next(), ClientStep::Startup(_)));
    inner.demand(method, credentials(kind).as_ref(), &MOCK, None);
    assert_eq!(inner.next(), ClientStep::NeedMore);
    inner.take_output(&mut Vec::new());
    inner
}

#[test]
fn an_unknown_user_sees_the_same_salt_each_time() {
    let first = || {
        let mut inner = HandshakeIn::new();
        let mut out = Vec::new();
        reply::startup(&mut out, 0, [("user", "ghost")]);
        inner.feed(&out);
        assert!(matches!(inner.next(), ClientStep::Startup(_)));
        inner.demand(Method::ScramSha256, None, &MOCK, None);
        inner.feed(&sasl_first("SCRAM-SHA-256", b"n,,n=,r=abc"));
        assert_eq!(inner.next(), ClientStep::NeedMore);
        let mut out = Vec::new();
        inner.take_output(&mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        text[text.find(",s=").unwrap()..].to_owned()
    };
    assert_eq!(first(), first());
    assert!(first().ends_with(",i=4096"));
}

#[test]
fn first_bytes_that_are_not_postgres_are_refused() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x04\0\0\0\0", b"\xff\xff\xff\xff\0\x03\0\0", b"SSH-2.0-x"]
    {
        let (complaint, out) = refused(&mut HandshakeIn::new(), bytes);
        assert_eq!(complaint.code, Code::ProtocolViolation);
        assert_eq!(reply::error_fields(&out[5..]).sqlstate, b"08P01");
    }
}

#[test]
fn protocol_two_is_refused_in_its_own_form() {
    let (complaint, out) = refused(&mut HandshakeIn::new(), &packet(0x20000, &[0; 288]));
    assert_eq!(complaint.code, Code::Unsupported);
    assert!(out.starts_with(b"EFATAL:  unsupported frontend protocol 2.0") && out.ends_with(b"\n\0"));
}

#[test]
fn encryption_may_be_asked_once_each() {
    let ssl = packet(80_877_103, b"");
    let gss = packet(80_877_104, b"");
    let mut inner = HandshakeIn::new();
    inner.feed(&gss);
    inner.feed(&ssl);
    assert_eq!(inner.next(), ClientStep::TlsAsked);
    assert_eq!(inner.next(), ClientStep::NeedMore);
    inner.answer_tls(false);
    let mut out = Vec::new();
    inner.take_output(&mut out);
    assert_eq!(out, b"NN");
    refused(&mut inner, &ssl);

    let mut inner = HandshakeIn::new();
    inner.feed(&gss);
    inner.feed(&gss);
    assert_eq!(refused(&mut inner, b"").0.code, Code::ProtocolViolation);

    // Begun with TLS at once: neither may be asked inside.
    for bytes in [&ssl, &gss] {
        let mut inner = HandshakeIn::new();
        inner.tls_started();
        refused(&mut inner, bytes);
    }
}

#[test]
fn clear_text_behind_a_tls_request_is_refused() {
    let mut bytes = packet(80_877_103, b"");
    bytes.extend(startup_bytes());
    let mut inner = HandshakeIn::new();
    inner.feed(&bytes);
    assert_eq!(inner.next(), ClientStep::TlsAsked);
    inner.answer_tls(true);
    let (complaint, out) = refused(&mut inner, b"");
    assert_eq!(complaint.message, "received unencrypted data after SSL request");
    assert_eq!(out[0], b'E');

    let mut inner = HandshakeIn::new();
    inner.feed(&packet(80_877_103, b""));
    assert_eq!(inner.next(), ClientStep::TlsAsked);
    inner.answer_tls(true);
    refused(&mut inner, &startup_bytes());
    // Refused is refused: TLS does not heal it.
    inner.tls_started();
    inner.feed(&startup_bytes());
    assert_eq!(inner.next(), ClientStep::NeedMore);
}

#[test]
fn cancel_requests_of_both_lengths_come_through_and_answer_nothing() {
    for length in [4, 32, 256] {
        let key = CancelKey { pid: 7, secret: vec![3; length] };
        let mut bytes = Vec::new();
        reply::cancel_request(&mut bytes, &key);
        for tls in [false, true] {
            let mut inner = HandshakeIn::new();
            if tls {
                inner.tls_started();
            }
            inner.feed(&bytes);
            assert_eq!(inner.next(), ClientStep::Cancel(key.clone()));
            assert_eq!(inner.next(), ClientStep::NeedMore);
            let mut out = Vec::new();
            inner.take_output(&mut out);
            assert!(out.is_empty());
        }
    }
}

#[test]
fn bytes_behind_the_login_are_kept_for_the_session() {
    let mut inner = HandshakeIn::new();
    let mut bytes = startup_bytes();
    bytes.extend(message(b'p', b"secret\0"));
    reply::query(&mut bytes, "SELECT 1");
    inner.feed(&bytes);
    assert!(matches!(inner.next(), ClientStep::Startup(_)));
    inner.demand(Method::Password, credentials("plain").as_ref(), &MOCK, None);
    assert_eq!(inner.next(), ClientStep::LoggedIn);
    inner.feed(b"more");
    assert_eq!(inner.take_rest(), [&message(b'Q', b"SELECT 1\0")[..], b"more"].concat());
}

#[test]
fn a_refusal_by_the_caller_is_written_and_fatal() {
    let mut inner = HandshakeIn::new();
    inner.feed(&startup_bytes());
    assert!(matches!(inner.next(), ClientStep::Startup(_)));
    inner.refuse(Complaint::error(Code::UnknownDatabase, "no such database").hint("configure it"));
    let (complaint, out) = refused(&mut inner, b"");
    assert!(complaint.fatal);
    let fields = reply::error_fields(&out[5..]);
    assert_eq!(
        (fields.severity, fields.sqlstate, fields.hint),
        (&b"FATAL"[..], &b"3D000"[..], &b"configure it"[..])
    );
}

#[test]
fn password_messages_that_are_not_are_refused() {
    for (bytes, code) in [
        (message(b'Q', b"SELECT 1\0"), Code::ProtocolViolation),
        (message(b'p', b""), Code::ProtocolViolation),
        (message(b'p', b"no end"), Code::ProtocolViolation),
        (message(b'p', b"se\0cret\0"), Code::ProtocolViolation),
        (message(b'p', b"\0"), Code::WrongPassword),
        (b"p\0\0\0\x03".to_vec(), Code::ProtocolViolation),
        (b"p\0\x10\0\0".to_vec(), Code::ProtocolViolation),
    ] {
        for method in [Method::Password, Method::Md5] {
            assert_eq!(refused(&mut demanded(method, "plain"), &bytes).0.code, code, "{bytes:?}");
        }
    }
    // Not text at all, where only a verifier is known.
    let (complaint, _) = refused(&mut demanded(Method::Password, "scram"), &message(b'p', b"\xff\xfe\0"));
    assert_eq!(complaint.code, Code::WrongPassword);
}

#[test]
fn sasl_messages_that_are_not_are_refused() {
    for bytes in [
        message(b'p', b"SCRAM-SHA-256"),
        message(b'p', b"SCRAM-SHA-256\0\0\0"),
        message(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x!"),
        sasl_first("SCRAM-SHA-1", b"n,,n=,r=abc"),
        // Not offered without a certificate.
        sasl_first("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=abc"),
        sasl_first("SCRAM-SHA-256", b"rubbish"),
    ] {
        let (complaint, _) = refused(&mut demanded(Method::ScramSha256, "scram"), &bytes);
        assert_eq!(complaint.code, Code::ProtocolViolation, "{bytes:?}");
    }
}

#[test]
fn a_client_may_wait_to_be_asked_for_client_first() {
    let mut inner = demanded(Method::ScramSha256, "scram");
    inner.feed(&message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"));
    assert_eq!(inner.next(), ClientStep::NeedMore);
    inner.feed(&message(b'p', b"n,,n=,r=abc"));
    assert_eq!(inner.next(), ClientStep::NeedMore);
    let mut out = Vec::new();
    inner.take_output(&mut out);
    assert_eq!(&out[..9], b"R\0\0\0\x08\0\0\0\x0b");
    assert!(String::from_utf8_lossy(&out[9..]).contains("r=abc"));
}

#[test]
fn a_flood_before_login_is_cut_off() {
    let mut inner = HandshakeIn::new();
    inner.feed(&startup_bytes());
    assert!(matches!(inner.next(), ClientStep::Startup(_)));
    for _ in 0..5 {
        inner.feed(&[0; 65_536]);
    }
    assert_eq!(refused(&mut inner, b"").0.code, Code::ProtocolViolation);
}

fn opened(password: Option<&str>) -> HandshakeOut {
    let login = LoginTo { user: "app".into(), password: password.map(Into::into), ..LoginTo::default() };
    let mut outer = HandshakeOut::new(login);
    outer.take_output(&mut Vec::new());
    outer
}

fn failure(outer: &mut HandshakeOut, bytes: &[u8]) -> String {
    outer.feed(bytes);
    match outer.next() {
        ServerStep::Failed(complaint) => complaint.message,
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn authentication(what: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&what.to_be_bytes()[..], data].concat())
}

#[test]
fn a_server_out_of_order_is_given_up() {
    for bytes in [
        message(b'Z', b"I"),
        message(b'S', b"a\0b\0"),
        message(b'D', b""),
        authentication(11, b"r=x"),
        authentication(12, b"v=x"),
        message(b'R', b"\0"),
        b"R\0\0\0\x03".to_vec(),
        b"R\0\x10\0\0".to_vec(),
        [authentication(0, b""), authentication(0, b"")].concat(),
        [authentication(0, b""), message(b'Z', b"T")].concat(),
        [authentication(0, b""), message(b'S', b"a\0b")].concat(),
        [authentication(0, b""), message(b'K', b"\0\0\0\x01")].concat(),
        message(b'v', b"\0\x03\0\x02\0\0\0\0"),
        authentication(5, b"abc"),
        authentication(10, b"SCRAM-SHA-256"),
    ] {
        failure(&mut opened(Some("secret")), &bytes);
    }
}

#[test]
fn methods_that_we_lack_are_named() {
    for (what, name) in [(2, "Kerberos"), (7, "GSSAPI"), (9, "SSPI"), (99, "unknown")] {
        assert!(failure(&mut opened(Some("x")), &authentication(what, b"")).contains(name));
    }
    assert!(failure(&mut opened(Some("x")), &authentication(10, b"OAUTHBEARER\0\0")).contains("mechanism"));
    for what in [3, 10] {
        let data = if what == 10 { &b"SCRAM-SHA-256\0\0"[..] } else { b"" };
        assert!(failure(&mut opened(None), &authentication(what, data)).contains("none is configured"));
    }
}

#[test]
fn a_server_that_skips_its_own_proof_is_given_up() {
    let mut outer = opened(Some("secret"));
    outer.feed(&authentication(10, b"SCRAM-SHA-256\0\0"));
    assert_eq!(outer.next(), ServerStep::NeedMore);
    let mut out = Vec::new();
    outer.take_output(&mut out);
    let text = String::from_utf8(out[5 + 14 + 4..].to_vec()).unwrap();
    let nonce = text.split("r=").nth(1).unwrap();
    assert!(failure(&mut outer, &authentication(0, b"")).contains("did not finish"));

    let mut outer = opened(Some("secret"));
    outer.feed(&authentication(10, b"SCRAM-SHA-256\0\0"));
    assert_eq!(outer.next(), ServerStep::NeedMore);
    let foreign = format!("r={nonce}x,s=AAAA,i=16");
    assert!(failure(&mut outer, &authentication(11, foreign.as_bytes())).contains("nonce"));
}

#[test]
fn a_server_with_a_wrong_proof_is_given_up() {
    let mut outer = opened(Some("secret"));
    outer.feed(&authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"));
    assert_eq!(outer.next(), ServerStep::NeedMore);
    let mut out = Vec::new();
    outer.take_output(&mut out);
    let text = String::from_utf8(out[5 + 14 + 4..].to_vec()).unwrap();
    let nonce = text.split("r=").nth(1).unwrap();
    outer.feed(&authentication(11, format!("r={nonce}x,s=AAAA,i=16").as_bytes()));
    let ServerStep::Errand(errand) = outer.next() else { panic!("no errand") };
    let Errand::SaltPassword { password, iterations, .. } = &errand else { panic!("{errand:?}") };
    assert_eq!((password.as_str(), *iterations), ("secret", 16));
    assert_eq!(outer.next(), ServerStep::NeedMore);
    outer.errand_done(errand.run());
    assert_eq!(outer.next(), ServerStep::NeedMore);
    let wrong = authentication(12, b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert!(failure(&mut outer, &wrong).contains("could not prove"));
}

#[test]
fn refusals_keep_the_words_of_the_database() {
    let refusal = |outer: &mut HandshakeOut, bytes: &[u8]| {
        outer.feed(bytes);
        match outer.next() {
            ServerStep::Refused(refusal) => (refusal.sqlstate, refusal.message),
            other => panic!("{other:?}"),
        }
    };
    let error = message(b'E', b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0");
    let expected = (*b"53300", "sorry, too many clients already".to_owned());
    assert_eq!(refusal(&mut opened(None), &error), expected);
    let late = [authentication(0, b""), error.clone()].concat();
    assert_eq!(refusal(&mut opened(None), &late), expected);
    // The postmaster could not fork: no length, just text.
    let old = b"Ecould not fork new process for connection: Resource temporarily unavailable\n\0";
    let (state, text) = refusal(&mut opened(None), old);
    assert_eq!(&state, b"XX000");
    assert_eq!(text, "could not fork new process for connection: Resource temporarily unavailable");
}

#[test]
fn clear_text_behind_the_answer_to_a_tls_request_is_refused() {
    let login = LoginTo { user: "app".into(), ask_tls: true, ..LoginTo::default() };
    let mut outer = HandshakeOut::new(login.clone());
    assert!(failure(&mut outer, b"SR\0\0\0\x08\0\0\0\0").contains("clear text"));
    let mut outer = HandshakeOut::new(login.clone());
    outer.feed(b"S");
    assert_eq!(outer.next(), ServerStep::StartTls);
    assert!(failure(&mut outer, b"R\0\0\0\x08\0\0\0\0").contains("clear text"));
    let mut outer = HandshakeOut::new(login.clone());
    assert!(!failure(&mut outer, b"E\0\0\0\x10Mfake text\0\0").contains("fake"));
    assert!(failure(&mut HandshakeOut::new(login), b"X").contains("no answer"));
}

#[test]
fn a_server_of_an_older_version_is_spoken_to_in_it() {
    for version in [&b"\0\x03\0\0"[..], b"\0\0\0\0"] {
        let login = LoginTo { user: "app".into(), minor: 2, ..LoginTo::default() };
        let mut outer = HandshakeOut::new(login);
        let mut out = Vec::new();
        outer.take_output(&mut out);
        assert_eq!(&out[4..8], [0, 3, 0, 2]);
        outer.feed(&message(b'v', &[version, &[0; 4]].concat()));
        outer.feed(&authentication(0, b""));
        outer.feed(&message(b'Z', b"I"));
        assert_eq!(outer.next(), ServerStep::Ready);
        assert_eq!(outer.minor(), 0);
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let mut inner = demanded(Method::Password, "plain");
    inner.feed(&message(b'p', b"sec"));
    let texts = [
        format!("{inner:?}"),
        format!("{:?}", opened(Some("secret"))),
        format!("{:?}", credentials("plain")),
        format!("{:?}", Errand::SaltPassword { password: "secret".into(), salt: vec![], iterations: 1 }),
        format!("{:?}", LoginTo { password: Some("secret".into()), ..LoginTo::default() }),
    ];
    for text in texts {
        assert!(!text.contains("secret"), "{text}");
    }
}
