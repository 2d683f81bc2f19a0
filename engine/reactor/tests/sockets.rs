//! Listening, the way to an endpoint, and the errands that come before both.
//!
//! Binds on loopback and in a temporary folder only; no name server is asked.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use maitred_reactor::connect::{destinations, socket_for};
use maitred_reactor::errand::{Errands, Job, Outcome};
use maitred_reactor::listen::{bind, ends, Bound};
use maitred_relay::snapshot::{Address, Limits, Listener};
use maitred_wire::handshake::Errand;
use maitred_wire::Dialect;
use socket2::SockRef;

fn limits() -> Limits {
    Limits {
        clients: 0,
        servers: 0,
        clients_per_user: 0,
        servers_per_user: 0,
        logins: 0,
        client_login_timeout_ms: 0,
        buffer_bytes: 0,
        message_bytes: 0,
        drain_timeout_ms: 0,
        keepalive_idle_s: 123,
        keepalive_interval_s: 17,
        keepalive_count: 4,
        tcp_user_timeout_ms: 98_000,
        listen_backlog: 0,
        mysql_version: String::new(),
    }
}

fn tcp(host: &str, port: u16) -> Listener {
    let address = Address::Tcp { host: host.to_owned(), port };
    Listener { dialect: Dialect::Postgres, address, proxy_protocol: false, unix_mode: 0 }
}

fn unix(path: &str, unix_mode: u32) -> Listener {
    let address = Address::Unix { path: path.to_owned() };
    Listener { dialect: Dialect::Postgres, address, proxy_protocol: false, unix_mode }
}

fn bind_one(listener: &Listener) -> Bound {
    let mut bounds = bind(listener, &limits()).unwrap();
    assert_eq!(bounds.len(), 1);
    bounds.remove(0)
}

/// Accept one connection, waiting for it.
fn accept(bound: &Bound) -> OwnedFd {
    let listener = bound.share().unwrap();
    let socket = SockRef::from(&listener);
    socket.set_nonblocking(false).unwrap();
    let (accepted, _) = socket.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    accepted.into()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("maitred-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn port_zero_is_reported_as_the_port_in_use() {
    let bound = bind_one(&tcp("127.0.0.1", 0));
    let address: SocketAddr = bound.address.parse().unwrap();
    assert_ne!(address.port(), 0);
    let client = TcpStream::connect(address).unwrap();
    let accepted = accept(&bound);
    let (peer, local) = ends(accepted.as_fd()).unwrap();
    assert_eq!(peer, ("127.0.0.1".to_owned(), client.local_addr().unwrap().port()));
    assert_eq!(local, ("127.0.0.1".to_owned(), address.port()));
}

#[test]
fn accepted_sockets_have_the_options_of_the_limits() {
    let bound = bind_one(&tcp("127.0.0.1", 0));
    let _client = TcpStream::connect(&bound.address).unwrap();
    let accepted = accept(&bound);
    check_options(&accepted);
    let changed = Limits { keepalive_idle_s: 0, tcp_user_timeout_ms: 0, ..limits() };
    bound.retune(&changed).unwrap();
    let _client = TcpStream::connect(&bound.address).unwrap();
    let accepted = accept(&bound);
    assert!(!SockRef::from(&accepted).keepalive().unwrap());
}

fn check_options(socket: &OwnedFd) {
    let socket = SockRef::from(socket);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(123));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(17));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(98)));
}

#[test]
fn every_interface_takes_ipv4_and_is_shown_as_ipv4() {
    for host in ["", "*"] {
        let bound = bind_one(&tcp(host, 0));
        let port = bound.address.parse::<SocketAddr>().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (peer, _) = ends(accept(&bound).as_fd()).unwrap();
        assert_eq!(peer.0, "127.0.0.1");
    }
}

#[test]
fn ipv6_literal_leaves_ipv4_alone() {
    let Ok(bounds) = bind(&tcp("::1", 0), &limits()) else {
        assert!(std::net::TcpListener::bind("[::1]:0").is_err(), "this machine has IPv6");
        return;
    };
    let address: SocketAddr = bounds[0].address.parse().unwrap();
    assert!(bounds[0].address.starts_with("[::1]:"));
    TcpStream::connect(address).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", address.port())).is_err());
    assert!(bind(&tcp("[::1]", 0), &limits()).is_ok());
}

#[test]
fn addresses_of_one_name_share_the_port() {
    let bounds = bind(&tcp("localhost", 0), &limits()).unwrap();
    let ports: Vec<_> =
        bounds.iter().map(|bound| bound.address.parse::<SocketAddr>().unwrap().port()).collect();
    assert!(ports.iter().all(|&port| port == ports[0]));
}

#[test]
fn faults_say_what_to_change() {
    let bound = bind_one(&tcp("127.0.0.1", 0));
    let port = bound.address.parse::<SocketAddr>().unwrap().port();
    let folder = Folder::new("faults");
    std::fs::write(folder.file("plain"), "precious").unwrap();
    let long = folder.file(&"x".repeat(120));
    let table = [
        (tcp("127.0.0.1", port), "something else listens on port"),
        (tcp("192.0.2.1", 0), "this machine has no address 192.0.2.1"),
        (unix(folder.0.to_str().unwrap(), 0o700), "it is a directory: add a file name"),
        (unix(&folder.file("plain"), 0o700), "no socket is in the way"),
        (unix(&folder.file("missing/socket"), 0o700), "its directory does not exist"),
        (unix(&long, 0o700), "at most 107 fit"),
    ];
    for (listener, words) in table {
        let fault = bind(&listener, &limits()).unwrap_err();
        assert!(fault.starts_with("cannot listen on ") && fault.contains(words), "{fault}");
    }
    assert_eq!(std::fs::read_to_string(folder.file("plain")).unwrap(), "precious");
}

#[test]
fn unix_socket_has_its_mode_and_leaves_no_file() {
    let folder = Folder::new("mode");
    let path = folder.file("socket");
    for mode in [0o777, 0o600] {
        let bound = bind_one(&unix(&path, mode));
        assert_eq!(bound.address, path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let _client = UnixStream::connect(&path).unwrap();
        assert_eq!(ends(accept(&bound).as_fd()).unwrap().0, ("unix".to_owned(), 0));
        drop(bound);
        assert!(!std::path::Path::new(&path).exists());
    }
}

#[test]
fn stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new("stale");
    let path = folder.file("socket");
    drop(UnixListener::bind(&path).unwrap());
    let bound = bind_one(&unix(&path, 0o700));
    let fault = bind(&unix(&path, 0o700), &limits()).unwrap_err();
    assert!(fault.contains("another process listens on it"), "{fault}");
    UnixStream::connect(&path).unwrap();
    // Somebody else takes the path over: dropping ours must leave theirs.
    std::fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop(bound);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn abstract_name_is_listened_on_and_connected_to() {
    let name = format!("@maitred-test-{}", std::process::id());
    let bound = bind_one(&unix(&name, 0o700));
    let destination = destinations(&Address::Unix { path: name }, &[]).unwrap().remove(0);
    let socket = socket_for(&destination, &limits()).unwrap();
    SockRef::from(&socket).connect(&destination).unwrap();
    accept(&bound);
}

#[test]
fn socket_for_an_endpoint_has_the_options_and_does_not_block() {
    let resolved: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
    let address = Address::Tcp { host: "db".to_owned(), port: 1 };
    let found = destinations(&address, &resolved).unwrap();
    assert_eq!(found.iter().filter_map(socket2::SockAddr::as_socket).collect::<Vec<_>>(), resolved);
    let socket = socket_for(&found[0], &limits()).unwrap();
    check_options(&socket);
    assert!(SockRef::from(&socket).nonblocking().unwrap());
}

fn outcome(errands: &Errands, job: Job) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    errands.submit(job, Box::new(move |outcome| sender.send(outcome).unwrap())).unwrap();
    receiver.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn errands_are_run_elsewhere_and_delivered() {
    let errands = Errands::start().unwrap();
    let errand =
        Errand::SaltPassword { password: "secret".to_owned(), salt: b"salt".to_vec(), iterations: 4096 };
    let expected = errand.run();
    assert_eq!(outcome(&errands, Job::Handshake(errand)), Outcome::Handshake(expected));
}

#[test]
fn names_are_resolved_remembered_and_missed_in_words() {
    let errands = Errands::start().unwrap();
    assert_eq!(errands.known("127.0.0.1", 7), Some(Ok(vec!["127.0.0.1:7".parse().unwrap()])));
    assert_eq!(errands.known("[::1]", 7), Some(Ok(vec!["[::1]:7".parse().unwrap()])));
    assert_eq!(errands.known("localhost", 5432), None);
    let job = Job::Resolve { host: "localhost".to_owned(), port: 5432 };
    let Outcome::Resolved(Ok(addresses)) = outcome(&errands, job) else { panic!("localhost is known") };
    assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 5432));
    let again = errands.known("localhost", 6432).unwrap().unwrap();
    assert_eq!(again.len(), addresses.len());
    assert!(again.iter().all(|address| address.port() == 6432));
    // Spec: RFC 6761 reserves `.invalid`; the space keeps it from any name server as well.
    let job = Job::Resolve { host: "no such host.invalid".to_owned(), port: 1 };
    let Outcome::Resolved(Err(cause)) = outcome(&errands, job) else { panic!("nobody has that name") };
    assert!(cause.contains("\"no such host.invalid\" cannot be resolved"), "{cause}");
}

#[test]
fn full_queue_is_refused_at_once() {
    let errands = Errands::start().unwrap();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let mut refused = false;
    for _ in 0..10_000 {
        let held = held.clone();
        let job = Job::Resolve { host: "127.0.0.1".to_owned(), port: 1 };
        if errands.submit(job, Box::new(move |_| assert!(held.recv().is_err()))).is_err() {
            refused = true;
            break;
        }
    }
    drop(hold);
    assert!(refused);
}
