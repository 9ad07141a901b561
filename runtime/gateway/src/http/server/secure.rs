//! Connections with TLS, where the server has a certificate.

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::either::Either;

/// A connection, with TLS or without.
pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// The connection, once it is as secure as it is to be. A server with a certificate answers nobody who does not speak TLS.
pub(super) async fn open(stream: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<Stream> {
    match config {
        None => Ok(Either::Left(stream)),
        Some(config) => TlsAcceptor::from(config).accept(stream).await.map(Either::Right),
    }
}
