//! How the members of a ring speak to one another: in plain text, or by mutual TLS.

use std::{error::Error, io, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{io::AsyncBufReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::http::Uri;

use crate::security::{Refusal, RingSecurity, SERVER_NAME, SecurityError};

/// How the members of a ring speak to one another. All of one ring do it in the same way: an address whose scheme says
/// otherwise is refused, so nobody can talk a member into plain text.
#[derive(Clone, Debug, Default)]
pub enum Transport {
    /// Unencrypted, and anyone is let in: for one machine, or a network that is trusted.
    #[default]
    Plaintext,
    /// Encrypted, for members only.
    MutualTls(Arc<RingSecurity>),
}

impl Transport {
    /// Mutual TLS with the files in `folder`, plain text where there is none.
    ///
    /// # Errors
    /// As [`RingSecurity::open`].
    pub fn open(folder: Option<&Path>) -> Result<Self, SecurityError> {
        let security = folder.map(RingSecurity::open).transpose()?;
        Ok(security.map_or(Self::Plaintext, |security| Self::MutualTls(Arc::new(security))))
    }

    /// The scheme of its addresses.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Plaintext => "http",
            Self::MutualTls(_) => "https",
        }
    }

    /// Why an address of `scheme` is not for this transport, if it is not.
    pub(crate) fn objection(&self, scheme: &str) -> Option<&'static str> {
        if scheme == self.scheme() {
            return None;
        }
        Some(match (self, scheme) {
            (Self::Plaintext, "https") => {
                "https:// is for rings with mutual TLS; start this process with --tls, or write http://"
            }
            (Self::MutualTls(_), "http") => "this process has --tls and speaks no plain text; write https://",
            _ => "the scheme must be http:// or, with --tls, https://",
        })
    }
}

/// Opens an encrypted connection to the worker at `uri` and waits until it has let us in.
pub(crate) async fn dial(
    uri: Uri,
    security: Arc<RingSecurity>,
) -> Result<TokioIo<TlsStream<TcpStream>>, Box<dyn Error + Send + Sync>> {
    let refused =
        |error: io::Error| Refusal::of(&error).map_or_else(|| error.into(), Box::<dyn Error + Send + Sync>::from);
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let mut stream = TlsConnector::from(security.client()).connect(name, stream).await.map_err(refused)?;
    // In TLS 1.3 the server looks at our certificate after our side of the handshake is done; HTTP/2 lets it speak first, so
    // its first bytes, or its refusal, come by themselves.
    if stream.fill_buf().await.map_err(refused)?.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(TokioIo::new(stream))
}
