//! Constants of the PostgreSQL protocol, each with the section of the manual that defines it.
//!
//! Holds numbers and nothing else: no parsing, no decisions.
//! Used by every module of this dialect and by nobody outside it.
//!
//! Sections are those of the manual's chapter "Frontend/Backend Protocol"; they are named, not
//! numbered, because the numbers move from release to release.

/// Codes that stand where a startup packet has its version. Spec: "Message Formats", StartupMessage,
/// SSLRequest, GSSENCRequest, CancelRequest.
pub mod protocol {
    /// 3.0: major in the high half, minor in the low half.
    pub const V3_0: u32 = 196_608;
    /// 3.2 (PostgreSQL 18): cancel keys of up to 256 bytes.
    pub const V3_2: u32 = 196_610;
    pub const CANCEL_REQUEST: u32 = 80_877_102;
    pub const SSL_REQUEST: u32 = 80_877_103;
    pub const GSSENC_REQUEST: u32 = 80_877_104;
    /// The newest minor version of major version 3 that we speak. 3.1 was never released.
    pub const NEWEST_MINOR: u16 = 2;
    /// Startup parameters with this prefix are protocol options. Spec: "Message Formats",
    /// NegotiateProtocolVersion.
    pub const OPTION_PREFIX: &str = "_pq_.";
}

// First bytes of messages that a client sends. Spec: "Message Formats", those marked (F).

pub const BIND: u8 = b'B';
pub const CLOSE: u8 = b'C';
pub const COPY_DATA: u8 = b'd';
pub const COPY_DONE: u8 = b'c';
pub const COPY_FAIL: u8 = b'f';
pub const DESCRIBE: u8 = b'D';
pub const EXECUTE: u8 = b'E';
pub const FLUSH: u8 = b'H';
pub const FUNCTION_CALL: u8 = b'F';
pub const PARSE: u8 = b'P';
/// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share it.
pub const PASSWORD: u8 = b'p';
pub const QUERY: u8 = b'Q';
pub const SYNC: u8 = b'S';
pub const TERMINATE: u8 = b'X';
/// Second byte of Describe and Close. Spec: "Message Formats", Describe.
pub const OF_STATEMENT: u8 = b'S';
pub const OF_PORTAL: u8 = b'P';

// First bytes of messages that a server sends. Spec: "Message Formats", those marked (B).
// COPY_DATA and COPY_DONE are above: both sides send them.

pub const AUTHENTICATION: u8 = b'R';
pub const BACKEND_KEY_DATA: u8 = b'K';
pub const BIND_COMPLETE: u8 = b'2';
pub const CLOSE_COMPLETE: u8 = b'3';
pub const COMMAND_COMPLETE: u8 = b'C';
pub const COPY_BOTH_RESPONSE: u8 = b'W';
pub const COPY_IN_RESPONSE: u8 = b'G';
pub const COPY_OUT_RESPONSE: u8 = b'H';
pub const DATA_ROW: u8 = b'D';
pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
pub const ERROR_RESPONSE: u8 = b'E';
pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
pub const NO_DATA: u8 = b'n';
pub const NOTICE_RESPONSE: u8 = b'N';
pub const NOTIFICATION_RESPONSE: u8 = b'A';
pub const PARAMETER_DESCRIPTION: u8 = b't';
pub const PARAMETER_STATUS: u8 = b'S';
pub const PARSE_COMPLETE: u8 = b'1';
pub const PORTAL_SUSPENDED: u8 = b's';
pub const READY_FOR_QUERY: u8 = b'Z';
pub const ROW_DESCRIPTION: u8 = b'T';
/// One-byte answers to SSLRequest and GSSENCRequest. Spec: "SSL Session Encryption".
pub const TLS_ACCEPTED: u8 = b'S';
pub const TLS_DECLINED: u8 = b'N';

/// What an Authentication message asks for. Spec: "Message Formats", Authentication*.
pub mod authentication {
    pub const OK: u32 = 0;
    pub const KERBEROS_V5: u32 = 2;
    pub const CLEARTEXT_PASSWORD: u32 = 3;
    pub const MD5_PASSWORD: u32 = 5;
    pub const GSS: u32 = 7;
    pub const GSS_CONTINUE: u32 = 8;
    pub const SSPI: u32 = 9;
    pub const SASL: u32 = 10;
    pub const SASL_CONTINUE: u32 = 11;
    pub const SASL_FINAL: u32 = 12;
}

/// Transaction states in ReadyForQuery. Spec: "Message Formats", ReadyForQuery.
pub mod transaction {
    pub const IDLE: u8 = b'I';
    pub const OPEN: u8 = b'T';
    pub const FAILED: u8 = b'E';
}

/// Field tags of ErrorResponse and NoticeResponse. Spec: "Error and Notice Message Fields".
pub mod field {
    /// Severity, translated.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated (since 9.6).
    pub const SEVERITY_PLAIN: u8 = b'V';
    pub const SQLSTATE: u8 = b'C';
    pub const MESSAGE: u8 = b'M';
    pub const DETAIL: u8 = b'D';
    pub const HINT: u8 = b'H';
    pub const ROUTINE: u8 = b'R';
}

/// Type numbers of the columns that we author. Spec: `pg_type.dat` of PostgreSQL; these never change.
pub mod oid {
    pub const INT8: u32 = 20;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const NUMERIC: u32 = 1700;
}

/// Sizes that bound what we accept. Each names its origin.
pub mod limits {
    /// PostgreSQL's own bound on a startup packet (MAX_STARTUP_PACKET_LENGTH, `pqcomm.h`).
    pub const POSTGRES_STARTUP_BYTES: usize = 10_000;
    /// What we accept: ours, so that long `options` pass; still small enough for each login.
    pub const STARTUP_BYTES: usize = 65_536;
    /// PostgreSQL's bound on one password or SASL message (PG_MAX_AUTH_TOKEN_LENGTH, `auth.c`).
    pub const AUTH_TOKEN_BYTES: usize = 65_535;
    /// Longest secret in a cancel key. Spec: "Message Formats", BackendKeyData.
    pub const CANCEL_SECRET_BYTES: usize = 256;
    /// Length of a cancel secret in protocol 3.0.
    pub const CANCEL_SECRET_BYTES_3_0: usize = 4;
    /// Longest message a server may send us while we log in: ours; settings such as `search_path`
    /// are reported whole.
    pub const LOGIN_MESSAGE_BYTES: usize = 262_144;
    /// Longest message at all: PostgreSQL refuses more than 1 GiB less one byte (`MaxAllocSize`).
    pub const MESSAGE_BYTES: usize = 0x3fff_ffff;
    /// libpq takes a longer error before the first answer for the text of a protocol 2 server
    /// (`fe-connect.c`).
    pub const OLD_STYLE_ERROR_BYTES: usize = 30_000;
}

/// Settings that a server reports but that say what it is, or who is logged in: they are not carried
/// from one server to another. Spec: "Asynchronous Operations", the list of reported parameters.
pub fn is_identity(parameter: &str) -> bool {
    const FIXED: [&str; 6] = [
        "in_hot_standby",
        "integer_datetimes",
        "is_superuser",
        "server_encoding",
        "server_version",
        "session_authorization",
    ];
    FIXED.iter().any(|name| name.eq_ignore_ascii_case(parameter))
}

/// Settings that `pg_settings` never shows (GUC_NO_SHOW_ALL in `guc_tables.c`) and that RESET ALL leaves
/// alone. Those of extensions and applications that nobody has defined are hidden, too: they have a dot.
pub fn is_unlisted(name: &str) -> bool {
    name.eq_ignore_ascii_case("role") || name.eq_ignore_ascii_case("session_authorization")
}

/// Settings that a transaction has and no session: they cannot be reset (GUC_NO_RESET in `guc_tables.c`).
/// `transaction_timeout` is none of them.
pub const OF_TRANSACTIONS: [&str; 3] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

pub fn is_of_transaction(name: &str) -> bool {
    OF_TRANSACTIONS.iter().any(|of| of.eq_ignore_ascii_case(name))
}

/// What `current_setting` says of a setting that is as `user` found it at login. Spec: an undefined one
/// that was reset is empty; a role that was not set is `none`.
pub fn is_unset(name: &str, value: &str, user: &str) -> bool {
    match name {
        _ if name.eq_ignore_ascii_case("role") => value == "none",
        _ if name.eq_ignore_ascii_case("session_authorization") => value == user,
        _ => value.is_empty() && name.contains('.'),
    }
}

/// What our console reports at login, as a server of the same protocol would. Why a plain
/// `server_version`: drivers read a number out of it to choose what they may say.
pub const CONSOLE_SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("integer_datetimes", "on"),
    ("server_encoding", "UTF8"),
    ("server_version", "18.0"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];
