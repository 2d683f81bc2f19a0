//! The statements that the scripted MySQL understands.
//!
//! Knows no packet. Called by `session` for each statement.
//!
//! The language: `SELECT items [FROM place]` with text, `@x`, `@x:=1`, `@@x`, `NULL` and the functions in `item`;
//! `INSERT`, `UPDATE`; `SET`, `USE`; `BEGIN`, `COMMIT`, `ROLLBACK`; `CREATE` and `DROP TEMPORARY TABLE tmp_x`;
//! `LOCK TABLES`, `UNLOCK TABLES`; `PREPARE`, `EXECUTE`, `DEALLOCATE PREPARE`; `KILL`; `CALL set_x_5` (`@x`), `CALL bare_VARIABLE_5`;
//! `LOAD DATA`.
//! What a `place` does stands in its name: `sleep_MICROSECONDS`, `rows_N_SIZE`, `missing`, `die`, `halfrow_SIZE`,
//! `silent`, `broken_N`, `warned_TEXT`, `whichdb` (the schema when it was prepared), `tmp_X` (if this session has made it), any
//! other is a table, and reading it begins a transaction where there is no autocommit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::answers::{Outcome, Row};
use super::can;
use super::session::Session;
use super::tracker::Change;
use super::values::{literal, split, Value};

/// What a session was left with.
#[derive(Debug)]
pub(super) struct Left {
    pub schema: String,
    pub is_in_transaction: bool,
    pub next_transaction: bool,
    pub temporary: BTreeSet<String>,
    pub locks: BTreeSet<String>,
    pub has_locked_tables: bool,
    pub prepared: BTreeMap<String, String>,
    /// Temporary tables and statements made, ever, statements forgotten, and such as set something.
    pub made_tables: u64,
    pub made_statements: u64,
    pub forgotten_statements: u64,
    pub sets: u64,
    pub insert_id: u64,
    newest_row: u64,
    row_count: i64,
    found_rows: u64,
    /// Rows that the limit of the statement under way keeps back, with the others.
    calculated: Option<u64>,
    /// Warnings that the end of its rows tells of.
    pub warnings: u16,
    /// What the last statement warned of.
    messages: VecDeque<Row>,
}

impl Left {
    pub fn new(session: usize) -> Self {
        Self {
            schema: String::new(),
            is_in_transaction: false,
            next_transaction: false,
            temporary: BTreeSet::new(),
            locks: BTreeSet::new(),
            has_locked_tables: false,
            prepared: BTreeMap::new(),
            made_tables: 0,
            made_statements: 0,
            forgotten_statements: 0,
            sets: 0,
            insert_id: 0,
            // Sessions differ, so that a stranger's number is told apart.
            newest_row: session as u64 * 1000,
            row_count: 0,
            found_rows: 0,
            calculated: None,
            warnings: 0,
            messages: VecDeque::new(),
        }
    }

    /// What can be asked of the last statement: rows that it gave, or those that it changed.
    pub fn found(&mut self, rows: Option<u64>, affected: u64, insert_id: u64) {
        self.row_count = if rows.is_some() { -1 } else { affected as i64 };
        self.found_rows = self.calculated.take().or(rows).unwrap_or_default();
        if insert_id > 0 {
            self.insert_id = insert_id;
        }
    }
}

fn syntax(statement: &str) -> Outcome {
    Outcome::failed(1064, b"42000", &format!("You have an error in your SQL syntax near '{statement}'"))
}

/// The word in quotes at the front of `text`.
fn quoted(text: &str) -> &str {
    text.split('\'').nth(1).unwrap_or_default()
}

impl Session {
    /// What this session has that another client must not meet; empty: nothing.
    pub fn leftovers(&self) -> Vec<String> {
        let left = &self.left;
        let mut found: Vec<String> = left.temporary.iter().chain(&left.locks).cloned().collect();
        found.extend(left.has_locked_tables.then(|| "locked tables".to_owned()));
        found.extend(left.is_in_transaction.then(|| "a transaction".to_owned()));
        found.extend(left.next_transaction.then(|| "the next transaction".to_owned()));
        found
    }

    pub fn schema(&self) -> &str {
        &self.left.schema
    }

    pub(super) fn use_schema(&mut self, name: &str) -> Outcome {
        let name = name.trim_matches('`');
        if name.starts_with("no_") || self.dropped_schema.as_deref() == Some(name) {
            return Outcome::failed(1049, b"42000", &format!("Unknown database '{name}'"));
        }
        self.left.schema = name.to_owned();
        // Why not asked for: every session here is set up to tell.
        if self.variables.is_tracking() {
            self.changes.push(Change::Schema(name.to_owned()));
        }
        Outcome::done()
    }

    pub(super) fn end_transaction(&mut self) {
        self.left.is_in_transaction = false;
        if std::mem::take(&mut self.left.next_transaction) {
            self.changes.push(Change::Characteristics(String::new()));
        }
    }

    /// A table is read or written.
    fn touch(&mut self) {
        if !self.variables.is_autocommit() {
            self.left.is_in_transaction = true;
        } else if !self.left.is_in_transaction {
            self.end_transaction();
        }
    }

    pub(super) fn carry_out(&mut self, statement: &str) -> Outcome {
        let (verb, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        let (verb, rest) = (verb.to_ascii_uppercase(), rest.trim());
        let upper = rest.to_ascii_uppercase();
        if verb != "SHOW" {
            self.left.messages.clear();
        }
        match verb.as_str() {
            "SELECT" if rest.starts_with("_binary'-'") => self.answer_question(statement),
            "SELECT" => self.select(rest),
            "SHOW" if upper.starts_with("SESSION VARIABLES") => {
                let names = rest.split('\'').skip(1).step_by(2);
                let pair =
                    |name| Some(vec![Some(String::from(name)), Some(self.variables.get(name)?.to_owned())]);
                let rows = names.filter_map(pair).collect();
                Outcome::Rows { names: vec!["Variable_name".into(), "Value".into()], rows }
            }
            "SHOW" if upper.starts_with("WARNINGS") => {
                let names = ["Level", "Code", "Message"].map(String::from).to_vec();
                self.left.calculated = Some(self.left.found_rows);
                Outcome::Rows { names, rows: self.left.messages.clone() }
            }
            "SET" => {
                self.left.sets += 1;
                self.set(rest)
            }
            "USE" => self.use_schema(rest),
            "DO" => Outcome::done(),
            "BEGIN" | "START" => {
                self.end_transaction();
                self.left.is_in_transaction = true;
                Outcome::done()
            }
            "COMMIT" | "ROLLBACK" => {
                self.end_transaction();
                Outcome::done()
            }
            "INSERT" => {
                self.touch();
                // A table may have a trigger.
                self.set_bare(rest.split(' ').nth(1).unwrap_or_default());
                self.left.newest_row += 1;
                if upper.ends_with(" RETURNING ID") {
                    // Measured: MariaDB 10.11 ends the rows without the number.
                    self.left.insert_id = self.left.newest_row;
                    let row = vec![Some(self.left.newest_row.to_string())];
                    return Outcome::one_row(&["id".to_owned()], row);
                }
                Outcome::Done { affected: 1, insert_id: self.left.newest_row, info: String::new() }
            }
            "UPDATE" => {
                self.touch();
                let affected = if self.capabilities & can::FOUND_ROWS != 0 { 2 } else { 1 };
                let info = "Rows matched: 2  Changed: 1  Warnings: 0".to_owned();
                Outcome::Done { affected, insert_id: 0, info }
            }
            "CREATE" if upper.starts_with("TEMPORARY TABLE ") => {
                let name = rest.split(' ').nth(2).unwrap_or_default();
                self.left.made_tables += 1;
                if name == "denied" {
                    return Outcome::failed(1044, b"42000", "Access denied to database 'store'");
                }
                self.note_unnamed();
                match self.left.temporary.insert(name.to_owned()) {
                    true => Outcome::done(),
                    false => Outcome::failed(1050, b"42S01", &format!("Table '{name}' already exists")),
                }
            }
            "DROP" if upper.starts_with("TEMPORARY TABLE ") => {
                let name = rest.split(' ').nth(2).unwrap_or_default();
                self.note_unnamed();
                match self.left.temporary.remove(name) {
                    true => Outcome::done(),
                    false => Outcome::failed(1051, b"42S02", &format!("Unknown table '{name}'")),
                }
            }
            "LOCK" => {
                self.end_transaction();
                self.left.has_locked_tables = true;
                self.changes.push(Change::Transaction("_______L".into()));
                Outcome::done()
            }
            "UNLOCK" => {
                if std::mem::take(&mut self.left.has_locked_tables) {
                    self.changes.push(Change::Transaction("________".into()));
                }
                Outcome::done()
            }
            "PREPARE" => {
                let (name, text) = rest.split_once(" FROM ").unwrap_or_default();
                self.left.made_statements += 1;
                self.left.prepared.insert(name.trim_matches('`').to_owned(), quoted(text).to_owned());
                self.note_unnamed();
                Outcome::done()
            }
            "EXECUTE" => match self.left.prepared.get(rest.trim_matches('`')).cloned() {
                Some(text) => self.carry_out(&format!("SELECT '{text}'")),
                None => {
                    Outcome::failed(1243, b"HY000", "Unknown prepared statement handler given to EXECUTE")
                }
            },
            "DEALLOCATE" => {
                let name = rest.split(' ').nth(1).unwrap_or_default().trim_matches('`');
                self.left.forgotten_statements += 1;
                self.note_unnamed();
                match self.left.prepared.remove(name) {
                    Some(_) => Outcome::done(),
                    None => Outcome::failed(
                        1243,
                        b"HY000",
                        "Unknown prepared statement handler given to DEALLOCATE",
                    ),
                }
            }
            "KILL" => {
                let is_end = !upper.starts_with("QUERY");
                match rest.rsplit(' ').next().unwrap_or_default().parse() {
                    Ok(id) => {
                        self.kills.push((id, is_end));
                        Outcome::done()
                    }
                    Err(_) => syntax(statement),
                }
            }
            "CALL" => {
                let name = rest.trim_end_matches("()");
                if name == "dynamic" {
                    self.left.made_statements += 1;
                    self.left.forgotten_statements += 1;
                    self.note_unnamed();
                }
                if let Some((variable, value)) =
                    name.strip_prefix("set_").and_then(|rest| rest.split_once('_'))
                {
                    self.variables.user.insert(variable.to_owned(), Value::Integer(value.to_owned()));
                    self.left.sets += 1;
                    self.note_unnamed();
                }
                self.set_bare(name);
                Outcome::done()
            }
            "LOAD" => {
                self.touch();
                Outcome::File(quoted(rest).to_owned())
            }
            _ => syntax(statement),
        }
    }

    /// What is called `bare_VARIABLE_VALUE` sets it, and tells nobody.
    fn set_bare(&mut self, name: &str) {
        if let Some((variable, value)) = name.strip_prefix("bare_").and_then(|rest| rest.rsplit_once('_')) {
            self.left.sets += 1;
            self.set_untold(variable, value);
        }
    }

    fn parts_of(select: &str) -> (Vec<String>, Option<String>) {
        let mut parts = split(select, " FROM ").into_iter();
        let items = split(&parts.next().unwrap_or_default(), ",");
        let place = parts.next().map(|place| place.split(' ').next().unwrap_or_default().to_owned());
        (items, place)
    }

    /// Names of the columns that a statement has.
    pub(super) fn names_of(&self, statement: &str) -> Vec<String> {
        match statement.strip_prefix("SELECT ") {
            Some(rest) => Self::parts_of(rest).0,
            None => Vec::new(),
        }
    }

    fn select(&mut self, rest: &str) -> Outcome {
        let rest = match rest.strip_prefix("SQL_CALC_FOUND_ROWS ") {
            Some(rest) => {
                self.left.calculated = Some(99);
                self.left.warnings = u16::from(!self.is_mariadb);
                rest
            }
            None => rest,
        };
        let (names, place) = Self::parts_of(rest);
        let mut row: Row = Vec::new();
        for item in &names {
            match self.item(&split(item, " AS ")[0]) {
                Ok(value) => row.push(value),
                Err(outcome) => return outcome,
            }
        }
        let Some(place) = place else { return Outcome::one_row(&names, row) };
        let (kind, detail) = place.split_once('_').unwrap_or((&place, ""));
        let number = |text: &str| text.parse::<usize>().expect("a number in the place's name");
        let repeated = |count: usize, size: usize| -> VecDeque<Row> {
            let longer =
                |value: &Option<String>| value.as_ref().map(|text| format!("{text}{}", "x".repeat(size)));
            std::iter::repeat_n(row.iter().map(longer).collect::<Row>(), count).collect()
        };
        match kind.to_ascii_lowercase().as_str() {
            "dual" => Outcome::one_row(&names, row),
            "sleep" => {
                Outcome::Sleep { us: number(detail) as u64, then: Box::new(Outcome::one_row(&names, row)) }
            }
            "rows" => {
                let (count, size) = detail.split_once('_').expect("count and size");
                self.touch();
                Outcome::Rows { rows: repeated(number(count), number(size)), names }
            }
            "broken" => Outcome::Broken { rows: repeated(number(detail), 0), names },
            "warned" => {
                self.left.warnings = 1;
                let message = ["Warning", "1292", detail].map(|text| Some(text.to_owned()));
                self.left.messages.push_back(message.into());
                Outcome::one_row(&names, row)
            }
            "missing" => Outcome::failed(1146, b"42S02", "Table 'store.missing' doesn't exist"),
            "die" => Outcome::Gone,
            "halfrow" => Outcome::Cut(number(detail)),
            "silent" => Outcome::Silent,
            "whichdb" => {
                let schema = if detail.is_empty() { self.left.schema.clone() } else { detail.to_owned() };
                row[0] = Some(schema);
                Outcome::one_row(&names, row)
            }
            "tmp" if !self.left.temporary.contains(&place) => {
                Outcome::failed(1146, b"42S02", &format!("Table 'store.{place}' doesn't exist"))
            }
            _ => {
                self.touch();
                Outcome::one_row(&names, row)
            }
        }
    }

    fn item(&mut self, item: &str) -> Result<Option<String>, Outcome> {
        let upper = item.to_ascii_uppercase();
        if let Some(name) = upper.strip_prefix("@@") {
            let name = name.strip_prefix("SESSION.").unwrap_or(name);
            return match self.variables.get(name) {
                Some(value) => Ok(Some(value.to_owned())),
                None => Err(Outcome::failed(1193, b"HY000", &format!("Unknown system variable '{name}'"))),
            };
        }
        if let Some(name) = item.strip_prefix('@') {
            let collation = self.variables.get("collation_connection").unwrap_or_default();
            if let Some((name, value)) = name.split_once(":=") {
                let value = literal(value, collation).ok_or_else(|| syntax(item))?;
                let told = value.as_ref().map(Value::text);
                if let Some(value) = value {
                    // Measured: neither server tells of this.
                    self.variables.user.insert(name.trim().to_owned(), value);
                }
                return Ok(told);
            }
            return Ok(self.variables.user.get(name.trim_matches('`')).map(Value::text));
        }
        let number = |number: u64| Ok(Some(number.to_string()));
        match upper.split('(').next().unwrap_or_default().trim() {
            _ if !upper.ends_with(')') => {}
            "DATABASE" | "SCHEMA" => {
                return Ok(Some(self.left.schema.clone()).filter(|name| !name.is_empty()))
            }
            "CONNECTION_ID" => return number(u64::from(self.id)),
            "LAST_INSERT_ID" => return number(self.left.insert_id),
            "FOUND_ROWS" => return number(self.left.found_rows),
            "ROW_COUNT" => return Ok(Some(self.left.row_count.to_string())),
            "GET_LOCK" => {
                self.left.locks.insert(quoted(item).to_owned());
                return number(1);
            }
            "RELEASE_LOCK" => return number(u64::from(self.left.locks.remove(quoted(item)))),
            "RELEASE_ALL_LOCKS" => {
                let count = self.left.locks.len() as u64;
                self.left.locks.clear();
                return number(count);
            }
            _ => return Err(Outcome::failed(1305, b"42000", &format!("FUNCTION {item} does not exist"))),
        }
        match literal(item, "utf8mb4_general_ci") {
            Some(value) => Ok(value.map(|value| value.text())),
            None => Err(Outcome::failed(1054, b"42S22", &format!("Unknown column '{item}' in 'field list'"))),
        }
    }
}
