//! Database wire protocols as pure machines: bytes in, meaning out.
//!
//! Never does I/O, never reads a clock, never spawns; the one system call is randomness for nonces.
//! `relay` is the only caller; it speaks the neutral words defined here, never a dialect's bytes.
//!
//! The two dialects are siblings with the same eight file names. What a client message asks for is
//! an [`Intent`]; what a server message reports is a [`Progress`]; what we say ourselves when
//! something goes wrong is a [`Complaint`].

pub mod auth;
pub mod dialect;
pub mod digest;
pub mod effects;
pub mod handshake;
pub mod mysql;
pub mod postgres;
pub mod proxy_protocol;

/// Which family of protocols a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    Postgres,
    Mysql,
}

impl Dialect {
    pub const ALL: [Dialect; 2] = [Dialect::Postgres, Dialect::Mysql];

    /// The dialect that configurations have this word for.
    pub fn named(word: &str) -> Option<Dialect> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == word)
    }

    pub fn name(self) -> &'static str {
        match self {
            Dialect::Postgres => "postgres",
            Dialect::Mysql => "mysql",
        }
    }

    /// The protocol's name in TLS (ALPN), where it has one.
    ///
    /// Spec: PostgreSQL manual, "SSL Session Encryption".
    pub fn application_protocol(self) -> Option<&'static [u8]> {
        match self {
            Dialect::Postgres => Some(b"postgresql"),
            Dialect::Mysql => None,
        }
    }
}

/// Bytes that break the protocol. The text says what was wrong, in words a driver author can use.
///
/// A fault on a client closes that client (08P01); a fault on a server closes that server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub &'static str);

/// The side of a statement or cursor that `Describe` and `Close` act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// How the answer to a command is built, where its bytes alone do not tell (MySQL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, failed, or results of rows.
    Rows,
    /// One line of text.
    Line,
    /// Descriptions of columns.
    Fields,
    /// Rows of a cursor whose columns are known.
    Fetched,
    /// A statement was prepared.
    Prepared,
}

/// What one client message asks for, once the client is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Run statement text; ends in one `Ready`.
    Query,
    /// Call a function by number; ends in one `Ready`.
    Call,
    /// Make a prepared statement.
    Prepare,
    /// Bind values to a prepared statement.
    Bind,
    Describe(Target),
    Execute,
    Close(Target),
    /// Ask the server to send what it has; no answer of its own.
    Flush,
    /// End a batch; ends in one `Ready`.
    Sync,
    CopyData,
    CopyDone,
    CopyFail,
    /// Bind values to a prepared statement and run it.
    Run,
    /// Read on in the cursor of a statement that was run.
    Fetch,
    /// Part of a value for a statement that will be run; no answer.
    Append,
    /// Forget what was appended to a statement, and its cursor.
    Rewind,
    /// Is anybody there?
    Ping,
    /// Begin a new session in the same connection, as somebody else perhaps.
    Relogin,
    /// Begin a new session in the same connection, as the same user.
    Renew,
    /// Change what was agreed at login.
    Agree,
    /// Stop somebody's query, or end somebody's session.
    Kill,
    /// Anything else that has one answer.
    Command(Reply),
    /// Take part in replication: a server of the client's own, unread.
    Replicate,
    /// The client leaves.
    Quit,
}

/// One message cut from the front of a client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientMessage {
    pub intent: Intent,
    /// Whole length on the wire, header included. May exceed what has arrived.
    pub total: usize,
}

impl ClientMessage {
    /// Is it as long as a packet can be, so that the next continues it (MySQL)?
    pub fn goes_on(self) -> bool {
        self.total == mysql::frame::HEADER + mysql::frame::FULL
    }
}

/// Transaction state that a server reports when it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transaction {
    #[default]
    None,
    Open,
    Failed,
}

/// Which way a COPY moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    /// Client to server.
    In,
    /// Server to client.
    Out,
    /// Both at once (replication).
    Both,
}

/// What one server message reports, once the server is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Part of an answer; nothing is finished by it.
    Data,
    /// A `Prepare` was carried out.
    Prepared,
    /// A `Bind` was carried out.
    Bound,
    /// A `Close` was carried out.
    Closed,
    /// The parameters of a statement (first half of the answer to `Describe` of a statement).
    Parameters,
    /// The columns of a result, or that there are none.
    Columns,
    /// One statement finished (complete, empty query or suspended portal).
    Finished,
    /// The answer to `Call`, before its `Ready`.
    Called,
    /// An error. The server skips everything up to the next `Sync`.
    Failed,
    /// A COPY began.
    Copy(CopyDirection),
    /// COPY data, server to client.
    CopyData,
    /// The server has sent all its COPY data.
    CopyDone,
    /// Ready for the next request.
    Ready(Transaction),
    /// A setting changed value (`name`, `value` by the dialect's `setting_of`).
    Setting,
    /// May come at any time and answers nothing (notice).
    Aside,
    /// What somebody says to all who listen to a channel (`notification_of`); answers nothing.
    Notification,
    /// A new cancel key.
    Key,
}

/// One message cut from the front of a server's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerMessage {
    pub progress: Progress,
    /// Whole length on the wire, header included. May exceed what has arrived.
    pub total: usize,
    /// The answer under way ends with it, though it is no `Ready`.
    pub is_last: bool,
}

/// What somebody said to all who listen to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The session that said it, by the number in its cancel key.
    pub pid: u32,
    pub channel: &'a [u8],
    pub payload: &'a [u8],
}

/// Why we say no, in neutral words; a dialect maps it to its own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// PostgreSQL 08P01.
    ProtocolViolation,
    /// 08006: the server was lost while it worked for this client.
    ServerLost,
    /// 08001: no server could be reached or logged in to.
    ServerUnreachable,
    /// 57P03: not now (starting, paused, draining).
    NotNow,
    /// 57P01: we are shutting down, or an operator closed the client.
    Shutdown,
    /// 53300: a connection limit.
    TooManyConnections,
    /// 53300: a limit on the connections of one user.
    UserLimit,
    /// 53400: a configured limit that is not about connections (queue length, memory).
    LimitExceeded,
    /// 54000: one request is larger than what a setting allows.
    TooLarge,
    /// 28P01.
    WrongPassword,
    /// 28000: this user may not do this, or no way to log in is configured.
    NotAuthorized,
    /// 3D000.
    UnknownDatabase,
    /// 57014: the client asked for it, or a query time limit was reached.
    Cancelled,
    /// 57P05: idle for too long.
    IdleTooLong,
    /// 25P03: idle in a transaction for too long.
    IdleInTransaction,
    /// 25P04: transaction open for too long.
    TransactionTooLong,
    /// 53300 for a queue timeout: no server came free in time.
    QueueTimeout,
    /// 26000: no such prepared statement.
    UnknownStatement,
    /// 42P05: a prepared statement of that name exists.
    DuplicateStatement,
    /// 0A000.
    Unsupported,
    /// 42601, for the console.
    Syntax,
    /// 55000, for the console.
    WrongState,
    /// XX000: a fault of ours.
    Internal,
}

/// An error that we author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub code: Code,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The client is closed after it.
    pub fatal: bool,
    /// The database's own five-character SQLSTATE, where the cause is the database's.
    pub sqlstate: Option<[u8; 5]>,
    /// The database's own error number, where it has numbers.
    pub number: Option<u16>,
}

impl Complaint {
    /// An error that leaves the client connected.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            fatal: false,
            sqlstate: None,
            number: None,
        }
    }

    /// An error after which the client is closed.
    pub fn fatal(code: Code, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::error(code, message) }
    }

    /// Add what to change.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Add counts or circumstances.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Proof that a cancel request comes from the owner of a session.
///
/// Protocol 3.0 keys are four bytes; 3.2 allows up to 256.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct CancelKey {
    pub pid: u32,
    pub secret: Vec<u8>,
}
