//! Compression between a client and us: the frames around its packets, and what is in them.
//!
//! Knows nothing of the packets inside, which may be cut anywhere. Called by `relay`, through `Dialect`, with what
//! a client sends and with what it is sent, once it is logged in.
//!
//! Spec: "Compression", "Compressed Packet Header": three bytes of length, one of sequence, three of the length
//! before compression; 0 there says that the frame is not compressed.

use std::fmt;
use std::io::Read;

use flate2::read::{ZlibDecoder, ZlibEncoder};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{compress_to_vec, CompressionLevel};

use super::spec::capability;
use crate::Fault;

/// Bytes before the payload of a frame.
const HEADER: usize = 7;
/// What is shorter is not worth it. Origin: `MIN_COMPRESS_LENGTH` of MySQL's `net_serv.cc`.
const LEAST: usize = 50;
/// Most of our own bytes in one frame: ours; the client can begin to read before all is compressed.
const MOST: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Zlib,
    Zstd,
}

/// One client's compression, both directions.
pub struct Compression {
    algorithm: Algorithm,
    /// The beginning of a frame that has not arrived whole.
    input: Vec<u8>,
    /// Of the frame that comes next, whoever sends it.
    sequence: u8,
    /// Bytes of the client's output that stay as they are: those up to the login's end. None: all of them.
    plain: Option<usize>,
}

/// Why: what a client has sent does not belong into a log.
impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Compression {
    /// As agreed at the login; None: there is none.
    pub fn agreed(capabilities: u64) -> Option<Self> {
        // Spec: `mysql_init_compression` of MySQL: zlib goes before where both were agreed.
        let algorithm = if capabilities & capability::COMPRESS != 0 {
            Algorithm::Zlib
        } else if capabilities & capability::ZSTD != 0 {
            Algorithm::Zstd
        } else {
            return None;
        };
        Some(Self { algorithm, input: Vec::new(), sequence: 0, plain: None })
    }

    /// What the client is sent behind the first `plain` bytes of its output is compressed.
    pub fn begin(&mut self, plain: usize) {
        self.plain.get_or_insert(plain);
    }

    /// Bytes arrived: append what was in their frames.
    ///
    /// # Errors
    /// A frame that does not hold what its header says.
    pub fn feed(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        self.input.extend_from_slice(bytes);
        let mut rest = &self.input[..];
        while let Some((head, body)) = rest.split_at_checked(HEADER) {
            let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]) as usize;
            let Some((payload, behind)) = body.split_at_checked(number(0)) else { break };
            self.sequence = head[3].wrapping_add(1);
            match number(4) {
                0 => plain.extend_from_slice(payload),
                length => expand(self.algorithm, payload, length, plain)?,
            }
            rest = behind;
        }
        let left = rest.len();
        self.input.drain(..self.input.len() - left);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(())
    }

    /// Put frames around a client's output, which is about to be written.
    pub fn frame(&mut self, output: &mut Vec<u8>) {
        let Some(plain) = self.plain else { return };
        self.plain = Some(0);
        let packets = output.split_off(plain.min(output.len()));
        for part in packets.chunks(MOST) {
            let squeezed = (part.len() >= LEAST).then(|| squeeze(self.algorithm, part));
            let squeezed = squeezed.filter(|squeezed| squeezed.len() < part.len());
            let (payload, length) = match &squeezed {
                Some(squeezed) => (&squeezed[..], part.len()),
                None => (part, 0),
            };
            output.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
            output.push(self.sequence);
            output.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
            output.extend_from_slice(payload);
            self.sequence = self.sequence.wrapping_add(1);
        }
    }
}

/// Invariant: no more than `length` bytes are appended, which a header bounds to 16 MiB.
fn expand(algorithm: Algorithm, payload: &[u8], length: usize, plain: &mut Vec<u8>) -> Result<(), Fault> {
    let before = plain.len();
    let most = length as u64 + 1;
    let read = match algorithm {
        Algorithm::Zlib => ZlibDecoder::new(payload).take(most).read_to_end(plain).ok(),
        Algorithm::Zstd => {
            StreamingDecoder::new(payload).ok().and_then(|decoder| decoder.take(most).read_to_end(plain).ok())
        }
    };
    if read != Some(length) {
        plain.truncate(before);
        return Err(Fault("a compressed packet does not hold what its header says"));
    }
    Ok(())
}

fn squeeze(algorithm: Algorithm, part: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::Zlib => {
            let mut squeezed = Vec::new();
            // Why fast: it is a worker's loop that waits for it; and reading memory does not fail.
            let _ = ZlibEncoder::new(part, flate2::Compression::fast()).read_to_end(&mut squeezed);
            squeezed
        }
        Algorithm::Zstd => compress_to_vec(part, CompressionLevel::Fastest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Compression; 2] {
        [capability::COMPRESS, capability::ZSTD].map(|agreed| Compression::agreed(agreed).unwrap())
    }

    /// A frame as a client makes one.
    fn framed(machine: &mut Compression, packets: &[u8]) -> Vec<u8> {
        machine.begin(0);
        let mut out = packets.to_vec();
        machine.frame(&mut out);
        out
    }

    #[test]
    fn what_is_framed_is_read_however_it_is_split() {
        assert!(Compression::agreed(capability::PROTOCOL_41).is_none());
        assert_eq!(Compression::agreed(u64::MAX).unwrap().algorithm, Algorithm::Zlib);
        let text: Vec<u8> = (0..600_000u32).map(|at| (at % 97 * at % 251) as u8).collect();
        for length in [0, 1, 49, 50, 51, 1000, MOST, MOST + 1, text.len()] {
            for (mut writer, mut reader) in both().into_iter().zip(both()) {
                let out = framed(&mut writer, &text[..length]);
                let step = if length > 2000 { 4001 } else { 1 };
                let mut plain = Vec::new();
                for part in out.chunks(step) {
                    reader.feed(part, &mut plain).unwrap();
                }
                assert!(plain == text[..length] && reader.input.is_empty(), "{length}");
                assert_eq!(usize::from(reader.sequence), length.div_ceil(MOST));
            }
        }
    }

    #[test]
    fn repetition_is_squeezed_and_noise_is_not() {
        for (at, mut machine) in both().into_iter().enumerate() {
            let out = framed(&mut machine, &[b'x'; 10_000]);
            assert!(out.len() < 200, "{at}: {}", out.len());
            assert_eq!(&out[4..7], &10_000u32.to_le_bytes()[..3]);
            let noise: [u8; 64] = crate::auth::random();
            let out = framed(&mut machine, &noise);
            assert_eq!(out, [&[64, 0, 0, 1, 0, 0, 0][..], &noise].concat());
        }
    }

    #[test]
    fn the_login_stays_as_it_is_and_answers_are_numbered_behind_what_was_sent() {
        let [mut machine, _] = both();
        let mut out = b"not yet".to_vec();
        machine.frame(&mut out);
        assert_eq!(out, b"not yet");
        machine.begin(3);
        let mut out = b"ok!abc".to_vec();
        machine.frame(&mut out);
        assert_eq!(out, b"ok!\x03\0\0\0\0\0\0abc");
        let mut plain = Vec::new();
        machine.feed(b"\x02\0\0\x07\0\0\0hi", &mut plain).unwrap();
        assert_eq!(plain, b"hi");
        let mut out = b"abc".to_vec();
        machine.frame(&mut out);
        assert_eq!(out, b"\x03\0\0\x08\0\0\0abc");
        machine.begin(9);
        let mut out = b"d".to_vec();
        machine.frame(&mut out);
        assert_eq!(out, b"\x01\0\0\x09\0\0\0d", "it begins once");
    }

    #[test]
    fn frames_that_lie_are_refused() {
        for (mut writer, (mut longer, mut shorter)) in both().into_iter().zip(both().into_iter().zip(both()))
        {
            let mut out = framed(&mut writer, &[b'x'; 1000]);
            let mut plain = Vec::new();
            out[4] -= 1;
            assert!(longer.feed(&out, &mut plain).is_err());
            out[4] += 2;
            assert!(shorter.feed(&out, &mut plain).is_err());
            assert!(plain.is_empty());
        }
        for mut machine in both() {
            let mut plain = Vec::new();
            assert!(machine.feed(b"\x04\0\0\0\xff\xff\xffjunk", &mut plain).is_err());
        }
    }
}
