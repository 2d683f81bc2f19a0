//! TLS sessions with both ends in memory: every mode against every kind of certificate.
//!
//! Opens no socket. Certificates are made here, on the spot.

use std::sync::Arc;

use maitred_reactor::tls::{TlsClientConfig, TlsServerConfig, TlsSession};
use maitred_relay::snapshot::{Address, ClientTls, ServerTls, SslMode};
use maitred_wire::Dialect;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const HOST: &str = "db.shop.example";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { pem, key: key.serialize_pem() }
    }
}

#[derive(Clone)]
struct Identity {
    pem: String,
    key: String,
}

fn params(common: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    params
}

fn self_signed(params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    Identity { pem: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn to_clients(identity: &Identity, mode: SslMode, ca: Option<&str>) -> ClientTls {
    ClientTls {
        mode,
        certificate_pem: identity.pem.clone(),
        key_pem: identity.key.clone(),
        ca_pem: ca.map(str::to_owned),
        minimum: "1.2".to_owned(),
    }
}

fn to_server(mode: SslMode, ca: Option<&str>) -> ServerTls {
    ServerTls {
        mode,
        ca_pem: ca.map(str::to_owned),
        certificate_pem: None,
        key_pem: None,
        minimum: "1.2".to_owned(),
        direct: false,
    }
}

fn at(host: &str) -> Address {
    Address::Tcp { host: host.to_owned(), port: 5432 }
}

/// Both ends of one connection.
struct Pair {
    client: TlsSession,
    server: TlsSession,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    split: usize,
}

/// What each end made of the handshake.
type Verdicts = (Result<(), String>, Result<(), String>);

impl Pair {
    fn new(server: &Arc<TlsServerConfig>, client: &Arc<TlsClientConfig>, is_direct: bool) -> Self {
        Self {
            client: TlsSession::connect(client).unwrap(),
            server: TlsSession::accept(server, Dialect::Postgres, is_direct),
            to_client: Vec::new(),
            to_server: Vec::new(),
            split: usize::MAX,
        }
    }

    /// Carry bytes to and fro until both are silent; what clients and servers got is appended.
    fn carry(&mut self, at_client: &mut Vec<u8>, at_server: &mut Vec<u8>) -> Verdicts {
        let mut verdicts = (Ok(()), Ok(()));
        loop {
            let sent = self.sent();
            if sent == 0 {
                return verdicts;
            }
            for part in std::mem::take(&mut self.sent_to_server()).chunks(self.split) {
                if verdicts.1.is_ok() {
                    verdicts.1 = self.server.feed(part, at_server);
                }
            }
            for part in std::mem::take(&mut self.sent_to_client()).chunks(self.split) {
                if verdicts.0.is_ok() {
                    verdicts.0 = self.client.feed(part, at_client);
                }
            }
        }
    }

    fn sent(&mut self) -> usize {
        self.client.take_output(&mut self.to_server);
        self.server.take_output(&mut self.to_client);
        self.to_server.len() + self.to_client.len()
    }

    fn sent_to_server(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_server)
    }

    fn sent_to_client(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_client)
    }

    fn handshake(&mut self) -> Verdicts {
        self.carry(&mut Vec::new(), &mut Vec::new())
    }

    fn up(mut self) -> Self {
        let verdicts = self.handshake();
        assert_eq!(verdicts, (Ok(()), Ok(())));
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        self
    }
}

fn good_pair(split: usize) -> Pair {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let client =
        TlsClientConfig::build(&to_server(SslMode::VerifyFull, Some(&authority.pem)), &at(HOST)).unwrap();
    let mut pair = Pair::new(&server, &client, false);
    pair.split = split;
    pair.up()
}

/// What is tried, its certificate, the host, the authority given, the verdicts of verify-ca and verify-full.
type Case<'a> = (&'a str, Identity, &'a str, &'a str, Option<&'a str>, Option<&'a str>);

#[test]
fn every_mode_against_every_server_certificate() {
    use SslMode::{Allow, Prefer, Require, VerifyCa, VerifyFull};
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let alone = self_signed(&params(HOST, &[]));
    let old_and_alone = self_signed(&expired(params(HOST, &[HOST])));
    let trusted = authority.pem.as_str();

    let table: Vec<Case> = vec![
        ("good", authority.sign(&params("x", &[HOST])), HOST, trusted, None, None),
        ("wildcard", authority.sign(&params("x", &["*.shop.example"])), HOST, trusted, None, None),
        ("common name only", authority.sign(&params(HOST, &[])), HOST, trusted, None, None),
        ("address", authority.sign(&params("x", &["10.1.2.3"])), "10.1.2.3", trusted, None, None),
        ("address 6", authority.sign(&params("x", &["::1"])), "[::1]", trusted, None, None),
        ("itself", alone.clone(), HOST, alone.pem.as_str(), None, None),
        (
            "other name",
            authority.sign(&params(HOST, &["other.example"])),
            HOST,
            trusted,
            None,
            Some("is for other.example, not for db.shop.example"),
        ),
        (
            "address by name",
            authority.sign(&params("10.1.2.3", &["x.example"])),
            "10.1.2.3",
            trusted,
            None,
            Some("is for x.example, not for 10.1.2.3"),
        ),
        (
            "itself under another name",
            alone.clone(),
            "db2.example",
            alone.pem.as_str(),
            None,
            Some("is for db.shop.example, not for db2.example"),
        ),
        (
            "expired",
            authority.sign(&expired(params("x", &[HOST]))),
            HOST,
            trusted,
            Some("has expired"),
            Some("has expired"),
        ),
        (
            "itself, expired",
            old_and_alone.clone(),
            HOST,
            old_and_alone.pem.as_str(),
            Some("has expired"),
            Some("has expired"),
        ),
        (
            "stranger's",
            stranger.sign(&params("x", &[HOST])),
            HOST,
            trusted,
            Some("is signed by none of our authorities"),
            Some("is signed by none of our authorities"),
        ),
        (
            "self-signed and unknown",
            alone.clone(),
            HOST,
            trusted,
            Some("is signed by none of our authorities"),
            Some("is signed by none of our authorities"),
        ),
    ];
    for (what, identity, host, ca, by_ca, by_full) in table {
        let server = TlsServerConfig::build(&to_clients(&identity, Require, None)).unwrap();
        for (mode, expected) in
            [(Allow, None), (Prefer, None), (Require, None), (VerifyCa, by_ca), (VerifyFull, by_full)]
        {
            let client = TlsClientConfig::build(&to_server(mode, Some(ca)), &at(host)).unwrap();
            let mut pair = Pair::new(&server, &client, false);
            let (at_client, at_server) = pair.handshake();
            match expected {
                None => assert_eq!((at_client, at_server), (Ok(()), Ok(())), "{what}, {mode:?}"),
                Some(words) => {
                    let cause = at_client.expect_err(what);
                    assert!(cause.contains(words), "{what}, {mode:?}: {cause}");
                    let told = at_server.expect_err("the alert reaches the server");
                    assert!(told.starts_with("the client "), "{what}, {mode:?}: {told}");
                }
            }
        }
    }
}

#[test]
fn client_certificates_by_mode() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let identity = authority.sign(&params("server", &[HOST]));
    let mut ours = params("alice", &[]);
    ours.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let alice = authority.sign(&ours);
    let old = authority.sign(&expired(ours.clone()));
    let mallory = stranger.sign(&ours);
    let connect = |mode, shown: Option<&Identity>| {
        let server = TlsServerConfig::build(&to_clients(&identity, mode, Some(&authority.pem))).unwrap();
        let mut settings = to_server(SslMode::VerifyFull, Some(&authority.pem));
        settings.certificate_pem = shown.map(|shown| shown.pem.clone());
        settings.key_pem = shown.map(|shown| shown.key.clone());
        let client = TlsClientConfig::build(&settings, &at(HOST)).unwrap();
        let mut pair = Pair::new(&server, &client, false);
        let verdict = pair.handshake().1;
        (verdict, pair.server.peer_common_name())
    };
    for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
        assert_eq!(connect(mode, Some(&alice)), (Ok(()), Some("alice".to_owned())));
        for (shown, words) in [
            (None, "the client showed no certificate"),
            (Some(&old), "the client's certificate has expired"),
            (Some(&mallory), "is signed by none of our authorities"),
        ] {
            let cause = connect(mode, shown).0.unwrap_err();
            assert!(cause.contains(words), "{cause}");
        }
    }
    for mode in [SslMode::Allow, SslMode::Prefer, SslMode::Require] {
        assert_eq!(connect(mode, None), (Ok(()), None));
        assert_eq!(connect(mode, Some(&mallory)), (Ok(()), None), "a name that nobody checked is no name");
    }
}

#[test]
fn bytes_pass_in_any_splits() {
    for split in [1, 2, 7, 100, 5000, usize::MAX] {
        let mut pair = good_pair(split);
        let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
        let question: Vec<u8> = (0..40_000u32).map(|number| (number % 251) as u8).collect();
        let answer: Vec<u8> = (0..100_000u32).map(|number| (number % 249) as u8).collect();
        for round in 0..3 {
            pair.client.encrypt(&question[round..], &mut pair.to_server);
            pair.server.encrypt(&answer[round..], &mut pair.to_client);
            assert_eq!(pair.carry(&mut at_client, &mut at_server), (Ok(()), Ok(())));
        }
        assert!(at_server == [&question[..], &question[1..], &question[2..]].concat(), "split {split}");
        assert!(at_client == [&answer[..], &answer[1..], &answer[2..]].concat(), "split {split}");
    }
}

#[test]
fn small_messages_pass_many_times() {
    let mut pair = good_pair(usize::MAX);
    let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
    for round in 0..2000u32 {
        pair.client.encrypt(&round.to_be_bytes(), &mut pair.to_server);
        pair.server.encrypt(&round.to_le_bytes(), &mut pair.to_client);
        assert_eq!(pair.carry(&mut at_client, &mut at_server), (Ok(()), Ok(())));
    }
    let expected: Vec<u8> = (0..2000u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(at_server, expected);
    assert_eq!(at_client.len(), expected.len());
}

#[test]
fn nothing_to_encrypt_gives_nothing() {
    let mut pair = good_pair(usize::MAX);
    let mut out = Vec::new();
    pair.client.encrypt(&[], &mut out);
    assert!(out.is_empty());
}

#[test]
fn bytes_written_during_the_handshake_arrive_after_it() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let client = TlsClientConfig::build(&to_server(SslMode::Require, None), &at(HOST)).unwrap();
    let mut pair = Pair::new(&server, &client, false);
    let mut nothing_yet = Vec::new();
    pair.client.encrypt(b"hasty ", &mut nothing_yet);
    pair.client.encrypt(b"words", &mut nothing_yet);
    assert!(nothing_yet.is_empty());
    let mut at_server = Vec::new();
    assert_eq!(pair.carry(&mut Vec::new(), &mut at_server), (Ok(()), Ok(())));
    assert_eq!(at_server, b"hasty words");
}

#[test]
fn direct_tls_must_name_the_protocol() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let mut settings = to_server(SslMode::Require, None);
    let silent = TlsClientConfig::build(&settings, &at(HOST)).unwrap();
    settings.direct = true;
    let named = TlsClientConfig::build(&settings, &at(HOST)).unwrap();
    let pair = Pair::new(&server, &named, true).up();
    assert_eq!(pair.server.alpn(), Some(&b"postgresql"[..]));
    assert_eq!(pair.client.alpn(), Some(&b"postgresql"[..]));
    Pair::new(&server, &named, false).up();
    Pair::new(&server, &silent, false).up();
    let cause = Pair::new(&server, &silent, true).handshake().1.unwrap_err();
    assert!(cause.contains("ALPN"), "{cause}");
}

#[test]
fn mysql_sessions_agree_on_no_application_protocol() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let offers = ServerTls { direct: true, ..to_server(SslMode::Require, None) };
    let client = TlsClientConfig::build(&offers, &at(HOST)).unwrap();
    for (dialect, agreed) in [(Dialect::Postgres, Some(&b"postgresql"[..])), (Dialect::Mysql, None)] {
        let mut pair = Pair::new(&server, &client, false);
        pair.server = TlsSession::accept(&server, dialect, false);
        assert_eq!(pair.handshake().1, Ok(()));
        assert_eq!(pair.server.alpn(), agreed);
    }
}

#[test]
fn versions_below_the_minimum_are_refused_in_words() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let mut settings = to_clients(&identity, SslMode::Require, None);
    settings.minimum = "1.3".to_owned();
    let server = TlsServerConfig::build(&settings).unwrap();
    // The first bytes of a client that knows TLS 1.2 only.
    let hello = tls12_hello();
    let mut session = TlsSession::accept(&server, Dialect::Postgres, false);
    let cause = session.feed(&hello, &mut Vec::new()).unwrap_err();
    assert!(cause.contains("nothing in common with the client"), "{cause}");
    let mut alert = Vec::new();
    session.take_output(&mut alert);
    assert_eq!(alert.first(), Some(&21), "an alert tells the client");
    settings.minimum = "1.1".to_owned();
    let Err(cause) = TlsServerConfig::build(&settings) else { panic!("1.1 is too old") };
    assert!(cause.contains("use \"1.2\" or \"1.3\""), "{cause}");
}

/// Spec: RFC 5246 section 7.4.1.2, without extensions but the signature algorithms and curves.
fn tls12_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xC0, 0x2B, 1, 0]);
    let extensions = [
        &[0x00, 0x0A, 0, 4, 0, 2, 0, 0x1D][..],
        &[0x00, 0x0D, 0, 4, 0, 2, 4, 3][..],
        &[0x00, 0x17, 0, 0][..],
    ]
    .concat();
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

#[test]
fn tls12_client_is_answered_where_it_is_allowed() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let mut session = TlsSession::accept(&server, Dialect::Postgres, false);
    session.feed(&tls12_hello(), &mut Vec::new()).unwrap();
    let mut hello = Vec::new();
    session.take_output(&mut hello);
    assert_eq!(hello.first(), Some(&22), "a handshake record");
}

#[test]
fn garbage_is_refused_in_words() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let mut session = TlsSession::accept(&server, Dialect::Postgres, false);
    let cause = session.feed(b"GET / HTTP/1.1\r\n\r\n", &mut Vec::new()).unwrap_err();
    assert_eq!(cause, "the client sent bytes that are not TLS");
    assert!(session.feed(b"more", &mut Vec::new()).is_err(), "what failed once stays failed");
    let mut out = Vec::new();
    session.encrypt(b"anything", &mut out);
    session.close_notify(&mut out);
}

#[test]
fn damaged_record_ends_the_session() {
    let mut pair = good_pair(usize::MAX);
    let mut sealed = Vec::new();
    pair.client.encrypt(b"pay 10", &mut sealed);
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    let mut plaintext = Vec::new();
    let cause = pair.server.feed(&sealed, &mut plaintext).unwrap_err();
    assert_eq!(cause, "bytes from the client were damaged on their way");
    assert!(plaintext.is_empty());
}

#[test]
fn close_is_said_and_heard_after_the_last_bytes() {
    let mut pair = good_pair(3);
    pair.server.encrypt(b"last words", &mut pair.to_client);
    pair.server.close_notify(&mut pair.to_client);
    let mut at_client = Vec::new();
    assert_eq!(pair.carry(&mut at_client, &mut Vec::new()), (Ok(()), Ok(())));
    assert_eq!(at_client, b"last words");
    assert!(pair.client.peer_ended());
    assert!(!pair.server.peer_ended());
    pair.client.close_notify(&mut pair.to_server);
    assert_eq!(pair.handshake(), (Ok(()), Ok(())));
    assert!(pair.server.peer_ended());
}

#[test]
fn both_ends_bind_to_the_same_certificate() {
    let pair = good_pair(usize::MAX);
    let hash = pair.server.server_end_point_hash().unwrap();
    assert_eq!(hash.len(), 32, "ECDSA with SHA-256");
    assert_eq!(pair.client.server_end_point_hash(), Some(hash.clone()));
    assert_ne!(good_pair(usize::MAX).server.server_end_point_hash(), Some(hash));
    assert_eq!(pair.client.peer_common_name().as_deref(), Some("server"));
}

#[test]
fn hash_for_binding_follows_the_signature() {
    for (algorithm, length) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
        (&rcgen::PKCS_ED25519, None),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params("server", &[HOST]).self_signed(&key).unwrap().pem();
        let identity = Identity { pem, key: key.serialize_pem() };
        let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
        let client = TlsClientConfig::build(&to_server(SslMode::Require, None), &at(HOST)).unwrap();
        let pair = Pair::new(&server, &client, false).up();
        assert_eq!(pair.server.server_end_point_hash().map(|hash| hash.len()), length);
        assert_eq!(pair.client.server_end_point_hash(), pair.server.server_end_point_hash());
    }
}

#[test]
fn second_login_is_resumed_and_still_knows_the_peer() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let alice = authority.sign(&params("alice", &[]));
    let settings = to_clients(&identity, SslMode::VerifyFull, Some(&authority.pem));
    let server = TlsServerConfig::build(&settings).unwrap();
    let mut settings = to_server(SslMode::VerifyFull, Some(&authority.pem));
    (settings.certificate_pem, settings.key_pem) = (Some(alice.pem.clone()), Some(alice.key.clone()));
    let client = TlsClientConfig::build(&settings, &at(HOST)).unwrap();
    let first = Pair::new(&server, &client, false).up();
    assert!(!first.server.is_resumed());
    let second = Pair::new(&server, &client, false).up();
    assert!(second.server.is_resumed() && second.client.is_resumed());
    assert_eq!(second.server.peer_common_name().as_deref(), Some("alice"));
    assert_eq!(second.client.server_end_point_hash(), first.server.server_end_point_hash());
    assert!(second.server.description().unwrap().starts_with("TLSv1.3 TLS13_"));
}

#[test]
fn hosts_that_no_certificate_can_name() {
    let authority = Authority::new("authority");
    let identity = authority.sign(&params("server", &[HOST]));
    let server = TlsServerConfig::build(&to_clients(&identity, SslMode::Require, None)).unwrap();
    let address = Address::Unix { path: "/run/db".to_owned() };
    let settings = to_server(SslMode::VerifyCa, Some(&authority.pem));
    let client = TlsClientConfig::build(&settings, &address).unwrap();
    Pair::new(&server, &client, false).up();
    let settings = to_server(SslMode::VerifyFull, Some(&authority.pem));
    let Err(cause) = TlsClientConfig::build(&settings, &address) else { panic!("nothing to check") };
    assert!(cause.contains("use a host name, or the mode \"verify-ca\""), "{cause}");
}

#[test]
fn bad_material_is_named_with_what_to_change() {
    let authority = Authority::new("authority");
    let (one, other) = (authority.sign(&params("a", &[HOST])), authority.sign(&params("b", &[HOST])));
    let good = to_clients(&one, SslMode::Require, None);
    let table = [
        (ClientTls { key_pem: other.key.clone(), ..good.clone() }, "tls.client.key: it does not belong"),
        (ClientTls { certificate_pem: "x".to_owned(), ..good.clone() }, "no \"BEGIN CERTIFICATE\""),
        (ClientTls { key_pem: one.pem.clone(), ..good.clone() }, "no \"BEGIN PRIVATE KEY\""),
        (
            ClientTls { key_pem: "-----BEGIN ENCRYPTED PRIVATE KEY-----".to_owned(), ..good.clone() },
            "the key is encrypted",
        ),
        (ClientTls { certificate_pem: one.pem[..200].to_owned(), ..good.clone() }, "tls.client.certificate:"),
        (ClientTls { mode: SslMode::VerifyCa, ..good.clone() }, "tls.client.ca: missing"),
        (
            ClientTls { mode: SslMode::VerifyCa, ca_pem: Some("x".to_owned()), ..good },
            "tls.client.ca: no \"BEGIN CERTIFICATE\"",
        ),
    ];
    for (settings, words) in table {
        let Err(cause) = TlsServerConfig::build(&settings) else { panic!("accepted: {words}") };
        assert!(cause.contains(words), "{cause}");
    }
    let mut settings = to_server(SslMode::Require, None);
    settings.certificate_pem = Some(one.pem.clone());
    let Err(cause) = TlsClientConfig::build(&settings, &at(HOST)) else { panic!("a key is missing") };
    assert!(cause.contains("tls.server.key: missing"), "{cause}");
}
