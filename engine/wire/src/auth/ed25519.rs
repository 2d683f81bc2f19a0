//! MariaDB's `ed25519` exchange: the password is the key that signs a nonce.
//!
//! Pure: the nonce is an argument; keeps nothing.
//! Called by `mysql::handshake_in` and `mysql::handshake_out`.
//!
//! Spec: MariaDB, "Authentication Plugin - ed25519"; RFC 8032 section 5.1, but that the secret which
//! SHA-512 takes in is the password, of whatever length, in place of a seed of 32 bytes.

use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::Engine as _;
use ed25519_dalek::hazmat::{raw_sign, ExpandedSecretKey};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use sha2::{Digest, Sha512};

/// Length of a nonce.
pub const NONCE_BYTES: usize = 32;

fn secret(password: &[u8]) -> ExpandedSecretKey {
    ExpandedSecretKey::from_bytes(&Sha512::digest(password).into())
}

/// What a server stores for a password.
pub fn public_key(password: &[u8]) -> [u8; 32] {
    VerifyingKey::from(&secret(password)).to_bytes()
}

/// Read the 43 letters of base64 that `mysql.global_priv` holds; None when it is anything else.
pub fn parse(text: &str) -> Option<[u8; 32]> {
    STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// The answer to a nonce.
pub fn answer(password: &[u8], nonce: &[u8]) -> [u8; 64] {
    let secret = secret(password);
    raw_sign::<Sha512>(&secret, nonce, &VerifyingKey::from(&secret)).to_bytes()
}

/// Whether a client's answer to `nonce` proves the password behind `public_key`.
pub fn is_answer(public_key: &[u8; 32], nonce: &[u8], given: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(public_key), Signature::from_slice(given))
    else {
        return false;
    };
    key.verify(nonce, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_key_is_that_of_the_server() {
        // Spec: MariaDB, "Authentication Plugin - ed25519": ed25519_password('secret').
        assert_eq!(parse("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"), Some(public_key(b"secret")));
        assert_eq!(parse("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJ"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn answer_is_that_of_other_clients() {
        // Made with PyMySQL's ed25519_password(b"secret", nonce).
        let nonce: Vec<u8> = (0..32).collect();
        let hex: String = answer(b"secret", &nonce).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "546c3e9311d19ee389d1ae5d945821bfe459423910136f16b3bd2ae89fd7d63b449e689f4be812891a85b8f999076446d92adb83d0707215aaa60b5a23220907");
    }

    #[test]
    fn answer_is_checked_with_what_is_stored() {
        let given = answer(b"secret", &[7; NONCE_BYTES]);
        assert!(is_answer(&public_key(b"secret"), &[7; NONCE_BYTES], &given));
        assert!(!is_answer(&public_key(b"Secret"), &[7; NONCE_BYTES], &given));
        assert!(!is_answer(&public_key(b"secret"), &[8; NONCE_BYTES], &given));
        assert!(!is_answer(&public_key(b"secret"), &[7; NONCE_BYTES], &given[..63]));
        assert!(!is_answer(&[0xff; 32], &[7; NONCE_BYTES], &given));
    }
}
