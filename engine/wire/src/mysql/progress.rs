//! What a server packet reports.
//!
//! ```text
//!   Start ── column count ──► Columns ── all ──► (end of columns) ──► Rows ── end of rows ──► Start
//!     │ ok, error, file wanted: Start again        prepared: Parameters ──► Columns ──► Start
//! ```
//!
//! The same bytes mean different things at different places, so the place is kept in a [`Reading`]; it never
//! copies. Called by `relay::server` through `Dialect`.

use super::frame;
use super::spec::{answer, capability, status, track};
use crate::{CopyDirection, Fault, Progress, Reply, ServerMessage, Transaction};

/// Where in the answer to a command a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Start,
    /// Descriptions of parameters, then `columns` of columns.
    Parameters {
        left: u16,
        columns: u16,
    },
    Columns {
        left: u64,
        /// No rows follow.
        is_prepared: bool,
    },
    /// The end of the descriptions, which older clients are told apart.
    ColumnsEnd {
        then: After,
    },
    Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Rows,
    Columns(u16),
    Nothing,
}

/// The place in the answers of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    phase: Phase,
    /// Capabilities that were agreed.
    flags: u64,
    /// The packet before was as long as a packet can be: the next continues it.
    is_continued: bool,
    /// Part of an answer has been read, and not its end.
    has_begun: bool,
    /// Rows of the result under way, or of the last one.
    pub rows: u64,
    /// Number of the last packet.
    pub sequence: u8,
}

impl Reading {
    pub fn new(flags: u64) -> Self {
        Self { flags, ..Self::default() }
    }

    /// Is an answer under way?
    pub fn is_within(&self) -> bool {
        self.has_begun || self.is_continued
    }

    /// The client has sent a packet of the file that it was asked for: both count on.
    pub fn follow(&mut self, packet: &[u8]) {
        self.sequence = packet[3];
    }

    /// Number of the packet that the client would take next.
    pub fn next_sequence(&self) -> u8 {
        if self.is_within() {
            self.sequence.wrapping_add(1)
        } else {
            1
        }
    }

    fn has_eof(&self) -> bool {
        self.flags & capability::DEPRECATE_EOF == 0
    }
}

/// Cut the first packet of `input`, which need not be whole where it is a row or a description.
///
/// `asked`: what it answers. Nothing is noted: see [`advance`].
///
/// # Errors
/// What cannot stand at this place, or a length over `limit_bytes`.
///
/// Spec: MySQL internals, "Command Phase"; MariaDB, "Client/Server Protocol".
#[inline]
pub fn next(
    reading: &Reading,
    asked: Reply,
    input: &[u8],
    limit_bytes: usize,
) -> Result<Option<ServerMessage>, Fault> {
    let Some(head) = frame::header(input) else { return Ok(None) };
    let (length, total) = (head.payload, head.total());
    if total > limit_bytes.max(frame::HEADER + frame::FULL) {
        return Err(Fault("a packet that is longer than the limit"));
    }
    let message = |progress| Ok(Some(ServerMessage { progress, total, is_last: false }));
    let last = |progress| Ok(Some(ServerMessage { progress, total, is_last: true }));
    if head.sequence != reading.sequence.wrapping_add(1) && reading.is_within() {
        return Err(Fault("a packet out of order"));
    }
    if reading.is_continued {
        return message(Progress::Data);
    }
    if length == 0 {
        return if asked == Reply::Line { last(Progress::Data) } else { Err(Fault("an empty packet")) };
    }
    let Some(&first) = input.get(frame::HEADER) else { return Ok(None) };
    // Spec: an answer counts on from its command; errors that answer nothing begin anew.
    if head.sequence == 0 && !reading.is_within() && first != answer::ERR {
        return Err(Fault("a packet that answers nothing"));
    }
    // Why whole: what follows depends on what stands in it.
    let whole = || input.get(frame::HEADER..total);
    let phase = match (reading.phase, asked) {
        (Phase::Start, Reply::Fields | Reply::Fetched) => Phase::Rows,
        (phase, _) => phase,
    };
    match phase {
        Phase::Start if asked == Reply::Line && first != answer::ERR => last(Progress::Data),
        Phase::Start => match first {
            answer::ERR => match whole() {
                Some(_) => last(Progress::Failed),
                None => Ok(None),
            },
            answer::OK if asked == Reply::Prepared => match whole() {
                Some(body) if body.len() >= 12 => {
                    let is_last = body[5..9] == [0; 4];
                    Ok(Some(ServerMessage { progress: Progress::Prepared, total, is_last }))
                }
                Some(_) => Err(Fault("a prepared statement without its numbers")),
                None => Ok(None),
            },
            answer::OK => end(whole(), total),
            answer::EOF if length < 9 => end(whole(), total),
            answer::LOCAL_INFILE => message(Progress::Copy(CopyDirection::In)),
            _ => match whole() {
                Some(_) => message(Progress::Columns),
                None => Ok(None),
            },
        },
        Phase::Parameters { left, columns } => {
            let is_last = left <= 1 && columns == 0 && !reading.has_eof();
            Ok(Some(ServerMessage { progress: Progress::Columns, total, is_last }))
        }
        Phase::Columns { left, is_prepared } => {
            let is_last = left <= 1 && is_prepared && !reading.has_eof();
            Ok(Some(ServerMessage { progress: Progress::Columns, total, is_last }))
        }
        Phase::ColumnsEnd { then } => {
            let Some(body) = whole() else { return Ok(None) };
            if first == answer::ERR {
                return last(Progress::Failed);
            }
            if first != answer::EOF {
                return Err(Fault("descriptions of columns that do not end"));
            }
            match then {
                After::Nothing => last(Progress::Columns),
                // Why: the rows of a cursor are fetched later.
                After::Rows if status_of(body)? & status::CURSOR_EXISTS != 0 => end(Some(body), total),
                After::Rows | After::Columns(_) => message(Progress::Columns),
            }
        }
        Phase::Rows => match first {
            answer::ERR => match whole() {
                Some(_) => last(Progress::Failed),
                None => Ok(None),
            },
            // Spec: a row may begin with it only if it is longer than any such packet.
            answer::EOF if length < 9 || !reading.has_eof() && length < frame::FULL => end(whole(), total),
            _ => message(Progress::Data),
        },
    }
}

/// A packet with a status: the end of the answer, unless it says that there are more results.
fn end(body: Option<&[u8]>, total: usize) -> Result<Option<ServerMessage>, Fault> {
    let Some(body) = body else { return Ok(None) };
    let flags = status_of(body)?;
    let progress = if flags & status::MORE_RESULTS != 0 {
        Progress::Finished
    } else if flags & status::IN_TRANSACTION != 0 {
        Progress::Ready(Transaction::Open)
    } else {
        Progress::Ready(Transaction::None)
    };
    Ok(Some(ServerMessage { progress, total, is_last: false }))
}

fn status_of(body: &[u8]) -> Result<u16, Fault> {
    outcome_of_body(body).map(|outcome| outcome.status)
}

/// Note that a packet was read; `here` is as much of it as had arrived.
#[inline]
pub fn advance(reading: &mut Reading, asked: Reply, message: ServerMessage, here: &[u8]) {
    reading.sequence = here[3];
    reading.has_begun =
        !(message.is_last || matches!(message.progress, Progress::Ready(_) | Progress::Failed));
    let was_continued = reading.is_continued;
    reading.is_continued = message.total == frame::HEADER + frame::FULL;
    if was_continued {
        return;
    }
    if message.is_last {
        reading.phase = Phase::Start;
        return;
    }
    match message.progress {
        // The hot path.
        Progress::Data => {
            if matches!(reading.phase, Phase::Start) {
                reading.phase = Phase::Rows;
                reading.rows = 0;
            }
            reading.rows += u64::from(asked != Reply::Fields);
        }
        Progress::Ready(_) | Progress::Failed | Progress::Finished => {
            if matches!(reading.phase, Phase::Start) {
                reading.rows = 0;
            }
            reading.phase = Phase::Start;
        }
        Progress::Prepared => {
            let body = &here[frame::HEADER..];
            let columns = u16::from_le_bytes([body[5], body[6]]);
            let parameters = u16::from_le_bytes([body[7], body[8]]);
            reading.phase = if parameters > 0 {
                Phase::Parameters { left: parameters, columns }
            } else {
                Phase::Columns { left: u64::from(columns), is_prepared: true }
            };
        }
        Progress::Columns => {
            reading.phase = reading.after_columns(&here[frame::HEADER..]);
            if reading.phase == Phase::Rows {
                reading.rows = 0;
            }
        }
        _ => {}
    }
}

impl Reading {
    fn after_columns(&self, body: &[u8]) -> Phase {
        let end = |then| {
            if self.has_eof() {
                return Phase::ColumnsEnd { then };
            }
            match then {
                After::Rows => Phase::Rows,
                After::Columns(left) => Phase::Columns { left: u64::from(left), is_prepared: true },
                After::Nothing => Phase::Start,
            }
        };
        match self.phase {
            Phase::Start => {
                let (count, are_described) = self.column_count(body);
                if count > 0 && are_described {
                    Phase::Columns { left: count, is_prepared: false }
                } else {
                    end(After::Rows)
                }
            }
            Phase::Parameters { left, columns } if left > 1 => Phase::Parameters { left: left - 1, columns },
            Phase::Parameters { columns: 0, .. } => end(After::Nothing),
            Phase::Parameters { columns, .. } => end(After::Columns(columns)),
            Phase::Columns { left, is_prepared } if left > 1 => {
                Phase::Columns { left: left - 1, is_prepared }
            }
            Phase::Columns { is_prepared, .. } => end(if is_prepared { After::Nothing } else { After::Rows }),
            Phase::ColumnsEnd { then: After::Rows } | Phase::Rows => Phase::Rows,
            Phase::ColumnsEnd { then: After::Columns(left) } => {
                Phase::Columns { left: u64::from(left), is_prepared: true }
            }
            Phase::ColumnsEnd { then: After::Nothing } => Phase::Start,
        }
    }

    /// How many columns, and whether they are described.
    ///
    /// Spec: MySQL's optional metadata says so before the count, MariaDB's cached metadata behind it.
    fn column_count(&self, body: &[u8]) -> (u64, bool) {
        let (says, body) = match body.split_first() {
            Some((says, rest)) if self.flags & capability::OPTIONAL_RESULTSET_METADATA != 0 => (*says, rest),
            _ => (1, body),
        };
        let Ok((count, rest)) = frame::number(body) else { return (0, false) };
        let is_cached = self.flags & capability::MARIADB_CACHE_METADATA != 0
            && rest.first().is_some_and(|says| *says == 0);
        (count, says != 0 && !is_cached)
    }
}

/// What the end of a statement says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Rows changed; None: it gave rows, and says nothing of any that changed.
    pub affected: Option<u64>,
    pub insert_id: u64,
    pub status: u16,
    pub warnings: u16,
    /// In words.
    pub info: &'a [u8],
    /// What changed in the session: see [`changes`].
    pub changed: &'a [u8],
}

impl Outcome<'_> {
    fn has(&self, flag: u16) -> bool {
        self.status & flag != 0
    }

    /// More results of the same text follow.
    pub fn goes_on(&self) -> bool {
        self.has(status::MORE_RESULTS)
    }

    /// Flags that follow from the setting [`MODES`].
    pub fn modes(&self) -> u16 {
        self.status & (status::NO_BACKSLASH_ESCAPES | status::ANSI_QUOTES)
    }

    /// Something changed in the session, which [`changes`] may or may not name.
    pub fn has_changed(&self) -> bool {
        self.has(status::SESSION_STATE_CHANGED)
    }

    pub fn is_in_transaction(&self) -> bool {
        self.has(status::IN_TRANSACTION)
    }

    /// A cursor is open and has rows left.
    pub fn leaves_cursor(&self) -> bool {
        self.has(status::CURSOR_EXISTS) && !self.has(status::LAST_ROW_SENT)
    }
}

/// The setting from which some flags of a status follow.
pub const MODES: &str = "sql_mode";

/// What [`Outcome::modes`] should be where that setting has this `value`.
pub fn modes_under(value: &str) -> u16 {
    let flag = |mode: &[u8]| match mode {
        b"NO_BACKSLASH_ESCAPES" => status::NO_BACKSLASH_ESCAPES,
        b"ANSI_QUOTES" => status::ANSI_QUOTES,
        _ => 0,
    };
    value.split(',').fold(0, |all, mode| all | flag(mode.as_bytes()))
}

/// Read a whole packet that ends a statement's results.
///
/// # Errors
/// Fields that do not end.
pub fn outcome_of(message: &[u8]) -> Result<Outcome<'_>, Fault> {
    outcome_of_body(&message[frame::HEADER..])
}

fn outcome_of_body(body: &[u8]) -> Result<Outcome<'_>, Fault> {
    const SHORT: Fault = Fault("the end of a result is cut short");
    let u16_at = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]])).ok_or(SHORT)
    };
    let is_rows_end = body.first() == Some(&answer::EOF);
    if is_rows_end && body.len() == 5 {
        return Ok(Outcome { warnings: u16_at(body, 1)?, status: u16_at(body, 3)?, ..Outcome::default() });
    }
    let (affected, rest) = frame::number(body.get(1..).ok_or(SHORT)?)?;
    let (insert_id, rest) = frame::number(rest)?;
    let (flags, warnings) = (u16_at(rest, 0)?, u16_at(rest, 2)?);
    let affected = (!is_rows_end).then_some(affected);
    let (mut info, mut changed): (&[u8], &[u8]) = (&[], &[]);
    let rest = &rest[4..];
    if !rest.is_empty() {
        // Spec: with session tracking, which we always ask servers for, the length stands before the words.
        let (words, rest) = frame::string(rest)?;
        info = words;
        if flags & status::SESSION_STATE_CHANGED != 0 && !rest.is_empty() {
            changed = frame::string(rest)?.0;
        }
    }
    Ok(Outcome { affected, insert_id, status: flags, warnings, info, changed })
}

/// Is it an end of rows of the old kind, which has no place for what changed in the session?
pub fn is_silent_end(message: &[u8]) -> bool {
    message.len() == frame::HEADER + 5 && message[frame::HEADER] == answer::EOF
}

/// One thing that changed in a session, as the server tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    Setting(&'a [u8], &'a [u8]),
    Schema(&'a [u8]),
    /// Something of user variables, temporary tables or prepared statements.
    Unnamed,
    /// Whether something was said of a transaction: of the one under way, or of the next.
    Characteristics(bool),
    /// Whether tables are locked.
    Locked(bool),
    Other,
}

/// Take [`Outcome::changed`] apart.
///
/// Spec: MySQL internals, "OK_Packet", session state information.
pub fn changes(mut changed: &[u8]) -> impl Iterator<Item = Result<Change<'_>, Fault>> {
    let mut within: &[u8] = &[];
    std::iter::from_fn(move || {
        let mut read = || {
            // MariaDB puts several variables into one piece.
            if !within.is_empty() {
                let (name, rest) = frame::string(within)?;
                let (value, rest) = frame::string(rest)?;
                within = rest;
                return Ok(Some(Change::Setting(name, value)));
            }
            let Some((kind, rest)) = changed.split_first() else { return Ok(None) };
            let (data, rest) = frame::string(rest)?;
            changed = rest;
            Ok(Some(match *kind {
                track::SYSTEM_VARIABLES => {
                    let (name, rest) = frame::string(data)?;
                    let (value, rest) = frame::string(rest)?;
                    within = rest;
                    Change::Setting(name, value)
                }
                track::SCHEMA => Change::Schema(frame::string(data)?.0),
                track::STATE_CHANGE => Change::Unnamed,
                track::TRANSACTION_CHARACTERISTICS => {
                    Change::Characteristics(!frame::string(data)?.0.is_empty())
                }
                // Spec: the last of the letters.
                track::TRANSACTION_STATE => Change::Locked(frame::string(data)?.0.last() == Some(&b'L')),
                _ => Change::Other,
            }))
        };
        read().transpose()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of these bodies, numbered from 1.
    fn packets(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, body) in bodies.iter().enumerate() {
            out.extend_from_slice(&(body.len() as u32).to_le_bytes()[..3]);
            out.push(at as u8 + 1);
            out.extend_from_slice(body);
        }
        out
    }

    fn read(flags: u64, asked: Reply, bodies: &[&[u8]]) -> Vec<(Progress, bool)> {
        let input = packets(bodies);
        let mut reading = Reading::new(flags);
        let mut at = 0;
        let mut said = Vec::new();
        while at < input.len() {
            let message = next(&reading, asked, &input[at..], usize::MAX).unwrap().unwrap();
            let here = &input[at..at + message.total];
            for cut in 0..here.len() {
                // However it is cut, it is told only as what it is.
                if let Some(early) = next(&reading, asked, &here[..cut], usize::MAX).unwrap() {
                    assert_eq!(early, message, "{cut} bytes");
                }
            }
            advance(&mut reading, asked, message, here);
            said.push((message.progress, message.is_last));
            at += message.total;
        }
        assert!(!reading.is_within());
        said
    }

    const DONE: (Progress, bool) = (Progress::Ready(Transaction::None), false);
    const COLUMNS: (Progress, bool) = (Progress::Columns, false);
    const DATA: (Progress, bool) = (Progress::Data, false);
    const EOF: &[u8] = b"\xfe\0\0\x02\0";

    #[test]
    fn rows_with_and_without_the_end_of_columns() {
        let old = read(0, Reply::Rows, &[b"\x01", b"\x03defcol", EOF, b"\x011", b"\xfb", EOF]);
        assert_eq!(old, [COLUMNS, COLUMNS, COLUMNS, DATA, DATA, DONE]);
        let end = b"\xfe\0\0\x03\0\0\0";
        let new = read(capability::DEPRECATE_EOF, Reply::Rows, &[b"\x01", b"\x03defcol", b"\x011", end]);
        assert_eq!(new, [COLUMNS, COLUMNS, DATA, (Progress::Ready(Transaction::Open), false)]);
    }

    #[test]
    fn several_results_and_an_error_in_rows() {
        let more = b"\0\x01\0\x0a\0\0\0";
        let bodies: [&[u8]; 5] = [more, b"\x01", b"\x03defcol", EOF, b"\xff\x28\x04#HY000no"];
        let said = read(0, Reply::Rows, &bodies);
        assert_eq!(said[0], (Progress::Finished, false));
        assert_eq!(said[4], (Progress::Failed, true));
    }

    #[test]
    fn prepared_statements_end_with_their_last_description() {
        let head = |columns: u8, parameters: u8| [0, 1, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0];
        let none = read(0, Reply::Prepared, &[&head(0, 0)]);
        assert_eq!(none, [(Progress::Prepared, true)]);
        let both = read(0, Reply::Prepared, &[&head(1, 1), b"\x03defa", EOF, b"\x03defb", EOF]);
        assert_eq!(both.last(), Some(&(Progress::Columns, true)));
        assert_eq!(both.iter().filter(|said| said.1).count(), 1);
        let flags = capability::DEPRECATE_EOF;
        let new = read(flags, Reply::Prepared, &[&head(1, 2), b"\x03defa", b"\x03defb", b"\x03defc"]);
        assert_eq!(new.iter().map(|said| said.1).collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn a_cursor_ends_with_its_columns() {
        let said = read(0, Reply::Rows, &[b"\x01", b"\x03defcol", b"\xfe\0\0\x42\0"]);
        assert_eq!(said, [COLUMNS, COLUMNS, DONE]);
        let fetched = read(0, Reply::Fetched, &[b"\0\0\x01", b"\xfe\0\0\x82\0"]);
        assert_eq!(fetched, [DATA, DONE]);
    }

    #[test]
    fn modes_are_those_of_the_setting() {
        for (value, modes) in [
            ("", 0),
            ("REAL_AS_FLOAT,ANSI_QUOTES,ANSI", status::ANSI_QUOTES),
            ("NO_BACKSLASH_ESCAPES", status::NO_BACKSLASH_ESCAPES),
        ] {
            assert_eq!(modes_under(value), modes);
            let told = Outcome { status: modes | status::IN_TRANSACTION, ..Outcome::default() };
            assert_eq!(told.modes(), modes);
        }
    }

    #[test]
    fn what_changed_is_told() {
        let mut body = b"\0\0\0\x02\x40\0\0".to_vec();
        let changed = b"\x00\x0f\x0aautocommit\x03OFF\x01\x04\x03abc\x02\x02\x011";
        body.push(0);
        body.push(changed.len() as u8);
        body.extend_from_slice(changed);
        let packet = packets(&[&body]);
        let outcome = outcome_of(&packet).unwrap();
        assert_eq!((outcome.affected, outcome.warnings, outcome.info), (Some(0), 0, &b""[..]));
        let told: Vec<_> = changes(outcome.changed).map(Result::unwrap).collect();
        assert_eq!(told, [Change::Setting(b"autocommit", b"OFF"), Change::Schema(b"abc"), Change::Unnamed]);
    }
}
