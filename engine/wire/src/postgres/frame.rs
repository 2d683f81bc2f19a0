//! Cut a PostgreSQL byte stream into messages and messages into fields.
//!
//! Never copies a payload and never decides what a message means.
//! Called by `intent` and `progress` for each message, by the handshakes and `reply` for fields.

use crate::Fault;

/// Bytes before a payload: one tag, four of length. Spec: "Message Formats".
pub const HEADER: usize = 5;

/// Tag and whole length (tag included) of the message at the front of `input`.
///
/// None while fewer than five bytes are there. The payload need not have arrived.
///
/// # Errors
/// A length below four (it counts itself) or a message longer than `limit_bytes`.
#[inline]
pub fn header(input: &[u8], limit_bytes: usize) -> Result<Option<(u8, usize)>, Fault> {
    let Some(head) = input.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length < 4 {
        return Err(Fault("message length is below four"));
    }
    let total = length.saturating_add(1);
    if total > limit_bytes {
        return Err(Fault("message is longer than the limit"));
    }
    Ok(Some((head[0], total)))
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

/// As [`cstr`], for text that must be UTF-8.
///
/// # Errors
/// No zero byte, or bytes that are not UTF-8.
pub fn text(input: &[u8]) -> Result<(&str, &[u8]), Fault> {
    let (bytes, rest) = cstr(input)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Fault("text is not UTF-8"))?;
    Ok((text, rest))
}

/// One byte, and the rest.
///
/// # Errors
/// The message ends before it.
#[inline]
pub fn byte(input: &[u8]) -> Result<(u8, &[u8]), Fault> {
    input.split_first().map(|(byte, rest)| (*byte, rest)).ok_or(Fault("message is too short"))
}

/// A two-byte number, and the rest.
///
/// # Errors
/// The message ends before it.
#[inline]
pub fn int16(input: &[u8]) -> Result<(u16, &[u8]), Fault> {
    match input.split_first_chunk::<2>() {
        Some((bytes, rest)) => Ok((u16::from_be_bytes(*bytes), rest)),
        None => Err(Fault("message is too short")),
    }
}

/// A four-byte number, and the rest.
///
/// # Errors
/// The message ends before it.
#[inline]
pub fn int32(input: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match input.split_first_chunk::<4>() {
        Some((bytes, rest)) => Ok((u32::from_be_bytes(*bytes), rest)),
        None => Err(Fault("message is too short")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_waits_for_five_bytes() {
        for end in 0..HEADER {
            assert_eq!(header(&b"Q\0\0\0\x08abc"[..end], 1 << 20), Ok(None));
        }
        assert_eq!(header(b"Q\0\0\0\x08", 1 << 20), Ok(Some((b'Q', 9))));
    }

    #[test]
    fn header_refuses_short_and_long_lengths() {
        assert!(header(b"Q\0\0\0\x03", 1 << 20).is_err());
        assert!(header(b"Q\0\0\0\0", 1 << 20).is_err());
        assert_eq!(header(b"Q\0\0\0\x04", 5), Ok(Some((b'Q', 5))));
        assert!(header(b"Q\0\0\0\x05", 5).is_err());
        assert!(header(b"Q\xff\xff\xff\xff", 1 << 30).is_err());
    }

    #[test]
    fn text_ends_at_the_first_zero() {
        assert_eq!(cstr(b"ab\0cd\0"), Ok((&b"ab"[..], &b"cd\0"[..])));
        assert_eq!(cstr(b"\0"), Ok((&b""[..], &b""[..])));
        assert!(cstr(b"ab").is_err());
        assert!(text(b"\xff\0").is_err());
        assert_eq!(text("é\0x".as_bytes()), Ok(("é", &b"x"[..])));
    }

    #[test]
    fn numbers_are_big_endian_and_checked() {
        assert_eq!(int16(b"\x01\x02\x03"), Ok((0x0102, &b"\x03"[..])));
        assert_eq!(int32(b"\x01\x02\x03\x04"), Ok((0x0102_0304, &b""[..])));
        assert!(int16(b"\x01").is_err());
        assert!(int32(b"\x01\x02\x03").is_err());
        assert!(byte(b"").is_err());
    }
}
