//! A password sealed with RSA, which MySQL clients send where there is no TLS.
//!
//! Opens and seals; does not compare, and proves nothing about who holds the key.
//! Called by `Errand::run` on our side of a client's login, by `mysql::handshake_out` on the other.
//!
//! Spec: MySQL, `sql/auth/sha2_password.cc` and `sql-common/client_authentication.cc`: the password and
//! a zero byte, mixed with the nonce byte by byte, under RSA-OAEP with SHA-1.

use std::fmt;
use std::sync::OnceLock;

use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;

/// Size of the keys that we make, as MySQL's own.
const KEY_BITS: usize = 2048;
/// Longest key that we seal with, in bytes: ours; a server could keep a worker busy with a longer one.
const MOST_KEY_BYTES: usize = 1024;

/// The key pair that clients seal passwords with.
pub struct ServerKey {
    private: RsaPrivateKey,
    public: String,
}

/// Why: the private half must not reach a log.
impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey")
    }
}

impl ServerKey {
    /// Make a key pair. A tenth of a second of CPU, more with bad luck.
    ///
    /// # Errors
    /// The arithmetic failed.
    pub fn make() -> Result<Self, String> {
        let private = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(|error| error.to_string())?;
        Self::of(private)
    }

    /// Read a private key in PEM, PKCS #8 or PKCS #1.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let private = RsaPrivateKey::from_pkcs8_pem(pem).or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem));
        Self::of(private.map_err(|error| format!("not an RSA private key in PEM: {error}"))?)
    }

    fn of(private: RsaPrivateKey) -> Result<Self, String> {
        let public = private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| format!("the public key cannot be written: {error}"))?;
        Ok(Self { private, public })
    }

    /// The public half in PEM, as clients ask for it.
    pub fn public_pem(&self) -> &str {
        &self.public
    }

    /// The password that a client has sealed. None: it is not sealed with this key and nonce.
    /// Milliseconds of CPU.
    pub fn open(&self, sealed: &[u8], nonce: &[u8; 20]) -> Option<Vec<u8>> {
        // Why blinded: the time of a plain one tells about the key.
        let mut clear = self.private.decrypt_blinded(&mut OsRng, Oaep::new::<Sha1>(), sealed).ok()?;
        mix(&mut clear, nonce);
        (clear.pop() == Some(0)).then_some(clear)
    }
}

/// The key of a process, made when it is first needed: most clients have TLS, or need not send their password.
#[derive(Debug, Default)]
pub struct OwnKey(OnceLock<Option<ServerKey>>);

impl OwnKey {
    /// One that is made already.
    pub fn of(key: ServerKey) -> Self {
        Self(OnceLock::from(Some(key)))
    }

    /// The key, if it has been made.
    pub fn get(&self) -> Option<&ServerKey> {
        self.0.get()?.as_ref()
    }

    /// Make it, or wait for whoever is making it. A tenth of a second of CPU, more with bad luck.
    pub fn make(&self) {
        self.0.get_or_init(|| ServerKey::make().ok());
    }
}

/// Why: errands and greetings are compared in tests; a process has one.
impl PartialEq for OwnKey {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for OwnKey {}

fn mix(password: &mut [u8], nonce: &[u8; 20]) {
    password.iter_mut().zip(nonce.iter().cycle()).for_each(|(byte, with)| *byte ^= with);
}

/// Seal a password with a server's public key.
///
/// # Errors
/// The key cannot be used, or the password is too long for it.
pub fn seal(password: &[u8], nonce: &[u8; 20], public_pem: &str) -> Result<Vec<u8>, String> {
    let key = RsaPublicKey::from_public_key_pem(public_pem.trim())
        .map_err(|error| format!("not an RSA public key in PEM: {error}"))?;
    if key.size() > MOST_KEY_BYTES {
        return Err(format!("an RSA key of more than {} bits", MOST_KEY_BYTES * 8));
    }
    let mut clear = [password, &[0]].concat();
    mix(&mut clear, nonce);
    key.encrypt(&mut OsRng, Oaep::new::<Sha1>(), &clear).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &[u8; 20] = b"0123456789abcdefghij";
    const KEY: &str = include_str!("../../../../tests/vectors/mysql/key.pem");

    #[test]
    fn what_is_sealed_is_opened() {
        let key = ServerKey::parse(KEY).unwrap();
        for password in [&b""[..], b"secret", &[7; 200]] {
            let sealed = seal(password, NONCE, key.public_pem()).unwrap();
            assert_eq!(sealed.len(), 256);
            assert_eq!(key.open(&sealed, NONCE).as_deref(), Some(password));
            assert_ne!(key.open(&sealed, b"_123456789abcdefghij").as_deref(), Some(password));
            assert_eq!(key.open(&sealed[1..], NONCE), None);
        }
        assert!(seal(&[7; 300], NONCE, key.public_pem()).is_err());
        assert!(seal(b"x", NONCE, "no key").is_err());
        assert!(ServerKey::parse("no key").is_err());
        assert_eq!(format!("{key:?}"), "ServerKey");
    }

    #[test]
    fn what_openssl_sealed_is_opened() {
        // Made with: openssl pkeyutl -encrypt -pubin -pkeyopt rsa_padding_mode:oaep
        let sealed = include_bytes!("../../../../tests/vectors/mysql/sealed.bin");
        assert_eq!(ServerKey::parse(KEY).unwrap().open(sealed, NONCE).as_deref(), Some(&b"secret"[..]));
    }
}
