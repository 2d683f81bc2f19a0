//! What a certificate says, and whether a server's certificate will do.
//!
//! Opens no file and no connection; PEM texts are arguments.
//! Called by `tls_config`, and by `tls` for the peer's name.

use std::net::IpAddr;
use std::sync::Arc;

use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{
    verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key, CryptoProvider,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};

/// The certificates of a PEM text, in order.
///
/// # Errors
/// It holds none, or one that is damaged; `what` names the setting.
pub(crate) fn chain_of(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain =
        found.map_err(|error| format!("{what}: damaged PEM ({}): give the whole file", fault_in(&error)))?;
    if chain.is_empty() {
        return Err(format!("{what}: no \"BEGIN CERTIFICATE\" in it: give a certificate in PEM form"));
    }
    Ok(chain)
}

// Why: in its own words the crate shows lines of the file as lists of bytes.
fn fault_in(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is not as it must be",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    }
}

/// The private key of a PEM text.
///
/// # Errors
/// It holds none, or one that is encrypted or damaged; `what` names the setting.
pub(crate) fn key_of(pem: &str, what: &str) -> Result<PrivateKeyDer<'static>, String> {
    if pem.contains("ENCRYPTED") {
        return Err(format!(
            "{what}: the key is encrypted: store it without a passphrase, readable by us only"
        ));
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| format!("{what}: no \"BEGIN PRIVATE KEY\" in it: give an unencrypted key in PEM form"))
}

/// Authorities from a PEM text.
///
/// # Errors
/// As `chain_of`, or one that cannot be an authority.
pub(crate) fn roots_of(authorities: &[CertificateDer<'static>], what: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| {
            format!("{what}: a certificate in it cannot be an authority ({error}): give X.509 version 3")
        })?;
    }
    Ok(roots)
}

/// The first common name of a certificate's subject; None also when it holds a zero byte.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    first_common_name(&parsed)
}

fn first_common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty() && !name.contains('\0')).then(|| name.to_owned())
}

/// The data of channel binding `tls-server-end-point` for a server's certificate.
///
/// None where it is not defined (Ed25519 has no hash of its own).
///
/// Spec: RFC 5929 section 4.1; MD5 and SHA-1 are replaced by SHA-256.
pub(crate) fn end_point_hash(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 with RSA; sha1 and sha256 with ECDSA.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        "1.2.840.113549.1.1.10" => pss_hash(&parsed)?,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn pss_hash(parsed: &X509Certificate<'_>) -> Option<&'static digest::Algorithm> {
    use x509_parser::signature_algorithm::SignatureAlgorithm;
    let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) =
        SignatureAlgorithm::try_from(&parsed.signature_algorithm)
    else {
        return None;
    };
    match parameters.hash_algorithm_oid().to_id_string().as_str() {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        _ => None,
    }
}

/// How much a server must prove.
#[derive(Debug)]
pub(crate) enum Proof {
    /// That it owns the key of its certificate, whatever that says.
    Key,
    /// And that an authority signed it.
    Chain(Authorities),
    /// And that it is for the host we meant.
    Host(Authorities),
}

#[derive(Debug)]
pub(crate) struct Authorities {
    pub verifier: Arc<WebPkiServerVerifier>,
    /// Certificates given as authorities. A server may show one of these as its own.
    pub given: Vec<CertificateDer<'static>>,
}

/// Decides on a server's certificate as libpq does for the same sslmode.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub proof: Proof,
    pub provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    fn check_chain(
        authorities: &Authorities,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        // Why: one self-signed certificate, given to both sides, is how most small databases are set
        // up; OpenSSL takes it, webpki does not (an authority may not be a server).
        if authorities.given.iter().any(|given| given == shown) {
            return check_dates(shown, now);
        }
        match authorities.verifier.verify_server_cert(shown, between, name, &[], now) {
            // Why: the name is looked at last, so the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            verdict => verdict.map(drop),
        }
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(parsed)
}

fn check_dates(shown: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = parse(shown)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// Spec: RFC 6125 with libpq's allowance: a certificate without alternative names speaks by its common name.
fn check_host(shown: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let parsed = parse(shown)?;
    let mut presented: Vec<String> = Vec::new();
    let mut matched = false;
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for alternative in &extension.value.general_names {
            match alternative {
                GeneralName::DNSName(pattern) => {
                    matched |= is_host(name, pattern);
                    presented.push((*pattern).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    let Some(address) = address_of(bytes) else { continue };
                    matched |=
                        matches!(name, ServerName::IpAddress(wanted) if IpAddr::from(*wanted) == address);
                    presented.push(address.to_string());
                }
                _ => {}
            }
        }
    }
    if presented.is_empty() {
        if let Some(common) = first_common_name(&parsed) {
            matched = match name {
                ServerName::IpAddress(wanted) => common.parse() == Ok(IpAddr::from(*wanted)),
                _ => is_host(name, &common),
            };
            presented.push(common);
        }
    }
    if matched {
        return Ok(());
    }
    Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        expected: name.to_owned(),
        presented,
    }))
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// A `*` stands for exactly one whole first label.
fn is_host(name: &ServerName<'_>, pattern: &str) -> bool {
    let ServerName::DnsName(wanted) = name else { return false };
    let wanted = wanted.as_ref().trim_end_matches('.');
    if let Some(parent) = pattern.strip_prefix("*.") {
        return wanted.split_once('.').is_some_and(|(first, rest)| {
            !first.is_empty() && parent.contains('.') && rest.eq_ignore_ascii_case(parent)
        });
    }
    !pattern.is_empty() && wanted.eq_ignore_ascii_case(pattern)
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.proof {
            Proof::Key => {}
            Proof::Chain(authorities) => {
                Self::check_chain(authorities, end_entity, intermediates, server_name, now)?;
            }
            Proof::Host(authorities) => {
                Self::check_chain(authorities, end_entity, intermediates, server_name, now)?;
                check_host(end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    // Why: also when the certificate itself is not judged. Channel binding trusts that whoever shows a
    // certificate owns its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let parsed = parse(certificate)?;
        if parsed.version() == X509Version::V3 {
            return verify_tls13_signature(message, certificate, signed, algorithms);
        }
        // Why: webpki reads version 3 only, but old instructions for databases make version 1.
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_one_label() {
        let name = |text: &str| ServerName::try_from(text.to_owned()).unwrap();
        assert!(is_host(&name("db.shop.example"), "db.shop.example"));
        assert!(is_host(&name("DB.shop.example"), "*.Shop.example"));
        assert!(!is_host(&name("a.db.shop.example"), "*.shop.example"));
        assert!(!is_host(&name("shop.example"), "*.shop.example"));
        assert!(!is_host(&name("shop.example"), "*.example"));
        assert!(!is_host(&name("shop.example"), "*"));
        assert!(!is_host(&name("shop.example"), ""));
        assert!(!is_host(&name("127.0.0.1"), "127.0.0.1"), "addresses are compared as addresses");
    }
}
