//! The login of the scripted database, which trusts everybody, and of its clients, who have no password.
//!
//! Knows no command. Called by `session` and `frontend`.
//!
//! Spec: "Protocol::HandshakeV10", "Protocol::HandshakeResponse41".

use super::can;
use super::packets::{take_bytes, take_cstr, take_int, take_number};

/// All that the scripted database can do.
pub const OFFERED: u64 =
    can::MODERN | can::FOUND_ROWS | can::LOCAL_FILES | can::CONNECT_ATTRS | can::PLUGIN_AUTH_LENENC;

pub fn greeting(version: &str, number: u32) -> Vec<u8> {
    let mut out = vec![10];
    out.extend_from_slice(version.as_bytes());
    out.push(0);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(b"saltsalt\0");
    let [low_0, low_1, high_0, high_1, ..] = OFFERED.to_le_bytes();
    out.extend_from_slice(&[low_0, low_1, 45, 2, 0, high_0, high_1, 21]);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"saltsaltsalt\0mysql_native_password\0");
    out
}

/// What a client reads in a greeting: its number, and what the server can do.
pub fn read_greeting(payload: &[u8]) -> (u32, u64) {
    let mut rest = payload;
    assert_eq!(take_int(&mut rest, 1), 10, "a greeting");
    take_cstr(&mut rest);
    let number = take_int(&mut rest, 4) as u32;
    take_bytes(&mut rest, 9);
    let low = take_int(&mut rest, 2);
    take_bytes(&mut rest, 3);
    (number, low | take_int(&mut rest, 2) << 16)
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub capabilities: u64,
    pub collation: u8,
    pub user: String,
    pub database: String,
}

impl Response {
    pub fn payload(&self) -> Vec<u8> {
        let mut out = (self.capabilities as u32).to_le_bytes().to_vec();
        out.extend_from_slice(&(1u32 << 30).to_le_bytes());
        out.push(self.collation);
        out.extend_from_slice(&[0; 23]);
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(b"\0\0");
        if self.capabilities & can::CONNECT_WITH_DB != 0 {
            out.extend_from_slice(self.database.as_bytes());
            out.push(0);
        }
        if self.capabilities & can::PLUGIN_AUTH != 0 {
            out.extend_from_slice(b"mysql_native_password\0");
        }
        out
    }

    pub fn read(payload: &[u8]) -> Response {
        let mut rest = payload;
        let capabilities = take_int(&mut rest, 4);
        take_bytes(&mut rest, 4);
        let collation = take_int(&mut rest, 1) as u8;
        take_bytes(&mut rest, 23);
        let user = take_cstr(&mut rest);
        let length = take_number(&mut rest) as usize;
        take_bytes(&mut rest, length);
        let has_database = capabilities & can::CONNECT_WITH_DB != 0;
        let database = if has_database { take_cstr(&mut rest) } else { String::new() };
        Response { capabilities: capabilities & OFFERED, collation, user, database }
    }

    /// As a client that becomes another says it. Spec: "Protocol::COM_CHANGE_USER".
    pub fn change(&self) -> Vec<u8> {
        let mut out = vec![0x11];
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(b"\0\0");
        out.extend_from_slice(self.database.as_bytes());
        out.push(0);
        out.extend_from_slice(&u16::from(self.collation).to_le_bytes());
        out.extend_from_slice(b"mysql_native_password\0");
        out
    }
}
