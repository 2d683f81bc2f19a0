//! Logging in by MySQL's protocol, both ends in memory: our client side against our server side.

use std::sync::{Arc, OnceLock};

use maitred_wire::auth::caching_sha2::{self, Verifier};
use maitred_wire::auth::sealed_password::{OwnKey, ServerKey};
use maitred_wire::auth::{ed25519, mysql_native};
use maitred_wire::handshake::{ClientStep, Credentials, LoginTo, Method, ServerStep, Startup};
use maitred_wire::mysql::frame;
use maitred_wire::mysql::handshake_in::{Greeting, HandshakeIn};
use maitred_wire::mysql::handshake_out::HandshakeOut;
use maitred_wire::mysql::spec::{capability, status};
use maitred_wire::CancelKey;

const MOCK: [u8; 32] = [9; 32];
const KEY: &str = include_str!("../../../tests/vectors/mysql/key.pem");

fn key() -> Arc<OwnKey> {
    static KEY_PAIR: OnceLock<Arc<OwnKey>> = OnceLock::new();
    Arc::clone(KEY_PAIR.get_or_init(|| Arc::new(OwnKey::of(ServerKey::parse(KEY).unwrap()))))
}

/// What happened to the two ends of one login.
#[derive(Debug)]
struct Outcome {
    /// The last word of each side.
    client: ClientStep,
    server: ServerStep,
    startup: Option<Startup>,
    settings: Vec<(String, String)>,
    key: Option<CancelKey>,
    errands: usize,
    tls: bool,
    remembered: Option<[u8; 32]>,
    capabilities: u64,
    tracked: Vec<u8>,
    /// What the server was asked behind the login.
    asked: Vec<u8>,
}

/// Answer the two statements of a setup once they have come.
fn set_up(rest: &mut Vec<u8>, asked: &mut Vec<u8>, to_client: &mut Vec<u8>) {
    if rest.is_empty() {
        return;
    }
    asked.append(rest);
    let Some(first) = frame::header(asked) else { return };
    let Some(second) = asked.get(first.total()..).and_then(frame::header) else { return };
    if asked.len() < first.total() + second.total() {
        return;
    }
    let answers: [&[&[u8]]; 2] = [
        &[b"\0\0\0\x02\0\0\0"],
        &[b"\x02", b"\x03def", b"\x03def", b"\xfe\0\0\x02\0", b"\x08sql_mode\x04ANSI", b"\xfe\0\0\x02\0"],
    ];
    for answer in answers {
        answer
            .iter()
            .fold(1, |next, payload| frame::packet(to_client, next, |out| out.extend_from_slice(payload)));
    }
}

/// How a login is staged.
#[derive(Clone)]
struct Stage {
    login: LoginTo,
    greeting: Greeting,
    method: Method,
    credentials: Option<Credentials>,
    accept_tls: bool,
    /// Bytes that are moved at a time.
    chunk: usize,
}

impl Stage {
    fn new(method: Method, credentials: Option<Credentials>, password: &str) -> Self {
        Self {
            login: LoginTo {
                user: "app".into(),
                database: "shop".into(),
                password: Some(password.into()),
                attributes: vec![("program_name".into(), "test".into())],
                capabilities: capability::SESSION_TRACK | capability::FOUND_ROWS | capability::SSL,
                character_set: 45,
                ..LoginTo::default()
            },
            greeting: Greeting {
                connection_id: 42,
                server_version: "8.0.36".into(),
                capabilities: capability::SESSION_TRACK,
                method,
                ..Greeting::default()
            },
            method,
            credentials,
            accept_tls: true,
            chunk: usize::MAX,
        }
    }

    fn run(&self) -> Outcome {
        let mut inner = HandshakeIn::new(self.greeting.clone());
        let mut outer = HandshakeOut::new(self.login.clone());
        let mut outcome = Outcome {
            client: ClientStep::NeedMore,
            server: ServerStep::NeedMore,
            startup: None,
            settings: Vec::new(),
            key: None,
            errands: 0,
            tls: false,
            remembered: None,
            capabilities: 0,
            tracked: Vec::new(),
            asked: Vec::new(),
        };
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for _ in 0..10_000 {
            outer.take_output(&mut to_server);
            let count = to_server.len().min(self.chunk);
            inner.feed(&to_server.drain(..count).collect::<Vec<_>>());
            self.step_in(&mut inner, &mut to_client, &mut outcome);
            if outcome.client == ClientStep::LoggedIn {
                set_up(&mut inner.take_rest(), &mut outcome.asked, &mut to_client);
            }
            let count = to_client.len().min(self.chunk);
            outer.feed(&to_client.drain(..count).collect::<Vec<_>>());
            Self::step_out(&mut outer, &mut outcome);
            // Why here: what is encrypted must not arrive with what is not.
            if outcome.tls {
                outer.tls_started();
            }
            if matches!(outcome.server, ServerStep::Ready | ServerStep::Refused(_) | ServerStep::Failed(_)) {
                outcome.capabilities = outer.capabilities();
                outcome.tracked = outer.tracked().to_vec();
                assert!(outer.take_rest().is_empty());
                return outcome;
            }
        }
        panic!("the login does not end: {outcome:?}");
    }

    fn step_in(&self, inner: &mut HandshakeIn, to_client: &mut Vec<u8>, outcome: &mut Outcome) {
        loop {
            let step = inner.next();
            inner.take_output(to_client);
            match &step {
                ClientStep::NeedMore => return,
                ClientStep::TlsAsked => {
                    inner.answer_tls(self.accept_tls);
                    if self.accept_tls {
                        assert!(inner.take_rest().is_empty());
                        inner.tls_started();
                        outcome.tls = true;
                    }
                }
                ClientStep::Startup(startup) => {
                    outcome.startup = Some(Startup::clone(startup));
                    inner.demand(self.method, self.credentials.as_ref(), &MOCK, None);
                }
                ClientStep::Errand(errand) => {
                    outcome.errands += 1;
                    inner.errand_done(errand.run());
                }
                ClientStep::LoggedIn => {
                    outcome.remembered = inner.remembered();
                    frame::packet(to_client, inner.next_sequence(), |out| {
                        out.extend_from_slice(&[0, 0, 0]);
                        let flags = status::AUTOCOMMIT | status::SESSION_STATE_CHANGED;
                        out.extend_from_slice(&flags.to_le_bytes());
                        out.extend_from_slice(&[0, 0]);
                        frame::put_string(out, b"welcome");
                        frame::put_string(out, b"tracked");
                    });
                    outcome.client = step;
                }
                ClientStep::Failed(_) | ClientStep::Cancel(_) => outcome.client = step,
            }
        }
    }

    fn step_out(outer: &mut HandshakeOut, outcome: &mut Outcome) {
        loop {
            let step = outer.next();
            match step {
                ServerStep::NeedMore => return,
                ServerStep::StartTls => {}
                ServerStep::Errand(errand) => panic!("there are none on this side: {errand:?}"),
                ServerStep::Setting { name, value } => outcome.settings.push((name, value)),
                ServerStep::Key(key) => outcome.key = Some(key),
                ServerStep::Ready | ServerStep::Refused(_) | ServerStep::Failed(_) => {
                    outcome.server = step;
                    return;
                }
            }
        }
    }
}

/// What can be known of the password "secret". Few rounds: without optimisation the hash is slow, and
/// the count is not what is tested.
fn credentials(kind: &str) -> Option<Credentials> {
    let nothing = Credentials::default();
    let sha2 = || Some(Verifier::derive(b"secret", b"01234567890123456789", 16));
    Some(match kind {
        "plain" => Credentials { plain: Some("secret".into()), ..nothing },
        "empty" => Credentials { plain: Some(String::new()), ..nothing },
        "native" => Credentials { native: Some(mysql_native::stored(b"secret")), ..nothing },
        "sha2" => Credentials { sha2: sha2(), ..nothing },
        "fast" => Credentials { sha2: sha2(), fast: Some(caching_sha2::twice(b"secret")), ..nothing },
        "ed25519" => Credentials { ed25519: Some(ed25519::public_key(b"secret")), ..nothing },
        "none" => nothing,
        _ => return None,
    })
}

fn assert_refused(outcome: &Outcome, number: u16, sqlstate: &[u8; 5], text: &str, what: &str) {
    let ServerStep::Refused(refusal) = &outcome.server else { panic!("{what}: {outcome:?}") };
    let found = (refusal.number, &refusal.sqlstate, refusal.message.as_str());
    assert_eq!(found, (number, sqlstate, text), "{what}");
    let ClientStep::Failed(complaint) = &outcome.client else { panic!("{what}: {outcome:?}") };
    assert!(complaint.fatal, "{what}");
}

const METHODS: [Method; 7] = [
    Method::Trust,
    Method::Password,
    Method::Md5,
    Method::ScramSha256,
    Method::MysqlNative,
    Method::CachingSha2,
    Method::Ed25519,
];
const KINDS: [&str; 8] = ["plain", "empty", "native", "sha2", "fast", "ed25519", "none", "unknown user"];

/// How the password can travel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Road {
    Plain,
    Sealed,
    Tls,
    Local,
}

#[test]
fn every_method_with_every_kind_of_secret_on_every_road() {
    for method in METHODS {
        for kind in KINDS {
            for password in ["secret", "wrong", ""] {
                for road in [Road::Plain, Road::Sealed, Road::Tls, Road::Local] {
                    let what = format!("{method:?} {kind} {password:?} {road:?}");
                    let mut stage = Stage::new(method, credentials(kind), password);
                    stage.login.ask_tls = road == Road::Tls;
                    stage.greeting.tls = road == Road::Tls;
                    stage.greeting.is_local = road == Road::Local;
                    stage.login.is_local = road == Road::Local;
                    stage.greeting.key = (road == Road::Sealed).then(key);
                    stage.chunk = if kind == "plain" { 1 } else { usize::MAX };
                    let outcome = stage.run();
                    assert_eq!(outcome.tls, road == Road::Tls, "{what}");
                    let is_known = match kind {
                        "empty" => password.is_empty(),
                        // Without a road for the password, only its hash can be compared.
                        "sha2" if road == Road::Plain => false,
                        "none" | "unknown user" => false,
                        _ => password == "secret",
                    };
                    let is_demanded_in_clear =
                        method == Method::Password && !matches!(kind, "none" | "unknown user");
                    if method == Method::Password && matches!(road, Road::Plain | Road::Sealed) {
                        assert_ne!(outcome.client, ClientStep::LoggedIn, "{what}");
                        assert!(is_demanded_in_clear || matches!(kind, "none" | "unknown user"));
                    } else if method == Method::Trust || is_known {
                        assert_eq!(outcome.client, ClientStep::LoggedIn, "{what}");
                        assert_eq!(outcome.server, ServerStep::Ready, "{what}");
                        assert_eq!(outcome.key, Some(CancelKey { pid: 42, secret: Vec::new() }), "{what}");
                        let told = [("version", "8.0.36"), ("schema", "shop"), ("sql_mode", "ANSI")];
                        assert_eq!(outcome.settings, told.map(|(name, value)| (name.into(), value.into())));
                        assert_eq!(outcome.tracked, b"tracked");
                        let startup = outcome.startup.as_ref().unwrap();
                        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("app", "shop"));
                        assert_eq!(startup.attributes, stage.login.attributes);
                        assert_eq!(startup.character_set, 45);
                        assert_eq!(startup.capabilities, outcome.capabilities);
                        assert_eq!(startup.capabilities & capability::FOUND_ROWS, 0, "not offered");
                        assert_eq!(startup.capabilities & capability::SSL != 0, road == Road::Tls);
                    } else {
                        let using = if password.is_empty() { "NO" } else { "YES" };
                        // Why: ed25519 signs with an empty password, too.
                        let signs = matches!(kind, "ed25519") || method == Method::Ed25519;
                        let ServerStep::Refused(refusal) = &outcome.server else {
                            panic!("{what}: {outcome:?}")
                        };
                        let using = if signs && refusal.message.contains("YES") { "YES" } else { using };
                        let text =
                            format!("Access denied for user 'app'@'localhost' (using password: {using})");
                        assert_refused(&outcome, 1045, b"28000", &text, &what);
                    }
                }
            }
        }
    }
}
