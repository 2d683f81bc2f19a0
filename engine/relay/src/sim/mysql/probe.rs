//! What the scripted database answers to the relay's question about its session.
//!
//! Understands the shapes of that question and nothing else. Called by `statements`.

use std::collections::VecDeque;

use super::answers::{Outcome, Row};
use super::session::Session;
use super::values::{literal, split};

/// `text` as a server of the one kind or the other reads it: what is in comments for the other is none.
fn uncommented(text: &str, is_mariadb: bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        out.push_str(&rest[..at]);
        let end = at + rest[at..].find("*/").expect("a comment ends");
        let inside = &rest[at + 2..end];
        let is_meant = match inside.strip_prefix("M!") {
            Some(_) => is_mariadb,
            None => inside.starts_with('!') && !is_mariadb,
        };
        if is_meant {
            let words = inside.trim_start_matches(['M', '!']);
            out.push_str(words.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    out
}

/// Texts in quotes, however these are written.
fn texts(part: &str) -> Vec<String> {
    let inside = part.split_once('(').map_or("", |(_, rest)| rest.split(')').next().unwrap_or_default());
    let plain = |text: String| literal(&text, "utf8mb4_general_ci").flatten().map(|value| value.text());
    split(inside, ",").into_iter().filter_map(plain).collect()
}

impl Session {
    pub(super) fn answer_question(&mut self, question: &str) -> Outcome {
        let question = uncommented(question, self.is_mariadb);
        let is_large =
            ["information_schema", "performance_schema"].iter().any(|place| question.contains(place));
        if is_large && self.variables.get("max_join_size").is_some_and(|most| most.len() < 9) {
            return Outcome::failed(1104, b"42000", "The SELECT would examine more than MAX_JOIN_SIZE rows");
        }
        let question = question.strip_suffix(" LIMIT 18446744073709551615").expect("all is asked for");
        let mut rows: VecDeque<Row> = VecDeque::new();
        for part in split(question, " UNION ALL SELECT ") {
            let kind = part.split('\'').nth(1).unwrap_or_default().to_owned();
            let mut say = |name: Option<String>, value: Option<String>| {
                rows.push_back(vec![Some(kind.clone()), name, value]);
            };
            match kind.as_str() {
                "-" => {}
                "locks" if self.holds_one_of(&part) => say(None, None),
                "locks" => {}
                "released" => {
                    let is_kept = self.holds_one_of(&part);
                    if !is_kept && !std::mem::take(&mut self.left.locks).is_empty() {
                        say(None, None);
                    }
                }
                "insert id" => {
                    if self.variables.get("insert_id") != Some("0") {
                        say(None, None);
                    }
                }
                "name" => self.variables.user.keys().for_each(|name| say(Some(name.clone()), None)),
                "made" => {
                    let (_, asked) = part.split_once("VARIABLE_NAME IN").expect("names");
                    for name in texts(asked) {
                        let count = match name.as_str() {
                            "COM_SET_OPTION" => self.left.sets,
                            "COM_CREATE_TEMPORARY_TABLE" => self.left.made_tables,
                            "COM_PREPARE_SQL" => self.left.made_statements,
                            "COM_DEALLOC_SQL" => self.left.forgotten_statements,
                            _ => panic!("the relay asks for a count that is not known here: {name}"),
                        };
                        say(Some(name.to_ascii_lowercase()), Some(count.to_string()));
                    }
                }
                "clock" => {}
                "differs" => {
                    let (_, asked) = part.split_once("VARIABLE_NAME IN").expect("names");
                    let known = texts(asked);
                    let is_known = |name: &str| known.iter().any(|known| known.eq_ignore_ascii_case(name));
                    for (name, value) in self.variables.differing(is_known) {
                        say(Some(name.to_owned()), Some(value.to_owned()));
                    }
                }
                "variables" => say(None, None),
                "variable" => {
                    let name = part.split('\'').nth(3).expect("a name").to_owned();
                    let value = self.variables.user.get(name.trim_matches(['@', '`']));
                    let told =
                        value.map_or("-:binary:binary".into(), |value| value.described(self.is_mariadb));
                    say(Some(name), Some(told));
                }
                "usual" => {
                    let (_, asked) = part.split_once("VARIABLE_NAME IN").expect("names");
                    for name in texts(asked) {
                        if let Some((value, is_usual)) = self.variables.told(&name) {
                            let kind = if is_usual { "usual" } else { "set" };
                            let row = [kind.to_owned(), name.to_ascii_lowercase(), value.to_owned()];
                            rows.push_back(row.map(Some).into());
                        }
                    }
                }
                "set" => {
                    let name = part.split('\'').nth(3).expect("a name").to_owned();
                    let value = match name.as_str() {
                        "last_insert_id" => Some(self.left.insert_id.to_string()),
                        _ => self.variables.get(&name).map(str::to_owned),
                    };
                    say(Some(name), value);
                }
                _ => panic!("the relay asks for what is not understood here: {part}"),
            }
        }
        Outcome::Rows { names: vec!["a".into(), "b".into(), "c".into()], rows }
    }

    fn holds_one_of(&self, part: &str) -> bool {
        let asked = part.split("IS_USED_LOCK").skip(1);
        asked.flat_map(texts).any(|name| self.left.locks.contains(&name))
            || part.contains("IF(1,")
            || part.ends_with("WHERE 1")
    }
}
