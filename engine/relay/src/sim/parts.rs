//! What a virtual world is made of: workers, clients, server connections, and what is due.
//!
//! Only data, and the order of events. Used by `World`.

use std::collections::HashMap;
use std::sync::LazyLock;

use maitred_wire::CancelKey;

use crate::action::Mail;
use crate::ids::{ClientId, ServerId, Time, WorkerId};
use crate::server::Server;
use crate::sim::database::{Ran, Session};
use crate::sim::frontend::Reply;
use crate::sim::mysql;
use crate::Relay;

/// Say what happens, to whoever looks for the cause of a failure with MAITRED_TRACE set.
pub fn trace(what: impl FnOnce() -> String) {
    static IS_ON: LazyLock<bool> = LazyLock::new(|| std::env::var_os("MAITRED_TRACE").is_some());
    if *IS_ON {
        eprintln!("{}", what());
    }
}

/// How bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// As they were written.
    Whole,
    /// One by one.
    Bytes,
    Random,
}

#[derive(Debug)]
pub(super) enum Event {
    /// Arrives at the relay.
    FromClient(usize, Vec<u8>),
    ClientLeft(usize),
    /// Arrives at the client.
    ToClient(usize, Vec<u8>),
    ClientClosed(usize),
    ClientWritten(usize),
    FromSession(usize, Vec<u8>),
    SessionLeft(usize),
    ToSession(usize, Vec<u8>),
    SessionClosed(usize),
    SessionWritten(usize),
    SessionWake(usize),
    Connected(usize),
    Detach(usize),
    Parcel(usize, WorkerId, Box<Server>),
    Mail(WorkerId, Mail),
    /// The database hears a cancel request.
    Cancel(String, CancelKey),
    CancelDone(usize, ServerId),
    Errand(usize, crate::action::Patron, maitred_wire::handshake::Errand),
}

pub(super) struct Due {
    pub at: u64,
    pub order: u64,
    pub event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One worker: its relay and when it looks at the clock next.
pub struct Desk {
    pub relay: Relay,
    pub(super) ticked: u64,
    pub(super) next_tick: Time,
    pub(super) clients: HashMap<ClientId, usize>,
    pub(super) servers: HashMap<ServerId, usize>,
}

/// A client as the world sees it.
#[derive(Debug)]
pub struct Patron {
    pub worker: usize,
    pub id: ClientId,
    /// What reads and writes for it if it speaks MySQL.
    pub mysql: Option<Box<mysql::frontend::Frontend>>,
    pub(super) input: Vec<u8>,
    /// What it has been told and nobody has taken yet.
    pub replies: Vec<Reply>,
    /// The relay closed it.
    pub is_closed: bool,
    /// It has left.
    pub has_left: bool,
    pub key: Option<CancelKey>,
    /// A client that does not read: what is written to it stays under way.
    pub reads: bool,
    pub(super) stuck: Vec<Vec<u8>>,
    pub(super) is_writing: bool,
    pub(super) is_paused: bool,
    /// What arrived while it was not read, with its place in the order of things.
    pub(super) held: Vec<(u64, Event)>,
    pub(super) sent_at: u64,
    pub(super) got_at: u64,
    /// When its last answer arrived.
    pub heard_at: u64,
    pub is_raw: bool,
    pub raw: Vec<u8>,
}

/// A server connection as the world sees it.
#[derive(Debug)]
pub struct Line {
    pub endpoint: String,
    pub worker: usize,
    pub server: Option<ServerId>,
    /// Who answers, where PostgreSQL does.
    pub session: Session,
    /// Who answers, where MySQL does.
    pub mysql: Option<Box<mysql::session::Session>>,
    pub opened_at: u64,
    pub(super) is_writing: bool,
    pub(super) is_paused: bool,
    pub(super) is_moving: bool,
    /// What arrived while it was not read, with its place in the order of things.
    pub(super) held: Vec<(u64, Event)>,
    pub(super) sent_at: u64,
    pub(super) got_at: u64,
    pub(super) has_hung_up: bool,
    pub(super) woken_at: u64,
}

/// Whoever answers.
impl Line {
    pub fn is_over(&self) -> bool {
        self.mysql.as_ref().map_or(self.session.is_over, |mysql| mysql.is_over)
    }

    pub fn is_logged_in(&self) -> bool {
        self.mysql.as_ref().map_or_else(|| self.session.is_logged_in(), |mysql| mysql.is_logged_in())
    }

    pub fn ran(&self) -> &[Ran] {
        self.mysql.as_ref().map_or(&self.session.ran, |mysql| &mysql.ran)
    }

    pub(super) fn end(&mut self) {
        match &mut self.mysql {
            Some(mysql) => mysql.end(),
            None => self.session.end(),
        }
    }

    pub(super) fn feed(&mut self, now: u64, bytes: &[u8]) {
        match &mut self.mysql {
            Some(mysql) => mysql.feed(now, bytes),
            None => self.session.feed(now, bytes),
        }
    }

    pub(super) fn wake(&mut self, now: u64) {
        match &mut self.mysql {
            Some(mysql) => mysql.wake(now),
            None => self.session.wake(now),
        }
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        self.mysql.as_ref().map_or_else(|| self.session.wake_at(), |mysql| mysql.wake_at())
    }

    pub(super) fn take_words(&mut self) -> Vec<u8> {
        std::mem::take(self.mysql.as_mut().map_or(&mut self.session.out, |mysql| &mut mysql.out))
    }
}
