//! Who is at the ends of a socket, as operators read it.
//!
//! Only asks the kernel; nothing is kept. Called by `arrival`, `connecting`, `cancel` and `encrypted`.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use socket2::{SockAddr, SockRef};

use crate::backend::{AnyBackend, Backend, SocketId};
use crate::listen;

/// The peer's address, ours; empty when the connection is gone.
pub(super) fn ends_in_text(backend: &AnyBackend, id: SocketId) -> (String, String) {
    let Some(raw) = backend.descriptor(id) else { return Default::default() };
    match listen::ends(borrow(raw)) {
        Ok((peer, own)) => (in_text(peer), in_text(own)),
        Err(_) => Default::default(),
    }
}

pub(super) fn peer_address(raw: RawFd) -> String {
    peer_of(raw).map(|peer| in_text(listen::end(&peer))).unwrap_or_default()
}

pub(super) fn peer_of(raw: RawFd) -> io::Result<SockAddr> {
    SockRef::from(&borrow(raw)).peer_addr()
}

fn in_text((host, port): listen::End) -> String {
    match (host.contains(':'), port) {
        (_, 0) => host,
        (true, port) => format!("[{host}]:{port}"),
        (false, port) => format!("{host}:{port}"),
    }
}

pub(super) fn borrow<'a>(raw: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the back end names only descriptors that it holds open, and each use here ends
    // before the back end is called again.
    unsafe { BorrowedFd::borrow_raw(raw) }
}
