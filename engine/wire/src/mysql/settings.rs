//! Bring a session's settings from one state to another.
//!
//! Only writes requests. Called by `relay` through `Dialect`.

use super::reply;
use super::spec::command;
use super::statement;
use crate::dialect::SettingChange;

/// Write the requests that make `changes`; returns how many they are.
pub fn write(out: &mut Vec<u8>, changes: &[SettingChange<'_>]) -> u8 {
    let mut requests = 0;
    let mut said = Vec::new();
    for (name, value) in changes {
        match (*name, value) {
            ("schema", Some(schema)) => {
                statement::write(out, command::INIT_DB, schema.as_bytes());
                requests += 1;
            }
            ("schema", None) => {}
            (name, None) => said.push(format!("{name} = DEFAULT")),
            (name, Some(value)) if name.starts_with('@') => said.push(format!("{name} = {value}")),
            (name, Some(value)) if value.parse::<i64>().is_ok() => said.push(format!("{name} = {value}")),
            (name, Some(value)) => said.push(format!("{name} = '{}'", value.replace('\'', "''"))),
        }
    }
    if !said.is_empty() {
        reply::query(out, format!("SET {}", said.join(", ")).as_bytes());
        requests += 1;
    }
    requests
}
