//! Ways for a client to prove who it is, and what each can be checked with.
//!
//! Compares what it is given; sends nothing and remembers nothing. Called by `handshake_in`.

use subtle::ConstantTimeEq;

use super::spec::plugin;
use crate::auth::{caching_sha2, ed25519, mysql_native};
use crate::handshake::{Credentials, Method};

/// One authentication plugin of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Native,
    CachingSha2,
    Ed25519,
    Clear,
}

/// What checking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    Wrong,
    /// Only the slow hash of the password can tell.
    Slow,
}

impl From<bool> for Verdict {
    fn from(fits: bool) -> Self {
        match fits {
            true => Verdict::Fits,
            false => Verdict::Wrong,
        }
    }
}

impl Scheme {
    /// What `method` is among clients of MySQL; trust looks like MySQL's own default.
    pub fn of(method: Method) -> Self {
        match method {
            Method::MysqlNative => Scheme::Native,
            Method::Ed25519 => Scheme::Ed25519,
            Method::Password => Scheme::Clear,
            Method::Trust | Method::CachingSha2 | Method::Md5 | Method::ScramSha256 => Scheme::CachingSha2,
        }
    }

    /// The one to name in a greeting where this is what users are asked for.
    ///
    /// Why not every one: clients take the nonce of the greeting for theirs, which is too short for
    /// ed25519, and MariaDB's library then gives up; and none is to send a password unasked.
    pub fn greeted(self) -> Self {
        match self {
            Scheme::Native | Scheme::Ed25519 => Scheme::Native,
            Scheme::CachingSha2 | Scheme::Clear => Scheme::CachingSha2,
        }
    }

    /// As `of`, or the one that what is `known` serves where it does not serve that.
    pub fn fitting(method: Method, known: &Credentials) -> Self {
        let wanted = Self::of(method);
        let order = [wanted, Scheme::CachingSha2, Scheme::Ed25519, Scheme::Native];
        order.into_iter().find(|scheme| scheme.is_served_by(known)).unwrap_or(wanted)
    }

    /// Can a proof of this kind be checked with what is `known`?
    pub fn is_served_by(self, known: &Credentials) -> bool {
        let has_sha2 = known.sha2.is_some() || known.fast.is_some();
        known.plain.is_some()
            || match self {
                Scheme::Native => known.native.is_some(),
                Scheme::CachingSha2 => has_sha2,
                Scheme::Ed25519 => known.ed25519.is_some(),
                Scheme::Clear => has_sha2 || known.native.is_some() || known.ed25519.is_some(),
            }
    }

    pub fn plugin(self) -> &'static str {
        match self {
            Scheme::Native => plugin::NATIVE,
            Scheme::CachingSha2 => plugin::CACHING_SHA2,
            Scheme::Ed25519 => plugin::ED25519,
            Scheme::Clear => plugin::CLEAR,
        }
    }

    /// Check the answer to `nonce`; for `Clear` it is the password.
    pub fn check(self, known: &Credentials, nonce: &[u8], answer: &[u8]) -> Verdict {
        if self == Scheme::Clear {
            return check_password(known, answer);
        }
        if answer.is_empty() && self != Scheme::Ed25519 {
            return is_empty_password(known).into();
        }
        match self {
            Scheme::Native => {
                let stored = known.native.or_else(|| of_plain(known, mysql_native::stored));
                let nonce = nonce.try_into().ok();
                let fits = stored
                    .zip(nonce)
                    .is_some_and(|(stored, nonce)| mysql_native::is_answer(&stored, nonce, answer));
                fits.into()
            }
            Scheme::Ed25519 => {
                let stored = known.ed25519.or_else(|| of_plain(known, ed25519::public_key));
                stored.is_some_and(|stored| ed25519::is_answer(&stored, nonce, answer)).into()
            }
            // Why slow also where it is wrong: as MySQL does, which has the password typed in full before it
            // says no; and so that an unknown user is refused in the same steps.
            _ => {
                let twice = of_plain(known, caching_sha2::twice).or(known.fast);
                let nonce = nonce.try_into().ok();
                match twice.zip(nonce) {
                    Some((twice, nonce)) if caching_sha2::is_answer(&twice, nonce, answer) => Verdict::Fits,
                    _ => Verdict::Slow,
                }
            }
        }
    }
}

fn of_plain<T>(known: &Credentials, hash: impl FnOnce(&[u8]) -> T) -> Option<T> {
    known.plain.as_ref().map(|plain| hash(plain.as_bytes()))
}

/// Check a password in clear text as far as that is quick.
fn check_password(known: &Credentials, password: &[u8]) -> Verdict {
    if let Some(twice) = of_plain(known, caching_sha2::twice) {
        // Why: hashes of equal length, so that the time tells nothing about the length either.
        return bool::from(caching_sha2::twice(password).ct_eq(&twice)).into();
    }
    if let Some(stored) = known.native {
        return mysql_native::is_password(&stored, password).into();
    }
    if let Some(stored) = known.ed25519 {
        return bool::from(ed25519::public_key(password).ct_eq(&stored)).into();
    }
    match known.fast {
        Some(fast) if caching_sha2::twice(password).ct_eq(&fast).into() => Verdict::Fits,
        _ => Verdict::Slow,
    }
}

/// Check a password by its hashes, of which `slow` was made with `known.sha2`'s salt.
pub fn check_hashed(known: &Credentials, slow: &[u8; 32], fast: &[u8; 32]) -> bool {
    match (of_plain(known, caching_sha2::twice), &known.sha2) {
        (Some(twice), _) => twice.ct_eq(fast).into(),
        (None, Some(verifier)) => verifier.is_hash(slow),
        (None, None) => false,
    }
}

/// Clients answer nothing when they have no password; so may those who have none, and nobody else.
fn is_empty_password(known: &Credentials) -> bool {
    match &known.plain {
        Some(plain) => plain.is_empty(),
        None => known.native == Some(mysql_native::stored(b"")),
    }
}
