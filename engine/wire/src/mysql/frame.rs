//! Cut a MySQL byte stream into packets and packets into fields, and write both.
//!
//! Reading never copies and never decides what a packet means.
//! Called by `intent` and `progress` for each packet, by the handshakes and `reply` for fields.

use crate::Fault;

/// Bytes before a payload: three of length, one of sequence. Spec: "MySQL Packets".
pub const HEADER: usize = 4;
/// A payload of this length goes on in the next packet, which may be empty. Spec: "Sending More Than 16Mb".
pub const FULL: usize = 0xff_ffff;

/// First byte of a number that has no value (NULL), in rows. Spec: "Binary Protocol Resultset", text rows.
pub const NULL: u8 = 0xfb;

const SHORT: Fault = Fault("packet is too short");

/// The header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload bytes of this packet.
    pub payload: usize,
    /// Counts the packets of one exchange, both directions.
    pub sequence: u8,
}

impl Header {
    /// Whole length on the wire, header included.
    pub fn total(self) -> usize {
        HEADER + self.payload
    }

    /// The payload goes on in another packet.
    pub fn goes_on(self) -> bool {
        self.payload == FULL
    }
}

/// The header at the front of `input`; None while fewer than four bytes are there.
#[inline]
pub fn header(input: &[u8]) -> Option<Header> {
    let head = input.first_chunk::<HEADER>()?;
    let payload = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
    Some(Header { payload, sequence: head[3] })
}

/// The first `count` bytes, and the rest.
///
/// # Errors
/// The packet ends before them.
#[inline]
pub fn bytes(input: &[u8], count: usize) -> Result<(&[u8], &[u8]), Fault> {
    input.split_at_checked(count).ok_or(SHORT)
}

/// One byte, and the rest.
///
/// # Errors
/// The packet ends before it.
#[inline]
pub fn byte(input: &[u8]) -> Result<(u8, &[u8]), Fault> {
    input.split_first().map(|(byte, rest)| (*byte, rest)).ok_or(SHORT)
}

/// A two-byte number, and the rest.
///
/// # Errors
/// The packet ends before it.
#[inline]
pub fn int2(input: &[u8]) -> Result<(u16, &[u8]), Fault> {
    input.split_first_chunk().map(|(bytes, rest)| (u16::from_le_bytes(*bytes), rest)).ok_or(SHORT)
}

/// A four-byte number, and the rest.
///
/// # Errors
/// The packet ends before it.
#[inline]
pub fn int4(input: &[u8]) -> Result<(u32, &[u8]), Fault> {
    input.split_first_chunk().map(|(bytes, rest)| (u32::from_le_bytes(*bytes), rest)).ok_or(SHORT)
}

/// A length-encoded number, and the rest. Spec: "Protocol::LengthEncodedInteger".
///
/// # Errors
/// The packet ends before it, or it is no number (NULL, an error).
#[inline]
pub fn number(input: &[u8]) -> Result<(u64, &[u8]), Fault> {
    let (first, rest) = byte(input)?;
    let count = match first {
        0..=0xfa => return Ok((u64::from(first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        NULL | 0xff => return Err(Fault("a length is no number")),
    };
    let (digits, rest) = bytes(rest, count)?;
    let mut whole = [0; 8];
    whole[..count].copy_from_slice(digits);
    Ok((u64::from_le_bytes(whole), rest))
}

/// A length-encoded string, and the rest. Spec: "Protocol::LengthEncodedString".
///
/// # Errors
/// The packet ends before its end, or its length is no number.
#[inline]
pub fn string(input: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let (length, rest) = number(input)?;
    bytes(rest, usize::try_from(length).unwrap_or(usize::MAX))
}

/// The text up to the first zero byte, and what follows that byte.
///
/// # Errors
/// No zero byte.
#[inline]
pub fn cstr(input: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    match input.iter().position(|byte| *byte == 0) {
        Some(end) => Ok((&input[..end], &input[end + 1..])),
        None => Err(Fault("text is not terminated by a zero byte")),
    }
}

/// Write one packet: `body` appends the payload. Returns the sequence number that comes next.
///
/// A payload of 16 MiB less one byte or more is cut into several packets.
pub fn packet(out: &mut Vec<u8>, sequence: u8, body: impl FnOnce(&mut Vec<u8>)) -> u8 {
    let mut start = out.len();
    let mut sequence = sequence;
    out.extend_from_slice(&[0; HEADER]);
    body(out);
    loop {
        let payload = (out.len() - start - HEADER).min(FULL);
        out[start..start + 3].copy_from_slice(&(payload as u32).to_le_bytes()[..3]);
        out[start + 3] = sequence;
        sequence = sequence.wrapping_add(1);
        if payload < FULL {
            return sequence;
        }
        start += HEADER + FULL;
        out.splice(start..start, [0; HEADER]);
    }
}

/// Append a length-encoded number.
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    let digits = number.to_le_bytes();
    match number {
        0..=0xfa => out.push(digits[0]),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&digits[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&digits[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&digits);
        }
    }
}

/// Bytes that `put_number` appends for `number`.
pub fn number_len(number: u64) -> usize {
    match number {
        0..=0xfa => 1,
        0xfb..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 9,
    }
}

/// Append a length-encoded string.
pub fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Append text and a zero byte; a zero byte in it would end it, so it is cut there.
pub fn put_cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().take_while(|byte| **byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_waits_for_four_bytes() {
        for end in 0..HEADER {
            assert_eq!(header(&b"\x05\0\0\x01abc"[..end]), None);
        }
        let head = header(b"\x05\x01\0\x07").unwrap();
        assert_eq!((head.payload, head.sequence, head.total(), head.goes_on()), (0x105, 7, 0x109, false));
        assert!(header(b"\xff\xff\xff\0").unwrap().goes_on());
    }

    #[test]
    fn numbers_are_written_and_read() {
        for value in [0, 1, 250, 251, 252, 255, 256, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(out.len(), number_len(value));
            for end in 0..out.len() {
                assert_eq!(number(&out[..end]), Err(SHORT), "{value} cut at {end}");
            }
            out.push(9);
            assert_eq!(number(&out), Ok((value, &[9][..])));
        }
        assert!(number(&[NULL]).is_err());
        assert!(number(&[0xff]).is_err());
        assert_eq!(int2(b"\x01\x02\x03"), Ok((0x0201, &b"\x03"[..])));
        assert_eq!(int4(b"\x01\x02\x03\x04"), Ok((0x0403_0201, &b""[..])));
        assert!(int2(b"\x01").is_err() && int4(b"\x01\x02\x03").is_err() && byte(b"").is_err());
    }

    #[test]
    fn strings_are_checked() {
        let mut out = Vec::new();
        put_string(&mut out, b"shop");
        assert_eq!(string(&out), Ok((&b"shop"[..], &b""[..])));
        assert!(string(&out[..4]).is_err());
        assert!(string(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffabc").is_err());
        assert_eq!(cstr(b"ab\0cd"), Ok((&b"ab"[..], &b"cd"[..])));
        assert!(cstr(b"ab").is_err());
        let mut text = Vec::new();
        put_cstr(&mut text, b"a\0b");
        assert_eq!(text, b"a\0");
    }

    #[test]
    fn packets_are_written() {
        let mut out = b"before".to_vec();
        assert_eq!(packet(&mut out, 255, |out| out.extend_from_slice(b"abc")), 0);
        assert_eq!(out, b"before\x03\0\0\xffabc");
    }

    #[test]
    fn long_payloads_go_on() {
        for (length, expected) in
            [(FULL - 1, vec![FULL - 1]), (FULL, vec![FULL, 0]), (2 * FULL + 3, vec![FULL, FULL, 3])]
        {
            let mut out = Vec::new();
            let next = packet(&mut out, 5, |out| out.extend((0..length).map(|at| (at % 251) as u8)));
            assert_eq!(usize::from(next), 5 + expected.len());
            let (mut rest, mut at) = (&out[..], 0);
            for (count, payload) in expected.iter().enumerate() {
                let head = header(rest).unwrap();
                assert_eq!((head.payload, usize::from(head.sequence)), (*payload, 5 + count));
                let body = &rest[HEADER..head.total()];
                assert!(body.iter().enumerate().all(|(more, byte)| *byte == ((at + more) % 251) as u8));
                at += payload;
                rest = &rest[head.total()..];
            }
            assert!(rest.is_empty() && at == length);
        }
    }
}
