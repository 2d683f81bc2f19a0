//! MySQL's `caching_sha2_password` exchange.
//!
//! Pure: the nonce is an argument; compares in constant time; keeps nothing, so that what is
//! remembered between logins is the caller's. Called by `mysql::handshake_in` and `mysql::handshake_out`.
//!
//! Spec: MySQL manual, "Caching_sha2_password information":
//! `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)` is the fast way; the slow way is the
//! password itself, compared with what the server stores.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::sha256_crypt;

/// Length of an answer.
pub const ANSWER_BYTES: usize = 32;
/// Length of the salts that MySQL makes (`SALT_LENGTH` in `sha2_password_common.h`).
pub const SALT_BYTES: usize = 20;
/// Rounds of MySQL's default, `caching_sha2_password_digest_rounds`.
pub const DEFAULT_ROUNDS: u32 = 5000;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// SHA256(SHA256(password)): what the fast way is checked with.
pub fn twice(password: &[u8]) -> [u8; 32] {
    sha256(&[&sha256(&[password])])
}

/// The answer to a nonce.
pub fn answer(password: &[u8], nonce: &[u8; 20]) -> [u8; ANSWER_BYTES] {
    let mask = sha256(&[&twice(password), nonce]);
    let once = sha256(&[password]);
    std::array::from_fn(|at| once[at] ^ mask[at])
}

/// Whether a client's answer to `nonce` proves the password of which `twice` is known.
pub fn is_answer(twice: &[u8; 32], nonce: &[u8; 20], given: &[u8]) -> bool {
    let Ok(given) = <[u8; ANSWER_BYTES]>::try_from(given) else { return false };
    let mask = sha256(&[twice, nonce]);
    let once: [u8; 32] = std::array::from_fn(|at| given[at] ^ mask[at]);
    sha256(&[&once]).ct_eq(twice).into()
}

/// What a server stores: enough to check a password, too little to log in elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub rounds: u32,
    pub salt: Vec<u8>,
    pub hash: [u8; 32],
}

/// Why: a verifier in a log is material for guessing passwords.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Read what `mysql.user` holds, `$A$005$`, salt and hash; also in hex behind `0x`, as
    /// `SHOW CREATE USER` prints it. None when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => Self::read(&unhexed(hex)?),
            None => Self::read(text.as_bytes()),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"$A$")?;
        let (rounds, rest) = rest.split_at_checked(3)?;
        let rest = rest.strip_prefix(b"$")?;
        let (salt, hash) = rest.split_at_checked(SALT_BYTES)?;
        let rounds =
            rounds.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))?;
        let hash = sha256_crypt::decode(hash)?;
        (rounds > 0).then(|| Self { rounds: rounds * 1000, salt: salt.to_vec(), hash })
    }

    /// Derive the verifier of a password. Milliseconds of CPU.
    pub fn derive(password: &[u8], salt: &[u8; SALT_BYTES], rounds: u32) -> Self {
        Self { rounds, salt: salt.to_vec(), hash: sha256_crypt::hash(password, salt, rounds) }
    }

    /// Whether a password was hashed, by `sha256_crypt`, to what is stored.
    pub fn is_hash(&self, hash: &[u8; 32]) -> bool {
        self.hash.ct_eq(hash).into()
    }

    /// A verifier that no password fits, for a user who does not exist: its hashing takes as long.
    pub fn mock(secret: &[u8; 32], user: &str) -> Self {
        let salt = sha256(&[b"salt", secret, user.as_bytes()]);
        let hash = sha256(&[b"hash", secret, user.as_bytes()]);
        Self { rounds: DEFAULT_ROUNDS, salt: salt[..SALT_BYTES].to_vec(), hash }
    }
}

fn unhexed(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.bytes().map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8)).collect();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_that_of_other_clients() {
        // Made with PyMySQL's scramble_caching_sha2(b"secret", nonce).
        let nonce = b"0123456789abcdefghij";
        let hex: String = answer(b"secret", nonce).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "7e4adda2f2d5ef09b4147518becb0cee2939376203650a8c2bb2815959364bd0");
    }

    #[test]
    fn answer_is_checked_with_what_is_remembered() {
        let nonce = b"0123456789abcdefghij";
        let given = answer(b"secret", nonce);
        assert!(is_answer(&twice(b"secret"), nonce, &given));
        assert!(!is_answer(&twice(b"Secret"), nonce, &given));
        assert!(!is_answer(&twice(b"secret"), b"0123456789abcdefghik", &given));
        assert!(!is_answer(&twice(b"secret"), nonce, &given[..31]));
        assert!(!is_answer(&twice(b""), nonce, b""));
    }

    #[test]
    fn verifiers_are_read_as_text_and_as_hex() {
        let made = Verifier::derive(b"secret", b"\x01\x7f234567890123456789", 5000);
        let text = format!("$A$005$\x01\x7f234567890123456789{}", sha256_crypt::encode(&made.hash));
        assert_eq!(Verifier::parse(&text), Some(made.clone()));
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(Verifier::parse(&format!("0x{hex}")), Some(made.clone()));
        assert!(made.is_hash(&sha256_crypt::hash(b"secret", &made.salt, 5000)));
        assert!(!made.is_hash(&sha256_crypt::hash(b"Secret", &made.salt, 5000)));
        for broken in
            [&text[1..], &text[..69], &text.replace("005", "000"), &text.replace("005", "00g"), "0x2", ""]
        {
            assert_eq!(Verifier::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn mock_is_stable_per_user() {
        let one = Verifier::mock(&[1; 32], "ghost");
        assert_eq!(one, Verifier::mock(&[1; 32], "ghost"));
        assert_ne!(one, Verifier::mock(&[1; 32], "other"));
        assert_eq!((one.rounds, one.salt.len()), (DEFAULT_ROUNDS, SALT_BYTES));
        assert_eq!(format!("{one:?}"), "Verifier { rounds: 5000, .. }");
    }
}
