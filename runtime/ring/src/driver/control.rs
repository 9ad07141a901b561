//! Questions to a single worker.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::DriverError;
use crate::{
    connect,
    proto::{DrainRequest, Peer, ProbeRequest, StatusReply, StatusRequest, StayRequest, control_client::ControlClient},
    settings::CONTROL_MESSAGE_BYTES,
    transport::Transport,
    version::Line,
};

async fn client(transport: &Transport, peer: &Peer) -> Result<ControlClient<Line>, DriverError> {
    let unreachable = |source| DriverError::Unreachable { device: peer.device.clone(), source };
    let channel = connect(transport, &peer.uri).await.map_err(unreachable)?;
    Ok(ControlClient::new(channel)
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES))
}

/// How a worker is.
///
/// # Errors
/// When it does not answer.
pub async fn status(transport: &Transport, peer: &Peer) -> Result<StatusReply, DriverError> {
    let reply = client(transport, peer).await?.status(StatusRequest {}).await;
    reply.map(tonic::Response::into_inner).map_err(|s| DriverError::from_status(&peer.device, &s))
}

/// Finishes a worker's passes in hand; it then refuses new ones, and has no gateway any more. Gives the number of passes that it has
/// finished. Where an `epoch` is named, a worker that is at another one goes on.
///
/// # Errors
/// When it does not answer.
pub async fn drain(transport: &Transport, peer: &Peer, epoch: Option<u64>) -> Result<u64, DriverError> {
    let request = DrainRequest { epoch: epoch.unwrap_or_default() };
    let reply = client(transport, peer).await?.drain(request).await;
    reply.map(|r| r.into_inner().passes).map_err(|s| DriverError::from_status(&peer.device, &s))
}

/// Tells a worker that the gateway of its `epoch` leaves when its answers have ended: it stays until then.
///
/// # Errors
/// When it does not answer, or is at another epoch.
pub async fn stay(transport: &Transport, peer: &Peer, epoch: u64) -> Result<(), DriverError> {
    let reply = client(transport, peer).await?.stay(StayRequest { epoch }).await;
    reply.map(|_| ()).map_err(|status| DriverError::from_status(&peer.device, &status))
}

/// Round trips with `payload` out and `reply_bytes` back, on one warm connection.
///
/// # Errors
/// When it does not answer or refuses the size.
pub async fn probe(
    transport: &Transport,
    peer: &Peer,
    payload: Bytes,
    reply_bytes: u32,
    rounds: usize,
) -> Result<Vec<Duration>, DriverError> {
    let mut client = client(transport, peer).await?;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        let request = ProbeRequest { payload: payload.clone(), reply_bytes };
        let reply = client.probe(request).await;
        reply.map_err(|status| DriverError::from_status(&peer.device, &status))?;
        took.push(begin.elapsed());
    }
    Ok(took)
}
