//! MySQL's `mysql_native_password` exchange.
//!
//! Pure: the nonce is an argument; compares in constant time; keeps nothing.
//! Called by `mysql::handshake_in` and `mysql::handshake_out`.
//!
//! Spec: MySQL manual, "Native Authentication":
//! `SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))`.

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// Length of an answer.
pub const ANSWER_BYTES: usize = 20;

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn xor(left: [u8; 20], right: [u8; 20]) -> [u8; 20] {
    std::array::from_fn(|at| left[at] ^ right[at])
}

/// What a server stores for a password: SHA1(SHA1(password)).
pub fn stored(password: &[u8]) -> [u8; 20] {
    sha1(&[&sha1(&[password])])
}

/// Read `*` and 40 hex digits, as in `mysql.user`; None when it is anything else.
pub fn parse(text: &str) -> Option<[u8; 20]> {
    let hex = text.strip_prefix('*').filter(|hex| hex.len() == 40)?.as_bytes();
    let mut stored = [0; 20];
    for (byte, pair) in stored.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(stored)
}

/// The answer to a nonce.
pub fn answer(password: &[u8], nonce: &[u8; 20]) -> [u8; ANSWER_BYTES] {
    xor(sha1(&[password]), sha1(&[nonce, &stored(password)]))
}

/// Whether a client's answer to `nonce` proves the password behind `stored`.
pub fn is_answer(stored: &[u8; 20], nonce: &[u8; 20], given: &[u8]) -> bool {
    let Ok(given) = <[u8; ANSWER_BYTES]>::try_from(given) else { return false };
    let once = xor(given, sha1(&[nonce, stored]));
    sha1(&[&once]).ct_eq(stored).into()
}

/// Whether a password in clear text is the one behind `stored`.
pub fn is_password(stored: &[u8; 20], password: &[u8]) -> bool {
    self::stored(password).ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Spec: MySQL manual, PASSWORD('mypass') and PASSWORD('password').
    const MYPASS: &str = "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4";
    const PASSWORD: &str = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";

    #[test]
    fn stored_form_is_that_of_the_server() {
        assert_eq!(parse(MYPASS), Some(stored(b"mypass")));
        assert_eq!(parse(&PASSWORD.to_lowercase()), Some(stored(b"password")));
        assert!(is_password(&stored(b"mypass"), b"mypass"));
        assert!(!is_password(&stored(b"mypass"), b"mypas"));
        for text in ["", "*", &MYPASS[1..], &MYPASS[..40], "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEFG"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("*é98989366EAF75BB670AD8EA7A7FC1176A95CEF4"), None);
    }

    #[test]
    fn answer_is_checked_with_what_is_stored() {
        let nonce = b"0123456789abcdefghij";
        let given = answer(b"mypass", nonce);
        assert!(is_answer(&stored(b"mypass"), nonce, &given));
        assert!(!is_answer(&stored(b"mypast"), nonce, &given));
        assert!(!is_answer(&stored(b"mypass"), b"0123456789abcdefghik", &given));
        assert!(!is_answer(&stored(b"mypass"), nonce, &given[..19]));
        assert!(!is_answer(&stored(b""), nonce, b""));
    }

    #[test]
    fn answer_is_that_of_other_clients() {
        // Made with PyMySQL's scramble_native_password(b"secret", nonce).
        let nonce = b"0123456789abcdefghij";
        let hex: String = answer(b"secret", nonce).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f5cac3f3b3df2133feb57db682c71e6ed433a988");
    }
}
