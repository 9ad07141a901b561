//! How a server is reached: by TCP, or by what somebody else opens (a way through a cluster).

use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a server.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Opens connections.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Opening + Send + Sync>);

impl Dial {
    /// Opens each connection by `open`.
    pub fn new<F, C>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<C>> + Send + 'static,
        C: Connection + 'static,
    {
        Self(Arc::new(move || {
            let opening = open();
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Connection>) })
        }))
    }

    /// To `HOST:PORT`.
    pub(crate) fn tcp(authority: String) -> Self {
        Self::new(move || {
            let authority = authority.clone();
            async move {
                let stream = TcpStream::connect(&authority).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        })
    }

    /// A connection, if there is one soon.
    pub(crate) async fn open(&self) -> io::Result<Box<dyn Connection>> {
        tokio::time::timeout(PATIENCE, (self.0)()).await.map_err(io::Error::from)?
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}
