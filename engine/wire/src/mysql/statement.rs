//! Statements inside commands, and commands with other numbers in them.
//!
//! Knows where numbers and texts stand; which number a statement has on which server is `relay`'s matter.
//! Called by `relay` through `Dialect`.

use std::ops::Range;

use super::frame;
use super::spec::command;
use crate::Fault;

const SHORT: Fault = Fault("a command that is too short");

/// Where a statement's number stands in the commands that name one.
const NUMBER: Range<usize> = frame::HEADER + 1..frame::HEADER + 5;

/// Opens a cursor: the rows are fetched. Spec: "COM_STMT_EXECUTE", flags.
const CURSOR_TYPES: u8 = 0b111;
/// MariaDB "COM_STMT_BULK_EXECUTE": the types of the parameters are there.
const BULK_HAS_TYPES: u16 = 128;

/// Text of a query or of a statement to prepare, as much of it as has arrived.
pub fn text(message: &[u8]) -> &[u8] {
    &message[message.len().min(frame::HEADER + 1)..]
}

/// The statement that a whole command (or its head) names.
///
/// # Errors
/// It ends before the number.
pub fn number_of(message: &[u8]) -> Result<u32, Fault> {
    let number = message.get(NUMBER).ok_or(SHORT)?;
    Ok(u32::from_le_bytes([number[0], number[1], number[2], number[3]]))
}

/// A command to run a statement, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub statement: u32,
    pub opens_cursor: bool,
    /// Where the types of its parameters are, if they are there.
    pub types: Option<Range<usize>>,
    /// Where they belong, if they are not.
    types_at: usize,
    is_bulk: bool,
}

/// Take a command to run a statement of so many parameters apart; None: its head has not arrived.
///
/// # Errors
/// It ends before its head does.
///
/// Spec: "COM_STMT_EXECUTE"; MariaDB "COM_STMT_BULK_EXECUTE".
pub fn run_of(message: &[u8], total: usize, parameters: u16) -> Result<Option<Run>, Fault> {
    let parameters = usize::from(parameters);
    let cut = || if message.len() < total { Ok(None) } else { Err(SHORT) };
    let Some(&kind) = message.get(frame::HEADER) else { return cut() };
    let is_bulk = kind == command::STMT_BULK_EXECUTE;
    if message.len() < NUMBER.end + 2 {
        return cut();
    }
    let statement = number_of(message)?;
    if is_bulk {
        let flags = u16::from_le_bytes([message[NUMBER.end], message[NUMBER.end + 1]]);
        let types_at = NUMBER.end + 2;
        let types = types_at..types_at + 2 * parameters;
        if message.len() < types.end {
            return cut();
        }
        let types = (flags & BULK_HAS_TYPES != 0).then_some(types);
        return Ok(Some(Run { statement, opens_cursor: false, types, types_at, is_bulk }));
    }
    let opens_cursor = message[NUMBER.end] & CURSOR_TYPES != 0;
    let head = NUMBER.end + 5;
    if parameters == 0 {
        return if message.len() < head {
            cut()
        } else {
            Ok(Some(Run { statement, opens_cursor, types: None, types_at: head, is_bulk }))
        };
    }
    let says_at = head + parameters.div_ceil(8);
    let Some(&says) = message.get(says_at) else { return cut() };
    let types = says_at + 1..says_at + 1 + 2 * parameters;
    if says == 1 && message.len() < types.end {
        return cut();
    }
    let types = (says == 1).then_some(types);
    Ok(Some(Run { statement, opens_cursor, types, types_at: says_at, is_bulk }))
}

/// Write the beginning of a command to run a statement: `message`, as much of it as has arrived of `total`, for
/// the statement that the server calls `number`, with `types` if it has none itself.
///
/// # Errors
/// With the types it would be longer than one packet can be.
pub fn write_run(
    out: &mut Vec<u8>,
    message: &[u8],
    total: usize,
    run: &Run,
    number: u32,
    types: &[u8],
) -> Result<(), Fault> {
    let added = if run.types.is_none() { types.len() } else { 0 };
    let payload = total - frame::HEADER + added;
    if added > 0 && payload >= frame::FULL {
        return Err(Fault("a statement run with values of 16 MiB and more must tell their types"));
    }
    let start = out.len();
    out.extend_from_slice(&(payload as u32).to_le_bytes()[..3]);
    out.extend_from_slice(&message[3..run.types_at]);
    out[start + NUMBER.start..start + NUMBER.end].copy_from_slice(&number.to_le_bytes());
    let mut rest = &message[run.types_at..];
    if added > 0 {
        if run.is_bulk {
            let flags = start + NUMBER.end;
            let says = u16::from_le_bytes([out[flags], out[flags + 1]]) | BULK_HAS_TYPES;
            out[flags..flags + 2].copy_from_slice(&says.to_le_bytes());
        } else {
            out.push(1);
            rest = &rest[1..];
        }
        out.extend_from_slice(types);
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Write a command that names a statement as it came, with the server's number for it.
pub fn write_renumbered(out: &mut Vec<u8>, message: &[u8], number: u32) {
    let start = out.len();
    out.extend_from_slice(message);
    out[start + NUMBER.start..start + NUMBER.end].copy_from_slice(&number.to_le_bytes());
}

/// Ask a server to prepare `text`.
pub fn write_prepare(out: &mut Vec<u8>, text: &[u8]) {
    write(out, command::STMT_PREPARE, text);
}

/// Have a server forget a statement; it does not answer.
pub fn write_close(out: &mut Vec<u8>, number: u32) {
    write(out, command::STMT_CLOSE, &number.to_le_bytes());
}

/// Have a server forget what was appended to a statement, and its cursor.
pub fn write_rewind(out: &mut Vec<u8>, number: u32) {
    write(out, command::STMT_RESET, &number.to_le_bytes());
}

/// Write a command.
pub fn write(out: &mut Vec<u8>, command: u8, body: &[u8]) {
    frame::packet(out, 0, |out| {
        out.push(command);
        out.extend_from_slice(body);
    });
}

/// Have a server begin a new session in the same connection, with the settings in `parameters`, and tell what
/// changes in it. Returns how many requests that is.
///
/// Spec: "COM_RESET_CONNECTION"; the schema stays, and all else is as at a login.
pub fn write_renewal(out: &mut Vec<u8>, parameters: &[(String, String)]) -> u8 {
    write(out, command::RESET_CONNECTION, &[]);
    write(out, command::QUERY, super::setup::text(parameters).as_bytes());
    2
}

/// What a server says of a statement that it has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub number: u32,
    pub columns: u16,
    pub parameters: u16,
}

/// Read the whole first packet of the answer to `write_prepare`; `progress` has looked at its length.
pub fn prepared_of(message: &[u8]) -> Prepared {
    let u16_at = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
    let number = u32::from_le_bytes([message[5], message[6], message[7], message[8]]);
    Prepared { number, columns: u16_at(9), parameters: u16_at(11) }
}

/// May the client send several statements in one query from now on? Read from a whole COM_SET_OPTION.
///
/// # Errors
/// It says neither.
pub fn several_of(message: &[u8]) -> Result<bool, Fault> {
    match message.get(frame::HEADER + 1..) {
        Some([0, 0]) => Ok(true),
        Some([1, 0]) => Ok(false),
        _ => Err(Fault("an option that is not known")),
    }
}

/// The session that a whole COM_PROCESS_KILL is about.
///
/// # Errors
/// It names none.
pub fn victim_of(message: &[u8]) -> Result<u32, Fault> {
    number_of(message)
}

/// The schema that a whole COM_INIT_DB chooses; None: it is another command.
pub fn schema_of(message: &[u8]) -> Option<&[u8]> {
    (message.get(frame::HEADER) == Some(&command::INIT_DB)).then(|| text(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::packet(&mut out, 0, |out| out.extend_from_slice(body));
        out
    }

    #[test]
    fn types_are_put_where_they_were_left_out() {
        let with = packet(b"\x17\x07\0\0\0\0\x01\0\0\0\0\x01\x08\0\x05values");
        let run = run_of(&with, with.len(), 1).unwrap().unwrap();
        assert_eq!((run.statement, run.opens_cursor), (7, false));
        assert_eq!(&with[run.types.clone().unwrap()], b"\x08\0");
        let without = packet(b"\x17\x07\0\0\0\0\x01\0\0\0\0\0\x05values");
        let run = run_of(&without, without.len(), 1).unwrap().unwrap();
        assert_eq!(run.types, None);
        let mut out = Vec::new();
        write_run(&mut out, &without, without.len(), &run, 7, b"\x08\0").unwrap();
        assert_eq!(out, with);
        for cut in 0..15 {
            assert_eq!(run_of(&with[..cut], with.len(), 1), Ok(None), "{cut}");
            assert!(run_of(&with[..cut], cut, 1).is_err() || cut == 0);
        }
    }

    #[test]
    fn numbers_are_exchanged() {
        let close = packet(b"\x19\x01\0\0\0");
        assert_eq!(number_of(&close), Ok(1));
        let mut out = Vec::new();
        write_renumbered(&mut out, &close, 0x0102_0304);
        assert_eq!(out, packet(b"\x19\x04\x03\x02\x01"));
        let mut own = Vec::new();
        write_close(&mut own, 0x0102_0304);
        assert_eq!(own, out);
    }

    #[test]
    fn bulk_runs_are_told_types() {
        let without = packet(b"\xfa\x01\0\0\0\0\0\0\x05rows");
        let run = run_of(&without, without.len(), 1).unwrap().unwrap();
        let mut out = Vec::new();
        write_run(&mut out, &without, without.len(), &run, 9, b"\x08\0").unwrap();
        assert_eq!(out, packet(b"\xfa\x09\0\0\0\x80\0\x08\0\0\x05rows"));
    }
}
