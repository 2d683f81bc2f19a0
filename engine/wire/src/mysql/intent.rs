//! What a client command asks for.
//!
//! Looks at the packet's header and at the command byte; never copies.
//! Called by `relay::client` through `Dialect`; what stands in a command is read by `statement`.

use super::frame;
use super::spec::command;
use crate::{ClientMessage, Fault, Intent, Reply, Target};

/// Cut the first packet of `input`, which need not be whole.
///
/// `is_data`: the server has asked for a file, so that what comes is no command. Returns `None` while too
/// little has arrived to know what it is.
///
/// # Errors
/// A command packet without a command.
///
/// Spec: MySQL internals, "Command Phase"; a packet of 16,777,215 bytes is continued by the next.
#[inline]
pub fn next(input: &[u8], is_data: bool) -> Result<Option<ClientMessage>, Fault> {
    let Some(head) = frame::header(input) else { return Ok(None) };
    let (length, total) = (head.payload, head.total());
    // Why the sequence: a command begins at 0, what continues one does not.
    if is_data || head.sequence != 0 {
        let intent = if length == 0 && is_data { Intent::CopyDone } else { Intent::CopyData };
        return Ok(Some(ClientMessage { intent, total }));
    }
    if length == 0 {
        return Err(Fault("a command packet without a command"));
    }
    let Some(&first) = input.get(frame::HEADER) else { return Ok(None) };
    let intent = match first {
        command::QUERY => Intent::Query,
        command::STMT_EXECUTE | command::STMT_BULK_EXECUTE => Intent::Run,
        command::STMT_PREPARE => Intent::Prepare,
        command::STMT_CLOSE => Intent::Close(Target::Statement),
        command::STMT_SEND_LONG_DATA => Intent::Append,
        command::STMT_RESET => Intent::Rewind,
        command::STMT_FETCH => Intent::Fetch,
        command::PING => Intent::Ping,
        command::QUIT => Intent::Quit,
        command::CHANGE_USER => Intent::Relogin,
        command::RESET_CONNECTION => Intent::Renew,
        command::SET_OPTION => Intent::Agree,
        command::PROCESS_KILL => Intent::Kill,
        command::STATISTICS => Intent::Command(Reply::Line),
        command::FIELD_LIST => Intent::Command(Reply::Fields),
        command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::REGISTER_SLAVE => Intent::Replicate,
        // Why these, too: the server has its own answer to a command that it does not know.
        _ => Intent::Command(Reply::Rows),
    };
    Ok(Some(ClientMessage { intent, total }))
}
