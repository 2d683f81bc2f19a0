//! The epoll back end: for kernels and containers that refuse io_uring.
//!
//! Never blocks outside `wait`, and never reads more than one scratch full before everybody had a turn.
//! Opened by `backend::open`, then used by one `worker` alone.
//!
//! Sockets are registered once, edge-triggered, for everything. So readiness is remembered here:
//! `readable` is set by an edge and cleared by a read that found less than it had room for.
//!
//! ```text
//!   listen ──► Listening
//!   connect ─► Connecting ──ok──► Open ──0/error──► Ended      close, detach: from any, to Free
//! ```

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alarm::Alarm;
use crate::backend::{Backend, Chunk, Event, Received, SocketId, Waker};
use crate::buffer::SpareBuffers;
use crate::slots::Slots;

const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_PER_WAIT: usize = 256;
/// Connections taken from one listener before other sockets get a turn.
const ACCEPTS_PER_WAIT: usize = 64;
/// Pause after running out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const WAKER: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;

const ALWAYS: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
/// Why: level-triggered, so that what one turn leaves is reported again; exclusive, so that
/// one connection does not wake every worker that shares the listener.
const ACCEPTING: u32 = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
const HANGUP: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const READABLE: u32 = libc::EPOLLIN as u32 | HANGUP;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    Listening,
    Connecting,
    Open,
    Ended,
}

#[derive(Default)]
struct Socket {
    /// The bytes of a send that did not go out at once.
    buffer: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
    stage: Stage,
    paused: bool,
    readable: bool,
    /// The peer's end was announced, so the next short read is not the last one.
    hangup: bool,
    /// A `Received` is with the worker, or the socket is in `again`.
    announced: bool,
}

// Why: an idle client is little more than this.
const _: () = assert!(std::mem::size_of::<Socket>() <= 48);

/// One epoll instance, its sockets and its scratch.
pub struct Epoll {
    epoll: OwnedFd,
    waker: Waker,
    alarm: Alarm,
    sockets: Slots<Socket>,
    spare: SpareBuffers,
    scratch: Box<[u8]>,
    ready: Vec<libc::epoll_event>,
    /// Sockets with more to read. Enter: `chunk` when it filled the scratch, `resume`. Leave: the next
    /// `wait`, all of them, behind the sockets that became ready meanwhile.
    again: Vec<SocketId>,
    /// Events that need no readiness. Enter: commands. Leave: the next `wait`.
    pending: Vec<Event>,
    /// Listeners that ran out of descriptors, and when they try again.
    resting: Vec<(SocketId, Instant)>,
}

/// What one attempt to write came to.
enum Push {
    Done,
    Blocked,
    Failed(io::Error),
}

impl Epoll {
    /// Make an epoll instance.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn open() -> io::Result<Self> {
        // SAFETY: a plain system call; its result is checked and owned.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let waker = Waker::new()?;
        // Why: neither is ever read back; each write and each ring is a new edge, which is all that is needed.
        let interest = (libc::EPOLLIN | libc::EPOLLET) as u32;
        control(&epoll, libc::EPOLL_CTL_ADD, waker.0.as_raw_fd(), interest, WAKER)?;
        let alarm = Alarm::new()?;
        control(&epoll, libc::EPOLL_CTL_ADD, alarm.descriptor(), interest, ALARM)?;
        Ok(Self {
            epoll,
            waker,
            alarm,
            sockets: Slots::new(),
            spare: SpareBuffers::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            ready: Vec::with_capacity(EVENTS_PER_WAIT),
            again: Vec::new(),
            pending: Vec::new(),
            resting: Vec::new(),
        })
    }

    fn register(&mut self, id: SocketId, interest: u32) -> io::Result<()> {
        let Some(descriptor) = self.descriptor(id) else {
            return Ok(());
        };
        control(&self.epoll, libc::EPOLL_CTL_ADD, descriptor, interest, word(id))
    }

    // Why: closing would do it, were it not for a child process that inherited the descriptor.
    fn unregister(&self, descriptor: RawFd) {
        let _ = control(&self.epoll, libc::EPOLL_CTL_DEL, descriptor, 0, 0);
    }

    fn start_accept(&mut self, id: SocketId) {
        if let Err(error) = self.register(id, ACCEPTING) {
            self.accept_failed(id, error);
        }
    }

    fn accept_failed(&mut self, id: SocketId, error: io::Error) {
        self.resting.push((id, Instant::now() + ACCEPT_PAUSE));
        self.pending.push(Event::AcceptFailed { listener: id, error });
    }

    fn accept(&mut self, id: SocketId, events: &mut Vec<Event>) {
        let Some(listener) = self.descriptor(id) else {
            return;
        };
        for _ in 0..ACCEPTS_PER_WAIT {
            // SAFETY: no address is asked for; the result is checked and owned.
            let accepted = unsafe {
                libc::accept4(
                    listener,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                )
            };
            if accepted >= 0 {
                // SAFETY: a descriptor the kernel just made for us.
                let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
                events.push(Event::Accepted { listener: id, socket });
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return,
                // Why: these are faults of the one connection, not of the listener.
                Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR) => {}
                _ => {
                    self.unregister(listener);
                    self.accept_failed(id, error);
                    return;
                }
            }
        }
    }

    /// Restart listeners whose pause is over; when the next one is due.
    fn rested(&mut self) -> Option<Instant> {
        if self.resting.is_empty() {
            return None;
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.resting.drain(..).partition(|&(_, at)| at <= now);
        self.resting = later;
        for (listener, _) in due {
            self.start_accept(listener);
        }
        self.resting.iter().map(|&(_, at)| at).min()
    }

    fn became_ready(&mut self, id: SocketId, flags: u32, events: &mut Vec<Event>) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        match socket.stage {
            Stage::Listening => return self.accept(id, events),
            Stage::Connecting => {
                if !self.connect_ended(id, flags, events) {
                    return;
                }
            }
            Stage::Open | Stage::Ended => {}
            Stage::Free => return,
        }
        if flags & WRITABLE != 0 {
            self.write_rest(id, events);
        }
        if flags & READABLE != 0 {
            let Some(socket) = self.sockets.live(id) else {
                return;
            };
            socket.readable = true;
            socket.hangup |= flags & HANGUP != 0;
            if socket.stage == Stage::Open && !socket.paused && !socket.announced {
                socket.announced = true;
                events.push(announcement(id));
            }
        }
    }

    /// True when the socket is connected now.
    fn connect_ended(&mut self, id: SocketId, flags: u32, events: &mut Vec<Event>) -> bool {
        if flags & (READABLE | WRITABLE) == 0 {
            return false;
        }
        let Some(socket) = self.sockets.live(id) else {
            return false;
        };
        let Some(descriptor) = &socket.descriptor else {
            return false;
        };
        let result = match socket2::SockRef::from(descriptor).take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        let connected = result.is_ok();
        if connected {
            socket.stage = Stage::Open;
        } else {
            self.close(id);
        }
        events.push(Event::Connected { socket: id, result });
        connected
    }

    /// Write until all is out or the socket takes no more.
    fn push(socket: &mut Socket, bytes: &[u8]) -> Push {
        let Some(descriptor) = &socket.descriptor else {
            return Push::Blocked;
        };
        while socket.sent < bytes.len() {
            let rest = &bytes[socket.sent..];
            // SAFETY: `rest` is readable for its length.
            let sent = unsafe {
                libc::send(
                    descriptor.as_raw_fd(),
                    rest.as_ptr().cast(),
                    rest.len(),
                    libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
                )
            };
            if sent >= 0 {
                socket.sent += sent as usize;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Push::Blocked,
                Some(libc::EINTR) => {}
                _ => return Push::Failed(error),
            }
        }
        Push::Done
    }

    fn write_rest(&mut self, id: SocketId, events: &mut Vec<Event>) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        if socket.buffer.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut socket.buffer);
        let result = match Self::push(socket, &buffer) {
            Push::Blocked => {
                socket.buffer = buffer;
                return;
            }
            Push::Done => Ok(()),
            Push::Failed(error) => Err(error),
        };
        buffer.clear();
        events.push(Event::Written { socket: id, buffer, result });
    }

    fn announce_again(&mut self, events: &mut Vec<Event>) {
        for id in std::mem::take(&mut self.again) {
            let Some(socket) = self.sockets.live(id) else {
                continue;
            };
            socket.announced = socket.stage == Stage::Open && socket.readable && !socket.paused;
            if socket.announced {
                events.push(announcement(id));
            }
        }
    }
}

impl Backend for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn listen(&mut self, listener: OwnedFd) -> SocketId {
        let socket = Socket { descriptor: Some(listener), stage: Stage::Listening, ..Socket::default() };
        let id = self.sockets.insert(socket);
        self.start_accept(id);
        id
    }

    fn adopt(&mut self, socket: OwnedFd) -> SocketId {
        let socket = Socket { descriptor: Some(socket), stage: Stage::Open, ..Socket::default() };
        let id = self.sockets.insert(socket);
        if let Err(error) = self.register(id, ALWAYS) {
            self.sockets.at(id.index).stage = Stage::Ended;
            self.pending.push(Event::Ended { socket: id, error: Some(error) });
        }
        id
    }

    fn connect(&mut self, socket: OwnedFd, address: &socket2::SockAddr) -> SocketId {
        // SAFETY: `SockAddr` promises `len` initialised bytes at `as_ptr`.
        let started = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len()) };
        let error = (started < 0).then(io::Error::last_os_error);
        let id = self.sockets.insert(Socket { descriptor: Some(socket), ..Socket::default() });
        let result = match error {
            None => {
                self.sockets.at(id.index).stage = Stage::Open;
                self.register(id, ALWAYS)
            }
            Some(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
                self.sockets.at(id.index).stage = Stage::Connecting;
                match self.register(id, ALWAYS) {
                    Ok(()) => return id,
                    failed => failed,
                }
            }
            Some(error) => Err(error),
        };
        if result.is_err() {
            self.close(id);
        }
        self.pending.push(Event::Connected { socket: id, result });
        id
    }

    fn send(&mut self, id: SocketId, buffer: Vec<u8>) {
        if let Some(buffer) = self.send_now(id, buffer) {
            self.pending.push(Event::Written { socket: id, buffer, result: Ok(()) });
        }
    }

    fn send_now(&mut self, id: SocketId, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        let Some(socket) = self.sockets.live(id) else {
            self.spare.keep(buffer);
            return None;
        };
        debug_assert!(socket.buffer.is_empty(), "a send is under way");
        socket.sent = 0;
        match Self::push(socket, &buffer) {
            Push::Done => {
                buffer.clear();
                Some(buffer)
            }
            Push::Blocked => {
                socket.buffer = buffer;
                None
            }
            Push::Failed(error) => {
                buffer.clear();
                self.pending.push(Event::Written { socket: id, buffer, result: Err(error) });
                None
            }
        }
    }

    fn pause(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.live(id) {
            socket.paused = true;
        }
    }

    fn resume(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        socket.paused = false;
        if socket.readable && !socket.announced {
            socket.announced = true;
            self.again.push(id);
        }
    }

    fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        let buffer = std::mem::take(&mut socket.buffer);
        self.spare.keep(buffer);
        self.sockets.retire(id.index);
        let socket = self.sockets.release(id.index);
        if let Some(descriptor) = socket.descriptor {
            self.unregister(descriptor.as_raw_fd());
        }
    }

    fn detach(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        if !matches!(socket.stage, Stage::Open | Stage::Ended) {
            return;
        }
        debug_assert!(socket.buffer.is_empty(), "a send is under way");
        self.sockets.retire(id.index);
        let socket = self.sockets.release(id.index);
        if let Some(descriptor) = socket.descriptor {
            self.unregister(descriptor.as_raw_fd());
            self.pending.push(Event::Detached { socket: id, descriptor });
        }
    }

    fn descriptor(&self, id: SocketId) -> Option<RawFd> {
        self.sockets.peek(id)?.descriptor.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn sockets(&self) -> usize {
        self.sockets.taken()
    }

    fn wait(&mut self, deadline: Option<Instant>, events: &mut Vec<Event>) -> io::Result<()> {
        self.sockets.turn();
        let deadline = match (deadline, self.rested()) {
            (Some(given), Some(due)) => Some(given.min(due)),
            (given, due) => given.or(due),
        };
        let at_once = !self.pending.is_empty() || !self.again.is_empty() || self.alarm.set(deadline)?;
        let milliseconds = if at_once { 0 } else { -1 };
        let mut ready = std::mem::take(&mut self.ready);
        // SAFETY: room for EVENTS_PER_WAIT events; the kernel says how many it wrote.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), ready.as_mut_ptr(), EVENTS_PER_WAIT as i32, milliseconds)
        };
        if count < 0 {
            self.ready = ready;
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::EINTR) { Ok(()) } else { Err(error) };
        }
        // SAFETY: that many were written, within the capacity.
        unsafe { ready.set_len(count as usize) };
        for event in &ready {
            let (flags, word) = (event.events, event.u64);
            match word {
                WAKER => {}
                ALARM => self.alarm.rang(),
                _ => self.became_ready(id_of(word), flags, events),
            }
        }
        ready.clear();
        self.ready = ready;
        if !self.again.is_empty() {
            self.announce_again(events);
        }
        events.append(&mut self.pending);
        Ok(())
    }

    fn chunk(&mut self, received: &Received) -> Chunk<'_> {
        let id = received.socket;
        let Some(socket) = self.sockets.live(id) else {
            return Chunk::Nothing;
        };
        socket.announced = false;
        let Some(descriptor) = &socket.descriptor else {
            return Chunk::Nothing;
        };
        if socket.stage != Stage::Open {
            return Chunk::Nothing;
        }
        // SAFETY: the scratch is writable for its length.
        let count = unsafe {
            libc::recv(
                descriptor.as_raw_fd(),
                self.scratch.as_mut_ptr().cast(),
                SCRATCH_BYTES,
                libc::MSG_DONTWAIT,
            )
        };
        if count > 0 {
            let count = count as usize;
            // Why: a short read emptied the socket, and what comes later is a new edge; only an end
            // that was already announced is not.
            socket.readable = count == SCRATCH_BYTES || socket.hangup;
            if socket.readable && !socket.paused {
                socket.announced = true;
                self.again.push(id);
            }
            return Chunk::Bytes(&self.scratch[..count]);
        }
        let error = (count < 0).then(io::Error::last_os_error);
        match error.as_ref().and_then(io::Error::raw_os_error) {
            Some(libc::EAGAIN) => {
                socket.readable = false;
                Chunk::Nothing
            }
            Some(libc::EINTR) => {
                socket.announced = true;
                self.again.push(id);
                Chunk::Nothing
            }
            _ => {
                socket.stage = Stage::Ended;
                Chunk::Ended(error)
            }
        }
    }

    #[inline]
    fn recycle(&mut self, _received: Received) {}

    #[inline]
    fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare.take()
    }

    #[inline]
    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        self.spare.keep(buffer);
    }
}

fn announcement(id: SocketId) -> Event {
    Event::Received(Received { socket: id, note: 0, length: 0 })
}

fn word(id: SocketId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn id_of(word: u64) -> SocketId {
    SocketId { index: word as u32, generation: (word >> 32) as u32 }
}

fn control(epoll: &OwnedFd, act: i32, descriptor: RawFd, interest: u32, word: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: interest, u64: word };
    // SAFETY: both descriptors are open and `event` lives through the call.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), act, descriptor, &mut event) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What `Waker::wake` writes to.
pub(crate) fn event_descriptor() -> io::Result<Arc<OwnedFd>> {
    // SAFETY: a plain system call; its result is checked and owned.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    Ok(Arc::new(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
