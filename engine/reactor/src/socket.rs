//! A socket as a worker sees it: whose it is, its TLS, and what is on its way.
//!
//! No protocol and no policy. Kept by `worker`, in a table indexed as the back end's sockets are.

use std::sync::Arc;

use maitred_relay::ids::{ClientId, ServerId, WorkerId};
use maitred_wire::Dialect;
use socket2::SockAddr;

use crate::backend::SocketId;
use crate::mail::ListenerFacts;
use crate::tls::TlsSession;

/// Whose socket it is.
#[derive(Debug)]
pub enum Owner {
    Listener(Arc<ListenerFacts>),
    /// Accepted; its PROXY protocol header has not come yet.
    Arriving(Box<Arriving>),
    Client(ClientId),
    Server(ServerId),
    /// Connecting for a server that is being opened; where to try next, from the end.
    Connecting {
        server: ServerId,
        destinations: Vec<SockAddr>,
    },
    /// Brings a cancel request to the database of this server.
    Cancel(Box<Errand>),
    /// Closed as soon as what is left has been written.
    Leaving,
}

/// A connection before it is a client.
#[derive(Debug)]
pub struct Arriving {
    pub listener: Arc<ListenerFacts>,
    pub bytes: Vec<u8>,
}

/// A cancel request on its way.
#[derive(Debug)]
pub struct Errand {
    pub server: ServerId,
    pub endpoint: String,
    pub request: Vec<u8>,
    /// TLS has been asked for and not been answered.
    pub asks_tls: bool,
}

pub struct Socket {
    pub id: SocketId,
    pub owner: Owner,
    pub tls: Option<Box<TlsSession>>,
    /// A `send` is under way.
    pub is_writing: bool,
    /// Nothing has been read yet: the first byte tells whether it is TLS.
    pub is_fresh: bool,
    /// Of a client.
    pub dialect: Dialect,
    pub last_words: Vec<u8>,
    /// There were last words, and our side has not been shut after them.
    pub has_last_words: bool,
    /// The peer closes first.
    pub is_lingering: bool,
    /// Detach for this worker once nothing is being written.
    pub moving_to: Option<WorkerId>,
}

/// Sockets by the index of their id.
#[derive(Default)]
pub struct SocketTable {
    slots: Vec<Option<Box<Socket>>>,
}

impl SocketTable {
    pub fn insert(&mut self, id: SocketId, owner: Owner) -> &mut Socket {
        let at = id.index as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at].insert(Box::new(Socket {
            id,
            owner,
            tls: None,
            is_writing: false,
            is_fresh: true,
            dialect: Dialect::Postgres,
            last_words: Vec::new(),
            has_last_words: false,
            is_lingering: false,
            moving_to: None,
        }))
    }

    /// The socket, unless its slot has passed to another.
    #[inline]
    pub fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.slots.get_mut(id.index as usize)?.as_deref_mut().filter(|socket| socket.id == id)
    }

    pub fn remove(&mut self, id: SocketId) -> Option<Box<Socket>> {
        self.get_mut(id)?;
        self.slots[id.index as usize].take()
    }

    /// Ids of all sockets for which `is_meant` says so.
    pub fn find(&self, is_meant: impl Fn(&Socket) -> bool) -> Vec<SocketId> {
        self.slots.iter().flatten().filter(|socket| is_meant(socket)).map(|socket| socket.id).collect()
    }
}
