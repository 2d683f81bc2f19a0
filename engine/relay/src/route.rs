//! Which pool serves this client: look-ups in a snapshot, prepared once when it is applied.
//!
//! Decides nothing that Python has not decided; no sockets, no clock. Built by `reactor::engine`
//! for all workers at once, read by `login` and `pool`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use maitred_wire::auth::{caching_sha2, ed25519, mysql_native, scram};
use maitred_wire::effects::Stateful;
use maitred_wire::handshake::Credentials;
use maitred_wire::Dialect;

use crate::budget::{Level, PoolKey, Shared};
use crate::snapshot::{Database, Endpoint, PoolMode, PoolOverrides, PoolSettings, Snapshot, User};

/// A user as login needs it.
#[derive(Debug)]
pub struct KnownUser {
    pub credentials: Credentials,
    pub overrides: PoolOverrides,
    pub max_clients: u32,
    pub max_servers: u32,
    pub admin: bool,
    pub stats: bool,
}

/// Functions and tables that touch the session; None rather than none, so that nobody looks for them.
type AllStateful = Arc<[Stateful]>;

/// What Python answered about users that the snapshot does not hold.
type Answers = HashMap<String, Option<Arc<KnownUser>>>;

/// A snapshot with its look-up tables.
#[derive(Debug)]
pub struct Routes {
    pub snapshot: Snapshot,
    databases: HashMap<String, usize>,
    users: HashMap<String, Arc<KnownUser>>,
    endpoints: Vec<Arc<Endpoint>>,
    /// Of each database, in their order.
    stateful: Vec<Option<AllStateful>>,
    /// Grows by one entry per user asked about, at most [`ANSWERS_KEPT`]; gone with the snapshot.
    answers: Mutex<Answers>,
}

/// Answers about unknown users that are remembered at a time.
const ANSWERS_KEPT: usize = 10_000;

/// Where a client's requests go.
#[derive(Clone, Debug)]
pub struct Route {
    pub key: PoolKey,
    pub settings: PoolSettings,
    pub endpoint: Arc<Endpoint>,
    pub remote_database: String,
    pub password: Option<String>,
    pub parameters: Vec<(String, String)>,
    pub stateful: Option<AllStateful>,
    pub max_database_servers: u32,
    pub max_user_servers: u32,
}

impl Routes {
    /// Prepare `snapshot` and bring the limits of `shared` to what it says.
    ///
    /// # Errors
    /// What in the snapshot cannot be used, in words.
    pub fn new(snapshot: Snapshot, shared: &Shared) -> Result<Arc<Routes>, String> {
        let mut users = HashMap::with_capacity(snapshot.users.len());
        for user in &snapshot.users {
            users.insert(user.name.clone(), Arc::new(known_user(user)?));
        }
        let databases =
            snapshot.databases.iter().enumerate().map(|(at, database)| (database.name.clone(), at)).collect();
        if let Some(lost) = snapshot.databases.iter().find(|d| d.endpoint >= snapshot.endpoints.len()) {
            return Err(format!("database \"{}\" names an endpoint that is not there", lost.name));
        }
        shared.clients.set_limit(snapshot.limits.clients);
        shared.servers.set_limit(snapshot.limits.servers);
        shared.logins.set_limit(snapshot.limits.logins);
        for database in &snapshot.databases {
            shared.named(Level::DatabaseClients, &database.name, database.max_clients);
            shared.named(Level::DatabaseServers, &database.name, database.max_servers);
        }
        for user in &snapshot.users {
            shared.named(
                Level::UserClients,
                &user.name,
                or(user.max_clients, snapshot.limits.clients_per_user),
            );
            shared.named(
                Level::UserServers,
                &user.name,
                or(user.max_servers, snapshot.limits.servers_per_user),
            );
        }
        let stateful = snapshot.databases.iter().map(|database| {
            let functions = database.stateful_functions.iter();
            let tables = database.stateful_tables.iter();
            let all: AllStateful = functions
                .map(|(name, touched)| Stateful::function(name, touched))
                .chain(tables.map(|(name, touched)| Stateful::table(name, touched)))
                .collect();
            (!all.is_empty()).then_some(all)
        });
        let stateful = stateful.collect();
        let endpoints = snapshot.endpoints.iter().cloned().map(Arc::new).collect();
        Ok(Arc::new(Routes { snapshot, databases, users, endpoints, stateful, answers: Mutex::default() }))
    }

    pub fn database(&self, name: &str) -> Option<&Database> {
        Some(&self.snapshot.databases[self.place(name)?])
    }

    /// The database of this name, if its endpoint speaks `dialect`.
    pub fn database_in(&self, dialect: Dialect, name: &str) -> Option<&Database> {
        self.database(name).filter(|database| self.dialect_of(database) == dialect)
    }

    /// The database of a client that named none: the one named like its user, else the only one of its
    /// dialect, else `*`.
    pub fn home(&self, dialect: Dialect, user: &str) -> Option<&Database> {
        let named = |name| self.databases.get(name).map(|at| &self.snapshot.databases[*at]);
        let speaks = |database: &&Database| self.dialect_of(database) == dialect;
        if let Some(own) = named(user).filter(speaks) {
            return Some(own);
        }
        let mut speakers = self.snapshot.databases.iter().filter(speaks);
        match (speakers.next(), speakers.next()) {
            (Some(only), None) => Some(only),
            _ => named("*").filter(speaks),
        }
    }

    fn dialect_of(&self, database: &Database) -> Dialect {
        self.endpoints[database.endpoint].dialect
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.databases.get(name).or_else(|| self.databases.get("*")).copied()
    }

    pub fn is_console(&self, database: &str) -> bool {
        // Why: a database that is configured under the console's name wins.
        !self.databases.contains_key(database)
            && self.snapshot.console_names.iter().any(|name| name == database)
    }

    /// The user, if the snapshot or an earlier answer knows it. `Err`: nobody has been asked yet.
    #[allow(clippy::result_unit_err)]
    pub fn user(&self, name: &str) -> Result<Option<Arc<KnownUser>>, ()> {
        if let Some(user) = self.users.get(name) {
            return Ok(Some(Arc::clone(user)));
        }
        if !self.snapshot.auth.ask_unknown {
            return Ok(None);
        }
        self.answers.lock().expect("answers").get(name).cloned().ok_or(())
    }

    /// How many clients this user may have; users whom nobody knows have the limit of all.
    pub fn client_limit(&self, known: Option<&KnownUser>) -> u32 {
        or(known.map_or(0, |known| known.max_clients), self.snapshot.limits.clients_per_user)
    }

    /// How many servers may be open for this user.
    pub fn server_limit(&self, known: Option<&KnownUser>) -> u32 {
        or(known.map_or(0, |known| known.max_servers), self.snapshot.limits.servers_per_user)
    }

    /// Remember what Python said about a user; None: nobody knows it.
    pub fn remember_user(&self, name: &str, user: Option<KnownUser>) -> Option<Arc<KnownUser>> {
        let user = user.map(Arc::new);
        let mut answers = self.answers.lock().expect("answers");
        if answers.len() >= ANSWERS_KEPT {
            answers.clear();
        }
        answers.insert(name.to_owned(), user.clone());
        user
    }

    /// The route of a pool that exists, as this snapshot has it; None: its database is gone.
    pub fn route_of_pool(&self, key: &PoolKey) -> Option<Route> {
        let mut route = self.route(&key.database, &key.user)?;
        if route.key.user != key.user || route.key.endpoint != key.endpoint {
            return None;
        }
        route.key.mode = key.mode;
        route.settings.mode = key.mode;
        Some(route)
    }

    /// What `database` is called at its endpoint, where the configuration does not say it; `*` is only asked for by
    /// clients that named none.
    fn remote_name(&self, entry: &Database, database: &str) -> String {
        let neutral = self.dialect_of(entry).neutral_database().filter(|_| database == "*");
        neutral.unwrap_or(database).to_owned()
    }

    /// The pool for `user` on `database`, which must exist.
    pub fn route(&self, database: &str, user: &str) -> Option<Route> {
        let entry = self.database(database)?;
        let known = self.user(user).ok().flatten();
        let mut settings = entry.pool.clone();
        if let Some(known) = &known {
            known.overrides.apply_to(&mut settings);
        }
        let endpoint = Arc::clone(&self.endpoints[entry.endpoint]);
        let (server_user, password) = match &entry.user {
            Some(forced) => (forced.clone(), entry.password.clone()),
            None => (user.to_owned(), known.as_ref().and_then(|known| known.credentials.plain.clone())),
        };
        Some(Route {
            key: PoolKey {
                database: database.to_owned(),
                user: server_user,
                endpoint: endpoint.name.clone(),
                mode: settings.mode,
            },
            settings,
            endpoint,
            remote_database: entry.remote_name.clone().unwrap_or_else(|| self.remote_name(entry, database)),
            password,
            parameters: entry.parameters.clone(),
            stateful: self.stateful[self.place(database)?].clone(),
            max_database_servers: entry.max_servers,
            max_user_servers: self.server_limit(known.as_deref()),
        })
    }
}

impl PoolOverrides {
    fn apply_to(&self, settings: &mut PoolSettings) {
        fn over<T: Copy>(value: &mut T, wish: Option<T>) {
            if let Some(wish) = wish {
                *value = wish;
            }
        }
        over::<PoolMode>(&mut settings.mode, self.mode);
        over(&mut settings.size, self.size);
        over(&mut settings.min_size, self.min_size);
        over(&mut settings.reserve_size, self.reserve_size);
        over(&mut settings.queue_timeout_ms, self.queue_timeout_ms);
        over(&mut settings.query_timeout_ms, self.query_timeout_ms);
        over(&mut settings.idle_transaction_timeout_ms, self.idle_transaction_timeout_ms);
        over(&mut settings.transaction_timeout_ms, self.transaction_timeout_ms);
        over(&mut settings.client_idle_timeout_ms, self.client_idle_timeout_ms);
    }
}

/// A user's own limit, or that of all users.
fn or(own: u32, of_all: u32) -> u32 {
    if own > 0 {
        own
    } else {
        of_all
    }
}

/// A user as login needs it.
///
/// # Errors
/// What is stored of the password cannot be read.
pub fn known_user(user: &User) -> Result<KnownUser, String> {
    fn read<T>(
        user: &User,
        stored: &Option<String>,
        parse: impl FnOnce(&str) -> Option<T>,
        what: &str,
    ) -> Result<Option<T>, String> {
        let Some(text) = stored else { return Ok(None) };
        parse(text)
            .map(Some)
            .ok_or_else(|| format!("users.{}: the {what} cannot be read; copy it whole", user.name))
    }
    Ok(KnownUser {
        credentials: Credentials {
            plain: user.plain.clone(),
            md5: user.md5.clone(),
            scram: read(user, &user.scram, scram::Verifier::parse, "SCRAM-SHA-256 verifier")?,
            native: read(user, &user.mysql_native, mysql_native::parse, "hash of 40 digits behind a *")?,
            sha2: read(user, &user.mysql_sha2, caching_sha2::Verifier::parse, "hash that begins with $A$")?,
            fast: None,
            ed25519: read(user, &user.mysql_ed25519, ed25519::parse, "ed25519 key")?,
        },
        overrides: user.pool.clone(),
        max_clients: user.max_clients,
        max_servers: user.max_servers,
        admin: user.admin,
        stats: user.stats,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::setup;
    use crate::snapshot;

    fn routes(databases: &[(&str, Dialect)]) -> Arc<Routes> {
        let mut config = setup::snapshot(1);
        config.endpoints = vec![setup::endpoint("pg"), setup::endpoint("my")];
        config.endpoints[1].dialect = Dialect::Mysql;
        let database = |(name, dialect): &(&str, Dialect)| -> snapshot::Database {
            setup::database(name, usize::from(*dialect == Dialect::Mysql), 1)
        };
        config.databases = databases.iter().map(database).collect();
        Routes::new(config, &Shared::new(1, [0; 32])).unwrap()
    }

    fn home(databases: &[(&str, Dialect)], user: &str) -> Option<String> {
        routes(databases).home(Dialect::Mysql, user).map(|database| database.name.clone())
    }

    #[test]
    fn a_database_is_there_for_clients_of_its_dialect_only() {
        let routes = routes(&[("shop", Dialect::Postgres), ("*", Dialect::Mysql)]);
        assert!(routes.database_in(Dialect::Mysql, "shop").is_none());
        assert!(routes.database_in(Dialect::Postgres, "shop").is_some());
        assert!(routes.database_in(Dialect::Mysql, "other").is_some());
        assert!(routes.database_in(Dialect::Postgres, "other").is_none());
    }

    #[test]
    fn a_client_that_names_no_database_gets_its_own_the_only_one_or_any() {
        let (pg, my) = (Dialect::Postgres, Dialect::Mysql);
        assert_eq!(home(&[("ann", my), ("shop", my)], "ann").as_deref(), Some("ann"));
        assert_eq!(home(&[("ann", pg), ("shop", my)], "ann").as_deref(), Some("shop"));
        assert_eq!(home(&[("ann", pg), ("shop", my)], "bob").as_deref(), Some("shop"));
        assert_eq!(home(&[("shop", my), ("till", my), ("*", my)], "bob").as_deref(), Some("*"));
        assert_eq!(home(&[("shop", my), ("till", my)], "bob"), None);
        assert_eq!(home(&[("shop", pg), ("*", pg)], "bob"), None);
    }

    #[test]
    fn a_client_of_any_database_that_named_none_works_in_one_that_everybody_has() {
        let (pg, my) = (Dialect::Postgres, Dialect::Mysql);
        let remote =
            |dialect, name: &str| routes(&[("*", dialect)]).route(name, "ann").unwrap().remote_database;
        assert_eq!(remote(my, "*"), "information_schema");
        assert_eq!(remote(my, "shop"), "shop");
        assert_eq!(remote(pg, "*"), "*");
    }

    #[test]
    fn what_a_database_stores_of_a_password_is_read_or_refused() {
        let user = User {
            mysql_native: Some(format!("*{}", "0A".repeat(20))),
            mysql_sha2: Some(format!("$A$005${}{}", "s".repeat(20), "h".repeat(42) + ".")),
            mysql_ed25519: Some("A".repeat(43)),
            ..setup::user("ann")
        };
        let known = known_user(&user).unwrap().credentials;
        assert_eq!(known.native, Some([10; 20]));
        assert!(known.sha2.is_some());
        assert_eq!(known.ed25519, Some([0; 32]));
        for damaged in [
            User { mysql_native: Some("*0A".into()), ..setup::user("ann") },
            User { mysql_sha2: Some("$A$005$".into()), ..setup::user("ann") },
            User { mysql_ed25519: Some("A".into()), ..setup::user("ann") },
        ] {
            let cause = known_user(&damaged).unwrap_err();
            assert!(cause.starts_with("users.ann: the ") && cause.ends_with("copy it whole"), "{cause}");
        }
    }
}
