//! Constants of the MySQL protocol, each with the part of the documentation that defines it.
//!
//! Holds numbers and nothing else: no parsing, no decisions.
//! Used by every module of this dialect and by nobody outside it.
//!
//! Sections without a name are those of MySQL's "Client/Server Protocol"; "MariaDB" stands before those
//! of the MariaDB knowledge base.

/// What each side can do. Spec: "Capabilities Flags"; MariaDB "Connection", capabilities.
///
/// One number of 64 bits: MySQL's in the lower half, MariaDB's extended ones in the upper.
pub mod capability {
    /// MySQL's bit for passwords that are not of 1996; every MySQL server and client sets it.
    pub const LONG_PASSWORD: u64 = 1;
    /// MariaDB's name for the same bit: not set means that the extended ones are there.
    pub const CLIENT_MYSQL: u64 = LONG_PASSWORD;
    pub const FOUND_ROWS: u64 = 1 << 1;
    pub const LONG_FLAG: u64 = 1 << 2;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const NO_SCHEMA: u64 = 1 << 4;
    pub const COMPRESS: u64 = 1 << 5;
    pub const ODBC: u64 = 1 << 6;
    pub const LOCAL_FILES: u64 = 1 << 7;
    pub const IGNORE_SPACE: u64 = 1 << 8;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const INTERACTIVE: u64 = 1 << 10;
    pub const SSL: u64 = 1 << 11;
    pub const IGNORE_SIGPIPE: u64 = 1 << 12;
    pub const TRANSACTIONS: u64 = 1 << 13;
    /// Old name of the bit, meaningless today, but servers set it.
    pub const RESERVED: u64 = 1 << 14;
    /// A nonce of twenty bytes, and an answer whose length stands before it in one byte.
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const MULTI_STATEMENTS: u64 = 1 << 16;
    pub const MULTI_RESULTS: u64 = 1 << 17;
    pub const PS_MULTI_RESULTS: u64 = 1 << 18;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRS: u64 = 1 << 20;
    /// The answer's length is a length-encoded number.
    pub const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
    pub const CAN_HANDLE_EXPIRED_PASSWORDS: u64 = 1 << 22;
    pub const SESSION_TRACK: u64 = 1 << 23;
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    pub const OPTIONAL_RESULTSET_METADATA: u64 = 1 << 25;
    pub const ZSTD: u64 = 1 << 26;
    pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
    pub const MULTI_FACTOR_AUTHENTICATION: u64 = 1 << 28;
    /// For the client's library alone, as the one below; never on the wire.
    pub const SSL_VERIFY_SERVER_CERT: u64 = 1 << 30;
    pub const REMEMBER_OPTIONS: u64 = 1 << 31;
    pub const MARIADB_PROGRESS: u64 = 1 << 32;
    pub const MARIADB_COM_MULTI: u64 = 1 << 33;
    pub const MARIADB_STMT_BULK_OPERATIONS: u64 = 1 << 34;
    pub const MARIADB_EXTENDED_TYPE_INFO: u64 = 1 << 35;
    pub const MARIADB_CACHE_METADATA: u64 = 1 << 36;
    pub const MARIADB_BULK_UNIT_RESULTS: u64 = 1 << 37;
    /// All of MariaDB's extended ones.
    pub const MARIADB: u64 = 0xffff_ffff << 32;
}

/// What the server says of itself behind each statement. Spec: "Status Flags".
pub mod status {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 1 << 1;
    pub const MORE_RESULTS: u16 = 1 << 3;
    pub const NO_GOOD_INDEX_USED: u16 = 1 << 4;
    pub const NO_INDEX_USED: u16 = 1 << 5;
    pub const CURSOR_EXISTS: u16 = 1 << 6;
    pub const LAST_ROW_SENT: u16 = 1 << 7;
    pub const DATABASE_DROPPED: u16 = 1 << 8;
    pub const NO_BACKSLASH_ESCAPES: u16 = 1 << 9;
    pub const METADATA_CHANGED: u16 = 1 << 10;
    pub const QUERY_WAS_SLOW: u16 = 1 << 11;
    pub const PS_OUT_PARAMS: u16 = 1 << 12;
    pub const IN_TRANSACTION_READONLY: u16 = 1 << 13;
    pub const SESSION_STATE_CHANGED: u16 = 1 << 14;
    /// MariaDB: an ANSI quoted identifiers session.
    pub const ANSI_QUOTES: u16 = 1 << 15;
}

/// First bytes of what a client sends once it is logged in. Spec: "Command Phase".
pub mod command {
    pub const SLEEP: u8 = 0x00;
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const CREATE_DB: u8 = 0x05;
    pub const DROP_DB: u8 = 0x06;
    pub const REFRESH: u8 = 0x07;
    pub const SHUTDOWN: u8 = 0x08;
    pub const STATISTICS: u8 = 0x09;
    pub const PROCESS_INFO: u8 = 0x0a;
    pub const CONNECT: u8 = 0x0b;
    pub const PROCESS_KILL: u8 = 0x0c;
    pub const DEBUG: u8 = 0x0d;
    pub const PING: u8 = 0x0e;
    pub const TIME: u8 = 0x0f;
    pub const DELAYED_INSERT: u8 = 0x10;
    pub const CHANGE_USER: u8 = 0x11;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const TABLE_DUMP: u8 = 0x13;
    pub const CONNECT_OUT: u8 = 0x14;
    pub const REGISTER_SLAVE: u8 = 0x15;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const STMT_FETCH: u8 = 0x1c;
    pub const DAEMON: u8 = 0x1d;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
    pub const RESET_CONNECTION: u8 = 0x1f;
    pub const CLONE: u8 = 0x20;
    /// MariaDB "COM_STMT_BULK_EXECUTE".
    pub const STMT_BULK_EXECUTE: u8 = 0xfa;
    /// MariaDB "COM_MULTI".
    pub const MULTI: u8 = 0xfe;
}

/// First bytes of what a server sends. Spec: "Generic Response Packets".
pub mod answer {
    pub const OK: u8 = 0x00;
    pub const ERR: u8 = 0xff;
    /// In place of OK where EOF is deprecated, or the old EOF in a packet of less than nine bytes.
    pub const EOF: u8 = 0xfe;
    /// The server asks for a file (LOAD DATA LOCAL INFILE).
    pub const LOCAL_INFILE: u8 = 0xfb;
}

/// Kinds of what changed in a session. Spec: "OK_Packet", session state information.
pub mod track {
    pub const SYSTEM_VARIABLES: u8 = 0;
    pub const SCHEMA: u8 = 1;
    pub const STATE_CHANGE: u8 = 2;
    pub const GTIDS: u8 = 3;
    pub const TRANSACTION_CHARACTERISTICS: u8 = 4;
    pub const TRANSACTION_STATE: u8 = 5;
}

/// What is said in a login. Spec: "Connection Phase Packets"; "Caching_sha2_password information".
pub mod login {
    /// The only version of the handshake since 1998.
    pub const PROTOCOL_VERSION: u8 = 10;
    pub const AUTH_SWITCH: u8 = 0xfe;
    pub const AUTH_MORE: u8 = 0x01;
    /// `caching_sha2_password`: the answer was enough.
    pub const FAST_OK: u8 = 0x03;
    /// `caching_sha2_password`: now the password itself.
    pub const FULL_WANTED: u8 = 0x04;
    /// `caching_sha2_password`: the client asks for the public key.
    pub const KEY_WANTED: u8 = 0x02;
    /// `sha256_password`: the same.
    pub const OLD_KEY_WANTED: u8 = 0x01;
    /// Before the version that MariaDB 10 and 11 tell, so that old replicas take it for a MySQL.
    pub const MARIADB_PREFIX: &str = "5.5.5-";
}

/// Names of authentication plugins, as both sides send them.
pub mod plugin {
    pub const NATIVE: &str = "mysql_native_password";
    pub const CACHING_SHA2: &str = "caching_sha2_password";
    pub const ED25519: &str = "client_ed25519";
    pub const CLEAR: &str = "mysql_clear_password";
    pub const SHA256: &str = "sha256_password";
}

/// Sizes that bound what we accept. Each names its origin.
pub mod limits {
    /// Longest packet of a login that we take from a client: ours; the attributes alone may have 64 KiB
    /// (`MAX_CONNECTION_ATTR_STORAGE_LENGTH` of MySQL).
    pub const CLIENT_LOGIN_BYTES: usize = 96 * 1024;
    /// Longest packet of a login that we take from a server: ours.
    pub const SERVER_LOGIN_BYTES: usize = 64 * 1024;
    /// Bytes of a nonce, but for ed25519. Spec: "Protocol::HandshakeV10".
    pub const NONCE_BYTES: usize = 20;
    /// Longest password in clear text. Spec: `MAX_PLAINTEXT_LENGTH` in `crypt_genhash_impl.h`.
    pub const PASSWORD_BYTES: usize = 256;
    /// Longest error text; clients cut it there. Spec: `MYSQL_ERRMSG_SIZE`.
    pub const ERROR_BYTES: usize = 512;
}
