//! Packets and their fields, as the actors write and read them.
//!
//! Knows no command. Used by every other file of the actors.

/// A payload of this length goes on in the next packet. Spec: "Sending More Than 16Mb".
pub const FULL: usize = 0xff_ffff;

/// Append packets with `payload`, counting on in `sequence`.
pub fn put_packet(out: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(rest.len().min(FULL));
        out.extend_from_slice(&(now.len() as u32).to_le_bytes()[..3]);
        out.push(*sequence);
        out.extend_from_slice(now);
        *sequence = sequence.wrapping_add(1);
        rest = later;
        if now.len() < FULL {
            return;
        }
    }
}

/// Packets that are read one after the other, the long ones put together.
#[derive(Debug, Default)]
pub struct Packets {
    input: Vec<u8>,
    payload: Vec<u8>,
    is_continued: bool,
}

impl Packets {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Has part of a packet come, and not the rest?
    pub fn is_within(&self) -> bool {
        !self.input.is_empty() || self.is_continued
    }

    /// Has the packet that comes next the number `next`, as far as can be seen?
    pub fn is_next(&self, next: u8) -> bool {
        self.input.get(3).is_none_or(|number| *number == next)
    }

    /// The next payload, and the number of its first packet; `next` is what that must be, and counts on.
    pub fn next(&mut self, next: &mut u8, who: &str) -> Option<Vec<u8>> {
        loop {
            let head = self.input.first_chunk::<4>()?;
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            let text = || String::from_utf8_lossy(&self.input[4..]).chars().take(80).collect::<String>();
            assert_eq!(head[3], *next, "{who} got a packet of another number; length {length}: {}", text());
            if self.input.len() < 4 + length {
                return None;
            }
            self.payload.extend_from_slice(&self.input[4..4 + length]);
            self.input.drain(..4 + length);
            *next = next.wrapping_add(1);
            self.is_continued = length == FULL;
            if !self.is_continued {
                return Some(std::mem::take(&mut self.payload));
            }
        }
    }
}

pub fn put_number(out: &mut Vec<u8>, number: u64) {
    let digits = number.to_le_bytes();
    let (mark, count) = match number {
        0..=250 => return out.push(digits[0]),
        251..=0xffff => (0xfc, 2),
        0x1_0000..=0xff_ffff => (0xfd, 3),
        _ => (0xfe, 8),
    };
    out.push(mark);
    out.extend_from_slice(&digits[..count]);
}

pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Fields are taken from the front. Panics where there are none: the other side is broken then.
pub fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (bytes, after) = rest.split_at(count);
    *rest = after;
    bytes
}

pub fn take_int(rest: &mut &[u8], count: usize) -> u64 {
    let mut whole = [0; 8];
    whole[..count].copy_from_slice(take_bytes(rest, count));
    u64::from_le_bytes(whole)
}

pub fn take_number(rest: &mut &[u8]) -> u64 {
    match take_int(rest, 1) {
        0xfc => take_int(rest, 2),
        0xfd => take_int(rest, 3),
        0xfe => take_int(rest, 8),
        small => small,
    }
}

pub fn take_text(rest: &mut &[u8]) -> String {
    let length = take_number(rest) as usize;
    String::from_utf8_lossy(take_bytes(rest, length)).into_owned()
}

/// Up to a zero byte, which is dropped, or to the end.
pub fn take_cstr(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|byte| *byte == 0);
    let text = String::from_utf8_lossy(take_bytes(rest, end.unwrap_or(rest.len()))).into_owned();
    if end.is_some() {
        take_bytes(rest, 1);
    }
    text
}
