//! The names that a server knows before anybody defines one.
//!
//! Only a list; a name that is missing costs a question to the server. Called by `calls`.
//!
//! Source: MySQL 9.7, `information_schema.keywords` (the reserved ones); MariaDB 10.11, `information_schema.sql_functions`;
//! both manuals, "Function and Operator Reference", "Data Types".

use std::collections::HashSet;
use std::sync::LazyLock;

/// Origin: what comes before a bracket without being a call, and functions that leave nothing in a session.
const NAMES: &str = "\
    abs accessible acos add add_months adddate addtime aes_decrypt aes_encrypt against aggregate all alter \
    analyze and any any_value as asc asensitive asin at atan atan2 avg before benchmark between bigint bin \
    bin_to_uuid binary binlog_gtid_pos bit bit_and bit_count bit_length bit_or bit_xor blob bool boolean \
    both btree by call cascade case cast ceil ceiling change char char_length character character_length \
    charset check chr coalesce coercibility collate collation column column_add column_check column_create \
    column_delete column_exists column_get column_json column_list columns compress concat concat_ws \
    condition connection_id constraint continue conv convert convert_tz cos cot count crc32 crc32c create \
    cross cube cume_dist curdate current_date current_role current_time current_timestamp current_user \
    cursor curtime database databases date date_add date_format date_sub datediff datetime day_hour \
    day_microsecond day_minute day_second dayname dayofmonth dayofweek dayofyear dec decimal declare decode \
    decode_histogram default degrees delayed delete dense_rank des_decrypt des_encrypt desc describe \
    deterministic distance distinct distinctrow div double drop dual each else elseif elt empty enclosed \
    encode encrypt end engine enum escape escaped etag except exists exit exp explain export_set external \
    extract extractvalue false fetch field filter find_in_set first_value fixed float float4 float8 floor \
    for force foreign format format_bytes format_pico_time found_rows from from_base64 from_days \
    from_unixtime from_vector fulltext function generated geomcollection geometry geometrycollection get \
    grant greatest group group_concat grouping groups gtid_subset gtid_subtract hash having hex \
    high_priority hour_microsecond hour_minute hour_second if ifnull ignore in index inet4 inet6 inet6_aton \
    inet6_ntoa inet_aton inet_ntoa infile inner inout insensitive insert instr int int1 int2 int3 int4 int8 \
    integer intersect interval into io_after_gtids io_before_gtids is is_free_lock is_ipv4 is_ipv4_compat \
    is_ipv4_mapped is_ipv6 is_used_lock is_uuid isnull iterate join json json_array json_array_append \
    json_array_insert json_array_intersect json_arrayagg json_compact json_contains json_contains_path \
    json_depth json_detailed json_equals json_exists json_extract json_insert json_key_value json_keys \
    json_length json_loose json_merge json_merge_patch json_merge_preserve json_normalize json_object \
    json_object_filter_keys json_object_to_array json_objectagg json_overlaps json_pretty json_query \
    json_quote json_remove json_replace json_schema_valid json_schema_validation_report json_search \
    json_set json_storage_free json_storage_size json_table json_type json_unquote json_valid json_value \
    kdf key keys kill lag last_day last_value lateral lcase lead leading least leave left length lengthb \
    less library like limit linear lines linestring list ln load load_file localtime localtimestamp locate \
    lock locked log log10 log2 long longblob longtext loop low_priority lower lpad ltrim make_set makedate \
    maketime master_gtid_wait master_pos_wait match materialized max maxvalue mbrcontains mbrcoveredby \
    mbrcovers mbrdisjoint mbrequals mbrintersects mbroverlaps mbrtouches mbrwithin md5 median mediumblob \
    mediumint mediumtext member microsecond mid middleint min minute_microsecond minute_second mod modifies \
    monthname multilinestring multipoint multipolygon name_const natural natural_sort_key nchar nested \
    nextval no_write_to_binlog not now nowait nth_value ntile null nullif numeric nvl nvl2 oct octet_length \
    of offset old_password on optimize optimizer_costs option optionally or ord order out outer outfile \
    over partition partitions password pathto percent_rank percentile_cont percentile_disc period_add \
    period_diff pi point polygon position pow power precision primary procedure ps_current_thread_id \
    ps_thread_id purge qualify quarter quote radians rand random_bytes range rank read read_write reads \
    real recursive references regexp regexp_instr regexp_like regexp_replace regexp_substr release rename \
    repeat replace require resignal restrict return returning reverse revoke right rlike roles_graphml \
    rollup round row row_count row_number rownum rows rpad rtree rtrim schema schemas sec_to_time \
    second_microsecond select sensitive separator serial session_user set setval sformat sha sha1 sha2 show \
    sign signal signed sin skip sleep smallint some soundex source_pos_wait space spatial specific sql \
    sql_big_result sql_calc_found_rows sql_small_result sqlexception sqlstate sqlwarning sqrt ssl st_area \
    st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_boundary st_buffer st_buffer_strategy \
    st_centroid st_collect st_contains st_convexhull st_crosses st_difference st_dimension st_disjoint \
    st_distance st_distance_sphere st_endpoint st_envelope st_equals st_exteriorring st_frechetdistance \
    st_geohash st_geomcollfromtext st_geomcollfromtxt st_geomcollfromwkb st_geometrycollectionfromtext \
    st_geometryfromtext st_geometryfromwkb st_geometryn st_geometrytype st_geomfromgeojson st_geomfromtext \
    st_geomfromwkb st_hausdorffdistance st_interiorringn st_intersection st_intersects st_isclosed \
    st_isempty st_isring st_issimple st_isvalid st_latfromgeohash st_latitude st_length st_linefromtext \
    st_linefromwkb st_lineinterpolatepoint st_linestringfromtext st_linestringfromwkb st_longfromgeohash \
    st_longitude st_makeenvelope st_mlinefromtext st_mpointfromtext st_mpolyfromtext st_numgeometries \
    st_numinteriorring st_numinteriorrings st_numpoints st_overlaps st_perimeter st_pointatdistance \
    st_pointfromgeohash st_pointfromtext st_pointfromwkb st_pointn st_pointonsurface st_polyfromtext \
    st_polyfromwkb st_polygonfromtext st_relate st_simplify st_srid st_startpoint st_swapxy \
    st_symdifference st_touches st_transform st_union st_validate st_within st_x st_y starting \
    statement_digest statement_digest_text std stddev stddev_pop stddev_samp stored str_to_date \
    straight_join strcmp string_to_vector subdate subpartition substr substring substring_index subtime sum \
    sys_guid sysdate system system_time system_user table tablesample tan terminated text than then time \
    time_format time_to_sec timediff timestamp timestampadd timestampdiff tinyblob tinyint tinytext to \
    to_base64 to_char to_date to_days to_number to_seconds to_vector trailing trigger trim true trunc \
    truncate ucase uncompress uncompressed_length undo unhex union unique unix_timestamp unlock unsigned \
    update updatexml upper usage use user using utc_date utc_time utc_timestamp uuid uuid_short uuid_to_bin \
    uuid_v4 uuid_v7 validate_password_strength value values var_pop var_samp varbinary varchar varcharacter \
    variance varying vec_distance vec_distance_cosine vec_distance_euclidean vec_fromtext vec_totext \
    vector_dim vector_to_string version virtual wait_for_executed_gtid_set \
    wait_until_sql_thread_after_gtids week weekday weekofyear weight_string when where while window with \
    within write wsrep_last_seen_gtid wsrep_last_written_gtid wsrep_sync_wait_upto_gtid xor year year_month \
    yearweek zerofill";

static KNOWN: LazyLock<HashSet<&'static [u8]>> =
    LazyLock::new(|| NAMES.split_ascii_whitespace().map(str::as_bytes).collect());

/// Longest name in the list, or more.
const LONGEST: usize = 40;

/// Is it a word of SQL's, or a function of the server's own?
pub(super) fn is_known(word: &[u8]) -> bool {
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    KNOWN.contains(&*lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_whatever_case() {
        for name in NAMES.split_ascii_whitespace() {
            assert!(is_known(name.to_ascii_uppercase().as_bytes()), "{name}");
        }
        for other in ["my_function", "", "get_lock", &"x".repeat(100)] {
            assert!(!is_known(other.as_bytes()), "{other}");
        }
    }
}
