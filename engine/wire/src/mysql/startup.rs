//! What a client says first, and when it becomes another user: read from clients, written for servers.
//!
//! Decides nothing, not even whether an answer fits. Called by `handshake_in` and `handshake_out`.
//!
//! Spec: "Protocol::SSLRequest", "Protocol::HandshakeResponse41", "Protocol::COM_CHANGE_USER"; MariaDB
//! "Connection", handshake response packet.

use super::frame;
use super::spec::capability;
use crate::handshake::Startup;
use crate::Fault;

/// Length of an SSLRequest, and of what stands before the user's name.
pub const HEAD_BYTES: usize = 32;

/// Who a client is, and its first answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub startup: Startup,
    pub answer: Vec<u8>,
    /// How the answer was made; None: the client cannot say.
    pub plugin: Option<String>,
}

/// The first packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It has no more than the head, and asks for TLS.
    Tls,
    /// The protocol before 4.1.
    Old,
    Response(Box<Response>),
}

/// Read the first packet of a client, or the first inside TLS.
///
/// # Errors
/// It is not well formed.
pub fn read(payload: &[u8]) -> Result<Opening, Fault> {
    let (low, _) = frame::int2(payload)?;
    if u64::from(low) & capability::PROTOCOL_41 == 0 {
        return Ok(Opening::Old);
    }
    let (low, rest) = frame::int4(payload)?;
    let (max_packet, rest) = frame::int4(rest)?;
    let (character_set, rest) = frame::byte(rest)?;
    let (reserved, rest) = frame::bytes(rest, 23)?;
    let mut capabilities = u64::from(low);
    if capabilities & capability::CLIENT_MYSQL == 0 {
        let (extended, _) = frame::int4(&reserved[19..])?;
        capabilities |= u64::from(extended) << 32;
    }
    if rest.is_empty() && capabilities & capability::SSL != 0 {
        return Ok(Opening::Tls);
    }
    let has = |flag| capabilities & flag != 0;
    let (user, rest) = frame::cstr(rest)?;
    let (answer, rest) = if has(capability::PLUGIN_AUTH_LENENC) {
        frame::string(rest)?
    } else if has(capability::SECURE_CONNECTION) {
        let (length, rest) = frame::byte(rest)?;
        frame::bytes(rest, usize::from(length))?
    } else {
        frame::cstr(rest)?
    };
    let (database, rest) = if has(capability::CONNECT_WITH_DB) { last(rest) } else { (&[][..], rest) };
    let (plugin, rest) = if has(capability::PLUGIN_AUTH) { last(rest) } else { (&[][..], rest) };
    let (attributes, rest) = attributes(rest, has(capability::CONNECT_ATTRS))?;
    let zstd_level = if has(capability::ZSTD) { rest.first().copied().unwrap_or(0) } else { 0 };
    let startup = Startup {
        user: text(user),
        database: text(database),
        capabilities,
        character_set: u16::from(character_set),
        attributes,
        max_packet,
        zstd_level,
        ..Startup::default()
    };
    let plugin = has(capability::PLUGIN_AUTH).then(|| text(plugin));
    Ok(Opening::Response(Box::new(Response { startup, answer: answer.to_vec(), plugin })))
}

/// Read a `COM_CHANGE_USER`, first byte included, from a client of these `capabilities`.
///
/// # Errors
/// It is not well formed.
pub fn read_change(payload: &[u8], capabilities: u64) -> Result<Response, Fault> {
    let has = |flag| capabilities & flag != 0;
    let (_, rest) = frame::byte(payload)?;
    let (user, rest) = frame::cstr(rest)?;
    let (answer, rest) = if has(capability::SECURE_CONNECTION) {
        let (length, rest) = frame::byte(rest)?;
        frame::bytes(rest, usize::from(length))?
    } else {
        frame::cstr(rest)?
    };
    let (database, rest) = last(rest);
    // Spec: what follows is there or is not; old clients end here.
    let (character_set, rest) = frame::int2(rest).unwrap_or((0, &[]));
    let (plugin, rest) = if has(capability::PLUGIN_AUTH) { last(rest) } else { (&[][..], rest) };
    let (attributes, _) = attributes(rest, has(capability::CONNECT_ATTRS))?;
    let startup = Startup {
        user: text(user),
        database: text(database),
        capabilities,
        character_set,
        attributes,
        ..Startup::default()
    };
    let plugin = has(capability::PLUGIN_AUTH).then(|| text(plugin));
    Ok(Response { startup, answer: answer.to_vec(), plugin })
}

/// Text up to a zero byte or the end: clients leave the last zero byte out, or what the flags promise.
fn last(input: &[u8]) -> (&[u8], &[u8]) {
    frame::cstr(input).unwrap_or((input, &[]))
}

/// Why lossy: a name in another character set is the name of nobody, and is refused as such.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

type Attributes = Vec<(String, String)>;

fn attributes(input: &[u8], are_there: bool) -> Result<(Attributes, &[u8]), Fault> {
    let mut found = Vec::new();
    if !are_there || input.is_empty() {
        return Ok((found, input));
    }
    let (mut pairs, rest) = frame::string(input)?;
    while !pairs.is_empty() {
        let (name, more) = frame::string(pairs)?;
        let (value, more) = frame::string(more)?;
        found.push((text(name), text(value)));
        pairs = more;
    }
    Ok((found, rest))
}

fn put_head(out: &mut Vec<u8>, startup: &Startup) {
    let [low @ .., extended_0, extended_1, extended_2, extended_3] = startup.capabilities.to_le_bytes();
    out.extend_from_slice(&low);
    out.extend_from_slice(&startup.max_packet.to_le_bytes());
    out.push(startup.character_set as u8);
    out.extend_from_slice(&[0; 19]);
    out.extend_from_slice(&[extended_0, extended_1, extended_2, extended_3]);
}

/// Append an SSLRequest. Returns the sequence number that comes next.
pub fn write_tls_request(out: &mut Vec<u8>, sequence: u8, startup: &Startup) -> u8 {
    frame::packet(out, sequence, |out| put_head(out, startup))
}

/// Append a HandshakeResponse41. Returns the sequence number that comes next.
pub fn write(out: &mut Vec<u8>, sequence: u8, response: &Response) -> u8 {
    let Response { startup, answer, plugin } = response;
    let has = |flag| startup.capabilities & flag != 0;
    frame::packet(out, sequence, |out| {
        put_head(out, startup);
        frame::put_cstr(out, startup.user.as_bytes());
        if has(capability::PLUGIN_AUTH_LENENC) {
            frame::put_string(out, answer);
        } else {
            // Invariant: answers of a first packet have at most 32 bytes.
            out.push(answer.len() as u8);
            out.extend_from_slice(answer);
        }
        if has(capability::CONNECT_WITH_DB) {
            frame::put_cstr(out, startup.database.as_bytes());
        }
        if has(capability::PLUGIN_AUTH) {
            frame::put_cstr(out, plugin.as_deref().unwrap_or_default().as_bytes());
        }
        if has(capability::CONNECT_ATTRS) {
            let mut pairs = Vec::new();
            for (name, value) in &startup.attributes {
                frame::put_string(&mut pairs, name.as_bytes());
                frame::put_string(&mut pairs, value.as_bytes());
            }
            frame::put_string(out, &pairs);
        }
        if has(capability::ZSTD) {
            out.push(startup.zstd_level);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::greeting::ALWAYS;
    use super::*;

    fn response(capabilities: u64) -> Response {
        Response {
            startup: Startup {
                user: "app".into(),
                database: "shop".into(),
                capabilities,
                character_set: 45,
                attributes: vec![("program_name".into(), "test".into())],
                max_packet: 1 << 24,
                zstd_level: 3,
                ..Startup::default()
            },
            answer: vec![7; 20],
            plugin: Some("mysql_native_password".into()),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let all = ALWAYS | capability::ZSTD;
        for capabilities in [all | capability::LONG_PASSWORD, all | capability::MARIADB_CACHE_METADATA] {
            let mut out = Vec::new();
            assert_eq!(write(&mut out, 1, &response(capabilities)), 2);
            assert_eq!(read(&out[4..]), Ok(Opening::Response(Box::new(response(capabilities)))));
            // Clients leave off what comes last; before the answer's end nothing can be missing.
            for end in 0..HEAD_BYTES + 4 + 1 + 20 {
                assert!(read(&out[4..4 + end]).is_err(), "cut at {end}");
            }
        }
        let mut out = Vec::new();
        let mut asking = response(all | capability::SSL | capability::LONG_PASSWORD);
        write_tls_request(&mut out, 1, &asking.startup);
        assert_eq!((out.len(), read(&out[4..])), (4 + HEAD_BYTES, Ok(Opening::Tls)));
        asking.startup.capabilities &= !capability::PLUGIN_AUTH_LENENC;
        out.clear();
        write(&mut out, 2, &asking);
        assert_eq!(read(&out[4..]), Ok(Opening::Response(Box::new(asking))));
    }

    #[test]
    fn old_clients_are_told_apart() {
        assert_eq!(read(b"\x05\0\0\0\x01app\0secret12\0"), Ok(Opening::Old));
        assert!(read(b"\x05").is_err());
    }

    #[test]
    fn another_user_is_read() {
        let bytes = b"\x11app\0\x04\x01\x02\x03\x04shop\0\x2d\0mysql_native_password\0\x08\x02a1\x04b234";
        let found = read_change(bytes, ALWAYS).unwrap();
        assert_eq!((found.startup.user.as_str(), found.startup.database.as_str()), ("app", "shop"));
        assert_eq!((found.startup.character_set, found.answer.as_slice()), (45, &[1, 2, 3, 4][..]));
        assert_eq!(found.plugin.as_deref(), Some("mysql_native_password"));
        assert_eq!(found.startup.attributes, [("a1".to_owned(), "b234".to_owned())]);
        let short = read_change(b"\x11app\0\0\0", ALWAYS).unwrap();
        assert_eq!((short.startup.database.as_str(), short.plugin.as_deref()), ("", Some("")));
        assert!(read_change(b"\x11app\0\x04\x01\x02\x03", ALWAYS).is_err());
        assert!(read_change(&bytes[..bytes.len() - 1], ALWAYS).is_err());
        assert!(read_change(b"", ALWAYS).is_err());
    }
}
