//! The listening server: one connection per database, which hears for every client that listens.
//!
//! ```text
//!   listeners (each worker) ── Listen, Mark, Unlisten ──► hub (one worker) ── LISTEN … ──► database
//!                           ◄── Listening, Marked, Said, Lost ──            ◄── notifications ──
//! ```
//!
//! Orders are carried out in the order in which they came and answered behind whatever the server had
//! said before; so an answer also says that nothing older is still to come. Knows channels and
//! workers, no clients: those are `listeners`'. Called by `lib` for mail, by `open`, `server`, `loss`
//! and `upkeep` for the server.
//!
//! Source: PostgreSQL, `src/backend/commands/async.c`: whatever was committed before a request
//! arrived is sent before that request's ReadyForQuery.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use maitred_wire::Complaint;

use crate::action::{Action, Mail, ServerEnd};
use crate::budget::{pause_after, PoolShared};
use crate::ids::{ClientId, PoolId, ServerId, Time, WorkerId};
use crate::loss::listening_lost;
use crate::open::Purpose;
use crate::server::State;
use crate::Relay;

/// Which database is listened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubKey {
    pub endpoint: String,
    /// As the endpoint calls it.
    pub database: String,
}

/// A channel's name, shared by all who listen to it.
pub type Channel = Arc<str>;

/// One notification, shared by all who hear it.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    pub pid: u32,
    pub channel: Channel,
    pub payload: Box<[u8]>,
}

impl Notice {
    pub fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + std::mem::size_of::<Notice>()
    }
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub worker: WorkerId,
    pub client: ClientId,
    pub number: u64,
}

/// What listeners want of a hub.
#[derive(Debug)]
pub enum Order {
    /// Hear these for the ticket's worker; answered `Listening`.
    Listen { channels: Vec<Channel>, ticket: Ticket },
    /// Answered `Marked` when all that was said so far has been passed on.
    Mark { ticket: Ticket },
    /// Nobody on this worker listens to these any more.
    Unlisten { channels: Vec<Channel>, from: WorkerId },
}

/// What a hub tells listeners, in order.
#[derive(Debug)]
pub enum News {
    Listening(Ticket),
    Marked(Ticket),
    Said(Vec<Arc<Notice>>),
    /// Its server is gone: from here on notifications may have been missed.
    Lost(Complaint),
}

/// Something the server has still to be told, or to have done before an answer.
#[derive(Debug)]
enum Job {
    Say(Channel, bool),
    Answer(WorkerId, News),
}

/// Jobs that go into one request.
const BATCH: usize = 1000;

/// One database's listening server and who hears what.
#[derive(Debug)]
pub struct Hub {
    pool: PoolId,
    /// Being opened, or listening.
    server: Option<ServerId>,
    /// Which workers hear a channel. Enter and leave: `hub_order`.
    channels: HashMap<Channel, Vec<WorkerId>>,
    todo: VecDeque<Job>,
    under_way: Vec<Job>,
    /// No attempt to connect before.
    retry_at: Time,
    failures: u32,
    /// Nobody has listened since.
    unused_since: Time,
}

impl Relay {
    /// The worker that keeps the hub of `key`: the same one for all.
    pub(crate) fn worker_of_hub(&self, key: &HubKey) -> WorkerId {
        let sum = key.database.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
        WorkerId((sum % self.shared.workers) as u16)
    }

    /// An order has arrived from `listeners` of some worker.
    pub(crate) fn hub_order(&mut self, key: &Arc<HubKey>, pool: &Arc<PoolShared>, order: Order) {
        if !self.hubs.contains_key(key) {
            let Some(at) = self.pool_of_key(&pool.key) else { return };
            let hub = Hub {
                pool: at,
                server: None,
                channels: HashMap::new(),
                todo: VecDeque::new(),
                under_way: Vec::new(),
                retry_at: Time(0),
                failures: 0,
                unused_since: self.now,
            };
            self.hubs.insert(Arc::clone(key), hub);
        }
        let now = self.now;
        let hub = self.hubs.get_mut(key).expect("just made");
        match order {
            Order::Listen { channels, ticket } => {
                for channel in channels {
                    let workers = hub.channels.entry(Arc::clone(&channel)).or_default();
                    if workers.is_empty() {
                        hub.todo.push_back(Job::Say(channel, true));
                    }
                    if !workers.contains(&ticket.worker) {
                        workers.push(ticket.worker);
                    }
                }
                hub.todo.push_back(Job::Answer(ticket.worker, News::Listening(ticket)));
            }
            Order::Mark { ticket } => {
                hub.todo.push_back(Job::Answer(ticket.worker, News::Marked(ticket)));
            }
            Order::Unlisten { channels, from } => {
                for channel in channels {
                    let Some(workers) = hub.channels.get_mut(&channel) else { continue };
                    workers.retain(|worker| *worker != from);
                    if workers.is_empty() {
                        hub.channels.remove(&channel);
                        hub.todo.push_back(Job::Say(channel, false));
                    }
                }
                if hub.channels.is_empty() {
                    hub.unused_since = now;
                }
            }
        }
        self.work_hub(key);
    }

    /// Do what is to be done at a hub, as far as that goes now.
    fn work_hub(&mut self, key: &Arc<HubKey>) {
        let now = self.now;
        let Some(hub) = self.hubs.get_mut(key) else { return };
        if hub.todo.is_empty() || !hub.under_way.is_empty() {
            return;
        }
        let Some(server) = hub.server else {
            if hub.retry_at <= now {
                self.open_hub(key);
            }
            return;
        };
        if !matches!(self.servers[server].state, State::Listening(_)) {
            return;
        }
        let count = hub.todo.len().min(BATCH);
        hub.under_way.extend(hub.todo.drain(..count));
        let listens = hub.under_way.iter().filter_map(|job| match job {
            Job::Say(channel, begins) => Some((&**channel, *begins)),
            Job::Answer(..) => None,
        });
        let server_entry = &mut self.servers[server];
        server_entry.dialect.write_listens(&mut server_entry.output, listens);
        server_entry.owe_hidden(now);
        self.flush_server(server);
    }

    fn open_hub(&mut self, key: &Arc<HubKey>) {
        let at = self.hubs[key].pool;
        let now = self.now;
        match self.begin_listening(at, Arc::clone(key)) {
            Ok(server) => self.hubs.get_mut(key).expect("the caller saw it").server = Some(server),
            Err(()) => self.hubs.get_mut(key).expect("the caller saw it").retry_at = now + RETRY_US,
        }
    }

    /// Its server has logged in.
    pub(crate) fn hub_opened(&mut self, key: &Arc<HubKey>) {
        if let Some(hub) = self.hubs.get_mut(key) {
            hub.failures = 0;
        }
        self.work_hub(key);
    }

    /// Its server could not be opened; those who wait keep their own servers meanwhile.
    pub(crate) fn hub_not_opened(&mut self, key: &Arc<HubKey>) {
        let now = self.now;
        let dice = self.dice.roll(u64::MAX);
        let Some(hub) = self.hubs.get_mut(key) else { return };
        let settings = &self.pools[hub.pool.0 as usize].route.settings;
        let (first, most) = (settings.login_retry_ms, settings.login_retry_max_ms);
        hub.server = None;
        hub.retry_at = now.after_ms(pause_after(hub.failures, first, most, dice));
        hub.failures = hub.failures.saturating_add(1);
    }

    /// The server has done what it was told.
    pub(crate) fn hub_ready(&mut self, key: &Arc<HubKey>) {
        let Some(hub) = self.hubs.get_mut(key) else { return };
        for job in std::mem::take(&mut hub.under_way) {
            if let Job::Answer(to, news) = job {
                self.post(to, Mail::FromHub { key: Arc::clone(key), news });
            }
        }
        self.work_hub(key);
    }

    /// The server has said something on a channel.
    pub(crate) fn hub_heard(&mut self, key: &Arc<HubKey>, notice: &maitred_wire::Notification<'_>) {
        self.counters.notifications_heard += 1;
        let Some(hub) = self.hubs.get(key) else { return };
        let Ok(channel) = std::str::from_utf8(notice.channel) else { return };
        let Some((channel, workers)) = hub.channels.get_key_value(channel) else { return };
        let notice = Arc::new(Notice {
            pid: notice.pid,
            channel: Arc::clone(channel),
            payload: notice.payload.into(),
        });
        for to in workers.clone() {
            // Why one mail for several: they come in bursts, and each mail may wake a worker.
            let last = self.outgoing.iter_mut().rev().find(|(worker, _)| *worker == to);
            match last {
                Some((_, Mail::FromHub { key: of, news: News::Said(notices) })) if of == key => {
                    notices.push(Arc::clone(&notice));
                }
                _ => {
                    let news = News::Said(vec![Arc::clone(&notice)]);
                    self.post(to, Mail::FromHub { key: Arc::clone(key), news });
                }
            }
        }
    }

    /// The server is gone: every listener is told, and with the next order it is opened anew.
    pub(crate) fn hub_lost(&mut self, key: &Arc<HubKey>, cause: &str) {
        let Some(hub) = self.hubs.get_mut(key) else { return };
        hub.server = None;
        // Whoever has asked and not been answered asks again when it hears of this.
        hub.under_way.clear();
        hub.todo.clear();
        let mut promised: Vec<WorkerId> = hub.channels.values().flatten().copied().collect();
        promised.sort_unstable();
        promised.dedup();
        hub.channels.clear();
        hub.unused_since = self.now;
        let complaint = listening_lost().detail(format!("{} at {}: {cause}", key.database, key.endpoint));
        for to in promised {
            self.post(to, Mail::FromHub { key: Arc::clone(key), news: News::Lost(complaint.clone()) });
        }
    }

    /// Time passes: try again, or give up a server that nobody needs.
    pub(crate) fn tick_hubs(&mut self) -> Time {
        let now = self.now;
        let mut next = Time::NEVER;
        let keys: Vec<Arc<HubKey>> = self.hubs.keys().cloned().collect();
        for key in keys {
            self.work_hub(&key);
            let hub = &self.hubs[&key];
            let settings = &self.pools[hub.pool.0 as usize].route.settings;
            if let Some(id) = hub.server {
                let server = &self.servers[id];
                if !matches!(server.state, State::Listening(_)) {
                    continue;
                }
                let unused = if hub.channels.is_empty() && hub.todo.is_empty() {
                    hub.unused_since.after_ms(settings.server_idle_timeout_ms)
                } else {
                    Time::NEVER
                };
                let stuck = if server.is_working() {
                    server.asked_at.after_ms(settings.login_timeout_ms)
                } else {
                    Time::NEVER
                };
                let reason = self
                    .reason_to_retire_hub(id)
                    .or((unused <= now).then_some(ServerEnd::IdleTimeout))
                    .or((stuck <= now).then_some(ServerEnd::Doubt));
                match reason {
                    Some(reason) => self.lose_server(id, reason),
                    None => next = next.min(unused).min(stuck),
                }
            } else if !hub.todo.is_empty() {
                next = next.min(hub.retry_at.max(now + 1));
            } else if hub.channels.is_empty() {
                self.hubs.remove(&key);
            }
        }
        next
    }

    /// Why a listening server must go; not its age, for its listeners would notice.
    fn reason_to_retire_hub(&self, id: ServerId) -> Option<ServerEnd> {
        let server = &self.servers[id];
        let is_stale =
            server.opened_at.0 < server.shared.stale_before.load(std::sync::atomic::Ordering::Acquire);
        let is_gone = self.pools[server.pool.0 as usize].is_gone || is_stale;
        is_gone.then_some(ServerEnd::Reconfigured)
    }

    /// The listening server of a database, if nobody listens there.
    pub(crate) fn unused_hub(&self, endpoint: &str, database: &str) -> Option<ServerId> {
        let key = HubKey { endpoint: endpoint.to_owned(), database: database.to_owned() };
        self.hubs.get(&key).filter(|hub| hub.channels.is_empty()).and_then(|hub| hub.server)
    }

    /// Channels that are listened to from here.
    pub(crate) fn channel_count(&self) -> usize {
        self.hubs.values().map(|hub| hub.channels.len()).sum()
    }

    /// Send mail, to this worker too; it is on its way once the call under way is over.
    pub(crate) fn post(&mut self, to: WorkerId, mail: Mail) {
        self.outgoing.push((to, mail));
    }

    /// Deliver what was posted. True: something was for this very worker.
    pub(crate) fn deliver_post(&mut self) -> bool {
        let mut had_own = false;
        for (to, mail) in std::mem::take(&mut self.outgoing) {
            if to == self.worker {
                had_own = true;
                self.open_mail(mail);
            } else {
                self.actions.push(Action::Mail { to, mail });
            }
        }
        had_own
    }
}

impl State {
    /// Is it a listening server, or to be one?
    pub(crate) fn hub(&self) -> Option<&Arc<HubKey>> {
        match self {
            State::Listening(key) => Some(key),
            State::Opening(opening) => match &opening.purpose {
                Purpose::Hub(key) => Some(key),
                Purpose::Pool | Purpose::Exclusive(_) | Purpose::Kill(_) => None,
            },
            _ => None,
        }
    }
}

/// Between two attempts to find a place for a listening server.
const RETRY_US: u64 = 500_000;
