//! The PROXY protocol header, by which a load balancer says whose connection it forwards.
//!
//! Reads the header at the front of a connection and nothing behind it; whether one is expected, and from
//! whom, is configuration. Called by `relay` before a client's first byte is looked at.
//!
//! Spec: "The PROXY protocol, versions 1 & 2" (HAProxy), sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Fault;

/// Whose connection it is. None where the header does not say: health checks and families without ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub source: Option<SocketAddr>,
    pub destination: Option<SocketAddr>,
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, its end included. Spec: section 2.1.
const V1_LONGEST: usize = 107;
/// Bytes of version 2 before the addresses. Spec: section 2.2.
const V2_FIXED: usize = 16;

/// Read the header at the front of `input`: what it says, and its length.
///
/// None while it is incomplete.
///
/// # Errors
/// Bytes that are not a header. The connection must be closed: its source is unknown.
pub fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    if begins(input, V1_SIGNATURE) {
        return parse_v1(input);
    }
    if begins(input, V2_SIGNATURE) {
        return parse_v2(input);
    }
    Err(Fault("expected a PROXY protocol header, found something else"))
}

/// Whether `input` is `signature` as far as both reach.
fn begins(input: &[u8], signature: &[u8]) -> bool {
    input.iter().zip(signature).all(|(found, wanted)| found == wanted)
}

fn parse_v1(input: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let window = &input[..input.len().min(V1_LONGEST)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        if input.len() >= V1_LONGEST {
            return Err(Fault("PROXY protocol line does not end"));
        }
        return Ok(None);
    };
    let line = std::str::from_utf8(&input[..end]).map_err(|_| Fault("PROXY protocol line is not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    // Spec: what follows UNKNOWN must be ignored.
    if family == "UNKNOWN" {
        return Ok(Some((Header::default(), end + 2)));
    }
    let broken = Fault("PROXY protocol line is malformed");
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (Some(source), Some(destination)) = (address(), address()) else {
        return Err(broken);
    };
    let mut port = || -> Option<u16> {
        // Why: parse alone would take a sign.
        words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
    };
    let (Some(source_port), Some(destination_port)) = (port(), port()) else {
        return Err(broken);
    };
    if words.next().is_some() {
        return Err(broken);
    }
    let header = Header {
        source: Some(SocketAddr::new(source, source_port)),
        destination: Some(SocketAddr::new(destination, destination_port)),
    };
    Ok(Some((header, end + 2)))
}

fn parse_v2(input: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let Some(fixed) = input.first_chunk::<V2_FIXED>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    if command >> 4 != 2 {
        return Err(Fault("PROXY protocol version is not supported"));
    }
    let total = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    let Some(addresses) = input.get(V2_FIXED..total) else {
        return Ok(None);
    };
    let header = match command & 0x0f {
        // LOCAL: the balancer's own connection.
        0 => Header::default(),
        1 => addresses_v2(family, addresses)?,
        _ => return Err(Fault("PROXY protocol command is not supported")),
    };
    Ok(Some((header, total)))
}

/// Spec: section 2.2; what follows the addresses (type-length-value fields) is not read.
fn addresses_v2(family: u8, bytes: &[u8]) -> Result<Header, Fault> {
    let short = Fault("PROXY protocol addresses are too short");
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match family {
        // TCP over IPv4.
        0x11 => {
            let Some(head) = bytes.first_chunk::<12>() else { return Err(short) };
            let address = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]);
            Ok(Header {
                source: Some(SocketAddr::new(address(0).into(), port(8))),
                destination: Some(SocketAddr::new(address(4).into(), port(10))),
            })
        }
        // TCP over IPv6.
        0x21 => {
            let Some(head) = bytes.first_chunk::<36>() else { return Err(short) };
            let address = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&head[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            Ok(Header {
                source: Some(SocketAddr::new(address(0).into(), port(32))),
                destination: Some(SocketAddr::new(address(16).into(), port(34))),
            })
        }
        // Spec: unspecified, Unix and datagram families: accept and use the real addresses.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Ok(Header::default()),
        _ => Err(Fault("PROXY protocol address family is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(source: &str, destination: &str) -> Header {
        Header { source: Some(source.parse().unwrap()), destination: Some(destination.parse().unwrap()) }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    #[test]
    fn both_versions_give_the_addresses() {
        let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
        assert_eq!(parse(line), Ok(Some((header("192.168.0.1:56324", "192.168.0.11:443"), line.len()))));
        let line = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
        assert_eq!(parse(line), Ok(Some((header("[2001:db8::1]:1", "[::1]:65535"), line.len()))));
        let bytes = v2(0x21, 0x11, &[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x15, 0x38]);
        assert_eq!(parse(&bytes), Ok(Some((header("10.0.0.1:4660", "10.0.0.2:5432"), 28))));
        let mut six = vec![0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        six.extend([4, 0, 1, 0]); // a field behind the addresses
        assert_eq!(parse(&v2(0x21, 0x21, &six)), Ok(Some((header("[::1]:3", "[::2]:4"), 56))));
    }

    #[test]
    fn what_follows_the_header_is_not_touched() {
        let mut line = b"PROXY UNKNOWN ffff::1 whatever\r\n".to_vec();
        let length = line.len();
        line.extend(b"\0\0\0\x08\x04\xd2\x16\x2f");
        assert_eq!(parse(&line), Ok(Some((Header::default(), length))));
        let mut bytes = v2(0x20, 0x00, b"");
        bytes.extend(b"rest");
        assert_eq!(parse(&bytes), Ok(Some((Header::default(), 16))));
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])), Ok(Some((Header::default(), 232))));
    }

    #[test]
    fn every_beginning_waits_for_more() {
        let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec();
        for bytes in [line, v2(0x21, 0x11, &[0; 20])] {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
            b"PROXX",
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY \xff\r\n",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        for bytes in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x55, &[0; 35]),
        ] {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
    }
}
