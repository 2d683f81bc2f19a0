//! The workers' reports as the lists that `_engine.pyi` names.
//!
//! Adds up what is kept per worker; otherwise only converts.

use std::collections::BTreeMap;

use maitred_reactor::mail::WorkerReport;
use maitred_relay::report::{ChannelRow, PoolRow, StatsRow};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Serialize;

#[derive(Serialize)]
struct WaitsRow {
    database: String,
    buckets: Vec<(u64, u64)>,
}

#[derive(Serialize)]
struct CounterOut {
    name: &'static str,
    labels: BTreeMap<&'static str, String>,
    value: u64,
}

#[derive(Serialize)]
struct WorkerRow {
    worker: u16,
    clients: u64,
    servers: u64,
    loops: u64,
    sockets: usize,
    backend: &'static str,
}

/// Does `what` need every client and server one by one?
pub fn needs_connections(what: &str) -> bool {
    matches!(what, "clients" | "servers" | "pins" | "channels")
}

/// The report `what`, from all workers.
pub fn to_list(py: Python<'_>, what: &str, reports: Vec<WorkerReport>) -> PyResult<Py<PyAny>> {
    match what {
        "pools" => rows(py, &pools(reports)),
        "clients" => {
            rows(py, &reports.into_iter().flat_map(|report| report.relay.clients).collect::<Vec<_>>())
        }
        "servers" => {
            rows(py, &reports.into_iter().flat_map(|report| report.relay.servers).collect::<Vec<_>>())
        }
        "channels" => rows(py, &channels(reports)),
        "pins" => rows(py, &reports.into_iter().flat_map(|report| report.relay.pins).collect::<Vec<_>>()),
        "stats" => rows(py, &stats(&reports).into_values().map(|(row, _)| row).collect::<Vec<_>>()),
        "waits" => {
            let waits = stats(&reports).into_iter();
            let waits = waits.map(|(database, (_, buckets))| WaitsRow {
                database,
                buckets: buckets.into_iter().collect(),
            });
            rows(py, &waits.collect::<Vec<_>>())
        }
        "counters" => rows(py, &counters(&reports)),
        "workers" => rows(py, &reports.iter().map(worker_row).collect::<Vec<_>>()),
        other => Err(PyValueError::new_err(format!("there is no report \"{other}\""))),
    }
}

fn rows<T: Serialize>(py: Python<'_>, rows: &Vec<T>) -> PyResult<Py<PyAny>> {
    Ok(pythonize::pythonize(py, rows)?.unbind())
}

fn channels(reports: Vec<WorkerReport>) -> Vec<ChannelRow> {
    let mut merged: BTreeMap<(String, String, String), ChannelRow> = BTreeMap::new();
    for row in reports.into_iter().flat_map(|report| report.relay.channels) {
        let key = (row.endpoint.clone(), row.database.clone(), row.channel.clone());
        match merged.get_mut(&key) {
            None => drop(merged.insert(key, row)),
            Some(sum) => sum.clients += row.clients,
        }
    }
    merged.into_values().collect()
}

fn pools(reports: Vec<WorkerReport>) -> Vec<PoolRow> {
    let mut merged: BTreeMap<(String, String, String, &str), PoolRow> = BTreeMap::new();
    for row in reports.into_iter().flat_map(|report| report.relay.pools) {
        let key = (row.database.clone(), row.user.clone(), row.endpoint.clone(), row.mode);
        match merged.get_mut(&key) {
            None => drop(merged.insert(key, row)),
            Some(sum) => {
                sum.clients += row.clients;
                sum.clients_active += row.clients_active;
                sum.clients_waiting += row.clients_waiting;
                sum.clients_cancelling += row.clients_cancelling;
                sum.servers_active += row.servers_active;
                sum.servers_idle += row.servers_idle;
                sum.servers_opening += row.servers_opening;
                sum.servers_closing += row.servers_closing;
                sum.servers_listening += row.servers_listening;
                sum.servers_cancelling += row.servers_cancelling;
                sum.max_wait_us = sum.max_wait_us.max(row.max_wait_us);
            }
        }
    }
    merged.into_values().collect()
}

/// Per database: its numbers, and how long its clients waited.
fn stats(reports: &[WorkerReport]) -> BTreeMap<String, (StatsRow, BTreeMap<u64, u64>)> {
    let mut merged: BTreeMap<String, (StatsRow, BTreeMap<u64, u64>)> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.relay.stats) {
        let fresh = || (StatsRow { database: row.database.clone(), ..StatsRow::default() }, BTreeMap::new());
        let (sum, waits) = merged.entry(row.database.clone()).or_insert_with(fresh);
        macro_rules! add {
            ($($field:ident),*) => { $(sum.$field += row.$field;)* };
        }
        add!(leases, transactions, queries, received_bytes, sent_bytes, transaction_us, query_us, wait_us);
        add!(
            client_parses,
            server_parses,
            binds,
            logins,
            client_errors,
            queue_timeouts,
            queue_refusals,
            healed
        );
        for (upper, count) in &row.waits {
            *waits.entry(*upper).or_default() += count;
        }
    }
    merged
}

fn counters(reports: &[WorkerReport]) -> Vec<CounterOut> {
    let mut sums: BTreeMap<(&'static str, BTreeMap<&'static str, String>), u64> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.relay.counters) {
        let labels = row.label.iter().cloned().collect();
        *sums.entry((row.name, labels)).or_default() += row.value;
    }
    sums.into_iter().map(|((name, labels), value)| CounterOut { name, labels, value }).collect()
}

fn worker_row(report: &WorkerReport) -> WorkerRow {
    let count = |name| report.relay.counters.iter().find(|row| row.name == name).map_or(0, |row| row.value);
    WorkerRow {
        worker: report.worker,
        clients: count("clients"),
        servers: count("servers"),
        loops: report.loops,
        sockets: report.sockets,
        backend: report.backend,
    }
}
