//! Asking a MySQL or MariaDB server what has become of its session, and reading what it says.
//!
//! Only texts and rows; when to ask and what follows is `relay`'s matter. Called through `Dialect`.
//!
//! Source: MySQL manual, "User-Defined Variables", "Locking Functions", "Performance Schema System Variable Tables";
//! MariaDB manual, "Information Schema USER_VARIABLES Table", "Comment Syntax" (what only one of the two servers runs).
//! No privileges are needed for any of it.

use std::fmt::Write as _;

use super::assign::usual_name;
use super::frame;
use super::literal;
use super::settings::push_text;
use super::spec::command;
use crate::effects::{Finding, Question, Traces};

/// A question lifts no limits itself: see `unlimited`.
pub const LIMITS: &[&str] = &[];

/// What lifts a limit that a client may have set and that would end a question, too; None: it is no such limit.
pub fn unlimited(name: &str) -> Option<&'static str> {
    const LIMITS: [(&str, &str); 3] =
        [("max_join_size", "18446744073709551615"), ("max_statement_time", "0"), ("max_execution_time", "0")];
    LIMITS.iter().find(|(limit, _)| limit.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// Settings that are asked for one by one: limits would forbid the other way.
const KNOWN: [(&str, &str); 6] = [
    ("max_join_size", "@@max_join_size"),
    ("max_statement_time", "/*!50708 NULL*//*M! @@max_statement_time*/"),
    ("max_execution_time", "/*!50708 @@max_execution_time*//*M! NULL*/"),
    ("collation_connection", "@@collation_connection"),
    ("collation_server", "@@collation_server"),
    ("last_insert_id", "LAST_INSERT_ID()"),
];

/// Longest name of a lock. Spec: MySQL manual, "Locking Functions".
pub const LOCK_NAME_CHARS: usize = 64;

/// Ask `question`: one query, whose rows `finding` reads. The columns are cast, so that no character set of the
/// session's changes them; the limit is there because `sql_select_limit` would be one.
pub fn write(out: &mut Vec<u8>, question: &Question) {
    let mut sql = String::with_capacity(256);
    sql.push_str("SELECT _binary'-',_binary'-',_binary'-' FROM DUAL WHERE 0");
    let held = held(question);
    if question.traces.has(Traces::LOCKS) && !question.lock_names.is_empty() {
        let _ = write!(sql, " UNION ALL SELECT _binary'locks',NULL,NULL FROM DUAL WHERE {held}");
    }
    if question.traces.has(Traces::ROUTINE) {
        let _ = write!(
            sql,
            " UNION ALL SELECT _binary'released',NULL,NULL FROM DUAL WHERE IF({held},0,\
             /*!50705 RELEASE_ALL_LOCKS()*//*M!100502 RELEASE_ALL_LOCKS()*//*M! +0*/)>0"
        );
    }
    if question.traces.has(Traces::INSERT_ID) {
        sql.push_str(" UNION ALL SELECT _binary'insert id',NULL,NULL FROM DUAL WHERE @@insert_id<>0");
    }
    let counts: &[&str] = match (question.all_values, question.traces.has(Traces::ROUTINE)) {
        (true, _) => &["COM_SET_OPTION", "COM_CREATE_TEMPORARY_TABLE", "COM_PREPARE_SQL", "COM_DEALLOC_SQL"],
        (false, true) => &["COM_SET_OPTION"],
        (false, false) => &[],
    };
    if !counts.is_empty() {
        let names = counts.join("','");
        let _ = write!(
            sql,
            "/*M! UNION ALL SELECT _binary'made',CAST(LOWER(VARIABLE_NAME) AS BINARY),CAST(VARIABLE_VALUE AS BINARY) \
             FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN('{names}')*/"
        );
    }
    if let Some(known) = &question.differing {
        // Measured: MariaDB 10.11 takes 1.2 ms for it, and 0.3 ms for the counts that say when it is due.
        sql.push_str(
            "/*M! UNION ALL SELECT _binary'differs',CAST(LOWER(VARIABLE_NAME) AS BINARY),CAST(SESSION_VALUE AS BINARY) \
             FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE='SESSION' AND (SESSION_VALUE<>GLOBAL_VALUE \
             OR VARIABLE_NAME IN(''",
        );
        for name in known {
            sql.push(',');
            push_text(&mut sql, name);
        }
        sql.push_str(
            ")) UNION ALL SELECT _binary'clock',NULL,NULL FROM DUAL WHERE ABS(@@timestamp-UNIX_TIMESTAMP(SYSDATE(6)))>1*/",
        );
    }
    if question.all_values {
        // Why nothing better: MySQL tells nobody without privileges which variables a session has.
        sql.push_str(
            "/*M! UNION ALL SELECT _binary'name',CAST(VARIABLE_NAME AS BINARY),NULL FROM information_schema.USER_VARIABLES*/\
             /*!50708 UNION ALL SELECT _binary'variables',NULL,NULL*/",
        );
    }
    let mut others = Vec::new();
    for name in &question.values {
        if let Some(variable) = name.strip_prefix('@') {
            variable_value(&mut sql, variable);
        } else if let Some((_, value)) = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            let _ = write!(
                sql,
                " UNION ALL SELECT _binary'set',_binary'{}',CAST({value} AS BINARY)",
                name.to_ascii_lowercase()
            );
        } else {
            others.push(name);
        }
    }
    if !others.is_empty() {
        // Why so: what a session cannot have set, or has not, although a text said so, is nothing to be carried.
        sql.push_str(
            " UNION ALL SELECT IF(/*!50708 s.VARIABLE_VALUE<=>g.VARIABLE_VALUE*/\
             /*M! SESSION_VALUE<=>IFNULL(GLOBAL_VALUE,DEFAULT_VALUE)*/,_binary'usual',_binary'set'),\
             CAST(LOWER(VARIABLE_NAME) AS BINARY),\
             CAST(/*!50708 s.VARIABLE_VALUE*//*M! IFNULL(SESSION_VALUE,'')*/ AS BINARY) FROM \
             /*!50708 performance_schema.session_variables s LEFT JOIN performance_schema.global_variables g \
             USING(VARIABLE_NAME)*//*M! information_schema.SYSTEM_VARIABLES*/ \
             WHERE /*M! VARIABLE_SCOPE<>'GLOBAL' AND READ_ONLY='NO' AND */VARIABLE_NAME IN(",
        );
        for (at, name) in others.into_iter().enumerate() {
            sql.push_str(if at > 0 { "," } else { "" });
            push_text(&mut sql, name);
        }
        sql.push(')');
    }
    sql.push_str(" LIMIT 18446744073709551615");
    frame::packet(out, 0, |out| {
        out.push(command::QUERY);
        out.extend_from_slice(sql.as_bytes());
    });
}

/// Whether any of the named locks is held, as a condition.
fn held(question: &Question) -> String {
    if question.lock_names.iter().any(|name| name.is_empty()) {
        return "1".to_owned();
    }
    let mut condition = String::from("(0");
    for name in &question.lock_names {
        condition.push_str(" OR IS_USED_LOCK(");
        push_text(&mut condition, name);
        condition.push_str(")=CONNECTION_ID()");
    }
    condition.push(')');
    condition
}

/// The value of a user variable: its bytes, and before them what they are.
fn variable_value(sql: &mut String, name: &str) {
    let quoted = name.replace('`', "``");
    let _ = write!(
        sql,
        " UNION ALL SELECT _binary'variable',_binary'@{quoted}',CAST(CONCAT_WS(':',IFNULL(\
         /*M! (SELECT VARIABLE_TYPE FROM information_schema.USER_VARIABLES WHERE VARIABLE_NAME=",
    );
    push_text(sql, name);
    let _ = write!(
        sql,
        " LIMIT 1)*//*!50708 JSON_TYPE(JSON_EXTRACT(JSON_ARRAY(@`{quoted}`),'$[0]'))*/,'-'),\
         CHARSET(@`{quoted}`),COLLATION(@`{quoted}`),HEX(CAST(@`{quoted}` AS BINARY))) AS BINARY)"
    );
}

/// Read one whole row of the answer, header included.
pub fn finding(message: &[u8]) -> Option<Finding> {
    let mut rest = message.get(frame::HEADER..)?;
    let mut column = || -> Option<Option<&[u8]>> {
        if let Some(after) = rest.strip_prefix(&[frame::NULL]) {
            rest = after;
            return Some(None);
        }
        let (text, after) = frame::string(rest).ok()?;
        rest = after;
        Some(Some(text))
    };
    let (kind, name, value) = (column()??, column()?, column()?);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(match kind {
        b"locks" => Finding::Trace(Traces::LOCKS),
        b"released" => Finding::Released,
        b"insert id" => Finding::Trace(Traces::INSERT_ID),
        b"made" => {
            let count = text(value?)?.parse().ok()?;
            match name? {
                b"com_set_option" => Finding::Sets(count),
                b"com_dealloc_sql" => Finding::Forgotten(count),
                b"com_create_temporary_table" => Finding::Made(Traces::TEMPORARY, count),
                _ => Finding::Made(Traces::PREPARED, count),
            }
        }
        b"clock" => Finding::Trace(Traces::CLOCK),
        b"variables" => Finding::Trace(Traces::VARIABLES),
        b"name" => match name.and_then(super::words::name) {
            Some(name) => Finding::Name(format!("@{name}")),
            None => Finding::Trace(Traces::VARIABLES),
        },
        b"variable" => match literal::of(value?) {
            Ok(value) => Finding::Setting(text(name?)?, value),
            Err(()) => Finding::Trace(Traces::VARIABLES),
        },
        b"differs" | b"usual" => {
            let name = usual_name(&text(name?)?).to_owned();
            let value = value.map_or_else(|| Some(String::new()), text)?;
            match kind {
                b"differs" => Finding::Differs(name, value),
                _ => Finding::Usual(name, value),
            }
        }
        b"set" => match (name.and_then(text), value.map(text)) {
            (Some(name), Some(Some(value))) => Finding::Setting(name, Some(value)),
            (Some(name), None) => Finding::Setting(name, None),
            _ => Finding::Trace(Traces::UNKNOWN),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::reply::{row, Voice};

    fn text_of(question: &Question) -> String {
        let mut out = Vec::new();
        write(&mut out, question);
        assert_eq!(out[frame::HEADER], command::QUERY);
        String::from_utf8(out[frame::HEADER + 1..].to_vec()).expect("text")
    }

    #[test]
    fn a_question_is_one_statement_with_a_limit_of_its_own() {
        let question = Question {
            traces: Traces::LOCKS.with(Traces::ROUTINE).with(Traces::INSERT_ID),
            values: vec!["@a`b".into(), "collation_connection".into(), "wait_timeout".into()],
            lock_names: vec!["held".into()],
            all_values: true,
            ..Question::default()
        };
        let text = text_of(&question);
        assert!(text.contains("WHERE (0 OR IS_USED_LOCK('held')=CONNECTION_ID())"), "{text}");
        assert!(text.contains("HEX(CAST(@`a``b` AS BINARY))"), "{text}");
        assert!(text.contains("CAST(@@collation_connection AS BINARY)"), "{text}");
        assert!(text.contains("AND */VARIABLE_NAME IN('wait_timeout')"), "{text}");
        assert!(text.ends_with(" LIMIT 18446744073709551615") && !text.contains(';'), "{text}");
        let unknown = Question { lock_names: vec!["".into()], ..question };
        assert!(text_of(&unknown).contains("IF(1,0,"), "a lock whose name is not known is not released");
        assert!(text_of(&Question::default()).starts_with("SELECT "));
    }

    #[test]
    fn rows_are_findings() {
        let read = |values: &[Option<&str>]| {
            let mut out = Vec::new();
            row(&mut out, &mut Voice::default(), values);
            finding(&out)
        };
        let setting =
            |name: &str, value: Option<&str>| Some(Finding::Setting(name.into(), value.map(str::to_owned)));
        assert_eq!(read(&[Some("locks"), None, None]), Some(Finding::Trace(Traces::LOCKS)));
        assert_eq!(read(&[Some("released"), None, None]), Some(Finding::Released));
        assert_eq!(read(&[Some("insert id"), None, None]), Some(Finding::Trace(Traces::INSERT_ID)));
        assert_eq!(read(&[Some("variables"), None, None]), Some(Finding::Trace(Traces::VARIABLES)));
        assert_eq!(read(&[Some("name"), Some("A"), None]), Some(Finding::Name("@a".into())));
        assert_eq!(read(&[Some("name"), Some("\u{e4}"), None]), Some(Finding::Trace(Traces::VARIABLES)));
        assert_eq!(read(&[Some("set"), Some("a"), Some("b")]), setting("a", Some("b")));
        assert_eq!(
            read(&[Some("variable"), Some("@a"), Some("INT:binary:binary:35")]),
            setting("@a", Some("5"))
        );
        assert_eq!(read(&[Some("variable"), Some("@a"), Some("-:binary:binary")]), setting("@a", None));
        let made = read(&[Some("made"), Some("com_create_temporary_table"), Some("3")]);
        assert_eq!(made, Some(Finding::Made(Traces::TEMPORARY, 3)));
        assert_eq!(
            read(&[Some("made"), Some("com_prepare_sql"), Some("1")]),
            Some(Finding::Made(Traces::PREPARED, 1))
        );
        assert_eq!(read(&[Some("made"), Some("com_dealloc_sql"), Some("2")]), Some(Finding::Forgotten(2)));
        assert_eq!(read(&[Some("made"), Some("com_set_option"), Some("7")]), Some(Finding::Sets(7)));
        assert_eq!(read(&[Some("clock"), None, None]), Some(Finding::Trace(Traces::CLOCK)));
        assert_eq!(read(&[Some("other"), None, None]), None);
        assert_eq!(read(&[Some("set")]), None);
        assert_eq!(finding(b""), None);
    }
}
