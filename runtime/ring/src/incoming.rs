//! Connections from outside: as they come, or after a handshake in which both sides have shown who they are.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

use crate::{RingSecurity, Transport, security::Refusal};

/// How long a peer may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once; more wait in the listener's queue.
const HANDSHAKES: usize = 128;
/// A refused peer may try again and again: the log tells of one in so much time.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

/// The connections that a worker serves.
#[derive(Debug)]
pub struct Incoming(Kind);

#[derive(Debug)]
enum Kind {
    Plaintext(TcpIncoming),
    Secured(mpsc::Receiver<io::Result<Connection>>),
}

/// Connections accepted by `listener`, each set up as [`crate::server`] expects. Call it within a runtime.
pub fn incoming(listener: TcpListener, transport: &Transport) -> Incoming {
    Incoming(match transport {
        Transport::Plaintext => Kind::Plaintext(TcpIncoming::from(listener).with_nodelay(Some(true))),
        Transport::MutualTls(security) => {
            let (connections, accepted) = mpsc::channel(1);
            tokio::spawn(accept_all(listener, security.clone(), connections));
            Kind::Secured(accepted)
        }
    })
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Kind::Plaintext(incoming) => {
                Pin::new(incoming).poll_next(cx).map(|next| next.map(|stream| stream.map(Connection::Plaintext)))
            }
            Kind::Secured(accepted) => accepted.poll_recv(cx),
        }
    }
}

/// Accepts until nobody serves any more. A handshake that takes its time, or fails, holds up no other.
async fn accept_all(listener: TcpListener, security: Arc<RingSecurity>, to: mpsc::Sender<io::Result<Connection>>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    let warnings = Arc::new(Warnings::default());
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = to.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let _ = to.send(Err(error)).await;
                // Such as a want of file descriptors, which does not pass at once.
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (security, warnings, to) = (security.clone(), warnings.clone(), to.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, shake_hands(stream, &security)).await {
                Ok(Ok(stream)) => {
                    // Nobody serves any more: the connection just closes.
                    let _ = to.send(Ok(Connection::Secured(Box::new(stream)))).await;
                }
                Ok(Err(error)) => warnings.refused(peer, &error),
                Err(_) => tracing::debug!(%peer, "a handshake took too long"),
            }
            drop(place);
        });
    }
}

async fn shake_hands(stream: TcpStream, security: &RingSecurity) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    TlsAcceptor::from(security.server()).accept(stream).await
}

/// Tells of refused peers, now and then.
#[derive(Debug)]
struct Warnings {
    origin: Instant,
    /// Milliseconds after the origin from which on the next one is told of.
    next: AtomicU64,
}

impl Default for Warnings {
    fn default() -> Self {
        Self { origin: Instant::now(), next: AtomicU64::new(0) }
    }
}

impl Warnings {
    fn refused(&self, peer: SocketAddr, error: &io::Error) {
        // Closed connections are no attempt to get in: the kubelet's probes do no more than open one.
        let Some(refusal) = Refusal::of(error) else {
            tracing::debug!(%peer, %error, "a handshake was broken off");
            return;
        };
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let later = now.saturating_add(BETWEEN_WARNINGS.as_millis() as u64);
        let claim = |next: u64| (next <= now).then_some(later);
        if self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok() {
            tracing::warn!(%peer, reason = %refusal, "a connection was refused");
        } else {
            tracing::debug!(%peer, reason = %refusal, "a connection was refused");
        }
    }
}

/// A connection from outside.
#[derive(Debug)]
pub enum Connection {
    /// As it came.
    Plaintext(TcpStream),
    /// Encrypted, from a member of the ring.
    Secured(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Plaintext(stream) => stream.connect_info(),
            Self::Secured(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plaintext(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Secured(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plaintext(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plaintext(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plaintext(stream) => stream.is_write_vectored(),
            Self::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plaintext(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secured(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plaintext(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
