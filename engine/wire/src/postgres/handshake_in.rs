//! A client logs in to us.
//!
//! Decides nothing about who may do what and touches no socket: `relay` answers its questions
//! (`answer_tls`, `demand`, `refuse`, `errand_done`). Called by `relay::client` until `LoggedIn`.
//!
//! ```text
//!                 ┌── no ───┐
//!  ExpectStartup ─┴─ SSLRequest ─► AwaitTlsAnswer ─ yes ─► AwaitTls ─ tls_started ─► ExpectStartup
//!        │ startup                                                  CancelRequest ─► Done
//!        ▼
//!  AwaitDemand ─ trust ─────────────────────────────────────────────────────────────► LoggedIn
//!        ├ password ─► ExpectPassword ──────────── fits ────────────────────────────► LoggedIn
//!        │                 └ only a verifier: AwaitPasswordErrand ──────────────────► LoggedIn
//!        ├ md5 ──────► ExpectMd5 ─────────────────────────────────────────────────► LoggedIn
//!        └ scram ────► ExpectSasl ─► ExpectClientFirst ─► ExpectClientFinal ─ fits ─► LoggedIn
//!                                     only a plain password: AwaitProofErrand ──────► LoggedIn
//!  every state ─ doubt, refuse ─► Failed
//! ```
//!
//! Each step is reported once; `next` then says `NeedMore` until something changes.
//!
//! Spec: "Message Flow", Start-up and SSL Session Encryption; "SASL Authentication".

use std::{fmt, mem};

use subtle::ConstantTimeEq;

use super::spec::{self, authentication, limits};
use super::startup::{self, Opening, Session};
use super::{frame, reply};
use crate::auth::scram::{self, Reject, Verifier};
use crate::auth::scram_server::{Proof, ServerExchange};
use crate::auth::{postgres_md5, random};
use crate::handshake::{ClientStep, Credentials, Errand, ErrandOutcome, Method};
use crate::{Code, Complaint};

/// Most bytes kept of a client that is not logged in: one startup packet, one password message,
/// and what a chunk of the reactor may bring behind them. Ours.
const MOST_BUFFERED: usize = 256 * 1024;

/// The machine. Lives in a box of the client that logs in, and goes with it.
pub struct HandshakeIn {
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    /// As the startup packet said.
    user: String,
    tls_asked: bool,
    gss_asked: bool,
    why: &'static str,
}

enum State {
    ExpectStartup,
    AwaitTlsAnswer,
    AwaitTls,
    AwaitDemand,
    ExpectPassword(Secret),
    AwaitPasswordErrand(Box<Verifier>),
    /// None: the user has no md5 secret; every answer is wrong.
    ExpectMd5 {
        salt: [u8; 4],
        stored: Option<String>,
    },
    ExpectSasl(Box<Sasl>),
    ExpectClientFirst {
        sasl: Box<Sasl>,
        plus: bool,
    },
    ExpectClientFinal {
        exchange: Box<ServerExchange>,
        keys: Keys,
    },
    AwaitProofErrand {
        proof: Box<Proof>,
        salt: Vec<u8>,
        iterations: u32,
    },
    /// A step that `next` reports before anything else.
    Report(Box<ClientStep>),
    /// Logged in; what is fed belongs to the session.
    Done,
    /// Refused, or a cancel request; what is fed is dropped.
    Closed,
}

/// What a password in clear text is compared with.
enum Secret {
    Plain(String),
    Md5(String),
    Scram(Box<Verifier>),
    Nothing,
}

/// What a SCRAM proof is checked with.
enum Keys {
    Verifier(Verifier),
    /// The keys are derived when a proof has come.
    Plain {
        password: String,
        salt: Vec<u8>,
    },
}

struct Sasl {
    keys: Keys,
    binding: Option<Vec<u8>>,
}

/// Why: states hold passwords and verifiers, which must not reach a log.
impl fmt::Debug for HandshakeIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeIn").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Default for HandshakeIn {
    fn default() -> Self {
        Self::new()
    }
}

impl HandshakeIn {
    pub fn new() -> Self {
        Self {
            input: Vec::new(),
            output: Vec::new(),
            state: State::ExpectStartup,
            user: String::new(),
            tls_asked: false,
            gss_asked: false,
            why: "",
        }
    }

    /// Bytes arrived. Bytes after a refusal are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &self.state {
            State::AwaitTls if !bytes.is_empty() => self.refuse_plain_bytes(),
            State::Report(step) if matches!(**step, ClientStep::Failed(_)) => {}
            State::Closed => {}
            _ if self.input.len() + bytes.len() > MOST_BUFFERED => {
                self.fail(violation("too many bytes before the login is complete"));
            }
            _ => self.input.extend_from_slice(bytes),
        }
    }

    /// What is needed now.
    // Why: one of the four verbs of all machines; it never ends, so it is no iterator.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ClientStep {
        loop {
            let moved = match &self.state {
                State::Report(_) => {
                    let State::Report(step) = mem::replace(&mut self.state, State::Closed) else {
                        return ClientStep::NeedMore;
                    };
                    match *step {
                        ClientStep::LoggedIn => self.state = State::Done,
                        _ => self.input = Vec::new(),
                    }
                    return *step;
                }
                State::ExpectStartup => match self.first_packet() {
                    Ok(Some(ClientStep::NeedMore)) => true,
                    Ok(Some(step)) => return step,
                    Ok(None) => false,
                    Err(complaint) => {
                        self.fail(complaint);
                        true
                    }
                },
                State::ExpectPassword(_)
                | State::ExpectMd5 { .. }
                | State::ExpectSasl(_)
                | State::ExpectClientFirst { .. }
                | State::ExpectClientFinal { .. } => match self.password_message() {
                    Ok(Some(body)) => match self.answered(&body) {
                        Ok(Some(step)) => return step,
                        Ok(None) => true,
                        Err(complaint) => {
                            self.fail(complaint);
                            true
                        }
                    },
                    Ok(None) => false,
                    Err(complaint) => {
                        self.fail(complaint);
                        true
                    }
                },
                State::AwaitTlsAnswer
                | State::AwaitTls
                | State::AwaitDemand
                | State::AwaitPasswordErrand(_)
                | State::AwaitProofErrand { .. }
                | State::Done
                | State::Closed => false,
            };
            if !moved {
                return ClientStep::NeedMore;
            }
        }
    }

    /// Append what is to be sent to the client.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
        // Why: a client waits for its user to type a password; it should not hold a buffer.
        self.output = Vec::new();
    }

    /// Answer to `TlsAsked`. After yes: send the output, start TLS, call `tls_started`.
    pub fn answer_tls(&mut self, accepted: bool) {
        if !matches!(self.state, State::AwaitTlsAnswer) {
            return;
        }
        if !accepted {
            self.output.push(spec::TLS_DECLINED);
            self.state = State::ExpectStartup;
        } else if self.input.is_empty() {
            self.output.push(spec::TLS_ACCEPTED);
            self.state = State::AwaitTls;
        } else {
            self.refuse_plain_bytes();
        }
    }

    /// TLS runs; bytes fed from now on were encrypted. Also for a client that began with TLS at once.
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::AwaitTls | State::ExpectStartup) {
            self.tls_asked = true;
            self.gss_asked = true;
            self.state = State::ExpectStartup;
        }
    }

    /// Answer to `Startup`: how the client must prove who it is.
    ///
    /// None as `credentials` is an unknown user, which the client cannot tell from a wrong
    /// password. `mock_secret` is stable for the life of the process; `channel_binding` is the
    /// hash of our certificate when the client came by TLS.
    pub fn demand(
        &mut self,
        method: Method,
        credentials: Option<&Credentials>,
        mock_secret: &[u8; 32],
        channel_binding: Option<Vec<u8>>,
    ) {
        if !matches!(self.state, State::AwaitDemand) {
            return;
        }
        let nothing = Credentials::default();
        self.why = if credentials.is_none() { "the user is unknown" } else { "the password is wrong" };
        let known = credentials.unwrap_or(&nothing);
        match method {
            Method::Trust => self.accept(),
            Method::Password => {
                reply::auth_request(&mut self.output, authentication::CLEARTEXT_PASSWORD, &[]);
                self.state = State::ExpectPassword(self.secret_of(known, credentials.is_some()));
            }
            Method::Md5 if known.scram.is_some() && known.md5.is_none() && known.plain.is_none() => {
                self.demand_scram(known, credentials.is_some(), mock_secret, channel_binding);
            }
            Method::Md5 => {
                let salt = random::<4>();
                let from_plain =
                    || known.plain.as_ref().map(|p| postgres_md5::stored(&self.user, p.as_bytes()));
                let stored = known.md5.clone().or_else(from_plain);
                if stored.is_none() && credentials.is_some() {
                    self.why = "no secret is configured for the user";
                }
                reply::auth_request(&mut self.output, authentication::MD5_PASSWORD, &salt);
                self.state = State::ExpectMd5 { salt, stored };
            }
            Method::ScramSha256 | Method::MysqlNative | Method::CachingSha2 | Method::Ed25519 => {
                self.demand_scram(known, credentials.is_some(), mock_secret, channel_binding);
            }
        }
    }

    /// Say no, whatever the client was about to prove.
    pub fn refuse(&mut self, complaint: Complaint) {
        self.fail(complaint);
    }

    /// The result of an `Errand`.
    pub fn errand_done(&mut self, outcome: ErrandOutcome) {
        let ErrandOutcome::Salted(salted) = outcome else { return };
        match mem::replace(&mut self.state, State::Done) {
            State::AwaitPasswordErrand(verifier) => match verifier.is_salted(&salted) {
                true => self.accept(),
                false => self.fail(self.wrong_password()),
            },
            State::AwaitProofErrand { proof, salt, iterations } => {
                self.check_proof(&proof, &Verifier::from_salted(&salted, salt, iterations));
            }
            other => self.state = other,
        }
    }

    /// Bytes that came behind the login and belong to the session.
    pub fn take_rest(&mut self) -> Vec<u8> {
        mem::take(&mut self.input)
    }

    /// Why a login failed, for the log; the client is not told.
    pub fn why(&self) -> &'static str {
        self.why
    }

    fn secret_of(&mut self, known: &Credentials, exists: bool) -> Secret {
        // Why: in the order of what a comparison costs.
        if let Some(plain) = &known.plain {
            Secret::Plain(plain.clone())
        } else if let Some(md5) = &known.md5 {
            Secret::Md5(md5.clone())
        } else if let Some(verifier) = &known.scram {
            Secret::Scram(Box::new(verifier.clone()))
        } else {
            if exists {
                self.why = "no secret is configured for the user";
            }
            Secret::Nothing
        }
    }

    fn demand_scram(&mut self, known: &Credentials, exists: bool, mock: &[u8; 32], binding: Option<Vec<u8>>) {
        let keys = if let Some(verifier) = &known.scram {
            Keys::Verifier(verifier.clone())
        } else if let Some(plain) = &known.plain {
            Keys::Plain { password: plain.clone(), salt: scram::mock_salt(mock, &self.user) }
        } else {
            if exists {
                self.why = "no secret that serves SCRAM is configured for the user";
            }
            Keys::Verifier(Verifier::mock(mock, &self.user))
        };
        match binding {
            Some(_) => reply::auth_sasl(&mut self.output, &[scram::MECHANISM_PLUS, scram::MECHANISM]),
            None => reply::auth_sasl(&mut self.output, &[scram::MECHANISM]),
        }
        self.state = State::ExpectSasl(Box::new(Sasl { keys, binding }));
    }

    /// Take the next packet without a tag. `NeedMore` says: handled, look again.
    fn first_packet(&mut self) -> Result<Option<ClientStep>, Complaint> {
        let Some(length) = startup::packet_length(&self.input)? else {
            return Ok(None);
        };
        let Some(packet) = self.input.get(..length) else {
            return Ok(None);
        };
        let opening = startup::read(packet)?;
        self.drop_front(length);
        match opening {
            // Why: each may be asked once, and not inside TLS, as PostgreSQL has it.
            Opening::Tls if !self.tls_asked => {
                self.tls_asked = true;
                self.state = State::AwaitTlsAnswer;
                Ok(Some(ClientStep::TlsAsked))
            }
            Opening::GssEncryption if !self.gss_asked => {
                self.gss_asked = true;
                self.output.push(spec::TLS_DECLINED);
                Ok(Some(ClientStep::NeedMore))
            }
            Opening::Tls | Opening::GssEncryption => Err(violation("encryption was asked for a second time")),
            Opening::Cancel(key) => {
                self.report(ClientStep::Cancel(key));
                Ok(Some(ClientStep::NeedMore))
            }
            Opening::Session(session) => Ok(Some(self.named(session))),
            Opening::Unsupported { old: true, complaint } => {
                reply::error_v2(&mut self.output, &complaint);
                self.report(ClientStep::Failed(complaint));
                Ok(Some(ClientStep::NeedMore))
            }
            Opening::Unsupported { old: false, complaint } => Err(complaint),
        }
    }

    fn named(&mut self, session: Session) -> ClientStep {
        let Session { startup, downgraded, unknown_options } = session;
        if downgraded || !unknown_options.is_empty() {
            reply::negotiate_version(&mut self.output, startup.minor, &unknown_options);
        }
        self.user.clone_from(&startup.user);
        self.state = State::AwaitDemand;
        ClientStep::Startup(Box::new(startup))
    }

    /// The body of the next message, which must be a password or SASL message.
    fn password_message(&mut self) -> Result<Option<Vec<u8>>, Complaint> {
        let Some(&tag) = self.input.first() else {
            return Ok(None);
        };
        if tag != spec::PASSWORD {
            return Err(violation("expected a password message"));
        }
        let limit = limits::AUTH_TOKEN_BYTES + frame::HEADER;
        match frame::header(&self.input, limit).map_err(|fault| violation(fault.0))? {
            Some((_, total)) if self.input.len() >= total => {
                let body = self.input[frame::HEADER..total].to_vec();
                self.drop_front(total);
                Ok(Some(body))
            }
            _ => Ok(None),
        }
    }

    fn drop_front(&mut self, length: usize) {
        if length == self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..length);
        }
    }

    /// A password or SASL message came in the state that expects it.
    fn answered(&mut self, body: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        match mem::replace(&mut self.state, State::Done) {
            State::ExpectPassword(secret) => self.compare(secret, password_in(body)?),
            State::ExpectMd5 { salt, stored } => {
                let given = password_in(body)?;
                if stored.is_some_and(|stored| postgres_md5::is_answer(&stored, salt, given)) {
                    self.accept();
                    Ok(None)
                } else {
                    Err(self.wrong_password())
                }
            }
            State::ExpectSasl(sasl) => self.sasl_chosen(sasl, body),
            State::ExpectClientFirst { sasl, plus } => self.client_first(*sasl, plus, body),
            State::ExpectClientFinal { exchange, keys } => {
                let proof = exchange.proof(body).map_err(|reject| self.rejected(reject))?;
                match keys {
                    Keys::Verifier(verifier) => {
                        self.check_proof(&proof, &verifier);
                        Ok(None)
                    }
                    Keys::Plain { password, salt } => {
                        let iterations = scram::DEFAULT_ITERATIONS;
                        let errand = Errand::SaltPassword { password, salt: salt.clone(), iterations };
                        self.state = State::AwaitProofErrand { proof: Box::new(proof), salt, iterations };
                        Ok(Some(ClientStep::Errand(errand)))
                    }
                }
            }
            other => {
                self.state = other;
                Ok(None)
            }
        }
    }

    fn compare(&mut self, secret: Secret, given: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        let fits = match secret {
            // Why: hashes of equal length, so that the time tells nothing about the length either.
            Secret::Plain(plain) => scram::sha256(plain.as_bytes()).ct_eq(&scram::sha256(given)).into(),
            Secret::Md5(stored) => postgres_md5::is_password(&stored, &self.user, given),
            Secret::Scram(verifier) => {
                if let Ok(password) = std::str::from_utf8(given) {
                    let errand = Errand::SaltPassword {
                        password: password.to_owned(),
                        salt: verifier.salt.clone(),
                        iterations: verifier.iterations,
                    };
                    self.state = State::AwaitPasswordErrand(verifier);
                    return Ok(Some(ClientStep::Errand(errand)));
                }
                false
            }
            Secret::Nothing => false,
        };
        if fits {
            self.accept();
            Ok(None)
        } else {
            Err(self.wrong_password())
        }
    }

    /// SASLInitialResponse: the mechanism, and client-first unless the client waits to be asked.
    fn sasl_chosen(&mut self, sasl: Box<Sasl>, body: &[u8]) -> Result<Option<ClientStep>, Complaint> {
        let broken = |_| violation("malformed SASLInitialResponse");
        let (mechanism, rest) = frame::text(body).map_err(broken)?;
        let (length, first) = frame::int32(rest).map_err(broken)?;
        let plus = match mechanism {
            scram::MECHANISM => false,
            scram::MECHANISM_PLUS if sasl.binding.is_some() => true,
            _ => return Err(violation("client selected an invalid SASL authentication mechanism")),
        };
        if length == u32::MAX && first.is_empty() {
            reply::auth_request(&mut self.output, authentication::SASL_CONTINUE, &[]);
            self.state = State::ExpectClientFirst { sasl, plus };
            return Ok(None);
        }
        if length as usize != first.len() {
            return Err(violation("malformed SASLInitialResponse"));
        }
        self.client_first(*sasl, plus, first)
    }

    fn client_first(
        &mut self,
        sasl: Sasl,
        plus: bool,
        first: &[u8],
    ) -> Result<Option<ClientStep>, Complaint> {
        let Sasl { keys, binding } = sasl;
        let (salt, iterations) = match &keys {
            Keys::Verifier(verifier) => (&verifier.salt, verifier.iterations),
            Keys::Plain { salt, .. } => (salt, scram::DEFAULT_ITERATIONS),
        };
        let nonce = scram::nonce();
        let (exchange, server_first) =
            ServerExchange::open(first, plus, binding.as_deref(), &nonce, salt, iterations)
                .map_err(|reject| self.rejected(reject))?;
        reply::auth_request(&mut self.output, authentication::SASL_CONTINUE, server_first.as_bytes());
        self.state = State::ExpectClientFinal { exchange: Box::new(exchange), keys };
        Ok(None)
    }

    fn check_proof(&mut self, proof: &Proof, verifier: &Verifier) {
        match proof.check(verifier) {
            Some(server_final) => {
                reply::auth_request(&mut self.output, authentication::SASL_FINAL, server_final.as_bytes());
                self.accept();
            }
            None => self.fail(self.wrong_password()),
        }
    }

    fn accept(&mut self) {
        reply::auth_ok(&mut self.output);
        self.why = "";
        self.report(ClientStep::LoggedIn);
    }

    fn fail(&mut self, mut complaint: Complaint) {
        complaint.fatal = true;
        reply::error(&mut self.output, &complaint);
        self.input = Vec::new();
        self.report(ClientStep::Failed(complaint));
    }

    fn report(&mut self, step: ClientStep) {
        self.state = State::Report(Box::new(step));
    }

    /// Spec: CVE-2021-23214: bytes sent in clear text must not be taken for encrypted ones.
    fn refuse_plain_bytes(&mut self) {
        self.fail(violation("received unencrypted data after SSL request").detail(
            "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        ));
    }

    fn wrong_password(&self) -> Complaint {
        Complaint::fatal(
            Code::WrongPassword,
            format!("password authentication failed for user \"{}\"", self.user),
        )
    }

    fn rejected(&mut self, reject: Reject) -> Complaint {
        match reject {
            Reject::Malformed(what) => violation("malformed SCRAM message").detail(what),
            Reject::Unsupported(what) => Complaint::fatal(Code::Unsupported, what),
            Reject::WrongProof => self.wrong_password(),
        }
    }
}

fn violation(message: &str) -> Complaint {
    Complaint::fatal(Code::ProtocolViolation, message)
}

/// The text of a PasswordMessage. Spec: PostgreSQL refuses an empty password from any client.
fn password_in(body: &[u8]) -> Result<&[u8], Complaint> {
    match frame::cstr(body) {
        Ok(([], [])) => Err(Complaint::fatal(Code::WrongPassword, "empty password returned by client")),
        Ok((password, [])) => Ok(password),
        _ => Err(violation("invalid password packet size")),
    }
}
