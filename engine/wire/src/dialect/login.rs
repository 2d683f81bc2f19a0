//! Logins of either side, whatever the dialect.
//!
//! Only dispatch, as in the module above. Called by `relay`.

use crate::handshake::{ClientStep, Credentials, ErrandOutcome, LoginTo, Method, ServerStep};
use crate::{mysql, postgres, Complaint, Dialect};

pub use crate::mysql::greeting::Greeting;

impl Dialect {
    /// Start answering a client's login; `greeting` is what it is told first, where servers speak first.
    pub fn client_handshake(self, greeting: impl FnOnce() -> Greeting) -> ClientHandshake {
        match self {
            Dialect::Postgres => ClientHandshake::Postgres(postgres::handshake_in::HandshakeIn::new()),
            Dialect::Mysql => {
                ClientHandshake::Mysql(Box::new(mysql::handshake_in::HandshakeIn::new(greeting())))
            }
        }
    }

    /// Start a login in the place of the one before, with a whole message that asks for it.
    pub fn changed_user(self, greeting: Greeting, message: &[u8], capabilities: u64) -> ClientHandshake {
        let payload = message.get(mysql::frame::HEADER..).unwrap_or_default();
        let machine = mysql::handshake_in::HandshakeIn::for_change_user(greeting, payload, 1, capabilities);
        ClientHandshake::Mysql(Box::new(machine))
    }

    /// What clients are offered by a server of this version.
    pub fn offered(self, version: &str) -> u64 {
        match self {
            Dialect::Postgres => 0,
            Dialect::Mysql => mysql::agreement::offered(version),
        }
    }

    /// The number of the collation that servers of this dialect are greeted with and greet with.
    pub fn usual_charset(self) -> u16 {
        match self {
            Dialect::Postgres => 0,
            Dialect::Mysql => mysql::agreement::USUAL_COLLATION,
        }
    }

    /// The settings that a client begins with that speaks in the collation of this number; `version` is its
    /// server's.
    pub fn settings_of_charset(
        self,
        number: u16,
        version: Option<&str>,
    ) -> Vec<(&'static str, &'static str)> {
        let spoken = match self {
            Dialect::Postgres => None,
            Dialect::Mysql => mysql::agreement::spoken(number, version.unwrap_or_default()),
        };
        let Some((charset, collation)) = spoken else { return Vec::new() };
        vec![
            ("character_set_client", charset),
            ("character_set_connection", charset),
            ("character_set_results", charset),
            ("collation_connection", collation),
        ]
    }

    /// Start logging in to a server.
    pub fn server_handshake(self, login: LoginTo) -> ServerHandshake {
        match self {
            Dialect::Postgres => {
                ServerHandshake::Postgres(Box::new(postgres::handshake_out::HandshakeOut::new(login)))
            }
            Dialect::Mysql => {
                ServerHandshake::Mysql(Box::new(mysql::handshake_out::HandshakeOut::new(login)))
            }
        }
    }
}

/// A client's login, whatever its dialect.
#[derive(Debug)]
pub enum ClientHandshake {
    Postgres(postgres::handshake_in::HandshakeIn),
    Mysql(Box<mysql::handshake_in::HandshakeIn>),
}

macro_rules! either {
    ($self:expr, $machine:ident => $call:expr) => {
        match $self {
            Self::Postgres($machine) => $call,
            Self::Mysql($machine) => $call,
        }
    };
}

impl ClientHandshake {
    pub fn feed(&mut self, bytes: &[u8]) {
        either!(self, machine => machine.feed(bytes));
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ClientStep {
        either!(self, machine => machine.next())
    }

    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        either!(self, machine => machine.take_output(out));
    }

    pub fn answer_tls(&mut self, accepted: bool) {
        either!(self, machine => machine.answer_tls(accepted));
    }

    pub fn tls_started(&mut self) {
        either!(self, machine => machine.tls_started());
    }

    /// Ask for proof. `credentials` None: unknown user; go through the motions and refuse.
    pub fn demand(
        &mut self,
        method: Method,
        credentials: Option<&Credentials>,
        mock_secret: &[u8; 32],
        channel_binding: Option<Vec<u8>>,
    ) {
        either!(self, machine => machine.demand(method, credentials, mock_secret, channel_binding));
    }

    pub fn refuse(&mut self, complaint: Complaint) {
        either!(self, machine => machine.refuse(complaint));
    }

    pub fn errand_done(&mut self, outcome: ErrandOutcome) {
        either!(self, machine => machine.errand_done(outcome));
    }

    /// Bytes that followed the login.
    pub fn take_rest(&mut self) -> Vec<u8> {
        either!(self, machine => machine.take_rest())
    }

    /// Number of the packet that comes next.
    pub fn next_sequence(&self) -> u8 {
        match self {
            Self::Postgres(_) => 0,
            Self::Mysql(machine) => machine.next_sequence(),
        }
    }

    /// What the client's passwords are mixed with, as long as it is connected.
    pub fn nonce(&self) -> Option<[u8; 20]> {
        match self {
            Self::Postgres(_) => None,
            Self::Mysql(machine) => Some(machine.nonce()),
        }
    }

    /// A hash of the password that makes the next login of this user short.
    pub fn remembered(&self) -> Option<[u8; 32]> {
        match self {
            Self::Postgres(_) => None,
            Self::Mysql(machine) => machine.remembered(),
        }
    }
}

/// Our login to a server, whatever its dialect.
#[derive(Debug)]
pub enum ServerHandshake {
    Postgres(Box<postgres::handshake_out::HandshakeOut>),
    Mysql(Box<mysql::handshake_out::HandshakeOut>),
}

impl ServerHandshake {
    pub fn feed(&mut self, bytes: &[u8]) {
        either!(self, machine => machine.feed(bytes));
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ServerStep {
        either!(self, machine => machine.next())
    }

    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        either!(self, machine => machine.take_output(out));
    }

    pub fn tls_started(&mut self) {
        either!(self, machine => machine.tls_started());
    }

    /// Tie the login to this TLS connection, whose server showed a certificate of this hash.
    pub fn bind_channel(&mut self, certificate_hash: Vec<u8>) {
        either!(self, machine => machine.bind_channel(certificate_hash));
    }

    pub fn errand_done(&mut self, outcome: ErrandOutcome) {
        either!(self, machine => machine.errand_done(outcome));
    }

    /// Bytes that followed the login.
    pub fn take_rest(&mut self) -> Vec<u8> {
        either!(self, machine => machine.take_rest())
    }

    /// What PBKDF2 gave, for the next login of the same user.
    pub fn take_salted(&self) -> Option<(Vec<u8>, u32, [u8; 32])> {
        either!(self, machine => machine.take_salted())
    }

    /// What was agreed on.
    pub fn capabilities(&self) -> u64 {
        match self {
            Self::Postgres(_) => 0,
            Self::Mysql(machine) => machine.capabilities(),
        }
    }
}
