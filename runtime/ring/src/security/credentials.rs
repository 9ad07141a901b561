//! From the bytes of the files to what a handshake needs, for either side.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error as Tls, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{
    SecurityError,
    files::{Contents, Paths},
};

/// What HTTP/2 is called in a handshake.
const HTTP2: &[u8] = b"h2";

/// One set of files, ready for use.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// Present when peers will refuse the certificate for its dates.
    pub(super) untimely: Option<&'static str>,
}

impl Credentials {
    pub(super) fn of(contents: Contents, paths: &Paths) -> Result<Self, SecurityError> {
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        for certificate in
            certificates(&contents.authority).map_err(|why| SecurityError::content(&paths.authority, why))?
        {
            roots.add(certificate).map_err(|error| SecurityError::content(&paths.authority, error))?;
        }
        let roots = Arc::new(roots);
        let members = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| SecurityError::content(&paths.authority, error))?;
        let chain =
            certificates(&contents.certificate).map_err(|why| SecurityError::content(&paths.certificate, why))?;
        let untimely = check_chain(members.as_ref(), &chain, paths)?;
        let pair = Arc::new(SingleCertAndKey::from(pair(chain, &contents.key, &provider, paths)?));

        // Both fail only for a provider without the suites of TLS 1.3.
        let unusable = |error: Tls| SecurityError::content(&paths.certificate, error);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(members)
            .with_cert_resolver(pair.clone());
        // A resumed session would outlive the certificate that it was begun with.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![HTTP2.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(pair);
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Self { server: Arc::new(server), client: Arc::new(client), untimely })
    }
}

/// The suites of TLS 1.3, the fastest on this CPU first: small ARM boards have no instructions for AES.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let mut cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    let last = if has_aes() { cipher_suites.len() } else { 0 };
    cipher_suites.insert(last, TLS13_CHACHA20_POLY1305_SHA256);
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no certificate (PEM, -----BEGIN CERTIFICATE-----)".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is no PEM file with certificates: {error}")),
    }
}

/// Whether the authority's other members will take the certificate. Its dates are their affair: clocks differ, and a
/// certificate that is not valid now may be in a minute.
fn check_chain(
    members: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'static>],
    paths: &Paths,
) -> Result<Option<&'static str>, SecurityError> {
    use rustls::CertificateError as Bad;
    let Some((own, between)) = chain.split_first() else { return Ok(None) };
    match members.verify_client_cert(own, between, UnixTime::now()) {
        Ok(_) => Ok(None),
        Err(Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. })) => Ok(Some("has expired")),
        Err(Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. })) => {
            Ok(Some("is not valid yet: is the clock right?"))
        }
        Err(Tls::InvalidCertificate(Bad::BadEncoding)) => {
            Err(SecurityError::content(&paths.certificate, "its certificate cannot be decoded"))
        }
        Err(error) => Err(SecurityError::Foreign {
            certificate: paths.certificate.clone(),
            authority: paths.authority.clone(),
            reason: error.to_string(),
        }),
    }
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
    provider: &CryptoProvider,
    paths: &Paths,
) -> Result<CertifiedKey, SecurityError> {
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| SecurityError::content(&paths.key, format!("it holds no private key (PEM): {error}")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Tls::InconsistentKeys(_) => {
            SecurityError::NoPair { certificate: paths.certificate.clone(), key: paths.key.clone() }
        }
        Tls::InvalidCertificate(_) => SecurityError::content(&paths.certificate, error),
        other => SecurityError::content(&paths.key, other),
    })
}
