//! What MySQL's texts ask of the statement before, and what is written in its place.
//!
//! Only texts; what servers make of them the parity tests tell.

use maitred_wire::dialect::Tracking;
use maitred_wire::mysql::leftovers::{as_query, asks, substituted, Asks, Known, Message, Show};

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
        ("get current diagnostics condition 1 @a = message_text", Asks { get_diagnostics: true, ..nothing }),
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
        tracking: Some(Tracking::default()),
    };
    let written =
        |text: &str| substituted(text.as_bytes(), &known).map(|text| String::from_utf8(text).expect("text"));
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
            "select 1; set @@session_track_schema=1, session_track_system_variables=concat(@@session_track_system_variables,',a')",
            "select 1; set @@session_track_schema=1, session_track_system_variables=concat(@@global.session_track_system_variables,',a')",
        ),
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

#[test]
fn a_prepared_show_is_a_query_for_what_was_told() {
    let message = |parts: [&str; 3]| -> Message {
        parts.iter().flat_map(|part| [&[part.len() as u8], part.as_bytes()].concat()).collect()
    };
    let messages = [message(["Warning", "1264", "out of range"]), message(["Error", "1146", "it's away"])];
    let of = |show| String::from_utf8(as_query(show, &messages).expect("they are read")).expect("text");
    let rows = |only_errors, skip, most| of(Show::Rows { only_errors, skip, most });
    let error = "SELECT 'Error' AS `Level`,CAST(1146 AS UNSIGNED) AS `Code`,_utf8mb4 X'697427732061776179' AS `Message`";
    assert_eq!(rows(true, 0, 9), error);
    assert_eq!(rows(false, 1, 9), error);
    assert!(rows(false, 0, 9).ends_with(&format!(" UNION ALL {error}")));
    assert!(rows(false, 2, 9).ends_with(" WHERE 0") && rows(false, 0, 0).ends_with(" WHERE 0"));
    let count = of(Show::Count { only_errors: true });
    assert_eq!(count, "SELECT NULLIF(1|0,NULL) AS `@@session.error_count`");
}
