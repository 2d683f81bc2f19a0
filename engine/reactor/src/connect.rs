//! From an endpoint's address to a socket that a back end can connect.
//!
//! Never waits: names are resolved elsewhere (`errand`), connecting is the back end's.
//! Called by `worker` when a pool opens a server.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use maitred_relay::snapshot::{Address, Limits};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::listen::unix_address;
use crate::options;

/// Where to try, in order. `resolved` is what the host name stands for now; a Unix path needs none.
///
/// # Errors
/// A Unix path is too long.
pub fn destinations(address: &Address, resolved: &[SocketAddr]) -> io::Result<Vec<SockAddr>> {
    match address {
        Address::Tcp { .. } => Ok(resolved.iter().map(|&address| address.into()).collect()),
        Address::Unix { path } => Ok(vec![unix_address(path)?]),
    }
}

/// A fresh non-blocking socket for `Backend::connect`, with the options of `limits`.
///
/// # Errors
/// Out of descriptors, or the machine lacks the address family.
pub fn socket_for(destination: &SockAddr, limits: &Limits) -> io::Result<OwnedFd> {
    let domain = Domain::from(i32::from(destination.family()));
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    options::apply(&socket, limits)?;
    Ok(socket.into())
}
