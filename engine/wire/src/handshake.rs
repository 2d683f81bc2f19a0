//! The neutral words of logging in, for both sides and both dialects.
//!
//! Holds no protocol bytes and decides nothing; each dialect's `handshake_in` and `handshake_out`
//! are machines that speak these words. `relay` feeds them and acts on the steps they return.

use std::fmt;
use std::sync::Arc;

use crate::auth::sealed_password::OwnKey;
use crate::auth::{caching_sha2, scram, sha256_crypt};
use crate::{CancelKey, Complaint};

/// How a client must prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// No proof.
    Trust,
    /// The password itself, in clear text. A MySQL client sends it over TLS only.
    Password,
    /// PostgreSQL md5 with a salt. A MySQL client is asked for `CachingSha2` in its place.
    Md5,
    /// A MySQL client is asked for `CachingSha2` in its place.
    ScramSha256,
    /// `mysql_native_password`. A PostgreSQL client is asked for `ScramSha256` in its place, as for
    /// the two below.
    MysqlNative,
    /// `caching_sha2_password`.
    CachingSha2,
    /// `client_ed25519` of MariaDB.
    Ed25519,
}

/// What is known of a user's password. Any may be missing; `plain` serves every method.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub plain: Option<String>,
    /// `md5` followed by 32 hex digits, as in `pg_authid`.
    pub md5: Option<String>,
    pub scram: Option<scram::Verifier>,
    /// SHA1(SHA1(password)), the `*` and 40 hex digits of MySQL's `mysql_native_password`.
    pub native: Option<[u8; 20]>,
    /// What MySQL's `caching_sha2_password` stores.
    pub sha2: Option<caching_sha2::Verifier>,
    /// SHA256(SHA256(password)), remembered from an earlier login that `sha2` decided.
    pub fast: Option<[u8; 32]>,
    /// The public key that MariaDB's `ed25519` stores.
    pub ed25519: Option<[u8; 32]>,
}

/// Why: here and below, a password must not reach a log by way of `{:?}`.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("plain", &self.plain.is_some())
            .field("md5", &self.md5.is_some())
            .field("scram", &self.scram.is_some())
            .field("native", &self.native.is_some())
            .field("sha2", &self.sha2.is_some())
            .field("fast", &self.fast.is_some())
            .field("ed25519", &self.ed25519.is_some())
            .finish()
    }
}

/// What a client says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    pub user: String,
    /// Empty when the client named none; the caller applies the dialect's default (PostgreSQL: the user
    /// name; MySQL: none at all).
    pub database: String,
    /// Every other parameter in order, `options=-c name=value` already taken apart.
    pub parameters: Vec<(String, String)>,
    /// The value of `replication`, when given and not false.
    pub replication: Option<String>,
    /// Minor protocol version in force after negotiation (0 or 2 for PostgreSQL).
    pub minor: u16,
    /// MySQL: what the client can do, of what was offered; MariaDB's extended ones in the upper half.
    pub capabilities: u64,
    /// MySQL: the number of the collation that the client speaks in. At login only its low byte is sent.
    pub character_set: u16,
    /// MySQL: what the client says of itself (`program_name`, `_pid`), in order.
    pub attributes: Vec<(String, String)>,
    /// MySQL: the longest packet that the client takes; 0 where it did not say.
    pub max_packet: u32,
    /// MySQL: the level of zstd compression that the client wants; 0 where it wants none.
    pub zstd_level: u8,
}

/// Work too slow for a worker's loop; a helper thread runs it by [`Errand::run`].
#[derive(Clone, PartialEq, Eq)]
pub enum Errand {
    /// PBKDF2-HMAC-SHA-256 of a password.
    SaltPassword { password: String, salt: Vec<u8>, iterations: u32 },
    /// MySQL: read the password that a client has sent, and hash it as the server stores it.
    HashPassword { password: SentPassword, salt: Vec<u8>, rounds: u32 },
    /// MySQL: make the key that clients seal passwords with, unless somebody has made it meanwhile.
    MakeKey(Arc<OwnKey>),
}

/// A password as a MySQL client has sent it.
#[derive(Clone, PartialEq, Eq)]
pub enum SentPassword {
    /// In clear text, over TLS or a local socket.
    Clear(Vec<u8>),
    /// Sealed with our public key. `nonce` is what it was mixed with.
    Sealed { bytes: Vec<u8>, nonce: [u8; 20], key: Arc<OwnKey> },
}

/// What an errand came to.
#[derive(Clone, PartialEq, Eq)]
pub enum ErrandOutcome {
    /// Of `SaltPassword`.
    Salted([u8; 32]),
    /// Of `HashPassword`: sha256-crypt, and SHA256(SHA256(password)).
    Hashed { slow: [u8; 32], fast: [u8; 32] },
    /// Of `HashPassword`: what was sent cannot be opened.
    Garbled,
    /// Of `MakeKey`.
    KeyMade,
}

/// Why: passwords, and what is as good as one, must not reach a log.
impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Errand::SaltPassword { iterations, .. } => {
                f.debug_struct("SaltPassword").field("iterations", iterations).finish_non_exhaustive()
            }
            Errand::HashPassword { rounds, .. } => {
                f.debug_struct("HashPassword").field("rounds", rounds).finish_non_exhaustive()
            }
            Errand::MakeKey(_) => f.write_str("MakeKey"),
        }
    }
}

/// Why: as above.
impl fmt::Debug for ErrandOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrandOutcome::Salted(_) => "Salted",
            ErrandOutcome::Hashed { .. } => "Hashed",
            ErrandOutcome::Garbled => "Garbled",
            ErrandOutcome::KeyMade => "KeyMade",
        })
    }
}

impl Errand {
    /// Do the work; milliseconds of CPU.
    pub fn run(&self) -> ErrandOutcome {
        match self {
            Errand::SaltPassword { password, salt, iterations } => {
                ErrandOutcome::Salted(scram::salted_password(password, salt, *iterations))
            }
            Errand::HashPassword { password, salt, rounds } => {
                let opened;
                let clear = match password {
                    SentPassword::Clear(clear) => clear,
                    SentPassword::Sealed { bytes, nonce, key } => {
                        match key.get().and_then(|key| key.open(bytes, nonce)) {
                            Some(clear) => {
                                opened = clear;
                                &opened
                            }
                            None => return ErrandOutcome::Garbled,
                        }
                    }
                };
                ErrandOutcome::Hashed {
                    slow: sha256_crypt::hash(clear, salt, *rounds),
                    fast: caching_sha2::twice(clear),
                }
            }
            Errand::MakeKey(key) => {
                key.make();
                ErrandOutcome::KeyMade
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
    /// MySQL: what we would like the server to do; it is told those of them that it can.
    pub capabilities: u64,
    /// MySQL: the number of the collation to speak in; only the low byte is sent. 0: the server's own.
    pub character_set: u16,
    /// MySQL: what we say of ourselves (`program_name`).
    pub attributes: Vec<(String, String)>,
    /// MySQL: the longest packet that we take.
    pub max_packet: u32,
    /// The server is reached by a local socket, where clear text is as safe as TLS.
    pub is_local: bool,
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
    /// MySQL's error number; 0 where the dialect has none.
    pub number: u16,
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
