//! PostgreSQL's md5 password exchange.
//!
//! Pure: the salt is an argument; compares in constant time; keeps nothing.
//! Called by `postgres::handshake_in` and `postgres::handshake_out`.
//!
//! Spec: PostgreSQL manual, "Message Flow", Start-up, AuthenticationMD5Password:
//! `concat('md5', md5(concat(md5(concat(password, username)), salt)))`.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

fn hex_of(parts: [&[u8]; 2]) -> [u8; 32] {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(hash.finalize()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

fn with_prefix(hex: [u8; 32]) -> String {
    let mut text = String::with_capacity(35);
    text.push_str("md5");
    text.extend(hex.iter().map(|byte| char::from(*byte)));
    text
}

/// What `pg_authid` stores for a password: `md5` and 32 hex digits.
pub fn stored(user: &str, password: &[u8]) -> String {
    with_prefix(hex_of([password, user.as_bytes()]))
}

/// The answer to a salt, from what `pg_authid` stores. None when `stored` is not an md5 secret.
pub fn answer(stored: &str, salt: [u8; 4]) -> Option<String> {
    let hex = stored.strip_prefix("md5").filter(|hex| is_hex(hex))?;
    // Why: PostgreSQL writes lower case; a secret pasted in upper case is the same hash.
    Some(with_prefix(hex_of([hex.to_ascii_lowercase().as_bytes(), &salt])))
}

/// Whether a client's answer to `salt` proves the password behind `stored`.
pub fn is_answer(stored: &str, salt: [u8; 4], given: &[u8]) -> bool {
    answer(stored, salt).is_some_and(|expected| expected.as_bytes().ct_eq(given).into())
}

/// Whether a password in clear text is the one behind `stored`.
pub fn is_password(stored: &str, user: &str, password: &[u8]) -> bool {
    let computed = self::stored(user, password);
    stored.to_ascii_lowercase().as_bytes().ct_eq(computed.as_bytes()).into()
}

/// Whether `text` has the form of an md5 secret.
pub fn is_stored(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(is_hex)
}

fn is_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed apart from this code, with md5sum of coreutils on the bytes that the manual names.
    const APP_SECRET: &str = "md56a422f785c9e20873908ce25d1736ae2";

    #[test]
    fn stored_form_is_that_of_pg_authid() {
        assert_eq!(stored("app", b"secret"), APP_SECRET);
        assert!(is_stored(APP_SECRET));
        assert!(!is_stored("md5xyz"));
        assert!(is_password(APP_SECRET, "app", b"secret"));
        assert!(!is_password(APP_SECRET, "other", b"secret"));
        assert!(!is_password(APP_SECRET, "app", b"Secret"));
    }

    #[test]
    fn answer_is_that_of_libpq() {
        let salt = [1, 2, 3, 4];
        assert_eq!(answer(APP_SECRET, salt).as_deref(), Some("md5911f527656472583a006e7727877b33e"));
        assert!(is_answer(APP_SECRET, salt, b"md5911f527656472583a006e7727877b33e"));
        assert!(!is_answer(APP_SECRET, [1, 2, 3, 5], b"md5911f527656472583a006e7727877b33e"));
        assert!(!is_answer(APP_SECRET, salt, b""));
        assert!(!is_answer("SCRAM-SHA-256$", salt, b""));
    }

    #[test]
    fn upper_case_secrets_are_the_same() {
        let upper = format!("md5{}", APP_SECRET[3..].to_ascii_uppercase());
        assert_eq!(answer(&upper, [0; 4]), answer(APP_SECRET, [0; 4]));
        assert!(is_password(&upper, "app", b"secret"));
    }
}
