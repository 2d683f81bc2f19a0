//! Any split of the bytes gives the same result, for every machine and decoder.
//!
//! Says nothing about what the result should be: the other tests do. Run by cargo.

use maitred_wire::handshake::{ClientStep, Credentials, LoginTo, Method, ServerStep};
use maitred_wire::postgres::handshake_in::HandshakeIn;
use maitred_wire::postgres::handshake_out::HandshakeOut;
use maitred_wire::postgres::{intent, progress};
use maitred_wire::proxy_protocol;
use proptest::prelude::*;
use proptest::sample::{select, Index};

mod vector;

/// Cut `bytes` at `places`; the parts joined are `bytes`.
fn parts<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// All steps and all output of a client's login whose bytes come in `parts`.
///
/// Why: only methods without randomness of ours in the output are demanded here; SCRAM and md5 are split
/// byte by byte in `handshake.rs`, with a live other side.
fn log_in(parts: &[&[u8]], method: Method) -> (Vec<ClientStep>, Vec<u8>, Vec<u8>) {
    let known = Credentials { plain: Some("secret".into()), ..Credentials::default() };
    let mut machine = HandshakeIn::new();
    let (mut steps, mut output) = (Vec::new(), Vec::new());
    for part in parts.iter().chain([&&b""[..]]) {
        machine.feed(part);
        loop {
            let step = machine.next();
            match &step {
                ClientStep::NeedMore => break,
                ClientStep::TlsAsked => machine.answer_tls(false),
                ClientStep::Startup(_) => machine.demand(method, Some(&known), &[0; 32], None),
                ClientStep::Errand(errand) => machine.errand_done(errand.run()),
                ClientStep::LoggedIn | ClientStep::Cancel(_) | ClientStep::Failed(_) => {}
            }
            steps.push(step);
        }
        machine.take_output(&mut output);
    }
    (steps, output, machine.take_rest())
}

/// All steps and the rest of our login to a server whose bytes come in `parts`.
fn log_in_to(parts: &[&[u8]]) -> (Vec<ServerStep>, Vec<u8>, Vec<u8>) {
    let login =
        LoginTo { user: "app".into(), password: Some("secret".into()), minor: 2, ..LoginTo::default() };
    let mut machine = HandshakeOut::new(login);
    let (mut steps, mut output) = (Vec::new(), Vec::new());
    for part in parts.iter().chain([&&b""[..]]) {
        machine.feed(part);
        loop {
            match machine.next() {
                ServerStep::NeedMore => break,
                step => steps.push(step),
            }
        }
        machine.take_output(&mut output);
    }
    (steps, output, machine.take_rest())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], body].concat()
}

/// What a client may say before it is logged in: packets of the vectors, passwords, rubbish.
fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
    let packets = vector::read("postgres/startup").into_iter().map(|vector| vector.bytes);
    let mut pieces: Vec<Vec<u8>> = packets.collect();
    let session = pieces.iter().find(|bytes| bytes.get(4..8) == Some(&[0, 3, 0, 0])).cloned();
    pieces.extend(vec![session.expect("a startup packet is there"); pieces.len()]);
    let passwords = [message(b'p', b"secret\0"), message(b'p', b"wrong\0"), message(b'Q', b"SELECT 1\0")];
    pieces.extend(vec![passwords; 8].concat());
    pieces.push(b"rubbish that is long enough to be looked at".to_vec());
    prop::collection::vec(select(pieces), 0..5).prop_map(|pieces| pieces.concat())
}

/// What a server may say during our login.
fn server_bytes() -> impl Strategy<Value = Vec<u8>> {
    let mut pieces = vec![
        message(b'R', &[0, 0, 0, 0]),
        message(b'R', &[0, 0, 0, 0]),
        message(b'R', &[0, 0, 0, 3]),
        message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]),
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'K', &[0, 0, 0, 1, 9, 9, 9, 9]),
        message(b'Z', b"I"),
        message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]),
        message(b'N', b"SNOTICE\0\0"),
        message(b'E', b"SFATAL\0C28000\0Mno\0\0"),
        b"Ecould not fork\n\0".to_vec(),
        b"rubbish".to_vec(),
    ];
    let login = [&pieces[0][..], &pieces[4], &pieces[5], &pieces[6]].concat();
    pieces.extend(vec![login; 4]);
    prop::collection::vec(select(pieces), 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn of_a_client_logging_in(
        bytes in client_bytes(),
        places in prop::collection::vec(any::<Index>(), 0..8),
        method in select(vec![Method::Trust, Method::Password]),
    ) {
        let whole = log_in(&[&bytes], method);
        prop_assert_eq!(&log_in(&parts(&bytes, &places), method), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&log_in(&single, method), &whole);
    }

    #[test]
    fn of_a_server_we_log_in_to(
        bytes in server_bytes(),
        places in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let whole = log_in_to(&[&bytes]);
        prop_assert_eq!(&log_in_to(&parts(&bytes, &places)), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&log_in_to(&single), &whole);
    }

    #[test]
    fn of_a_message(tag: u8, length in 0u32..40, body in prop::collection::vec(any::<u8>(), 0..40)) {
        let bytes = [&[tag], &length.to_be_bytes()[..], &body].concat();
        let (client, server) = (intent::next(&bytes, 1 << 20), progress::next(&bytes, 1 << 20));
        for end in 0..bytes.len() {
            let part = intent::next(&bytes[..end], 1 << 20);
            prop_assert!(part == Ok(None) || part == client, "{:?} {:?}", part, client);
            let part = progress::next(&bytes[..end], 1 << 20);
            prop_assert!(part == Ok(None) || part == server, "{:?} {:?}", part, server);
        }
    }

    #[test]
    fn of_a_proxy_header(
        start in select(vec!["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY UNKNOWN\r\n", "\r\n\r\n\0\r\nQUIT\n!\u{11}\0\u{c}"]),
        at: Index,
        more in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let bytes = [&start.as_bytes()[..at.index(start.len() + 1)], &more].concat();
        let whole = proxy_protocol::parse(&bytes);
        for end in 0..bytes.len() {
            let part = proxy_protocol::parse(&bytes[..end]);
            prop_assert!(part == Ok(None) || part == whole, "{:?} {:?}", part, whole);
        }
    }
}
