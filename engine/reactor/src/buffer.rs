//! Memory for bytes on their way: buffers for sends, and the kernel's buffers for receives.
//!
//! Never looks at the bytes and never touches a socket.
//! Called by `epoll` and `uring`.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::IoUring;

/// Buffers kept for the next sends.
pub(crate) struct SpareBuffers {
    /// Cleared buffers. Enter: `keep`. Leave: `take`, most recent first, for the cache's sake.
    kept: Vec<Vec<u8>>,
}

const FRESH_BYTES: usize = 4096;
/// Larger ones go back to the allocator: one big result must not fix memory for ever.
const KEPT_BYTES: usize = 256 * 1024;
const KEPT_COUNT: usize = 64;

impl SpareBuffers {
    pub(crate) fn new() -> Self {
        Self { kept: Vec::new() }
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.kept.pop().unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    #[inline]
    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > KEPT_BYTES || self.kept.len() >= KEPT_COUNT {
            return;
        }
        buffer.clear();
        self.kept.push(buffer);
    }
}

/// Anonymous memory, page-aligned, zero and unbacked until it is touched.
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Pages {}

impl Pages {
    fn map(bytes: usize) -> io::Result<Self> {
        // SAFETY: a fresh private anonymous mapping; no existing memory is affected.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` returned; nobody borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The ring from which the kernel takes a buffer when bytes arrive, and the buffers in it.
///
/// Buffers are handed to the kernel few at first, and more when it runs out of them.
/// Why: the kernel goes round all that it has; a small round stays in the cache and touches
/// little memory.
pub(crate) struct ProvidedBuffers {
    ring: Pages,
    memory: Pages,
    tail: u16,
    /// Buffers 0.. that the kernel has been given at least once.
    published: u16,
}

/// Group number of the one buffer ring of a back end.
pub(crate) const GROUP: u16 = 0;
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;
/// Why: one cache line more than a power of two, or the heads of all buffers would fall into
/// the same few sets of the cache.
const STRIDE: usize = BUFFER_BYTES + 64;
const ENTRIES: u16 = 1024;
const FIRST_PUBLISHED: u16 = 64;

impl ProvidedBuffers {
    /// Map the memory and tell `ring` of it.
    ///
    /// # Errors
    /// The kernel refuses buffer rings (before 5.19), or is out of memory.
    pub(crate) fn register(ring: &IoUring) -> io::Result<Self> {
        let mut buffers = Self {
            ring: Pages::map(usize::from(ENTRIES) * std::mem::size_of::<BufRingEntry>())?,
            memory: Pages::map(usize::from(ENTRIES) * STRIDE)?,
            tail: 0,
            published: 0,
        };
        // SAFETY: page-aligned memory of ENTRIES entries, which lives as long as the io_uring: the
        // owner drops the io_uring first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.ring.start.as_ptr() as u64,
                ENTRIES,
                GROUP,
                0,
            )?;
        }
        buffers.publish(FIRST_PUBLISHED);
        Ok(buffers)
    }

    /// Give the kernel twice as many as before; called when it ran out.
    pub(crate) fn widen(&mut self) {
        self.publish(self.published);
    }

    fn publish(&mut self, count: u16) {
        let first = self.published;
        let last = (first + count).min(ENTRIES);
        for number in first..last {
            self.give(number);
        }
        self.published = last;
    }

    /// The first `length` bytes of a buffer that the kernel filled.
    #[inline]
    pub(crate) fn bytes(&self, number: u16, length: usize) -> &[u8] {
        assert!(number < ENTRIES && length <= BUFFER_BYTES);
        // SAFETY: in range by the check above; the kernel does not write to it until it is given back.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.start.as_ptr().add(usize::from(number) * STRIDE).cast_const(),
                length,
            )
        }
    }

    /// Hand a buffer (back) to the kernel.
    #[inline]
    pub(crate) fn give(&mut self, number: u16) {
        assert!(number < ENTRIES);
        let base = self.ring.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `tail` masked is in range; at most ENTRIES buffers exist, so the entry is not one that the
        // kernel still has to read. The tail lies in a field of entry 0 which `set_*` do not touch.
        unsafe {
            let entry = &mut *base.add(usize::from(self.tail & (ENTRIES - 1)));
            entry.set_addr(self.memory.start.as_ptr().add(usize::from(number) * STRIDE) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            let shared_tail = BufRingEntry::tail(base).cast::<AtomicU16>();
            (*shared_tail).store(self.tail, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_buffers_come_back_empty_and_large_ones_do_not() {
        let mut spare = SpareBuffers::new();
        let mut buffer = spare.take();
        buffer.extend_from_slice(b"old bytes");
        let capacity = buffer.capacity();
        spare.keep(buffer);
        let again = spare.take();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), capacity);
        spare.keep(Vec::with_capacity(KEPT_BYTES + 1));
        assert!(spare.take().capacity() <= KEPT_BYTES);
        for _ in 0..2 * KEPT_COUNT {
            spare.keep(Vec::with_capacity(16));
        }
        assert_eq!(spare.kept.len(), KEPT_COUNT);
    }
}
