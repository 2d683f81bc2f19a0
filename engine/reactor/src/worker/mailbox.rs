//! What other threads want of a worker: mail from the engine, from helpers and from its peers.
//!
//! Passes it on and keeps nothing. Called by `worker` once per loop.

use std::sync::atomic::Ordering;

use maitred_relay::ids::Time;

use super::Worker;
use crate::backend::Backend;
use crate::mail::{WorkerMail, WorkerReport};
use crate::socket::Owner;

impl Worker {
    pub(super) fn read_mail(&mut self, now: Time) {
        self.peers[usize::from(self.id.0)].is_woken.store(false, Ordering::Release);
        while let Ok(mail) = self.mailbox.try_recv() {
            self.on_mail(now, mail);
        }
    }

    fn on_mail(&mut self, now: Time, mail: WorkerMail) {
        match mail {
            WorkerMail::Relay(mail) => self.relay.mail(now, mail),
            WorkerMail::Adopt { socket, listener } => self.adopt_client(now, socket, listener),
            WorkerMail::Parcel { socket, tls, server } => {
                self.perform(now);
                let socket = self.backend.adopt(socket);
                let id = self.relay.accept_parcel(now, *server);
                let entry = self.sockets.insert(socket, Owner::Server(id));
                entry.tls = tls;
                entry.is_fresh = false;
                self.server_sockets.insert(id, socket);
                self.relay.parcel_ready(now, id);
            }
            WorkerMail::Errand { patron, outcome } => self.relay.errand_done(now, patron, outcome),
            WorkerMail::Resolved { ticket, addresses } => self.on_resolved(now, ticket, addresses),
            WorkerMail::Apply { routes, tls } => {
                self.tls = tls;
                self.relay.apply(now, routes);
            }
            WorkerMail::Listen { add, close } => {
                let gone = self.sockets.find(
                    |socket| matches!(&socket.owner, Owner::Listener(facts) if close.iter().any(|a| **a == *facts.address)),
                );
                for id in gone {
                    self.drop_socket(id);
                }
                for (descriptor, facts) in add {
                    let id = self.backend.listen(descriptor);
                    self.sockets.insert(id, Owner::Listener(facts));
                }
            }
            WorkerMail::Pause(database) => self.relay.pause(database.as_deref()),
            WorkerMail::Resume(database) => self.relay.resume(now, database.as_deref()),
            // Whoever asked may have stopped waiting; then nobody needs the answer.
            WorkerMail::Kill(database, reply) => drop(reply.send(self.relay.kill(now, database.as_deref()))),
            WorkerMail::KillClient(client, reply) => drop(reply.send(self.relay.kill_client(now, client))),
            WorkerMail::Reconnect(database) => self.relay.reconnect(now, database.as_deref()),
            WorkerMail::Leased(database, reply) => drop(reply.send(self.relay.leased(database.as_deref()))),
            WorkerMail::UserAnswered(token, user) => {
                self.relay.user_answered(now, token, user.map(|user| *user))
            }
            WorkerMail::Console(client, answer) => self.relay.console_answered(now, client, &answer),
            WorkerMail::Report { with_connections, reply } => {
                let report = WorkerReport {
                    worker: self.id.0,
                    relay: self.relay.report(now, with_connections),
                    loops: self.loops,
                    sockets: self.backend.sockets(),
                    backend: self.backend.name(),
                };
                drop(reply.send(report));
            }
            WorkerMail::Drain => {
                for id in self.sockets.find(|socket| matches!(socket.owner, Owner::Listener(_))) {
                    self.drop_socket(id);
                }
                self.relay.drain(now);
            }
            WorkerMail::Stop => self.is_stopping = true,
        }
    }
}
