//! Clients that listen: what they hear through the listening server, and while they have a server of
//! their own, through that.
//!
//! ```text
//!   LISTEN on its server ──► asked what it listens to ──► the hub is asked ──► granted ──► UNLISTEN there
//!       └── its own server tells it ─────────────────────────────────────────────┘└─► the hub tells it
//! ```
//!
//! Invariant: while a client's server listens *along*, that server is the source, and what the hub
//! says of the same is crossed off, whichever comes first. Otherwise the hub is. So nothing is heard
//! twice or missed when the source changes, and PostgreSQL itself judges LISTEN, UNLISTEN and what a
//! transaction makes of them. A client hears when it is quiet or just before a Ready, as from
//! PostgreSQL. Called by `server` for notifications, by `trace` about what a lease left, by `lib` for
//! mail.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use maitred_wire::effects::{Effects, Traces};
use maitred_wire::{Code, Complaint, Notification, Transaction};

use crate::action::{ClientEnd, Mail};
use crate::client::State;
use crate::hub::{Channel, HubKey, News, Notice, Order, Ticket};
use crate::ids::{ClientId, PoolId, ServerId};
use crate::loss::listening_lost;
use crate::server;
use crate::snapshot::{ListenMode, PoolMode};
use crate::Relay;

/// One database's channels with those who hear them on this worker.
pub(crate) type Heard = HashMap<Channel, Vec<ClientId>>;

/// What one client listens to.
#[derive(Debug)]
pub struct Subscription {
    key: Arc<HubKey>,
    /// Heard through the hub.
    channels: BTreeSet<Channel>,
    /// The hub has been asked for these; only the client's server listens so far.
    coming: BTreeSet<Channel>,
    /// Number of the ticket that will say so.
    asked: Option<u64>,
    /// Its server listens to all of them, too.
    along: bool,
    /// That server has been told to stop.
    is_stopping: bool,
    /// … and to begin again.
    is_again: bool,
    /// From the hub, not told yet, in order.
    held: VecDeque<Arc<Notice>>,
    held_bytes: usize,
    /// Told by its server, still to come from the hub, numbered.
    seen: VecDeque<(u64, Arc<Notice>)>,
    /// Next number of a ticket or of something seen.
    number: u64,
    /// It cannot be told all any more; told so when it is quiet.
    broken: Option<(ClientEnd, Box<Complaint>)>,
}

impl Subscription {
    fn new(key: Arc<HubKey>) -> Self {
        Self {
            key,
            channels: BTreeSet::new(),
            coming: BTreeSet::new(),
            asked: None,
            along: false,
            is_stopping: false,
            is_again: false,
            held: VecDeque::new(),
            held_bytes: 0,
            seen: VecDeque::new(),
            number: 0,
            broken: None,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn take_seen(&mut self, notice: &Notice) -> bool {
        let at = self.seen.iter().position(|(_, seen)| **seen == *notice);
        at.map(|at| self.seen.remove(at)).is_some()
    }

    fn is_idle(&self) -> bool {
        self.channels.is_empty()
            && self.coming.is_empty()
            && !self.along
            && self.held.is_empty()
            && self.broken.is_none()
    }

    /// How many channels it listens to.
    pub fn len(&self) -> usize {
        self.channels.len() + self.coming.len()
    }

    /// Does it listen to nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Relay {
    fn hub_key(&self, at: PoolId) -> HubKey {
        let route = &self.pools[at.0 as usize].route;
        HubKey { endpoint: route.endpoint.name.clone(), database: route.remote_database.clone() }
    }

    /// May this client hear through a hub?
    ///
    /// Why the encoding: the hub hears in the database's own, and we convert nothing.
    fn may_share(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        let pool = &self.pools[client.pool.0 as usize];
        let settings = &pool.route.settings;
        if settings.mode == PoolMode::Session || settings.listen == ListenMode::Pinned {
            return false;
        }
        let name = client.dialect.encoding_setting();
        let fresh = pool.shared.welcome();
        let usual = fresh.as_ref().and_then(|fresh| fresh.settings.value(name));
        client.settings.value(name).is_none_or(|own| Some(own) == usual)
    }

    /// Something of a client that listens is about to go to its server: have the server listen, too, if
    /// it may touch what is listened to or say something.
    pub(crate) fn listen_along(
        &mut self,
        id: ClientId,
        to: ServerId,
        text: &[u8],
        effects: Option<&Effects>,
    ) {
        let Some(subscription) = &self.clients[id].subscription else { return };
        if subscription.channels.is_empty() || subscription.along && !subscription.is_stopping {
            return;
        }
        let server = &self.servers[to];
        let is_between = server.transaction == Transaction::None
            && server.unsynced == 0
            && !server.skipping
            && !server.is_awaited();
        if !is_between || effects.is_none() && server.dialect.only_reads(text) {
            return;
        }
        let now = self.now;
        let subscription = self.clients[id].subscription.as_mut().expect("checked above");
        let server = &mut self.servers[to];
        let channels = subscription.channels.iter().map(|channel| (&**channel, true));
        server.dialect.write_listens(&mut server.output, channels);
        server.statements.unnamed = None;
        server.owe_hidden(now);
        server.trace_mut(now).pins.add(Traces::LISTENS);
        subscription.is_again = subscription.is_stopping;
        subscription.along = true;
    }

    /// A server has said which channels its client's session listens to now. Returns whether that
    /// keeps the server with its client for good.
    pub(crate) fn note_channels(&mut self, id: ClientId, found: Vec<String>) -> bool {
        if found.is_empty() && self.clients[id].subscription.is_none() {
            return false;
        }
        let is_shared = self.may_share(id);
        let key = Arc::new(self.hub_key(self.clients[id].pool));
        if self.clients[id].subscription.is_none() {
            if !is_shared {
                return true;
            }
            self.clients[id].subscription = Some(Box::new(Subscription::new(Arc::clone(&key))));
        }
        let subscription = self.clients[id].subscription.as_mut().expect("just made");
        let found: BTreeSet<Channel> = found.into_iter().map(Channel::from).collect();
        let mut gone: Vec<Channel> = subscription.coming.difference(&found).cloned().collect();
        if subscription.along {
            gone.extend(subscription.channels.difference(&found).cloned());
        }
        let new: BTreeSet<Channel> =
            found.iter().filter(|channel| !subscription.channels.contains(*channel)).cloned().collect();
        subscription.channels.retain(|channel| !gone.contains(channel));
        let is_same = subscription.asked.is_some() && subscription.coming == new;
        subscription.coming = new;
        subscription.along |= !found.is_empty();
        let is_kept = !subscription.coming.is_empty() && !is_shared;
        self.unhear(id, &gone);
        if !is_kept && !is_same {
            self.ask_hub(id);
        }
        is_kept
    }

    /// Ask the hub for what the client's server alone listens to.
    fn ask_hub(&mut self, id: ClientId) {
        let worker = self.worker;
        let Some(subscription) = self.clients[id].subscription.as_mut() else { return };
        if subscription.coming.is_empty() {
            subscription.asked = None;
            return;
        }
        let number = subscription.next_number();
        subscription.asked = Some(number);
        let channels: Vec<Channel> = subscription.coming.iter().cloned().collect();
        let key = Arc::clone(&subscription.key);
        let heard = self.heard.entry(Arc::clone(&key)).or_default();
        for channel in &channels {
            let clients = heard.entry(Arc::clone(channel)).or_default();
            if !clients.contains(&id) {
                clients.push(id);
            }
        }
        self.order(id, &key, Order::Listen { channels, ticket: Ticket { worker, client: id, number } });
    }

    fn order(&mut self, id: ClientId, key: &Arc<HubKey>, order: Order) {
        let pool = Arc::clone(&self.pools[self.clients[id].pool.0 as usize].shared);
        self.order_from(pool, key, order);
    }

    fn order_from(&mut self, pool: Arc<crate::budget::PoolShared>, key: &Arc<HubKey>, order: Order) {
        let to = self.worker_of_hub(key);
        self.post(to, Mail::ToHub { key: Arc::clone(key), pool, order });
    }

    /// The client does not listen to these any more.
    fn unhear(&mut self, id: ClientId, channels: &[Channel]) {
        let (Some(client), false) = (self.clients.get(id), channels.is_empty()) else { return };
        let Some(key) = client.subscription.as_ref().map(|own| Arc::clone(&own.key)) else { return };
        let pool = Arc::clone(&self.pools[client.pool.0 as usize].shared);
        self.unhear_at(&key, pool, id, channels);
    }

    fn unhear_at(
        &mut self,
        key: &Arc<HubKey>,
        pool: Arc<crate::budget::PoolShared>,
        id: ClientId,
        channels: &[Channel],
    ) {
        let Some(heard) = self.heard.get_mut(key) else { return };
        let mut unheard = Vec::new();
        for channel in channels {
            let Some(clients) = heard.get_mut(channel) else { continue };
            clients.retain(|client| *client != id);
            if clients.is_empty() {
                heard.remove(channel);
                unheard.push(Arc::clone(channel));
            }
        }
        if heard.is_empty() {
            self.heard.remove(key);
        }
        if !unheard.is_empty() {
            let from = self.worker;
            self.order_from(pool, key, Order::Unlisten { channels: unheard, from });
        }
    }

    /// A client that is gone from the table, or whose session was discarded, listens to nothing.
    pub(crate) fn forget_subscription(
        &mut self,
        id: ClientId,
        at: PoolId,
        subscription: Option<Box<Subscription>>,
    ) {
        let Some(subscription) = subscription else { return };
        let channels: Vec<Channel> = subscription.channels.into_iter().chain(subscription.coming).collect();
        let pool = Arc::clone(&self.pools[at.0 as usize].shared);
        self.unhear_at(&subscription.key, pool, id, &channels);
    }

    /// All that the client's server was kept for is heard through the hub: may that server stop?
    pub(crate) fn may_stop_listening(&self, id: ClientId) -> bool {
        let subscription = self.clients.get(id).and_then(|client| client.subscription.as_ref());
        subscription.is_some_and(|own| own.along && !own.is_stopping && own.coming.is_empty())
    }

    pub(crate) fn note_stopping(&mut self, id: ClientId) {
        if let Some(subscription) = self.clients.get_mut(id).and_then(|client| client.subscription.as_mut()) {
            subscription.is_stopping = true;
        }
    }

    /// The server has stopped to listen for its client, or was kept from it. True: it listens again.
    pub(crate) fn note_stopped(&mut self, id: ClientId, is_done: bool) -> bool {
        let worker = self.worker;
        let subscription = self.clients.get_mut(id).and_then(|client| client.subscription.as_mut());
        let Some(subscription) = subscription else { return false };
        subscription.is_stopping = false;
        if !is_done || std::mem::take(&mut subscription.is_again) {
            return true;
        }
        subscription.along = false;
        if !subscription.seen.is_empty() {
            let ticket = Ticket { worker, client: id, number: subscription.next_number() };
            let key = Arc::clone(&subscription.key);
            self.order(id, &key, Order::Mark { ticket });
        }
        false
    }

    /// The client's server is gone: what it told is told by the hub from here on. Returns whether the client
    /// listens at all; it is told if some of that was heard by this server alone.
    pub(crate) fn lose_source(&mut self, id: ClientId) -> bool {
        let client = self.clients.get_mut(id);
        let Some(subscription) = client.and_then(|client| client.subscription.as_mut()) else { return false };
        (subscription.along, subscription.is_stopping, subscription.is_again) = (false, false, false);
        if !subscription.coming.is_empty() {
            subscription.broken.get_or_insert((ClientEnd::ListeningLost, Box::new(listening_lost())));
        }
        true
    }

    /// A hub has news for those who listen here.
    pub(crate) fn hub_news(&mut self, key: &Arc<HubKey>, news: News) {
        match news {
            News::Listening(ticket) => self.note_listening(ticket),
            News::Marked(ticket) => {
                let client = self.clients.get_mut(ticket.client);
                if let Some(subscription) = client.and_then(|client| client.subscription.as_mut()) {
                    subscription.seen.retain(|(number, _)| *number > ticket.number);
                }
            }
            News::Said(notices) => {
                for notice in notices {
                    let heard = self.heard.get(key).and_then(|heard| heard.get(&notice.channel));
                    for id in heard.cloned().unwrap_or_default() {
                        self.hear_from_hub(id, &notice);
                    }
                }
            }
            News::Lost(complaint) => {
                let heard = self.heard.remove(key).unwrap_or_default();
                let ids: BTreeSet<ClientId> = heard.into_values().flatten().collect();
                for id in ids {
                    let Some(client) = self.clients.get_mut(id) else { continue };
                    let Some(subscription) = client.subscription.as_mut() else { continue };
                    if subscription.channels.is_empty() {
                        // Its own server listens still: nothing is missed.
                        subscription.seen.clear();
                        self.ask_hub(id);
                    } else {
                        let told = Box::new(complaint.clone());
                        subscription.broken.get_or_insert((ClientEnd::ListeningLost, told));
                        self.tell_held(id);
                    }
                }
            }
        }
    }

    /// The hub listens to all that was asked for.
    fn note_listening(&mut self, ticket: Ticket) {
        let (id, worker) = (ticket.client, self.worker);
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(subscription) = client.subscription.as_mut() else { return };
        if subscription.asked != Some(ticket.number) {
            return;
        }
        subscription.asked = None;
        let coming = std::mem::take(&mut subscription.coming);
        subscription.channels.extend(coming);
        let mark = Ticket { worker, client: id, number: subscription.next_number() };
        let key = Arc::clone(&subscription.key);
        let state = match client.state {
            State::Leased(server) => Some(server),
            _ => None,
        };
        self.order(id, &key, Order::Mark { ticket: mark });
        if let Some(server) = state {
            self.end_lease_if_over(server);
        }
    }

    fn hear_from_hub(&mut self, id: ClientId, notice: &Arc<Notice>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let limit = client.identity.settings.listen_buffer_bytes as usize;
        let Some(subscription) = client.subscription.as_mut() else { return };
        if subscription.broken.is_some() {
            return;
        }
        let was_seen = subscription.take_seen(notice);
        if was_seen || !subscription.channels.contains(&notice.channel) {
            return;
        }
        subscription.held_bytes += notice.bytes();
        subscription.held.push_back(Arc::clone(notice));
        if limit > 0 && subscription.held_bytes > limit {
            self.give_up(id, limit);
        }
        self.tell_held(id);
    }

    /// A notification from a server that a client has: one more of what its session listens to.
    pub(crate) fn hear_from_server(&mut self, server: ServerId, id: ClientId, heard: &Notification<'_>) {
        let own_pid = self.servers[server].key.pid;
        let Some(client) = self.clients.get_mut(id) else { return };
        let channel = String::from_utf8_lossy(heard.channel);
        let mut earlier = Vec::new();
        if let Some(subscription) = client.subscription.as_mut() {
            let notice = Arc::new(Notice {
                pid: heard.pid,
                channel: Channel::from(&*channel),
                payload: heard.payload.into(),
            });
            if subscription.channels.contains(&*channel) || subscription.asked.is_some() {
                // Both sources tell in the order of commits, and what the hub alone has told stands before
                // what both tell.
                let at = subscription.held.iter().position(|held| *held == notice);
                earlier.extend(subscription.held.drain(..at.unwrap_or(subscription.held.len())));
                if at.is_some() {
                    subscription.held.pop_front();
                } else {
                    let number = subscription.next_number();
                    subscription.seen.push_back((number, notice));
                }
                subscription.held_bytes = subscription.held.iter().map(|held| held.bytes()).sum();
            }
        }
        for notice in earlier {
            self.tell(id, notice.pid, &notice.channel, &notice.payload, None);
        }
        self.tell(id, heard.pid, &channel, heard.payload, Some(own_pid));
    }

    /// The process number by which a client knows itself: ours, until it has asked its server.
    pub(crate) fn number_of(&self, id: ClientId) -> u32 {
        let client = &self.clients[id];
        match client.state {
            State::Leased(server) if self.servers[server].has_told_its_number() => {
                self.servers[server].key.pid
            }
            _ => self.cancel_key(id, client.minor).pid,
        }
    }

    /// Tell a client, under the number by which it knows who said it.
    fn tell(&mut self, id: ClientId, pid: u32, channel: &str, payload: &[u8], own_pid: Option<u32>) {
        let Some(client) = self.clients.get(id) else { return };
        let own = self.number_of(id);
        let pool = &self.pools[client.pool.0 as usize];
        let pid = if own_pid == Some(pid) {
            own
        } else {
            // Why not its own number: it may ignore what it takes for its own words, and they are not.
            self.shared.notifier(&pool.shared.key.endpoint, pid).filter(|who| *who != own).unwrap_or(pid)
        };
        self.counters.notifications_told += 1;
        let Some(dialect) = self.clients.get(id).map(|client| client.dialect) else { return };
        let notification = Notification { pid, channel: channel.as_bytes(), payload };
        self.say(id, |out| dialect.say_notification(out, &notification));
    }

    /// Tell what is held, or what is wrong, if the client may hear it now.
    pub(crate) fn tell_held(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(id) else { return };
        if client.subscription.is_none() {
            return;
        }
        let is_quiet = match client.state {
            State::Idle => client.is_quiet(),
            State::Leased(server) => {
                self.servers[server].is_free() && !client.has_input() && client.passing == 0
            }
            _ => false,
        };
        if !is_quiet {
            return;
        }
        self.tell_before_ready(id);
        let client = &mut self.clients[id];
        let Some(subscription) = client.subscription.as_mut() else { return };
        if let Some((reason, complaint)) = subscription.broken.take() {
            self.end_client(id, reason, Some(*complaint));
        } else if subscription.is_idle() {
            client.subscription = None;
        }
    }

    /// As PostgreSQL does before it is ready, outside transactions.
    pub(crate) fn tell_before_ready(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let limit = client.identity.settings.listen_buffer_bytes as usize;
        let Some(subscription) = client.subscription.as_mut() else { return };
        if subscription.along || subscription.broken.is_some() {
            return;
        }
        subscription.held_bytes = 0;
        for notice in std::mem::take(&mut subscription.held) {
            self.tell(id, notice.pid, &notice.channel, &notice.payload, None);
        }
        if limit > 0 && self.clients[id].backlog() > limit.max(self.routes.snapshot.limits.buffer_bytes) {
            self.give_up(id, limit);
        }
    }

    /// The client does not read as fast as it is told.
    fn give_up(&mut self, id: ClientId, limit: usize) {
        let Some(subscription) = self.clients.get_mut(id).and_then(|client| client.subscription.as_mut())
        else {
            return;
        };
        let text =
            format!("notifications are not read: more than {limit} bytes of them wait (pool.listen_buffer)");
        let complaint = Complaint::fatal(Code::LimitExceeded, text)
            .hint("read sooner or end the transaction sooner, or raise pool.listen_buffer; then connect and LISTEN again");
        subscription.held.clear();
        subscription.held_bytes = 0;
        subscription.broken.get_or_insert((ClientEnd::SlowListener, Box::new(complaint)));
    }

    /// A server says something on a channel: to its client, or to all who listen.
    pub(crate) fn note_notification(&mut self, id: ServerId, message: &[u8]) {
        let server = &self.servers[id];
        let Some(heard) = server.dialect.notification_of(message) else { return };
        match &server.state {
            server::State::Listening(key) => {
                let key = Arc::clone(key);
                self.hub_heard(&key, &heard);
            }
            server::State::Leased(client) => {
                let client = *client;
                self.hear_from_server(id, client, &heard);
            }
            _ => {}
        }
    }

    /// The client's requests go to another database from now on: what it listens to is not there.
    pub(crate) fn check_subscription(&mut self, id: ClientId) {
        let key = self.hub_key(self.clients[id].pool);
        if let Some(subscription) = self.clients[id].subscription.as_mut().filter(|own| *own.key != key) {
            let text = "terminating connection: its database is served elsewhere now";
            let complaint = Complaint::fatal(Code::Shutdown, text).hint("connect and LISTEN again");
            subscription.broken.get_or_insert((ClientEnd::ListeningLost, Box::new(complaint)));
        }
    }
}
