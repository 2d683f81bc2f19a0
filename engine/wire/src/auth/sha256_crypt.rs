//! sha256-crypt, the slow hash that MySQL's `caching_sha2_password` stores.
//!
//! Pure and slow: milliseconds of CPU, so it runs in an errand; it compares nothing.
//! Called by `Errand::run`, and by `caching_sha2` for the text form.
//!
//! Spec: Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", version 0.6. MySQL differs in two
//! things: its salts have 20 bytes, not at most 16, and the number of rounds is not part of the text.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// In which order the bytes of the hash are written, three to four letters. Spec: step 22 e.
const ORDER: [[usize; 3]; 10] = [
    [0, 10, 20],
    [21, 1, 11],
    [12, 22, 2],
    [3, 13, 23],
    [24, 4, 14],
    [15, 25, 5],
    [6, 16, 26],
    [27, 7, 17],
    [18, 28, 8],
    [9, 19, 29],
];

/// Letters of a whole hash.
pub const TEXT_BYTES: usize = 43;

/// `length` bytes of `block`, repeated.
fn stretched(block: &[u8; 32], length: usize) -> Vec<u8> {
    block.iter().copied().cycle().take(length).collect()
}

/// Hash a password.
pub fn hash(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let alternate: [u8; 32] =
        Sha256::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
    let mut first = Sha256::new().chain_update(password).chain_update(salt);
    first.update(stretched(&alternate, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        if bits & 1 == 1 {
            first.update(alternate);
        } else {
            first.update(password);
        }
        bits >>= 1;
    }
    let mut sum: [u8; 32] = first.finalize().into();
    let mut of_password = Sha256::new();
    (0..password.len()).for_each(|_| of_password.update(password));
    let password = stretched(&of_password.finalize().into(), password.len());
    let mut of_salt = Sha256::new();
    (0..16 + usize::from(sum[0])).for_each(|_| of_salt.update(salt));
    let salt = stretched(&of_salt.finalize().into(), salt.len());
    for round in 0..rounds {
        let is_odd = round % 2 == 1;
        let mut next = Sha256::new();
        next.update(if is_odd { &password[..] } else { &sum[..] });
        if round % 3 != 0 {
            next.update(&salt);
        }
        if round % 7 != 0 {
            next.update(&password);
        }
        next.update(if is_odd { &sum[..] } else { &password[..] });
        sum = next.finalize().into();
    }
    sum
}

/// The letters of a hash.
pub fn encode(hash: &[u8; 32]) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    let mut push = |mut bits: u32, letters: usize| {
        for _ in 0..letters {
            text.push(char::from(ALPHABET[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    for group in ORDER {
        push(group.iter().fold(0, |bits, at| bits << 8 | u32::from(hash[*at])), 4);
    }
    push(u32::from(hash[31]) << 8 | u32::from(hash[30]), 3);
    text
}

/// The hash behind its letters; None when they are not 43 of the alphabet.
pub fn decode(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != TEXT_BYTES {
        return None;
    }
    let mut hash = [0; 32];
    let bits_of = |letters: &[u8]| {
        letters.iter().rev().try_fold(0u32, |bits, letter| {
            Some(bits << 6 | ALPHABET.iter().position(|known| known == letter)? as u32)
        })
    };
    for (group, letters) in ORDER.iter().zip(text.chunks_exact(4)) {
        let [_, high, middle, low] = bits_of(letters)?.to_be_bytes();
        (hash[group[0]], hash[group[1]], hash[group[2]]) = (high, middle, low);
    }
    let [_, _, high, low] = bits_of(&text[40..])?.to_be_bytes();
    (hash[31], hash[30]) = (high, low);
    // Why: the last letter has bits to spare, and two texts must not be the same hash.
    (encode(&hash).as_bytes() == text).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_libcrypt() {
        // Made with crypt(3) of glibc, which cuts no salt of at most 16 bytes.
        for (salt, rounds, password, expected) in [
            ("saltstring", 5000, "Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            ("saltstringsaltst", 10000, "Hello world!", "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            ("toolongsaltstrin", 5000, "This is just a test", "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"),
            ("x", 1000, &"p".repeat(70), "8L.5rHYybRMIaiGj94BaWPrkahSV.dN3lqg5O3tjp95"),
        ] {
            assert_eq!(encode(&hash(password.as_bytes(), salt.as_bytes(), rounds)), expected);
        }
    }

    #[test]
    fn letters_are_read_back() {
        for byte in [0, 1, 0x7f, 0xff] {
            let hash: [u8; 32] = std::array::from_fn(|at| byte ^ at as u8);
            assert_eq!(decode(encode(&hash).as_bytes()), Some(hash));
        }
        assert_eq!(decode(&[b'.'; 42]), None);
        assert_eq!(decode(&[b'.'; 44]), None);
        assert_eq!(decode(&[b'z'; 43]), None);
        assert_eq!(decode(&[b'$'; 43]), None);
    }
}
