//! Bytes that pass unread, and servers that pass from worker to worker.
//!
//! Reads no message. Called by `client` and `server` for replication, by the worker when a socket
//! has been detached or arrives.

use std::collections::HashMap;
use std::sync::Arc;

use maitred_wire::dialect::{Explained, Reading, Tag};
use maitred_wire::Dialect;

use crate::action::Action;
use crate::answers::{Answer, Owed};
use crate::budget::Permit;
use crate::client;
use crate::ids::{ClientId, PoolId, ServerId, Time, WorkerId};
use crate::open::Opening;
use crate::pool::Pool;
use crate::route::Route;
use crate::server::{Server, State};
use crate::session_state::Settings;
use crate::snapshot::PoolSettings;
use crate::statements::StatementKey;
use crate::Relay;

impl Relay {
    /// Replication: from the server to its client.
    pub(crate) fn pass_to_client(&mut self, client: ClientId, id: ServerId, bytes: &[u8]) {
        self.say(client, |out| out.extend_from_slice(bytes));
        let backlog = self.clients.get(client).map_or(0, client::Client::backlog);
        if backlog > self.routes.snapshot.limits.buffer_bytes && !self.servers[id].is_paused {
            self.servers[id].is_paused = true;
            self.actions.push(Action::PauseServer(id));
        }
    }

    /// Replication: from the client to its server.
    pub(crate) fn pass_to_server(&mut self, id: ServerId, client: ClientId, bytes: &[u8]) {
        let limit = self.routes.snapshot.limits.buffer_bytes;
        let Some(server) = self.servers.get_mut(id) else { return };
        server.output.extend_from_slice(bytes);
        let is_full = server.backlog() > limit;
        self.flush_server(id);
        let client_entry = &mut self.clients[client];
        if is_full && !client_entry.is_blocked {
            client_entry.is_blocked = true;
            self.actions.push(Action::PauseClient(client));
        }
    }

    /// The socket of a moving server has been detached: hand the server over.
    pub fn take_parcel(&mut self, now: Time, id: ServerId) -> Option<(WorkerId, Box<Server>)> {
        self.now = now;
        let State::Moving(to) = self.servers.get(id)?.state else { return None };
        let server = self.servers.remove(id)?;
        self.pools[server.pool.0 as usize].servers -= 1;
        self.counters.servers_moved += 1;
        Some((to, Box::new(server)))
    }

    /// A server arrived from another worker; its socket is the caller's to adopt under this id.
    pub fn accept_parcel(&mut self, now: Time, mut server: Server) -> ServerId {
        self.now = now;
        let key = server.shared.key.clone();
        let at = self.pool_of_key(&key);
        server.settings = self.settings.intern((*server.settings).clone());
        server.pool = at.unwrap_or_else(|| self.pool_of_orphans(&server));
        self.adopt(server)
    }

    fn adopt(&mut self, mut server: Server) -> ServerId {
        server.state = State::Idle;
        self.pools[server.pool.0 as usize].servers += 1;
        self.servers.insert(server)
    }

    /// The arrived server's socket is being read: lend it.
    pub fn parcel_ready(&mut self, now: Time, id: ServerId) {
        self.now = now;
        if self.servers.contains_key(id) {
            self.release(id);
        }
        self.settle();
    }

    /// The database was removed while its server was on its way: a pool for it to be closed in.
    fn pool_of_orphans(&mut self, server: &Server) -> PoolId {
        let at = self.pool_for(Route {
            key: server.shared.key.clone(),
            settings: PoolSettings::without_limits(),
            endpoint: Arc::clone(&server.endpoint),
            remote_database: String::new(),
            password: None,
            parameters: Vec::new(),
            stateful: None,
            max_database_servers: 0,
            max_user_servers: 0,
        });
        self.pools[at.0 as usize].is_gone = true;
        at
    }

    /// A finished statement says that session state is gone.
    pub(crate) fn note_tag(&mut self, id: ServerId, client: Option<ClientId>, tag: Tag) {
        let server = &mut self.servers[id];
        if tag == Tag::DiscardSequences {
            // Hidden, it was we who wanted it.
            if client.is_some() && !server.is_adjusting() {
                server.note_discarded_sequences();
            }
            return;
        }
        // What comes behind it in a pipeline is prepared after it.
        let to_come = |owed: &Owed| match owed.answer {
            Answer::Prepared { key, .. } => key,
            _ => None,
        };
        let kept: Vec<StatementKey> = server.owed.iter().filter_map(to_come).collect();
        server.statements.keep_only(&kept);
        server.stale.clear();
        if tag == Tag::DiscardAll {
            server.note_discarded();
            server.settings = Arc::clone(&self.no_settings);
        }
        if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
            if let Some(statements) = &mut client.statements {
                statements.keep_only(&server.pending_names);
            }
        }
        if let (Some(client), Tag::DiscardAll) = (client, tag) {
            self.servers[id].is_discarded = true;
            let heard = self.clients.get_mut(client).and_then(|client| client.subscription.take());
            self.forget_subscription(client, self.servers[id].pool, heard);
            self.bring_back_own_settings(client);
        }
    }

    /// Spec: RESET returns to what the session began with, its startup packet included. The server's
    /// session began with nothing, so its reports are not the client's to hear.
    fn bring_back_own_settings(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let dialect = client.dialect;
        let fresh = self.pools[client.pool.0 as usize].shared.welcome();
        let (was, own) = (Arc::clone(&client.settings), Arc::clone(&client.own_settings));
        client.settings = Arc::clone(&own);
        let reported = |name: &str| fresh.as_ref().and_then(|fresh| fresh.settings.value(name));
        for (name, value) in was.changes_to(&own) {
            if let Some(default) = reported(name) {
                let (name, value) = (name.to_owned(), value.unwrap_or(default).to_owned());
                self.say(id, |out| dialect.say_setting(out, &name, &value));
            }
        }
    }

    /// Give a client bytes that it had sent before it could be heard.
    pub(crate) fn hand_input(&mut self, id: ClientId, bytes: Vec<u8>) {
        if let Some(client) = self.clients.get_mut(id) {
            client.put_input(bytes);
            if client.has_input() {
                self.ready.push_back(id);
            }
        }
    }
}

impl Server {
    /// A server whose socket is about to be connected.
    pub(crate) fn opening(
        at: PoolId,
        pool: &Pool,
        opening: Opening,
        permit: Permit,
        dialect: Dialect,
        settings: Arc<Settings>,
        now: Time,
    ) -> Server {
        Server {
            pool: at,
            shared: Arc::clone(&pool.shared),
            endpoint: Arc::clone(&pool.route.endpoint),
            dialect,
            state: State::Opening(Box::new(opening)),
            permit,
            key: Default::default(),
            address: String::new(),
            local_address: String::new(),
            tls: false,
            flags: 0,
            reading: Reading::default(),
            numbers: HashMap::new(),
            preparing: None,
            is_promised: false,
            held: Vec::new(),
            running: None,
            made: Default::default(),
            explaining: Explained::NOTHING,
            unexplained: Default::default(),
            modes: Default::default(),
            kills: None,
            owed: Default::default(),
            settled: None,
            pending_names: Default::default(),
            pending_closes: Default::default(),
            unsynced: 0,
            skipping: false,
            transaction: Default::default(),
            copy: None,
            statements: Default::default(),
            settings,
            names: None,
            has_defined: false,
            input: Vec::new(),
            passing: 0,
            passing_shown: false,
            output: Vec::new(),
            in_flight: 0,
            is_dirty: false,
            is_paused: false,
            opened_at: now,
            retire_at: Time::NEVER,
            idle_since: now,
            leased_at: now,
            asked_at: Time::NEVER,
            unit_at: now,
            transaction_at: Time::NEVER,
            quiet_since: now,
            waited_us: 0,
            leases: 0,
            timeouts: 0,
            is_cancelling: false,
            cancelled_at: Time(0),
            cancel_waiters: Vec::new(),
            must_probe: false,
            must_reset: false,
            has_own_sequences: false,
            finished: 0,
            is_discarded: false,
            loss: None,
            copy_failed: false,
            farewell: None,
            farewell_state: None,
            refusals: Default::default(),
            time_out: None,
            stale: Vec::new(),
            replay: Default::default(),
            trace: None,
            text: Vec::new(),
        }
    }
}
