//! From the bytes of the files to what a handshake needs, for either side.

use std::{path::Path, sync::Arc};

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
    error::SecurityError,
    files::{Contents, Paths},
};

/// What HTTP/2 is called in a handshake.
const HTTP2: &[u8] = b"h2";

/// One set of files, ready for use.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

impl Credentials {
    pub(super) fn of([authority, certificate, key]: Contents<3>, paths: &Paths<3>) -> Result<Self, SecurityError> {
        let [authority_path, certificate_path, key_path] = paths;
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&authority).map_err(|why| SecurityError::content(authority_path, why))? {
            roots.add(certificate).map_err(|error| SecurityError::content(authority_path, error))?;
        }
        let roots = Arc::new(roots);
        let members = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| SecurityError::content(authority_path, error))?;
        let chain = certificates(&certificate).map_err(|why| SecurityError::content(certificate_path, why))?;
        if let Some(trouble) = check_chain(members.as_ref(), &chain, paths)? {
            tracing::warn!("the certificate in {} {trouble}; peers will refuse it", certificate_path.display());
        }
        let pair = Arc::new(SingleCertAndKey::from(pair(chain, &key, &provider, certificate_path, key_path)?));

        // Both fail only for a provider without the suites of TLS 1.3.
        let unusable = |error: Tls| SecurityError::content(certificate_path, error);
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
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
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

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
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
    [authority, certificate, _]: &Paths<3>,
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
            Err(SecurityError::content(certificate, "its certificate cannot be decoded"))
        }
        Err(error) => Err(SecurityError::Foreign {
            certificate: certificate.clone(),
            authority: authority.clone(),
            reason: error.to_string(),
        }),
    }
}

pub(super) fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
    provider: &CryptoProvider,
    certificate_path: &Path,
    key_path: &Path,
) -> Result<CertifiedKey, SecurityError> {
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| SecurityError::content(key_path, format!("it holds no private key (PEM): {error}")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Tls::InconsistentKeys(_) => {
            SecurityError::NoPair { certificate: certificate_path.to_owned(), key: key_path.to_owned() }
        }
        Tls::InvalidCertificate(_) => SecurityError::content(certificate_path, error),
        other => SecurityError::content(key_path, other),
    })
}
