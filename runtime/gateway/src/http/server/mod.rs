//! Connections: accepting, limits, and a stop that lets answers end.
//!
//! One rule decides how long a connection may stay, whatever it speaks: see [`connections`]. Nothing here waits for a client
//! without a limit, and no number of clients takes the files that the ring needs.

mod body;
mod connections;
mod open_files;
mod secure;
mod seldom;

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, Response, body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use lime_ring::ServerCertificate;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    metrics::{Connected, Metrics},
    options::Options,
};
use body::Counted;
pub(crate) use connections::Traffic;
use connections::{Connection, Connections, Limits, Place};
pub(crate) use open_files::raise_open_files;
use secure::Stream;
use seldom::Seldom;

/// How long connections may take to end once their answers have.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// When the system has no more file handles, some time may help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a request's head, and of an answer that waits to be written.
const HEAD_BYTES: usize = 64 << 10;
/// Bytes that an HTTP/2 client may send before they are read.
const WINDOW_BYTES: u32 = 64 << 10;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 100;
/// Requests that an HTTP/2 client may take back before they are looked at, or have refused; more are an attack.
const RESETS: usize = 20;
const REFUSED_RESETS: usize = 256;

/// Serves until `stop`, then waits for the answers under way.
pub(crate) async fn serve(
    listener: TcpListener,
    certificate: Option<Arc<ServerCertificate>>,
    router: Router,
    options: Options,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let builder = Arc::new(builder(options.header_timeout));
    let limits = Limits::of(&options);
    let most = options.max_connections.unwrap_or_else(open_files::connections);
    let mut connections = Connections::new(most);
    let (mut full, mut faulty) = (Seldom::default(), Seldom::default());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(times) = faulty.now() {
                    tracing::warn!(%error, times, "connections could not be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match connections.place().await {
            Place::Free(connection) => connection,
            Place::Cleared(connection) => {
                if let Some(times) = full.now() {
                    tracing::warn!(
                        most,
                        times,
                        "as many connections as there may be: idle ones are closed for new ones"
                    );
                }
                connection
            }
            Place::None => {
                if let Some(times) = full.now() {
                    tracing::warn!(
                        most,
                        times,
                        "as many connections as there may be, and none is idle: new ones are closed"
                    );
                }
                continue;
            }
        };
        // Tokens are small; none should wait for another.
        let _ = stream.set_nodelay(true);
        let opening = secure::open(stream, certificate.as_ref().map(|certificate| certificate.server()));
        let talk = converse(opening, builder.clone(), router.clone(), place, limits, stop.clone(), metrics.connected());
        tasks.spawn(talk);
    }
    drop(listener);
    tasks.close();
    if timeout(LAST_WORDS, tasks.wait()).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

fn builder(keep_alive: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // How long heads may take is this module's own to say: hyper's timers begin with the first byte, or not at all.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(keep_alive))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(HEAD_BYTES)
        // h2 derives from it how many CONTINUATION frames a head may have.
        .max_header_list_size(HEAD_BYTES as u32 / 4)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(REFUSED_RESETS);
    builder
}

/// One connection from its first byte to its end.
async fn converse(
    opening: impl Future<Output = io::Result<Stream>>,
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    connection: Connection,
    limits: Limits,
    stop: CancellationToken,
    // Dropped before the place is free.
    _counted: Connected,
) {
    let traffic = connection.traffic();
    let opened = tokio::select! {
        opened = opening => opened,
        () = stop.cancelled() => return,
        () = connection.unwanted() => return,
        // A connection is silent until its first request, whatever it says in a handshake.
        _ = traffic.overdue(limits) => return,
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a connection was not secured"),
    };
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        let request_under_way = traffic.begin();
        request.extensions_mut().insert(traffic.clone());
        let answer = router.call(request.map(Body::new));
        async move {
            let answer: Response<Body> = answer.await?;
            Ok::<_, std::convert::Infallible>(answer.map(|body| Counted::new(body, request_under_way)))
        }
    });
    let mut talk = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = talk.as_mut() => ended,
        () = stop.cancelled() => {
            talk.as_mut().graceful_shutdown();
            talk.await
        }
        () = connection.unwanted() => return,
        why = traffic.overdue(limits) => {
            tracing::debug!(?why, "a connection is closed");
            talk.as_mut().graceful_shutdown();
            // A client that is told that the connection ends needs no longer than to hear it.
            timeout(LAST_WORDS, talk).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection ended early");
    }
}
