"""Scripts of MySQL session state, by what they are about: lines `client: statement`.

Only texts; `fix_mysql_parity.play` says how they are read, and nothing here judges what is seen.
Imported by `test_mysql_parity`.
"""

from __future__ import annotations

VARIABLES = """
a: set sort_buffer_size = 65536
a: select @@sort_buffer_size, @@session.sort_buffer_size
b: select @@sort_buffer_size = @@global.sort_buffer_size
a: set session sort_buffer_size = 98304, group_concat_max_len = 2048
a: select @@sort_buffer_size, @@group_concat_max_len
b: select @@group_concat_max_len
a: set @@session.group_concat_max_len := 4096
a: set @@local.max_error_count = 7
a: show variables like 'group_concat_max_len'
a: show session variables where variable_name in ('max_error_count', 'sort_buffer_size')
a: set sort_buffer_size = default
a: select @@sort_buffer_size = @@global.sort_buffer_size
a: set nosuchvariable = 5
a: set sort_buffer_size = 65536, nosuchvariable = 5
a: select @@sort_buffer_size = @@global.sort_buffer_size, @@group_concat_max_len
a: set wait_timeout = 1000, net_write_timeout = 77
a: select @@wait_timeout, @@net_write_timeout
b: select @@wait_timeout, @@net_write_timeout
a: set foreign_key_checks = 0, unique_checks = off
a: select @@foreign_key_checks, @@unique_checks
b: select @@foreign_key_checks, @@unique_checks
a: set lc_time_names = 'de_DE'
a: select date_format('2026-05-01', '%M')
b: select date_format('2026-05-01', '%M')
a: set max_sort_length = 100, sql_select_limit = 1
a: select 1 union select 2
b: select 1 union select 2
a: set sql_select_limit = default
a: set div_precision_increment = 8
a: select 1/3
b: select 1/3
a: set auto_increment_increment = 10
b: select @@auto_increment_increment
a: select @@auto_increment_increment
"""

LAST_ROW = """
a: create table t (id int auto_increment primary key, n int)
a: insert into t (n) values (1)
a: set sql_auto_is_null = 1
b: insert into t (n) values (2)
a: select * from t where id is null
b: select * from t where id is null
a: insert into t (n) values (3)
b: insert into t (n) values (4)
a: select * from t where id is null
a: set sql_auto_is_null = 0
a: select * from t where id is null
"""

LIMITS = """
a: set @x = database(), @@group_concat_max_len = 2000, @@max_join_size = 1
a: select @x, @@group_concat_max_len, @@max_join_size
b: select @x, @@max_join_size > 1
a: set @@max_join_size = 2, @x = 7
a: select @x, @@max_join_size
b: select @x, @@max_join_size > 1
"""

CLOCK = """
a*: set timestamp = 1000000000
a: select now(), unix_timestamp()
b: select now() > '2020-01-01'
a: select now()
a-: set timestamp = default
a: select now() > '2020-01-01'
b: select now() > '2020-01-01'
"""

TRACKING = """
a: select @@session_track_system_variables, @@session.session_track_schema
a: select @@session_track_state_change, @@session_track_transaction_info
a: set session_track_system_variables = 'sort_buffer_size, div_precision_increment'
a: set sort_buffer_size = 65536, div_precision_increment = 6
a: set autocommit = 0
a: set autocommit = 1
b: set autocommit = 0
b: set autocommit = 1
a: select @@session_track_system_variables, @@session_track_schema = 1
a: set session_track_schema = 0
a: use warehouse
b: use warehouse
a: select @@session_track_schema, @@local.session_track_schema
a: set session_track_schema = default
a: use served
a: set session_track_system_variables = concat(@@session_track_system_variables, ',sql_mode')
a: set sql_mode = 'ANSI'
a: set session_track_system_variables = 5 + 5
a: set session_track_state_change = 5
a: select @@session_track_system_variables
a: @prepare p: set session_track_system_variables = ?
a: @execute p: time_zone
a: set sql_mode = ''
a: set time_zone = '+01:00'
a: set session_track_system_variables = default
a: set time_zone = '+02:00'
"""

ENCODINGS = """
a: set names latin1
a: select @@character_set_client, @@character_set_connection, @@character_set_results
a: select @@collation_connection
b: select @@character_set_client, @@character_set_connection, @@character_set_results
a: select collation('x'), hex(_utf8mb4'ë')
a: set names utf8mb4 collate utf8mb4_bin
a: select @@collation_connection, 'a' = 'A'
b: select 'a' = 'A'
a: set character set utf8mb4
a: select @@character_set_client, @@character_set_connection
a: set names default
a: select @@character_set_client
a: set collation_connection = 'utf8mb4_general_ci'
a: select @@collation_connection
a: set character_set_results = null
a: select @@character_set_results
b: select @@character_set_results
"""

SQL_MODE = """
a: set sql_mode = 'ANSI_QUOTES'
a: select "x"
b: select "x"
a: set sql_mode = ''
a: create table strict (n tinyint)
a: insert into strict values (1000)
b: insert into strict values (1000)
b: set sql_mode = 'PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'
b: select 'a' || 'b', '\\n'
a: select 'a' || 'b', length('\\n')
a: set sql_mode = default
a: insert into strict values (1000)
a: set sql_mode = concat(@@sql_mode, ',HIGH_NOT_PRECEDENCE')
a: select find_in_set('HIGH_NOT_PRECEDENCE', @@sql_mode) > 0
b: select find_in_set('HIGH_NOT_PRECEDENCE', @@sql_mode) > 0
"""

TIME_ZONE = """
a: set time_zone = '+05:30'
a: select @@time_zone, from_unixtime(0)
b: select @@time_zone, from_unixtime(0)
b: set time_zone = '-08:00'
a: select from_unixtime(0)
b: select from_unixtime(0)
a: set time_zone = default
a: select from_unixtime(0)
"""

SCHEMA = """
a: select database()
a: use warehouse
a: select database(), schema()
b: select database()
a: create table placed (n int)
b: select count(*) from placed
b: select count(*) from warehouse.placed
a: drop table placed
a: use nosuchdatabase
a: select database()
a: @init_db served
a: select database()
b: @init_db warehouse
b: select database()
a: select database()
"""

USER_VARIABLES = """
a: set @x = 5, @y := 'it''s \\\\ "q" ë', @z = null
a: select @x, @y, @z
b: select @x, @y, @z
b: set @x = 7
a: select @x + 1
b: select @x + 1
a: set @d = 1.50, @f = 1e10, @h = x'00ff', @b = true
a: select @d, @f, hex(@h), @b
a: select @d * 2, @f * 2, length(@h)
a: select @n := 3, @n + 1
a: select @n
b: select @n
a: select 1, 'two' into @one, @two
a: select @one, @two
b: select @one, @two
a: set @s = (select group_concat(n) from (select 1 n union select 2) q)
a: select @s, collation(@s)
a: set @lat = _latin1 x'eb'
a: select @lat, charset(@lat), hex(@lat)
a: set @`odd name` = 1, @'q.$' = 2
a: select @`odd name`, @'q.$'
a: set @X = 9
a: select @x
a: set @d = '2026-01-02', @t = now()
a: select @d, @t > '2020-01-01'
a: select @unset
a: set @u = cast(18446744073709551615 as unsigned), @neg = -5
a: select @u, @neg, @u - 1
"""

STATE_IN_ROUTINES = """
a: create procedure p_var() set @inner = 11
a: create procedure p_set() set session sort_buffer_size = 65536
a: create function f_var() returns int deterministic begin set @fromf = 12; return 1; end
a: call p_var()
a: select @inner
b: select @inner
a: call p_set()
a: select @@sort_buffer_size
b: select @@sort_buffer_size = @@global.sort_buffer_size
a: select f_var()
a: select @fromf
b: select @fromf
a: select @inner, @fromf, @@sort_buffer_size
"""

LATER_STATEMENTS = """
a: select 1; set sort_buffer_size = 65536; set @later = 3; select 2
a: select @@sort_buffer_size, @later
b: select @@sort_buffer_size = @@global.sort_buffer_size, @later
a: select 1; use warehouse
a: select database()
b: select database()
a: set @early = 1; select * from nosuch; set @never = 1
a: select @early, @never
b: select @early, @never
a: use served; set names latin1; set autocommit = 0
a: select @@autocommit, database(), @@character_set_client
b: select @@autocommit, database(), @@character_set_client
"""

TRANSACTIONS = """
a: create table t (n int)
a: begin
a: insert into t values (1)
a: select * from t
b: select * from t
a: rollback
a: select * from t
a: start transaction
a: insert into t values (2)
a: savepoint s
a: insert into t values (3)
a: rollback to savepoint s
a: commit
b: select * from t
a: begin
a: insert into t values (4)
a: insert into nosuch values (1)
a: select count(*) from t
a: commit and no chain
b: select count(*) from t
a: start transaction read only
a: insert into t values (5)
a: rollback
a: begin; insert into t values (6); commit
b: select count(*) from t
a: begin
a: create table implicit (n int)
a: insert into implicit values (1)
b: select * from implicit
"""

CHAINS = """
a: create table t (n int)
a: begin
a: insert into t values (1)
a: commit and chain
a: insert into t values (2)
a: rollback and chain
a: insert into t values (3)
a: rollback
b: select * from t
a: release savepoint nosuch
a: start transaction with consistent snapshot
a: select * from t
a: commit
"""

AUTOCOMMIT = """
a: create table t (n int)
a: set autocommit = 0
a: select @@autocommit
b: select @@autocommit
a: insert into t values (1)
b: select count(*) from t
a: rollback
a: insert into t values (2)
a: commit
b: select * from t
a: set autocommit = 1
a: insert into t values (3)
b: select count(*) from t
a: set @@autocommit = off
a: insert into t values (4)
a: set autocommit = on
b: select count(*) from t
"""

NEXT_TRANSACTION = """
a: create table t (n int)
a*: set transaction read only
a: insert into t values (1)
a-: select count(*) from t
a: insert into t values (2)
a*: set transaction isolation level serializable
a: begin
a: select count(*) from t
a-: commit
a: set session transaction isolation level read committed
a: set session transaction read only
a: insert into t values (3)
b: insert into t values (4)
a: set session transaction read write
a: insert into t values (5)
b: select * from t order by n
"""

IDS = """
a: create table t (id int auto_increment primary key, n int)
a: insert into t (n) values (1)
a: select last_insert_id()
b: select last_insert_id()
b: insert into t (n) values (2), (3)
b: select last_insert_id()
a: select last_insert_id(), @@identity, @@last_insert_id
a: insert into t (n) values (last_insert_id() * 100)
a: select n from t where id = last_insert_id()
a: select last_insert_id(77)
a: select last_insert_id()
b: select last_insert_id()
a: update t set n = last_insert_id(n + 1) where id = 1
a: select last_insert_id()
a: set last_insert_id = 9
a: select last_insert_id()
a*: set insert_id = 700
a-: insert into t (n) values (0)
a: select last_insert_id()
b: insert into t (n) values (0)
b: select last_insert_id()
a: select 'last_insert_id()', last_insert_id () as `last_insert_id()`
"""

ROW_COUNTS = """
a: create table t (n int)
a: insert into t values (1), (2), (3)
a: select row_count()
a: select row_count()
a: update t set n = 5 where n < 3
a: select row_count()
b: select row_count()
a: delete from t
a: select row_count(), 1
a: set @x = 1
a: select row_count()
a: insert into nosuch values (1)
a: select row_count()
a: insert into t select 1 union select 2
a: set @rows = row_count()
a: select @rows
"""

FOUND = """
a: create table t (n int)
a: insert into t values (1), (2), (3), (4)
a: select n from t limit 2
a: select found_rows()
b: select 1 union select 2 union select 3
a: select found_rows()
b: select found_rows()
a*: select sql_calc_found_rows n from t limit 1
a-: select found_rows()
b: select 1
a: select found_rows()
a*: select sql_calc_found_rows n from t limit 0
b: select 2
a-: select found_rows(), 'found_rows()'
"""

WARNINGS = """
a: create table t (n tinyint)
a: set sql_mode = ''
a: insert into t values (1000), (-1000)
a: show warnings
b: show warnings
a: show warnings
a: insert into t values (1000), (-1000), (7)
b: select 1
a: show count(*) warnings
a: insert into t values (1000), (-1000), (7)
a: select @@warning_count
a: insert into t values (1000)
a: select @@warning_count, @@error_count
a: select * from nosuch
a: show errors
a: select * from nosuch
b: insert into t values (5)
a: show warnings limit 1
a: select * from nosuch
a: show count(*) errors
a: select * from nosuch
a: select @@error_count
a: select 1/0, cast('x' as signed)
a: show warnings
a: select 5
a: show warnings
a: drop table if exists nosuchtable
a: show warnings
"""

DIAGNOSTICS = """
a: create table t (n int primary key)
a: insert into t values (1)
a: insert into t values (1)
a: get diagnostics condition 1 @state = returned_sqlstate, @number = mysql_errno
a: select @state, @number
a: insert into t values (1)
a: get diagnostics condition 1 @text = message_text
a: select @text
b: get diagnostics @count = number
b: select @count
"""

PREPARED = """
a: @prepare p: select ? + 1 as n
a: @execute p: 5
b: @prepare p: select 'other', ?
b: @execute p: x
a: @execute p: 6
a: create table t (id int auto_increment primary key, s varchar(20))
a: @prepare i: insert into t (s) values (?)
a: @execute i: one
a: select last_insert_id()
b: @execute p: y
a: @execute i: two
a: @prepare l: select last_insert_id(), s from t where id = last_insert_id()
b: select 1
a: @execute l:
a: begin
a: @execute i: three
a: rollback
a: select count(*) from t
a: @prepare bad: select ? from nosuch
a: @prepare d: select database(), @@sql_mode = ''
a: @execute d:
a: use warehouse
a: set sql_mode = ''
a: @execute d:
b: use served
a: @execute d:
a: @execute p: null
"""

SQL_PREPARED = """
a*: prepare p from 'select ? + 1 as n'
a: set @v = 5
a: execute p using @v
a: execute p using @v
a-: deallocate prepare p
a: execute p using @v
b: execute p
b: deallocate prepare p
b: prepare bad from 'selec'
b: select 1
a: prepare q from "select 'its', 5"
a: set sql_mode = 'ANSI'
a: execute q
b: select 1
a: execute q
b: prepare q from 'select 6'
a: execute q
"""

TEMPORARY = """
a*: create temporary table kept (n int)
a: insert into kept values (1)
b: select * from kept
a: select * from kept
a: begin
a: insert into kept values (2)
a: rollback
a: select count(*) from kept
a-: drop temporary table kept
a: select * from kept
b: select 1
"""

LOCKS = """
a*: select get_lock('parity', 1)
b: select is_free_lock('parity')
b: select get_lock('parity', 0)
a: select is_used_lock('parity') > 0
a-: select release_lock('parity')
b*: select get_lock ('parity', 0)
a: select get_lock('parity', 0)
b-: select release_all_locks()
a*: select get_lock('parity', 0)
a-: do release_lock('parity')
"""

TABLES_LOCKED = """
a: create table t (n int)
a: create table u (n int)
a*: lock tables t write
a: insert into t values (1)
a: select * from u
b: select count(*) from u
a-: unlock tables
b: select * from t
a*: lock tables t read
a: insert into t values (2)
b: select * from t
a-: unlock tables
a: select * from u
"""

HANDLERS = """
a: create table t (n int primary key)
a: insert into t values (1), (2), (3)
a*: handler t open
a: handler t read first
a: handler t read next
b: select count(*) from t
a: handler t read next
a-: handler t close
a: handler t read first
b: select 1
"""

XA = """
a: create table t (n int)
a*: xa start 'parity'
a: insert into t values (1)
a: select * from nosuch
a: xa end 'parity'
b: select count(*) from t
a-: xa rollback 'parity'
b: select count(*) from t
a*: xa start 'parity2'
a: insert into t values (2)
a: xa end 'parity2'
a-: xa commit 'parity2' one phase
b: select count(*) from t
a: xa end 'parity'
"""

SYSTEM_VARIABLES_READ = """
a: select @@version_comment like '%', @@sql_mode = @@global.sql_mode
a: select @@max_allowed_packet, @@autocommit, @@lower_case_table_names
a: show variables like 'lower_case_table_names'
a: select @@session.auto_increment_increment as auto_increment_increment, @@license as license
a: show session status like 'Questions_nosuch'
a: select current_user(), user() like 'app@%', session_user() like 'app@%'
a: select connection_id() > 0
a: show databases like 'served'
a: show grants
a: select 1 from dual
a: do 1
a: select version() = @@version
"""

COMMENTS_AND_SHAPES = """
a: /* set names latin1 */ select 1
a: -- a comment
a: select 1 -- last
a: select 1 # last
a: /*!40101 set sort_buffer_size = 65536 */
a: select @@sort_buffer_size
b: select @@sort_buffer_size = @@global.sort_buffer_size
a: SET /* c */ @Q /* d */ = 'a;b'
a: select @q
b: select @q
a: (select 1) union (select 2)
a: select 'it''s; set @no = 1', "x"
a: select @no
a: table nosuch
a: explain select 1
a: select;
a: ;
a: select 1;
"""
