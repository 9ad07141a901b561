//! Whom to take for the server that was meant: what certificates are believed.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as Tls, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};

use crate::error::ClientError;

/// Which certificates of a server are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the authorities that this machine trusts.
    #[default]
    System,
    /// Those of the authorities in this PEM file, and the very certificates in it where they bear the server's name.
    File(PathBuf),
    /// The first certificate in this PEM file and no other, whatever its name: a server's own.
    This(PathBuf),
    /// Any: the way to the server is sure by itself, as through a cluster's API server.
    TheWay,
}

impl Trust {
    /// What connections are opened with.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, ClientError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Believed {
            anyone: *self == Self::TheWay,
            named: !matches!(self, Self::This(_)),
            authorities: None,
            known: Vec::new(),
            provider: provider.clone(),
        };
        let verifier = match self {
            Self::System => {
                let mut roots = RootCertStore::empty();
                // Certificates of a store that are no certificates are passed over: its others are what is needed.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Believed { authorities: authorities(roots, &provider), ..verifier }
            }
            Self::File(path) => {
                let known = read(path)?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(known.iter().cloned());
                Believed { authorities: authorities(roots, &provider), known, ..verifier }
            }
            Self::TheWay => verifier,
            Self::This(path) => Believed { known: read(path)?.into_iter().take(1).collect(), ..verifier },
        };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| ClientError::Address(format!("there is no TLS: {error}")))?;
        let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// None where there is no authority: then nobody is believed for one's sake.
fn authorities(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok()
}

fn read(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let fault = |why: String| ClientError::Address(format!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| fault(format!("it cannot be read: {error}")))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| fault(format!("it is no PEM file with certificates: {error}")))?;
    if found.is_empty() { Err(fault("it holds no certificate (PEM)".to_owned())) } else { Ok(found) }
}

/// Whether `error` of a handshake says that a certificate is not believed, and why.
pub(crate) fn disbelief(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Tls>()? {
        Tls::InvalidCertificate(why) => Some(match why {
            CertificateError::UnknownIssuer => "nobody that is trusted here has signed it".to_owned(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is for another name".to_owned()
            }
            other => other.to_string(),
        }),
        _ => None,
    }
}

/// Believes authorities, and certificates that are known themselves. A server's own certificate is often its own authority, and then
/// no chain leads to it.
#[derive(Debug)]
struct Believed {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    known: Vec<CertificateDer<'static>>,
    anyone: bool,
    /// Whether a known certificate must bear the server's name.
    named: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Believed {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Tls> {
        if self.anyone {
            return Ok(ServerCertVerified::assertion());
        }
        if self.known.iter().any(|known| known.as_ref() == own.as_ref()) {
            if self.named {
                verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(own, between, name, ocsp, now),
            None => Err(Tls::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Tls> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Tls> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
