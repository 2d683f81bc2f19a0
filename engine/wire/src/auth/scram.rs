//! SCRAM-SHA-256: keys, verifiers and the words both sides of the exchange share.
//!
//! Computes only; the messages are in `scram_server` and `scram_client`, and who may log in is
//! decided by neither. Called by those two, by the handshakes, and by `Errand::run`.
//!
//! Spec: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929 (channel binding); PostgreSQL manual,
//! "SASL Authentication".

use std::fmt;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Name of the mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// Name of the mechanism with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The only channel binding that PostgreSQL defines. Spec: RFC 5929 section 4.
pub const BINDING_NAME: &str = "tls-server-end-point";
/// PostgreSQL's default of `scram_iterations`, used for verifiers that we derive.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// PostgreSQL's SCRAM_DEFAULT_SALT_LEN.
pub const SALT_BYTES: usize = 16;
/// Most iterations a server may ask of us: ours, seconds of one CPU; a hostile server could
/// otherwise keep it busy for hours.
pub const MOST_ITERATIONS: u32 = 10_000_000;

/// Why an exchange ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// A message that is not SCRAM, or not of this exchange.
    Malformed(&'static str),
    /// Correct SCRAM that we do not speak.
    Unsupported(&'static str),
    /// The other side does not know the secret.
    WrongProof,
}

/// What a server keeps of a password: enough to check it, too little to log in elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// Why: a verifier in a log is material for guessing passwords.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// The form of `pg_authid.rolpassword`.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iterations, salt, stored_key, server_key } = self;
        write!(
            f,
            "{MECHANISM}${iterations}:{}${}:{}",
            BASE64.encode(salt),
            BASE64.encode(stored_key),
            BASE64.encode(server_key)
        )
    }
}

impl Verifier {
    /// Read `SCRAM-SHA-256$iterations:salt$stored:server`; None when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (mechanism, rest) = text.split_once('$')?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations = iterations.parse::<u32>().ok().filter(|count| *count > 0)?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        let stored_key = BASE64.decode(stored).ok()?.try_into().ok()?;
        let server_key = BASE64.decode(server).ok()?.try_into().ok()?;
        (mechanism == MECHANISM).then_some(Self { iterations, salt, stored_key, server_key })
    }

    /// Derive the verifier from a password already salted.
    pub fn from_salted(salted: &[u8; 32], salt: Vec<u8>, iterations: u32) -> Self {
        let stored_key = sha256(&hmac(salted, &[b"Client Key"]));
        Self { iterations, salt, stored_key, server_key: hmac(salted, &[b"Server Key"]) }
    }

    /// Whether a salted password is the one behind this verifier.
    pub fn is_salted(&self, salted: &[u8; 32]) -> bool {
        let other = sha256(&hmac(salted, &[b"Client Key"]));
        self.stored_key.ct_eq(&other).into()
    }

    /// A verifier that no password fits, the same each time for the same user.
    ///
    /// Why: an exchange for a user who does not exist must look as one for a user who does, also
    /// when it is repeated. Spec: RFC 5802 section 5.1 leaves it to the server; PostgreSQL does it
    /// under the name of mock authentication.
    pub fn mock(secret: &[u8; 32], user: &str) -> Self {
        Self {
            iterations: DEFAULT_ITERATIONS,
            salt: mock_salt(secret, user),
            stored_key: hmac(secret, &[b"stored", user.as_bytes()]),
            server_key: hmac(secret, &[b"server", user.as_bytes()]),
        }
    }
}

/// The salt shown for a user whose verifier is made up, or made from a plain password on the fly.
///
/// Why: both the same way, so that the one cannot be told from the other.
pub fn mock_salt(secret: &[u8; 32], user: &str) -> Vec<u8> {
    hmac(secret, &[b"salt", user.as_bytes()])[..SALT_BYTES].to_vec()
}

/// `SaltedPassword`: PBKDF2 of the password after SASLprep. Milliseconds of CPU.
///
/// Why: text that SASLprep forbids is taken as it is, as PostgreSQL does on both sides.
pub fn salted_password(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let prepared = stringprep::saslprep(password).unwrap_or(password.into());
    pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(prepared.as_bytes(), salt, iterations)
}

/// A fresh nonce of PostgreSQL's size, 18 random bytes in base64.
pub fn nonce() -> String {
    BASE64.encode(super::random::<18>())
}

pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>, Reject> {
    BASE64.decode(text).map_err(|_| Reject::Malformed("value is not base64"))
}

/// The value of attribute `name` at the front of `text`, and what follows its comma.
pub(super) fn attribute(text: &str, name: char) -> Result<(&str, &str), Reject> {
    let value = text
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='))
        .ok_or(Reject::Malformed("attribute missing or out of order"))?;
    Ok(value.split_once(',').unwrap_or((value, "")))
}

/// Spec: RFC 5802 section 7, `printable`: visible ASCII but the comma.
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifier_text_is_read_and_written() {
        let salted = salted_password("pencil", b"0123456789abcdef", 4096);
        let verifier = Verifier::from_salted(&salted, b"0123456789abcdef".to_vec(), 4096);
        assert_eq!(Verifier::parse(&verifier.to_string()), Some(verifier.clone()));
        assert!(verifier.is_salted(&salted));
        assert!(!verifier.is_salted(&salted_password("pencil2", b"0123456789abcdef", 4096)));
    }

    #[test]
    fn broken_verifiers_are_refused() {
        let key = encode(&[7; 32]);
        assert!(Verifier::parse(&format!("SCRAM-SHA-256$4096:AAAA${key}:{key}")).is_some());
        for text in [
            String::new(),
            "md5".to_owned() + &"0".repeat(32),
            format!("SCRAM-SHA-1$4096:AAAA${key}:{key}"),
            format!("SCRAM-SHA-256$0:AAAA${key}:{key}"),
            format!("SCRAM-SHA-256$x:AAAA${key}:{key}"),
            format!("SCRAM-SHA-256$4096:${key}:{key}"),
            format!("SCRAM-SHA-256$4096:AAAA${key}"),
            format!("SCRAM-SHA-256$4096:AAAA${key}:AAAA"),
        ] {
            assert_eq!(Verifier::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn passwords_are_prepared() {
        // Spec: RFC 4013 section 3: a soft hyphen vanishes, a superscript a becomes an a.
        assert_eq!(salted_password("I\u{ad}X", b"salt", 1), salted_password("IX", b"salt", 1));
        assert_eq!(salted_password("\u{aa}", b"salt", 1), salted_password("a", b"salt", 1));
        // Forbidden (a control character): taken as it is.
        assert_ne!(salted_password("a\u{7}", b"salt", 1), salted_password("a", b"salt", 1));
    }

    #[test]
    fn mock_is_stable_per_user_and_fits_no_password() {
        let one = Verifier::mock(&[1; 32], "ghost");
        assert_eq!(one, Verifier::mock(&[1; 32], "ghost"));
        assert_ne!(one.salt, Verifier::mock(&[1; 32], "other").salt);
        assert_ne!(one.salt, Verifier::mock(&[2; 32], "ghost").salt);
        assert!(!one.is_salted(&salted_password("", &one.salt, one.iterations)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", Verifier::mock(&[1; 32], "ghost"));
        assert_eq!(text, "Verifier { iterations: 4096, .. }");
    }
}
