//! What arrives in the world: bytes, ends of connections, mail, at whom they are meant for.
//!
//! Decides nothing. Called by `World` for each event that is due.

use crate::ids::Time;
use crate::sim::database::Door;
use crate::sim::frontend::{self, Reply};
use crate::sim::parts::{Event, Line};
use crate::sim::World;

impl World {
    pub(super) fn on_event(&mut self, order: u64, event: Event) {
        let now = Time(self.now);
        match event {
            Event::FromClient(client, _) if self.clients[client].is_paused => {
                self.clients[client].held.push((order, event));
            }
            // A peer that leaves bytes unread resets the connection, which ends even one that is not read.
            Event::ClientLeft(client)
                if self.clients[client].is_paused && self.clients[client].stuck.is_empty() =>
            {
                self.clients[client].held.push((order, event));
            }
            Event::FromClient(client, bytes) => {
                let (worker, id) = (self.clients[client].worker, self.clients[client].id);
                if self.desks[worker].clients.contains_key(&id) {
                    self.with(worker, |relay, now| relay.client_bytes(now, id, &bytes));
                }
            }
            Event::ClientLeft(client) => {
                let (worker, id) = (self.clients[client].worker, self.clients[client].id);
                if self.desks[worker].clients.contains_key(&id) {
                    self.with(worker, |relay, now| relay.client_closed(now, id));
                }
            }
            Event::ToClient(client, bytes) => {
                let patron = &mut self.clients[client];
                patron.heard_at = now.0;
                if patron.is_raw {
                    patron.raw.extend_from_slice(&bytes);
                    return;
                }
                if let Some(mysql) = &mut patron.mysql {
                    let words = mysql.feed(&bytes, &mut patron.replies);
                    if !words.is_empty() {
                        self.say(client, &words);
                    }
                    return;
                }
                patron.input.extend_from_slice(&bytes);
                frontend::read_replies(&mut patron.input, &mut patron.replies);
                for reply in &patron.replies {
                    if let Reply::Key(key) = reply {
                        patron.key = Some(key.clone());
                    }
                }
            }
            Event::ClientClosed(client) => self.clients[client].is_closed = true,
            Event::ClientWritten(client) => {
                let (worker, id) = (self.clients[client].worker, self.clients[client].id);
                self.clients[client].is_writing = false;
                if self.desks[worker].clients.contains_key(&id) {
                    self.with(worker, |relay, now| relay.client_written(now, id));
                    self.pump_client(client);
                }
            }
            Event::FromSession(line, _) | Event::SessionLeft(line) if self.lines[line].is_paused => {
                self.lines[line].held.push((order, event));
            }
            Event::FromSession(line, bytes) => {
                if let Some(id) = self.lines[line].server {
                    let worker = self.lines[line].worker;
                    self.with(worker, |relay, now| relay.server_bytes(now, id, &bytes));
                } else if self.lines[line].is_moving {
                    self.lines[line].held.push((order, Event::FromSession(line, bytes)));
                }
            }
            Event::SessionLeft(line) => {
                if let Some(id) = self.lines[line].server {
                    let worker = self.lines[line].worker;
                    self.with(worker, |relay, now| relay.server_closed(now, id, None));
                } else if self.lines[line].is_moving {
                    self.lines[line].held.push((order, Event::SessionLeft(line)));
                }
            }
            Event::ToSession(line, bytes) => {
                self.lines[line].session.version = self.version;
                self.lines[line].session.slow_settings_us = self.slow_settings_us;
                self.lines[line].feed(now.0, &bytes);
                self.collect(line);
            }
            Event::SessionClosed(line) => {
                self.lines[line].end();
                self.lines[line].has_hung_up = true;
            }
            Event::SessionWritten(line) => {
                self.lines[line].is_writing = false;
                if let Some(id) = self.lines[line].server {
                    let worker = self.lines[line].worker;
                    self.with(worker, |relay, now| relay.server_written(now, id));
                    self.pump_line(line);
                }
            }
            Event::SessionWake(line) => {
                // Why: what runs next may be done at this very moment, and wants to be woken once more.
                self.lines[line].woken_at = 0;
                self.lines[line].wake(now.0);
                self.collect(line);
            }
            Event::Connected(line) => self.on_connected(line),
            Event::Detach(line) => self.on_detached(line),
            Event::Parcel(line, to, server) => {
                self.travelling -= 1;
                let worker = usize::from(to.0);
                let id = self.desks[worker].relay.accept_parcel(now, *server);
                self.desks[worker].servers.insert(id, line);
                let entry = &mut self.lines[line];
                (entry.worker, entry.server, entry.is_moving) = (worker, Some(id), false);
                self.with(worker, |relay, now| relay.parcel_ready(now, id));
                self.let_go(line);
            }
            Event::Mail(to, mail) => self.with(usize::from(to.0), |relay, now| relay.mail(now, mail)),
            Event::Cancel(endpoint, key) => {
                let is_meant = |line: &Line| {
                    line.endpoint == endpoint && line.session.key == key && !line.session.is_over
                };
                if let Some(line) = self.lines.iter().position(is_meant) {
                    self.lines[line].session.cancel(now.0);
                    self.collect(line);
                }
            }
            Event::CancelDone(worker, server) => {
                self.with(worker, |relay, now| relay.cancel_done(now, server))
            }
            Event::Errand(worker, patron, errand) => {
                let outcome = errand.run();
                self.with(worker, |relay, now| relay.errand_done(now, patron, outcome));
            }
        }
    }

    pub(super) fn on_connected(&mut self, line: usize) {
        let (worker, Some(id)) = (self.lines[line].worker, self.lines[line].server) else { return };
        if self.lines[line].session.door == Door::Down {
            self.lines[line].end();
            self.lines[line].has_hung_up = true;
            self.with(worker, |relay, now| relay.server_closed(now, id, Some("connection refused".into())));
            return;
        }
        let address = format!("{}:5432", self.lines[line].endpoint);
        self.with(worker, |relay, now| {
            relay.server_connected(now, id, address, "10.0.0.2:777".into(), false)
        });
        if let Some(mysql) = &mut self.lines[line].mysql {
            mysql.greet();
            self.collect(line);
        }
    }

    pub(super) fn on_detached(&mut self, line: usize) {
        let (worker, Some(id)) = (self.lines[line].worker, self.lines[line].server) else { return };
        let parcel = self.with(worker, |relay, now| relay.take_parcel(now, id));
        if let Some((to, server)) = parcel {
            self.desks[worker].servers.remove(&id);
            self.lines[line].server = None;
            self.travelling += 1;
            self.at(self.now + 5, Event::Parcel(line, to, server));
        }
    }
}
