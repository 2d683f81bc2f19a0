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
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::squeue::Flags as EntryFlags;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue, IoUring};

use crate::backend::{Backend, Chunk, Event, Received, SocketId, Waker};
use crate::buffer::{ProvidedBuffers, SpareBuffers, GROUP};
use crate::slots::Slots;

const SUBMISSIONS: u32 = 512;
/// Why: room for one completion of every socket that is busy at the same moment; the kernel keeps
/// what does not fit, but at a cost. It also sets the size of the table in which it finds what to cancel.
const COMPLETIONS: u32 = 8192;
/// Pause after running out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

// From <linux/io_uring.h>; the crate keeps its `enter` flags private.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

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

/// What a completion is about; the top four bits of its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Receive = 0,
    /// Tried once, never waits: its completion is there when `wait` returns.
    SendNow = 1,
    /// Waits until the socket takes the rest.
    SendRest = 2,
    Connect = 3,
    Accept = 4,
    Wake = 5,
    /// A cancel or close that failed, because its target had just ended by itself.
    Aside = 6,
}

impl Kind {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    fn of(mark: u64) -> Self {
        match mark >> 60 {
            0 => Kind::Receive,
            1 => Kind::SendNow,
            2 => Kind::SendRest,
            3 => Kind::Connect,
            4 => Kind::Accept,
            5 => Kind::Wake,
            _ => Kind::Aside,
        }
    }
}

fn mark(kind: Kind, id: SocketId) -> u64 {
    (kind as u64) << 60 | u64::from(id.index) << 32 | u64::from(id.generation)
}

fn index_of(mark: u64) -> u32 {
    (mark >> 32) as u32 & 0x0FFF_FFFF
}

const NOBODY: SocketId = SocketId { index: 0, generation: 0 };

/// One ring, its sockets and its buffers.
pub struct Uring {
    // Invariant: `ring` is declared before what the kernel may still write to, so it is dropped first.
    ring: IoUring,
    provided: ProvidedBuffers,
    sockets: Slots<Socket>,
    spare: SpareBuffers,
    waker: Waker,
    enter_flags: u32,
    /// The ring belongs to the thread that submits first; not yet is it anybody's.
    enabled: bool,
    /// Submissions whose completions are sure to be posted while they are submitted.
    immediate: u32,
    /// Submissions for which the queue had no room. Enter: `push`. Leave: `wait`, oldest first.
    backlog: Vec<squeue::Entry>,
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
        let ring = build_ring()?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        // Why: multishot receive came with 6.0 and cannot be asked for; zero-copy send came with it and can.
        if !probe.is_supported(opcode::SendZc::CODE) || !ring.params().is_feature_ext_arg() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring before Linux 6.0"));
        }
        let provided = ProvidedBuffers::register(&ring)?;
        let mut enter_flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        if ring.params().is_feature_no_iowait() {
            // Why: else an idle proxy shows as a machine waiting for its disks.
            enter_flags |= ENTER_NO_IOWAIT;
        }
        Ok(Self {
            ring,
            provided,
            sockets: Slots::new(),
            spare: SpareBuffers::new(),
            waker: Waker::new()?,
            enter_flags,
            enabled: false,
            immediate: 0,
            backlog: Vec::new(),
            pending: Vec::new(),
            resting: Vec::new(),
            harvest: Vec::new(),
            starved: false,
        })
    }

    fn enable(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
            self.arm_waker();
        }
        Ok(())
    }

    // Why: the counter is never read back; each write wakes the poll anew, which is all that is needed.
    fn arm_waker(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.waker.0.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(mark(Kind::Wake, NOBODY));
        self.push(entry);
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: each entry names descriptors and memory that live until its completion: `Socket` keeps
        // both, and is not freed before (see the head of this file).
        if self.backlog.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        self.backlog.push(entry);
        self.flush();
    }

    /// Make room in the queue; what cannot be submitted now is tried again by `wait`.
    fn flush(&mut self) {
        let _ = self.enable();
        let _ = self.ring.submit();
        self.refill();
    }

    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        // SAFETY: as in `push`.
        let taken = self.backlog.iter().take_while(|entry| unsafe { queue.push(entry) }.is_ok()).count();
        drop(queue);
        self.backlog.drain(..taken);
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
    fn start_send(&mut self, index: u32, kind: Kind) {
        let id = self.sockets.id(index);
        let socket = self.sockets.at(index);
        let Some(descriptor) = &socket.descriptor else {
            return;
        };
        let rest = &socket.buffer[socket.sent..];
        let length = rest.len().min(i32::MAX as usize) as u32;
        // Why: MSG_DONTWAIT makes the kernel answer within the submission, so `wait` can tell how many
        // completions are no news and sleep until there is one more.
        let waiting = if kind == Kind::SendNow { libc::MSG_DONTWAIT } else { libc::MSG_WAITALL };
        let entry = opcode::Send::new(Fd(descriptor.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | waiting)
            .build()
            .user_data(mark(kind, id));
        socket.operations |= kind.bit();
        self.immediate += u32::from(kind == Kind::SendNow);
        self.push(entry);
    }

    fn cancel(&mut self, kind: Kind, id: SocketId) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(mark(kind, id)))
            .build()
            .flags(EntryFlags::SKIP_SUCCESS)
            .user_data(mark(Kind::Aside, NOBODY));
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
            kind @ (Kind::SendNow | Kind::SendRest) => self.sent(index, kind, result, events),
            Kind::Connect => self.connected(index, result, events),
            Kind::Accept => self.accepted(index, result, flags, events),
            Kind::Wake => {
                if !cqueue::more(flags) {
                    self.arm_waker();
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

    fn sent(&mut self, index: u32, kind: Kind, result: i32, events: &mut Vec<Event>) {
        self.immediate -= u32::from(kind == Kind::SendNow);
        let id = self.sockets.id(index);
        let socket = self.sockets.at(index);
        if result > 0 {
            socket.sent += result as usize;
        }
        if socket.stage != Stage::Closed {
            let again = matches!(-result, libc::EAGAIN | libc::EINTR);
            let error = (result < 0 && !again).then(|| io::Error::from_raw_os_error(-result));
            if error.is_none() && socket.sent < socket.buffer.len() {
                socket.operations &= !kind.bit();
                self.start_send(index, Kind::SendRest);
                return;
            }
            let mut buffer = std::mem::take(&mut socket.buffer);
            buffer.clear();
            let result = error.map_or(Ok(()), Err);
            events.push(Event::Written { socket: id, buffer, result });
        }
        self.operation_ended(index, kind);
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

    /// Restart listeners whose pause is over; how long until the next one is due.
    fn rested(&mut self) -> Option<Duration> {
        if self.resting.is_empty() {
            return None;
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.resting.drain(..).partition(|&(_, at)| at <= now);
        self.resting = later;
        for (listener, _) in due {
            self.start_accept(listener);
        }
        self.resting.iter().map(|&(_, at)| at - now).min()
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let submissions = self.ring.submission().len() as u32;
        let time = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(time) = &time {
            arguments = arguments.timespec(time);
        }
        // SAFETY: EXT_ARG is set and `SubmitArgs` is what it asks for; it lives through the call.
        let entered =
            unsafe { self.ring.submitter().enter(submissions, want, self.enter_flags, Some(&arguments)) };
        match entered {
            Ok(_) => Ok(()),
            // Why: time is up; a signal; too little memory just now. What was not submitted stays queued.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The best ring this kernel makes. It starts disabled, so that it can be given to its thread.
fn build_ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(COMPLETIONS).setup_clamp().setup_submit_all().setup_r_disabled();
    let mut older = builder.clone();
    older.setup_coop_taskrun();
    builder.setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun();
    let mut newest = builder.clone();
    newest.setup_no_sqarray();
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for candidate in [newest, builder, older] {
        match candidate.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            built => return built,
        }
    }
    Err(refused)
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
        debug_assert!(socket.operations & (Kind::SendNow.bit() | Kind::SendRest.bit()) == 0);
        if buffer.is_empty() {
            self.pending.push(Event::Written { socket: id, buffer, result: Ok(()) });
            return;
        }
        socket.buffer = buffer;
        socket.sent = 0;
        self.start_send(id.index, Kind::SendNow);
    }

    fn pause(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.live(id) else {
            return;
        };
        socket.paused = true;
        if socket.operations & Kind::Receive.bit() != 0 && !socket.stopping {
            socket.stopping = true;
            self.cancel(Kind::Receive, id);
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
        for kind in [Kind::Receive, Kind::SendRest, Kind::Connect, Kind::Accept] {
            if operations & kind.bit() != 0 {
                self.cancel(kind, id);
            }
        }
        if let Some(descriptor) = descriptor {
            let entry = opcode::Close::new(Fd(descriptor.into_raw_fd()))
                .build()
                .flags(EntryFlags::SKIP_SUCCESS)
                .user_data(mark(Kind::Aside, NOBODY));
            self.push(entry);
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
            self.cancel(Kind::Receive, id);
        }
    }

    fn descriptor(&self, id: SocketId) -> Option<RawFd> {
        self.sockets.peek(id)?.descriptor.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn sockets(&self) -> usize {
        self.sockets.taken()
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.enable()?;
        let due = self.rested();
        if !self.backlog.is_empty() {
            self.refill();
        }
        let ready = !self.pending.is_empty() || !self.backlog.is_empty();
        let timeout = match (timeout, due) {
            (Some(given), Some(due)) => Some(given.min(due)),
            (given, due) => given.or(due),
        };
        if ready || timeout == Some(Duration::ZERO) {
            self.enter(0, None)?;
        } else {
            self.enter(1, timeout)?;
        }
        let mut harvest = std::mem::take(&mut self.harvest);
        harvest.extend(self.ring.completion());
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
        if self.enable().is_err() {
            return;
        }
        // Why: closes that are still queued must happen, and no operation may outlive the memory it uses.
        self.refill();
        let _ = self.ring.submit();
        let limit = Timespec::from(Duration::from_secs(1));
        let cancelled = self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
        if cancelled.is_err_and(|error| error.raw_os_error() != Some(libc::ENOENT)) {
            // The sends that could not be stopped keep their bytes for ever, rather than read freed memory.
            self.sockets.drain().for_each(|socket| std::mem::forget(socket.buffer));
        }
    }
}
