//! Performing what relays want done: each action, as `reactor::worker` does it.
//!
//! Decides nothing. Called by `World` after each call of a relay.

use std::cmp::Reverse;

use maitred_wire::Dialect;

use crate::action::Action;
use crate::ids::{ClientId, ServerId};
use crate::sim::database::{Door, Session};
use crate::sim::mysql;
use crate::sim::parts::{trace, Due, Event, Line};
use crate::sim::World;
use crate::snapshot::Endpoint;

impl World {
    pub(super) fn act(&mut self, worker: usize, action: Action) {
        let (now, latency) = (self.now, self.latency_us);
        match action {
            Action::FlushClient(id) => {
                if let Some(client) = self.desks[worker].clients.get(&id).copied() {
                    self.pump_client(client);
                }
            }
            Action::FlushServer(id) => {
                if let Some(line) = self.desks[worker].servers.get(&id).copied() {
                    self.pump_line(line);
                }
            }
            Action::CloseClient { client: id, last_words } => {
                let client = self.desks[worker].clients.remove(&id).expect("a client is closed once");
                if self.clients[client].reads {
                    self.write_client(client, last_words);
                } else {
                    self.clients[client].stuck.push(last_words);
                }
                let at = self.clients[client].got_at.max(now + latency);
                self.at(at, Event::ClientClosed(client));
            }
            Action::CloseServer { server, last_words } => {
                if let Some(line) = self.desks[worker].servers.remove(&server) {
                    self.write_session(line, last_words);
                    self.lines[line].server = None;
                    let at = self.lines[line].sent_at.max(now + latency);
                    self.at(at, Event::SessionClosed(line));
                }
            }
            Action::PauseClient(id) => self.pause_client(worker, id, true),
            Action::ResumeClient(id) => self.pause_client(worker, id, false),
            Action::PauseServer(id) => self.pause_server(worker, id, true),
            Action::ResumeServer(id) => self.pause_server(worker, id, false),
            Action::OpenServer { server, endpoint, .. } => self.connect(worker, server, &endpoint),
            Action::OpenCancel { server, endpoint, key } => {
                self.at(now + self.cancel_us, Event::Cancel(endpoint.name.clone(), key));
                self.at(now + self.cancel_us + self.cancel_end_us, Event::CancelDone(worker, server));
            }
            Action::Errand { patron, errand } => self.at(now + 5_000, Event::Errand(worker, patron, errand)),
            Action::Mail { to, mail } => self.at(now + 5, Event::Mail(to, mail)),
            Action::MoveServer { server, .. } => {
                if let Some(line) = self.desks[worker].servers.get(&server).copied() {
                    self.lines[line].is_moving = true;
                    if !self.lines[line].is_writing {
                        self.at(now + 5, Event::Detach(line));
                    }
                }
            }
            Action::Tell(event) => {
                trace(|| format!("{now} Python is told {event:?}"));
                self.told.push(event);
            }
            Action::StartClientTls(_) | Action::StartServerTls(_) => panic!("scenarios have no TLS"),
        }
    }

    pub(super) fn connect(&mut self, worker: usize, server: ServerId, endpoint: &Endpoint) {
        let (dialect, endpoint) = (endpoint.dialect, endpoint.name.as_str());
        let number = self.lines.len();
        let open = self.lines.iter().filter(|line| line.endpoint == endpoint && !line.is_over()).count();
        let door = self.doors.get(endpoint).cloned().unwrap_or(Door::Open);
        let door = if self.max_sessions > 0 && open >= self.max_sessions && door == Door::Open {
            Door::Refuse(*b"53300", "sorry, too many clients already".into())
        } else {
            door
        };
        self.attempts.push(self.now);
        self.lines.push(Line {
            endpoint: endpoint.to_owned(),
            worker,
            server: Some(server),
            session: Session::new(number, door.clone(), self.version),
            mysql: (dialect == Dialect::Mysql)
                .then(|| Box::new(mysql::session::Session::new(number, door.clone(), self.has_mariadb))),
            opened_at: self.now,
            is_writing: false,
            is_paused: false,
            is_moving: false,
            held: Vec::new(),
            sent_at: 0,
            got_at: 0,
            has_hung_up: false,
            woken_at: 0,
        });
        self.lines[number].session.breath = self.breath.clone();
        self.desks[worker].servers.insert(server, number);
        match door {
            Door::Silent => {}
            _ => self.at(self.now + self.latency_us, Event::Connected(number)),
        }
    }

    pub(super) fn pause_client(&mut self, worker: usize, id: ClientId, is_paused: bool) {
        let Some(client) = self.desks[worker].clients.get(&id).copied() else { return };
        self.clients[client].is_paused = is_paused;
        if !is_paused {
            let held = std::mem::take(&mut self.clients[client].held);
            self.let_in(held);
        }
    }

    pub(super) fn pause_server(&mut self, worker: usize, id: ServerId, is_paused: bool) {
        let Some(line) = self.desks[worker].servers.get(&id).copied() else { return };
        self.lines[line].is_paused = is_paused;
        if !is_paused {
            self.let_go(line);
        }
    }

    pub(super) fn let_go(&mut self, line: usize) {
        let held = std::mem::take(&mut self.lines[line].held);
        self.let_in(held);
    }

    /// Before whatever arrived later.
    fn let_in(&mut self, held: Vec<(u64, Event)>) {
        for (order, event) in held {
            self.due.push(Reverse(Due { at: self.now, order, event }));
        }
    }

    pub(super) fn pump_client(&mut self, client: usize) {
        let patron = &mut self.clients[client];
        if patron.is_writing {
            return;
        }
        let mut bytes = Vec::new();
        self.desks[patron.worker].relay.take_client_output(patron.id, &mut bytes);
        if bytes.is_empty() {
            return;
        }
        patron.is_writing = true;
        if patron.reads {
            self.write_client(client, bytes);
            self.at(self.now + 10, Event::ClientWritten(client));
        } else {
            patron.stuck.push(bytes);
        }
    }

    /// A client that did not read does so from now on.
    pub fn read_again(&mut self, client: usize) {
        self.clients[client].reads = true;
        for bytes in std::mem::take(&mut self.clients[client].stuck) {
            self.write_client(client, bytes);
        }
        if self.clients[client].is_writing {
            self.at(self.now + 10, Event::ClientWritten(client));
        }
    }

    pub(super) fn write_client(&mut self, client: usize, bytes: Vec<u8>) {
        for piece in self.pieces(bytes) {
            let patron = &mut self.clients[client];
            patron.got_at = patron.got_at.max(self.now + self.latency_us);
            let at = patron.got_at;
            self.at(at, Event::ToClient(client, piece));
        }
    }

    pub(super) fn pump_line(&mut self, line: usize) {
        let entry = &mut self.lines[line];
        let Some(id) = entry.server else { return };
        if entry.is_writing {
            return;
        }
        let mut bytes = Vec::new();
        self.desks[entry.worker].relay.take_server_output(id, &mut bytes);
        if !bytes.is_empty() {
            entry.is_writing = true;
            self.write_session(line, bytes);
            let us = if self.slow_writes { 10_000 } else { 10 };
            self.at(self.now + us, Event::SessionWritten(line));
        } else if entry.is_moving {
            self.at(self.now + 5, Event::Detach(line));
        }
    }

    pub(super) fn write_session(&mut self, line: usize, bytes: Vec<u8>) {
        for piece in self.pieces(bytes) {
            let entry = &mut self.lines[line];
            entry.sent_at = entry.sent_at.max(self.now + self.latency_us);
            let at = entry.sent_at;
            self.at(at, Event::ToSession(line, piece));
        }
    }

    /// What a session has to say goes on its way.
    pub(super) fn collect(&mut self, line: usize) {
        self.carry_words(line);
        self.carry_kills(line);
        let bytes = self.lines[line].take_words();
        for piece in self.pieces(bytes) {
            let entry = &mut self.lines[line];
            entry.got_at = entry.got_at.max(self.now + self.latency_us);
            let at = entry.got_at;
            self.at(at, Event::FromSession(line, piece));
        }
        let entry = &mut self.lines[line];
        if entry.is_over() && !entry.has_hung_up {
            entry.has_hung_up = true;
            let at = entry.got_at.max(self.now + self.latency_us);
            self.at(at, Event::SessionLeft(line));
        }
        if let Some(at) = self.lines[line].wake_at() {
            if self.lines[line].woken_at != at {
                self.lines[line].woken_at = at;
                self.at(at, Event::SessionWake(line));
            }
        }
    }
}
