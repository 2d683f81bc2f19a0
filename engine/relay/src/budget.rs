//! Limits that hold over all workers: exact counts, shared by atomics.
//!
//! Counts and flags only; who waits and who is lent to is `pool`'s matter, per worker. Created by
//! `route` when a snapshot is applied; every relay holds the same `Arc`s.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::ids::{Time, WorkerId};
use crate::proven::Proven;
use crate::session_state::Settings;
use crate::snapshot::PoolMode;

/// A count that never exceeds its limit.
#[derive(Debug)]
pub struct Budget {
    /// The setting that limits it, and of whom, for errors: `limits.clients`, `databases.shop.max_servers`.
    pub setting: String,
    limit: AtomicU32,
    used: AtomicU32,
}

impl Budget {
    pub fn new(setting: impl Into<String>, limit: u32) -> Arc<Budget> {
        Arc::new(Budget { setting: setting.into(), limit: AtomicU32::new(limit), used: AtomicU32::new(0) })
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }

    /// Take one place if fewer than the limit plus `extra` are taken. A limit of 0 is no limit.
    fn try_take(&self, extra: u32) -> bool {
        let limit = self.limit();
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (limit == 0 || used < limit.saturating_add(extra)).then_some(used + 1)
            })
            .is_ok()
    }

    /// Would there be a place, with `extra` beyond the limit?
    pub fn has_place(&self, extra: u32) -> bool {
        let limit = self.limit();
        limit == 0 || self.used() < limit.saturating_add(extra)
    }

    fn give_back(&self) {
        let before = self.used.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a place was given back twice: {}", self.setting);
    }
}

/// Places held in several budgets at once; given back when dropped, so no path can forget.
#[derive(Debug, Default)]
pub struct Permit {
    held: Vec<Arc<Budget>>,
}

impl Permit {
    /// Take one place in each of `budgets`, or none.
    ///
    /// `extra` raises the limit of the last one (a pool's reserve).
    ///
    /// # Errors
    /// The first budget that is full.
    pub fn take(budgets: &[&Arc<Budget>], extra: u32) -> Result<Permit, Arc<Budget>> {
        let mut permit = Permit { held: Vec::with_capacity(budgets.len()) };
        for (at, budget) in budgets.iter().enumerate() {
            let extra = if at + 1 == budgets.len() { extra } else { 0 };
            if !budget.try_take(extra) {
                return Err(Arc::clone(budget));
            }
            permit.held.push(Arc::clone(budget));
        }
        Ok(permit)
    }

    /// Does it hold a place in this very budget?
    pub fn holds(&self, budget: &Arc<Budget>) -> bool {
        self.held.iter().any(|held| Arc::ptr_eq(held, budget))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for budget in self.held.drain(..) {
            budget.give_back();
        }
    }
}

/// What identifies a pool: servers of one endpoint, database and user are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// As clients say it.
    pub database: String,
    /// As the server knows it.
    pub user: String,
    pub endpoint: String,
    /// Why: a user's own mode must not meet servers that sessions of another mode have used.
    pub mode: PoolMode,
}

/// Settings a fresh server of a pool reports: what a client is told at its login.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    pub settings: Settings,
}

/// One worker's share of a pool, published for the others.
///
/// Why aligned: each worker writes its own at every lease; on one cache line they would slow each other.
#[derive(Debug)]
#[repr(align(128))]
pub struct Share {
    pub idle: AtomicU32,
    pub waiting: AtomicU32,
    /// Arrival of its oldest waiter; `Time::NEVER` when nobody waits.
    pub oldest_wait: AtomicU64,
    /// What it has agreed on, which its server must have, too.
    pub oldest_flags: AtomicU64,
}

/// Why a pool has no server, last time it tried.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// In the database's or the system's own words.
    pub cause: String,
    /// Its SQLSTATE, and its number where it has one.
    pub code: Option<DatabaseCode>,
    pub at: Time,
    /// Waiting will not help: wrong password, no such database.
    pub lasting: bool,
}

/// A database's own SQLSTATE and, where it has numbers, the number of an error.
pub type DatabaseCode = ([u8; 5], Option<u16>);

/// What all workers know of one pool.
#[derive(Debug)]
pub struct PoolShared {
    pub key: PoolKey,
    pub servers: Arc<Budget>,
    pub shares: Box<[Share]>,
    /// Somebody is opening a server; one at a time per pool.
    opening: AtomicBool,
    /// No attempt before this moment.
    retry_at: AtomicU64,
    failures: AtomicU32,
    /// Next moment the connect rate allows.
    rate_at: AtomicU64,
    pub paused: AtomicBool,
    /// Clients ask in their transactions what sequences gave them.
    pub reads_sequences: AtomicBool,
    /// A client has asked which number the last row got: what servers say of it in passing is not always that.
    pub reads_insert_id: AtomicBool,
    /// Servers opened before this moment are closed when free (RECONNECT, new credentials).
    pub stale_before: AtomicU64,
    /// As `stale_before`, but for those that listen for clients: somebody wants nobody in the database, and
    /// who listens is somebody.
    pub vacated_before: AtomicU64,
    /// Counts what passed that may have changed what names stand for; shared by the database's pools.
    pub definitions: Arc<AtomicU64>,
    /// Clear text was refused, and TLS is allowed.
    wants_tls: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    welcome: Mutex<Option<Arc<Welcome>>>,
    /// (salt, iterations, salted password): PBKDF2 is paid once.
    salted: Mutex<Option<Salted>>,
}

pub type Salted = (Vec<u8>, u32, [u8; 32]);

impl PoolShared {
    pub fn new(key: PoolKey, size: u32, workers: usize, definitions: Arc<AtomicU64>) -> Arc<PoolShared> {
        let setting = format!("pool.size of \"{}\"", key.database);
        Arc::new(PoolShared {
            servers: Budget::new(setting, size),
            shares: (0..workers)
                .map(|_| Share {
                    idle: AtomicU32::new(0),
                    waiting: AtomicU32::new(0),
                    oldest_wait: AtomicU64::new(u64::MAX),
                    oldest_flags: AtomicU64::new(0),
                })
                .collect(),
            opening: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            rate_at: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            reads_sequences: AtomicBool::new(false),
            reads_insert_id: AtomicBool::new(false),
            stale_before: AtomicU64::new(0),
            vacated_before: AtomicU64::new(0),
            definitions,
            wants_tls: AtomicBool::new(false),
            trouble: Mutex::new(None),
            welcome: Mutex::new(None),
            salted: Mutex::new(None),
            key,
        })
    }

    /// Be the one who opens a server. False: somebody else is at it.
    pub fn try_begin_opening(&self) -> bool {
        !self.opening.swap(true, Ordering::AcqRel)
    }

    pub fn end_opening(&self) {
        self.opening.store(false, Ordering::Release);
    }

    pub fn is_opening(&self) -> bool {
        self.opening.load(Ordering::Acquire)
    }

    pub fn retry_at(&self) -> Time {
        Time(self.retry_at.load(Ordering::Acquire))
    }

    /// Note a failed attempt: the next one not before a pause that doubles, with jitter. After a refusal it
    /// does not grow: nobody waits through it, and whoever comes causes one more try.
    /// Returns the pause in milliseconds.
    pub fn note_failure(&self, now: Time, trouble: Trouble, first_ms: u64, most_ms: u64, dice: u64) -> u64 {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel);
        let failures = if trouble.lasting { 0 } else { failures };
        let pause = pause_after(failures, first_ms, most_ms, dice);
        self.retry_at.store((now + pause * 1000).0, Ordering::Release);
        *self.trouble.lock().expect("trouble") = Some(trouble);
        pause
    }

    pub fn note_success(&self) {
        self.failures.store(0, Ordering::Release);
        self.retry_at.store(0, Ordering::Release);
        *self.trouble.lock().expect("trouble") = None;
    }

    /// Why there is no server; None while the last attempt succeeded.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().expect("trouble").clone()
    }

    pub fn wants_tls(&self) -> bool {
        self.wants_tls.load(Ordering::Acquire)
    }

    pub fn set_wants_tls(&self) {
        self.wants_tls.store(true, Ordering::Release);
    }

    /// Start anew: the endpoint or the password is another one.
    pub fn forget_past(&self) {
        self.note_success();
        self.set_salted(None);
        self.wants_tls.store(false, Ordering::Release);
        *self.welcome.lock().expect("welcome") = None;
    }

    pub fn is_failing(&self) -> bool {
        self.failures.load(Ordering::Acquire) > 0
    }

    /// May a server be opened now under `per_second`? Takes the turn if so.
    pub fn take_rate_turn(&self, now: Time, per_second: u32) -> bool {
        if per_second == 0 {
            return true;
        }
        let gap = 1_000_000 / u64::from(per_second);
        self.rate_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| {
                (at <= now.0).then_some(now.0.max(at) + gap)
            })
            .is_ok()
    }

    pub fn rate_at(&self) -> Time {
        Time(self.rate_at.load(Ordering::Acquire))
    }

    pub fn welcome(&self) -> Option<Arc<Welcome>> {
        self.welcome.lock().expect("welcome").clone()
    }

    pub fn set_welcome(&self, welcome: Arc<Welcome>) {
        *self.welcome.lock().expect("welcome") = Some(welcome);
    }

    pub fn salted(&self) -> Option<Salted> {
        self.salted.lock().expect("salted").clone()
    }

    pub fn set_salted(&self, salted: Option<Salted>) {
        *self.salted.lock().expect("salted") = salted;
    }

    pub fn share(&self, worker: WorkerId) -> &Share {
        &self.shares[usize::from(worker.0)]
    }

    /// The worker whose oldest waiter has waited longest, if not `except`.
    pub fn longest_waiting(&self, except: WorkerId) -> Option<(WorkerId, Time)> {
        self.shares
            .iter()
            .enumerate()
            .filter(|(worker, _)| *worker != usize::from(except.0))
            .map(|(worker, share)| (WorkerId(worker as u16), Time(share.oldest_wait.load(Ordering::Acquire))))
            .filter(|(_, since)| *since != Time::NEVER)
            .min_by_key(|(_, since)| *since)
    }

    /// What the oldest waiter of a worker has agreed on.
    pub fn flags_wanted(&self, worker: WorkerId) -> u64 {
        self.shares[usize::from(worker.0)].oldest_flags.load(Ordering::Acquire)
    }

    /// How many wait on workers other than `except`.
    pub fn waiting_elsewhere(&self, except: WorkerId) -> u32 {
        let others = self.shares.iter().enumerate().filter(|(worker, _)| *worker != usize::from(except.0));
        others.map(|(_, share)| share.waiting.load(Ordering::Acquire)).sum()
    }

    /// A worker other than `except` that has an idle server.
    pub fn somewhere_idle(&self, except: WorkerId) -> Option<WorkerId> {
        (0..self.shares.len())
            .filter(|worker| *worker != usize::from(except.0))
            .find(|worker| self.shares[*worker].idle.load(Ordering::Acquire) > 0)
            .map(|worker| WorkerId(worker as u16))
    }
}

/// How long to wait after the failure that `failures` others came before: from `first_ms` doubling up to
/// `most_ms`. In milliseconds.
pub(crate) fn pause_after(failures: u32, first_ms: u64, most_ms: u64, dice: u64) -> u64 {
    let pause = first_ms.max(1).saturating_mul(1 << failures.min(20)).min(most_ms.max(first_ms).max(1));
    // Why: half to all of the pause, so that many proxies do not return in step.
    pause / 2 + dice % (pause / 2 + 1)
}

/// Every budget of the engine, by what it limits. Survives reloads, so counts stay exact.
#[derive(Debug)]
pub struct Shared {
    pub workers: usize,
    pub clients: Arc<Budget>,
    pub servers: Arc<Budget>,
    pub logins: Arc<Budget>,
    named: Mutex<HashMap<(Level, String), Arc<Budget>>>,
    pools: Mutex<HashMap<PoolKey, Arc<PoolShared>>>,
    paused: Mutex<Paused>,
    pub draining: AtomicBool,
    /// The client that last said something through a server, by the server's endpoint and number: the
    /// number by which others know that client. Enter: `suspect`. Leave: the server's end.
    notifiers: Mutex<HashMap<String, HashMap<u32, u32>>>,
    /// Random, per process: cancel keys and mock authentication derive from it.
    pub secret: [u8; 32],
    pub proven: Proven,
}

/// Which databases an operator has paused, pools that do not exist yet included.
#[derive(Debug, Default)]
struct Paused {
    all: bool,
    /// Databases for which something else was said later.
    but: HashMap<String, bool>,
}

/// What a named budget limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    DatabaseClients,
    DatabaseServers,
    UserClients,
    UserServers,
    EndpointServers,
}

impl Shared {
    pub fn new(workers: usize, secret: [u8; 32]) -> Arc<Shared> {
        Arc::new(Shared {
            workers,
            clients: Budget::new("limits.clients", 0),
            servers: Budget::new("limits.servers", 0),
            logins: Budget::new("limits.logins", 0),
            named: Mutex::new(HashMap::new()),
            pools: Mutex::new(HashMap::new()),
            paused: Mutex::default(),
            draining: AtomicBool::new(false),
            notifiers: Mutex::default(),
            secret,
            proven: Proven::default(),
        })
    }

    /// The budget of `name` at `level`, made on first use; its limit becomes `limit`.
    pub fn named(&self, level: Level, name: &str, limit: u32) -> Arc<Budget> {
        let mut named = self.named.lock().expect("budgets");
        let budget = named.entry((level, name.to_owned())).or_insert_with(|| {
            let setting = match level {
                Level::DatabaseClients => format!("databases.{name}.max_clients"),
                Level::DatabaseServers => format!("databases.{name}.max_servers"),
                Level::UserClients => format!("users.{name}.max_clients or limits.clients_per_user"),
                Level::UserServers => format!("users.{name}.max_servers or limits.servers_per_user"),
                Level::EndpointServers => {
                    format!("max_servers of endpoint {name} or limits.servers_per_endpoint")
                }
            };
            Budget::new(setting, limit)
        });
        budget.set_limit(limit);
        Arc::clone(budget)
    }

    /// The shared part of a pool, made on first use.
    pub fn pool(&self, key: &PoolKey, size: u32) -> Arc<PoolShared> {
        let mut pools = self.pools.lock().expect("pools");
        if !pools.contains_key(key) {
            let is_sibling =
                |of: &&Arc<PoolShared>| of.key.endpoint == key.endpoint && of.key.database == key.database;
            let definitions = pools.values().find(is_sibling).map(|of| Arc::clone(&of.definitions));
            let made = PoolShared::new(key.clone(), size, self.workers, definitions.unwrap_or_default());
            pools.insert(key.clone(), made);
        }
        let pool = &pools[key];
        pool.servers.set_limit(size);
        pool.paused.store(self.is_paused(Some(&key.database)), Ordering::Release);
        Arc::clone(pool)
    }

    /// Pause or resume `database`, or all; pools made later follow.
    pub fn set_paused(&self, database: Option<&str>, paused: bool) {
        let mut state = self.paused.lock().expect("paused");
        match database {
            Some(name) => drop(state.but.insert(name.to_owned(), paused)),
            None => *state = Paused { all: paused, but: HashMap::new() },
        }
        drop(state);
        for pool in self.pools() {
            pool.paused.store(self.is_paused(Some(&pool.key.database)), Ordering::Release);
        }
    }

    /// Is a pause of `database`, or of all, in force?
    pub fn is_paused(&self, database: Option<&str>) -> bool {
        let state = self.paused.lock().expect("paused");
        database.and_then(|name| state.but.get(name)).copied().unwrap_or(state.all)
    }

    /// A client, known to others as `client`, says something to all who listen through server `pid`.
    pub fn note_notifier(&self, endpoint: &str, pid: u32, client: u32) {
        let mut notifiers = self.notifiers.lock().expect("notifiers");
        match notifiers.get_mut(endpoint) {
            Some(known) => drop(known.insert(pid, client)),
            None => drop(notifiers.insert(endpoint.to_owned(), HashMap::from([(pid, client)]))),
        }
    }

    /// Who said last something through server `pid`.
    pub fn notifier(&self, endpoint: &str, pid: u32) -> Option<u32> {
        self.notifiers.lock().expect("notifiers").get(endpoint)?.get(&pid).copied()
    }

    pub fn forget_notifier(&self, endpoint: &str, pid: u32) {
        if let Some(known) = self.notifiers.lock().expect("notifiers").get_mut(endpoint) {
            known.remove(&pid);
        }
    }

    /// Every pool that exists.
    pub fn pools(&self) -> Vec<Arc<PoolShared>> {
        self.pools.lock().expect("pools").values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_takes_all_places_or_none_and_gives_them_back() {
        let wide = Budget::new("wide", 2);
        let narrow = Budget::new("narrow", 1);
        let first = Permit::take(&[&wide, &narrow], 0).expect("both free");
        let full = Permit::take(&[&wide, &narrow], 0).expect_err("narrow is full");
        assert_eq!(full.setting, "narrow");
        assert_eq!((wide.used(), narrow.used()), (1, 1));
        drop(first);
        assert_eq!((wide.used(), narrow.used()), (0, 0));
    }

    #[test]
    fn a_budget_is_exact_under_threads() {
        let budget = Budget::new("b", 7);
        let most = Arc::new(AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(permit) = Permit::take(&[&budget], 0) {
                            most.fetch_max(budget.used(), Ordering::AcqRel);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::Acquire) <= 7);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_pause_after_failures_doubles_within_its_bound() {
        let key = PoolKey {
            database: "d".into(),
            user: "u".into(),
            endpoint: "e".into(),
            mode: PoolMode::Transaction,
        };
        let pool = PoolShared::new(key, 1, 1, Arc::default());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(pool.note_failure(Time(0), Trouble::default(), 100, 1000, u64::MAX - 1));
        }
        assert!(pauses.iter().all(|ms| *ms >= 50 && *ms <= 1000), "{pauses:?}");
        assert!(pauses[7] >= 500);
        pool.note_success();
        assert_eq!(pool.retry_at(), Time(0));
    }
}
