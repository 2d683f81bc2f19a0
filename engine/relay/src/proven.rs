//! What logins of all workers share, so that they are short: passwords once proven, and the key to seal them with.
//!
//! Holds hashes, never a password; decides nothing. Kept in `Shared`; used and filled by `login`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use maitred_wire::auth::caching_sha2::Verifier;
use maitred_wire::auth::sealed_password::OwnKey;
use maitred_wire::handshake::Credentials;

/// Most users whose proof is kept. Ours: a megabyte or two; beyond it, logins are slow again.
const MOST_USERS: usize = 16_384;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Proven {
    key: Arc<OwnKey>,
    /// By user: what the password was checked against, and the hash that makes the next login quick.
    /// Enter: a login that was slow. Leave: nobody, but what no longer fits is not used.
    users: Mutex<HashMap<String, (Verifier, [u8; 32])>>,
}

impl Proven {
    /// The key, which is made when a client first asks for it.
    pub fn key(&self) -> Arc<OwnKey> {
        Arc::clone(&self.key)
    }

    /// `credentials` with what is remembered of the user, unless the password has changed since.
    pub fn completed(&self, user: &str, mut credentials: Credentials) -> Credentials {
        if let Some(verifier) = credentials.sha2.as_ref().filter(|_| credentials.plain.is_none()) {
            let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            let found = users.get(user).filter(|(against, _)| against == verifier);
            credentials.fast = found.map(|(_, fast)| *fast);
        }
        credentials
    }

    /// A login has proven the password behind `credentials`.
    pub fn remember(&self, user: &str, credentials: &Credentials, fast: [u8; 32]) {
        if let Some(verifier) = credentials.sha2.clone().filter(|_| credentials.plain.is_none()) {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            if users.len() < MOST_USERS || users.contains_key(user) {
                users.insert(user.to_owned(), (verifier, fast));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(password: &[u8]) -> Credentials {
        let sha2 = Verifier::derive(password, b"01234567890123456789", 1);
        Credentials { sha2: Some(sha2), ..Credentials::default() }
    }

    #[test]
    fn a_proof_is_remembered_until_the_password_changes() {
        let proven = Proven::default();
        assert_eq!(proven.completed("app", stored(b"one")).fast, None);
        proven.remember("app", &stored(b"one"), [7; 32]);
        assert_eq!(proven.completed("app", stored(b"one")).fast, Some([7; 32]));
        assert_eq!(proven.completed("other", stored(b"one")).fast, None);
        assert_eq!(proven.completed("app", stored(b"two")).fast, None);
        proven.remember("app", &stored(b"two"), [8; 32]);
        assert_eq!(proven.completed("app", stored(b"two")).fast, Some([8; 32]));
        assert_eq!(proven.completed("app", stored(b"one")).fast, None);
    }

    #[test]
    fn a_password_that_is_known_needs_no_memory() {
        let proven = Proven::default();
        let known = Credentials { plain: Some("one".into()), ..stored(b"one") };
        proven.remember("app", &known, [7; 32]);
        assert_eq!(proven.completed("app", stored(b"one")).fast, None);
    }
}
