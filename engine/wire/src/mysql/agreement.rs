//! What clients, we and servers agree on at their logins.
//!
//! Only sets of capabilities and what they depend on; writes nothing. Called by `relay` through `Dialect`.

use super::collations;
use super::spec::{capability, login};

/// Number of utf8mb4_general_ci, which every server knows.
pub const USUAL_COLLATION: u16 = 45;

/// What a client agrees on with us that its servers must have agreed on, too: what they say to it and how they
/// read it cannot be told otherwise.
pub const CLASS: u64 = capability::FOUND_ROWS
    | capability::LOCAL_FILES
    | capability::IGNORE_SPACE
    | capability::MULTI_STATEMENTS
    | capability::MULTI_RESULTS
    | capability::PS_MULTI_RESULTS
    | capability::DEPRECATE_EOF
    | capability::OPTIONAL_RESULTSET_METADATA
    | capability::MARIADB_STMT_BULK_OPERATIONS
    | capability::MARIADB_EXTENDED_TYPE_INFO
    | capability::MARIADB_CACHE_METADATA
    | capability::MARIADB_BULK_UNIT_RESULTS;

/// Those of `CLASS` that change how an answer is read: a server that lacks one cannot serve a client that has it.
pub const FORMS: u64 = capability::DEPRECATE_EOF
    | capability::OPTIONAL_RESULTSET_METADATA
    | capability::MARIADB_EXTENDED_TYPE_INFO
    | capability::MARIADB_CACHE_METADATA;

/// What we ask a server to agree on for clients of these flags: what changes in a session is always told.
pub fn asked_of_servers(flags: u64) -> u64 {
    flags | capability::LONG_FLAG | capability::TRANSACTIONS | capability::SESSION_TRACK
}

/// What clients are offered by a server of this version; the login adds what it needs.
///
/// Spec: MySQL 5.7.9 and MariaDB 10.2 and later have all of the first; what else there is came later.
pub fn offered(version: &str) -> u64 {
    let all = capability::LONG_PASSWORD
        | capability::FOUND_ROWS
        | capability::LONG_FLAG
        | capability::NO_SCHEMA
        | capability::COMPRESS
        | capability::ODBC
        | capability::LOCAL_FILES
        | capability::IGNORE_SPACE
        | capability::INTERACTIVE
        | capability::IGNORE_SIGPIPE
        | capability::TRANSACTIONS
        | capability::MULTI_STATEMENTS
        | capability::MULTI_RESULTS
        | capability::PS_MULTI_RESULTS
        | capability::SESSION_TRACK
        | capability::DEPRECATE_EOF;
    let number =
        |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u32>().ok());
    let mut numbers =
        version.trim_start_matches(login::MARIADB_PREFIX).split('.').map(|part| number(part).unwrap_or(0));
    let at_least = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if !version.contains("MariaDB") {
        // Spec: MySQL 8.0.18 for zstd; the third number is not looked at.
        let since_8 = capability::OPTIONAL_RESULTSET_METADATA | capability::ZSTD;
        let newer = if at_least >= (8, 0) { since_8 } else { 0 };
        return all | newer;
    }
    let since = |version, flag| if at_least >= version { flag } else { 0 };
    all | capability::MARIADB_STMT_BULK_OPERATIONS
        | since((10, 5), capability::MARIADB_EXTENDED_TYPE_INFO)
        | since((10, 6), capability::MARIADB_CACHE_METADATA)
        | since((11, 5), capability::MARIADB_BULK_UNIT_RESULTS)
}

/// See [`CLASS`].
pub fn class_of(capabilities: u64) -> u64 {
    capabilities & CLASS
}

/// Is it one that says what the server is, or one whose value means nothing to the next statement? Never carried.
pub fn is_identity(name: &str) -> bool {
    matches!(name, "version" | "server_version" | "collation") || super::assign::is_passing(name)
}

/// Character set and collation of a client that speaks in the collation of this number; None: the server's own.
///
/// Spec: a number that the server does not know is ignored by it.
pub fn spoken(number: u16, version: &str) -> Option<(&'static str, &'static str)> {
    let collation = collations::named(number, version.contains("MariaDB"))?;
    Some((collations::charset_of(collation), collation))
}
