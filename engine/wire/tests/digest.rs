//! Shapes of statements: what is folded, what is kept, and what can never happen.

use maitred_wire::digest::{digest, shape, Lexis};
use proptest::prelude::*;

fn of(lexis: Lexis, text: &str) -> String {
    let mut out = String::new();
    shape(lexis, text.as_bytes(), &mut out, 4096);
    out
}

fn postgres(text: &str) -> String {
    of(Lexis::Postgres, text)
}

fn mysql(text: &str) -> String {
    of(Lexis::Mysql, text)
}

#[test]
fn values_become_question_marks() {
    for (text, expected) in [
        ("SELECT 1", "SELECT ?"),
        ("select 1.5e-3, .5, 0xFF, 1_000, -7, +8", "select ?, ?, ?, ?, ?, ?"),
        ("select 'it''s', E'a\\'b', B'01', X'ff', N'n', U&'\\0041'", "select ?, ?, ?, ?, ?, ?"),
        ("select 'back\\', x", "select ?, x"),
        ("select $$a 'b' $x$ c$$, $x$ $$ $y$ $x$", "select ?, ?"),
        ("select * from t where a=$1 and b<>$2", "select * from t where a = ? and b <> ?"),
        ("select a - 1, a -1, a-1", "select a - ?, a -?, a-?"),
        ("select x where a = -1 and b>-2", "select x where a = ? and b > ?"),
        ("select t1.c2, a1 from t$2", "select t1.c2, a1 from t$2"),
        ("select a::int, b->>'k', c @> '{}'", "select a::int, b ->> ?, c @> ?"),
        ("select \"a ? 'b'\" from \"T\"", "select \"a ? 'b'\" from \"T\""),
        ("select 1;", "select ?"),
        ("begin; select 1 ;commit ; ", "begin; select ?; commit"),
        ("set a = 'unfinished", "set a = ?"),
        ("select $body", "select $body"),
        ("", ""),
    ] {
        assert_eq!(postgres(text), expected, "{text}");
    }
}

#[test]
fn white_space_and_comments_fold() {
    let expected = "select a, b from t where x = ?";
    for text in [
        "select a,b from t where x=1",
        "  select  a , b\n\tfrom t\r\n where x = 2  ",
        "select/* one */a,/* /* nested */ still */b from t -- the end\nwhere x=3--",
        "--first\nselect a, b from t where x = 'y' /* open",
    ] {
        assert_eq!(postgres(text), expected, "{text}");
    }
    assert_eq!(postgres("f( a , b )"), "f(a, b)");
    assert_eq!(postgres("a - -1"), "a - ?");
}

#[test]
fn values_of_mysql_are_folded_with_what_stands_before_them() {
    for (text, expected) in [
        ("select _utf8mb4'a', _latin1 X'e9' collate latin1_bin", "select ?, ? collate latin1_bin"),
        ("select x'00', b'01', 0x00, 0b01, n'a', _binary 0xff", "select ?, ?, ?, ?, ?, ?"),
        ("select _id, `_id` from t where _id = 'x'", "select _id, `_id` from t where _id = ?"),
        ("select /*M!100100 a, */ b", "select a, b"),
        ("select * from `a``b` where c in (?, ?, ?)", "select * from `a``b` where c in (?)"),
        ("insert into t values (1, 'a'), (2, 'b')", "insert into t values (?, ?)"),
        ("set @a = 5, @@session.b := 6", "set @a = ?, @@session.b := ?"),
    ] {
        assert_eq!(mysql(text), expected, "{text}");
    }
}

#[test]
fn lists_and_rows_become_one() {
    for (text, expected) in [
        ("x in (1)", "x in (?)"),
        ("x IN(1,2, 'three',$4)", "x IN (?)"),
        ("x in (1, y, 2, 3)", "x in (?, y, ?)"),
        ("x in (select 1, 2)", "x in (select ?, ?)"),
        ("x not in (-1,-2)", "x not in (?)"),
        ("(a,b) in ((1,2),(3,4),(5,6))", "(a, b) in ((?, ?))"),
        ("any(array[1,2,3])", "any(array [?])"),
        ("insert into t values (1,'a'),(2,'b'), (3,'c')", "insert into t values (?, ?)"),
        ("insert into t values (1,now()),(2,now())", "insert into t values (?, now())"),
        ("values (1,2),(3,default),(4,default)", "values (?, ?), (?, default)"),
        ("f(1,2)", "f(?, ?)"),
        ("select (1,2),(1,2)", "select (?, ?), (?, ?)"),
        (
            "insert into t values (1) on conflict (a) do nothing",
            "insert into t values (?) on conflict (a) do nothing",
        ),
    ] {
        assert_eq!(postgres(text), expected, "{text}");
    }
    let long = format!("x in ({})", vec!["1"; 100_000].join(","));
    assert_eq!(postgres(&long), "x in (?)");
    let rows = format!("insert into t values {}", vec!["(1,2)"; 100_000].join(","));
    assert_eq!(postgres(&rows), "insert into t values (?, ?)");
}

#[test]
fn mysql_has_its_own_quotes_and_comments() {
    for (text, expected) in [
        ("select \"a\\\"b\", 'c\\'d', `e'f`", "select ?, ?, `e'f`"),
        ("select 1 # rest\n+ 2 -- rest\n- 3", "select ? + ? - ?"),
        ("select 5--2", "select ?-?"),
        ("select /*!50000 straight_join */ a", "select straight_join a"),
        ("select /* /* not nested */ a", "select a"),
        ("select ? from t where a in (?,?)", "select ? from t where a in (?)"),
        ("set @a := 1", "set @a := ?"),
        ("select x'ff', b'01', n'x'", "select ?, ?, ?"),
    ] {
        assert_eq!(mysql(text), expected, "{text}");
    }
}

#[test]
fn digests_are_equal_for_equal_shapes_and_stable() {
    assert_eq!(digest(&postgres("select 1")), digest(&postgres("select  'x'")));
    assert_ne!(digest(&postgres("select 1")), digest(&postgres("select 1, 2")));
    // SipHash-1-3 with a zero key; computed by CPython 3.11 (PYTHONHASHSEED=0 hashes bytes with it).
    assert_eq!(digest("SELECT ?"), 3875815815936659290);
}

#[test]
fn what_is_there_before_is_kept() {
    let mut out = "before".to_owned();
    shape(Lexis::Postgres, b" select 1", &mut out, 100);
    assert_eq!(out, "beforeselect ?");
}

proptest! {
    #[test]
    fn any_bytes_have_a_bounded_shape(bytes: Vec<u8>, limit in 0usize..64, is_mysql: bool) {
        let lexis = if is_mysql { Lexis::Mysql } else { Lexis::Postgres };
        let mut out = String::new();
        shape(lexis, &bytes, &mut out, limit);
        prop_assert!(out.len() <= limit);
    }

    #[test]
    fn no_value_reaches_the_shape(
        text in "[a-zA-Z0-9 '\\\\$\"/*-]{0,40}",
        before in prop::sample::select(vec!["select ", "x in (1,", "f(", "a=", "/* c */"]),
    ) {
        let secret = format!("zqzq{text}");
        let quoted = secret.replace('\'', "''");
        let statement = format!("{before}'{quoted}' from t");
        prop_assert!(!postgres(&statement).contains("zqzq"));
        let escaped = secret.replace('\\', "\\\\").replace('\'', "\\'");
        for statement in [format!("{before}E'{escaped}' from t"), format!("{before}$q1${}$q1$ x", secret.replace('$', ""))] {
            prop_assert!(!postgres(&statement).contains("zqzq"));
        }
        let shape = mysql(&format!("{before}'{escaped}' from t"));
        prop_assert!(!shape.contains("zqzq"));
    }

    #[test]
    fn the_amount_of_white_space_does_not_matter(spaces in prop::collection::vec(0usize..5, 8)) {
        let words = ["select", "a,", "b", "from", "t", "where", "c", "=", "1"];
        let mut text = words[0].to_owned();
        for (word, kind) in words[1..].iter().zip(spaces) {
            text.push_str([" ", "\n\t  ", "/* x */", " -- x\n", "\r\n/**/ /* /* */ */"][kind]);
            text.push_str(word);
        }
        prop_assert_eq!(postgres(&text), "select a, b from t where c = ?");
    }
}
