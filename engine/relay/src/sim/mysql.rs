//! The actors of the virtual world that speak MySQL: a scripted database and its clients.
//!
//! Written from the protocol's documentation and not from the relay's code, so that the two check each other.
//! Driven by `World` beside those that speak PostgreSQL.

pub mod answers;
pub mod frontend;
mod login;
mod packets;
mod prepared;
mod probe;
pub mod session;
mod statements;
mod tracker;
mod values;
mod variables;
mod world;

/// What each side can do, as the two agree on it at the login. Spec: "Capabilities Flags".
pub mod can {
    pub const LONG_PASSWORD: u64 = 1;
    pub const FOUND_ROWS: u64 = 1 << 1;
    pub const LONG_FLAG: u64 = 1 << 2;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const LOCAL_FILES: u64 = 1 << 7;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const TRANSACTIONS: u64 = 1 << 13;
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const MULTI_STATEMENTS: u64 = 1 << 16;
    pub const MULTI_RESULTS: u64 = 1 << 17;
    pub const PS_MULTI_RESULTS: u64 = 1 << 18;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRS: u64 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
    pub const SESSION_TRACK: u64 = 1 << 23;
    pub const DEPRECATE_EOF: u64 = 1 << 24;

    /// A driver of today that says little.
    pub const PLAIN: u64 = LONG_PASSWORD
        | LONG_FLAG
        | CONNECT_WITH_DB
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH;
    /// One that takes whatever is new.
    pub const MODERN: u64 = PLAIN | DEPRECATE_EOF | SESSION_TRACK | MULTI_STATEMENTS;
}

/// What the server says of itself behind each statement. Spec: "Status Flags".
pub(super) mod says {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 1 << 1;
    pub const MORE_RESULTS: u16 = 1 << 3;
    pub const CURSOR_EXISTS: u16 = 1 << 6;
    pub const LAST_ROW_SENT: u16 = 1 << 7;
    pub const SESSION_STATE_CHANGED: u16 = 1 << 14;
}
