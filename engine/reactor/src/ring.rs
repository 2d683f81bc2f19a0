//! The queues that are shared with the kernel, and the mark by which a completion finds its socket.
//!
//! Knows no socket and no event; it passes entries on and never loses one.
//! Called by `uring` alone.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::time::Duration;

use io_uring::squeue::Flags as EntryFlags;
use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{cqueue, opcode, squeue, IoUring, Probe};

use crate::backend::SocketId;
use crate::buffer::ProvidedBuffers;

const SUBMISSIONS: u32 = 512;
/// Why: room for one completion of every socket that is busy at the same moment; the kernel keeps
/// what does not fit, but at a cost. It also sets the size of the table in which it finds what to cancel.
const COMPLETIONS: u32 = 8192;

// From <linux/io_uring.h>; the crate keeps its `enter` flags private.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// What a completion is about; the top four bits of its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Receive = 0,
    Send = 1,
    Connect = 2,
    Accept = 3,
    Wake = 4,
    /// A cancel or close that failed, because its target had just ended by itself.
    Aside = 5,
    Alarm = 6,
}

impl Kind {
    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn of(mark: u64) -> Self {
        match mark >> 60 {
            0 => Kind::Receive,
            1 => Kind::Send,
            2 => Kind::Connect,
            3 => Kind::Accept,
            4 => Kind::Wake,
            6 => Kind::Alarm,
            _ => Kind::Aside,
        }
    }
}

pub(crate) fn mark(kind: Kind, id: SocketId) -> u64 {
    (kind as u64) << 60 | u64::from(id.index) << 32 | u64::from(id.generation)
}

pub(crate) fn index_of(mark: u64) -> u32 {
    (mark >> 32) as u32 & 0x0FFF_FFFF
}

/// Stands in marks that are about no socket.
pub(crate) const NOBODY: SocketId = SocketId { index: 0, generation: 0 };

/// A pair of queues. It may change threads until it is enabled, and belongs to its caller from then on.
pub(crate) struct Ring {
    ring: IoUring,
    enter_flags: u32,
    is_enabled: bool,
    /// Submissions for which the queue had no room. Enter: `push`. Leave: `refill`, oldest first.
    backlog: Vec<squeue::Entry>,
}

impl Ring {
    /// # Errors
    /// The kernel is older than 6.0, or refuses.
    pub(crate) fn open() -> io::Result<Self> {
        let ring = build()?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        // Why: multishot receive came with 6.0 and cannot be asked for; zero-copy send came with it and can.
        if !probe.is_supported(opcode::SendZc::CODE) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring before Linux 6.0"));
        }
        let mut enter_flags = ENTER_GETEVENTS;
        if ring.params().is_feature_no_iowait() {
            // Why: else an idle proxy shows as a machine waiting for its disks.
            enter_flags |= ENTER_NO_IOWAIT;
        }
        Ok(Self { ring, enter_flags, is_enabled: false, backlog: Vec::new() })
    }

    /// # Errors
    /// The kernel refuses buffer rings, or is out of memory.
    pub(crate) fn provide_buffers(&self) -> io::Result<ProvidedBuffers> {
        ProvidedBuffers::register(&self.ring)
    }

    /// Bind the ring to this thread.
    ///
    /// # Errors
    /// It is bound to another.
    pub(crate) fn enable(&mut self) -> io::Result<()> {
        if !self.is_enabled {
            self.ring.submitter().register_enable_rings()?;
            self.is_enabled = true;
        }
        Ok(())
    }

    /// Queue one operation; it is submitted by the next `wait` at the latest.
    ///
    /// # Safety
    /// The descriptors and memory it names stay as they are until its completion.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller's promise.
        if self.backlog.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        self.backlog.push(entry);
        // What cannot be submitted now is tried again by `wait`.
        let _ = self.submit();
    }

    /// Submit without waiting.
    ///
    /// # Errors
    /// The kernel is short of memory, or the ring belongs to another thread.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.enable()?;
        let submitted = self.ring.submit().map(drop);
        self.refill();
        submitted
    }

    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        // SAFETY: promised to `push`.
        let taken = self.backlog.iter().take_while(|entry| unsafe { queue.push(entry) }.is_ok()).count();
        drop(queue);
        self.backlog.drain(..taken);
    }

    /// End an operation early. Its own completion says so.
    pub(crate) fn cancel(&mut self, kind: Kind, id: SocketId) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(mark(kind, id)))
            .build()
            .flags(EntryFlags::SKIP_SUCCESS)
            .user_data(mark(Kind::Aside, NOBODY));
        // SAFETY: names neither a descriptor nor memory.
        unsafe { self.push(entry) };
    }

    /// Close `descriptor` behind everything that was pushed before.
    pub(crate) fn close(&mut self, descriptor: OwnedFd) {
        let entry = opcode::Close::new(Fd(descriptor.into_raw_fd()))
            .build()
            .flags(EntryFlags::SKIP_SUCCESS)
            .user_data(mark(Kind::Aside, NOBODY));
        // SAFETY: the descriptor is nobody's but this entry's from here on.
        unsafe { self.push(entry) };
    }

    /// Submit all, and sleep until there is a completion; with `at_once`, do not sleep.
    ///
    /// # Errors
    /// Faults of the ring itself.
    pub(crate) fn wait(&mut self, at_once: bool) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.refill();
        }
        let at_once = at_once || !self.backlog.is_empty();
        let submissions = self.ring.submission().len() as u32;
        let no_mask = None::<&libc::sigset_t>;
        // SAFETY: no memory is passed.
        let entered = unsafe {
            self.ring.submitter().enter(submissions, u32::from(!at_once), self.enter_flags, no_mask)
        };
        match entered {
            Ok(_) => Ok(()),
            // Why: a signal; too little memory just now. What was not submitted stays queued.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Move all completions to `into`.
    #[inline]
    pub(crate) fn harvest(&mut self, into: &mut Vec<cqueue::Entry>) {
        into.extend(self.ring.completion());
    }

    /// Submit what is queued and end everything in flight; false when the latter failed.
    pub(crate) fn finish(&mut self) -> bool {
        if !self.is_enabled && self.ring.submission().is_empty() {
            return true;
        }
        if self.submit().is_err() {
            return false;
        }
        let limit = Timespec::from(Duration::from_secs(1));
        match self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any()) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        }
    }
}

/// The best ring this kernel makes. It starts disabled, so that it can be given to its thread.
fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(COMPLETIONS).setup_clamp().setup_submit_all().setup_r_disabled();
    builder.setup_coop_taskrun();
    let oldest = builder.clone();
    builder.setup_single_issuer().setup_defer_taskrun();
    let mut newest = builder.clone();
    newest.setup_no_sqarray();
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for candidate in [newest, builder, oldest] {
        match candidate.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            built => return built,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_carries_kind_and_index() {
        let id = SocketId { index: 0x0FFF_FFFE, generation: u32::MAX };
        for kind in
            [Kind::Receive, Kind::Send, Kind::Connect, Kind::Accept, Kind::Wake, Kind::Aside, Kind::Alarm]
        {
            assert_eq!(Kind::of(mark(kind, id)), kind);
            assert_eq!(index_of(mark(kind, id)), id.index);
        }
        let mut bits = 0;
        for kind in [Kind::Receive, Kind::Send, Kind::Connect, Kind::Accept] {
            assert_eq!(bits & kind.bit(), 0);
            bits |= kind.bit();
        }
    }
}
