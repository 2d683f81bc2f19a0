//! What a text asks about the statement before it, and the text with the answers in it.
//!
//! Reads words, not grammar, and only the first statement of a text: those behind it ask about their own. What the
//! answers are `relay` knows. Called through `Dialect`.
//!
//! Source: MySQL manual, "Information Functions", "SHOW WARNINGS Statement", "GET DIAGNOSTICS Statement".

use std::ops::Range;

use super::frame;
use super::reply::{self, told, Voice};
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

/// Answer a `SHOW` of what went wrong.
pub fn say(out: &mut Vec<u8>, voice: &mut Voice, show: Show, messages: &[Message]) {
    let is_shown = |message: &&Message, only_errors: bool| !only_errors || is_error(message);
    match show {
        Show::Count { only_errors } => {
            let kind = if only_errors { "error" } else { "warning" };
            let name = format!("@@session.{kind}_count");
            reply::described_columns(out, voice, [(name.as_str(), told::COUNT)].into_iter());
            let count = messages.iter().filter(|message| is_shown(message, only_errors)).count();
            reply::row(out, voice, &[Some(&count.to_string())]);
        }
        Show::Rows { only_errors, skip, most } => {
            let columns = [("Level", told::LEVEL), ("Code", told::CODE), ("Message", told::MESSAGE)];
            reply::described_columns(out, voice, columns.into_iter());
            let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            let rows = messages.iter().filter(|message| is_shown(message, only_errors));
            for message in rows.skip(place(skip)).take(place(most)) {
                voice.sequence = frame::packet(out, voice.sequence, |out| out.extend_from_slice(message));
            }
        }
    }
    reply::rows_end(out, voice);
}

/// What is known of the statement before. None: the server is to say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub row_count: Option<i64>,
    pub found_rows: Option<u64>,
    pub warnings: Option<u64>,
    pub errors: Option<u64>,
    pub connection_id: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    RowCount,
    FoundRows,
    Warnings,
    Errors,
    InsertId,
    ConnectionId,
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
        }
    }
    (!asks.is_empty()).then_some(asks)
}

/// Could it? Looks at bytes alone, once.
#[inline]
fn may_ask(text: &[u8]) -> bool {
    // Spec: each name has an underscore, but for `@@identity`, and the statements begin with their words.
    const BEFORE: [&[u8]; 6] = [b"row", b"found", b"warning", b"error", b"connection", b"insert"];
    const AFTER: [&[u8]; 4] = [b"count", b"rows", b"id", b"thread_id"];
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
    let (mut is_first, mut begins) = (true, true);
    let mut previous = None;
    while let Some(token) = words.next() {
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
                        if is_first || wanted == Wanted::ConnectionId {
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
                    if is_first || wanted == Wanted::ConnectionId {
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
        _ => return None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Asks {
        asks(text.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn what_is_asked_for_is_found_in_the_first_statement() {
        let nothing = Asks::default();
        for (text, asked) in [
            ("select row_count()", Asks { row_count: true, ..nothing }),
            ("SELECT Row_Count ( ), `found_rows`()", Asks { row_count: true, found_rows: true, ..nothing }),
            ("SELECT FOUND_ROWS() AS n", Asks { found_rows: true, ..nothing }),
            (
                "select @@warning_count, @@session.error_count",
                Asks { warning_count: true, error_count: true, ..nothing },
            ),
            ("insert into t values (last_insert_id())", Asks { insert_id: true, ..nothing }),
            ("select @@identity", Asks { insert_id: true, ..nothing }),
            ("select @@LOCAL.`Identity`", Asks { insert_id: true, ..nothing }),
            ("select @@last_insert_id", Asks { insert_id: true, ..nothing }),
            ("select 1; select connection_id()", Asks { connection_id: true, ..nothing }),
            ("select @@pseudo_thread_id", Asks { connection_id: true, ..nothing }),
            ("GET DIAGNOSTICS @n = NUMBER", Asks { get_diagnostics: true, ..nothing }),
            (
                "get current diagnostics condition 1 @a = message_text",
                Asks { get_diagnostics: true, ..nothing },
            ),
        ] {
            assert_eq!(of(text), asked, "{text}");
        }
        for text in [
            "select 1; select row_count()",
            "insert into t (a) values (1); select last_insert_id()",
            "select row_count, found_rows from t",
            "select db.row_count()",
            "select last_insert_id(5)",
            "select 'row_count()', \"found_rows()\", `@@identity` -- connection_id()",
            "create procedure p() select row_count()",
            "select @@warning_counts, @@sql_mode",
            "select user_id, row_counts() from warning_counts",
            "show tables",
            "show variables like 'warning_count'",
            "get_lock(1)",
            "",
        ] {
            assert_eq!(asks(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_a_statement_of_its_own() {
        let rows = |only_errors, skip, most| Some(Show::Rows { only_errors, skip, most });
        for (text, shows) in [
            ("SHOW WARNINGS", rows(false, 0, u64::MAX)),
            (" /* a */ show errors;", rows(true, 0, u64::MAX)),
            ("-- a\nshow warnings", rows(false, 0, u64::MAX)),
            ("show warnings limit 5", rows(false, 0, 5)),
            ("show warnings limit 2, 5 ;", rows(false, 2, 5)),
            ("show warnings limit 5 offset 2", rows(false, 2, 5)),
            ("SHOW COUNT(*) WARNINGS", Some(Show::Count { only_errors: false })),
            ("show count( * ) errors", Some(Show::Count { only_errors: true })),
            ("show warnings limit ?", None),
            ("show warnings; select 1", None),
            ("show count(1) warnings", None),
        ] {
            assert_eq!(of(text).shows, shows, "{text}");
        }
    }

    #[test]
    fn answers_stand_where_was_asked_and_columns_keep_their_names() {
        let known = Known {
            row_count: Some(-1),
            found_rows: Some(7),
            warnings: Some(2),
            errors: Some(0),
            connection_id: Some(57),
        };
        let written = |text: &str| {
            substituted(text.as_bytes(), &known).map(|text| String::from_utf8(text).expect("text"))
        };
        for (text, expected) in [
            ("select row_count()", "select CAST(-1|0 AS SIGNED) AS `row_count()`"),
            ("SELECT  ROW_COUNT ( ) ;", "SELECT  CAST(-1|0 AS SIGNED) AS `ROW_COUNT ( )` ;"),
            (
                "select found_rows() as n, 5",
                "select /*!80017 IF(1,*/CAST(7|0 AS SIGNED)/*!80017 ,FOUND_ROWS())*/ as n, 5",
            ),
            ("select /*! found_rows() */ n", "select /*! CAST(7|0 AS SIGNED) */ n"),
            (
                "select 1, coalesce(row_count(), 0)+1 , @@warning_count from `t`",
                "select 1, coalesce(CAST(-1|0 AS SIGNED), 0)+1 AS `coalesce(row_count(), 0)+1` , \
                 NULLIF(2|0,NULL) AS `@@warning_count` from `t`",
            ),
            ("select row_count() + `a`", "select CAST(-1|0 AS SIGNED) + `a` AS `row_count() + ``a```"),
            (
                "select distinct @@error_count limit 1",
                "select distinct NULLIF(0|0,NULL) AS `@@error_count` limit 1",
            ),
            ("(select connection_id())", "(select CAST(57 AS UNSIGNED) AS `connection_id()`)"),
            ("insert into t values (connection_id())", "insert into t values (CAST(57 AS UNSIGNED))"),
            ("select 1; select connection_id()", "select 1; select CAST(57 AS UNSIGNED)"),
            ("kill query connection_id()", "kill query 57"),
            ("set @a = row_count()", "set @a = CAST(-1|0 AS SIGNED)"),
            ("set @a = connection_id()", "set @a = CAST(57 AS UNSIGNED)"),
            (
                "select (select row_count() from t), 'row_count()'",
                "select (select CAST(-1|0 AS SIGNED) from t) AS `(select row_count() from t)`, 'row_count()'",
            ),
        ] {
            assert_eq!(written(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "select last_insert_id()",
            "select 1",
            "set @@pseudo_thread_id = 5",
            "select is_used_lock('a') = connection_id()",
            "select * from information_schema.processlist where id = connection_id()",
            "select * from t where connection_id() in (a, b)",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
        assert_eq!(substituted(b"select row_count()", &Known::default()), None);
    }
}
