//! The road of encrypted bytes, and of those that come before there is a client or a server.
//!
//! Knows no cipher: `tls` does. What it decrypts goes to the relay just as plain bytes do. Called by
//! `worker` when such bytes arrive, by `actions` when the relay wants TLS to start.

use maitred_relay::ids::Time;

use super::address::ends_in_text;
use super::Worker;
use crate::backend::SocketId;
use crate::socket::Owner;
use crate::tls::TlsSession;

/// What feeding a session came to.
type Fed = Result<(), String>;

/// First byte of a TLS handshake. Spec: RFC 8446, section 5.1.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

impl Worker {
    /// Bytes before there is a client or a server, and the first that begin with TLS at once.
    pub(super) fn on_rare_bytes(&mut self, now: Time, id: SocketId, bytes: &[u8], is_first: bool) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match &mut socket.owner {
            Owner::Client(_) if is_first && self.tls.clients.is_some() => {
                self.start_client_tls(id, true);
                self.on_encrypted(now, id, bytes);
            }
            Owner::Client(client) => self.relay.client_bytes(now, *client, bytes),
            Owner::Arriving(arriving) => {
                arriving.bytes.extend_from_slice(bytes);
                self.on_proxy_header(now, id);
            }
            Owner::Cancel(errand) if errand.asks_tls => {
                errand.asks_tls = false;
                self.on_cancel_tls_answer(id, bytes[0] == b'S');
            }
            _ => {}
        }
    }

    /// The first bytes of a TLS session.
    pub(super) fn on_encrypted(&mut self, now: Time, id: SocketId, bytes: &[u8]) {
        let Some(tls) = self.sockets.get_mut(id).and_then(|socket| socket.tls.as_mut()) else { return };
        self.plaintext.clear();
        let fed = tls.feed(bytes, &mut self.plaintext);
        self.on_decrypted(now, id, true, fed);
    }

    /// Encrypted bytes have been fed; what they held is in `plaintext`.
    pub(super) fn on_decrypted(&mut self, now: Time, id: SocketId, was_handshaking: bool, fed: Fed) {
        let Some(tls) = self.sockets.get_mut(id).and_then(|socket| socket.tls.as_ref()) else { return };
        let plaintext = std::mem::take(&mut self.plaintext);
        let is_up = was_handshaking && !tls.is_handshaking() && fed.is_ok();
        if is_up {
            self.on_tls_up(now, id);
        }
        if !plaintext.is_empty() {
            match self.sockets.get_mut(id).map(|socket| &socket.owner) {
                Some(Owner::Client(client)) => self.relay.client_bytes(now, *client, &plaintext),
                Some(Owner::Server(server)) => self.relay.server_bytes(now, *server, &plaintext),
                _ => {}
            }
        }
        let has_ended = self
            .sockets
            .get_mut(id)
            .and_then(|socket| socket.tls.as_ref())
            .is_some_and(|tls| tls.peer_ended());
        self.plaintext = plaintext;
        self.pump(now, id);
        match fed {
            Err(cause) => self.on_ended(now, id, Some(format!("TLS: {cause}"))),
            Ok(()) if has_ended => self.on_ended(now, id, None),
            Ok(()) => {}
        }
    }

    fn on_tls_up(&mut self, now: Time, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let Some(tls) = &socket.tls else { return };
        match &socket.owner {
            Owner::Client(client) => {
                let (name, binding) = (tls.peer_common_name(), tls.server_end_point_hash());
                self.relay.client_secured(now, *client, name, binding);
            }
            Owner::Server(server) => {
                let (server, binding) = (*server, tls.server_end_point_hash());
                self.relay.server_secured(now, server, binding);
            }
            Owner::Connecting { server, .. } => {
                let (server, binding) = (*server, tls.server_end_point_hash());
                socket.owner = Owner::Server(server);
                let (address, local) = ends_in_text(&self.backend, id);
                self.relay.server_connected(now, server, address, local, true);
                self.relay.server_secured(now, server, binding);
            }
            Owner::Cancel(_) => self.send_cancel(id),
            _ => {}
        }
    }

    pub(super) fn start_client_tls(&mut self, id: SocketId, is_direct: bool) {
        let Some(config) = self.tls.clients.clone() else { return };
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.tls = Some(Box::new(TlsSession::accept(&config, socket.dialect, is_direct)));
        }
    }

    pub(super) fn start_server_tls(&mut self, now: Time, id: SocketId, endpoint: &str) {
        let config = self.tls.servers.get(endpoint).cloned();
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match config
            .ok_or_else(|| "no TLS is configured for this endpoint".to_owned())
            .and_then(|c| TlsSession::connect(&c))
        {
            Ok(session) => {
                socket.tls = Some(Box::new(session));
                self.pump(now, id);
            }
            Err(cause) => self.on_ended(now, id, Some(format!("TLS: {cause}"))),
        }
    }
}
