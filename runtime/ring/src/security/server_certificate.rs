//! The certificate of a server that anybody may come to: a pair of files, and no authority of our own.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    Error as Tls, ServerConfig,
    crypto::ring,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use super::{
    credentials::{certificates, pair},
    error::SecurityError,
    files::{Contents, Paths},
    fresh::Fresh,
};

/// What a browser or a program may speak once there is a connection, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A server's certificate and key, as fresh as their files: TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1, for clients without a
/// certificate.
#[derive(Debug)]
pub struct ServerCertificate(Fresh<ServerConfig, 2>);

impl ServerCertificate {
    /// Reads the certificate, with what stands between it and an authority, and its key: PEM both.
    ///
    /// # Errors
    /// A file that is missing, is not what its name says, or does not belong to the other.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, SecurityError> {
        Fresh::open([certificate, key], config).map(Self)
    }

    /// What a connection that comes in now is met with.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}

fn config([certificate, key]: Contents<2>, paths: &Paths<2>) -> Result<ServerConfig, SecurityError> {
    let [certificate_path, key_path] = paths;
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&certificate).map_err(|why| SecurityError::content(certificate_path, why))?;
    let pair = pair(chain, &key, &provider, certificate_path, key_path)?;
    let unusable = |error: Tls| SecurityError::content(certificate_path, error);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
