//! The small interface that both back ends fulfil: completion-shaped socket work.
//!
//! Knows nothing of clients, servers or protocols. One back end belongs to one worker thread and
//! is used from it alone; only a [`Waker`] crosses threads. Called by `worker`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A socket in a back end. Stale ids (generation passed) are ignored everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub index: u32,
    pub generation: u32,
}

/// Bytes that wait to be looked at, by `Backend::chunk`.
#[derive(Debug)]
pub struct Received {
    pub socket: SocketId,
    /// Back end's own note of where the bytes are.
    pub note: u32,
    pub length: u32,
}

/// What happened since the last `wait`.
#[derive(Debug)]
pub enum Event {
    /// A listener accepted a connection; it is not yet adopted.
    Accepted { listener: SocketId, socket: OwnedFd },
    /// A listener cannot accept (out of descriptors); it tries again by itself after a pause.
    AcceptFailed { listener: SocketId, error: io::Error },
    /// A `connect` ended. On Ok reading has started; on Err the socket is gone.
    Connected { socket: SocketId, result: io::Result<()> },
    /// Call `chunk` exactly once, then `recycle`.
    Received(Received),
    /// The whole of a `send` went out, or failed. The buffer comes back either way, emptied.
    Written { socket: SocketId, buffer: Vec<u8>, result: io::Result<()> },
    /// The peer will send no more (None) or the socket failed. The socket stays until `close`.
    Ended { socket: SocketId, error: Option<io::Error> },
    /// `detach` is done: no byte is in flight, the descriptor is the caller's.
    Detached { socket: SocketId, descriptor: OwnedFd },
}

/// What `chunk` found.
#[derive(Debug)]
pub enum Chunk<'a> {
    Bytes(&'a [u8]),
    /// Nothing after all (readiness without bytes).
    Nothing,
    /// As `Event::Ended`.
    Ended(Option<io::Error>),
}

/// Wakes a back end's `wait` from another thread.
#[derive(Clone)]
pub struct Waker(pub Arc<OwnedFd>);

/// What a back end does for a worker.
pub trait Backend {
    /// "io_uring" or "epoll".
    fn name(&self) -> &'static str;

    fn waker(&self) -> Waker;

    /// Start accepting on a bound, listening, non-blocking socket.
    fn listen(&mut self, listener: OwnedFd) -> SocketId;

    /// Own a connected socket and start reading from it.
    fn adopt(&mut self, socket: OwnedFd) -> SocketId;

    /// Connect a fresh non-blocking socket; ends in `Connected`.
    fn connect(&mut self, socket: OwnedFd, address: &socket2::SockAddr) -> SocketId;

    /// Write all of `buffer`; ends in `Written`. At most one may be under way per socket.
    /// A back end may queue it until the next `wait`.
    fn send(&mut self, socket: SocketId, buffer: Vec<u8>);

    /// Stop reading. A little that was already on its way may still arrive.
    fn pause(&mut self, socket: SocketId);

    fn resume(&mut self, socket: SocketId);

    /// Forget the socket: no event about it follows, its descriptor is closed at once. Listeners too.
    fn close(&mut self, socket: SocketId);

    /// Give the descriptor back without closing it; ends in `Detached` (bytes that were already
    /// read arrive as `Received` before it). Nothing may be in flight out.
    fn detach(&mut self, socket: SocketId);

    /// The descriptor number, for socket options and addresses; None for stale ids.
    fn descriptor(&self, socket: SocketId) -> Option<std::os::fd::RawFd>;

    /// Submit what is queued, wait for events at most `timeout` (None: for ever), append them.
    ///
    /// # Errors
    /// Only faults of the back end itself; socket errors are events.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// The bytes of a `Received`. Valid until the next call on the back end.
    fn chunk(&mut self, received: &Received) -> Chunk<'_>;

    /// Return the space of a `Received` that has been looked at.
    fn recycle(&mut self, received: Received);

    /// A cleared buffer with some capacity for the next `send`.
    fn spare_buffer(&mut self) -> Vec<u8>;

    /// Keep `buffer` for reuse.
    fn keep_buffer(&mut self, buffer: Vec<u8>);
}
