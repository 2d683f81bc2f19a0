//! What a client and we agreed on at its login, where protocols agree on something, and what its last
//! statement left to be asked for.
//!
//! Only data and small questions; sends nothing. Held by `client`, used by `commands` and `leftovers`.

use std::collections::HashMap;

use maitred_wire::dialect::{Compression, Tracking, Voice};
use maitred_wire::{Complaint, CopyDirection, Transaction};

use crate::client::{Client, State};
use crate::ids::ClientId;
use crate::kill::Killed;
use crate::leftovers::Left;
use crate::server::Server;
use crate::Relay;

/// Of one client; PostgreSQL's have none.
#[derive(Debug, Default)]
pub struct Agreed {
    /// What the client can do.
    pub capabilities: u64,
    /// Number of the packet that we would say next.
    pub sequence: u8,
    /// The number that its newest prepared statement has.
    pub newest_statement: u32,
    /// It waits for what becomes of another client.
    pub is_asking: bool,
    /// Its text says more than that.
    pub is_killing_within: bool,
    /// What became of those that its text wants killed, one after the other; None: a number that is not ours.
    pub kills: Vec<Option<Killed>>,
    /// Between it and us, if that was agreed.
    pub compression: Option<Box<Compression>>,
    /// What its passwords are mixed with, as long as it is connected.
    pub nonce: Option<[u8; 20]>,
    /// What its last statement left to be asked for.
    pub left: Left,
    /// What it has chosen to be told of its session.
    pub tracking: Tracking,
    /// What it is told once it has sent the file that its server asked for, which is gone.
    pub after_file: Option<Box<Complaint>>,
    /// Types of the parameters of its statements, as it told them last.
    pub types: HashMap<u32, Box<[u8]>>,
}

/// Spec: MySQL "Status Flags": a transaction is open; the session commits each statement by itself.
const IN_TRANSACTION: u16 = 1;
const AUTOCOMMIT: u16 = 2;

/// Spec: MySQL "Capabilities Flags".
const SESSION_TRACK: u64 = 1 << 23;
const MULTI_STATEMENTS: u64 = 1 << 16;

impl Client {
    /// How we speak to it now.
    pub fn voice(&self) -> Voice {
        let Some(agreed) = &self.agreed else { return Voice::default() };
        let is_off = matches!(self.settings.value("autocommit"), Some("OFF" | "0"));
        Voice {
            sequence: agreed.sequence,
            capabilities: agreed.capabilities,
            status: if is_off { 0 } else { AUTOCOMMIT },
        }
    }

    /// What its servers must have agreed on, too.
    pub fn flags(&self) -> u64 {
        self.agreed.as_ref().map_or(0, |agreed| self.dialect.class_of(agreed.capabilities))
    }

    /// What it is told of its session's state at the end of each statement; None: nothing.
    pub fn tracking(&self) -> Option<&Tracking> {
        let agreed = self.agreed.as_ref().filter(|agreed| agreed.capabilities & SESSION_TRACK != 0)?;
        Some(&agreed.tracking)
    }

    /// May a text of its have several statements?
    pub fn says_several(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.capabilities & MULTI_STATEMENTS != 0)
    }

    /// Does it send a file whose server is gone?
    pub fn is_sending_in_vain(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.after_file.is_some())
    }

    /// The answer to a new command begins.
    pub fn begin_answer(&mut self) {
        if let Some(agreed) = &mut self.agreed {
            agreed.sequence = 1;
        }
    }
}

impl Server {
    /// Number of the packet that its client would take next.
    pub(crate) fn next_sequence_shown(&self) -> u8 {
        match self.owed.front() {
            Some(owed) if owed.shown => self.reading.next_sequence(),
            _ => 1,
        }
    }

    /// Has its client been told the beginning of a message, and not the rest?
    pub(crate) fn is_message_cut(&self) -> bool {
        self.passing > 0 && self.passing_shown
    }

    /// Is its client sending a file, so that it hears nothing?
    pub(crate) fn is_taking_file(&self) -> bool {
        self.dialect.takes_turns() && self.copy == Some(CopyDirection::In)
    }
}

impl Relay {
    /// How we speak to a client now.
    pub(crate) fn voice(&self, id: ClientId) -> Voice {
        let Some(client) = self.clients.get(id) else { return Voice::default() };
        let mut voice = client.voice();
        if let State::Leased(server) = client.state {
            let is_open = self.servers[server].transaction != Transaction::None;
            voice.status |= if is_open { IN_TRANSACTION } else { 0 };
        }
        voice
    }
}
