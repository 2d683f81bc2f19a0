//! `pg_prepared_statements` as one client's own: under its own names, without those of others.
//!
//! Only text; which statements a client has is `relay`'s matter. Called through `Dialect`.
//!
//! Source: PostgreSQL manual, "pg_prepared_statements" and "WITH Queries": a common table expression hides a
//! table of its name.

use super::statement::push_literal;
use super::words::{is, Token, Words};

/// What our texts begin with, so that none is made of one of them.
const BEGIN: &str = "WITH pg_prepared_statements AS MATERIALIZED (SELECT ";

/// The columns behind the name, as a server of this major version has them.
fn columns(major: u32) -> &'static str {
    match major {
        16.. => "statement,prepare_time,parameter_types,result_types,from_sql,generic_plans,custom_plans",
        14..=15 => "statement,prepare_time,parameter_types,from_sql,generic_plans,custom_plans",
        _ => "statement,prepare_time,parameter_types,from_sql",
    }
}

/// A SELECT that asks for `pg_prepared_statements`, told of `names` only: as the server has them and as the
/// client knows them. None: it is no SELECT, or it is one of these texts.
pub fn own(text: &[u8], names: &[(&[u8], &[u8])], version: &str) -> Option<Vec<u8>> {
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    // Why 12: MATERIALIZED is known since then.
    let major: u32 = version[..digits].parse().ok().filter(|major| *major >= 12)?;
    if text.starts_with(BEGIN.as_bytes()) {
        return None;
    }
    let mut words = Words { rest: text };
    let Some(Token::Word(first)) = words.next() else { return None };
    let (rest, joint) = match first {
        _ if is(first, b"select") => (text, ") "),
        _ if is(first, b"with") => {
            let rest = words.rest;
            if matches!(words.next(), Some(Token::Word(word)) if is(word, b"recursive")) {
                return None;
            }
            (rest, "),")
        }
        _ => return None,
    };
    let columns = columns(major);
    let from = "FROM pg_catalog.pg_prepared_statements";
    let mut sql = format!("{BEGIN}name,{columns} {from} WHERE pg_catalog.substr(name,1,3)<>'mt_'");
    for (at, (made, known)) in names.iter().enumerate() {
        if at == 0 {
            sql.push_str(&format!(" UNION ALL SELECT mt.known,{columns} {from} JOIN (VALUES "));
        } else {
            sql.push(',');
        }
        sql.push('(');
        push_literal(&mut sql, std::str::from_utf8(made).ok()?);
        sql.push(',');
        push_literal(&mut sql, std::str::from_utf8(known).ok()?);
        sql.push(')');
    }
    if !names.is_empty() {
        sql.push_str(") mt (made,known) ON name=mt.made");
    }
    sql.push_str(joint);
    Some([sql.as_bytes(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, names: &[(&[u8], &[u8])]) -> Option<String> {
        own(text.as_bytes(), names, "18.4 (Debian)").map(|text| String::from_utf8(text).expect("text"))
    }

    #[test]
    fn a_client_is_told_of_its_own_statements() {
        let text = of("select * from pg_prepared_statements", &[(b"mt_a", b"it's"), (b"mt_b", b"b")]);
        let text = text.expect("rewritten");
        assert!(text.contains("(VALUES ('mt_a','it''s'),('mt_b','b')) mt (made,known)"), "{text}");
        assert!(text.ends_with(") select * from pg_prepared_statements"), "{text}");
        assert_eq!(of(&text, &[]), None, "once is enough");
        let with =
            of("with a as (select 1) select * from pg_prepared_statements, a", &[]).expect("rewritten");
        assert!(with.ends_with("'mt_'), a as (select 1) select * from pg_prepared_statements, a"), "{with}");
        assert!(!with.contains("VALUES"));
        for other in ["create view v as select * from pg_prepared_statements", "with recursive a as (", ""] {
            assert_eq!(of(other, &[]), None, "{other}");
        }
        assert_eq!(own(b"select 1", &[], "11.2"), None);
        let old = own(b"select 1", &[], "15.20").expect("rewritten");
        assert!(!String::from_utf8(old).expect("text").contains("result_types"));
    }
}
