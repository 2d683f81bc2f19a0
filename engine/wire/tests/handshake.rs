//! Logging in, both ends in memory: our client side against our server side.

use maitred_wire::auth::postgres_md5;
use maitred_wire::auth::scram::{salted_password, Verifier};
use maitred_wire::handshake::{ClientStep, Credentials, LoginTo, Method, ServerStep, Startup};
use maitred_wire::postgres::handshake_in::HandshakeIn;
use maitred_wire::postgres::handshake_out::HandshakeOut;
use maitred_wire::postgres::reply;
use maitred_wire::{CancelKey, Transaction};

const MOCK: [u8; 32] = [9; 32];

/// What happened to the two ends of one login.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The last word of each side.
    client: ClientStep,
    server: ServerStep,
    startup: Option<Startup>,
    settings: Vec<(String, String)>,
    key: Option<CancelKey>,
    errands_in: usize,
    errands_out: usize,
    tls: bool,
    salted: bool,
}

/// How a login is staged.
#[derive(Clone)]
struct Stage {
    login: LoginTo,
    method: Method,
    credentials: Option<Credentials>,
    accept_tls: bool,
    /// Hash of the certificate that each side sees; None: TLS without one, or no TLS.
    seen_by_server: Option<Vec<u8>>,
    seen_by_client: Option<Vec<u8>>,
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
                parameters: vec![("application_name".into(), "test".into())],
                ..LoginTo::default()
            },
            method,
            credentials,
            accept_tls: false,
            seen_by_server: None,
            seen_by_client: None,
            chunk: usize::MAX,
        }
    }

    fn run(&self) -> Outcome {
        let mut inner = HandshakeIn::new();
        let mut outer = HandshakeOut::new(self.login.clone());
        let mut outcome = Outcome {
            client: ClientStep::NeedMore,
            server: ServerStep::NeedMore,
            startup: None,
            settings: Vec::new(),
            key: None,
            errands_in: 0,
            errands_out: 0,
            tls: false,
            salted: false,
        };
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for _ in 0..10_000 {
            outer.take_output(&mut to_server);
            let count = to_server.len().min(self.chunk);
            inner.feed(&to_server.drain(..count).collect::<Vec<_>>());
            self.step_in(&mut inner, &mut to_client, &mut outcome);
            let count = to_client.len().min(self.chunk);
            outer.feed(&to_client.drain(..count).collect::<Vec<_>>());
            self.step_out(&mut outer, &mut outcome);
            if matches!(outcome.server, ServerStep::Ready | ServerStep::Refused(_) | ServerStep::Failed(_)) {
                outcome.salted = outer.take_salted().is_some();
                return outcome;
            }
        }
        panic!("the login does not end: {outcome:?}");
    }

    fn step_in(&self, inner: &mut HandshakeIn, to_client: &mut Vec<u8>, outcome: &mut Outcome) {
        loop {
            let step = inner.next();
            match &step {
                ClientStep::NeedMore => return inner.take_output(to_client),
                ClientStep::TlsAsked => {
                    inner.answer_tls(self.accept_tls);
                    inner.take_output(to_client);
                    if self.accept_tls {
                        inner.tls_started();
                    }
                }
                ClientStep::Startup(startup) => {
                    outcome.startup = Some(Startup::clone(startup));
                    let seen = self.seen_by_server.clone();
                    inner.demand(self.method, self.credentials.as_ref(), &MOCK, seen);
                }
                ClientStep::Errand(errand) => {
                    outcome.errands_in += 1;
                    inner.errand_done(errand.run());
                }
                ClientStep::LoggedIn => {
                    inner.take_output(to_client);
                    reply::setting(to_client, "server_version", "18.0");
                    reply::key(to_client, &CancelKey { pid: 42, secret: vec![1, 2, 3, 4] });
                    reply::notice(to_client, "welcome");
                    reply::ready(to_client, Transaction::None);
                    outcome.client = step;
                }
                ClientStep::Failed(_) | ClientStep::Cancel(_) => {
                    inner.take_output(to_client);
                    outcome.client = step;
                }
            }
        }
    }

    fn step_out(&self, outer: &mut HandshakeOut, outcome: &mut Outcome) {
        loop {
            let step = outer.next();
            match step {
                ServerStep::NeedMore => return,
                ServerStep::StartTls => {
                    outcome.tls = true;
                    if let Some(hash) = &self.seen_by_client {
                        outer.bind_channel(hash.clone());
                    }
                    outer.tls_started();
                }
                ServerStep::Errand(errand) => {
                    outcome.errands_out += 1;
                    outer.errand_done(errand.run());
                }
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

/// What can be known of the password "secret" of user "app". Few iterations: PBKDF2 without
/// optimisation is slow, and the count is not what is tested.
fn credentials(kind: &str) -> Option<Credentials> {
    let nothing = Credentials::default();
    let salted = salted_password("secret", b"0123456789abcdef", 16);
    Some(match kind {
        "plain" => Credentials { plain: Some("secret".into()), ..nothing },
        "md5" => Credentials { md5: Some(postgres_md5::stored("app", b"secret")), ..nothing },
        "scram" => {
            let verifier = Verifier::from_salted(&salted, b"0123456789abcdef".to_vec(), 16);
            Credentials { scram: Some(verifier), ..nothing }
        }
        "none" => nothing,
        _ => return None,
    })
}

fn assert_refused(outcome: &Outcome, sqlstate: &[u8; 5], text: &str, what: &str) {
    let ServerStep::Refused(refusal) = &outcome.server else { panic!("{what}: {outcome:?}") };
    assert_eq!((&refusal.sqlstate, refusal.message.as_str()), (sqlstate, text), "{what}");
    let ClientStep::Failed(complaint) = &outcome.client else { panic!("{what}: {outcome:?}") };
    assert!(complaint.fatal && complaint.message == text, "{what}");
}

const METHODS: [Method; 4] = [Method::Trust, Method::Password, Method::Md5, Method::ScramSha256];

#[test]
fn every_method_with_every_kind_of_secret() {
    for method in METHODS {
        for kind in ["plain", "md5", "scram", "none", "unknown user"] {
            for password in ["secret", "wrong"] {
                for (asked, accepted) in [(false, false), (true, false), (true, true)] {
                    for chunk in [1, 7, usize::MAX] {
                        let what = format!("{method:?} {kind} {password} tls {asked}/{accepted} by {chunk}");
                        let mut stage = Stage::new(method, credentials(kind), password);
                        stage.login.ask_tls = asked;
                        stage.login.tls_optional = true;
                        stage.accept_tls = accepted;
                        stage.chunk = chunk;
                        let outcome = stage.run();
                        assert_eq!(outcome.tls, accepted, "{what}");
                        let serves = match kind {
                            "plain" | "scram" => true,
                            "md5" => method != Method::ScramSha256,
                            _ => false,
                        };
                        if method == Method::Trust || (serves && password == "secret") {
                            assert_eq!(outcome.client, ClientStep::LoggedIn, "{what}");
                            assert_eq!(outcome.server, ServerStep::Ready, "{what}");
                            assert_eq!(outcome.key.as_ref().map(|key| key.pid), Some(42), "{what}");
                            assert_eq!(outcome.settings, [("server_version".into(), "18.0".into())]);
                            let startup = outcome.startup.as_ref().unwrap();
                            assert_eq!((startup.user.as_str(), startup.database.as_str()), ("app", "shop"));
                        } else {
                            let text = "password authentication failed for user \"app\"";
                            assert_refused(&outcome, b"28P01", text, &what);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn slow_hashing_is_an_errand_and_only_where_it_must_be() {
    let count = |method, kind| {
        let outcome = Stage::new(method, credentials(kind), "secret").run();
        assert_eq!(outcome.client, ClientStep::LoggedIn);
        (outcome.errands_in, outcome.errands_out)
    };
    assert_eq!(count(Method::Password, "plain"), (0, 0));
    assert_eq!(count(Method::Password, "md5"), (0, 0));
    assert_eq!(count(Method::Password, "scram"), (1, 0));
    assert_eq!(count(Method::Md5, "plain"), (0, 0));
    assert_eq!(count(Method::Md5, "scram"), (0, 1));
    assert_eq!(count(Method::ScramSha256, "scram"), (0, 1));
    assert_eq!(count(Method::ScramSha256, "plain"), (1, 1));
}

#[test]
fn a_cached_salted_password_saves_the_errand() {
    let mut stage = Stage::new(Method::ScramSha256, credentials("scram"), "secret");
    let salted = salted_password("secret", b"0123456789abcdef", 16);
    stage.login.salted = Some((b"0123456789abcdef".to_vec(), 16, salted));
    let outcome = stage.run();
    assert_eq!((outcome.server, outcome.errands_out, outcome.salted), (ServerStep::Ready, 0, true));
    // Another salt: the password was changed, the cache is not used.
    stage.login.salted = Some((b"another salt....".to_vec(), 16, [0; 32]));
    let outcome = stage.run();
    assert_eq!((outcome.server, outcome.errands_out, outcome.salted), (ServerStep::Ready, 1, true));
}

#[test]
fn channel_binding_is_used_when_both_sides_see_a_certificate() {
    let mut stage = Stage::new(Method::ScramSha256, credentials("scram"), "secret");
    stage.login.ask_tls = true;
    stage.accept_tls = true;
    for (server, client, works) in [
        (Some(b"hash"), Some(b"hash"), true),
        (Some(b"hash"), None, true),
        (None, Some(b"hash"), true),
        // Two TLS connections, somebody in between.
        (Some(b"hash"), Some(b"evil"), false),
    ] {
        stage.seen_by_server = server.map(|hash| hash.to_vec());
        stage.seen_by_client = client.map(|hash| hash.to_vec());
        let outcome = stage.run();
        if works {
            assert_eq!(outcome.server, ServerStep::Ready, "{server:?} {client:?}");
        } else {
            assert_refused(&outcome, b"08P01", "malformed SCRAM message", "binding");
        }
    }
}

#[test]
fn tls_that_is_required_and_declined_ends_the_login() {
    let mut stage = Stage::new(Method::Trust, None, "");
    stage.login.ask_tls = true;
    let ServerStep::Failed(complaint) = stage.run().server else { panic!("went on in clear text") };
    assert_eq!(complaint.message, "server does not support TLS");
    assert!(complaint.hint.unwrap().contains("sslmode"));
}

#[test]
fn the_newest_version_and_options_are_negotiated() {
    let mut stage = Stage::new(Method::Trust, None, "");
    stage.login.minor = 2;
    stage.login.replication = Some("database".into());
    stage.login.parameters.push(("_pq_.new".into(), "1".into()));
    let outcome = stage.run();
    assert_eq!(outcome.server, ServerStep::Ready);
    let startup = outcome.startup.unwrap();
    assert_eq!((startup.minor, startup.replication.as_deref()), (2, Some("database")));
    assert_eq!(startup.parameters, [("application_name".to_owned(), "test".to_owned())]);
}
