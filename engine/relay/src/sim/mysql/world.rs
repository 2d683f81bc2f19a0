//! MySQL's clients and sessions in the virtual world.
//!
//! Only what differs from the others: who connects, who is told what, and sessions that stop each other. Called by
//! scenarios and by `World`.

use maitred_wire::Dialect;

use super::can;
use super::frontend::{self, Frontend};
use super::session::Session;
use crate::sim::World;

impl World {
    /// Connect as `user` on `database`, with what the client can do; does not wait.
    pub fn arrive_mysql(&mut self, worker: usize, user: &str, database: &str, capabilities: u64) -> usize {
        let client = self.open_as(worker, Dialect::Mysql);
        self.clients[client].mysql = Some(Box::new(Frontend::new(user, database, capabilities)));
        client
    }

    /// Log in to `store` and wait until that is done; what was said meanwhile is dropped.
    pub fn login_mysql(&mut self, worker: usize) -> usize {
        self.login_mysql_as(worker, can::MODERN)
    }

    pub fn login_mysql_as(&mut self, worker: usize, capabilities: u64) -> usize {
        let client = self.arrive_mysql(worker, "ann", "store", capabilities);
        self.run_until(|world| world.is_ready(client), 120_000_000);
        let told = self.brief(client);
        assert_eq!(told, "R C:ok Z:I", "the login of a client");
        client
    }

    /// A client's own part; panics for others.
    pub fn frontend(&mut self, client: usize) -> &mut Frontend {
        self.clients[client].mysql.as_mut().expect("it speaks MySQL")
    }

    /// Send a query, wait for its end, and say what came, in brief.
    pub fn run_sql(&mut self, client: usize, text: &str) -> String {
        self.ask(client, &frontend::query(text))
    }

    /// Prepare, and say the number.
    pub fn prepare(&mut self, client: usize, text: &str) -> u32 {
        let told = self.ask(client, &frontend::prepare(text));
        assert!(told.starts_with("P:"), "{told}");
        self.frontend(client).statements.last().expect("it was told").0
    }

    /// A session of MySQL's, by the number of its line.
    pub fn mysql_session(&self, line: usize) -> &Session {
        self.lines[line].mysql.as_ref().expect("it speaks MySQL")
    }

    /// Let the database do something to a session of its own accord.
    pub fn disturb_mysql(&mut self, line: usize, what: impl FnOnce(&mut Session)) {
        what(self.lines[line].mysql.as_mut().expect("it speaks MySQL"));
        self.collect(line);
    }

    /// Lines to MySQL whose sessions are open, as the database sees it.
    pub fn mysql_lines(&self) -> Vec<usize> {
        let is_open = |line: &usize| {
            self.lines[*line].mysql.as_ref().is_some_and(|session| session.is_logged_in() && !session.is_over)
        };
        (0..self.lines.len()).filter(is_open).collect()
    }

    /// Stop whom a session wants stopped.
    pub(in crate::sim) fn carry_kills(&mut self, from: usize) {
        let Some(session) = &mut self.lines[from].mysql else { return };
        let kills = std::mem::take(&mut session.kills);
        let (endpoint, now) = (self.lines[from].endpoint.clone(), self.now);
        for (id, is_end) in kills {
            let is_meant = |session: &Session| session.id == id && !session.is_over;
            let found = self
                .lines
                .iter()
                .position(|line| line.endpoint == endpoint && line.mysql.as_deref().is_some_and(is_meant));
            let Some(line) = found else { continue };
            self.disturb_mysql(line, |session| match is_end {
                true => session.terminate(),
                false => session.cancel(now),
            });
        }
    }
}
