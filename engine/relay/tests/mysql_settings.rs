//! What MySQL's clients set, and what of it is found on whatever server they get.
//!
//! Never touches a socket; what must not be met by others is in `mysql_random`, too.

use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::World;

#[test]
fn a_client_is_told_what_changes_in_its_session() {
    let mut world = World::new(with_mysql(1));
    let client = world.login_mysql(0);
    assert_eq!(world.run_sql(client, "SET autocommit=0"), "S:autocommit=OFF C:ok Z:I");
    assert_eq!(world.run_sql(client, "BEGIN"), "C:ok Z:T");
    assert_eq!(world.run_sql(client, "SET sql_mode='b'"), "C:ok Z:T");
    assert_eq!(world.run_sql(client, "USE here"), "S:schema=here C:ok Z:T");
    world.everybody_leaves();
}
