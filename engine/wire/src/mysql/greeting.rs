//! The first packet of a connection, which the server sends: written for clients, read from servers.
//!
//! Decides nothing; what it says is given to it. Called by `handshake_in` and `handshake_out`.
//!
//! Spec: "Protocol::HandshakeV10"; MariaDB "Connection", initial handshake packet.

use std::net::IpAddr;
use std::sync::Arc;

use super::frame;
use super::proof::Scheme;
use super::spec::{capability, limits, login};
use crate::auth::sealed_password::OwnKey;
use crate::handshake::Method;
use crate::Fault;

/// What a login cannot do without, or what it can always do.
pub const ALWAYS: u64 = capability::PROTOCOL_41
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::PLUGIN_AUTH_LENENC
    | capability::CONNECT_ATTRS
    | capability::CONNECT_WITH_DB
    | capability::RESERVED;

/// What a client is told, and what is known of it before it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub connection_id: u32,
    pub server_version: String,
    /// What we can do; those that the login needs are added. With one of MariaDB's extended ones, we
    /// are taken for a MariaDB.
    pub capabilities: u64,
    /// Number of the server's collation, of which the low byte is sent.
    pub character_set: u16,
    pub status: u16,
    /// TLS can be had.
    pub tls: bool,
    /// The client comes by a local socket, where clear text is as safe as TLS.
    pub is_local: bool,
    /// What most users are asked for, so that most logins need no further packet.
    pub method: Method,
    /// What the client's answer is made with; None: a fresh one. For a change of user that of the login,
    /// from `HandshakeIn::nonce`: some clients know no other.
    pub nonce: Option<[u8; limits::NONCE_BYTES]>,
    /// What clients seal passwords with where there is no TLS; None: they must use TLS.
    pub key: Option<Arc<OwnKey>>,
    /// Where the client comes from, for the text of a refusal; None: a local socket.
    pub host: Option<IpAddr>,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            connection_id: 0,
            server_version: String::new(),
            capabilities: capability::LONG_PASSWORD,
            character_set: 0,
            status: super::spec::status::AUTOCOMMIT,
            tls: false,
            is_local: false,
            method: Method::CachingSha2,
            nonce: None,
            key: None,
            host: None,
        }
    }
}

impl Greeting {
    /// All that is offered.
    pub fn offered(&self) -> u64 {
        let tls = if self.tls { capability::SSL } else { 0 };
        let all = self.capabilities & !capability::SSL | ALWAYS | tls;
        match all & capability::MARIADB {
            0 => all | capability::LONG_PASSWORD,
            _ => all & !capability::CLIENT_MYSQL,
        }
    }

    /// Append the packet. Returns the sequence number that comes next.
    pub fn write(&self, out: &mut Vec<u8>, nonce: &[u8; limits::NONCE_BYTES]) -> u8 {
        let plugin = Scheme::of(self.method).greeted().plugin();
        let [low_0, low_1, high_0, high_1, extended @ ..] = self.offered().to_le_bytes();
        frame::packet(out, 0, |out| {
            out.push(login::PROTOCOL_VERSION);
            frame::put_cstr(out, self.server_version.as_bytes());
            out.extend_from_slice(&self.connection_id.to_le_bytes());
            out.extend_from_slice(&nonce[..8]);
            out.extend_from_slice(&[0, low_0, low_1, self.character_set as u8]);
            out.extend_from_slice(&self.status.to_le_bytes());
            out.extend_from_slice(&[high_0, high_1, limits::NONCE_BYTES as u8 + 1]);
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&extended);
            out.extend_from_slice(&nonce[8..]);
            out.push(0);
            frame::put_cstr(out, plugin.as_bytes());
        })
    }
}

/// A nonce as servers make them: no zero byte, which would end it, and seven bits.
pub fn nonce() -> [u8; limits::NONCE_BYTES] {
    crate::auth::random().map(|byte| match byte & 0x7f {
        0 | b'$' => (byte & 0x7f) + 1,
        byte => byte,
    })
}

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Without MariaDB's prefix.
    pub server_version: String,
    pub connection_id: u32,
    pub capabilities: u64,
    /// Number of the server's collation, its low byte.
    pub character_set: u8,
    pub status: u16,
    pub nonce: [u8; limits::NONCE_BYTES],
    /// Empty when the server named none.
    pub plugin: String,
}

/// Read a server's first packet.
///
/// # Errors
/// It is of another version, or not well formed.
pub fn read(payload: &[u8]) -> Result<Greeted, Fault> {
    let (version, rest) = frame::byte(payload)?;
    if version != login::PROTOCOL_VERSION {
        return Err(Fault("does not speak version 10 of the handshake: it is older than MySQL 3.22"));
    }
    let (server_version, rest) = frame::cstr(rest)?;
    let (connection_id, rest) = frame::int4(rest)?;
    let (first, rest) = frame::bytes(rest, 8)?;
    let (_, rest) = frame::byte(rest)?;
    let (low, rest) = frame::int2(rest)?;
    let (character_set, rest) = frame::byte(rest)?;
    let (status, rest) = frame::int2(rest)?;
    let (high, rest) = frame::int2(rest)?;
    let (_, rest) = frame::byte(rest)?;
    let (reserved, rest) = frame::bytes(rest, 10)?;
    let mut capabilities = u64::from(low) | u64::from(high) << 16;
    if capabilities & capability::CLIENT_MYSQL == 0 {
        let (extended, _) = frame::int4(&reserved[6..])?;
        capabilities |= u64::from(extended) << 32;
    }
    if capabilities & capability::PROTOCOL_41 == 0 || capabilities & capability::SECURE_CONNECTION == 0 {
        return Err(Fault("does not speak the protocol of MySQL 4.1"));
    }
    let (second, rest) = frame::bytes(rest, limits::NONCE_BYTES - 8)?;
    let mut nonce = [0; limits::NONCE_BYTES];
    nonce[..8].copy_from_slice(first);
    nonce[8..].copy_from_slice(second);
    let plugin = match capabilities & capability::PLUGIN_AUTH {
        0 => &[],
        // Why both: the first servers with plugins left the last zero byte out (MySQL's bug 59453).
        _ => {
            let name = rest.strip_prefix(&[0]).unwrap_or(rest);
            frame::cstr(name).map_or(name, |(name, _)| name)
        }
    };
    let server_version = String::from_utf8_lossy(server_version);
    let is_prefixed = server_version.to_ascii_lowercase().contains("mariadb");
    let bare = server_version.strip_prefix(login::MARIADB_PREFIX).filter(|_| is_prefixed);
    Ok(Greeted {
        server_version: bare.unwrap_or(&server_version).to_owned(),
        connection_id,
        capabilities,
        character_set,
        status,
        nonce,
        plugin: String::from_utf8_lossy(plugin).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let nonce = nonce();
        assert!(nonce.iter().all(|byte| (1..128).contains(byte)));
        for more in [0, capability::MARIADB_STMT_BULK_OPERATIONS | capability::MARIADB_CACHE_METADATA] {
            let greeting = Greeting {
                connection_id: 0x0102_0304,
                server_version: "5.5.5-10.11.2-MariaDB".into(),
                capabilities: more | capability::DEPRECATE_EOF,
                character_set: 45,
                tls: more != 0,
                ..Greeting::default()
            };
            let mut out = Vec::new();
            assert_eq!(greeting.write(&mut out, &nonce), 1);
            let read = read(&out[4..]).unwrap();
            assert_eq!(read.capabilities, greeting.offered());
            assert_eq!(read.capabilities & capability::SSL != 0, more != 0);
            assert_eq!(read.capabilities & capability::CLIENT_MYSQL == 0, more != 0);
            assert_eq!(
                (read.server_version.as_str(), read.plugin.as_str()),
                ("10.11.2-MariaDB", "caching_sha2_password")
            );
            assert_eq!((read.connection_id, read.character_set, read.status), (0x0102_0304, 45, 2));
            assert_eq!(read.nonce, nonce);
        }
    }

    #[test]
    fn broken_greetings_are_refused() {
        let mut out = Vec::new();
        Greeting { server_version: "8.0".into(), ..Greeting::default() }.write(&mut out, &nonce());
        let whole = &out[4..];
        assert!(read(whole).is_ok());
        // What stands behind the nonce may be missing.
        for end in 0..whole.len() - "\0caching_sha2_password\0".len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(read(&[&[9], &whole[1..]].concat()).is_err());
        let mut old = whole.to_vec();
        old[1 + 4 + 4 + 8 + 1 + 1] &= !2; // PROTOCOL_41
        assert!(read(&old).unwrap_err().0.contains("4.1"));
    }
}
