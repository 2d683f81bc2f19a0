//! The neutral words of logging in, for both sides and both dialects.
//!
//! Holds no protocol bytes and decides nothing; each dialect's `handshake_in` and `handshake_out`
//! are machines that speak these words. `relay` feeds them and acts on the steps they return.

use std::fmt;

use crate::auth::scram;
use crate::{CancelKey, Complaint};

/// How a client must prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// No proof.
    Trust,
    /// The password itself, in clear text.
    Password,
    /// PostgreSQL md5 with a salt.
    Md5,
    ScramSha256,
}

/// What is known of a user's password. Any may be missing; `plain` serves every method.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub plain: Option<String>,
    /// `md5` followed by 32 hex digits, as in `pg_authid`.
    pub md5: Option<String>,
    pub scram: Option<scram::Verifier>,
}

/// Why: here and below, a password must not reach a log by way of `{:?}`.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("plain", &self.plain.is_some())
            .field("md5", &self.md5.is_some())
            .field("scram", &self.scram.is_some())
            .finish()
    }
}

/// What a client says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    pub user: String,
    /// Empty when the client named none; the caller applies the dialect's default (the user name).
    pub database: String,
    /// Every other parameter in order, `options=-c name=value` already taken apart.
    pub parameters: Vec<(String, String)>,
    /// The value of `replication`, when given and not false.
    pub replication: Option<String>,
    /// Minor protocol version in force after negotiation (0 or 2 for PostgreSQL).
    pub minor: u16,
}

/// Work too slow for a worker's loop; a helper thread runs it by [`Errand::run`].
#[derive(Clone, PartialEq, Eq)]
pub enum Errand {
    /// PBKDF2-HMAC-SHA-256 of a password.
    SaltPassword { password: String, salt: Vec<u8>, iterations: u32 },
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Errand::SaltPassword { iterations, .. } = self;
        f.debug_struct("SaltPassword").field("iterations", iterations).finish_non_exhaustive()
    }
}

impl Errand {
    /// Do the work; milliseconds of CPU.
    pub fn run(&self) -> [u8; 32] {
        match self {
            Errand::SaltPassword { password, salt, iterations } => {
                scram::salted_password(password, salt, *iterations)
            }
        }
    }
}

/// What a client's login needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Feed more bytes.
    NeedMore,
    /// The client asks for TLS; call `answer_tls`.
    TlsAsked,
    /// Not a session: stop somebody's query, answer nothing, close.
    Cancel(CancelKey),
    /// The client said who it is; call `demand` or `refuse`.
    Startup(Box<Startup>),
    /// Run this elsewhere, then call `errand_done`.
    Errand(Errand),
    /// Proven. What follows (settings, key, ready) is authored by the caller with `reply`.
    LoggedIn,
    /// Refused; the complaint is already in the output. Flush and close.
    Failed(Complaint),
}

/// What we need to log in to a server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LoginTo {
    pub user: String,
    pub database: String,
    pub password: Option<String>,
    /// Startup parameters to send as they are.
    pub parameters: Vec<(String, String)>,
    pub replication: Option<String>,
    /// Ask for TLS first (SSLRequest).
    pub ask_tls: bool,
    /// Go on in clear text when the server declines TLS.
    pub tls_optional: bool,
    /// A salted password from an earlier login of the same user: (salt, iterations, salted).
    pub salted: Option<(Vec<u8>, u32, [u8; 32])>,
    /// Minor protocol version to offer (0 or 2 for PostgreSQL).
    pub minor: u16,
}

impl fmt::Debug for LoginTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginTo")
            .field("user", &self.user)
            .field("database", &self.database)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// The database's reason for refusing us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: [u8; 5],
    pub message: String,
}

/// What our login to a server needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerStep {
    NeedMore,
    /// The server agreed to TLS: start it, then call `tls_started`.
    StartTls,
    /// Run this elsewhere, then call `errand_done`.
    Errand(Errand),
    /// The server reports a setting.
    Setting {
        name: String,
        value: String,
    },
    /// The key that cancels this server's query.
    Key(CancelKey),
    /// Logged in and idle.
    Ready,
    /// The database said no, in its own words.
    Refused(Refusal),
    /// The server broke the protocol, or asks for something we cannot do.
    Failed(Complaint),
}
