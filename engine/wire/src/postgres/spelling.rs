//! How PostgreSQL spells the values of settings that clients may spell in several ways.
//!
//! Only of settings that it reports and whose values drivers read; an unknown value stays as it is, for
//! the server to judge. Called through `Dialect` at a client's login.
//!
//! Source: PostgreSQL, `src/common/encnames.c` (names and aliases of encodings); the manual, "Locale and Formatting".

/// Encodings by the names that the server reports.
const ENCODINGS: [&str; 41] = [
    "SQL_ASCII",
    "EUC_JP",
    "EUC_CN",
    "EUC_KR",
    "EUC_TW",
    "EUC_JIS_2004",
    "UTF8",
    "MULE_INTERNAL",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "WIN1256",
    "WIN1258",
    "WIN866",
    "WIN874",
    "KOI8R",
    "WIN1251",
    "WIN1252",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "WIN1250",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1257",
    "KOI8U",
    "SJIS",
    "BIG5",
    "GBK",
    "UHC",
    "GB18030",
    "JOHAB",
];

/// Other names of theirs, letters and digits only.
const ALIASES: [(&str, &str); 31] = [
    ("abc", "WIN1258"),
    ("alt", "WIN866"),
    ("iso88591", "LATIN1"),
    ("iso88592", "LATIN2"),
    ("iso88593", "LATIN3"),
    ("iso88594", "LATIN4"),
    ("iso88599", "LATIN5"),
    ("iso885910", "LATIN6"),
    ("iso885913", "LATIN7"),
    ("iso885914", "LATIN8"),
    ("iso885915", "LATIN9"),
    ("iso885916", "LATIN10"),
    ("koi8", "KOI8R"),
    ("mskanji", "SJIS"),
    ("shiftjis", "SJIS"),
    ("shiftjis2004", "SHIFT_JIS_2004"),
    ("tcvn", "WIN1258"),
    ("tcvn5712", "WIN1258"),
    ("unicode", "UTF8"),
    ("vscii", "WIN1258"),
    ("win", "WIN1251"),
    ("win932", "SJIS"),
    ("windows932", "SJIS"),
    ("win936", "GBK"),
    ("windows936", "GBK"),
    ("win949", "UHC"),
    ("windows949", "UHC"),
    ("win950", "BIG5"),
    ("windows950", "BIG5"),
    ("windows866", "WIN866"),
    ("windows874", "WIN874"),
];

const INTERVAL_STYLES: [&str; 4] = ["postgres", "postgres_verbose", "sql_standard", "iso_8601"];

/// `value` of setting `name` as the server will report it; None: not known here.
pub fn reported(name: &str, value: &str) -> Option<String> {
    if name.eq_ignore_ascii_case("client_encoding") {
        return encoding(value).map(str::to_owned);
    }
    if name.eq_ignore_ascii_case("IntervalStyle") {
        return INTERVAL_STYLES
            .iter()
            .find(|style| style.eq_ignore_ascii_case(value))
            .map(|style| (*style).into());
    }
    None
}

fn encoding(value: &str) -> Option<&'static str> {
    let letters = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let said = letters(value);
    let known = ENCODINGS.iter().copied().find(|name| letters(name) == said);
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == said).map(|(_, name)| *name);
    let windows = || {
        let page = said.strip_prefix("windows125")?;
        ENCODINGS.iter().copied().find(|name| name.strip_prefix("WIN125") == Some(page))
    };
    known.or_else(alias).or_else(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_have_one_name_for_all_their_spellings() {
        for (said, name) in [
            ("eucjp", "EUC_JP"),
            ("utf-8", "UTF8"),
            ("Unicode", "UTF8"),
            ("iso-8859-15", "LATIN9"),
            ("latin1", "LATIN1"),
            ("windows-1252", "WIN1252"),
            ("iso_8859_5", "ISO_8859_5"),
        ] {
            assert_eq!(reported("client_encoding", said).as_deref(), Some(name), "{said}");
        }
        assert_eq!(reported("client_encoding", "klingon"), None);
        assert_eq!(reported("intervalstyle", "ISO_8601").as_deref(), Some("iso_8601"));
        assert_eq!(reported("work_mem", "4mb"), None);
    }
}
