//! What a text asks about the statement before it, and the text with the answers in it.
//!
//! Reads words, not grammar, and only the first statement of a text: those behind it ask about their own. What the
//! answers are `relay` knows. Called through `Dialect`.
//!
//! Source: MySQL manual, "Information Functions", "SHOW WARNINGS Statement", "GET DIAGNOSTICS Statement".

use std::fmt::Write as _;
use std::ops::Range;

use super::frame;
use super::reply::{self, told, Voice};
use super::settings::push_text;
use super::tracking::{self, Tracking};
use super::words::{bare, is, is_any, name, Token, Words};

/// What a text asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    pub row_count: bool,
    pub found_rows: bool,
    pub warning_count: bool,
    pub error_count: bool,
    /// `LAST_INSERT_ID()`, `@@last_insert_id`, `@@identity`.
    pub insert_id: bool,
    /// The connection's own number; asked for anywhere in the text.
    pub connection_id: bool,
    /// What the session tells of itself; asked for anywhere, too.
    pub tracking: bool,
    pub shows: Option<Show>,
    pub get_diagnostics: bool,
}

impl Asks {
    pub fn is_empty(&self) -> bool {
        *self == Asks::default()
    }
}

/// A text that is one `SHOW` of what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// `SHOW WARNINGS`, `SHOW ERRORS`, of which so many are skipped and so many are wanted at most.
    Rows { only_errors: bool, skip: u64, most: u64 },
    /// `SHOW COUNT(*) WARNINGS`, `SHOW COUNT(*) ERRORS`.
    Count { only_errors: bool },
}

/// What a server told of one thing that went wrong: the row of its answer to [`SHOW_ALL`], without its header.
pub type Message = Box<[u8]>;

/// What a server is asked to tell all of it.
pub const SHOW_ALL: &str = "SHOW WARNINGS";

/// Read a whole row of the answer.
pub fn message_of(row: &[u8]) -> Message {
    row.get(frame::HEADER..).unwrap_or_default().into()
}

/// Is it an error, not a warning or a note?
pub fn is_error(message: &Message) -> bool {
    frame::string(message).is_ok_and(|(level, _)| level == b"Error")
}

impl Show {
    /// Those of the messages that it shows, or counts.
    fn of(self, messages: &[Message]) -> impl Iterator<Item = &Message> {
        let (errors_alone, skip, most) = match self {
            Show::Count { only_errors } => (only_errors, 0, u64::MAX),
            Show::Rows { only_errors, skip, most } => (only_errors, skip, most),
        };
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let all = messages.iter().filter(move |message| !errors_alone || is_error(message));
        all.skip(place(skip)).take(place(most))
    }

    /// The name of the one column of a count.
    fn counted(self) -> Option<&'static str> {
        match self {
            Show::Count { only_errors: true } => Some("@@session.error_count"),
            Show::Count { only_errors: false } => Some("@@session.warning_count"),
            Show::Rows { .. } => None,
        }
    }
}

/// Answer a `SHOW` of what went wrong.
pub fn say(out: &mut Vec<u8>, voice: &mut Voice, show: Show, messages: &[Message]) {
    if let Some(name) = show.counted() {
        reply::described_columns(out, voice, [(name, told::COUNT)].into_iter());
        reply::row(out, voice, &[Some(&show.of(messages).count().to_string())]);
    } else {
        let columns = [("Level", told::LEVEL), ("Code", told::CODE), ("Message", told::MESSAGE)];
        reply::described_columns(out, voice, columns.into_iter());
        for message in show.of(messages) {
            voice.sequence = frame::packet(out, voice.sequence, |out| out.extend_from_slice(message));
        }
    }
    reply::rows_end(out, voice);
}

/// A query whose rows are those of that `SHOW`, for who has prepared it and waits for them in the binary protocol.
pub fn as_query(show: Show, messages: &[Message]) -> Option<Vec<u8>> {
    let mut sql = String::new();
    if let Some(name) = show.counted() {
        let _ = write!(sql, "SELECT NULLIF({}|0,NULL) AS `{name}`", show.of(messages).count());
        return Some(sql.into_bytes());
    }
    for message in show.of(messages) {
        let (level, rest) = frame::string(message).ok()?;
        let (code, rest) = frame::string(rest).ok()?;
        let (text, _) = frame::string(rest).ok()?;
        let code: u32 = std::str::from_utf8(code).ok()?.parse().ok()?;
        sql.push_str(if sql.is_empty() { "SELECT " } else { " UNION ALL SELECT " });
        push_text(&mut sql, std::str::from_utf8(level).ok()?);
        let _ = write!(sql, " AS `Level`,CAST({code} AS UNSIGNED) AS `Code`,");
        push_text(&mut sql, std::str::from_utf8(text).ok()?);
        sql.push_str(" AS `Message`");
    }
    if sql.is_empty() {
        sql.push_str("SELECT '' AS `Level`,CAST(0 AS UNSIGNED) AS `Code`,'' AS `Message` FROM DUAL WHERE 0");
    }
    Some(sql.into_bytes())
}

/// What is known of the statement before. None: the server is to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub row_count: Option<i64>,
    pub found_rows: Option<u64>,
    pub warnings: Option<u64>,
    pub errors: Option<u64>,
    pub connection_id: Option<u64>,
    pub tracking: Option<Tracking>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    RowCount,
    FoundRows,
    Warnings,
    Errors,
    InsertId,
    ConnectionId,
    /// One of its variables, by its place.
    Tracking(usize),
}

impl Wanted {
    /// Does a statement mean the same by it, wherever in a text it stands?
    fn is_lasting(self) -> bool {
        matches!(self, Wanted::ConnectionId | Wanted::Tracking(_))
    }
}

/// Does `text` begin as what is answered from what was told before?
pub fn may_show(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    matches!(text, [b's' | b'S', b'h' | b'H', ..] | [b'/' | b'-' | b'#', ..])
}

/// What `text` asks for; None: nothing of all that.
#[inline]
pub fn asks(text: &[u8]) -> Option<Asks> {
    if !may_ask(text) {
        return None;
    }
    let mut asks = Asks::default();
    let mut words = Words::usual(text);
    match words.next() {
        Some(Token::Word(word)) if is(word, b"show") => asks.shows = shown(&mut words),
        Some(Token::Word(word)) if is(word, b"get") => {
            let _ = words.skip(b"current") || words.skip(b"stacked");
            asks.get_diagnostics = words.skip(b"diagnostics");
        }
        _ => {}
    }
    for (wanted, _) in places(text) {
        match wanted {
            Wanted::RowCount => asks.row_count = true,
            Wanted::FoundRows => asks.found_rows = true,
            Wanted::Warnings => asks.warning_count = true,
            Wanted::Errors => asks.error_count = true,
            Wanted::InsertId => asks.insert_id = true,
            Wanted::ConnectionId => asks.connection_id = true,
            Wanted::Tracking(_) => asks.tracking = true,
        }
    }
    (!asks.is_empty()).then_some(asks)
}

/// Could it? Looks at bytes alone, once.
#[inline]
fn may_ask(text: &[u8]) -> bool {
    // Spec: each name has an underscore, but for `@@identity`, and the statements begin with their words.
    const BEFORE: [&[u8]; 7] = [b"row", b"found", b"warning", b"error", b"connection", b"insert", b"session"];
    const AFTER: [&[u8]; 5] = [b"count", b"rows", b"id", b"thread_id", b"track_"];
    let begins = |bytes: &[u8], lower: &[u8]| bytes.get(..lower.len()).is_some_and(|part| is(part, lower));
    let ends = |bytes: &[u8], lower: &[u8]| {
        bytes.len() >= lower.len() && is(&bytes[bytes.len() - lower.len()..], lower)
    };
    for at in memchr::memchr2_iter(b'_', b'@', text) {
        match text[at] {
            b'_' => {
                let (before, after) = (&text[..at], &text[at + 1..]);
                let is_one = AFTER.iter().any(|name| begins(after, name))
                    && (BEFORE.iter().any(|name| ends(before, name)) || ends(before, b"pseudo"));
                if is_one {
                    return true;
                }
            }
            b'@' if text.get(at + 1) == Some(&b'@') => {
                let rest = &text[at..];
                if rest[..rest.len().min(64)].windows(8).any(|part| is(part, b"identity")) {
                    return true;
                }
            }
            _ => {}
        }
    }
    let text = text.trim_ascii_start();
    begins(text, b"show")
        || begins(text, b"get")
        || matches!(text.first(), Some(b'/' | b'-' | b'#'))
            && (text.windows(4).any(|part| is(part, b"show"))
                || text.windows(11).any(|part| is(part, b"diagnostics")))
}

/// The rest of a `SHOW`, if it shows what went wrong and nothing comes behind it.
fn shown(words: &mut Words<'_>) -> Option<Show> {
    let mut is_count = false;
    if words.skip(b"count") {
        is_count = words.skip_symbol(b'(') && words.skip_symbol(b'*') && words.skip_symbol(b')');
        if !is_count {
            return None;
        }
    }
    let only_errors = match words.next() {
        Some(Token::Word(word)) if is(word, b"warnings") => false,
        Some(Token::Word(word)) if is(word, b"errors") => true,
        _ => return None,
    };
    let (mut skip, mut most) = (0, u64::MAX);
    if !is_count && words.skip(b"limit") {
        let mut number = || match words.next() {
            Some(Token::Number(digits)) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        };
        most = number()?;
        if words.skip_symbol(b',') {
            skip = most;
            let Some(Token::Number(digits)) = words.next() else { return None };
            most = std::str::from_utf8(digits).ok()?.parse().ok()?;
        } else if words.skip(b"offset") {
            let Some(Token::Number(digits)) = words.next() else { return None };
            skip = std::str::from_utf8(digits).ok()?.parse().ok()?;
        }
    }
    if !std::iter::from_fn(|| words.next()).all(|token| token == Token::Symbol(b';')) {
        return None;
    }
    Some(if is_count { Show::Count { only_errors } } else { Show::Rows { only_errors, skip, most } })
}

/// Where what is wanted.
fn places(text: &[u8]) -> Vec<(Wanted, Range<usize>)> {
    let mut words = Words::usual(text);
    let mut found = Vec::new();
    let (mut is_first, mut begins, mut is_set) = (true, true, false);
    let mut previous = None;
    while let Some(token) = words.next() {
        if let (Token::Word(word), true) = (token, begins) {
            is_set = is(word, b"set");
        }
        match token {
            // What is defined asks when it is used.
            Token::Word(word) if begins && is_any(word, &[b"create", b"alter", b"prepare"]) => return found,
            Token::Word(word) if previous != Some(Token::Symbol(b'.')) => {
                let start = words.at() - word.len();
                // Spec: in quotes it is a name of its own, but for functions without a word in the grammar.
                let wanted =
                    function(bare(word)).filter(|wanted| *wanted != Wanted::RowCount || bare(word) == word);
                if let Some(wanted) = wanted {
                    let mut ahead = words;
                    if ahead.skip_symbol(b'(') && ahead.skip_symbol(b')') {
                        words = ahead;
                        if is_first || wanted.is_lasting() {
                            found.push((wanted, start..words.at()));
                        }
                    }
                }
            }
            Token::System => {
                let start = words.at() - 2;
                let mut ahead = words;
                if let Some(wanted) = variable(&mut ahead) {
                    words = ahead;
                    let is_given = is_set && words.peek() == Some(Token::Symbol(b'='));
                    if matches!(wanted, Wanted::Tracking(_)) && is_given {
                        continue;
                    }
                    if is_first || wanted.is_lasting() {
                        found.push((wanted, start..words.at()));
                    }
                }
            }
            Token::Symbol(b';') => is_first &= begins,
            _ => {}
        }
        begins = token == Token::Symbol(b';') || begins && token == Token::Symbol(b'(');
        previous = Some(token);
    }
    found
}

fn function(word: &[u8]) -> Option<Wanted> {
    Some(match word.len() {
        9 if is(word, b"row_count") => Wanted::RowCount,
        10 if is(word, b"found_rows") => Wanted::FoundRows,
        13 if is(word, b"connection_id") => Wanted::ConnectionId,
        14 if is(word, b"last_insert_id") => Wanted::InsertId,
        _ => return None,
    })
}

/// The name of a system variable, the marks before it taken, if it is one of ours and not set here.
fn variable(words: &mut Words<'_>) -> Option<Wanted> {
    let Some(Token::Word(mut word)) = words.next() else { return None };
    if is_any(word, &[b"session", b"local"]) && words.skip_symbol(b'.') {
        let Some(Token::Word(own)) = words.next() else { return None };
        word = own;
    }
    if words.peek() == Some(Token::Symbol(b':')) {
        return None;
    }
    Some(match name(word)?.as_str() {
        "warning_count" => Wanted::Warnings,
        "error_count" => Wanted::Errors,
        "identity" | "last_insert_id" => Wanted::InsertId,
        "pseudo_thread_id" => Wanted::ConnectionId,
        own => Wanted::Tracking(tracking::NAMES.iter().position(|name| *name == own)?),
    })
}

/// `text` with what is known in the place of what it asks for; None: it stays as it is.
pub fn substituted(text: &[u8], known: &Known) -> Option<Vec<u8>> {
    let is_kill = matches!(Words::usual(text).next(), Some(Token::Word(word)) if is(word, b"kill"));
    // Why: such a comment must not stand in another.
    let is_commented = text.windows(3).any(|start| matches!(start, b"/*!" | b"/*M"));
    let literal = |wanted| {
        // Measured: columns of these have the type, length and flags of those that are asked for.
        let signed = |number: i64| format!("CAST({number}|0 AS SIGNED)");
        let counted = |number: u64| format!("NULLIF({number}|0,NULL)");
        match wanted {
            Wanted::RowCount => known.row_count.map(signed),
            Wanted::FoundRows => known.found_rows.map(|rows| {
                let rows = signed(i64::try_from(rows).unwrap_or(i64::MAX));
                if is_commented {
                    return rows;
                }
                // Why still called: MySQL warns whoever does.
                format!("/*!80017 IF(1,*/{rows}/*!80017 ,FOUND_ROWS())*/")
            }),
            Wanted::Warnings => known.warnings.map(counted),
            Wanted::Errors => known.errors.map(counted),
            Wanted::ConnectionId if is_kill => known.connection_id.map(|number| number.to_string()),
            Wanted::ConnectionId => known.connection_id.map(|number| format!("CAST({number} AS UNSIGNED)")),
            Wanted::Tracking(at) => known.tracking.as_ref().map(|tracking| tracking.literal(at)),
            Wanted::InsertId => None,
        }
    };
    let is_set = matches!(Words::usual(text).next(), Some(Token::Word(word)) if is(word, b"set"));
    let places: Vec<(Range<usize>, String)> = places(text)
        .into_iter()
        // Why: what it is compared with are the server's own numbers.
        .filter(|(wanted, place)| {
            *wanted != Wanted::ConnectionId || is_set || is_kill || !is_compared(text, place)
        })
        .filter_map(|(wanted, place)| Some((place, literal(wanted)?)))
        .collect();
    if places.is_empty() || is_assignment(text, &places) {
        return None;
    }
    let unnamed = unnamed_items(text);
    let mut out = Vec::with_capacity(text.len() + 32 * places.len());
    let mut at = 0;
    let mut items = unnamed.iter().peekable();
    let mut name_up_to = |out: &mut Vec<u8>, at: &mut usize, until: usize| {
        while let Some(item) = items.next_if(|item| item.end <= until) {
            if places.iter().any(|(place, _)| item.start <= place.start && place.end <= item.end) {
                out.extend_from_slice(&text[*at..item.end]);
                *at = item.end;
                push_name(out, &text[item.clone()]);
            }
        }
    };
    for (place, literal) in &places {
        name_up_to(&mut out, &mut at, place.start);
        out.extend_from_slice(&text[at..place.start]);
        out.extend_from_slice(literal.as_bytes());
        at = place.end;
    }
    name_up_to(&mut out, &mut at, text.len());
    out.extend_from_slice(&text[at..]);
    Some(out)
}

/// Is what stands at this place compared with something?
fn is_compared(text: &[u8], place: &Range<usize>) -> bool {
    const TESTS: [&[u8]; 6] = [b"in", b"not", b"is", b"between", b"like", b"div"];
    let is_sign = |byte: &u8| matches!(byte, b'=' | b'<' | b'>' | b'!');
    let before = text[..place.start].trim_ascii_end();
    let next = Words::usual(&text[place.end..]).next();
    before.last().is_some_and(is_sign)
        || matches!(next, Some(Token::Symbol(b'=' | b'<' | b'>' | b'!')))
        || matches!(next, Some(Token::Word(word)) if is_any(word, &TESTS))
}

/// Is one of the places given a value? `SET @@pseudo_thread_id = 5`.
fn is_assignment(text: &[u8], places: &[(Range<usize>, String)]) -> bool {
    let is_set = matches!(Words::usual(text).next(), Some(Token::Word(word)) if is(word, b"set"));
    is_set
        && places.iter().any(|(place, _)| {
            text[place.start..].starts_with(b"@@")
                && Words::usual(&text[place.end..]).next() == Some(Token::Symbol(b'='))
        })
}

/// ` AS` and the name that a column has whose expression has none.
fn push_name(out: &mut Vec<u8>, expression: &[u8]) {
    out.extend_from_slice(b" AS `");
    for byte in expression {
        out.extend_from_slice(if *byte == b'`' { b"``" } else { std::slice::from_ref(byte) });
    }
    out.push(b'`');
}

/// The items of the first SELECT that have no name of their own, where the text begins with one.
fn unnamed_items(text: &[u8]) -> Vec<Range<usize>> {
    const BEFORE: [&[u8]; 10] = [
        b"all",
        b"distinct",
        b"distinctrow",
        b"high_priority",
        b"straight_join",
        b"sql_small_result",
        b"sql_big_result",
        b"sql_buffer_result",
        b"sql_no_cache",
        b"sql_calc_found_rows",
    ];
    const BEHIND: [&[u8]; 16] = [
        b"from",
        b"into",
        b"where",
        b"group",
        b"having",
        b"order",
        b"limit",
        b"for",
        b"lock",
        b"union",
        b"intersect",
        b"except",
        b"minus",
        b"procedure",
        b"window",
        b"offset",
    ];
    let mut words = Words::usual(text);
    while words.skip_symbol(b'(') {}
    let mut items = Vec::new();
    if !words.skip(b"select") {
        return items;
    }
    while BEFORE.iter().any(|word| words.skip(word)) {}
    let (mut depth, mut start, mut end) = (0_u32, None, 0);
    // The last two tokens of the item at hand.
    let mut last: [Option<Token<'_>>; 2] = [None, None];
    loop {
        let token = words.next();
        let is_end = match token {
            None => true,
            Some(Token::Symbol(b';')) => true,
            Some(Token::Symbol(b')')) => depth == 0,
            Some(Token::Word(word)) => depth == 0 && is_any(word, &BEHIND),
            _ => false,
        };
        if is_end || depth == 0 && token == Some(Token::Symbol(b',')) {
            if let Some(start) = start.take() {
                if !is_named(last) {
                    items.push(start..end);
                }
            }
            last = [None, None];
            if is_end {
                return items;
            }
            continue;
        }
        match token {
            Some(Token::Symbol(b'(')) => depth += 1,
            Some(Token::Symbol(b')')) => depth -= 1,
            _ => {}
        }
        let length = token.map_or(0, length_of);
        start.get_or_insert(words.at() - length);
        end = words.at();
        last = [last[1], token];
    }
}

fn length_of(token: Token<'_>) -> usize {
    match token {
        Token::Word(text) | Token::Text(text) | Token::Number(text) => text.len(),
        Token::Variable(text) => text.len() + 1,
        Token::System => 2,
        Token::Symbol(_) => 1,
    }
}

/// Does an item that ends with these tokens have a name of its own?
fn is_named(last: [Option<Token<'_>>; 2]) -> bool {
    let is_word = matches!(last[1], Some(Token::Word(_) | Token::Text(_)));
    let follows_value = matches!(
        last[0],
        Some(Token::Word(_) | Token::Text(_) | Token::Number(_) | Token::Variable(_) | Token::Symbol(b')'))
    );
    is_word && follows_value
}
