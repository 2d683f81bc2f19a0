//! What a client message asks for.
//!
//! Looks at the header and, where one byte decides, at the first byte of the body; never copies.
//! Called by `relay::client` through `Dialect`; names inside messages are read by `statement`.

use super::{frame, spec};
use crate::{ClientMessage, Fault, Intent, Target};

/// Cut the first message of `input`, which need not be whole.
///
/// Returns `None` while too little has arrived to know what it is.
///
/// # Errors
/// A length that cannot be, or a type that no logged-in client may send.
///
/// Spec: PostgreSQL manual, "Message Formats", messages marked (F).
#[inline]
pub fn next(input: &[u8], limit_bytes: usize) -> Result<Option<ClientMessage>, Fault> {
    let Some((tag, total)) = frame::header(input, limit_bytes)? else { return Ok(None) };
    let intent = match tag {
        spec::QUERY => Intent::Query,
        spec::PARSE => Intent::Prepare,
        spec::BIND => Intent::Bind,
        spec::EXECUTE => Intent::Execute,
        spec::SYNC if total != frame::HEADER => return Err(Fault("Sync with a body")),
        spec::SYNC => Intent::Sync,
        spec::FLUSH if total != frame::HEADER => return Err(Fault("Flush with a body")),
        spec::FLUSH => Intent::Flush,
        spec::DESCRIBE | spec::CLOSE => {
            if total < frame::HEADER + 2 {
                return Err(Fault("Describe or Close without a name"));
            }
            let Some(&kind) = input.get(frame::HEADER) else { return Ok(None) };
            let target = match kind {
                b'S' => Target::Statement,
                b'P' => Target::Portal,
                _ => return Err(Fault("Describe or Close of neither a statement nor a portal")),
            };
            if tag == spec::DESCRIBE {
                Intent::Describe(target)
            } else {
                Intent::Close(target)
            }
        }
        spec::COPY_DATA => Intent::CopyData,
        spec::COPY_DONE => Intent::CopyDone,
        spec::COPY_FAIL => Intent::CopyFail,
        spec::FUNCTION_CALL => Intent::Call,
        spec::TERMINATE => Intent::Quit,
        _ => return Err(Fault("unknown message type from the client")),
    };
    Ok(Some(ClientMessage { intent, total }))
}
