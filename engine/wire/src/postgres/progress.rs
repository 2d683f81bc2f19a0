//! What a server message reports.
//!
//! Looks at the header and, for `ReadyForQuery`, at its one byte; never copies.
//! Called by `relay::server` through `Dialect`.

use super::{frame, spec};
use crate::{CopyDirection, Fault, Progress, ServerMessage, Transaction};

/// Cut the first message of `input`, which need not be whole.
///
/// # Errors
/// A length that cannot be, or a type that no server sends after login.
///
/// Spec: PostgreSQL manual, "Message Formats", messages marked (B).
#[inline]
pub fn next(input: &[u8], limit_bytes: usize) -> Result<Option<ServerMessage>, Fault> {
    let Some((tag, total)) = frame::header(input, limit_bytes)? else { return Ok(None) };
    let progress = match tag {
        spec::DATA_ROW => Progress::Data,
        spec::ROW_DESCRIPTION | spec::NO_DATA => Progress::Columns,
        spec::COMMAND_COMPLETE | spec::EMPTY_QUERY_RESPONSE | spec::PORTAL_SUSPENDED => Progress::Finished,
        spec::READY_FOR_QUERY => {
            if total != frame::HEADER + 1 {
                return Err(Fault("ReadyForQuery of a wrong length"));
            }
            let Some(&state) = input.get(frame::HEADER) else { return Ok(None) };
            Progress::Ready(match state {
                b'I' => Transaction::None,
                b'T' => Transaction::Open,
                b'E' => Transaction::Failed,
                _ => return Err(Fault("ReadyForQuery with an unknown transaction state")),
            })
        }
        spec::PARSE_COMPLETE => Progress::Prepared,
        spec::BIND_COMPLETE => Progress::Bound,
        spec::CLOSE_COMPLETE => Progress::Closed,
        spec::PARAMETER_DESCRIPTION => Progress::Parameters,
        spec::ERROR_RESPONSE => Progress::Failed,
        spec::NOTICE_RESPONSE => Progress::Aside,
        spec::NOTIFICATION_RESPONSE => Progress::Notification,
        spec::PARAMETER_STATUS => Progress::Setting,
        spec::COPY_IN_RESPONSE => Progress::Copy(CopyDirection::In),
        spec::COPY_OUT_RESPONSE => Progress::Copy(CopyDirection::Out),
        spec::COPY_BOTH_RESPONSE => Progress::Copy(CopyDirection::Both),
        spec::COPY_DATA => Progress::CopyData,
        spec::COPY_DONE => Progress::CopyDone,
        spec::FUNCTION_CALL_RESPONSE => Progress::Called,
        spec::BACKEND_KEY_DATA => Progress::Key,
        _ => return Err(Fault("unknown message type from the server")),
    };
    Ok(Some(ServerMessage { progress, total, is_last: false }))
}

/// What a finished statement did to the session, as far as its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// All session state is gone, prepared statements too.
    DiscardAll,
    /// All prepared statements are gone.
    DeallocateAll,
    /// Nobody knows any more what sequences gave last.
    DiscardSequences,
    Other,
}

/// Read the tag of a whole `Progress::Finished` message.
#[inline]
pub fn tag_of(message: &[u8]) -> Tag {
    // Why: nearly every tag is told apart by its first byte.
    if message.len() < frame::HEADER + 8
        || message[frame::HEADER] != b'D'
        || message[0] != spec::COMMAND_COMPLETE
    {
        return Tag::Other;
    }
    match &message[frame::HEADER..] {
        b"DISCARD ALL\0" => Tag::DiscardAll,
        b"DEALLOCATE ALL\0" => Tag::DeallocateAll,
        b"DISCARD SEQUENCES\0" => Tag::DiscardSequences,
        _ => Tag::Other,
    }
}

/// Name and value of a whole `Progress::Setting` message.
///
/// # Errors
/// Strings that do not end.
pub fn setting_of(message: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let (name, rest) = frame::cstr(&message[frame::HEADER..])?;
    let (value, _) = frame::cstr(rest)?;
    Ok((name, value))
}
