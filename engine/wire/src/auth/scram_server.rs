//! The side of SCRAM-SHA-256 that checks a proof.
//!
//! Holds one exchange; never learns the password and never sends anything itself.
//! Called by `postgres::handshake_in`.
//!
//! ```text
//! client-first ──► ServerExchange::open ──► server-first
//! client-final ──► ServerExchange::proof ──► Proof::check(keys) ──► server-final
//! ```

use subtle::ConstantTimeEq;

use super::scram::{self, attribute, decode, encode, Reject};

/// One exchange after server-first was made.
#[derive(Debug)]
pub struct ServerExchange {
    /// What `c=` must carry: the client's gs2 header and the channel binding data.
    expected_binding: String,
    /// Both nonces joined.
    nonce: String,
    /// `client-first-message-bare "," server-first-message`.
    so_far: String,
}

/// What a client offers as proof, not yet checked against keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    proof: [u8; 32],
    auth_message: String,
}

impl ServerExchange {
    /// Take client-first, return the exchange and server-first.
    ///
    /// `plus` says that the client chose the mechanism with channel binding; `binding` is the hash
    /// of our certificate, if we offered that mechanism.
    ///
    /// # Errors
    /// `Malformed` or `Unsupported`. Spec: RFC 5802 section 6 for each channel binding rule.
    pub fn open(
        client_first: &[u8],
        plus: bool,
        binding: Option<&[u8]>,
        nonce: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Result<(Self, String), Reject> {
        let text =
            std::str::from_utf8(client_first).map_err(|_| Reject::Malformed("message is not UTF-8"))?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Reject::Malformed("channel binding header is incomplete"));
        };
        let data = match (flag, plus, binding) {
            ("n", false, _) | ("y", false, None) => &[][..],
            ("y", false, Some(_)) => {
                // Why: the client believes that we lack what we offered; somebody took it out.
                return Err(Reject::Malformed(
                    "client believes that channel binding is not offered, but it is",
                ));
            }
            ("n" | "y", true, _) => {
                return Err(Reject::Malformed(
                    "mechanism with channel binding, but no binding in the message",
                ));
            }
            (_, true, Some(hash)) if flag.strip_prefix("p=") == Some(scram::BINDING_NAME) => hash,
            (_, false, _) if flag.starts_with("p=") => {
                return Err(Reject::Malformed("channel binding in the mechanism without it"));
            }
            (_, true, _) if flag.starts_with("p=") => {
                return Err(Reject::Unsupported(
                    "channel binding type is not supported, use tls-server-end-point",
                ));
            }
            _ => return Err(Reject::Malformed("unknown channel binding flag")),
        };
        if !authzid.is_empty() {
            return Err(Reject::Unsupported("authorization identity is not supported"));
        }
        if bare.starts_with("m=") {
            return Err(Reject::Unsupported("mandatory extension is not supported"));
        }
        // Why: the name here is ignored, as in PostgreSQL; the startup packet said who it is.
        let (_, rest) = attribute(bare, 'n')?;
        let (client_nonce, _) = attribute(rest, 'r')?;
        if !scram::is_nonce(client_nonce) {
            return Err(Reject::Malformed("nonce is empty or not printable"));
        }
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!("r={nonce},s={},i={iterations}", encode(salt));
        let expected_binding = encode(&[flag.as_bytes(), b",,", data].concat());
        let so_far = format!("{bare},{server_first}");
        Ok((Self { expected_binding, nonce, so_far }, server_first))
    }

    /// Take client-final apart and check everything but the proof itself.
    ///
    /// # Errors
    /// `Malformed`: wrong nonce or channel binding, or not client-final at all.
    pub fn proof(&self, client_final: &[u8]) -> Result<Proof, Reject> {
        let text =
            std::str::from_utf8(client_final).map_err(|_| Reject::Malformed("message is not UTF-8"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Reject::Malformed("proof is missing"))?;
        let (binding, rest) = attribute(without_proof, 'c')?;
        let (nonce, _) = attribute(rest, 'r')?;
        if binding != self.expected_binding {
            return Err(Reject::Malformed("channel binding does not fit this connection"));
        }
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(Reject::Malformed("nonce is not the one of this exchange"));
        }
        let proof =
            decode(proof)?.try_into().map_err(|_| Reject::Malformed("proof does not have 32 bytes"))?;
        Ok(Proof { proof, auth_message: format!("{},{without_proof}", self.so_far) })
    }
}

impl Proof {
    /// Check against the keys; server-final when the client knows the password.
    pub fn check(&self, verifier: &scram::Verifier) -> Option<String> {
        let signature = scram::hmac(&verifier.stored_key, &[self.auth_message.as_bytes()]);
        let mut client_key = self.proof;
        client_key.iter_mut().zip(signature).for_each(|(key, mask)| *key ^= mask);
        bool::from(scram::sha256(&client_key).ct_eq(&verifier.stored_key)).then(|| {
            format!("v={}", encode(&scram::hmac(&verifier.server_key, &[self.auth_message.as_bytes()])))
        })
    }
}
