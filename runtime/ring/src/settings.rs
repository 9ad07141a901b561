//! Every setting of the transport, in one place: clients and servers must agree on most of them.

use std::time::Duration;

use tonic::codegen::http::{Uri, uri::Scheme};
use tonic::transport::{Endpoint, Server};
use tower::layer::util::{Identity, Stack};

use crate::{connect_error::ConnectError, transport::Transport, version::Versions};

/// Most passes on the way round a ring at once. Every queue has room for all of them, so no queue can block a worker.
pub const MAX_IN_FLIGHT: usize = 64;

/// How long a worker tries to reach its successor before it gives its epoch up.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(30);

/// Largest message of the control service: a plan, or a probe's payload, which are at most 16 MiB long.
pub const CONTROL_MESSAGE_BYTES: usize = (16 << 20) + (64 << 10);

/// Longest reply to a probe: whoever leaves replies unread costs little. Bandwidth is measured on the way there.
pub const LONGEST_PROBE_REPLY: usize = 64 << 10;

/// Epochs end here, so that there is always a next one: nobody comes near it by counting.
pub const LAST_EPOCH: u64 = 1 << 62;

/// Streams that a connection may have open at once. A member has a handful.
const STREAMS: u32 = 64;
/// Requests of a connection whose messages are read at once; streams that are open do not count.
const REQUESTS: usize = 8;

/// One activation of a large prefill chunk goes out without waiting for a window update.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Large activations in few HTTP/2 frames.
const HTTP2_FRAME: u32 = 1 << 20;

/// A killed process is noticed at once (its sockets close); pings find a dead or unplugged host. The timeout leaves room
/// for a window full of activations ahead of the ping on a slow link.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The client side of a connection to `uri` (`http://host:port`, with mutual TLS `https://host:port`; the scheme may be
/// left out).
pub(crate) fn endpoint(uri: &str, transport: &Transport) -> Result<Endpoint, ConnectError> {
    let full = if uri.contains("://") { uri.to_owned() } else { format!("{}://{uri}", transport.scheme()) };
    let invalid = |reason: String| ConnectError::Uri { uri: uri.to_owned(), reason };
    let endpoint = Endpoint::from_shared(full).map_err(|error| invalid(error.to_string()))?;
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(invalid("it names no host".to_owned()));
    }
    if let Some(objection) = transport.objection(endpoint.uri().scheme_str().unwrap_or_default()) {
        return Err(invalid(objection.to_owned()));
    }
    // The connector does the handshake. Where anybody in this program has tonic built with a TLS of its own, it insists on that for
    // https:// and knows no other; so it is told of plain text, and that what it asks for is under the true address.
    let address = endpoint.uri().clone();
    let mut plain = address.clone().into_parts();
    plain.scheme = Some(Scheme::HTTP);
    let plain = Uri::from_parts(plain).map_err(|error| invalid(error.to_string()))?;
    Ok(Endpoint::from(plain)
        .origin(address)
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// The server side of every connection.
pub fn server() -> Server<Stack<Versions, Identity>> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .max_concurrent_streams(STREAMS)
        .concurrency_limit_per_connection(REQUESTS)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .layer(Versions)
}
