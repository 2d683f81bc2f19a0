//! A configuration for scenarios: one endpoint, one database, generous limits, to be changed by each.
//!
//! Only data. Used by `World` and by the scenarios in `tests`.

use maitred_wire::Dialect;

use crate::snapshot::{
    Address, Auth, AuthMethod, Database, Endpoint, Limits, ListenMode, MysqlMethod, Pinning, PoolMode,
    PoolOverrides, PoolSettings, ServerTls, Snapshot, SslMode, User, WhenDown,
};

pub fn pool_settings(size: u32) -> PoolSettings {
    PoolSettings {
        mode: PoolMode::Transaction,
        size,
        queue_timeout_ms: 30_000,
        connect_timeout_ms: 5_000,
        login_timeout_ms: 5_000,
        login_retry_ms: 100,
        login_retry_max_ms: 2_000,
        when_down: WhenDown::Wait,
        pinning: Pinning::Allow,
        pin_timeout_ms: 0,
        listen: ListenMode::Shared,
        listen_buffer_bytes: 1 << 20,
        server_statements_bytes: 1 << 20,
        client_statements_bytes: 1 << 20,
        client_state_bytes: 64 << 10,
        reset_query: "DISCARD ALL".into(),
        ..PoolSettings::without_limits()
    }
}

pub fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        name: name.into(),
        dialect: Dialect::Postgres,
        address: Address::Tcp { host: name.into(), port: 5432 },
        tls: ServerTls {
            mode: SslMode::Disable,
            ca_pem: None,
            certificate_pem: None,
            key_pem: None,
            minimum: "1.2".into(),
            direct: false,
        },
        max_servers: 0,
    }
}

pub fn database(name: &str, endpoint: usize, size: u32) -> Database {
    Database {
        name: name.into(),
        endpoint,
        remote_name: None,
        user: Some("app".into()),
        password: None,
        pool: pool_settings(size),
        stateful_functions: Vec::new(),
        stateful_tables: Vec::new(),
        parameters: Vec::new(),
        max_clients: 0,
        max_servers: 0,
        disabled: false,
    }
}

pub fn user(name: &str) -> User {
    User {
        name: name.into(),
        plain: None,
        md5: None,
        scram: None,
        mysql_native: None,
        mysql_sha2: None,
        mysql_ed25519: None,
        pool: PoolOverrides::default(),
        max_clients: 0,
        max_servers: 0,
        admin: false,
        stats: false,
    }
}

/// As `snapshot`, with database `store` at the MySQL endpoint `my1` beside it.
pub fn with_mysql(size: u32) -> Snapshot {
    let mut config = snapshot(size);
    config.endpoints.push(Endpoint { dialect: Dialect::Mysql, ..endpoint("my1") });
    let mut store = database("store", 1, size);
    store.pool.reset_query = "RESET CONNECTION".into();
    config.databases.push(store);
    config
}

/// Database `shop` at endpoint `db1`, served by at most `size` servers; every user is trusted.
pub fn snapshot(size: u32) -> Snapshot {
    Snapshot {
        number: 1,
        listeners: Vec::new(),
        client_tls: None,
        endpoints: vec![endpoint("db1")],
        databases: vec![database("shop", 0, size)],
        users: Vec::new(),
        auth: Auth { method: AuthMethod::Trust, mysql_method: MysqlMethod::Trust, ask_unknown: false },
        limits: Limits {
            clients: 0,
            servers: 0,
            clients_per_user: 0,
            servers_per_user: 0,
            logins: 0,
            client_login_timeout_ms: 60_000,
            buffer_bytes: 64 * 1024,
            message_bytes: 1 << 30,
            drain_timeout_ms: 0,
            keepalive_idle_s: 0,
            keepalive_interval_s: 0,
            keepalive_count: 0,
            tcp_user_timeout_ms: 0,
            listen_backlog: 0,
            mysql_version: "8.0.0-maitred".into(),
        },
        console_names: vec!["maitred".into()],
        slow_query_ms: 0,
        log_connections: true,
    }
}
