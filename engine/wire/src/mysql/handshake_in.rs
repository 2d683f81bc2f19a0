//! A client logs in to us, or becomes another user.
//!
//! Decides nothing about who may do what and touches no socket: `relay` answers its questions
//! (`answer_tls`, `demand`, `refuse`, `errand_done`). Called by `relay::client` until `LoggedIn`.
//!
//! ```text
//!  (greeting) ─► ExpectResponse ─ SSLRequest ─► AwaitTlsAnswer ─ yes ─► AwaitTls ─ tls_started ─► ExpectResponse
//!                    │ response                        └ no ─► Failed
//!                    ▼
//!  (change) ──► AwaitDemand ─ trust ─────────────────────────────────────────────► LoggedIn
//!                    │ answer of another kind: auth switch ─► ExpectAnswer
//!                    ▼                                            │ answer
//!                 (check) ◄───────────────────────────────────────┘
//!                    ├ fits ─────────────────────────────────────────────────────► LoggedIn
//!                    ├ only the slow hash can tell: "full" ─► ExpectPassword ─► AwaitErrand ─► LoggedIn
//!                    │            public key, made if it must be (AwaitKey) ─► ExpectPassword
//!  every state ─ doubt, refuse, wrong ─► Failed
//! ```
//!
//! Each step is reported once; `next` then says `NeedMore` until something changes. The OK behind
//! `LoggedIn` is the caller's, who knows what it has to say: its sequence number is `next_sequence`.
//!
//! Spec: "Connection Phase"; "Caching_sha2_password information"; MariaDB "Connection".

use std::{fmt, mem};

use super::proof::{self, Scheme, Verdict};
use super::spec::{capability, limits, login, plugin};
use super::startup::{self, Opening, Response};
use super::{errors, frame, greeting};
use crate::auth::caching_sha2::Verifier;
use crate::auth::{ed25519, random};
use crate::handshake::{ClientStep, Credentials, Errand, ErrandOutcome, Method, SentPassword};
use crate::{Code, Complaint};

pub use super::greeting::Greeting;

/// Most bytes kept of a client that is not logged in: one packet of a login, and what a chunk of the
/// reactor may bring behind it. Ours.
const MOST_BUFFERED: usize = 256 * 1024;

/// The machine. Lives in a box of the client that logs in, and goes with it.
pub struct HandshakeIn {
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    greeting: Greeting,
    /// What the client's answers are made with, but for ed25519.
    nonce: [u8; limits::NONCE_BYTES],
    /// The client has made its first answer with it.
    is_nonce_known: bool,
    long_nonce: [u8; ed25519::NONCE_BYTES],
    /// Of the next packet, whoever sends it.
    sequence: u8,
    /// What both sides can do; none before the client has spoken.
    capabilities: u64,
    has_tls: bool,
    user: String,
    /// The client's first answer, until it is asked for.
    answer: Vec<u8>,
    plugin: String,
    has_password: bool,
    /// What the user's proof is checked with.
    known: Credentials,
    remembered: Option<[u8; 32]>,
    why: &'static str,
}

enum State {
    ExpectResponse,
    AwaitTlsAnswer,
    AwaitTls,
    AwaitDemand,
    ExpectAnswer(Scheme),
    /// The verifier whose salt the password is hashed with.
    ExpectPassword(Box<Verifier>),
    /// As `ExpectPassword`, once there is a key to seal it with.
    AwaitKey(Box<Verifier>),
    AwaitErrand,
    /// A step that `next` reports before anything else.
    Report(Box<ClientStep>),
    /// Logged in; what is fed belongs to the session.
    Done,
    /// Refused; what is fed is dropped.
    Closed,
}

/// Why: it holds what passwords are checked with, which must not reach a log.
impl fmt::Debug for HandshakeIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeIn").field("user", &self.user).finish_non_exhaustive()
    }
}

impl HandshakeIn {
    /// Begin; the greeting is in the output at once.
    pub fn new(greeting: Greeting) -> Self {
        let mut machine = Self::silent(greeting);
        machine.sequence = machine.greeting.write(&mut machine.output, &machine.nonce);
        machine.is_nonce_known = true;
        machine
    }

    /// Begin with the payload of a `COM_CHANGE_USER`, which had the sequence number before `sequence`,
    /// from a client of these `capabilities`. It proves itself anew.
    pub fn for_change_user(greeting: Greeting, payload: &[u8], sequence: u8, capabilities: u64) -> Self {
        let mut machine = Self { sequence, capabilities, ..Self::silent(greeting) };
        machine.has_tls = capabilities & capability::SSL != 0;
        match startup::read_change(payload, capabilities) {
            Ok(response) => {
                let step = machine.named(response);
                machine.report(step);
            }
            Err(fault) => machine.fail(malformed(fault.0)),
        }
        machine
    }

    fn silent(greeting: Greeting) -> Self {
        Self {
            input: Vec::new(),
            output: Vec::new(),
            state: State::ExpectResponse,
            nonce: greeting.nonce.unwrap_or_else(greeting::nonce),
            is_nonce_known: greeting.nonce.is_some(),
            long_nonce: [0; ed25519::NONCE_BYTES],
            sequence: 0,
            capabilities: 0,
            has_tls: false,
            user: String::new(),
            answer: Vec::new(),
            plugin: String::new(),
            has_password: false,
            known: Credentials::default(),
            remembered: None,
            why: "",
            greeting,
        }
    }

    /// Bytes arrived. Bytes after a refusal are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &self.state {
            State::Report(step) if matches!(**step, ClientStep::Failed(_)) => {}
            State::Closed => {}
            _ if self.input.len() + bytes.len() > MOST_BUFFERED => {
                self.fail(malformed("too many bytes before the login is complete"));
            }
            _ => self.input.extend_from_slice(bytes),
        }
    }

    /// What is needed now.
    // Why: one of the four verbs of all machines; it never ends, so it is no iterator.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ClientStep {
        loop {
            match &self.state {
                State::Report(_) => {
                    let State::Report(step) = mem::replace(&mut self.state, State::Closed) else {
                        return ClientStep::NeedMore;
                    };
                    match *step {
                        ClientStep::LoggedIn => self.state = State::Done,
                        ClientStep::Startup(_) => self.state = State::AwaitDemand,
                        _ => self.input = Vec::new(),
                    }
                    return *step;
                }
                State::ExpectResponse | State::ExpectAnswer(_) | State::ExpectPassword(_) => {
                    match self.packet().and_then(|payload| payload.map(|p| self.heard(&p)).transpose()) {
                        Ok(Some(Some(step))) => return step,
                        Ok(Some(None)) => {}
                        Ok(None) => return ClientStep::NeedMore,
                        Err(complaint) => self.fail(complaint),
                    }
                }
                _ => return ClientStep::NeedMore,
            }
        }
    }

    /// Append what is to be sent to the client.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
        // Why: a client waits for its user to type a password; it should not hold a buffer.
        self.output = Vec::new();
    }

    /// Answer to `TlsAsked`. After yes nothing is sent: `take_rest` has what TLS begins with, if it has
    /// come already; start TLS with it, and call `tls_started`.
    pub fn answer_tls(&mut self, accepted: bool) {
        if !matches!(self.state, State::AwaitTlsAnswer) {
            return;
        }
        match accepted {
            true => self.state = State::AwaitTls,
            false => self.fail(malformed("the client asks for TLS, which was not offered")),
        }
    }

    /// TLS runs; bytes fed from now on were encrypted.
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::AwaitTls) {
            self.has_tls = true;
            self.input = Vec::new();
            self.state = State::ExpectResponse;
        }
    }

    /// Answer to `Startup`: how the client must prove who it is.
    ///
    /// None as `credentials` is an unknown user, which the client cannot tell from a wrong
    /// password. `mock_secret` is stable for the life of the process. No login of MySQL is tied to its
    /// TLS connection.
    pub fn demand(
        &mut self,
        method: Method,
        credentials: Option<&Credentials>,
        mock_secret: &[u8; 32],
        _channel_binding: Option<Vec<u8>>,
    ) {
        if !matches!(self.state, State::AwaitDemand) {
            return;
        }
        self.why = match credentials {
            None => "the user is unknown",
            Some(known) if !Scheme::fitting(method, known).is_served_by(known) => {
                "no secret that serves a login of MySQL is configured for the user"
            }
            Some(_) => "the password is wrong",
        };
        self.known = credentials.cloned().unwrap_or_default();
        if method == Method::Trust {
            return self.trust();
        }
        let scheme = Scheme::fitting(method, &self.known);
        if scheme == Scheme::Clear && !self.is_secure() {
            let complaint = Complaint::fatal(Code::NotAuthorized, "a password in clear text needs TLS");
            return self.fail(complaint.hint("connect with TLS (--ssl-mode=REQUIRED), or set auth.method"));
        }
        self.known.sha2.get_or_insert_with(|| Verifier::mock(mock_secret, &self.user));
        let is_answered = match scheme {
            Scheme::Clear => true,
            Scheme::Ed25519 => false,
            Scheme::Native | Scheme::CachingSha2 => self.is_nonce_known,
        };
        if self.plugin == scheme.plugin() && is_answered {
            let answer = mem::take(&mut self.answer);
            match self.check(scheme, &answer) {
                Ok(Some(step)) => self.report(step),
                Ok(None) => {}
                Err(complaint) => self.fail(complaint),
            }
        } else if self.capabilities & capability::PLUGIN_AUTH == 0 {
            let message = "the client does not support the way of authentication that is asked for";
            let complaint = Complaint::fatal(Code::Unsupported, message).hint("use a newer client");
            self.fail_as(errors::OLD_CLIENT, complaint);
        } else {
            self.switch_to(scheme);
        }
    }

    /// Say no, whatever the client was about to prove.
    pub fn refuse(&mut self, complaint: Complaint) {
        self.fail(complaint);
    }

    /// The result of an `Errand`.
    pub fn errand_done(&mut self, outcome: ErrandOutcome) {
        match mem::replace(&mut self.state, State::Done) {
            State::AwaitErrand => {}
            State::AwaitKey(verifier) => return self.say_key(verifier),
            other => {
                self.state = other;
                return;
            }
        }
        match outcome {
            ErrandOutcome::Hashed { slow, fast } if proof::check_hashed(&self.known, &slow, &fast) => {
                self.remembered = Some(fast);
                self.accept();
            }
            _ => self.fail(self.wrong_password()),
        }
    }

    /// Bytes that came behind the login and belong to the session, or behind the wish for TLS and
    /// belong to that.
    pub fn take_rest(&mut self) -> Vec<u8> {
        mem::take(&mut self.input)
    }

    /// Sequence number of the packet that comes next: the OK behind `LoggedIn`.
    pub fn next_sequence(&self) -> u8 {
        self.sequence
    }

    /// What both sides can do.
    pub fn capabilities(&self) -> u64 {
        self.capabilities
    }

    /// What the client's answers were made with: to be kept for a change of user.
    pub fn nonce(&self) -> [u8; limits::NONCE_BYTES] {
        self.nonce
    }

    /// SHA256(SHA256(password)) of a user whose password was proven the slow way: with it, as
    /// `Credentials::fast`, the next login is quick.
    pub fn remembered(&self) -> Option<[u8; 32]> {
        self.remembered
    }

    /// Why a login failed, for the log; the client is not told.
    pub fn why(&self) -> &'static str {
        self.why
    }

    /// The payload of the next packet, in a state that expects one.
    fn packet(&mut self) -> Result<Option<Vec<u8>>, Complaint> {
        let Some(head) = frame::header(&self.input) else {
            return Ok(None);
        };
        if head.payload > limits::CLIENT_LOGIN_BYTES {
            self.sequence = head.sequence.wrapping_add(1);
            return Err(malformed("a packet of a login is too long"));
        }
        if head.sequence != self.sequence {
            self.sequence = head.sequence.wrapping_add(1);
            return Err(malformed("packets out of order"));
        }
        let Some(payload) = self.input.get(frame::HEADER..head.total()) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.sequence = head.sequence.wrapping_add(1);
        match self.input.len() == head.total() {
            true => self.input = Vec::new(),
            false => drop(self.input.drain(..head.total())),
        }
        Ok(Some(payload))
    }

    fn heard(&mut self, payload: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        match mem::replace(&mut self.state, State::Done) {
            State::ExpectResponse => self.opening(payload),
            State::ExpectAnswer(scheme) => self.check(scheme, payload),
            State::ExpectPassword(verifier) => self.password(verifier, payload),
            other => {
                self.state = other;
                Ok(None)
            }
        }
    }

    fn opening(&mut self, payload: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        match startup::read(payload).map_err(|fault| malformed(fault.0))? {
            Opening::Tls if self.has_tls => Err(malformed("TLS was asked for a second time")),
            Opening::Tls => {
                self.state = State::AwaitTlsAnswer;
                Ok(Some(ClientStep::TlsAsked))
            }
            Opening::Old => {
                let message = "the client speaks the protocol of before MySQL 4.1";
                let complaint = Complaint::fatal(Code::Unsupported, message).hint("use a newer client");
                errors::write_as(&mut self.output, self.sequence, errors::OLD_CLIENT, &complaint, 0);
                self.report(ClientStep::Failed(complaint));
                Ok(None)
            }
            Opening::Response(mut response) => {
                response.startup.capabilities &= self.greeting.offered();
                if !self.has_tls {
                    response.startup.capabilities &= !capability::SSL;
                }
                self.capabilities = response.startup.capabilities;
                let step = self.named(*response);
                self.state = State::AwaitDemand;
                Ok(Some(step))
            }
        }
    }

    fn named(&mut self, response: Response) -> ClientStep {
        let Response { startup, answer, plugin } = response;
        self.user.clone_from(&startup.user);
        self.has_password = !matches!(answer.as_slice(), [] | [0]);
        self.answer = answer;
        // Spec: a client that cannot name a plugin has the one that 4.1 had.
        self.plugin = plugin.unwrap_or_else(|| plugin::NATIVE.to_owned());
        ClientStep::Startup(Box::new(startup))
    }

    /// Clear text is safe.
    fn is_secure(&self) -> bool {
        self.has_tls || self.greeting.is_local
    }

    fn trust(&mut self) {
        // Why: such a client waits to be told that its answer was enough, and takes no OK in its place.
        if self.plugin == plugin::CACHING_SHA2 && self.has_password {
            self.say_more(&[login::FAST_OK]);
        }
        self.accept();
    }

    /// Spec: "Protocol::AuthSwitchRequest".
    ///
    /// Why the nonce of the greeting again, as MySQL does: MariaDB's library answers with that one,
    /// whatever it is told, when it changes the user.
    fn switch_to(&mut self, scheme: Scheme) {
        let data = match scheme {
            Scheme::Clear => Vec::new(),
            Scheme::Ed25519 => {
                self.long_nonce = random();
                self.long_nonce.to_vec()
            }
            Scheme::Native | Scheme::CachingSha2 => [&self.nonce[..], &[0]].concat(),
        };
        self.sequence = frame::packet(&mut self.output, self.sequence, |out| {
            out.push(login::AUTH_SWITCH);
            frame::put_cstr(out, scheme.plugin().as_bytes());
            out.extend_from_slice(&data);
        });
        self.state = State::ExpectAnswer(scheme);
    }

    fn check(&mut self, scheme: Scheme, answer: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        let answer = match (scheme, answer) {
            // Why: a zero byte alone is how some clients say that they have no password.
            (Scheme::Native | Scheme::CachingSha2, [0]) => &[],
            (Scheme::Clear, _) => answer.strip_suffix(&[0]).unwrap_or(answer),
            _ => answer,
        };
        self.has_password = !answer.is_empty();
        if answer.len() > limits::PASSWORD_BYTES {
            return Err(self.wrong_password());
        }
        let nonce = if scheme == Scheme::Ed25519 { &self.long_nonce[..] } else { &self.nonce };
        match scheme.check(&self.known, nonce, answer) {
            Verdict::Fits => {
                if scheme == Scheme::CachingSha2 && self.has_password {
                    self.say_more(&[login::FAST_OK]);
                }
                self.accept();
                Ok(None)
            }
            Verdict::Wrong => Err(self.wrong_password()),
            Verdict::Slow => {
                let verifier = self.known.sha2.clone().map(Box::new);
                let verifier = verifier.ok_or_else(|| self.wrong_password())?;
                if scheme == Scheme::Clear {
                    return Ok(Some(self.hash(&verifier, SentPassword::Clear(answer.to_vec()))));
                }
                if !self.is_secure() && self.greeting.key.is_none() {
                    return Err(self.wrong_password());
                }
                self.say_more(&[login::FULL_WANTED]);
                self.state = State::ExpectPassword(verifier);
                Ok(None)
            }
        }
    }

    /// The password, or the wish for the key to seal it with.
    fn password(&mut self, verifier: Box<Verifier>, payload: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        let key = self.greeting.key.clone();
        match (payload, key) {
            ([login::KEY_WANTED], Some(key)) if key.get().is_some() => {
                self.say_key(verifier);
                Ok(None)
            }
            ([login::KEY_WANTED], Some(key)) => {
                self.state = State::AwaitKey(verifier);
                Ok(Some(ClientStep::Errand(Errand::MakeKey(key))))
            }
            ([login::KEY_WANTED], None) => Err(malformed("there is no public key to seal a password with")),
            (_, _) if self.is_secure() => {
                let password = payload.strip_suffix(&[0]).unwrap_or(payload);
                if password.len() > limits::PASSWORD_BYTES {
                    return Err(self.wrong_password());
                }
                Ok(Some(self.hash(&verifier, SentPassword::Clear(password.to_vec()))))
            }
            (sealed, Some(key)) => {
                let sent = SentPassword::Sealed { bytes: sealed.to_vec(), nonce: self.nonce, key };
                Ok(Some(self.hash(&verifier, sent)))
            }
            (_, None) => Err(self.wrong_password()),
        }
    }

    fn say_key(&mut self, verifier: Box<Verifier>) {
        let key = self.greeting.key.clone();
        match key.as_ref().and_then(|key| key.get()) {
            Some(key) => {
                self.say_more(key.public_pem().as_bytes());
                self.state = State::ExpectPassword(verifier);
            }
            None => self.fail(Complaint::fatal(Code::Internal, "no key could be made; connect with TLS")),
        }
    }

    fn hash(&mut self, verifier: &Verifier, password: SentPassword) -> ClientStep {
        self.state = State::AwaitErrand;
        let Verifier { salt, rounds, .. } = verifier;
        ClientStep::Errand(Errand::HashPassword { password, salt: salt.clone(), rounds: *rounds })
    }

    /// Spec: "Protocol::AuthMoreData".
    fn say_more(&mut self, data: &[u8]) {
        self.sequence = frame::packet(&mut self.output, self.sequence, |out| {
            out.push(login::AUTH_MORE);
            out.extend_from_slice(data);
        });
    }

    fn accept(&mut self) {
        self.why = "";
        self.report(ClientStep::LoggedIn);
    }

    fn fail(&mut self, complaint: Complaint) {
        let number = match complaint.code {
            Code::ProtocolViolation => errors::BAD_HANDSHAKE,
            code => errors::number(code),
        };
        self.fail_as(number, complaint);
    }

    fn fail_as(&mut self, number: (u16, &[u8; 5]), mut complaint: Complaint) {
        complaint.fatal = true;
        let is_unseen = self.sequence == 1 && !self.output.is_empty() && self.capabilities == 0;
        let (sequence, capabilities) = if is_unseen {
            // Why: in the place of a greeting that has not been sent; nobody has to log in to hear it.
            self.output = Vec::new();
            (0, 0)
        } else if self.capabilities == 0 {
            // Why two: the client will read it behind the response that it is sending now.
            (self.sequence.max(2), capability::PROTOCOL_41)
        } else {
            (self.sequence, self.capabilities)
        };
        self.sequence = errors::write_as(&mut self.output, sequence, number, &complaint, capabilities);
        self.input = Vec::new();
        self.report(ClientStep::Failed(complaint));
    }

    fn report(&mut self, step: ClientStep) {
        self.state = State::Report(Box::new(step));
    }

    /// Spec: the words of MySQL's error 1045, which people look for.
    fn wrong_password(&self) -> Complaint {
        let host = self.greeting.host.map_or("localhost".to_owned(), |host| host.to_string());
        let using = if self.has_password { "YES" } else { "NO" };
        let user = &self.user;
        let message = format!("Access denied for user '{user}'@'{host}' (using password: {using})");
        Complaint::fatal(Code::WrongPassword, message)
    }
}

fn malformed(what: &str) -> Complaint {
    Complaint::fatal(Code::ProtocolViolation, format!("bad handshake: {what}"))
}
