//! Messages that we author, for clients and for servers, and the reading of errors.
//!
//! Only appends to the buffer it is given; never decides when something is said.
//! Called by the handshakes and by `relay` whenever maitred itself speaks.

use super::frame;
use super::spec::{self, authentication, field, limits, oid, protocol, transaction};
use crate::{CancelKey, Code, Complaint, Transaction};

/// Types of the columns that we author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Int4,
    Int8,
    Numeric,
}

/// Append one message: tag, length, and what `body` writes.
fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    untagged(out, body);
}

/// Append a packet without a tag, as all packets before login are.
fn untagged(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Append text and its terminator.
///
/// Invariant: a zero byte inside the text would end the field early and let the rest be read as
/// other fields, so zero bytes are left out.
fn put_text(out: &mut Vec<u8>, text: &str) {
    if text.as_bytes().contains(&0) {
        out.extend(text.bytes().filter(|byte| *byte != 0));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(0);
}

/// The five-character SQLSTATE of a reason. Spec: appendix "PostgreSQL Error Codes".
pub fn sqlstate(code: Code) -> &'static str {
    match code {
        Code::ProtocolViolation => "08P01",
        Code::ServerLost => "08006",
        Code::ServerUnreachable => "08001",
        Code::NotNow => "57P03",
        Code::Shutdown => "57P01",
        Code::TooManyConnections | Code::UserLimit | Code::QueueTimeout => "53300",
        Code::LimitExceeded => "53400",
        Code::TooLarge => "54000",
        Code::WrongPassword => "28P01",
        Code::NotAuthorized => "28000",
        Code::UnknownDatabase => "3D000",
        Code::Cancelled => "57014",
        Code::IdleTooLong => "57P05",
        Code::IdleInTransaction => "25P03",
        Code::TransactionTooLong => "25P04",
        Code::UnknownStatement => "26000",
        Code::DuplicateStatement => "42P05",
        Code::Unsupported => "0A000",
        Code::Syntax => "42601",
        Code::WrongState => "55000",
        Code::Internal => "XX000",
    }
}

fn fields(out: &mut Vec<u8>, severity: &str, complaint: &Complaint) {
    let own = sqlstate(complaint.code);
    let state = complaint.sqlstate.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or(own);
    let mut put = |tag: u8, text: &str| {
        out.push(tag);
        put_text(out, text);
    };
    put(field::SEVERITY, severity);
    put(field::SEVERITY_PLAIN, severity);
    put(field::SQLSTATE, state);
    put(field::MESSAGE, &complaint.message);
    if let Some(detail) = &complaint.detail {
        put(field::DETAIL, detail);
    }
    if let Some(hint) = &complaint.hint {
        put(field::HINT, hint);
    }
    out.push(0);
}

/// ErrorResponse. The severity is FATAL when the client is closed after it.
pub fn error(out: &mut Vec<u8>, complaint: &Complaint) {
    let severity = if complaint.fatal { "FATAL" } else { "ERROR" };
    message(out, spec::ERROR_RESPONSE, |out| fields(out, severity, complaint));
}

/// The error of a protocol 2 server: a tag and text, no length. Spec: PostgreSQL 13, "Message Formats"
/// of protocol 2.0.
pub fn error_v2(out: &mut Vec<u8>, complaint: &Complaint) {
    out.push(spec::ERROR_RESPONSE);
    put_text(out, &format!("FATAL:  {}\n", complaint.message));
}

/// NoticeResponse with severity NOTICE and SQLSTATE 00000.
pub fn notice(out: &mut Vec<u8>, text: &str) {
    let complaint =
        Complaint { sqlstate: Some(*b"00000"), ..Complaint::error(Code::Internal, text.to_owned()) };
    message(out, spec::NOTICE_RESPONSE, |out| fields(out, "NOTICE", &complaint));
}

/// AuthenticationOk.
pub fn auth_ok(out: &mut Vec<u8>) {
    auth_request(out, authentication::OK, &[]);
}

/// Any Authentication message: what is asked, and its data.
pub(super) fn auth_request(out: &mut Vec<u8>, what: u32, data: &[u8]) {
    message(out, spec::AUTHENTICATION, |out| {
        out.extend_from_slice(&what.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// AuthenticationSASL with the mechanisms we offer.
pub(super) fn auth_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    message(out, spec::AUTHENTICATION, |out| {
        out.extend_from_slice(&authentication::SASL.to_be_bytes());
        for mechanism in mechanisms {
            put_text(out, mechanism);
        }
        out.push(0);
    });
}

/// ParameterStatus: a setting and its value.
pub fn setting(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, spec::PARAMETER_STATUS, |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// BackendKeyData.
pub fn key(out: &mut Vec<u8>, key: &CancelKey) {
    message(out, spec::BACKEND_KEY_DATA, |out| {
        out.extend_from_slice(&key.pid.to_be_bytes());
        out.extend_from_slice(&key.secret);
    });
}

/// ReadyForQuery.
pub fn ready(out: &mut Vec<u8>, state: Transaction) {
    let state = match state {
        Transaction::None => transaction::IDLE,
        Transaction::Open => transaction::OPEN,
        Transaction::Failed => transaction::FAILED,
    };
    message(out, spec::READY_FOR_QUERY, |out| out.push(state));
}

/// ParseComplete.
pub fn prepared(out: &mut Vec<u8>) {
    message(out, spec::PARSE_COMPLETE, |_| {});
}

/// BindComplete.
pub fn bound(out: &mut Vec<u8>) {
    message(out, spec::BIND_COMPLETE, |_| {});
}

/// CloseComplete.
pub fn closed(out: &mut Vec<u8>) {
    message(out, spec::CLOSE_COMPLETE, |_| {});
}

/// NoData.
pub fn no_data(out: &mut Vec<u8>) {
    message(out, spec::NO_DATA, |_| {});
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, spec::COMMAND_COMPLETE, |out| put_text(out, tag));
}

/// RowDescription of columns in text format that belong to no table.
///
/// Spec: "Message Formats", RowDescription; at most 65,535 columns, more are left out.
pub fn row_description(out: &mut Vec<u8>, columns: &[(&str, ColumnType)]) {
    let columns = &columns[..columns.len().min(u16::MAX as usize)];
    message(out, spec::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for (name, kind) in columns {
            let (oid, size): (u32, i16) = match kind {
                ColumnType::Text => (oid::TEXT, -1),
                ColumnType::Int4 => (oid::INT4, 4),
                ColumnType::Int8 => (oid::INT8, 8),
                ColumnType::Numeric => (oid::NUMERIC, -1),
            };
            put_text(out, name);
            out.extend_from_slice(&0u32.to_be_bytes()); // table
            out.extend_from_slice(&0u16.to_be_bytes()); // column of that table
            out.extend_from_slice(&oid.to_be_bytes());
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&(-1i32).to_be_bytes()); // type modifier
            out.extend_from_slice(&0u16.to_be_bytes()); // text format
        }
    });
}

/// DataRow of text values; None is NULL.
pub fn data_row(out: &mut Vec<u8>, values: &[Option<&str>]) {
    let values = &values[..values.len().min(u16::MAX as usize)];
    message(out, spec::DATA_ROW, |out| {
        out.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                Some(text) => {
                    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                None => out.extend_from_slice(&(-1i32).to_be_bytes()),
            }
        }
    });
}

/// EmptyQueryResponse.
pub fn empty_query(out: &mut Vec<u8>) {
    message(out, spec::EMPTY_QUERY_RESPONSE, |_| {});
}

/// NegotiateProtocolVersion: the minor version we can do, and protocol options we do not know.
///
/// Why: the whole version number is sent, as PostgreSQL does and libpq requires, although the
/// manual speaks of the minor version only.
pub fn negotiate_version(out: &mut Vec<u8>, minor: u16, unknown_options: &[String]) {
    message(out, spec::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.extend_from_slice(&(protocol::V3_0 | u32::from(minor)).to_be_bytes());
        out.extend_from_slice(&(unknown_options.len() as u32).to_be_bytes());
        for option in unknown_options {
            put_text(out, option);
        }
    });
}

/// Query, to a server.
pub fn query(out: &mut Vec<u8>, sql: &str) {
    message(out, spec::QUERY, |out| put_text(out, sql));
}

/// Sync, to a server.
pub fn sync(out: &mut Vec<u8>) {
    message(out, spec::SYNC, |_| {});
}

/// Close of a prepared statement, to a server.
pub fn close_statement(out: &mut Vec<u8>, name: &str) {
    message(out, spec::CLOSE, |out| {
        out.push(spec::OF_STATEMENT);
        put_text(out, name);
    });
}

/// Terminate, to a server.
pub fn terminate(out: &mut Vec<u8>) {
    message(out, spec::TERMINATE, |_| {});
}

/// PasswordMessage or a SASL answer, to a server.
pub(super) fn password(out: &mut Vec<u8>, data: &[u8]) {
    message(out, spec::PASSWORD, |out| out.extend_from_slice(data));
}

/// CancelRequest, the only thing said on its connection.
pub fn cancel_request(out: &mut Vec<u8>, key: &CancelKey) {
    untagged(out, |out| {
        out.extend_from_slice(&protocol::CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&key.pid.to_be_bytes());
        out.extend_from_slice(&key.secret);
    });
}

/// SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    untagged(out, |out| out.extend_from_slice(&protocol::SSL_REQUEST.to_be_bytes()));
}

/// StartupMessage of protocol 3.`minor` with parameters in order.
pub fn startup<'a>(out: &mut Vec<u8>, minor: u16, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) {
    untagged(out, |out| {
        out.extend_from_slice(&(protocol::V3_0 | u32::from(minor)).to_be_bytes());
        for (name, value) in parameters {
            put_text(out, name);
            put_text(out, value);
        }
        out.push(0);
    });
}

/// What an ErrorResponse or NoticeResponse says; a field that is missing is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// Untranslated where the server sends it (since 9.6).
    pub severity: &'a [u8],
    pub sqlstate: &'a [u8],
    pub message: &'a [u8],
    pub detail: &'a [u8],
    pub hint: &'a [u8],
    /// The function in the server's source that reported it.
    pub routine: &'a [u8],
}

impl ErrorFields<'_> {
    /// The SQLSTATE when it is five letters or digits; XX000 otherwise.
    pub fn state(&self) -> [u8; 5] {
        match <[u8; 5]>::try_from(self.sqlstate) {
            Ok(state) if state.iter().all(u8::is_ascii_alphanumeric) => state,
            _ => *b"XX000",
        }
    }

    /// The message as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.message).into_owned()
    }
}

/// Read the body of an ErrorResponse or NoticeResponse (what follows the header).
///
/// Unknown fields are skipped, a body that ends early gives what was there: an error must not be
/// lost because it is badly made.
pub fn error_fields(body: &[u8]) -> ErrorFields<'_> {
    let mut found = ErrorFields::default();
    let mut rest = body;
    while let Some((tag, after)) = rest.split_first() {
        if *tag == 0 {
            break;
        }
        let (text, after) = frame::cstr(after).unwrap_or((after, &[]));
        match *tag {
            field::SEVERITY_PLAIN => found.severity = text,
            field::SEVERITY if found.severity.is_empty() => found.severity = text,
            field::SQLSTATE => found.sqlstate = text,
            field::MESSAGE => found.message = text,
            field::DETAIL => found.detail = text,
            field::HINT => found.hint = text,
            field::ROUTINE => found.routine = text,
            _ => {}
        }
        rest = after;
    }
    found
}

/// Read the body of a BackendKeyData.
///
/// # Errors
/// Too short, or a secret longer than the protocol allows.
pub fn read_key(body: &[u8]) -> Result<CancelKey, crate::Fault> {
    let (pid, secret) = frame::int32(body)?;
    if secret.is_empty() || secret.len() > limits::CANCEL_SECRET_BYTES {
        return Err(crate::Fault("cancel key must have between 1 and 256 bytes"));
    }
    Ok(CancelKey { pid, secret: secret.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = b"before".to_vec();
        write(&mut out);
        assert_eq!(&out[..6], b"before");
        out.split_off(6)
    }

    #[test]
    fn every_message_announces_its_own_length() {
        let complaint = Complaint::fatal(Code::TooManyConnections, "no more")
            .hint("raise limits.clients")
            .detail("10000 of 10000");
        let key_ = CancelKey { pid: 7, secret: vec![1; 32] };
        type Writer = Box<dyn Fn(&mut Vec<u8>)>;
        let writers: Vec<Writer> = vec![
            Box::new(move |out| error(out, &complaint)),
            Box::new(|out| notice(out, "hello")),
            Box::new(auth_ok),
            Box::new(|out| setting(out, "a", "b")),
            Box::new(move |out| key(out, &key_)),
            Box::new(|out| ready(out, Transaction::Open)),
            Box::new(prepared),
            Box::new(bound),
            Box::new(closed),
            Box::new(no_data),
            Box::new(|out| command_complete(out, "SHOW")),
            Box::new(|out| row_description(out, &[("a", ColumnType::Text), ("b", ColumnType::Int8)])),
            Box::new(|out| data_row(out, &[Some("x"), None, Some("")])),
            Box::new(empty_query),
            Box::new(|out| negotiate_version(out, 2, &["_pq_.x".into()])),
            Box::new(|out| query(out, "SELECT 1")),
            Box::new(sync),
            Box::new(|out| close_statement(out, "s1")),
            Box::new(terminate),
        ];
        for writer in writers {
            let bytes = made(&*writer);
            assert_eq!(frame::header(&bytes, 1 << 20), Ok(Some((bytes[0], bytes.len()))), "{bytes:?}");
        }
    }

    #[test]
    fn error_is_read_back() {
        let bytes = made(|out| {
            error(out, &Complaint::fatal(Code::QueueTimeout, "waited").detail("d").hint("h"));
        });
        let fields = error_fields(&bytes[frame::HEADER..]);
        assert_eq!(fields.severity, b"FATAL");
        assert_eq!(&fields.state(), b"53300");
        assert_eq!((fields.message, fields.detail, fields.hint), (&b"waited"[..], &b"d"[..], &b"h"[..]));
    }

    #[test]
    fn sqlstate_of_the_database_wins() {
        let complaint =
            Complaint { sqlstate: Some(*b"42P01"), ..Complaint::error(Code::ServerUnreachable, "no table") };
        let bytes = made(|out| error(out, &complaint));
        let fields = error_fields(&bytes[frame::HEADER..]);
        assert_eq!((fields.severity, &fields.state()), (&b"ERROR"[..], b"42P01"));
    }

    #[test]
    fn zero_bytes_in_text_cannot_forge_fields() {
        let bytes = made(|out| error(out, &Complaint::error(Code::Internal, "a\0Cforged\0")));
        let fields = error_fields(&bytes[frame::HEADER..]);
        assert_eq!(fields.message, b"aCforged");
        assert_eq!(fields.sqlstate, b"XX000");
    }

    #[test]
    fn broken_errors_give_what_they_hold() {
        assert_eq!(error_fields(b"").message, b"");
        assert_eq!(error_fields(b"Mhalf").message, b"half");
        assert_eq!(error_fields(b"Zjunk\0Mwhole\0").message, b"whole");
        assert_eq!(&error_fields(b"C42\0\0").state(), b"XX000");
        assert_eq!(error_fields(b"SERROR\0VERROR2\0\0").severity, b"ERROR2");
    }

    #[test]
    fn cancel_request_has_the_length_of_its_secret() {
        let bytes = made(|out| cancel_request(out, &CancelKey { pid: 258, secret: vec![9; 4] }));
        assert_eq!(bytes, [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 1, 2, 9, 9, 9, 9]);
        assert_eq!(made(ssl_request), [0, 0, 0, 8, 4, 210, 22, 47]);
    }

    #[test]
    fn key_is_read_back_and_bounded() {
        let long = CancelKey { pid: u32::MAX, secret: vec![7; 256] };
        let bytes = made(|out| key(out, &long));
        assert_eq!(read_key(&bytes[frame::HEADER..]), Ok(long));
        assert!(read_key(&[0; 4]).is_err());
        assert!(read_key(&[0; 261]).is_err());
    }
}
