//! What the relay wants done: named actions for the worker to perform, in order.
//!
//! Only data. Nothing here acts; `worker` performs, `sim` records.

use std::sync::Arc;

use maitred_wire::handshake::Errand;
use maitred_wire::CancelKey;

use crate::budget::{Budget, PoolShared};
use crate::hub::{HubKey, News, Order};
use crate::ids::{ClientId, ServerId, Time, WorkerId};
use crate::kill::{Kill, Killed};
use crate::server::Server;
use crate::snapshot::Endpoint;

/// For whom an errand runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patron {
    Client(ClientId),
    Server(ServerId),
}

#[derive(Debug)]
pub enum Action {
    /// There is output for a client; take it and write it.
    FlushClient(ClientId),
    FlushServer(ServerId),
    /// Write what is left, then close. The relay has forgotten the client.
    CloseClient {
        client: ClientId,
        last_words: Vec<u8>,
    },
    CloseServer {
        server: ServerId,
        last_words: Vec<u8>,
    },
    /// Stop or go on reading.
    PauseClient(ClientId),
    ResumeClient(ClientId),
    PauseServer(ServerId),
    ResumeServer(ServerId),
    /// The client was told that TLS may begin; what it sends next is TLS.
    StartClientTls(ClientId),
    StartServerTls(ServerId),
    /// Connect; answer with `server_connected` or `server_closed`.
    OpenServer {
        server: ServerId,
        endpoint: Arc<Endpoint>,
        timeout_ms: u64,
    },
    /// Connect to the same address as `server`, send the cancel request, wait for the peer to
    /// close, then answer with `cancel_done`.
    OpenCancel {
        server: ServerId,
        endpoint: Arc<Endpoint>,
        key: CancelKey,
    },
    /// Run elsewhere; answer with `errand_done`.
    Errand {
        patron: Patron,
        errand: Errand,
    },
    /// For another worker's relay.
    Mail {
        to: WorkerId,
        mail: Mail,
    },
    /// Detach the socket and send it with the parcel.
    MoveServer {
        server: ServerId,
        to: WorkerId,
    },
    /// For Python.
    Tell(Event),
}

/// What relays tell each other.
#[derive(Debug)]
pub enum Mail {
    /// Somebody waits on `from`: hand over an idle server of the pool if you have one to spare.
    Want {
        pool: Arc<PoolShared>,
        from: WorkerId,
        /// What it must have agreed on.
        flags: u64,
    },
    /// A server changes worker; its socket travels beside it.
    Parcel(Box<Server>),
    /// Something about the pool changed (a place in the budget, a failure, a pause): look again.
    Nudge {
        pool: Arc<PoolShared>,
    },
    /// Give up the longest idle server that holds a place in `budget`, if any, for `pool`.
    Evict {
        pool: Arc<PoolShared>,
        budget: Arc<Budget>,
    },
    /// Stop the query of the client with this key; tell `from` when done.
    Cancel {
        key: CancelKey,
        from: WorkerId,
        requester: ClientId,
    },
    CancelDone {
        requester: ClientId,
    },
    /// One client wants another's query stopped, or its end.
    Kill {
        kill: Kill,
        from: WorkerId,
        requester: ClientId,
    },
    Killed {
        requester: ClientId,
        number: u32,
        killed: Killed,
    },
    /// For the worker that keeps the listening server; `pool` is one whose user it may log in as.
    ToHub {
        key: Arc<HubKey>,
        pool: Arc<PoolShared>,
        order: Order,
    },
    /// Leave this database of this endpoint, where a server is idle.
    Vacate {
        endpoint: String,
        database: String,
    },
    FromHub {
        key: Arc<HubKey>,
        news: News,
    },
}

/// What the engine tells Python; names as in `_engine.pyi`.
#[derive(Clone, Debug)]
pub enum Event {
    Console {
        client: u64,
        protocol: &'static str,
        user: String,
        database: String,
        admin: bool,
        stats: bool,
        text: String,
    },
    AskUser {
        token: u64,
        user: String,
        database: String,
    },
    SlowQuery {
        duration_us: u64,
        wait_us: u64,
        database: String,
        user: String,
        shape: String,
        client: u64,
    },
    ClientOpened {
        client: u64,
        user: String,
        database: String,
        address: String,
        tls: bool,
    },
    ClientClosed {
        client: u64,
        user: String,
        database: String,
        address: String,
        reason: &'static str,
    },
    ServerOpened {
        server: u64,
        endpoint: String,
        database: String,
        user: String,
        login_us: u64,
    },
    ServerClosed {
        server: u64,
        endpoint: String,
        database: String,
        user: String,
        reason: &'static str,
        detail: String,
    },
    ServerFailed {
        endpoint: String,
        database: String,
        user: String,
        cause: String,
        retry_ms: u64,
    },
    LoginFailed {
        user: String,
        database: String,
        address: String,
        cause: String,
    },
    /// Every client has left after a drain.
    Drained,
}

/// Why a client was closed; logged and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientEnd {
    /// It said goodbye.
    Quit,
    /// Its connection ended without goodbye.
    Vanished,
    ProtocolViolation,
    LoginRefused,
    LoginTimeout,
    LimitReached,
    IdleTimeout,
    TransactionTimeout,
    PinTimeout,
    QueueTimeout,
    Killed,
    Drained,
    /// It only brought a cancel request.
    CancelRequest,
    /// Its server ended and the session with it (session mode, replication, half-sent message).
    ServerLost,
    /// A transaction block in statement mode.
    TransactionInStatementMode,
    /// It does not read the notifications that it listens to.
    SlowListener,
    /// The server that listened for it ended.
    ListeningLost,
}

impl ClientEnd {
    pub fn name(self) -> &'static str {
        match self {
            ClientEnd::Quit => "quit",
            ClientEnd::Vanished => "vanished",
            ClientEnd::ProtocolViolation => "protocol_violation",
            ClientEnd::LoginRefused => "login_refused",
            ClientEnd::LoginTimeout => "login_timeout",
            ClientEnd::LimitReached => "limit_reached",
            ClientEnd::IdleTimeout => "idle_timeout",
            ClientEnd::TransactionTimeout => "transaction_timeout",
            ClientEnd::PinTimeout => "pin_timeout",
            ClientEnd::QueueTimeout => "queue_timeout",
            ClientEnd::Killed => "killed",
            ClientEnd::Drained => "drained",
            ClientEnd::CancelRequest => "cancel_request",
            ClientEnd::ServerLost => "server_lost",
            ClientEnd::TransactionInStatementMode => "transaction_in_statement_mode",
            ClientEnd::SlowListener => "slow_listener",
            ClientEnd::ListeningLost => "listening_lost",
        }
    }
}

/// Why a server was closed; logged and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerEnd {
    /// Connecting or logging in failed.
    LoginFailed,
    /// The database closed it.
    ClosedByPeer,
    /// Unexpected bytes, answers owed, lost count: never lent again.
    Doubt,
    Lifetime,
    IdleTimeout,
    QueryTimeout,
    /// Its client left and it could not be made clean in time.
    NotCleaned,
    /// A smaller pool, a removed database or changed settings.
    Reconfigured,
    /// Another pool needed its place under a shared limit.
    Evicted,
    Killed,
    Drained,
    /// A statement wanted nobody else in its database.
    Vacated,
    /// Its client left: one that had it alone, or in the middle of a message.
    ClientLeft,
    /// It was opened to stop what another runs, and has said so.
    Spent,
}

impl ServerEnd {
    pub fn name(self) -> &'static str {
        match self {
            ServerEnd::LoginFailed => "login_failed",
            ServerEnd::ClosedByPeer => "closed_by_peer",
            ServerEnd::Doubt => "doubt",
            ServerEnd::Lifetime => "lifetime",
            ServerEnd::IdleTimeout => "idle_timeout",
            ServerEnd::QueryTimeout => "query_timeout",
            ServerEnd::NotCleaned => "not_cleaned",
            ServerEnd::Reconfigured => "reconfigured",
            ServerEnd::Evicted => "evicted",
            ServerEnd::Killed => "killed",
            ServerEnd::Drained => "drained",
            ServerEnd::Vacated => "vacated",
            ServerEnd::ClientLeft => "client_left",
            ServerEnd::Spent => "spent",
        }
    }
}

/// The next moment the relay wants `tick` called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Time);
