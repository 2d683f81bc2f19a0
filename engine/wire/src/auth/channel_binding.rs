//! The hash of a certificate that ties a SCRAM exchange to its TLS connection.
//!
//! Reads one field of the certificate and trusts nothing else in it; verifying it is TLS's work.
//! Called by `reactor` with the certificate in DER, on both sides.
//!
//! Spec: RFC 5929 section 4.1 (tls-server-end-point); RFC 5280 section 4.1 for the certificate.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// The certificate's hash, by the hash function of its own signature.
///
/// None when the function is unknown or there is none (Ed25519): then channel binding is
/// undefined and must not be offered.
pub fn certificate_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match signature_hash(certificate)? {
        SignatureHash::Sha256 => Sha256::digest(certificate).to_vec(),
        SignatureHash::Sha384 => Sha384::digest(certificate).to_vec(),
        SignatureHash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignatureHash {
    Sha256,
    Sha384,
    Sha512,
}

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// One DER element at the front of `input` that must have `tag`: its content, and what follows.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let bytes = rest.get(..count).filter(|_| (1..=4).contains(&count))?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), &rest[count..])
    };
    (found == tag && length <= rest.len()).then(|| rest.split_at(length))
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }`.
fn signature_hash(certificate: &[u8]) -> Option<SignatureHash> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (name, parameters) = element(algorithm, OBJECT_ID)?;
    match name {
        // 1.2.840.113549.1.1.10 RSASSA-PSS: the hash is a parameter. Spec: RFC 4055 section 3.1.
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" => {
            let (parameters, _) = element(parameters, SEQUENCE)?;
            let Some((hash, _)) = element(parameters, CONTEXT_0) else {
                return Some(SignatureHash::Sha256); // the default is SHA-1, which RFC 5929 raises
            };
            let (hash, _) = element(hash, SEQUENCE)?;
            match element(hash, OBJECT_ID)?.0 {
                b"\x60\x86\x48\x01\x65\x03\x04\x02\x01" => Some(SignatureHash::Sha256),
                b"\x60\x86\x48\x01\x65\x03\x04\x02\x02" => Some(SignatureHash::Sha384),
                b"\x60\x86\x48\x01\x65\x03\x04\x02\x03" => Some(SignatureHash::Sha512),
                _ => None,
            }
        }
        // 1.2.840.113549.1.1.*: RSA with MD5 (4), SHA-1 (5), SHA-256 (11), SHA-384 (12), SHA-512 (13).
        // Spec: RFC 5929 raises MD5 and SHA-1 to SHA-256.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, which] => match which {
            4 | 5 | 11 => Some(SignatureHash::Sha256),
            12 => Some(SignatureHash::Sha384),
            13 => Some(SignatureHash::Sha512),
            _ => None,
        },
        // 1.2.840.10045.4.1: ECDSA with SHA-1; 4.3.*: with SHA-256 (2), SHA-384 (3), SHA-512 (4).
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Some(SignatureHash::Sha256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, which] => match which {
            2 => Some(SignatureHash::Sha256),
            3 => Some(SignatureHash::Sha384),
            4 => Some(SignatureHash::Sha512),
            _ => None,
        },
        _ => None,
    }
}
