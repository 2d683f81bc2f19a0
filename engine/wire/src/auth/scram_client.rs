//! The side of SCRAM-SHA-256 that proves it knows a password, and checks that the server does too.
//!
//! Holds one exchange; the slow hashing is the caller's (`Errand`), so that it can be cached.
//! Called by `postgres::handshake_out`.
//!
//! ```text
//! ClientExchange::open ──► client-first
//! server-first ──► challenge ──► (salt, iterations) ──► salted password ──► answer ──► client-final
//! server-final ──► confirm
//! ```

use subtle::ConstantTimeEq;

use super::scram::{self, attribute, decode, encode, Reject};

/// How the exchange is tied to the TLS connection it runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// We know no certificate (no TLS, or its hash is undefined).
    Unable,
    /// We could, but the server did not offer it.
    NotOffered,
    /// Hash of the server's certificate.
    EndPoint(&'a [u8]),
}

/// One exchange.
pub struct ClientExchange {
    gs2: String,
    binding: Vec<u8>,
    nonce: String,
    first_bare: String,
    /// `client-first-bare "," server-first`, then the whole AuthMessage.
    auth_message: String,
    server_nonce: String,
    server_key: [u8; 32],
}

impl ClientExchange {
    /// Begin; client-first is [`ClientExchange::first`].
    ///
    /// Why: `user` is empty towards PostgreSQL, which ignores it, as libpq does.
    pub fn open(user: &str, binding: Binding<'_>, nonce: String) -> Self {
        let (gs2, binding) = match binding {
            Binding::Unable => ("n,,".to_owned(), Vec::new()),
            Binding::NotOffered => ("y,,".to_owned(), Vec::new()),
            Binding::EndPoint(hash) => (format!("p={},,", scram::BINDING_NAME), hash.to_vec()),
        };
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        Self {
            gs2,
            binding,
            nonce,
            first_bare,
            auth_message: String::new(),
            server_nonce: String::new(),
            server_key: [0; 32],
        }
    }

    /// client-first.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.first_bare)
    }

    /// Take server-first; salt and iterations of the password.
    ///
    /// # Errors
    /// Not server-first, a foreign nonce, or more iterations than [`scram::MOST_ITERATIONS`].
    pub fn challenge(&mut self, server_first: &[u8]) -> Result<(Vec<u8>, u32), Reject> {
        let text =
            std::str::from_utf8(server_first).map_err(|_| Reject::Malformed("message is not UTF-8"))?;
        if text.starts_with("m=") {
            return Err(Reject::Unsupported("mandatory extension is not supported"));
        }
        let (nonce, rest) = attribute(text, 'r')?;
        let (salt, rest) = attribute(rest, 's')?;
        let (iterations, _) = attribute(rest, 'i')?;
        // Why: the server's own part must not be empty, or the exchange could be replayed to us.
        if !scram::is_nonce(nonce) || !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Reject::Malformed("nonce is not the one of this exchange"));
        }
        let salt = decode(salt)?;
        let iterations = iterations
            .parse::<u32>()
            .ok()
            .filter(|count| *count > 0)
            .ok_or(Reject::Malformed("iteration count is not a positive number"))?;
        if iterations > scram::MOST_ITERATIONS {
            return Err(Reject::Unsupported("more than 10,000,000 iterations are asked for"));
        }
        self.server_nonce = nonce.to_owned();
        self.auth_message = format!("{},{text}", self.first_bare);
        Ok((salt, iterations))
    }

    /// client-final, from the salted password. Call after `challenge`.
    pub fn answer(&mut self, salted: &[u8; 32]) -> String {
        let binding = encode(&[self.gs2.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={binding},r={}", self.server_nonce);
        self.auth_message.push(',');
        self.auth_message.push_str(&without_proof);
        let mut proof = scram::hmac(salted, &[b"Client Key"]);
        let signature = scram::hmac(&scram::sha256(&proof), &[self.auth_message.as_bytes()]);
        proof.iter_mut().zip(signature).for_each(|(key, mask)| *key ^= mask);
        self.server_key = scram::hmac(salted, &[b"Server Key"]);
        format!("{without_proof},p={}", encode(&proof))
    }

    /// Take server-final: the server knows the password too. Call after `answer`.
    ///
    /// # Errors
    /// `WrongProof` when it does not, `Malformed` when the message is not server-final.
    pub fn confirm(&self, server_final: &[u8]) -> Result<(), Reject> {
        let text =
            std::str::from_utf8(server_final).map_err(|_| Reject::Malformed("message is not UTF-8"))?;
        if text.starts_with("e=") {
            return Err(Reject::WrongProof);
        }
        let (signature, _) = attribute(text, 'v')?;
        let expected = scram::hmac(&self.server_key, &[self.auth_message.as_bytes()]);
        if bool::from(decode(signature)?.ct_eq(&expected)) {
            Ok(())
        } else {
            Err(Reject::WrongProof)
        }
    }
}
