//! Socket options of both sides, taken from the limits of the snapshot.
//!
//! Opens nothing. Called by `listen` (accepted sockets inherit them on Linux) and `connect`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use maitred_relay::snapshot::Limits;
use socket2::{Domain, SockRef, TcpKeepalive};

/// Set what `limits` asks for; sockets that are not TCP are left as they are.
///
/// On a listener it holds for everything accepted from then on, which saves six system calls per client.
///
/// # Errors
/// The kernel refused a value.
pub fn apply(socket: &impl AsFd, limits: &Limits) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if !matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) {
        return Ok(());
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(limits.keepalive_idle_s > 0)?;
    if limits.keepalive_idle_s > 0 {
        let mut keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(limits.keepalive_idle_s.into()));
        if limits.keepalive_interval_s > 0 {
            keepalive = keepalive.with_interval(Duration::from_secs(limits.keepalive_interval_s.into()));
        }
        if limits.keepalive_count > 0 {
            keepalive = keepalive.with_retries(limits.keepalive_count);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    let patience = Duration::from_millis(limits.tcp_user_timeout_ms.into());
    socket.set_tcp_user_timeout(Some(patience))
}
