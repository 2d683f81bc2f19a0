//! TLS settings of the snapshot, made ready once and shared by every session that starts under them.
//!
//! Reads no file (PEM texts come with the snapshot) and keeps no connection.
//! Called by `engine` when a snapshot is applied; `worker` starts sessions from the result.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use maitred_relay::snapshot::{Address, ClientTls, ServerTls, SslMode};
use maitred_wire::Dialect;
use rustls::client::{UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::{ring as provider, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::certificate::{chain_of, end_point_hash, key_of, roots_of, Authorities, Proof, ServerVerifier};

/// The application protocol that a session is about.
fn application_protocol(dialect: Dialect) -> Vec<Vec<u8>> {
    dialect.application_protocol().map(<[u8]>::to_vec).into_iter().collect()
}

/// TLS that we show to clients.
pub struct TlsServerConfig {
    /// By what is spoken in it, for the name of that protocol.
    configs: HashMap<Dialect, Arc<ServerConfig>>,
    /// For channel binding; of our own certificate.
    end_point_hash: Option<Arc<[u8]>>,
}

impl TlsServerConfig {
    /// Make `settings` ready.
    ///
    /// # Errors
    /// The material does not do; the text names the setting and says what to change.
    pub fn build(settings: &ClientTls) -> Result<Arc<Self>, String> {
        let provider = Arc::new(provider::default_provider());
        let chain = chain_of(&settings.certificate_pem, "tls.client.certificate")?;
        let key = key_of(&settings.key_pem, "tls.client.key")?;
        let end_point_hash = end_point_hash(&chain[0]).map(Arc::from);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(&settings.minimum, "tls.client.minimum")?)
            .map_err(|error| error.to_string())?;
        let builder = if settings.mode >= SslMode::VerifyCa {
            let what = "tls.client.ca";
            let pem = settings.ca_pem.as_deref().ok_or_else(|| {
                format!("{what}: missing: give the authorities that sign client certificates, or use the mode \"require\"")
            })?;
            let roots = Arc::new(roots_of(&chain_of(pem, what)?, what)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| format!("{what}: {error}"))?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| misfit("tls.client.certificate", "tls.client.key", &error))?;
        // Why: stateless, so every worker resumes what another began; one is enough, most drivers never resume.
        config.ticketer = provider::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
        let speaking = |dialect| {
            let mut config = config.clone();
            config.alpn_protocols = application_protocol(dialect);
            (dialect, Arc::new(config))
        };
        let ready = Self { configs: Dialect::ALL.into_iter().map(speaking).collect(), end_point_hash };
        // Why: what a session refuses, it refuses always; better here than at the first client.
        ready.connection(Dialect::Postgres).map_err(|error| format!("tls.client: {error}"))?;
        Ok(Arc::new(ready))
    }

    pub(crate) fn connection(&self, dialect: Dialect) -> Result<UnbufferedServerConnection, rustls::Error> {
        UnbufferedServerConnection::new(Arc::clone(&self.configs[&dialect]))
    }

    pub(crate) fn end_point_hash(&self) -> Option<Arc<[u8]>> {
        self.end_point_hash.clone()
    }
}

/// TLS that we use towards one endpoint.
pub struct TlsClientConfig {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    is_direct: bool,
}

impl TlsClientConfig {
    /// Make `settings` ready for the endpoint at `address`.
    ///
    /// # Errors
    /// The material does not do; the text names the setting and says what to change.
    pub fn build(settings: &ServerTls, address: &Address) -> Result<Arc<Self>, String> {
        let provider = Arc::new(provider::default_provider());
        let proof = match settings.mode {
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Proof::Key,
            SslMode::VerifyCa => Proof::Chain(authorities(settings, &provider)?),
            SslMode::VerifyFull => Proof::Host(authorities(settings, &provider)?),
        };
        let verifier = Arc::new(ServerVerifier { proof, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(&settings.minimum, "tls.server.minimum")?)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = with_own_certificate(builder, settings)?;
        if settings.direct {
            config.alpn_protocols = application_protocol(Dialect::Postgres);
        }
        let name = name_of(address, settings.mode)?.unwrap_or_else(|| {
            config.enable_sni = false;
            ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
        });
        Ok(Arc::new(Self { config: Arc::new(config), name, is_direct: settings.direct }))
    }

    pub(crate) fn connection(&self) -> Result<UnbufferedClientConnection, rustls::Error> {
        UnbufferedClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.is_direct
    }
}

/// What a certificate must name, or None where it cannot name the host and need not.
fn name_of(address: &Address, mode: SslMode) -> Result<Option<ServerName<'static>>, String> {
    let host = match address {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Unix { path } => path,
    };
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match ServerName::try_from(literal.to_owned()) {
        Ok(name) => Ok(Some(name)),
        Err(_) if mode == SslMode::VerifyFull => Err(format!(
            "no certificate can name the host \"{host}\": use a host name, or the mode \"verify-ca\""
        )),
        Err(_) => Ok(None),
    }
}

static FROM_1_2: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static FROM_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];

fn versions(minimum: &str, what: &str) -> Result<&'static [&'static SupportedProtocolVersion], String> {
    match minimum {
        "1.2" => Ok(&FROM_1_2),
        "1.3" => Ok(&FROM_1_3),
        other => Err(format!("{what}: \"{other}\" is not known: use \"1.2\" or \"1.3\"")),
    }
}

fn misfit(certificate: &str, key: &str, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{key}: it does not belong to the certificate: give the key that the certificate was made with")
        }
        rustls::Error::InvalidCertificate(cause) => {
            format!("{certificate}: not a usable X.509 version 3 certificate ({cause:?})")
        }
        other => format!("{key}: not usable ({other}): give an RSA, ECDSA or Ed25519 key"),
    }
}

fn authorities(settings: &ServerTls, provider: &Arc<CryptoProvider>) -> Result<Authorities, String> {
    let what = "tls.server.ca";
    let (given, roots) = match &settings.ca_pem {
        Some(pem) => {
            let given = chain_of(pem, what)?;
            let roots = authorities_among(&given, what)?;
            (given, roots)
        }
        None => (Vec::new(), system_roots()?),
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = verifier.build().map_err(|error| format!("{what}: {error}"))?;
    Ok(Authorities { verifier, given })
}

/// Why: a self-signed version 1 certificate cannot be an anchor, but still be the server's own one.
fn authorities_among(given: &[CertificateDer<'static>], what: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(given.iter().cloned());
    if added == 0 {
        return roots_of(given, what);
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("tls.server.ca: this machine has none of its own: \
             install its package of CA certificates, or give the authority"
            .to_owned());
    }
    Ok(roots)
}

fn with_own_certificate(
    builder: ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    settings: &ServerTls,
) -> Result<ClientConfig, String> {
    let (certificate, key) = ("tls.server.certificate", "tls.server.key");
    match (&settings.certificate_pem, &settings.key_pem) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate_pem), Some(key_pem)) => builder
            .with_client_auth_cert(chain_of(certificate_pem, certificate)?, key_of(key_pem, key)?)
            .map_err(|error| misfit(certificate, key, &error)),
        (Some(_), None) => Err(format!("{key}: missing: give the key of the certificate as well")),
        (None, Some(_)) => Err(format!("{certificate}: missing: give the certificate of the key as well")),
    }
}
