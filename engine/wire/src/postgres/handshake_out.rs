//! We log in to a server.
//!
//! Touches no socket and hashes no password itself: `relay` acts on the steps and runs the errand.
//! Called by `relay::server` until `Ready`.
//!
//! ```text
//!  ExpectTlsAnswer ─ yes ─► AwaitTls ─ tls_started ─┐
//!        └ no, if optional ─────────────────────────┤ startup packet
//!                                                   ▼
//!                                              ExpectDemand ─ trust ──────────► ExpectReady
//!                       password, md5 │            │ SASL
//!                                     ▼            ▼
//!                                 ExpectOk    ExpectChallenge ─► AwaitErrand (not when cached)
//!                                     ▲                              │ client-final
//!                                     └── the server's proof fits ── ExpectServerFinal
//!  ExpectReady ─ settings, key ─► ReadyForQuery ─► Ready
//!  every state ─ ErrorResponse ─► Refused        every state ─ doubt ─► Failed
//! ```
//!
//! Each step is reported once; `next` then says `NeedMore` until something changes.
//!
//! Spec: "Message Flow", Start-up and SSL Session Encryption; "SASL Authentication".

use std::{fmt, mem};

use super::spec::{self, authentication, limits, protocol};
use super::{frame, reply};
use crate::auth::postgres_md5;
use crate::auth::scram::{self, Reject};
use crate::auth::scram_client::{Binding, ClientExchange};
use crate::handshake::{Errand, ErrandOutcome, LoginTo, Refusal, ServerStep};
use crate::{Code, Complaint, Fault};

/// A password after PBKDF2, with the salt and iterations it was made with.
type Salted = (Vec<u8>, u32, [u8; 32]);

/// The machine. Lives in a box of the server that is being opened, and goes with it.
pub struct HandshakeOut {
    login: LoginTo,
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    /// Hash of the server's certificate, for channel binding.
    certificate_hash: Option<Vec<u8>>,
    minor: u16,
    /// What this login was done with, so that the next need not hash again.
    salted: Option<Salted>,
}

enum State {
    ExpectTlsAnswer,
    AwaitTls,
    ExpectDemand,
    ExpectChallenge(Box<ClientExchange>),
    AwaitErrand {
        exchange: Box<ClientExchange>,
        salt: Vec<u8>,
        iterations: u32,
    },
    ExpectServerFinal(Box<ClientExchange>),
    ExpectOk,
    ExpectReady,
    /// A step that `next` reports before anything else.
    Report(Box<ServerStep>),
    /// Logged in; what is fed belongs to the session.
    Done,
    /// Refused or given up; what is fed is dropped.
    Closed,
}

/// Why: the login holds the password, which must not reach a log.
impl fmt::Debug for HandshakeOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeOut").field("login", &self.login).finish_non_exhaustive()
    }
}

impl HandshakeOut {
    /// Begin; there is output at once. Over TLS begun directly, call `tls_started` first thing.
    pub fn new(login: LoginTo) -> Self {
        let minor = login.minor.min(protocol::NEWEST_MINOR);
        let mut machine = Self {
            login,
            input: Vec::new(),
            output: Vec::new(),
            state: State::ExpectTlsAnswer,
            certificate_hash: None,
            minor,
            salted: None,
        };
        if machine.login.ask_tls {
            reply::ssl_request(&mut machine.output);
        } else {
            machine.start();
        }
        machine
    }

    /// Bytes arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Closed | State::Report(_)) {
            return;
        }
        if self.input.len() + bytes.len() > 2 * limits::LOGIN_MESSAGE_BYTES {
            return self.fail("sent too many bytes before the login was complete");
        }
        self.input.extend_from_slice(bytes);
        if matches!(self.state, State::AwaitTls) && !bytes.is_empty() {
            self.fail("sent clear text after it agreed to TLS");
        }
    }

    /// What is needed now.
    // Why: one of the four verbs of all machines; it never ends, so it is no iterator.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ServerStep {
        loop {
            let step = match &self.state {
                State::Report(_) => {
                    let State::Report(step) = mem::replace(&mut self.state, State::Closed) else {
                        return ServerStep::NeedMore;
                    };
                    return *step;
                }
                State::ExpectTlsAnswer => self.tls_answer(),
                State::AwaitTls | State::AwaitErrand { .. } | State::Done | State::Closed => {
                    return ServerStep::NeedMore
                }
                _ => match self.message() {
                    Ok(Some((tag, body))) => self.heard(tag, &body),
                    Ok(None) => return ServerStep::NeedMore,
                    Err(fault) => {
                        self.fail(fault.0);
                        None
                    }
                },
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Append what is to be sent to the server.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
        self.output = Vec::new();
    }

    /// Know the server's certificate by its hash (`auth::channel_binding`), so that the login is tied to
    /// this TLS connection where the server can do it. Call before or right after `tls_started`.
    pub fn bind_channel(&mut self, certificate_hash: Vec<u8>) {
        self.certificate_hash = Some(certificate_hash);
    }

    /// TLS runs; the startup packet is in the output.
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::AwaitTls) {
            self.start();
        }
    }

    /// The result of an `Errand`.
    pub fn errand_done(&mut self, outcome: ErrandOutcome) {
        let ErrandOutcome::Salted(salted) = outcome else { return };
        match mem::replace(&mut self.state, State::Done) {
            State::AwaitErrand { exchange, salt, iterations } => {
                self.answer(exchange, (salt, iterations, salted));
            }
            other => self.state = other,
        }
    }

    /// The salted password that this login was done with, once it is `Ready`: keep it for the next.
    pub fn take_salted(&self) -> Option<Salted> {
        self.salted.clone()
    }

    /// Bytes that came behind the login: settings or notices that the server sent on its own.
    pub fn take_rest(&mut self) -> Vec<u8> {
        mem::take(&mut self.input)
    }

    /// Minor protocol version in force.
    pub fn minor(&self) -> u16 {
        self.minor
    }

    fn start(&mut self) {
        let LoginTo { user, database, replication, parameters, .. } = &self.login;
        let own = [
            ("user", Some(user.as_str())),
            ("database", Some(database.as_str()).filter(|name| !name.is_empty())),
            ("replication", replication.as_deref()),
        ];
        let own = own.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        let more = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        reply::startup(&mut self.output, self.minor, own.chain(more));
        self.state = State::ExpectDemand;
    }

    fn tls_answer(&mut self) -> Option<ServerStep> {
        let Some((&answer, rest)) = self.input.split_first() else {
            return Some(ServerStep::NeedMore);
        };
        match answer {
            // Spec: CVE-2021-23222: bytes sent in clear text must not be taken for encrypted ones.
            spec::TLS_ACCEPTED if !rest.is_empty() => {
                self.fail("sent clear text after it agreed to TLS");
                None
            }
            spec::TLS_ACCEPTED => {
                self.input = Vec::new();
                self.state = State::AwaitTls;
                Some(ServerStep::StartTls)
            }
            spec::TLS_DECLINED if self.login.tls_optional => {
                self.input.remove(0);
                self.start();
                None
            }
            spec::TLS_DECLINED => {
                let complaint = Complaint::error(Code::ServerUnreachable, "server does not support TLS");
                let hint =
                    "Turn TLS on at the server, or set the sslmode of this database to prefer or disable.";
                self.report(ServerStep::Failed(complaint.hint(hint)));
                None
            }
            // Why: the text of such an error is not shown; whoever sent it has proven nothing
            // (CVE-2024-10977).
            spec::ERROR_RESPONSE => {
                self.fail("answered the request for TLS with an error");
                None
            }
            _ => {
                self.fail("gave no answer to the request for TLS");
                None
            }
        }
    }

    /// Take the next whole message: tag and body.
    fn message(&mut self) -> Result<Option<(u8, Vec<u8>)>, Fault> {
        if let Some(text) = self.old_style_error() {
            return Ok(text.map(|text| (spec::ERROR_RESPONSE, text)));
        }
        match frame::header(&self.input, limits::LOGIN_MESSAGE_BYTES)? {
            Some((tag, total)) if self.input.len() >= total => {
                let body = self.input[frame::HEADER..total].to_vec();
                self.input.drain(..total);
                Ok(Some((tag, body)))
            }
            _ => Ok(None),
        }
    }

    /// An error of the postmaster before it knows our protocol: `E` and text to a zero byte, no length.
    ///
    /// Some(None) while it is incomplete; otherwise the body of an ErrorResponse with that text.
    /// Spec: `report_fork_failure_to_client` of PostgreSQL; libpq tells it by its senseless length.
    fn old_style_error(&mut self) -> Option<Option<Vec<u8>>> {
        let head = self.input.first_chunk::<5>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let is_sensible = (8..=limits::OLD_STYLE_ERROR_BYTES).contains(&length);
        if !matches!(self.state, State::ExpectDemand) || head[0] != spec::ERROR_RESPONSE || is_sensible {
            return None;
        }
        match frame::cstr(&self.input[1..]) {
            Ok((text, _)) => {
                let text = text.trim_ascii();
                Some(Some([&[spec::field::MESSAGE], text, &[0, 0]].concat()))
            }
            Err(_) if self.input.len() < limits::OLD_STYLE_ERROR_BYTES => Some(None),
            Err(_) => None,
        }
    }

    /// One message, in a state that expects some.
    fn heard(&mut self, tag: u8, body: &[u8]) -> Option<ServerStep> {
        match tag {
            spec::ERROR_RESPONSE => {
                let fields = reply::error_fields(body);
                let refusal = Refusal { number: 0, sqlstate: fields.state(), message: fields.text() };
                self.report(ServerStep::Refused(refusal));
                None
            }
            spec::NOTICE_RESPONSE | spec::NOTIFICATION_RESPONSE => None,
            spec::NEGOTIATE_PROTOCOL_VERSION if matches!(self.state, State::ExpectDemand) => {
                self.negotiated(body);
                None
            }
            spec::AUTHENTICATION => {
                if let Err(fault) = self.authentication(body) {
                    self.fail(fault.0);
                }
                // Why: the errand is the one step that leaves a state of waiting behind.
                self.errand()
            }
            _ if matches!(self.state, State::ExpectReady) => match self.settled(tag, body) {
                Ok(step) => step,
                Err(fault) => {
                    self.fail(fault.0);
                    None
                }
            },
            _ => {
                self.fail("sent a message that has no place in a login");
                None
            }
        }
    }

    fn errand(&self) -> Option<ServerStep> {
        let State::AwaitErrand { salt, iterations, .. } = &self.state else {
            return None;
        };
        let password = self.login.password.clone().unwrap_or_default();
        Some(ServerStep::Errand(Errand::SaltPassword {
            password,
            salt: salt.clone(),
            iterations: *iterations,
        }))
    }

    /// Spec: "Message Formats", NegotiateProtocolVersion. PostgreSQL sends the whole version where
    /// the manual says the minor one; both are understood.
    fn negotiated(&mut self, body: &[u8]) {
        match frame::int32(body) {
            Ok((version, _)) if matches!(version >> 16, 0 | 3) && version as u16 <= self.minor => {
                self.minor = version as u16;
            }
            _ => self.fail("negotiated a protocol version that was not offered"),
        }
    }

    fn authentication(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (what, data) = frame::int32(body)?;
        match (mem::replace(&mut self.state, State::Done), what) {
            (State::ExpectDemand | State::ExpectOk, authentication::OK) => self.state = State::ExpectReady,
            (State::ExpectDemand, authentication::CLEARTEXT_PASSWORD) => {
                if let Some(password) = self.password() {
                    reply::password(&mut self.output, &[password.as_bytes(), &[0]].concat());
                    self.state = State::ExpectOk;
                }
            }
            (State::ExpectDemand, authentication::MD5_PASSWORD) => {
                let salt =
                    data.try_into().map_err(|_| Fault("sent an md5 salt that does not have four bytes"))?;
                if let Some(answer) = self.password().and_then(|p| self.md5_answer(&p, salt)) {
                    reply::password(&mut self.output, &[answer.as_bytes(), &[0]].concat());
                    self.state = State::ExpectOk;
                }
            }
            (State::ExpectDemand, authentication::SASL) => self.choose(data)?,
            (State::ExpectChallenge(mut exchange), authentication::SASL_CONTINUE) => {
                match exchange.challenge(data) {
                    Ok((salt, iterations)) => self.challenged(exchange, salt, iterations),
                    Err(reject) => self.rejected(reject),
                }
            }
            (State::ExpectServerFinal(exchange), authentication::SASL_FINAL) => {
                match exchange.confirm(data) {
                    Ok(()) => self.state = State::ExpectOk,
                    Err(reject) => self.rejected(reject),
                }
            }
            // Why: a server that skips its own proof may not be the one that knows the password.
            (State::ExpectChallenge(_) | State::ExpectServerFinal(_), _) => {
                return Err(Fault("did not finish the SCRAM exchange that it began"));
            }
            (State::ExpectDemand, other) => self.cannot(other),
            _ => return Err(Fault("sent an authentication message out of place")),
        }
        Ok(())
    }

    /// The password, or a complaint that there is none.
    fn password(&mut self) -> Option<String> {
        if self.login.password.is_none() {
            let message =
                format!("server asks for a password of user \"{}\", but none is configured", self.login.user);
            let hint = "Put the password into the url of the database, or let the server trust this user.";
            self.report(ServerStep::Failed(Complaint::error(Code::NotAuthorized, message).hint(hint)));
        }
        self.login.password.clone()
    }

    /// Why: a configured md5 secret is as good as the password here, so it is taken as it is.
    fn md5_answer(&self, password: &str, salt: [u8; 4]) -> Option<String> {
        if postgres_md5::is_stored(password) {
            return postgres_md5::answer(password, salt);
        }
        postgres_md5::answer(&postgres_md5::stored(&self.login.user, password.as_bytes()), salt)
    }

    /// AuthenticationSASL: choose among the mechanisms and send client-first.
    fn choose(&mut self, mut mechanisms: &[u8]) -> Result<(), Fault> {
        let (mut plain, mut plus) = (false, false);
        loop {
            let (name, rest) = frame::cstr(mechanisms)?;
            mechanisms = rest;
            match name {
                b"" => break,
                _ if name == scram::MECHANISM.as_bytes() => plain = true,
                _ if name == scram::MECHANISM_PLUS.as_bytes() => plus = true,
                _ => {}
            }
        }
        let (mechanism, binding) = match &self.certificate_hash {
            Some(hash) if plus => (scram::MECHANISM_PLUS, Binding::EndPoint(hash)),
            Some(_) if plain => (scram::MECHANISM, Binding::NotOffered),
            None if plain => (scram::MECHANISM, Binding::Unable),
            _ => {
                let message = "server offers no SASL mechanism that maitred speaks";
                let hint = "maitred speaks SCRAM-SHA-256 and, over TLS, SCRAM-SHA-256-PLUS.";
                self.report(ServerStep::Failed(Complaint::error(Code::NotAuthorized, message).hint(hint)));
                return Ok(());
            }
        };
        let exchange = ClientExchange::open("", binding, scram::nonce());
        if self.password().is_some() {
            let first = exchange.first();
            let length = (first.len() as u32).to_be_bytes();
            let parts = [mechanism.as_bytes(), &[0], &length, first.as_bytes()];
            reply::password(&mut self.output, &parts.concat());
            self.state = State::ExpectChallenge(Box::new(exchange));
        }
        Ok(())
    }

    fn challenged(&mut self, exchange: Box<ClientExchange>, salt: Vec<u8>, iterations: u32) {
        match self.login.salted.take() {
            Some(cached) if cached.0 == salt && cached.1 == iterations => self.answer(exchange, cached),
            _ => self.state = State::AwaitErrand { exchange, salt, iterations },
        }
    }

    fn answer(&mut self, mut exchange: Box<ClientExchange>, salted: Salted) {
        let last = exchange.answer(&salted.2);
        reply::password(&mut self.output, last.as_bytes());
        self.salted = Some(salted);
        self.state = State::ExpectServerFinal(exchange);
    }

    /// A message between AuthenticationOk and ReadyForQuery.
    fn settled(&mut self, tag: u8, body: &[u8]) -> Result<Option<ServerStep>, Fault> {
        match tag {
            spec::PARAMETER_STATUS => {
                let (name, rest) = frame::cstr(body)?;
                let (value, _) = frame::cstr(rest)?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                Ok(Some(ServerStep::Setting { name: text(name), value: text(value) }))
            }
            spec::BACKEND_KEY_DATA => reply::read_key(body).map(|key| Some(ServerStep::Key(key))),
            spec::READY_FOR_QUERY if body == [spec::transaction::IDLE] => {
                self.state = State::Done;
                Ok(Some(ServerStep::Ready))
            }
            spec::READY_FOR_QUERY => Err(Fault("says after login that a transaction is open")),
            _ => Err(Fault("sent a message that has no place in a login")),
        }
    }

    fn cannot(&mut self, what: u32) {
        let name = match what {
            authentication::KERBEROS_V5 => "Kerberos V5",
            authentication::GSS | authentication::GSS_CONTINUE => "GSSAPI",
            authentication::SSPI => "SSPI",
            _ => "an unknown method",
        };
        let message = format!("server demands a login by {name}, which maitred does not speak");
        let hint = "Let pg_hba.conf ask maitred for scram-sha-256, md5, password, trust or cert.";
        self.report(ServerStep::Failed(Complaint::error(Code::NotAuthorized, message).hint(hint)));
    }

    fn rejected(&mut self, reject: Reject) {
        match reject {
            Reject::Malformed(what) | Reject::Unsupported(what) => {
                let message = format!("server broke the SCRAM exchange: {what}");
                self.report(ServerStep::Failed(Complaint::error(Code::ServerUnreachable, message)));
            }
            Reject::WrongProof => self.fail("could not prove that it knows the password"),
        }
    }

    /// Give the server up: it `what`.
    fn fail(&mut self, what: &str) {
        let complaint = Complaint::error(Code::ServerUnreachable, format!("server {what}"));
        self.report(ServerStep::Failed(complaint.detail("The connection was closed during login.")));
    }

    fn report(&mut self, step: ServerStep) {
        self.input = Vec::new();
        self.state = State::Report(Box::new(step));
    }
}
