//! Connecting, again and again until a deadline: the other side may still be starting.

use std::time::Duration;

use lime_backoff::Backoff;
use tokio::time::{Instant, sleep};
use tower::service_fn;

use crate::{
    connect_error::ConnectError,
    innermost::innermost,
    security::Refusal,
    settings::endpoint,
    transport::{Transport, dial},
    version::Line,
};

/// The pauses of who connects to a member that may still be starting.
pub const CONNECTING: Backoff = Backoff::doubling(Duration::from_millis(20), Duration::from_millis(500));

/// Connects to `uri` at once or not at all. With mutual TLS, either side has let the other in.
///
/// # Errors
/// When the address is malformed or for another transport, nobody answers, or one side refuses the other.
pub async fn connect(transport: &Transport, uri: &str) -> Result<Line, ConnectError> {
    let endpoint = endpoint(uri, transport)?;
    let connected = match transport {
        Transport::Plaintext => endpoint.connect().await,
        Transport::MutualTls(security) => {
            let security = security.clone();
            endpoint.connect_with_connector(service_fn(move |uri| dial(uri, security.clone()))).await
        }
    };
    connected.map(Line::new).map_err(|error| match Refusal::among(&error) {
        Some(refusal) => ConnectError::Refused { uri: uri.to_owned(), reason: refusal.to_string() },
        None => ConnectError::Unreachable { uri: uri.to_owned(), reason: innermost(&error) },
    })
}

/// Connects to `uri`, trying until `deadline`: a refusal too may be over when the certificates have reached every member.
///
/// # Errors
/// As [`connect`], by the deadline.
pub async fn connect_until(transport: &Transport, uri: &str, deadline: Instant) -> Result<Line, ConnectError> {
    let mut pauses = CONNECTING.pauses();
    loop {
        match connect(transport, uri).await {
            Err(ConnectError::Unreachable { .. } | ConnectError::Refused { .. }) if Instant::now() < deadline => {
                sleep(pauses.pause()).await;
            }
            settled => return settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_half_a_second() {
        let pauses: Vec<u128> = CONNECTING.pauses().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500]);
    }

    #[tokio::test]
    async fn nobody_home_is_said_with_the_address() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}", closed.local_addr().unwrap());
        drop(closed);
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = connect_until(&Transport::Plaintext, &uri, deadline).await.unwrap_err().to_string();
        assert!(error.contains(&uri), "{error}");
        assert!(error.to_lowercase().contains("refused"), "{error}");
        for malformed in ["http://", "not a host", "https://127.0.0.1:1", "ftp://127.0.0.1:1"] {
            let refused = connect(&Transport::Plaintext, malformed).await;
            assert!(matches!(refused, Err(ConnectError::Uri { .. })), "{malformed}");
        }
    }
}
