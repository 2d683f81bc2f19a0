//! A client's login: who it is, whether there is room, and what it is told first.
//!
//! The exchange itself is the dialect's; passwords are compared there and salted elsewhere. This
//! file asks the route tables, takes the places, and waits for what only Python or a first server
//! can tell. Called by `client` while a client is in its `Login` state.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_wire::dialect::{ClientHandshake, Compression, Greeting};
use maitred_wire::handshake::{ClientStep, ErrandOutcome, Method, Startup};
use maitred_wire::{Code, Complaint, Dialect, Transaction};

use crate::action::{Action, ClientEnd, Event, Patron};
use crate::agreed::Agreed;
use crate::budget::{Level, Permit};
use crate::client::{Client, Identity, State};
use crate::ids::{ClientId, Time};
use crate::open::Exclusive;
use crate::route::KnownUser;
use crate::session_state::{is_same_value, Settings};
use crate::snapshot::{AuthMethod, MysqlMethod, SslMode};
use crate::{ClientOpened, Relay};

/// A login under way.
#[derive(Debug)]
pub struct Login {
    pub handshake: ClientHandshake,
    startup: Option<Box<Startup>>,
    user: Option<Arc<KnownUser>>,
    /// Its place among the logins for which a password is being salted.
    pub turn: Option<Permit>,
    pub deadline: Time,
    /// From the client's TLS certificate, verified.
    common_name: Option<String>,
    channel_binding: Option<Vec<u8>>,
}

impl Relay {
    /// Somebody connected.
    pub fn client_opened(&mut self, now: Time, opened: ClientOpened) -> ClientId {
        self.now = now;
        let deadline = now.after_ms(self.routes.snapshot.limits.client_login_timeout_ms);
        // Why a vacant one first: who is greeted with a number must have it.
        let vacant = Login {
            handshake: Dialect::Postgres.client_handshake(Greeting::default),
            startup: None,
            user: None,
            turn: None,
            deadline,
            common_name: None,
            channel_binding: None,
        };
        let dialect = opened.dialect;
        let client = Client::new(vacant, &opened, now, &self.nobody, &self.no_settings);
        let id = self.clients.insert(client);
        let slot = slotmap::Key::data(&id).as_ffi() as u32 as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, ClientId::default());
        }
        self.by_slot[slot] = id;
        self.logins.push_back(id);
        if dialect.takes_turns() {
            self.greet(id);
        }
        id
    }

    /// Servers of this dialect speak first.
    fn greet(&mut self, id: ClientId) {
        let greeting = self.greeting(id, None);
        let mut handshake = self.clients[id].dialect.client_handshake(|| greeting);
        // Why before anybody has said who it is: as its servers do; what is full is full for all.
        if let Err(complaint) = self.client_permit(&[&self.shared.clients]).map(drop) {
            handshake.refuse(complaint);
        }
        if let State::Login(login) = &mut self.clients[id].state {
            login.handshake = handshake;
        }
        self.client_login_steps(id);
    }

    /// A client logs in again in the same connection; nothing of its session is left.
    pub(crate) fn log_in_anew(&mut self, id: ClientId, message: &[u8]) {
        self.renew(id);
        let greeting = self.greeting(id, self.clients[id].agreed.as_ref().and_then(|agreed| agreed.nonce));
        let client = &mut self.clients[id];
        let capabilities = client.agreed.as_ref().map_or(0, |agreed| agreed.capabilities);
        let login = Login {
            handshake: client.dialect.changed_user(greeting, message, capabilities),
            startup: None,
            user: None,
            turn: None,
            deadline: self.now.after_ms(self.routes.snapshot.limits.client_login_timeout_ms),
            common_name: None,
            channel_binding: None,
        };
        client.settings = Arc::clone(&self.no_settings);
        client.own_settings = Arc::clone(&self.no_settings);
        client.state = State::Login(Box::new(login));
        self.logins.push_back(id);
        self.client_login_steps(id);
    }

    fn greeting(&self, id: ClientId, nonce: Option<[u8; 20]>) -> Greeting {
        let number = self.cancel_key(id, 0).pid;
        let client = &self.clients[id];
        let snapshot = &self.routes.snapshot;
        Greeting {
            connection_id: number,
            server_version: snapshot.limits.mysql_version.clone(),
            capabilities: client.dialect.offered(&snapshot.limits.mysql_version),
            character_set: client.dialect.usual_charset(),
            tls: !client.is_tls
                && snapshot.client_tls.as_ref().is_some_and(|tls| tls.mode != SslMode::Disable),
            is_local: client.is_local(),
            method: mysql_method(snapshot.auth.mysql_method),
            host: client.ip(),
            nonce,
            key: Some(self.shared.proven.key()),
            ..Greeting::default()
        }
    }

    /// TLS to the client is up.
    pub fn client_secured(
        &mut self,
        now: Time,
        id: ClientId,
        common_name: Option<String>,
        binding: Option<Vec<u8>>,
    ) {
        self.now = now;
        let Some(client) = self.clients.get_mut(id) else { return };
        client.is_tls = true;
        if let State::Login(login) = &mut client.state {
            login.common_name = common_name;
            login.channel_binding = binding;
            login.handshake.tls_started();
        }
    }

    /// Bytes that followed a request for TLS: of TLS already, where the dialect lets its clients go on unasked.
    pub fn take_tls_bytes(&mut self, id: ClientId) -> Vec<u8> {
        match self.clients.get_mut(id).map(|client| &mut client.state) {
            Some(State::Login(login)) => login.handshake.take_rest(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn login_fed(&mut self, id: ClientId, bytes: &[u8]) {
        if let Some(State::Login(login)) = self.clients.get_mut(id).map(|client| &mut client.state) {
            login.handshake.feed(bytes);
            self.client_login_steps(id);
        }
    }

    pub(crate) fn client_errand_done(&mut self, id: ClientId, outcome: ErrandOutcome) {
        if let Some(State::Login(login)) = self.clients.get_mut(id).map(|client| &mut client.state) {
            login.turn = None;
            login.handshake.errand_done(outcome);
            self.client_login_steps(id);
        }
        self.give_login_turns();
    }

    /// The helper threads have more logins than they can take.
    pub fn login_overload(&mut self, now: Time, id: ClientId, cause: String) {
        self.now = now;
        let complaint =
            Complaint::fatal(Code::NotNow, cause).hint("lower limits.logins, or log in again later");
        self.end_client(id, ClientEnd::LoginRefused, Some(complaint));
    }

    fn client_login_steps(&mut self, id: ClientId) {
        loop {
            let Some(client) = self.clients.get_mut(id) else { return };
            let is_tls = client.is_tls;
            let State::Login(login) = &mut client.state else { return };
            let step = login.handshake.next();
            let mut output = self.spare.pop().unwrap_or_default();
            login.handshake.take_output(&mut output);
            if !output.is_empty() {
                self.say(id, |out| out.extend_from_slice(&output));
            }
            output.clear();
            self.keep_spare(output);
            match step {
                ClientStep::NeedMore => return,
                ClientStep::TlsAsked => {
                    let tls = self.routes.snapshot.client_tls.as_ref();
                    let accepts = !is_tls && tls.is_some_and(|tls| tls.mode != SslMode::Disable);
                    self.answer_tls(id, accepts);
                    if accepts {
                        return;
                    }
                }
                ClientStep::Cancel(key) => {
                    self.cancel_requested(id, key);
                    return;
                }
                ClientStep::Startup(startup) => self.started(id, startup),
                ClientStep::Errand(errand) => {
                    self.login_queue.push_back((id, errand));
                    self.give_login_turns();
                    return;
                }
                ClientStep::LoggedIn => {
                    self.proven(id);
                    return;
                }
                ClientStep::Failed(complaint) => {
                    self.note_login_failure(id, &complaint);
                    let reason = match complaint.code {
                        Code::ProtocolViolation => ClientEnd::ProtocolViolation,
                        Code::TooManyConnections | Code::UserLimit => ClientEnd::LimitReached,
                        _ => ClientEnd::LoginRefused,
                    };
                    self.end_client(id, reason, None);
                    return;
                }
            }
        }
    }

    fn answer_tls(&mut self, id: ClientId, accepts: bool) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let State::Login(login) = &mut client.state else { return };
        login.handshake.answer_tls(accepts);
        let mut output = Vec::new();
        login.handshake.take_output(&mut output);
        self.say(id, |out| out.extend_from_slice(&output));
        if accepts {
            self.actions.push(Action::StartClientTls(id));
        }
    }

    fn note_login_failure(&mut self, id: ClientId, complaint: &Complaint) {
        let Some(client) = self.clients.get(id) else { return };
        let State::Login(login) = &client.state else { return };
        let (user, database) = match &login.startup {
            Some(startup) => (startup.user.clone(), startup.database.clone()),
            None => Default::default(),
        };
        let address = client.address.to_string();
        self.counters.login_failures += 1;
        self.actions.push(Action::Tell(Event::LoginFailed {
            user,
            database,
            address,
            cause: complaint.message.clone(),
        }));
    }

    /// The client said who it is.
    fn started(&mut self, id: ClientId, mut startup: Box<Startup>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if startup.database.is_empty() {
            let home =
                self.routes.home(client.dialect, &startup.user).filter(|_| client.dialect.takes_turns());
            startup.database = home.map_or_else(|| startup.user.clone(), |home| home.name.clone());
        }
        let State::Login(login) = &mut client.state else { return };
        let user = startup.user.clone();
        login.startup = Some(startup);
        match self.routes.user(&user) {
            Ok(known) => self.judge(id, known),
            Err(()) => {
                let database =
                    self.startup_of(id).map(|startup| startup.database.clone()).unwrap_or_default();
                let token = crate::public_client_id(self.worker, id);
                self.actions.push(Action::Tell(Event::AskUser { token, user, database }));
            }
        }
    }

    /// Python has said who the user is (or that nobody knows).
    pub fn user_answered(&mut self, now: Time, token: u64, user: Option<KnownUser>) {
        self.now = now;
        if let Some(id) = self.client_by_public(token) {
            let name = self.startup_of(id).map(|startup| startup.user.clone());
            if let Some(name) = name {
                let known = self.routes.remember_user(&name, user);
                self.judge(id, known);
                self.client_login_steps(id);
            }
        }
        self.settle();
    }

    fn startup_of(&self, id: ClientId) -> Option<&Startup> {
        match &self.clients.get(id)?.state {
            State::Login(login) | State::Welcome(login) => login.startup.as_deref(),
            _ => None,
        }
    }

    /// May this user come in, and how must it prove itself?
    fn judge(&mut self, id: ClientId, known: Option<Arc<KnownUser>>) {
        let verdict = self.admission(id, known.as_deref());
        let secret = self.shared.secret;
        let Some(State::Login(login)) = self.clients.get_mut(id).map(|client| &mut client.state) else {
            return;
        };
        let user = login.startup.as_deref().map_or("", |startup| startup.user.as_str());
        let credentials =
            known.as_ref().map(|known| self.shared.proven.completed(user, known.credentials.clone()));
        login.user = known;
        match verdict {
            Ok((method, permit)) => {
                let binding = login.channel_binding.clone();
                login.handshake.demand(method, credentials.as_ref(), &secret, binding);
                self.clients[id].permit = permit;
            }
            Err(complaint) => login.handshake.refuse(complaint),
        }
    }

    fn admission(&self, id: ClientId, known: Option<&KnownUser>) -> Result<(Method, Permit), Complaint> {
        let client = &self.clients[id];
        let State::Login(login) = &client.state else {
            return Err(Complaint::fatal(Code::Internal, "no login"));
        };
        let startup = login.startup.as_deref().expect("started");
        let snapshot = &self.routes.snapshot;
        if self.is_draining() {
            return Err(Complaint::fatal(Code::NotNow, "the proxy is shutting down"));
        }
        if snapshot.client_tls.as_ref().is_some_and(|tls| tls.mode >= SslMode::Require)
            && !client.is_tls
            && !client.is_local()
        {
            return Err(Complaint::fatal(
                Code::NotAuthorized,
                "this proxy accepts encrypted connections only",
            )
            .hint("connect with sslmode=require, or set tls.client.mode to \"prefer\""));
        }
        let is_cert = client.dialect.takes_turns() && snapshot.auth.mysql_method == MysqlMethod::Cert;
        let method = match snapshot.auth.method {
            _ if client.dialect.takes_turns() && !is_cert => mysql_method(snapshot.auth.mysql_method),
            _ if is_cert && login.common_name.as_deref() == Some(startup.user.as_str()) => Method::Trust,
            AuthMethod::Trust if !is_cert => Method::Trust,
            AuthMethod::Password if !is_cert => Method::Password,
            AuthMethod::Md5 if !is_cert => Method::Md5,
            AuthMethod::ScramSha256 if !is_cert => Method::ScramSha256,
            AuthMethod::Cert if login.common_name.as_deref() == Some(startup.user.as_str()) => Method::Trust,
            _ => {
                let given = match &login.common_name {
                    Some(name) => format!("its common name is \"{name}\""),
                    None => "none was given".to_owned(),
                };
                return Err(Complaint::fatal(
                    Code::NotAuthorized,
                    format!("certificate authentication failed for user \"{}\"", startup.user),
                )
                .detail(given));
            }
        };
        let (user, database) = (&startup.user, &startup.database);
        if self.routes.is_console(database) {
            // Why none is no hindrance: who mends a flood must be able to come in.
            return Ok((method, self.client_permit(&[&self.shared.clients]).unwrap_or_default()));
        }
        let Some(entry) = self.routes.database_in(client.dialect, database) else {
            return Err(Complaint::fatal(
                Code::UnknownDatabase,
                format!("database \"{database}\" does not exist"),
            )
            .hint("it is not in the configuration: add [databases.NAME], or \"*\" for any name"));
        };
        if entry.disabled {
            return Err(Complaint::fatal(Code::NotNow, format!("database \"{database}\" is disabled")));
        }
        let of_database = self.shared.named(Level::DatabaseClients, &entry.name, entry.max_clients);
        let of_user = self.shared.named(Level::UserClients, user, self.routes.client_limit(known));
        let permit = self.client_permit(&[&self.shared.clients, &of_database, &of_user])?;
        Ok((method, permit))
    }

    /// Places in all `budgets`: of all clients, of the database, of the user, as far as there are such.
    fn client_permit(&self, budgets: &[&Arc<crate::budget::Budget>]) -> Result<Permit, Complaint> {
        Permit::take(budgets, 0).map_err(|full| {
            let is_of_user = budgets.get(2).is_some_and(|of_user| Arc::ptr_eq(of_user, &full));
            Complaint::fatal(
                if is_of_user { Code::UserLimit } else { Code::TooManyConnections },
                format!("too many clients: {} of {} ({})", full.used(), full.limit(), full.setting),
            )
            .hint(format!("raise {} or close clients that are idle", full.setting))
        })
    }

    /// The client has proven who it is.
    fn proven(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let State::Login(login) = &mut client.state else { return };
        let startup = login.startup.as_deref().expect("started").clone();
        client.minor = startup.minor;
        if let (Some(fast), Some(known)) = (login.handshake.remembered(), &login.user) {
            self.shared.proven.remember(&startup.user, &known.credentials, fast);
        }
        if client.dialect.takes_turns() {
            let sequence = login.handshake.next_sequence();
            let nonce = login.handshake.nonce();
            let before = client.agreed.take().and_then(|agreed| agreed.compression);
            let compression = before.or_else(|| Compression::agreed(startup.capabilities).map(Box::new));
            client.agreed = Some(Box::new(Agreed {
                capabilities: startup.capabilities,
                sequence,
                nonce,
                compression,
                ..Agreed::default()
            }));
        }
        if self.routes.is_console(&startup.database) {
            self.enter_console(id, &startup);
            return;
        }
        let Some(route) = self.routes.route(&startup.database, &startup.user) else {
            self.end_client(
                id,
                ClientEnd::LoginRefused,
                Some(Complaint::fatal(Code::UnknownDatabase, "the database is gone")),
            );
            return;
        };
        let queue_timeout_ms = route.settings.queue_timeout_ms;
        let identity = self.identity(&startup.user, &startup.database, &route.settings);
        let at = self.pool_for(route);
        let client = &mut self.clients[id];
        client.identity = identity;
        client.pool = at;
        let State::Login(login) = std::mem::replace(&mut client.state, State::Idle) else { return };
        client.state = State::Welcome(login);
        if let Some(replication) = startup.replication {
            let dialect = self.clients[id].dialect;
            let mut parameters = startup.parameters;
            parameters.retain(|(name, _)| !dialect.is_identity(name));
            let wish = Exclusive { client: id, replication, parameters };
            if let Err(complaint) = self.open_exclusive(at, wish) {
                self.end_client(id, ClientEnd::LimitReached, Some(Complaint { fatal: true, ..complaint }));
            }
            return;
        }
        if self.pools[at.0 as usize].shared.welcome().is_some() {
            self.finish_login(id);
            return;
        }
        // The wait for a first server is a wait for a server.
        let now = self.now;
        if let State::Welcome(login) = &mut self.clients[id].state {
            login.deadline = login.deadline.min(now.after_ms(queue_timeout_ms));
        }
        self.clients[id].asked_at = now;
        self.pools[at.0 as usize].welcome_waiters.push(id);
        self.want_server(at);
        self.send_away_if_hopeless(at);
    }

    /// Everything is known: tell the client what a session of its own would say, and be ready.
    pub(crate) fn finish_login(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let State::Welcome(login) = &mut client.state else { return };
        let startup = login.startup.take().expect("started");
        let rest = login.handshake.take_rest();
        let Some(welcome) = self.pools[client.pool.0 as usize].shared.welcome() else { return };
        let dialect = client.dialect;
        let mut own = Settings::default();
        let charset = dialect.settings_of_charset(startup.character_set, welcome.settings.value("version"));
        let parameters = startup.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in parameters.chain(charset) {
            let spelled = dialect.reported_as(name, value);
            let value = spelled.as_deref().unwrap_or(value);
            let is_default = welcome.settings.value(name).is_some_and(|fresh| is_same_value(fresh, value));
            if !is_default && !dialect.is_identity(name) {
                own.set(name, value);
            }
        }
        let own = self.settings.intern(own);
        client.settings = Arc::clone(&own);
        client.own_settings = Arc::clone(&own);
        client.state = State::Idle;
        client.asked_at = Time::NEVER;
        client.idle_since = self.now;
        self.pools[self.clients[id].pool.0 as usize].counters.logins += 1;
        self.say_welcome(id, &welcome.settings, Some(&own));
        self.login_over(id);
        // What it sent before it was told that it may.
        self.hand_rest(id, rest);
    }

    /// Settings, key, ready: what every session begins with.
    pub(crate) fn say_welcome(&mut self, id: ClientId, fresh: &Settings, own: Option<&Settings>) {
        let dialect = self.clients[id].dialect;
        if dialect.takes_turns() {
            self.say_done(id);
            self.compress_from_here(id);
            return;
        }
        let key = self.cancel_key(id, self.clients[id].minor);
        self.say(id, |out| {
            for (name, value) in fresh.iter() {
                let value = own.and_then(|own| own.value(name)).unwrap_or(value);
                dialect.say_setting(out, name, value);
            }
            dialect.say_key(out, &key);
            dialect.say_ready(out, Transaction::None);
        });
    }

    /// A login has ended well: tell Python.
    pub(crate) fn login_over(&mut self, id: ClientId) {
        let client = &self.clients[id];
        if self.routes.snapshot.log_connections {
            self.actions.push(Action::Tell(Event::ClientOpened {
                client: crate::public_client_id(self.worker, id),
                user: client.identity.user.clone(),
                database: client.identity.database.clone(),
                address: client.address.to_string(),
                tls: client.is_tls,
            }));
        }
    }

    /// Start the work of logins that wait for it, as many as may run at once.
    ///
    /// Why only that is bounded: a silent peer must not keep others from logging in.
    pub(crate) fn give_login_turns(&mut self) {
        while let Some((id, _)) = self.login_queue.front() {
            let id = *id;
            let Some(State::Login(login)) = self.clients.get_mut(id).map(|client| &mut client.state) else {
                self.login_queue.pop_front();
                continue;
            };
            let Ok(permit) = Permit::take(&[&self.shared.logins], 0) else { return };
            login.turn = Some(permit);
            if let Some((_, errand)) = self.login_queue.pop_front() {
                self.actions.push(Action::Errand { patron: Patron::Client(id), errand });
            }
        }
    }

    /// One object per user and database, for all its clients.
    pub(crate) fn identity(
        &mut self,
        user: &str,
        database: &str,
        settings: &crate::snapshot::PoolSettings,
    ) -> Arc<Identity> {
        let known = self.identities.get(database).and_then(|users| users.get(user));
        if let Some(identity) = known.filter(|identity| identity.settings == *settings) {
            return Arc::clone(identity);
        }
        let identity = Arc::new(Identity {
            user: user.to_owned(),
            database: database.to_owned(),
            settings: settings.clone(),
        });
        self.identities
            .entry(database.to_owned())
            .or_default()
            .insert(user.to_owned(), Arc::clone(&identity));
        identity
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }
}

/// How a MySQL client proves who it is; by its certificate it has already.
fn mysql_method(method: MysqlMethod) -> Method {
    match method {
        MysqlMethod::Trust | MysqlMethod::Cert => Method::Trust,
        MysqlMethod::Password => Method::Password,
        MysqlMethod::Native => Method::MysqlNative,
        MysqlMethod::CachingSha2 => Method::CachingSha2,
        MysqlMethod::Ed25519 => Method::Ed25519,
    }
}
