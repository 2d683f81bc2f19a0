//! One complete, immutable, numbered configuration of the engine.
//!
//! Only data: what Python decided, in the shape in which the engine looks things up. It is never
//! changed in place; a reload brings the next number. Built by `binding` from Python values.
//! All times are milliseconds, 0 meaning "off" unless said otherwise; all counts 0 mean "no limit"
//! unless said otherwise. Units, defaults and sentences are in `src/maitred/config/schema.py`.

use maitred_wire::effects::Traces;
use maitred_wire::Dialect;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub number: u64,
    pub listeners: Vec<Listener>,
    /// TLS that we show to clients; None: SSLRequest is answered with "no".
    pub client_tls: Option<ClientTls>,
    pub endpoints: Vec<Endpoint>,
    /// `*` stands for any name; an exact name wins.
    pub databases: Vec<Database>,
    pub users: Vec<User>,
    pub auth: Auth,
    pub limits: Limits,
    /// Database names that reach the console.
    pub console_names: Vec<String>,
    /// Report statements that take longer; 0 reports none.
    pub slow_query_ms: u64,
    pub log_connections: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// What clients speak here: "postgres" or "mysql".
    #[serde(deserialize_with = "dialect")]
    pub dialect: Dialect,
    pub address: Address,
    /// Expect a PROXY protocol header (v1 or v2) before anything else.
    pub proxy_protocol: bool,
    /// Permission bits of a Unix socket.
    pub unix_mode: u32,
}

/// Where a listener or endpoint is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Address {
    /// Host is a name or a literal; for a listener "" or "*" mean every interface.
    Tcp {
        host: String,
        port: u16,
    },
    Unix {
        path: String,
    },
}

/// libpq's sslmode names, for both sides. For clients: `verify-ca` and `verify-full` ask for a
/// client certificate, `allow` and `prefer` take either, `require` refuses clear text.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    pub mode: SslMode,
    /// PEM texts, read by Python, so that a swap is one more snapshot.
    pub certificate_pem: String,
    pub key_pem: String,
    /// Authorities that sign client certificates; required for verify-*.
    pub ca_pem: Option<String>,
    /// "1.2" or "1.3".
    pub minimum: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    pub mode: SslMode,
    /// None with verify-*: the system's authorities.
    pub ca_pem: Option<String>,
    pub certificate_pem: Option<String>,
    pub key_pem: Option<String>,
    /// "1.2" or "1.3".
    pub minimum: String,
    /// Begin with TLS at once (ALPN `postgresql`, PostgreSQL 17) instead of asking.
    pub direct: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Unique; shown in reports and logs.
    pub name: String,
    /// What the database speaks, and with it every client of its databases: "postgres" or "mysql".
    #[serde(deserialize_with = "dialect")]
    pub dialect: Dialect,
    pub address: Address,
    pub tls: ServerTls,
    /// Servers open at this endpoint, over all pools.
    pub max_servers: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// As clients say it, or `*`.
    pub name: String,
    /// Index into `endpoints`.
    pub endpoint: usize,
    /// As the endpoint calls it; None: the client's word.
    pub remote_name: Option<String>,
    /// All clients share servers of this user; None: each user has a pool of its own.
    pub user: Option<String>,
    pub password: Option<String>,
    pub pool: PoolSettings,
    /// Functions whose call touches the session, each with what it touches: names of settings, words for
    /// kinds of state.
    pub stateful_functions: Vec<(String, Vec<String>)>,
    /// Tables and views of which a mention does, with the same words; `*`: any.
    pub stateful_tables: Vec<(String, Vec<String>)>,
    /// Startup parameters that every server of this database is opened with.
    pub parameters: Vec<(String, String)>,
    pub max_clients: u32,
    pub max_servers: u32,
    /// Refuse new clients (console DISABLE).
    pub disabled: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    Session,
    Transaction,
    Statement,
}

/// What becomes of statements that would keep a server for their client beyond a transaction.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Pinning {
    /// They do.
    Allow,
    /// They are an error.
    Refuse,
}

/// How clients hear notifications in transaction and statement mode.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum ListenMode {
    /// By one server per database, that listens for all.
    Shared,
    /// By a server that each keeps.
    Pinned,
}

/// For how long what a sequence gave belongs to its client.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum SequenceScope {
    /// For the transaction, and beyond it once a client asks.
    Transaction,
    /// For good: whoever may have advanced one keeps its server.
    Session,
}

/// What a pool does while its endpoint is known to be down.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// Clients wait within the queue timeout.
    Wait,
    /// Clients get the cause at once.
    Fail,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PoolSettings {
    pub mode: PoolMode,
    pub size: u32,
    pub min_size: u32,
    pub reserve_size: u32,
    pub reserve_after_ms: u64,
    pub queue_length: u32,
    pub queue_timeout_ms: u64,
    pub query_timeout_ms: u64,
    pub idle_transaction_timeout_ms: u64,
    pub transaction_timeout_ms: u64,
    pub client_idle_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub login_timeout_ms: u64,
    /// First pause after a failed login; doubles up to `login_retry_max_ms`, with jitter.
    pub login_retry_ms: u64,
    pub login_retry_max_ms: u64,
    /// New servers per second, over all workers.
    pub connects_per_s: u32,
    pub server_lifetime_ms: u64,
    /// Spread of the lifetime, per cent of it.
    pub server_lifetime_jitter: u32,
    pub server_idle_timeout_ms: u64,
    pub when_down: WhenDown,
    /// Bytes of prepared statement text kept prepared on one server.
    pub server_statements_bytes: u64,
    /// Bytes of prepared statement text one client may hold.
    pub client_statements_bytes: u64,
    /// Bytes of settings, and of SQL's prepared statements, that one client carries from server to server.
    pub client_state_bytes: u64,
    pub pinning: Pinning,
    /// Kinds of state that pin nobody, of those that nobody else can meet.
    #[serde(deserialize_with = "kinds")]
    pub pin_ignore: Traces,
    pub sequences: SequenceScope,
    /// A pinned client that asks nothing for so long is closed. 0: never.
    pub pin_timeout_ms: u64,
    pub listen: ListenMode,
    /// Bytes of notifications that may wait for one client.
    pub listen_buffer_bytes: u64,
    /// Run before a server changes hands in session mode; "" runs nothing.
    pub reset_query: String,
}

/// Kinds of session state by the words that operators know them by.
fn kinds<'de, D: serde::Deserializer<'de>>(words: D) -> Result<Traces, D::Error> {
    let mut kinds = Traces::NONE;
    for word in Vec::<String>::deserialize(words)? {
        let unknown = || serde::de::Error::custom(format!("no kind of session state is called {word:?}"));
        kinds.add(Traces::named(&word).ok_or_else(unknown)?);
    }
    Ok(kinds)
}

/// A family of protocols by the word that configurations have for it.
fn dialect<'de, D: serde::Deserializer<'de>>(word: D) -> Result<Dialect, D::Error> {
    let word = String::deserialize(word)?;
    Dialect::named(&word).ok_or_else(|| serde::de::Error::custom(format!("no dialect is called {word:?}")))
}

/// What a user sets differently; None keeps the database's setting.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOverrides {
    pub mode: Option<PoolMode>,
    pub size: Option<u32>,
    pub min_size: Option<u32>,
    pub reserve_size: Option<u32>,
    pub queue_timeout_ms: Option<u64>,
    pub query_timeout_ms: Option<u64>,
    pub idle_transaction_timeout_ms: Option<u64>,
    pub transaction_timeout_ms: Option<u64>,
    pub client_idle_timeout_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    pub plain: Option<String>,
    /// `md5…` as in `pg_authid`.
    pub md5: Option<String>,
    /// `SCRAM-SHA-256$…` as in `pg_authid`; Python derives it from a plain password.
    pub scram: Option<String>,
    /// `*` and 40 hex digits, as in `mysql.user` for mysql_native_password.
    pub mysql_native: Option<String>,
    /// `$A$005$…` as in `mysql.user` for caching_sha2_password.
    pub mysql_sha2: Option<String>,
    /// 43 characters of base64, as in `mysql.global_priv` for MariaDB's ed25519.
    pub mysql_ed25519: Option<String>,
    pub pool: PoolOverrides,
    pub max_clients: u32,
    pub max_servers: u32,
    /// May use every console command.
    pub admin: bool,
    /// May use the console's SHOW.
    pub stats: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMethod {
    /// Any user, known or not.
    Trust,
    Password,
    Md5,
    ScramSha256,
    /// The TLS client certificate's common name must be the user.
    Cert,
}

/// How MySQL clients prove who they are; the names are those of the servers' plug-ins.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum MysqlMethod {
    /// Any user, known or not.
    Trust,
    /// The password itself (mysql_clear_password), over TLS or a Unix socket.
    Password,
    #[serde(rename = "mysql_native_password")]
    Native,
    #[serde(rename = "caching_sha2_password")]
    CachingSha2,
    #[serde(rename = "ed25519")]
    Ed25519,
    /// The TLS client certificate's common name must be the user.
    Cert,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Of PostgreSQL clients.
    pub method: AuthMethod,
    pub mysql_method: MysqlMethod,
    /// Ask Python about users that are not in `users`.
    pub ask_unknown: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub clients: u32,
    pub servers: u32,
    /// Of users that have no limit of their own.
    pub clients_per_user: u32,
    pub servers_per_user: u32,
    /// Logins for which a password may be salted at the same moment.
    pub logins: u32,
    pub client_login_timeout_ms: u64,
    /// A side whose reader is slower than its writer is not read past this.
    pub buffer_bytes: usize,
    /// Longest message that is accepted (PostgreSQL allows 1 GiB).
    pub message_bytes: usize,
    /// How long SIGTERM waits for transactions.
    pub drain_timeout_ms: u64,
    pub keepalive_idle_s: u32,
    pub keepalive_interval_s: u32,
    pub keepalive_count: u32,
    pub tcp_user_timeout_ms: u32,
    pub listen_backlog: u32,
    /// What MySQL clients are greeted with; "MariaDB" in it makes it a MariaDB.
    pub mysql_version: String,
}

impl Limits {
    /// Messages up to this size are held until they are whole.
    pub fn hold_bytes(&self) -> usize {
        self.buffer_bytes.min(16 * 1024)
    }
}

impl PoolSettings {
    /// For sessions that no pool serves.
    pub fn without_limits() -> Self {
        Self {
            mode: PoolMode::Session,
            size: 0,
            min_size: 0,
            reserve_size: 0,
            reserve_after_ms: 0,
            queue_length: 0,
            queue_timeout_ms: 0,
            query_timeout_ms: 0,
            idle_transaction_timeout_ms: 0,
            transaction_timeout_ms: 0,
            client_idle_timeout_ms: 0,
            connect_timeout_ms: 0,
            login_timeout_ms: 0,
            login_retry_ms: 0,
            login_retry_max_ms: 0,
            connects_per_s: 0,
            server_lifetime_ms: 0,
            server_lifetime_jitter: 0,
            server_idle_timeout_ms: 0,
            when_down: WhenDown::Wait,
            server_statements_bytes: 0,
            client_statements_bytes: 0,
            client_state_bytes: 0,
            pinning: Pinning::Allow,
            pin_ignore: Traces::NONE,
            sequences: SequenceScope::Transaction,
            pin_timeout_ms: 0,
            listen: ListenMode::Shared,
            listen_buffer_bytes: 0,
            reset_query: String::new(),
        }
    }
}
