//! The small interface that both back ends fulfil: completion-shaped socket work.
//!
//! Knows nothing of clients, servers or protocols. One back end belongs to one worker thread and
//! is used from it alone; only a [`Waker`] crosses threads. Called by `worker`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use crate::epoll::Epoll;
use crate::uring::Uring;

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

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        crate::epoll::event_descriptor().map(Self)
    }

    /// Take the wakes that have come, so that the descriptor is no longer readable.
    pub(crate) fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight writable bytes. A failure means that there was nothing to take.
        unsafe { libc::read(self.0.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), 8) };
    }

    /// End the current or the next `wait`, from any thread.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. A failure means that the counter is full, so a wake is on its way.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

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

    /// As `send`; but when all of it went out at once the buffer comes back cleared, and no `Written` follows.
    fn send_now(&mut self, socket: SocketId, buffer: Vec<u8>) -> Option<Vec<u8>> {
        self.send(socket, buffer);
        None
    }

    /// Are sends handed to the kernel by the next `wait`, all together?
    fn sends_later(&self) -> bool {
        false
    }

    /// Stop reading. A little that was already on its way may still arrive.
    fn pause(&mut self, socket: SocketId);

    fn resume(&mut self, socket: SocketId);

    /// Forget the socket: no event about it follows from the next `wait` on, by whose end its descriptor is
    /// closed. Listeners too. What a `wait` has already returned about it is stale.
    fn close(&mut self, socket: SocketId);

    /// Give the descriptor back without closing it; ends in `Detached` (bytes that were already
    /// read arrive as `Received` before it). Nothing may be in flight out.
    fn detach(&mut self, socket: SocketId);

    /// The descriptor number, for socket options and addresses; None for stale ids.
    fn descriptor(&self, socket: SocketId) -> Option<RawFd>;

    /// Sockets held, closed ones included while an operation on them is in flight. For leak tests.
    fn sockets(&self) -> usize;

    /// Submit what is queued, wait for events until `deadline` or a little earlier (None: for ever), append them.
    ///
    /// # Errors
    /// Only faults of the back end itself; socket errors are events.
    fn wait(&mut self, deadline: Option<Instant>, events: &mut Vec<Event>) -> io::Result<()>;

    /// The bytes of a `Received`. Valid until the next call on the back end.
    fn chunk(&mut self, received: &Received) -> Chunk<'_>;

    /// Return the space of a `Received` that has been looked at. Due for each one, also when its socket
    /// was closed meanwhile.
    fn recycle(&mut self, received: Received);

    /// A cleared buffer with some capacity for the next `send`.
    fn spare_buffer(&mut self) -> Vec<u8>;

    /// Keep `buffer` for reuse.
    fn keep_buffer(&mut self, buffer: Vec<u8>);
}

/// Either back end, without a table of pointers in the way.
// Why: one exists per worker, so the difference in size costs nothing; a box would cost a load per call.
#[allow(clippy::large_enum_variant)]
pub enum AnyBackend {
    Uring(Uring),
    Epoll(Epoll),
}

/// Open the back end `preference` names: "auto", "io_uring" or "epoll".
///
/// With "auto", epoll stands in where io_uring is refused; the second value then says why.
/// A back end may be moved to its worker's thread until its first `wait`, and no more after that.
///
/// # Errors
/// The preferred back end is refused here, or no such back end exists.
pub fn open(preference: &str) -> io::Result<(AnyBackend, Option<String>)> {
    match preference {
        "epoll" => Ok((AnyBackend::Epoll(Epoll::open()?), None)),
        "io_uring" => match Uring::open() {
            Ok(uring) => Ok((AnyBackend::Uring(uring), None)),
            Err(error) => Err(io::Error::new(error.kind(), refusal(&error))),
        },
        "auto" => match Uring::open() {
            Ok(uring) => Ok((AnyBackend::Uring(uring), None)),
            Err(error) => Ok((AnyBackend::Epoll(Epoll::open()?), Some(refusal(&error)))),
        },
        other => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("unknown back end \"{other}\": use \"auto\", \"io_uring\" or \"epoll\""),
        )),
    }
}

fn refusal(error: &io::Error) -> String {
    let cause = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden here (a container's seccomp profile, or the sysctl kernel.io_uring_disabled)"
        }
        Some(libc::ENOSYS) => "this kernel has none, or a container's seccomp profile hides it",
        Some(libc::EINVAL) => "this kernel is too old: it needs Linux 6.0 or newer",
        Some(libc::ENOMEM) => "there is too little lockable memory: raise `ulimit -l`",
        _ => "the kernel refused",
    };
    format!("io_uring is not available: {cause} ({error}); the back end \"epoll\" works everywhere")
}

macro_rules! either {
    ($self:expr, $backend:ident => $call:expr) => {
        match $self {
            AnyBackend::Uring($backend) => $call,
            AnyBackend::Epoll($backend) => $call,
        }
    };
}

impl Backend for AnyBackend {
    fn name(&self) -> &'static str {
        either!(self, backend => backend.name())
    }

    fn waker(&self) -> Waker {
        either!(self, backend => backend.waker())
    }

    fn listen(&mut self, listener: OwnedFd) -> SocketId {
        either!(self, backend => backend.listen(listener))
    }

    fn adopt(&mut self, socket: OwnedFd) -> SocketId {
        either!(self, backend => backend.adopt(socket))
    }

    fn connect(&mut self, socket: OwnedFd, address: &socket2::SockAddr) -> SocketId {
        either!(self, backend => backend.connect(socket, address))
    }

    #[inline]
    fn send(&mut self, socket: SocketId, buffer: Vec<u8>) {
        either!(self, backend => backend.send(socket, buffer));
    }

    #[inline]
    fn send_now(&mut self, socket: SocketId, buffer: Vec<u8>) -> Option<Vec<u8>> {
        either!(self, backend => backend.send_now(socket, buffer))
    }

    fn sends_later(&self) -> bool {
        either!(self, backend => backend.sends_later())
    }

    fn pause(&mut self, socket: SocketId) {
        either!(self, backend => backend.pause(socket));
    }

    fn resume(&mut self, socket: SocketId) {
        either!(self, backend => backend.resume(socket));
    }

    fn close(&mut self, socket: SocketId) {
        either!(self, backend => backend.close(socket));
    }

    fn detach(&mut self, socket: SocketId) {
        either!(self, backend => backend.detach(socket));
    }

    fn descriptor(&self, socket: SocketId) -> Option<RawFd> {
        either!(self, backend => backend.descriptor(socket))
    }

    fn sockets(&self) -> usize {
        either!(self, backend => backend.sockets())
    }

    fn wait(&mut self, deadline: Option<Instant>, events: &mut Vec<Event>) -> io::Result<()> {
        either!(self, backend => backend.wait(deadline, events))
    }

    #[inline]
    fn chunk(&mut self, received: &Received) -> Chunk<'_> {
        either!(self, backend => backend.chunk(received))
    }

    #[inline]
    fn recycle(&mut self, received: Received) {
        either!(self, backend => backend.recycle(received));
    }

    #[inline]
    fn spare_buffer(&mut self) -> Vec<u8> {
        either!(self, backend => backend.spare_buffer())
    }

    #[inline]
    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        either!(self, backend => backend.keep_buffer(buffer));
    }
}
