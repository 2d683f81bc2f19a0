//! Error packets: our reasons in MySQL's numbers, and the reading of a server's.
//!
//! Only appends to the buffer it is given; never decides when something is said.
//! Called by the handshakes and by `reply`.

use super::frame;
use super::spec::{answer, capability, limits};
use crate::{Code, Complaint};

/// A command byte that no server knows.
pub const UNKNOWN_COMMAND: (u16, &[u8; 5]) = (1047, b"08S01");
/// A first packet from a client that is no login.
pub const BAD_HANDSHAKE: (u16, &[u8; 5]) = (1043, b"08S01");
/// A packet whose sequence number is not the next.
pub const OUT_OF_ORDER: (u16, &[u8; 5]) = (1156, b"08S01");
/// A client too old for the way of proof that is asked for.
pub const OLD_CLIENT: (u16, &[u8; 5]) = (1251, b"08004");

/// Error number and SQLSTATE of a reason.
///
/// Spec: MySQL "Server Error Message Reference"; from 2000 on, "Client Error Message Reference".
/// Why these: drivers act on numbers (SQLAlchemy takes 1927, 2006, 2013, 2014, 2045, 2055 and 4031 for a
/// connection that is gone; PyMySQL, mysqlclient and mysql2 choose a class or a text by them) or on the
/// class of the SQLSTATE (Connector/J and the pools above it: 08 for a connection that is gone).
pub fn number(code: Code) -> (u16, &'static [u8; 5]) {
    match code {
        // ER_MALFORMED_PACKET, with the state of what it leads to: this client is closed.
        Code::ProtocolViolation => (1835, b"08S01"),
        // CR_SERVER_LOST, which drivers raise by themselves when a server closes in the middle of a
        // query. Why not 1053: it is the one that all of them take for "the query may have been run".
        Code::ServerLost => (2013, b"08S01"),
        // CR_CONN_HOST_ERROR, as a client has it who finds nobody at an address.
        Code::ServerUnreachable => (2003, b"08001"),
        // ER_SERVER_OFFLINE_MODE: come back later.
        Code::NotNow => (3032, b"HY000"),
        // ER_SERVER_SHUTDOWN.
        Code::Shutdown => (1053, b"08S01"),
        // ER_CON_COUNT_ERROR.
        Code::TooManyConnections => (1040, b"08004"),
        // ER_TOO_MANY_USER_CONNECTIONS.
        Code::UserLimit => (1203, b"42000"),
        // ER_OUT_OF_RESOURCES. Why not 1226 (a user's limit): its class, 42, is taken for bad SQL.
        Code::LimitExceeded => (1041, b"HY000"),
        // ER_NET_PACKET_TOO_LARGE.
        Code::TooLarge => (1153, b"08S01"),
        // ER_ACCESS_DENIED_ERROR.
        Code::WrongPassword | Code::NotAuthorized => (1045, b"28000"),
        // ER_BAD_DB_ERROR.
        Code::UnknownDatabase => (1049, b"42000"),
        // ER_QUERY_INTERRUPTED.
        Code::Cancelled => (1317, b"70100"),
        // ER_CLIENT_INTERACTION_TIMEOUT.
        Code::IdleTooLong | Code::IdleInTransaction => (4031, b"HY000"),
        // ER_CONNECTION_KILLED of MariaDB, whose drivers and SQLAlchemy know it.
        Code::TransactionTooLong => (1927, b"70100"),
        // ER_LOCK_WAIT_TIMEOUT. Why: nothing has been run, and this is what code that tries again waits for.
        Code::QueueTimeout => (1205, b"HY000"),
        // ER_UNKNOWN_STMT_HANDLER.
        Code::UnknownStatement => (1243, b"HY000"),
        // ER_NOT_SUPPORTED_YET.
        Code::Unsupported => (1235, b"42000"),
        // ER_PARSE_ERROR.
        Code::Syntax => (1064, b"42000"),
        // ER_UNKNOWN_ERROR: MySQL has no number of its own for these.
        Code::DuplicateStatement | Code::WrongState => (1105, b"HY000"),
        // ER_INTERNAL_ERROR.
        Code::Internal => (1815, b"HY000"),
    }
}

/// Append the error packet of a complaint. Returns the sequence number that comes next.
pub fn write(out: &mut Vec<u8>, sequence: u8, complaint: &Complaint, capabilities: u64) -> u8 {
    write_as(out, sequence, number(complaint.code), complaint, capabilities)
}

/// As `write`, with another number; the database's own goes before either. Until `capabilities` are known they
/// are none, and the packet has no SQLSTATE. Spec: "ERR_Packet".
pub fn write_as(
    out: &mut Vec<u8>,
    sequence: u8,
    (number, state): (u16, &[u8; 5]),
    complaint: &Complaint,
    capabilities: u64,
) -> u8 {
    let number = complaint.number.filter(|number| *number != 0).unwrap_or(number);
    let state = complaint.sqlstate.as_ref().unwrap_or(state);
    frame::packet(out, sequence, |out| {
        out.push(answer::ERR);
        out.extend_from_slice(&number.to_le_bytes());
        if capabilities & capability::PROTOCOL_41 != 0 {
            out.push(b'#');
            out.extend_from_slice(state);
        }
        out.extend_from_slice(text(complaint).as_bytes());
    })
}

/// Message, circumstances and advice in one text, for MySQL's errors have but one.
fn text(complaint: &Complaint) -> String {
    let mut text = complaint.message.replace('\0', "");
    for (before, part, after) in [(" (", &complaint.detail, ")"), ("; ", &complaint.hint, "")] {
        if let Some(part) = part {
            text = text + before + &part.replace('\0', "") + after;
        }
    }
    let mut end = text.len().min(limits::ERROR_BYTES - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// A server's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    pub number: u16,
    /// `HY000` where the server gave none.
    pub state: [u8; 5],
    pub message: &'a [u8],
}

/// Read the payload of an error packet; what is missing is made up.
pub fn read(payload: &[u8]) -> Fields<'_> {
    let rest = payload.get(1..).unwrap_or_default();
    let (number, rest) = frame::int2(rest).unwrap_or((1105, rest));
    match rest.strip_prefix(b"#").and_then(|rest| rest.split_first_chunk::<5>()) {
        Some((state, message)) => Fields { number, state: *state, message },
        None => Fields { number, state: *b"HY000", message: rest },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_written_and_read() {
        let complaint = Complaint::fatal(Code::QueueTimeout, "no server came free")
            .detail("20 of 20 leased")
            .hint("raise pool.size");
        let mut out = Vec::new();
        assert_eq!(write(&mut out, 3, &complaint, capability::PROTOCOL_41), 4);
        let body = b"\xff\xb5\x04#HY000no server came free (20 of 20 leased); raise pool.size";
        assert_eq!(&out[4..], body);
        let fields = read(&out[4..]);
        assert_eq!((fields.number, &fields.state), (1205, b"HY000"));
        assert_eq!(fields.message, &body[9..]);
    }

    #[test]
    fn before_the_client_is_known_there_is_no_state() {
        let mut out = Vec::new();
        write(&mut out, 0, &Complaint::fatal(Code::TooManyConnections, "Too many connections"), 0);
        assert_eq!(out, b"\x17\0\0\0\xff\x10\x04Too many connections");
        let fields = read(&out[4..]);
        assert_eq!(
            (fields.number, &fields.state, fields.message),
            (1040, b"HY000", &b"Too many connections"[..])
        );
        assert_eq!(read(b"").number, 1105);
        assert_eq!(read(b"\xff\x10\x04#080").message, b"#080");
    }

    #[test]
    fn state_of_the_database_wins_and_texts_are_bounded() {
        let complaint = Complaint {
            sqlstate: Some(*b"28000"),
            number: Some(1045),
            ..Complaint::error(Code::ServerUnreachable, "é".repeat(400) + "\0")
        };
        let mut out = Vec::new();
        write(&mut out, 1, &complaint, capability::PROTOCOL_41);
        let fields = read(&out[4..]);
        assert_eq!((fields.number, &fields.state, fields.message.len()), (1045, b"28000", 510));
    }
}
