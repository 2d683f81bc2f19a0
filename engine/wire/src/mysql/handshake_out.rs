//! We log in to a server.
//!
//! Touches no socket and knows no pool: `relay` acts on the steps. It hashes and signs by itself, for on
//! this side of MySQL's logins nothing is slow. Called by `relay::server` until `Ready`.
//!
//! ```text
//!  ExpectGreeting ─ TLS wanted ─► AwaitTls ─ tls_started ─┐
//!        └ no TLS ────────────────────────────────────────┤ response
//!                                                         ▼
//!                    ┌──────── auth switch: another answer ExpectOk ─ OK ─► Setup ─ answers ─► Ready
//!                    └───────────────────────────────────────► ▲
//!                                  "full": password, or ─► ExpectKey ─ sealed password
//!  every state ─ error packet ─► Refused        every state ─ doubt ─► Failed
//! ```
//!
//! Each step is reported once; `next` then says `NeedMore` until something changes.
//!
//! Spec: "Connection Phase"; "Caching_sha2_password information"; MariaDB "Connection".

use std::collections::VecDeque;
use std::{fmt, mem};

use super::greeting::{self, Greeted, ALWAYS};
use super::setup::{self, Answers, Said};
use super::spec::{answer, capability, limits, login, plugin, status};
use super::startup::{self, Response};
use super::{agreement, errors, frame};
use crate::auth::{caching_sha2, ed25519, mysql_native, sealed_password};
use crate::handshake::{ErrandOutcome, LoginTo, Refusal, ServerStep, Startup};
use crate::{CancelKey, Code, Complaint, Fault};

pub use super::setup::SETUP;

/// Most switches and messages of a login: ours; no exchange has more than three.
const MOST_PACKETS: u32 = 16;

/// The machine. Lives in a box of the server that is being opened, and goes with it.
pub struct HandshakeOut {
    login: LoginTo,
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    /// Steps behind the one that is reported first.
    later: VecDeque<ServerStep>,
    /// Of the next packet, whoever sends it.
    sequence: u8,
    capabilities: u64,
    character_set: u16,
    has_tls: bool,
    plugin: String,
    nonce: Vec<u8>,
    packets: u32,
    status: u16,
    tracked: Vec<u8>,
}

enum State {
    ExpectGreeting,
    AwaitTls(Box<Greeted>),
    ExpectOk,
    /// The server's public key.
    ExpectKey,
    /// Logged in; what it was asked behind that is being answered.
    Setup(Answers),
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
    /// Begin; the server speaks first. Over TLS begun directly there is no MySQL.
    pub fn new(login: LoginTo) -> Self {
        Self {
            login,
            input: Vec::new(),
            output: Vec::new(),
            state: State::ExpectGreeting,
            later: VecDeque::new(),
            sequence: 0,
            capabilities: 0,
            character_set: 0,
            has_tls: false,
            plugin: String::new(),
            nonce: Vec::new(),
            packets: 0,
            status: 0,
            tracked: Vec::new(),
        }
    }

    /// Bytes arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Closed | State::Report(_)) && self.later.is_empty() {
            return;
        }
        if self.input.len() + bytes.len() > 2 * limits::SERVER_LOGIN_BYTES {
            return self.fail("sent too many bytes before the login was complete");
        }
        self.input.extend_from_slice(bytes);
        if matches!(self.state, State::AwaitTls(_)) && !bytes.is_empty() {
            self.fail("sent clear text in the place of TLS");
        }
    }

    /// What is needed now.
    // Why: one of the four verbs of all machines; it never ends, so it is no iterator.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ServerStep {
        loop {
            if let Some(step) = self.later.pop_front() {
                return step;
            }
            match &self.state {
                State::Report(_) => {
                    let State::Report(step) = mem::replace(&mut self.state, State::Closed) else {
                        return ServerStep::NeedMore;
                    };
                    if *step == ServerStep::Ready {
                        self.state = State::Done;
                    }
                    return *step;
                }
                State::AwaitTls(_) | State::Done | State::Closed => return ServerStep::NeedMore,
                State::ExpectGreeting | State::ExpectOk | State::ExpectKey | State::Setup(_) => {
                    let heard = match self.packet() {
                        Ok(Some(payload)) => self.heard(&payload),
                        Ok(None) => return ServerStep::NeedMore,
                        Err(fault) => Err(fault),
                    };
                    if let Err(fault) = heard {
                        self.fail(fault.0);
                    }
                }
            }
        }
    }

    /// Append what is to be sent to the server.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
        self.output = Vec::new();
    }

    /// No login of MySQL is tied to its TLS connection.
    pub fn bind_channel(&mut self, _certificate_hash: Vec<u8>) {}

    /// TLS runs; the response is in the output.
    pub fn tls_started(&mut self) {
        match mem::replace(&mut self.state, State::Done) {
            State::AwaitTls(greeted) => {
                self.has_tls = true;
                self.respond(*greeted);
            }
            other => self.state = other,
        }
    }

    /// There are no errands on this side.
    pub fn errand_done(&mut self, _outcome: ErrandOutcome) {}

    /// There is nothing to keep for the next login.
    pub fn take_salted(&self) -> Option<(Vec<u8>, u32, [u8; 32])> {
        None
    }

    /// Bytes that came behind the login.
    pub fn take_rest(&mut self) -> Vec<u8> {
        mem::take(&mut self.input)
    }

    /// What both sides can do, once the greeting has come.
    pub fn capabilities(&self) -> u64 {
        self.capabilities
    }

    /// The status flags of the OK, once it is `Ready`.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The session state changes in the OK, as `progress` reads them behind a statement.
    pub fn tracked(&self) -> &[u8] {
        &self.tracked
    }

    /// Take the payload of the next whole packet.
    fn packet(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let Some(head) = frame::header(&self.input) else {
            return Ok(None);
        };
        if head.payload > limits::SERVER_LOGIN_BYTES {
            return Err(Fault("sent too long a packet in a login: is it a MySQL server?"));
        }
        let Some(payload) = self.input.get(frame::HEADER..head.total()) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.input.drain(..head.total());
        // Why only here: an error before the greeting comes with whatever number.
        if head.sequence != self.sequence && payload.first() != Some(&answer::ERR) {
            return Err(Fault("sent packets out of order"));
        }
        self.sequence = head.sequence.wrapping_add(1);
        self.packets += 1;
        if self.packets > MOST_PACKETS && !matches!(self.state, State::Setup(_)) {
            return Err(Fault("does not come to an end with its login"));
        }
        Ok(Some(payload))
    }

    /// One packet, in a state that expects some.
    fn heard(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (first, rest) = frame::byte(payload).map_err(|_| Fault("sent an empty packet"))?;
        match (&self.state, first) {
            (State::Setup(answers), _) => self.set_up(*answers, payload),
            (_, answer::ERR) => {
                let fields = errors::read(payload);
                let message = String::from_utf8_lossy(fields.message).into_owned();
                let refusal = Refusal { number: fields.number, sqlstate: fields.state, message };
                self.report(ServerStep::Refused(refusal));
                Ok(())
            }
            (State::ExpectGreeting, _) => self.greeted(greeting::read(payload)?),
            (State::ExpectOk, answer::OK) => self.accepted(rest),
            (State::ExpectOk, login::AUTH_SWITCH) => self.switched(rest),
            (State::ExpectOk, login::AUTH_MORE) => self.more(rest),
            (State::ExpectKey, login::AUTH_MORE) => {
                let pem =
                    std::str::from_utf8(rest).map_err(|_| Fault("sent a public key that is no text"))?;
                let nonce = self.whole_nonce()?;
                match sealed_password::seal(self.password().as_bytes(), &nonce, pem) {
                    Ok(sealed) => self.answer(&sealed),
                    Err(why) => self.fail(&format!("sent a public key that cannot be used: {why}")),
                }
                Ok(())
            }
            _ => Err(Fault("sent a packet that has no place in a login")),
        }
    }

    fn greeted(&mut self, greeted: Greeted) -> Result<(), Fault> {
        let Greeted { server_version, connection_id, capabilities, character_set, .. } = &greeted;
        let (offered, key) = (*capabilities, CancelKey { pid: *connection_id, secret: Vec::new() });
        let (name, value) = ("version".to_owned(), server_version.clone());
        self.later.push_back(ServerStep::Setting { name, value });
        self.character_set = match self.login.character_set {
            0 => u16::from(*character_set),
            wanted => wanted,
        };
        if offered & capability::SESSION_TRACK == 0 {
            let message = format!("server ({server_version}) does not track the state of sessions");
            let hint = "maitred needs MySQL 5.7.9, MariaDB 10.2 or newer.";
            let complaint = Complaint::error(Code::NotAuthorized, message).hint(hint);
            self.report(ServerStep::Failed(complaint));
            return Ok(());
        }
        self.later.push_back(ServerStep::Key(key));
        if self.login.capabilities & agreement::FORMS & !offered != 0 {
            let message =
                format!("server ({server_version}) is older than the version that clients are told");
            let hint = "Set listen.mysql_version to the version of the oldest server.";
            self.report(ServerStep::Failed(Complaint::error(Code::NotAuthorized, message).hint(hint)));
            return Ok(());
        }
        self.capabilities = self.wanted() & offered;
        if !self.login.ask_tls {
            self.respond(greeted);
        } else if offered & capability::SSL != 0 {
            self.capabilities |= capability::SSL;
            let startup = self.startup();
            self.sequence = startup::write_tls_request(&mut self.output, self.sequence, &startup);
            self.state = State::AwaitTls(Box::new(greeted));
            if !self.input.is_empty() {
                return Err(Fault("sent clear text in the place of TLS"));
            }
            self.later.push_back(ServerStep::StartTls);
        } else if self.login.tls_optional {
            self.respond(greeted);
        } else {
            let complaint = Complaint::error(Code::ServerUnreachable, "server does not support TLS");
            let hint =
                "Turn TLS on at the server, or set the tls mode of this database to prefer or disable.";
            self.report(ServerStep::Failed(complaint.hint(hint)));
        }
        Ok(())
    }

    fn wanted(&self) -> u64 {
        let LoginTo { database, attributes, capabilities, .. } = &self.login;
        // Why without compression: the setup behind the login is not written for it.
        let not_here = capability::SSL | capability::COMPRESS | capability::ZSTD;
        let always = ALWAYS | capability::LONG_PASSWORD | capability::SESSION_TRACK;
        let mut wanted = (capabilities & !not_here) | always;
        if database.is_empty() {
            wanted &= !capability::CONNECT_WITH_DB;
        }
        if attributes.is_empty() {
            wanted &= !capability::CONNECT_ATTRS;
        }
        wanted
    }

    fn startup(&self) -> Startup {
        let LoginTo { user, database, attributes, max_packet, .. } = &self.login;
        Startup {
            user: user.clone(),
            database: database.clone(),
            capabilities: self.capabilities,
            character_set: self.character_set,
            attributes: attributes.clone(),
            max_packet: if *max_packet == 0 { 1 << 30 } else { *max_packet },
            ..Startup::default()
        }
    }

    fn respond(&mut self, greeted: Greeted) {
        self.nonce = greeted.nonce.to_vec();
        // Why native for any other: the server will switch to what the user has.
        self.plugin = match greeted.plugin.as_str() {
            known @ (plugin::NATIVE | plugin::CACHING_SHA2) => known.to_owned(),
            _ => plugin::NATIVE.to_owned(),
        };
        let password = self.password();
        let answer = match self.plugin.as_str() {
            _ if password.is_empty() => Vec::new(),
            plugin::CACHING_SHA2 => caching_sha2::answer(password.as_bytes(), &greeted.nonce).to_vec(),
            _ => mysql_native::answer(password.as_bytes(), &greeted.nonce).to_vec(),
        };
        let response = Response { startup: self.startup(), answer, plugin: Some(self.plugin.clone()) };
        self.sequence = startup::write(&mut self.output, self.sequence, &response);
        self.state = State::ExpectOk;
    }

    /// Spec: "Protocol::AuthSwitchRequest".
    fn switched(&mut self, rest: &[u8]) -> Result<(), Fault> {
        if rest.is_empty() {
            self.cannot("mysql_old_password");
            return Ok(());
        }
        let (name, data) = frame::cstr(rest).unwrap_or((rest, &[]));
        self.plugin = String::from_utf8_lossy(name).into_owned();
        let password = self.password();
        let bytes = password.as_bytes();
        self.nonce = match data {
            [nonce @ .., 0] if nonce.len() == limits::NONCE_BYTES => nonce.to_vec(),
            nonce => nonce.to_vec(),
        };
        match self.plugin.as_str() {
            plugin::NATIVE | plugin::CACHING_SHA2 if password.is_empty() => self.answer(&[]),
            plugin::NATIVE => self.answer(&mysql_native::answer(bytes, &self.whole_nonce()?)),
            plugin::CACHING_SHA2 => self.answer(&caching_sha2::answer(bytes, &self.whole_nonce()?)),
            plugin::ED25519 => self.answer(&ed25519::answer(bytes, &self.nonce)),
            plugin::CLEAR if self.is_secure() => self.answer(&[bytes, &[0]].concat()),
            plugin::CLEAR => self.clear_text_refused(),
            plugin::SHA256 if password.is_empty() => self.answer(&[0]),
            plugin::SHA256 if self.is_secure() => self.answer(&[bytes, &[0]].concat()),
            plugin::SHA256 => self.ask_for_key(login::OLD_KEY_WANTED),
            _ => self.cannot(&self.plugin.clone()),
        }
        Ok(())
    }

    /// Spec: "Protocol::AuthMoreData", of `caching_sha2_password`.
    fn more(&mut self, data: &[u8]) -> Result<(), Fault> {
        match (self.plugin.as_str(), data) {
            (plugin::CACHING_SHA2, [login::FAST_OK]) => {}
            (plugin::CACHING_SHA2, [login::FULL_WANTED]) if self.is_secure() => {
                let password = self.password();
                self.answer(&[password.as_bytes(), &[0]].concat());
            }
            (plugin::CACHING_SHA2, [login::FULL_WANTED]) => self.ask_for_key(login::KEY_WANTED),
            _ => return Err(Fault("sent data that its way of authentication does not have")),
        }
        Ok(())
    }

    /// Spec: "OK_Packet".
    fn accepted(&mut self, rest: &[u8]) -> Result<(), Fault> {
        let (_, rest) = frame::number(rest)?;
        let (_, rest) = frame::number(rest)?;
        let (status, rest) = frame::int2(rest)?;
        let (_, rest) = frame::int2(rest)?;
        self.status = status;
        let is_tracking = self.capabilities & capability::SESSION_TRACK != 0;
        if is_tracking && status & status::SESSION_STATE_CHANGED != 0 {
            let (_, rest) = frame::string(rest)?;
            self.tracked = frame::string(rest)?.0.to_vec();
        }
        if status & status::IN_TRANSACTION != 0 {
            return Err(Fault("says after login that a transaction is open"));
        }
        setup::write(&mut self.output, &self.login.parameters);
        self.sequence = 1;
        self.state = State::Setup(Answers::ExpectOk);
        let (name, value) = ("schema".to_owned(), self.login.database.clone());
        self.later.push_back(ServerStep::Setting { name, value });
        Ok(())
    }

    fn set_up(&mut self, mut answers: Answers, payload: &[u8]) -> Result<(), Fault> {
        let said = answers.read(payload, self.capabilities)?;
        self.state = State::Setup(answers);
        match said {
            Said::Nothing => {}
            Said::IsSetUp => self.sequence = 1,
            Said::Variable(name, value) => self.later.push_back(ServerStep::Setting { name, value }),
            Said::Over(status) => {
                self.status = status;
                self.report(ServerStep::Ready);
            }
            Said::Refused(message) => {
                let message = format!("server refuses what every session is set up with: {message}");
                let hint = "maitred needs MySQL 5.7.9, MariaDB 10.2 or newer; see the parameters of this database, too.";
                let complaint = Complaint::error(Code::NotAuthorized, message).hint(hint);
                self.report(ServerStep::Failed(complaint));
            }
        }
        Ok(())
    }

    fn ask_for_key(&mut self, with: u8) {
        self.answer(&[with]);
        self.state = State::ExpectKey;
    }

    fn answer(&mut self, payload: &[u8]) {
        self.sequence = frame::packet(&mut self.output, self.sequence, |out| out.extend_from_slice(payload));
        self.state = State::ExpectOk;
    }

    fn is_secure(&self) -> bool {
        self.has_tls || self.login.is_local
    }

    fn password(&self) -> String {
        self.login.password.clone().unwrap_or_default()
    }

    fn whole_nonce(&self) -> Result<[u8; limits::NONCE_BYTES], Fault> {
        self.nonce.as_slice().try_into().map_err(|_| Fault("sent a nonce that does not have 20 bytes"))
    }

    fn clear_text_refused(&mut self) {
        let message = "server demands the password in clear text, which maitred sends over TLS only";
        let hint = "Set the tls mode of this database to require, or let the server ask for another way.";
        self.report(ServerStep::Failed(Complaint::error(Code::NotAuthorized, message).hint(hint)));
    }

    fn cannot(&mut self, name: &str) {
        let message = format!("server demands a login by {name}, which maitred does not speak");
        let hint = "Let the user be identified with caching_sha2_password, mysql_native_password or ed25519.";
        self.report(ServerStep::Failed(Complaint::error(Code::NotAuthorized, message).hint(hint)));
    }

    /// Give the server up: it `what`.
    fn fail(&mut self, what: &str) {
        let complaint = Complaint::error(Code::ServerUnreachable, format!("server {what}"));
        self.report(ServerStep::Failed(complaint.detail("The connection was closed during login.")));
    }

    fn report(&mut self, step: ServerStep) {
        if step != ServerStep::Ready {
            self.input = Vec::new();
        }
        self.state = State::Report(Box::new(step));
    }
}
