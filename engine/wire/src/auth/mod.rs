//! Pure password exchanges, shared by both sides of a login.
//!
//! Knows nothing of messages and their framing; the one system call is randomness.
//! Called by the handshakes of the dialects.

pub mod caching_sha2;
pub mod channel_binding;
pub mod ed25519;
pub mod mysql_native;
pub mod postgres_md5;
pub mod scram;
pub mod scram_client;
pub mod scram_server;
pub mod sealed_password;
pub mod sha256_crypt;

/// Random bytes from the operating system, for nonces and salts.
///
/// # Panics
/// The system has no randomness; to go on would be to log in with guessable nonces.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
