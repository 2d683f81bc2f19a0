//! Values of user variables, and the literals that make them.
//!
//! Knows no statement. Used by `statements`, `variables` and `probe`.

/// A value that is not NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Integer(String),
    Decimal(String),
    Text { collation: String, bytes: Vec<u8> },
}

impl Value {
    pub fn text(&self) -> String {
        match self {
            Value::Integer(digits) | Value::Decimal(digits) => digits.clone(),
            Value::Text { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// As the relay's question has a server describe it: type, character set, collation, bytes.
    pub fn described(&self, is_mariadb: bool) -> String {
        let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        match self {
            Value::Integer(text) => {
                let kind = if is_mariadb { "INT" } else { "INTEGER" };
                format!("{kind}:binary:binary:{}", digits(text.as_bytes()))
            }
            Value::Decimal(text) => format!("DECIMAL:binary:binary:{}", digits(text.as_bytes())),
            Value::Text { collation, bytes } => {
                let kind = if is_mariadb { "VARCHAR" } else { "STRING" };
                format!("{kind}:{}:{collation}:{}", charset_of(collation), digits(bytes))
            }
        }
    }
}

pub fn charset_of(collation: &str) -> &str {
    collation.split('_').next().unwrap_or_default()
}

/// A literal; None: it is none. `Some(None)` is NULL. `collation` is what the session's strings have.
pub fn literal(text: &str, collation: &str) -> Option<Option<Value>> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("null") {
        return Some(None);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit());
        let text = text.to_owned();
        return Some(Some(if is_integer { Value::Integer(text) } else { Value::Decimal(text) }));
    }
    let (mut charset, mut rest) = (charset_of(collation), text);
    let mut collation = collation.to_owned();
    if let Some(named) = text.strip_prefix('_') {
        let end = named.find([' ', '\''])?;
        (charset, rest) = (&named[..end], named[end..].trim());
        collation = format!("{charset}_general_ci");
    }
    let is_hex = rest.starts_with("X'");
    let quoted = rest.strip_prefix('X').unwrap_or(rest);
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let end = 1 + quoted[1..].find(quote)?;
    let bytes = match is_hex {
        true => {
            let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            quoted.as_bytes()[1..end].chunks(2).map(pair).collect::<Option<Vec<u8>>>()?
        }
        false => quoted.as_bytes()[1..end].to_vec(),
    };
    if let Some(named) = quoted[end + 1..].trim().strip_prefix("COLLATE ") {
        assert_eq!(charset_of(named), charset, "a collation of another character set");
        collation = named.trim().to_owned();
    }
    Some(Some(Value::Text { collation, bytes }))
}

/// Split `text` at `mark` where that stands outside of quotes and brackets.
pub fn split(text: &str, mark: &str) -> Vec<String> {
    let (mut parts, mut now, mut depth, mut quote) = (Vec::new(), String::new(), 0, None);
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None if c == '(' => depth += 1,
            None if c == ')' => depth -= 1,
            None => {}
        }
        let is_mark = quote.is_none()
            && depth == 0
            && text.get(at..at + mark.len()).is_some_and(|here| here.eq_ignore_ascii_case(mark));
        if is_mark {
            parts.push(std::mem::take(&mut now));
            at += mark.len();
        } else {
            now.push(c);
            at += c.len_utf8();
        }
    }
    parts.push(now);
    parts.iter().map(|part| part.trim().to_owned()).collect()
}
