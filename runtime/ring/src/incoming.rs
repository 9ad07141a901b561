//! Connections from outside: as they come, or after a handshake in which both sides have shown who they are.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{handshakes::Handshakes, security::Refusal, transport::Transport};

/// How long a peer may take for its handshake: a member's takes milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// What a client of HTTP/2 says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Until the rest of it is looked for.
const REST_OF_PREFACE: Duration = Duration::from_millis(10);
/// A refused peer may try again and again: the log tells of one in so much time.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

/// The connections that a worker serves.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<io::Result<Connection>>);

/// Connections accepted by `listener`, each set up as [`crate::server`] expects. Call it within a runtime.
pub fn incoming(listener: TcpListener, transport: &Transport) -> Incoming {
    let (connections, accepted) = mpsc::channel(1);
    tokio::spawn(accept_all(listener, transport.clone(), connections));
    Incoming(accepted)
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// The handshakes under way, each with what breaks it off.
type Guests = Arc<Mutex<Handshakes<CancellationToken>>>;

/// Accepts until nobody serves any more. A handshake that takes its time, or fails, holds up no other.
async fn accept_all(listener: TcpListener, transport: Transport, to: mpsc::Sender<io::Result<Connection>>) {
    let guests = Guests::default();
    let warnings = Arc::new(Warnings::default());
    loop {
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
        let broken_off = CancellationToken::new();
        let number = {
            let mut guests = guests.lock().unwrap_or_else(PoisonError::into_inner);
            let number = guests.number();
            if let Some(displaced) = guests.enter(number, peer.ip(), broken_off.clone()) {
                displaced.cancel();
            }
            number
        };
        let (transport, guests, warnings, to) = (transport.clone(), guests.clone(), warnings.clone(), to.clone());
        tokio::spawn(async move {
            let shaken = tokio::select! {
                shaken = timeout(HANDSHAKE, shake_hands(stream, &transport)) => shaken,
                () = broken_off.cancelled() => {
                    tracing::debug!(%peer, "a handshake was broken off: newer ones need its place");
                    return;
                }
            };
            guests.lock().unwrap_or_else(PoisonError::into_inner).leave(number);
            match shaken {
                Ok(Ok(connection)) => {
                    // Nobody serves any more: the connection just closes.
                    let _ = to.send(Ok(connection)).await;
                }
                Ok(Err(error)) => warnings.refused(peer, &error),
                Err(_) => tracing::debug!(%peer, "a handshake took too long"),
            }
        });
    }
}

async fn shake_hands(stream: TcpStream, transport: &Transport) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    match transport {
        Transport::Plaintext => {
            if let Err(stranger) = greeted(&stream).await {
                turn_away(stream).await;
                return Err(stranger);
            }
            Ok(Connection::Plaintext(stream))
        }
        Transport::MutualTls(security) => {
            let stream = TlsAcceptor::from(security.server()).accept(stream).await?;
            Ok(Connection::Secured(Box::new(stream)))
        }
    }
}

/// Waits until a client has said what it speaks; it stays to be read.
async fn greeted(stream: &TcpStream) -> io::Result<()> {
    let mut said = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut said).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if said[..length] != PREFACE[..length] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak HTTP/2"));
        }
        if length == PREFACE.len() {
            return Ok(());
        }
        // What was peeked at already counts as readable.
        sleep(REST_OF_PREFACE).await;
    }
}

/// Answers whoever speaks something else, in plain text: a client with TLS learns from it that there is none here. A connection that is closed with bytes unread is reset, and its peer would learn nothing.
async fn turn_away(mut stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const HEARD_OUT: u64 = 64 << 10;
    if stream.write_all(ANSWER).await.is_ok() && stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream.take(HEARD_OUT), &mut tokio::io::sink()).await;
    }
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
