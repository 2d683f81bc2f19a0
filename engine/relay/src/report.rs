//! Pictures of one moment for operators: rows as `_engine.pyi` names them.
//!
//! Reads everything, changes nothing. Called by the worker when Python asks; `binding` turns the
//! rows into Python values.

use serde::Serialize;

use crate::client::State as ClientState;
use crate::ids::Time;
use crate::server::State;
use crate::snapshot::PoolMode;
use crate::Relay;

#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolRow {
    pub protocol: &'static str,
    pub database: String,
    pub user: String,
    pub endpoint: String,
    pub mode: &'static str,
    pub size: u32,
    pub min_size: u32,
    pub reserve_size: u32,
    pub clients: u32,
    pub clients_active: u32,
    pub clients_waiting: u32,
    pub clients_cancelling: u32,
    pub servers_active: u32,
    pub servers_idle: u32,
    pub servers_opening: u32,
    pub servers_closing: u32,
    pub servers_listening: u32,
    pub servers_cancelling: u32,
    pub max_wait_us: u64,
    pub paused: bool,
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClientRow {
    pub id: u64,
    pub protocol: &'static str,
    pub worker: u16,
    pub user: String,
    pub database: String,
    pub state: &'static str,
    pub address: String,
    pub port: u16,
    pub local_address: String,
    pub local_port: u16,
    pub connected_us: u64,
    pub request_us: u64,
    pub wait_us: u64,
    pub server: Option<u64>,
    pub tls: bool,
    pub application_name: String,
    pub prepared_statements: usize,
    pub replication: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServerRow {
    pub id: u64,
    pub protocol: &'static str,
    pub worker: u16,
    pub user: String,
    pub database: String,
    pub endpoint: String,
    pub state: &'static str,
    pub address: String,
    pub port: u16,
    pub local_address: String,
    pub local_port: u16,
    pub connected_us: u64,
    pub request_us: u64,
    pub client: Option<u64>,
    pub pid: u32,
    pub tls: bool,
    pub application_name: String,
    pub prepared_statements: usize,
    pub leases: u64,
}

/// A client that keeps its server beyond a transaction.
#[derive(Clone, Debug, Serialize)]
pub struct PinRow {
    pub client: u64,
    pub server: u64,
    pub user: String,
    pub database: String,
    pub reasons: Vec<&'static str>,
    pub since_us: u64,
    pub shape: String,
}

/// What clients of this worker listen to through a shared server.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelRow {
    pub endpoint: String,
    /// As the endpoint calls it.
    pub database: String,
    pub channel: String,
    pub clients: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct StatsRow {
    pub database: String,
    pub leases: u64,
    pub transactions: u64,
    pub queries: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub transaction_us: u64,
    pub query_us: u64,
    pub wait_us: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    pub logins: u64,
    pub client_errors: u64,
    pub queue_timeouts: u64,
    pub queue_refusals: u64,
    pub healed: u64,
    /// (largest value in microseconds, count) of the time clients waited for a server.
    #[serde(skip)]
    pub waits: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CounterRow {
    pub name: &'static str,
    pub label: Option<(&'static str, String)>,
    pub value: u64,
}

/// Everything one worker has to report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub pools: Vec<PoolRow>,
    pub clients: Vec<ClientRow>,
    pub servers: Vec<ServerRow>,
    pub pins: Vec<PinRow>,
    pub channels: Vec<ChannelRow>,
    pub stats: Vec<StatsRow>,
    pub counters: Vec<CounterRow>,
}

/// How much of a statement's shape is shown.
const SHAPE_SHOWN: usize = 512;

impl Relay {
    /// The picture of `now`. Clients and servers one by one only if asked: there may be very many.
    pub fn report(&self, now: Time, with_connections: bool) -> Report {
        let mut pools: Vec<PoolRow> = self.pools.iter().map(|pool| self.pool_row(pool, now)).collect();
        for client in self.clients.values() {
            if let Some(row) = pools.get_mut(client.pool.0 as usize) {
                row.clients += 1;
                row.clients_active +=
                    u32::from(matches!(client.state, ClientState::Leased(_) | ClientState::Raw(_)));
            }
        }
        for server in self.servers.values() {
            let row = &mut pools[server.pool.0 as usize];
            match server.state {
                State::Opening(_) => row.servers_opening += 1,
                State::Idle => row.servers_idle += 1,
                State::Leased(_) | State::Raw(_) => row.servers_active += 1,
                State::Cleaning { .. } | State::Moving(_) => row.servers_closing += 1,
                State::Listening(_) => row.servers_listening += 1,
            }
            row.servers_cancelling += u32::from(server.is_cancelling);
        }
        let mut report =
            Report { pools, stats: self.stats_rows(), counters: self.counter_rows(), ..Report::default() };
        if with_connections {
            report.clients = self.client_rows(now);
            report.servers = self.server_rows(now);
            report.pins = self.pin_rows(now);
            report.channels = self.channel_rows();
        }
        report
    }

    fn pool_row(&self, pool: &crate::pool::Pool, now: Time) -> PoolRow {
        let settings = &pool.route.settings;
        let oldest = pool
            .waiters
            .iter()
            .find(|(id, since)| self.clients.get(*id).is_some_and(|client| client.is_waiting_since(*since)));
        PoolRow {
            protocol: pool.route.endpoint.dialect.name(),
            database: pool.shared.key.database.clone(),
            user: pool.shared.key.user.clone(),
            endpoint: pool.shared.key.endpoint.clone(),
            mode: mode_name(settings.mode),
            size: settings.size,
            min_size: settings.min_size,
            reserve_size: settings.reserve_size,
            clients_waiting: pool.waiting + pool.welcome_waiters.len() as u32,
            max_wait_us: oldest.map_or(0, |(_, since)| now.since(*since)),
            paused: pool.is_paused(),
            last_error: pool.shared.trouble().map(|trouble| trouble.cause),
            ..PoolRow::default()
        }
    }

    fn stats_rows(&self) -> Vec<StatsRow> {
        let row = |pool: &crate::pool::Pool| {
            let counters = &pool.counters;
            StatsRow {
                database: pool.shared.key.database.clone(),
                leases: counters.leases,
                transactions: counters.transactions,
                queries: counters.queries,
                received_bytes: counters.received_bytes,
                sent_bytes: counters.sent_bytes,
                transaction_us: counters.transaction_us,
                query_us: counters.query_us,
                wait_us: counters.wait_us,
                client_parses: counters.client_parses,
                server_parses: counters.server_parses,
                binds: counters.binds,
                logins: counters.logins,
                client_errors: counters.client_errors,
                queue_timeouts: counters.queue_timeouts,
                queue_refusals: counters.queue_refusals,
                healed: counters.healed,
                waits: counters.waits.filled(),
            }
        };
        self.pools.iter().map(row).collect()
    }

    fn counter_rows(&self) -> Vec<CounterRow> {
        let counters = &self.counters;
        let plain = |name, value| CounterRow { name, label: None, value };
        let mut rows = vec![
            plain("login_failures", counters.login_failures),
            plain("cancel_requests", counters.cancel_requests),
            plain("servers_opened", counters.servers_opened),
            plain("servers_moved", counters.servers_moved),
            plain("notifications_heard", counters.notifications_heard),
            plain("notifications_told", counters.notifications_told),
            plain("channels", self.channel_count() as u64),
            plain("clients", self.clients.len() as u64),
            plain("servers", self.servers.len() as u64),
            plain(
                "logins_under_way",
                self.logins.iter().filter(|id| self.clients.contains_key(**id)).count() as u64,
            ),
        ];
        let by_reason = |name, ends: &std::collections::BTreeMap<&'static str, u64>| {
            let row = move |(reason, value): (&&'static str, &u64)| CounterRow {
                name,
                label: Some(("reason", (*reason).to_owned())),
                value: *value,
            };
            ends.iter().map(row).collect::<Vec<_>>()
        };
        rows.extend(by_reason("pins", &counters.pins));
        rows.extend(by_reason("clients_closed", &counters.client_ends));
        rows.extend(by_reason("servers_closed", &counters.server_ends));
        rows
    }

    fn client_rows(&self, now: Time) -> Vec<ClientRow> {
        let row = |(id, client): (crate::ids::ClientId, &crate::client::Client)| {
            let (address, port) = split_address(&client.address);
            let (local_address, local_port) = split_address(&client.local_address);
            let server = match client.state {
                ClientState::Leased(server) | ClientState::Raw(server) => Some(server),
                _ => None,
            };
            ClientRow {
                id: crate::public_client_id(self.worker, id),
                protocol: client.dialect.name(),
                worker: self.worker.0,
                user: client.identity.user.clone(),
                database: client.identity.database.clone(),
                state: match client.state {
                    ClientState::Login(_) | ClientState::Welcome(_) => "login",
                    ClientState::Idle | ClientState::Skipping => "idle",
                    ClientState::Waiting { .. } => "waiting",
                    ClientState::Leased(_) | ClientState::Raw(_) => "active",
                    ClientState::Console { .. } => "active",
                },
                address,
                port,
                local_address,
                local_port,
                connected_us: now.since(client.opened_at),
                request_us: if client.asked_at == Time::NEVER { 0 } else { now.since(client.asked_at) },
                wait_us: match client.state {
                    ClientState::Waiting { since } => now.since(since),
                    _ => 0,
                },
                server: server.map(|server| crate::public_server_id(self.worker, server)),
                tls: client.is_tls,
                application_name: client.settings.value("application_name").unwrap_or_default().to_owned(),
                prepared_statements: client.statements.as_ref().map_or(0, |statements| statements.len()),
                replication: matches!(client.state, ClientState::Raw(_)),
            }
        };
        self.clients.iter().map(row).collect()
    }

    fn channel_rows(&self) -> Vec<ChannelRow> {
        let heard = self.heard.iter().flat_map(|(key, heard)| heard.iter().map(move |of| (key, of)));
        heard
            .map(|(key, (channel, clients))| ChannelRow {
                endpoint: key.endpoint.clone(),
                database: key.database.clone(),
                channel: channel.to_string(),
                clients: clients.len(),
            })
            .collect()
    }

    fn pin_rows(&self, now: Time) -> Vec<PinRow> {
        let row = |(id, server): (crate::ids::ServerId, &crate::server::Server)| {
            let trace = server.trace.as_ref().filter(|trace| !trace.pins.is_empty())?;
            let client = server.client()?;
            let mut shape = String::new();
            server.dialect.shape(&trace.text, &mut shape, SHAPE_SHOWN);
            Some(PinRow {
                client: crate::public_client_id(self.worker, client),
                server: crate::public_server_id(self.worker, id),
                user: self.clients.get(client).map(|client| client.identity.user.clone()).unwrap_or_default(),
                database: server.shared.key.database.clone(),
                reasons: trace.pins.names().collect(),
                since_us: now.since(trace.since),
                shape,
            })
        };
        self.servers.iter().filter_map(row).collect()
    }

    fn server_rows(&self, now: Time) -> Vec<ServerRow> {
        let row = |(id, server): (crate::ids::ServerId, &crate::server::Server)| {
            let (address, port) = split_address(&server.address);
            let (local_address, local_port) = split_address(&server.local_address);
            let client = match server.state {
                State::Leased(client) | State::Raw(client) => Some(client),
                _ => None,
            };
            ServerRow {
                id: crate::public_server_id(self.worker, id),
                protocol: server.dialect.name(),
                worker: self.worker.0,
                user: server.shared.key.user.clone(),
                database: server.shared.key.database.clone(),
                endpoint: server.shared.key.endpoint.clone(),
                state: match server.state {
                    State::Opening(_) => "opening",
                    State::Idle => "idle",
                    State::Leased(_) | State::Raw(_) => "active",
                    State::Cleaning { .. } => "cleaning",
                    State::Moving(_) => "moving",
                    State::Listening(_) => "listening",
                },
                address,
                port,
                local_address,
                local_port,
                connected_us: now.since(server.opened_at),
                request_us: if server.asked_at == Time::NEVER { 0 } else { now.since(server.asked_at) },
                client: client.map(|client| crate::public_client_id(self.worker, client)),
                pid: server.key.pid,
                tls: server.tls,
                application_name: server.settings.value("application_name").unwrap_or_default().to_owned(),
                prepared_statements: server.statements.len(),
                leases: server.leases,
            }
        };
        self.servers.iter().map(row).collect()
    }
}

fn mode_name(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

/// "host:port" apart; a path stays whole, with port 0.
fn split_address(text: &str) -> (String, u16) {
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) if !text.starts_with('/') => (host.trim_matches(['[', ']']).to_owned(), port),
        _ => (text.to_owned(), 0),
    }
}
