//! Listening sockets, from what the snapshot says to a descriptor that a back end can accept on.
//!
//! Never accepts and never waits for the network (a name is looked up, once, at start).
//! Called by `engine` when it starts and when a reload brings other listeners.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use maitred_relay::snapshot::{Address, Limits, Listener};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::options;

/// A socket that listens. Dropping it closes this descriptor and removes a Unix socket's file;
/// descriptors made by `share` go on accepting over TCP until they are closed too.
#[derive(Debug)]
pub struct Bound {
    socket: OwnedFd,
    /// As an operator reads it: `127.0.0.1:6432`, `[::1]:6432` or a path. The port is the one in use.
    pub address: String,
    file: Option<SocketFile>,
}

/// A file that we made, and how to know it again.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn identify(path: &Path) -> Option<(u64, u64)> {
        std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
    }
}

impl Bound {
    /// One more descriptor of the same socket, for one worker.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Let connections accepted from now on have the options of `limits`.
    ///
    /// # Errors
    /// The kernel refused a value.
    pub fn retune(&self, limits: &Limits) -> io::Result<()> {
        options::apply(&self.socket, limits)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Why: the file of a process that has taken over the path since is not ours to remove.
            if file.identity.is_some() && SocketFile::identify(&file.path) == file.identity {
                let _ = std::fs::remove_file(&file.path);
            }
        }
    }
}

/// Listen where `listener` says. A host name with several addresses gives one `Bound` for each.
///
/// # Errors
/// In words that say what to change.
pub fn bind(listener: &Listener, limits: &Limits) -> Result<Vec<Bound>, String> {
    match &listener.address {
        Address::Tcp { host, port } => bind_tcp(host, *port, limits),
        Address::Unix { path } => Ok(vec![bind_unix(path, listener.unix_mode, limits)?]),
    }
}

fn bind_tcp(host: &str, port: u16, limits: &Limits) -> Result<Vec<Bound>, String> {
    if matches!(host, "" | "*") {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        return match listen_tcp(both, Stack::Dual, limits) {
            // Why: a machine without IPv6 still has every IPv4 interface.
            Err(error) if is_missing_family(&error) => {
                let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                listen_tcp(four, Stack::Single, limits).map_err(|error| tcp_fault(four, &error))
            }
            bound => bound.map_err(|error| tcp_fault(both, &error)),
        }
        .map(|bound| vec![bound]);
    }
    let mut bounds: Vec<Bound> = Vec::new();
    let mut last = String::new();
    for mut address in resolve(host, port)? {
        if port == 0 {
            // Why: one name, one port, also when the kernel chose it.
            if let Some(first) = bounds.first() {
                let taken: Option<SocketAddr> = first.address.parse().ok();
                address.set_port(taken.map_or(0, |taken| taken.port()));
            }
        }
        match listen_tcp(address, Stack::Single, limits) {
            Ok(bound) => bounds.push(bound),
            // Why: `localhost` names ::1 also on machines without IPv6.
            Err(error) if is_missing_family(&error) => last = tcp_fault(address, &error),
            Err(error) => return Err(tcp_fault(address, &error)),
        }
    }
    if bounds.is_empty() {
        return Err(last);
    }
    Ok(bounds)
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let fault = |cause: &str| {
        format!(
            "cannot listen on \"{host}\": {cause}; \
             use an address of this machine, or \"*\" for every interface"
        )
    };
    let found = (literal, port).to_socket_addrs().map_err(|error| fault(&error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(fault("the name has no address"));
    }
    Ok(addresses)
}

/// Whether an IPv6 socket takes IPv4 as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    Single,
    Dual,
}

fn listen_tcp(address: SocketAddr, stack: Stack, limits: &Limits) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    // Why: a restart must not wait for connections of the last run in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(stack == Stack::Single)?;
    }
    options::apply(&socket, limits)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(limits))?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Bound { socket: socket.into(), address: address.to_string(), file: None })
}

fn backlog(limits: &Limits) -> i32 {
    // Why: 0 asks for the most; the kernel cuts it to net.core.somaxconn.
    match limits.listen_backlog {
        0 => i32::MAX,
        length => i32::try_from(length).unwrap_or(i32::MAX),
    }
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn tcp_fault(address: SocketAddr, error: &io::Error) -> String {
    let (ip, port) = (address.ip(), address.port());
    let advice = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            format!("something else listens on port {port}: stop it, or choose another port")
        }
        Some(libc::EACCES | libc::EPERM) => format!(
            "port {port} is reserved: choose one above 1023, or grant the capability CAP_NET_BIND_SERVICE"
        ),
        Some(libc::EADDRNOTAVAIL) => {
            format!("this machine has no address {ip}: use one of its own, or \"*\" for every interface")
        }
        Some(libc::EAFNOSUPPORT) => format!("IPv6 is off on this machine: use an IPv4 address, not {ip}"),
        Some(libc::EMFILE | libc::ENFILE) => {
            "no file descriptors are left: raise the limit (`ulimit -n`, LimitNOFILE)".to_owned()
        }
        _ => error.to_string(),
    };
    format!("cannot listen on {address}: {advice}")
}

/// The longest path that fits a Unix socket's address, with its final zero.
const LONGEST_PATH: usize = 107;

fn bind_unix(path: &str, mode: u32, limits: &Limits) -> Result<Bound, String> {
    let fault = |cause: &str| format!("cannot listen on the Unix socket {path}: {cause}");
    if path.len() > LONGEST_PATH {
        return Err(fault(&format!(
            "the path has {} bytes, at most {LONGEST_PATH} fit: use a shorter one",
            path.len()
        )));
    }
    let address = unix_address(path).map_err(|error| fault(&error.to_string()))?;
    let file = (!path.starts_with('@')).then(|| PathBuf::from(path));
    if let Some(file) = &file {
        clear_stale(file, &address).map_err(|cause| fault(&cause))?;
    }
    let bound = listen_unix(&address, file.as_deref(), mode, limits);
    let socket = bound.map_err(|error| fault(&unix_advice(&error)))?;
    let file = file.map(|path| SocketFile { identity: SocketFile::identify(&path), path });
    Ok(Bound { socket, address: path.to_owned(), file })
}

/// The address of a Unix socket; a leading `@` means Linux's abstract names, as in libpq.
///
/// # Errors
/// The path is too long.
pub(crate) fn unix_address(path: &str) -> io::Result<SockAddr> {
    match path.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path),
    }
}

/// Remove a socket file that nobody listens on any more; leave everything else alone.
fn clear_stale(file: &Path, address: &SockAddr) -> Result<(), String> {
    let Ok(found) = std::fs::symlink_metadata(file) else {
        return Ok(());
    };
    if found.is_dir() {
        return Err("it is a directory: add a file name".to_owned());
    }
    if !found.file_type().is_socket() {
        return Err("a file that is no socket is in the way: remove it, or use another path".to_owned());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(|e| e.to_string())?;
    match probe.connect(address) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => std::fs::remove_file(file)
            .map_err(|error| format!("the file of an earlier run cannot be removed ({error}): remove it")),
        _ => Err("another process listens on it: stop that one, or use another path".to_owned()),
    }
}

fn listen_unix(address: &SockAddr, file: Option<&Path>, mode: u32, limits: &Limits) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // Why: before `bind`, so that the file is at no moment more open than asked (the umask still
    // narrows it); and after, because the umask may have narrowed it too far.
    // SAFETY: a plain system call on an open descriptor.
    if unsafe { libc::fchmod(socket.as_raw_fd(), mode & 0o777) } < 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(address)?;
    if let Some(file) = file {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode & 0o777))?;
    }
    socket.listen(backlog(limits))?;
    Ok(socket.into())
}

fn unix_advice(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "its directory does not exist: create it, or use another path".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "we may not write to its directory: change its permissions, or use another path".to_owned()
        }
        Some(libc::EROFS) => "its file system is read-only: use another path".to_owned(),
        Some(libc::EADDRINUSE) => "it is in use: stop the other process, or use another path".to_owned(),
        _ => error.to_string(),
    }
}

/// One end of a connection, as shown to operators: `("127.0.0.1", 6432)`, or `("unix", 0)`.
pub type End = (String, u16);

/// The peer's end and ours.
///
/// # Errors
/// The connection is gone.
pub fn ends(socket: BorrowedFd<'_>) -> io::Result<(End, End)> {
    let socket = SockRef::from(&socket);
    Ok((end(&socket.peer_addr()?), end(&socket.local_addr()?)))
}

/// An address as operators read it.
pub fn end(address: &SockAddr) -> End {
    match address.as_socket() {
        // Why: an IPv4 client of a dual-stack listener is an IPv4 client to everybody who reads of it.
        Some(address) => (address.ip().to_canonical().to_string(), address.port()),
        None => ("unix".to_owned(), 0),
    }
}
