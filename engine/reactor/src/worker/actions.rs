//! What the relay wants done, one action after the other.
//!
//! Decides nothing: each action names its socket and what is to become of it. Called by `worker`
//! at the end of each round.

use maitred_relay::action::{Action, Patron};
use maitred_relay::ids::Time;
use maitred_wire::{handshake, Dialect};

use super::Worker;
use crate::backend::Backend;
use crate::errand::{Job, Outcome};
use crate::mail::WorkerMail;
use crate::socket::Errand;

impl Worker {
    pub(super) fn act(&mut self, now: Time, action: Action) {
        match action {
            Action::FlushClient(client) => {
                if let Some(id) = self.client_sockets.get(client).copied() {
                    self.pump(now, id);
                }
            }
            Action::FlushServer(server) => {
                if let Some(id) = self.server_sockets.get(server).copied() {
                    self.pump(now, id);
                }
            }
            Action::CloseClient { client, last_words } => {
                self.count_client_gone();
                if let Some(id) = self.client_sockets.remove(client) {
                    self.leave(now, id, last_words);
                }
            }
            Action::CloseServer { server, last_words } => {
                self.lookups.retain(|_, lookup| lookup.server != server);
                if let Some(id) = self.server_sockets.remove(server) {
                    self.leave(now, id, last_words);
                }
            }
            Action::PauseClient(client) => {
                if let Some(id) = self.client_sockets.get(client) {
                    self.backend.pause(*id);
                }
            }
            Action::ResumeClient(client) => {
                if let Some(id) = self.client_sockets.get(client) {
                    self.backend.resume(*id);
                }
            }
            Action::PauseServer(server) => {
                if let Some(id) = self.server_sockets.get(server) {
                    self.backend.pause(*id);
                }
            }
            Action::ResumeServer(server) => {
                if let Some(id) = self.server_sockets.get(server) {
                    self.backend.resume(*id);
                }
            }
            Action::StartClientTls(client) => {
                if let Some(id) = self.client_sockets.get(client).copied() {
                    self.start_client_tls(id, false);
                    let early = self.relay.take_tls_bytes(client);
                    if !early.is_empty() {
                        self.on_encrypted(now, id, &early);
                    }
                }
            }
            Action::StartServerTls(server) => {
                if let (Some(id), Some(endpoint)) =
                    (self.server_sockets.get(server).copied(), self.relay.endpoint_of(server))
                {
                    self.start_server_tls(now, id, &endpoint.name);
                }
            }
            Action::OpenServer { server, endpoint, .. } => {
                self.look_up(now, server, endpoint);
            }
            Action::OpenCancel { server, endpoint, key } => {
                let mut request = Vec::new();
                // Why this one: where a cancel is a statement, the relay opens a server for it.
                Dialect::Postgres.write_cancel(&mut request, &key);
                let asks_tls = self.relay.is_server_tls(server) && !endpoint.tls.direct;
                let errand = Box::new(Errand { server, endpoint: endpoint.name.clone(), request, asks_tls });
                self.connect_cancel(now, errand);
            }
            Action::Errand { patron, errand } => self.run_errand(now, patron, errand),
            Action::Mail { to, mail } => self.peers[usize::from(to.0)].send(WorkerMail::Relay(mail)),
            Action::MoveServer { server, to } => {
                if let Some(id) = self.server_sockets.get(server).copied() {
                    if let Some(socket) = self.sockets.get_mut(id) {
                        socket.moving_to = Some(to);
                        if !socket.is_writing {
                            self.backend.detach(id);
                        }
                    }
                }
            }
            Action::Tell(event) => self.events.push(event),
        }
    }

    fn run_errand(&mut self, now: Time, patron: Patron, errand: handshake::Errand) {
        let own = self.peers[usize::from(self.id.0)].clone();
        let deliver = Box::new(move |outcome| {
            if let Outcome::Handshake(outcome) = outcome {
                own.send(WorkerMail::Errand { patron, outcome });
            }
        });
        if let Err(busy) = self.errands.submit(Job::Handshake(errand), deliver) {
            match patron {
                Patron::Client(client) => self.relay.login_overload(now, client, busy.to_string()),
                Patron::Server(server) => self.relay.server_closed(now, server, Some(busy.to_string())),
            }
        }
    }
}
