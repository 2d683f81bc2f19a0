//! The first packet of a client: what it opens, and the parameters in it.
//!
//! Reads one whole packet; keeps nothing, answers nothing.
//! Called by `handshake_in`, which owns the order in which packets may come.
//!
//! Spec: "Message Formats", StartupMessage, SSLRequest, GSSENCRequest, CancelRequest; "Message
//! Flow", Start-up.

use super::spec::{limits, protocol};
use super::{frame, reply};
use crate::handshake::Startup;
use crate::{CancelKey, Code, Complaint, Fault};

/// What a first packet opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    Tls,
    GssEncryption,
    Cancel(CancelKey),
    Session(Session),
    /// A version that we do not speak; its error has the form of protocol 2 when `old` is set.
    Unsupported {
        old: bool,
        complaint: Complaint,
    },
}

/// A startup message, and what must be negotiated away from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub startup: Startup,
    /// The client asked for a minor version that we do not have.
    pub downgraded: bool,
    /// Protocol options that we do not know, by name.
    pub unknown_options: Vec<String>,
}

/// Length of the packet at the front of `input`; None while its first eight bytes are missing.
///
/// # Errors
/// Bytes that cannot be a first packet.
pub fn packet_length(input: &[u8]) -> Result<Option<usize>, Complaint> {
    let Some(head) = input.first_chunk::<8>() else {
        return Ok(None);
    };
    if [&b"GET "[..], b"POST", b"HEAD", b"PUT ", b"OPTI", b"PRI "].contains(&&head[..4]) {
        let complaint = violation("this port speaks the PostgreSQL protocol, but the client speaks HTTP");
        return Err(complaint.hint("Use the address configured as listen.http."));
    }
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if !(8..=limits::STARTUP_BYTES).contains(&length) {
        return Err(violation("invalid length of startup packet"));
    }
    Ok(Some(length))
}

/// Read one whole first packet, its length included.
///
/// # Errors
/// What the client is to be told.
pub fn read(packet: &[u8]) -> Result<Opening, Complaint> {
    let (version, body) = frame::int32(packet.get(4..).unwrap_or_default()).map_err(complain)?;
    match version {
        protocol::SSL_REQUEST if body.is_empty() => Ok(Opening::Tls),
        protocol::GSSENC_REQUEST if body.is_empty() => Ok(Opening::GssEncryption),
        protocol::SSL_REQUEST | protocol::GSSENC_REQUEST => {
            Err(violation("invalid length of startup packet"))
        }
        protocol::CANCEL_REQUEST => Ok(Opening::Cancel(reply::read_key(body).map_err(complain)?)),
        _ if version >> 16 == protocol::V3_0 >> 16 => {
            read_session(version as u16, body).map(Opening::Session)
        }
        _ => Ok(unsupported(version)),
    }
}

fn unsupported(version: u32) -> Opening {
    let (major, minor) = (version >> 16, version & 0xffff);
    let message = format!(
        "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{}",
        protocol::NEWEST_MINOR
    );
    Opening::Unsupported { old: major < 3, complaint: Complaint::fatal(Code::Unsupported, message) }
}

fn violation(message: &str) -> Complaint {
    Complaint::fatal(Code::ProtocolViolation, message)
}

fn complain(fault: Fault) -> Complaint {
    violation(fault.0)
}

fn read_session(asked_minor: u16, body: &[u8]) -> Result<Session, Complaint> {
    // Why: 3.1 was never released; who asks for it gets 3.0, as from a server of that time.
    let minor = if asked_minor >= protocol::NEWEST_MINOR { protocol::NEWEST_MINOR } else { 0 };
    let mut startup = Startup { minor, ..Startup::default() };
    let mut unknown_options = Vec::new();
    let mut from_options = Vec::new();
    let mut rest = body;
    loop {
        let (name, after) = frame::text(rest).map_err(complain)?;
        if name.is_empty() {
            rest = after;
            break;
        }
        let (value, after) = frame::text(after).map_err(complain)?;
        rest = after;
        match name {
            "user" => startup.user = value.to_owned(),
            "database" => startup.database = value.to_owned(),
            "replication" => startup.replication = (!is_false(value)).then(|| value.to_owned()),
            "options" => read_options(value, &mut from_options)?,
            _ if name.starts_with(protocol::OPTION_PREFIX) => unknown_options.push(name.to_owned()),
            _ => startup.parameters.push((name.to_owned(), value.to_owned())),
        }
    }
    if !rest.is_empty() {
        return Err(violation("invalid startup packet layout: expected terminator as last byte"));
    }
    if startup.user.is_empty() {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(Complaint::fatal(Code::NotAuthorized, message));
    }
    // Why: a server applies `options` first, so that a parameter of the same name wins.
    if !from_options.is_empty() {
        from_options.append(&mut startup.parameters);
        startup.parameters = from_options;
    }
    Ok(Session { startup, downgraded: asked_minor != minor, unknown_options })
}

/// Spec: `parse_bool` of PostgreSQL, which takes any beginning that is not ambiguous.
fn is_false(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    value == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2)
}

/// Take `-c name=value` and `--name=value` apart. Spec: `process_postgres_switches` of PostgreSQL.
fn read_options(text: &str, parameters: &mut Vec<(String, String)>) -> Result<(), Complaint> {
    let mut words = split_options(text).into_iter();
    while let Some(word) = words.next() {
        let assignment = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if let Some(short) = word.strip_prefix("-c") {
            if short.is_empty() {
                words.next().unwrap_or_default()
            } else {
                short.to_owned()
            }
        } else {
            let message = format!("invalid argument in startup options: {word}");
            let hint = "Only -c name=value and --name=value are carried to the server.";
            return Err(Complaint::fatal(Code::Unsupported, message).hint(hint));
        };
        match assignment.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                parameters.push((name.replace('-', "_"), value.to_owned()));
            }
            _ => {
                let message = format!("startup option needs the form name=value: {assignment}");
                return Err(Complaint::fatal(Code::Syntax, message));
            }
        }
    }
    Ok(())
}

/// Words between white space; a backslash takes the next character as it is.
/// Spec: `pg_split_opts` of PostgreSQL.
fn split_options(text: &str) -> Vec<String> {
    let is_space = |c: &char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(is_space).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(c) = rest.next_if(|c| !is_space(c)) {
            if c == '\\' {
                word.extend(rest.next());
            } else {
                word.push(c);
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn session(version: u32, body: &[u8]) -> Session {
        match read(&packet(version, body)) {
            Ok(Opening::Session(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    fn options(text: &str) -> Result<Vec<(String, String)>, Complaint> {
        let mut found = Vec::new();
        read_options(text, &mut found).map(|()| found)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn parameters_keep_their_order_and_options_come_first() {
        let body = b"user\0app\0b\x001\0database\0shop\0options\0-c a=x\\ y --c-d=e -cf=\0a\x002\0\0";
        let found = session(protocol::V3_0, body);
        assert_eq!((found.startup.user.as_str(), found.startup.database.as_str()), ("app", "shop"));
        let expected =
            vec![pair("a", "x y"), pair("c_d", "e"), pair("f", ""), pair("b", "1"), pair("a", "2")];
        assert_eq!(found.startup.parameters, expected);
        assert_eq!((found.downgraded, found.startup.minor), (false, 0));
    }

    #[test]
    fn options_are_split_as_postgres_does() {
        assert_eq!(split_options("  a\\\\b \t c\\ d  e\\"), ["a\\b", "c d", "e"]);
        assert_eq!(options("").unwrap(), []);
        for text in ["-c", "-c a", "--a", "--=x", "-c =x", "-E x", "plain"] {
            assert!(options(text).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_negotiated() {
        let body = b"user\0a\0_pq_.command_tag\0on\0\0";
        for (version, minor, downgraded) in
            [(0x30000, 0, false), (0x30001, 0, true), (0x30002, 2, false), (0x3270f, 2, true)]
        {
            let found = session(version, body);
            assert_eq!((found.startup.minor, found.downgraded), (minor, downgraded), "{version:x}");
            assert_eq!(found.unknown_options, ["_pq_.command_tag"]);
            assert_eq!(found.startup.parameters, []);
        }
    }

    #[test]
    fn other_majors_are_refused_politely() {
        for (version, is_old) in [(0x10000, true), (0x20000, true), (0x40000, false), (80_877_105, false)] {
            match read(&packet(version, b"\0")) {
                Ok(Opening::Unsupported { old, complaint }) => {
                    assert_eq!((old, complaint.code), (is_old, Code::Unsupported));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn replication_that_is_false_is_none() {
        for (value, expected) in [
            ("off", None),
            ("F", None),
            ("0", None),
            ("no", None),
            ("database", Some("database")),
            ("1", Some("1")),
        ] {
            let body = format!("user\0a\0replication\0{value}\0\0");
            assert_eq!(session(protocol::V3_0, body.as_bytes()).startup.replication.as_deref(), expected);
        }
    }

    #[test]
    fn broken_packets_are_refused() {
        for body in
            [&b""[..], b"user\0a\0", b"user\0a", b"user\0", b"\0", b"user\0a\0\0more", b"user\0\xff\0\0"]
        {
            assert!(read(&packet(protocol::V3_0, body)).is_err(), "{body:?}");
        }
        assert!(read(&packet(protocol::SSL_REQUEST, b"x")).is_err());
        assert!(read(&packet(protocol::CANCEL_REQUEST, b"\0\0\0\x01")).is_err());
        assert!(packet_length(b"\0\0\0\x07\0\0\0\0").is_err());
        assert!(packet_length(b"\0\x01\0\x01\0\x03\0\0").is_err());
        assert!(packet_length(b"GET / HT").unwrap_err().message.contains("HTTP"));
        assert_eq!(packet_length(b"\0\0\0\x09\0\x03\0"), Ok(None));
    }
}
