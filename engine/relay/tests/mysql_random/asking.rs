//! What the clients of the randomized scenario ask for, and what they expect.
//!
//! Sends nothing. Called by `main` for each client that has nothing under way.

use std::collections::VecDeque;

use maitred_relay::sim::frontend as postgres;
use maitred_relay::sim::mysql::can;
use maitred_relay::sim::mysql::frontend::{
    append, close, fetch, init_db, ping, prepare, query, reset_connection, rewind, run_appended, run_as,
};

use crate::{Run, VALUES};

/// What a client knows once the answer has come.
#[derive(Clone, Debug)]
pub enum After {
    Nothing,
    /// Its statement gives this row for a value.
    Prepared(String),
    Value(&'static str, String),
    Cursor(usize, u64),
    Made(String),
    Gone(String),
    Renewed,
    Fetched(usize, u64),
    Inserted,
    Autocommit(bool),
}

/// A command with one end.
pub struct Unit {
    pub bytes: Vec<u8>,
    /// Its answer when nothing goes wrong; None: any.
    pub answer: Option<String>,
    /// Errors that it brings upon itself.
    pub own_errors: &'static [&'static str],
    pub after: After,
}

pub struct Statement {
    pub number: u32,
    pub row: String,
    pub is_told: bool,
    /// Rows left of its cursor.
    pub cursor: Option<u64>,
    /// What it was run with, for the rows of its cursor.
    pub value: String,
}

pub struct Actor {
    pub client: usize,
    pub is_mysql: bool,
    pub mark: String,
    pub capabilities: u64,
    pub under_way: VecDeque<Unit>,
    pub asked: u64,
    pub is_known: bool,
    pub in_transaction: bool,
    pub is_autocommit: bool,
    pub statements: Vec<Statement>,
    /// Values that it has set: schema, sql_mode, @x. None: not known.
    pub values: Vec<(&'static str, Option<String>)>,
    pub insert_id: Option<String>,
    pub table: Option<String>,
    pub lock: Option<String>,
    /// Somebody asked to stop what it runs, and that may still hit until then.
    pub cancel_until: u64,
    pub may_be_killed: bool,
    /// Its session was lost with its server.
    pub must_end: bool,
    pub sent_at: u64,
}

impl Run {
    pub fn unit(&mut self, at: usize, is_alone: bool) -> Unit {
        let actor = &mut self.actors[at];
        actor.asked += 1;
        let mark = format!("{}{}", actor.mark, actor.asked);
        let unit = |bytes: Vec<u8>, answer: String| Unit {
            bytes,
            answer: Some(answer),
            own_errors: &[],
            after: After::Nothing,
        };
        let sql = |text: String, answer: String| unit(query(&text), answer);
        let done = |text: String, after: After| Unit { after, ..unit(query(&text), "C:ok".into()) };
        let row = |row: &str| format!("T D:{row} C:rows");
        if !actor.is_mysql {
            return unit(postgres::query(&format!("select {mark}")), format!("T D:{mark} C:SELECT 1"));
        }
        let is_open = actor.in_transaction;
        match self.random.below(34) {
            0 => sql(format!("SELECT '{mark}' FROM sleep_{}", self.random.below(8_000)), row(&mark)),
            1 if actor.capabilities & can::MULTI_STATEMENTS != 0 => sql(
                format!("SELECT '{mark}'; SELECT '{mark}b'"),
                format!("{} {}", row(&mark), row(&format!("{mark}b"))),
            ),
            2 => {
                Unit { own_errors: &["1146"], ..sql(format!("SELECT '{mark}' FROM missing"), "never".into()) }
            }
            3 | 4 if actor.statements.len() < 6 => {
                let rest = if self.random.once_in(2) { ", ? FROM rows_3_10" } else { ", ?" };
                let many = rest.len() > 3;
                let row = if many { format!("{mark}xxxxxxxxxx") } else { mark.clone() };
                Unit {
                    after: After::Prepared(if many { format!("3 {row}") } else { format!("1 {row}") }),
                    answer: Some("P".into()),
                    ..unit(prepare(&format!("SELECT '{mark}'{rest}")), String::new())
                }
            }
            5 if actor.statements.len() < 6 => {
                // Which schema it is about was decided when it was prepared, wherever it runs.
                let schema = actor.values[0].1.clone();
                let Some(schema) = schema else { return sql(format!("SELECT '{mark}'"), row(&mark)) };
                let text = "SELECT 'x', ? FROM whichdb";
                Unit {
                    after: After::Prepared(format!("schema {schema}")),
                    answer: Some("P".into()),
                    ..unit(prepare(text), String::new())
                }
            }
            30 => Unit {
                own_errors: &["1064"],
                ..unit(prepare(&format!("SELECT '{mark}bad'")), "never".into())
            },
            6..=10 if is_alone && !actor.statements.is_empty() => self.run_prepared(at),
            11 => {
                let (count, size) = (1 + self.random.below(30), self.random.below(900));
                let one = format!("D:{mark}{}", "x".repeat(size as usize));
                let rows = vec![one; count as usize].join(" ");
                sql(format!("SELECT '{mark}' FROM rows_{count}_{size}"), format!("T {rows} C:rows"))
            }
            12 | 13 if is_alone => {
                let name = VALUES[self.random.below(3) as usize].0;
                actor.values.iter_mut().for_each(|(known, value)| {
                    if *known == name {
                        *value = None;
                    }
                });
                let after = After::Value(name, mark.clone());
                match name {
                    "schema" if self.random.once_in(2) => {
                        Unit { after, ..unit(init_db(&mark), "C:ok".into()) }
                    }
                    "schema" => done(format!("USE {mark}"), after),
                    name => done(format!("SET {name}='{mark}'"), after),
                }
            }
            14..=17 if is_alone => {
                let (name, value) = self.random.pick(&actor.values).clone();
                let asked = match name {
                    "schema" => "SELECT DATABASE()".to_owned(),
                    "sql_mode" => "SELECT @@sql_mode".to_owned(),
                    name => format!("SELECT {name}"),
                };
                match value {
                    Some(value) => sql(asked, row(&value)),
                    None => sql(format!("SELECT '{mark}'"), row(&mark)),
                }
            }
            18 => unit(ping(), "C:ok".into()),
            19 => Unit {
                own_errors: &["1028"],
                ..sql(format!("SELECT '{mark}' FROM broken_3"), "never".into())
            },
            20 => {
                let count = if actor.capabilities & can::FOUND_ROWS != 0 { 2 } else { 1 };
                sql("UPDATE t SET a=1".into(), format!("C:ok {count}"))
            }
            21 if is_alone && !is_open => {
                let is_on = !actor.is_autocommit;
                done(format!("SET autocommit={}", u8::from(is_on)), After::Autocommit(is_on))
            }
            22 if is_alone
                && !is_open
                && actor.lock.is_none()
                && actor.table.is_none()
                && self.random.once_in(3) =>
            {
                Unit { after: After::Renewed, ..unit(reset_connection(), "C:ok".into()) }
            }
            23 if is_alone => {
                self.world.frontend(actor.client).file = mark.clone().into_bytes();
                sql(format!("LOAD DATA LOCAL INFILE '{mark}' INTO TABLE t"), format!("C:ok {}", mark.len()))
            }
            24 if is_alone && actor.table.is_none() => {
                let name = format!("tmp_{}", mark.replace('.', "_"));
                done(format!("CREATE TEMPORARY TABLE {name} (a int)"), After::Made(name))
            }
            24 if is_alone => {
                let name = actor.table.clone().expect("looked at");
                done(format!("DROP TEMPORARY TABLE {name}"), After::Gone(name))
            }
            25 | 26 if is_alone && actor.table.is_some() => {
                let name = actor.table.clone().expect("looked at");
                sql(format!("SELECT '{mark}' FROM {name}"), row(&mark))
            }
            27 if is_alone && actor.lock.is_none() => Unit {
                after: After::Made(format!("lock {mark}")),
                ..sql(format!("SELECT GET_LOCK('{mark}', 1)"), row("1"))
            },
            27 if is_alone => {
                let name = actor.lock.clone().expect("looked at");
                Unit {
                    after: After::Gone(String::new()),
                    ..sql(format!("SELECT RELEASE_LOCK('{name}')"), row("1"))
                }
            }
            31 if is_alone && !is_open => {
                // What pins between the two must be gone behind the second.
                let bytes =
                    [query("LOCK TABLES t READ"), query(&format!("SELECT '{mark}'")), query("UNLOCK TABLES")];
                Unit { bytes: bytes.concat(), ..sql(String::new(), format!("C:ok Z {} Z C:ok", row(&mark))) }
            }
            28 if is_alone => Unit {
                after: After::Inserted,
                answer: None,
                ..sql(format!("INSERT INTO t VALUES ('{mark}')"), String::new())
            },
            29 if is_alone && actor.insert_id.is_some() => {
                let id = actor.insert_id.clone().expect("looked at");
                sql("SELECT LAST_INSERT_ID()".into(), row(&id))
            }
            _ => sql(format!("SELECT '{mark}'"), row(&mark)),
        }
    }

    /// Something with a statement that is prepared.
    fn run_prepared(&mut self, at: usize) -> Unit {
        let actor = &mut self.actors[at];
        let which = self.random.below(actor.statements.len() as u64) as usize;
        let statement = &mut actor.statements[which];
        let number = statement.number;
        let value = format!("v{}", actor.asked);
        let unit = |bytes: Vec<u8>, answer: String| Unit {
            bytes,
            answer: Some(answer),
            own_errors: &[],
            after: After::Nothing,
        };
        let (count, row) = statement.row.split_once(' ').expect("count and row");
        if count == "schema" {
            statement.is_told = true;
            let answer = format!("T D:{row},{value} C:rows");
            return unit(run_as(number, &[Some(&value)], false, true), answer);
        }
        let count: u64 = count.parse().expect("count");
        let tail = if count > 1 { "xxxxxxxxxx" } else { "" };
        let line = |value: &str| format!("D:{row},{value}{tail}");
        let lines = |value: &str, count: u64| vec![line(value); count as usize].join(" ");
        match (self.random.below(8), statement.cursor) {
            (0, _) => {
                actor.statements.remove(which);
                let mut both = close(number);
                both.extend_from_slice(&ping());
                unit(both, "C:ok".into())
            }
            (1, _) => {
                statement.cursor = None;
                unit(rewind(number), "C:ok".into())
            }
            (2, _) => {
                statement.cursor = None;
                statement.is_told = true;
                let bytes =
                    [append(number, 0, b"long"), append(number, 0, value.as_bytes()), run_appended(number)];
                unit(bytes.concat(), format!("T {} C:rows", lines(&format!("long{value}"), count)))
            }
            (3 | 4, None) => {
                let mut bytes = run_as(number, &[Some(&value)], true, true);
                statement.is_told = true;
                statement.value.clone_from(&value);
                let after = After::Cursor(which, count);
                let mut answer = "T C:cursor".to_owned();
                if self.random.once_in(3) {
                    // A cursor that nobody reads.
                    bytes.extend_from_slice(&rewind(number));
                    answer = "T C:cursor Z C:ok".into();
                    return unit(bytes, answer);
                }
                Unit { after, ..unit(bytes, answer) }
            }
            (3..=5, Some(left)) => {
                let wish = 1 + self.random.below(3);
                let rows = lines(&statement.value, wish.min(left));
                let end = if wish > left { "last" } else { "cursor" };
                let answer = if rows.is_empty() { format!("C:{end}") } else { format!("{rows} C:{end}") };
                let after = After::Fetched(which, if wish > left { u64::MAX } else { left - wish.min(left) });
                Unit { after, ..unit(fetch(number, wish as u32), answer) }
            }
            _ => {
                statement.cursor = None;
                let has_types = !statement.is_told || self.random.once_in(2);
                statement.is_told = true;
                unit(
                    run_as(number, &[Some(&value)], false, has_types),
                    format!("T {} C:rows", lines(&value, count)),
                )
            }
        }
    }
}
