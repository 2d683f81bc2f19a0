//! What the stand-ins for databases share: sockets, buffers, and what is said at the command line.
//!
//! Speaks no protocol. Used by the examples `stub_postgres` and `stub_mysql`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use maitred_reactor::backend::{open, AnyBackend, Backend, Chunk, Event, SocketId};

/// What a stub is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    port: u16,
    threads: usize,
    /// Rows of every SELECT.
    pub rows: u64,
    /// Bytes of the one column of each row.
    pub bytes: usize,
    backend: String,
}

/// One client of a stub, in its dialect.
pub trait Client: Sized + Send + 'static {
    /// What every client is answered with, encoded once.
    type Answers: Send + 'static;

    fn answers(settings: &Settings) -> Self::Answers;

    /// Somebody connected.
    fn new() -> Self;

    /// Take what has arrived; false when the client is to be closed.
    fn take(&mut self, bytes: &[u8], answers: &Self::Answers) -> bool;

    /// Is there something to send?
    fn owes(&self) -> bool;

    /// The next part of what is owed, at most about [`PIECE_BYTES`].
    fn next_piece(&mut self, answers: &Self::Answers, buffer: &mut Vec<u8>);
}

/// Send this much at once of a long answer.
pub const PIECE_BYTES: usize = 256 * 1024;

/// Read the command line.
///
/// # Errors
/// In words.
fn settings(port: u16) -> Result<Settings, String> {
    let mut settings = Settings { port, threads: 1, rows: 1, bytes: 4, backend: "auto".to_owned() };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let wrong = |_| format!("{name} needs a number, not {value}");
        match name.as_str() {
            "--port" => settings.port = value.parse().map_err(wrong)?,
            "--threads" => settings.threads = value.parse().map_err(wrong)?,
            "--rows" => settings.rows = value.parse().map_err(wrong)?,
            "--bytes" => settings.bytes = value.parse().map_err(wrong)?,
            "--backend" => settings.backend = value,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(settings)
}

/// Serve until killed. `name` and `port` are for whoever asks how it is used.
///
/// # Errors
/// The machine gives no listener or no back end.
pub fn serve<C: Client>(name: &str, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let settings = match settings(port) {
        Ok(settings) => settings,
        Err(cause) => {
            eprintln!(
                "{cause}\nusage: {name} [--port {port}] [--threads 1] [--rows 1] [--bytes 4] \
                 [--backend auto|io_uring|epoll]\n  --rows     rows of every SELECT\n  \
                 --bytes    bytes of the one column of each row\n\
                 It prints `listening on 127.0.0.1:PORT` when it is ready; port 0 takes a free one."
            );
            std::process::exit(2);
        }
    };
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.set_tcp_nodelay(true)?;
    listener.set_nonblocking(true)?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], settings.port)).into())?;
    listener.listen(4096)?;
    let address = listener.local_addr()?.as_socket().ok_or("no address")?;
    let mut threads = Vec::new();
    for _ in 0..settings.threads.max(1) {
        let (backend, _) = open(&settings.backend)?;
        let stub = Stub::<C>::new(backend, listener.try_clone()?.into(), &settings);
        threads.push(std::thread::spawn(move || stub.run()));
    }
    println!("listening on {address}");
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

struct Entry<C> {
    client: C,
    is_sending: bool,
}

struct Stub<C: Client> {
    backend: AnyBackend,
    clients: HashMap<SocketId, Entry<C>>,
    answers: C::Answers,
}

impl<C: Client> Stub<C> {
    fn new(mut backend: AnyBackend, listener: OwnedFd, settings: &Settings) -> Self {
        backend.listen(listener);
        Self { backend, clients: HashMap::new(), answers: C::answers(settings) }
    }

    fn run(mut self) -> std::io::Result<()> {
        let mut events = Vec::new();
        loop {
            self.backend.wait(None, &mut events)?;
            for event in events.drain(..) {
                self.act(event);
            }
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Accepted { socket, .. } => {
                let id = self.backend.adopt(socket);
                self.clients.insert(id, Entry { client: C::new(), is_sending: false });
                self.pump(id);
            }
            Event::Received(received) => {
                let id = received.socket;
                let Some(entry) = self.clients.get_mut(&id) else {
                    return self.backend.recycle(received);
                };
                let stays = match self.backend.chunk(&received) {
                    Chunk::Bytes(bytes) => entry.client.take(bytes, &self.answers),
                    Chunk::Nothing => true,
                    Chunk::Ended(_) => false,
                };
                self.backend.recycle(received);
                if stays {
                    self.pump(id);
                } else {
                    self.close(id);
                }
            }
            Event::Written { socket, buffer, result } => {
                self.backend.keep_buffer(buffer);
                if let Some(entry) = self.clients.get_mut(&socket) {
                    entry.is_sending = false;
                    if result.is_ok() {
                        self.pump(socket);
                    } else {
                        self.close(socket);
                    }
                }
            }
            Event::Ended { socket, .. } => self.close(socket),
            Event::AcceptFailed { .. } | Event::Connected { .. } | Event::Detached { .. } => {}
        }
    }

    fn pump(&mut self, id: SocketId) {
        let Some(entry) = self.clients.get_mut(&id) else { return };
        while !entry.is_sending && entry.client.owes() {
            let mut buffer = self.backend.spare_buffer();
            entry.client.next_piece(&self.answers, &mut buffer);
            match self.backend.send_now(id, buffer) {
                Some(buffer) => self.backend.keep_buffer(buffer),
                None => entry.is_sending = true,
            }
        }
    }

    fn close(&mut self, id: SocketId) {
        self.clients.remove(&id);
        self.backend.close(id);
    }
}
