//! The io_uring back end: multishot accept and receive, one system call per `wait`.
//!
//! Never blocks outside `wait`, and never lets a completion of a closed socket reach its successor.
//! Opened by `backend::open`, then used by one `worker` alone.
//!
//! A socket's place, by `Stage`:
//!
//! ```text
//!   listen ──► Listening ─────────────────────────────┐ close
//!   connect ─► Connecting ──ok──► Open ──0/error──► Ended
//!                   │ error        │ detach  ╲        │
//!                   ▼              ▼          ▼       ▼
//!                 Free ◄─ Detached ─ Detaching   Closed ──► Free
//! ```
//!
//! Invariant: a place becomes Free only when no operation on it is in flight (`operations` is 0), so
//! that a completion's index always names the socket for which it was submitted.
//! Invariant: a descriptor is closed by the ring itself, behind every submission that names it; closing it
//! at once would let another thread's new socket take its number before they are submitted.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};

use crate::alarm::Alarm;
use crate::backend::{Backend, Chunk, Event, Received, SocketId, Waker};
use crate::buffer::{ProvidedBuffers, SpareBuffers, GROUP};
use crate::ring::{index_of, mark, Kind, Ring, NOBODY};
use crate::slots::Slots;

/// Pause after running out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    Listening,
    Connecting,
    Open,
    Ended,
    Detaching,
    Closed,
}

#[derive(Default)]
struct Socket {
    /// Bytes being sent; while connecting, the address (the kernel reads both where they are).
    buffer: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
    stage: Stage,
    /// Kinds of operations in flight, as bits.
    operations: u8,
    paused: bool,
    /// A receive is in flight and has been told to stop.
    stopping: bool,
}

// Why: an idle client is little more than this.
const _: () = assert!(std::mem::size_of::<Socket>() <= 48);

/// One ring, its sockets and its buffers.
pub struct Uring {
    // Invariant: `ring` is declared before what the kernel may still write to, so it is dropped first.
    ring: Ring,
    provided: ProvidedBuffers,
    sockets: Slots<Socket>,
    spare: SpareBuffers,
    waker: Waker,
    alarm: Alarm,
    /// Events that need no completion. Enter: commands. Leave: the next `wait`.
    pending: Vec<Event>,
    /// Listeners that ran out of descriptors, and when they try again.
    resting: Vec<(SocketId, Instant)>,
    /// Completions of this `wait`; kept for its memory.
    harvest: Vec<cqueue::Entry>,
    /// The kernel ran out of provided buffers during this `wait`.
    starved: bool,
}

impl Uring {
    /// Make a ring with its buffers.
    ///
    /// It may be moved to another thread until its first `wait`, which binds it to its caller.
    ///
    /// # Errors
    /// The kernel is older than 6.0, or io_uring is forbidden here (seccomp, sysctl).
    pub fn open() -> io::Result<Self> {
        let ring = Ring::open()?;
        let provided = ring.provide_buffers()?;
        let mut uring = Self {
            ring,
            provided,
            sockets: Slots::new(),
            spare: SpareBuffers::new(),
            waker: Waker::new()?,
            alarm: Alarm::new()?,
            pending: Vec::new(),
            resting: Vec::new(),
            harvest: Vec::new(),
            starved: false,
        };
        uring.poll(uring.waker.0.as_raw_fd(), Kind::Wake);
        uring.poll(uring.alarm.descriptor(), Kind::Alarm);
        Ok(uring)
    }

    /// Be told of each wake or ring.
    // Why: neither is ever read back; each comes anew to the poll, which is all that is needed.
    fn poll(&mut self, descriptor: RawFd, kind: Kind) {
        let entry = opcode::PollAdd::new(Fd(descriptor), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(mark(kind, NOBODY));
        self.push(entry);
    }

    #[inline]
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: each entry names descriptors and memory that live until its completion: `Socket` keeps
        // both, and is not freed before (see the head of this file).
        unsafe { self.ring.push(entry) };
    }

    fn start_receive(&mut self, index: u32) {
        let id = self.sockets.id(index);
        let socket = self.sockets.at(index);
        let Some(descriptor) = &socket.descriptor else {
            return;
        };
        socket.operations |= Kind::Receive.bit();
        socket.stopping = false;
        let entry = opcode::RecvMulti::new(Fd(descriptor.as_raw_fd()), GROUP)
            .build()
            .user_data(mark(Kind::Receive, id));
        self.push(entry);
    }

    fn start_accept(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        let Some(descriptor) = &socket.descriptor else {
            return;
        };
        socket.operations |= Kind::Accept.bit();
        let entry = opcode::AcceptMulti::new(Fd(descriptor.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build()
            .user_data(mark(Kind::Accept, id));
        self.push(entry);
    }

    /// Submit the part of the buffer that has not gone out.
    fn start_send(&mut self, index: u32) {
        let id = self.sockets.id(index);
        let socket = self.sockets.at(index);
        let Some(descriptor) = &socket.descriptor else {
            return;
        };
        let rest = &socket.buffer[socket.sent..];
        let length = rest.len().min(i32::MAX as usize) as u32;
        let entry = opcode::Send::new(Fd(descriptor.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(mark(Kind::Send, id));
        socket.operations |= Kind::Send.bit();
        self.push(entry);
    }

    /// An operation of a socket ended for good.
    fn operation_ended(&mut self, index: u32, kind: Kind) {
        let socket = self.sockets.at(index);
        socket.operations &= !kind.bit();
        if socket.operations != 0 {
            return;
        }
        match socket.stage {
            Stage::Closed => {
                let socket = self.sockets.release(index);
                self.spare.keep(socket.buffer);
            }
            Stage::Detaching => self.detached(index),
            _ => {}
        }
    }

    fn detached(&mut self, index: u32) {
        let id = self.sockets.id(index);
        self.sockets.retire(index);
        let socket = self.sockets.release(index);
        if let Some(descriptor) = socket.descriptor {
            self.pending.push(Event::Detached { socket: id, descriptor });
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry, events: &mut Vec<Event>) {
        let (mark, result, flags) = (completion.user_data(), completion.result(), completion.flags());
        let index = index_of(mark);
        match Kind::of(mark) {
            Kind::Receive => self.received(index, result, flags, events),
            Kind::Send => self.sent(index, result, events),
            Kind::Connect => self.connected(index, result, events),
            Kind::Accept => self.accepted(index, result, flags, events),
            Kind::Wake => {
                if !cqueue::more(flags) {
                    self.poll(self.waker.0.as_raw_fd(), Kind::Wake);
                }
            }
            Kind::Alarm => {
                self.alarm.rang();
                if !cqueue::more(flags) {
                    self.poll(self.alarm.descriptor(), Kind::Alarm);
                }
            }
            Kind::Aside => {}
        }
    }

    fn received(&mut self, index: u32, result: i32, flags: u32, events: &mut Vec<Event>) {
        let id = self.sockets.id(index);
        let stage = self.sockets.at(index).stage;
        if let Some(number) = cqueue::buffer_select(flags) {
            if result > 0 && stage != Stage::Closed {
                events.push(Event::Received(Received {
                    socket: id,
                    note: u32::from(number),
                    length: result as u32,
                }));
            } else {
                self.provided.give(number);
            }
        }
        if cqueue::more(flags) {
            return;
        }
        if stage == Stage::Open {
            let error = match -result {
                0 => Some(None),
                libc::ENOBUFS => {
                    self.starved = true;
                    None
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => None,
                code if code > 0 => Some(Some(io::Error::from_raw_os_error(code))),
                _ => None,
            };
            let socket = self.sockets.at(index);
            socket.stopping = false;
            if let Some(error) = error {
                socket.stage = Stage::Ended;
                events.push(Event::Ended { socket: id, error });
            } else if !socket.paused {
                self.start_receive(index);
                return;
            }
        }
        self.operation_ended(index, Kind::Receive);
    }

    fn sent(&mut self, index: u32, result: i32, events: &mut Vec<Event>) {
        let id = self.sockets.id(index);
        let socket = self.sockets.at(index);
        if result > 0 {
            socket.sent += result as usize;
        }
        if socket.stage != Stage::Closed {
            let again = matches!(-result, libc::EAGAIN | libc::EINTR);
            let error = (result < 0 && !again).then(|| io::Error::from_raw_os_error(-result));
            if error.is_none() && socket.sent < socket.buffer.len() {
                self.start_send(index);
                return;
            }
            let mut buffer = std::mem::take(&mut socket.buffer);
            buffer.clear();
            let result = error.map_or(Ok(()), Err);
            events.push(Event::Written { socket: id, buffer, result });
        }
        self.operation_ended(index, Kind::Send);
    }

    fn connected(&mut self, index: u32, result: i32, events: &mut Vec<Event>) {
        let id = self.sockets.id(index);
        let socket = self.sockets.at(index);
        if socket.stage == Stage::Connecting {
            let address = std::mem::take(&mut socket.buffer);
            self.spare.keep(address);
            let socket = self.sockets.at(index);
            if result < 0 {
                events.push(Event::Connected {
                    socket: id,
                    result: Err(io::Error::from_raw_os_error(-result)),
                });
                // Why: nothing else was ever submitted for it, so its number may go at once.
                socket.descriptor = None;
                socket.stage = Stage::Closed;
                self.sockets.retire(index);
            } else {
                events.push(Event::Connected { socket: id, result: Ok(()) });
                socket.stage = Stage::Open;
                if !socket.paused {
                    self.start_receive(index);
                }
            }
        }
        self.operation_ended(index, Kind::Connect);
    }

    fn accepted(&mut self, index: u32, result: i32, flags: u32, events: &mut Vec<Event>) {
        let id = self.sockets.id(index);
        let listening = self.sockets.at(index).stage == Stage::Listening;
        if result >= 0 {
            // SAFETY: a descriptor the kernel just made for us.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            if listening {
                events.push(Event::Accepted { listener: id, socket });
            }
        }
        if cqueue::more(flags) {
            return;
        }
        self.operation_ended(index, Kind::Accept);
        if !listening {
            return;
        }
        match -result {
            // Why: these are faults of the one connection that was to be accepted, not of the listener.
            libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EAGAIN | libc::ECANCELED => {
                self.start_accept(id);
            }
            code if code > 0 => {
                self.resting.push((id, Instant::now() + ACCEPT_PAUSE));
                let error = io::Error::from_raw_os_error(code);
                events.push(Event::AcceptFailed { listener: id, error });
            }
            _ => self.start_accept(id),
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
}

impl Backend for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
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
        self.start_receive(id.index);
        id
    }

    fn connect(&mut self, socket: OwnedFd, address: &socket2::SockAddr) -> SocketId {
        let mut buffer = self.spare.take();
        // SAFETY: `SockAddr` promises `len` initialised bytes at `as_ptr`.
        buffer.extend_from_slice(unsafe {
            std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.len() as usize)
        });
        let descriptor = socket.as_raw_fd();
        let memory = buffer.as_ptr();
        let id = self.sockets.insert(Socket {
            descriptor: Some(socket),
            stage: Stage::Connecting,
            operations: Kind::Connect.bit(),
            buffer,
            ..Socket::default()
        });
        let entry = opcode::Connect::new(Fd(descriptor), memory.cast(), address.len())
            .build()
            .user_data(mark(Kind::Connect, id));
        self.push(entry);
        id
    }

    fn send(&mut self, id: SocketId, buffer: Vec<u8>) {
        let Some(socket) = self.sockets.live(id) else {
            self.spare.keep(buffer);
            return;
        };
        debug_assert!(socket.operations & Kind::Send.bit() == 0, "a send is under way");
        if buffer.is_empty() {
            self.pending.push(Event::Written { socket: id, buffer, result: Ok(()) });
            return;
        }
        socket.buffer = buffer;
        socket.sent = 0;
        self.start_send(id.index);
    }

    fn sends_later(&self) -> bool {
        true
    }

    fn pause(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        socket.paused = true;
        if socket.operations & Kind::Receive.bit() != 0 && !socket.stopping {
            socket.stopping = true;
            self.ring.cancel(Kind::Receive, id);
        }
    }

    fn resume(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        socket.paused = false;
        // Why: a receive that is being cancelled is started again when it has ended.
        if socket.stage == Stage::Open && socket.operations & Kind::Receive.bit() == 0 {
            self.start_receive(id.index);
        }
    }

    fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        let operations = socket.operations;
        let descriptor = socket.descriptor.take();
        socket.stage = Stage::Closed;
        self.sockets.retire(id.index);
        for kind in [Kind::Receive, Kind::Send, Kind::Connect, Kind::Accept] {
            if operations & kind.bit() != 0 {
                self.ring.cancel(kind, id);
            }
        }
        if let Some(descriptor) = descriptor {
            self.ring.close(descriptor);
        }
        if operations == 0 {
            let socket = self.sockets.release(id.index);
            self.spare.keep(socket.buffer);
        }
    }

    fn detach(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        if !matches!(socket.stage, Stage::Open | Stage::Ended) {
            return;
        }
        socket.stage = Stage::Detaching;
        if socket.operations == 0 {
            self.detached(id.index);
        } else if socket.operations & Kind::Receive.bit() != 0 && !socket.stopping {
            socket.stopping = true;
            self.ring.cancel(Kind::Receive, id);
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
        self.ring.enable()?;
        let deadline = match (deadline, self.rested()) {
            (Some(given), Some(due)) => Some(given.min(due)),
            (given, due) => given.or(due),
        };
        let at_once = !self.pending.is_empty() || self.alarm.set(deadline)?;
        self.ring.wait(at_once)?;
        let mut harvest = std::mem::take(&mut self.harvest);
        self.ring.harvest(&mut harvest);
        for completion in &harvest {
            self.complete(completion, events);
        }
        harvest.clear();
        self.harvest = harvest;
        if std::mem::take(&mut self.starved) {
            self.provided.widen();
        }
        events.append(&mut self.pending);
        Ok(())
    }

    #[inline]
    fn chunk(&mut self, received: &Received) -> Chunk<'_> {
        if self.sockets.peek(received.socket).is_none() {
            return Chunk::Nothing;
        }
        Chunk::Bytes(self.provided.bytes(received.note as u16, received.length as usize))
    }

    #[inline]
    fn recycle(&mut self, received: Received) {
        self.provided.give(received.note as u16);
    }

    #[inline]
    fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare.take()
    }

    #[inline]
    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        self.spare.keep(buffer);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Why: closes that are still queued must happen, and no operation may outlive the memory it uses.
        if !self.ring.finish() {
            // The sends that could not be stopped keep their bytes for ever, rather than read freed memory.
            self.sockets.drain().for_each(|socket| std::mem::forget(socket.buffer));
        }
    }
}
