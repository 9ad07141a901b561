//! Joining the ring: the stream to the successor, from its opening to its end.

use std::{sync::Arc, time::Duration};

use lime_ring::{
    CONNECTING, ConnectError, EPOCH_KEY, FaultKind, JOIN_DEADLINE, Line, OutgoingFrames, RingFault, Transport, connect,
    proto::{Ack, Peer, StatusRequest, control_client::ControlClient, ring_client::RingClient},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Streaming, metadata::MetadataValue};

use crate::{ending::Outbound, session::Session};

/// How long the last frame of a broken ring may take to reach the successor.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Joins the successor's stream, and watches it in a task of its own until the epoch ends.
pub(crate) async fn join(
    session: &Arc<Session>,
    transport: &Transport,
    frames: OutgoingFrames,
) -> Result<(), RingFault> {
    let Some(successor) = session.successor() else {
        return Ok(());
    };
    let channel = reach(session, transport, successor).await?;
    let mut request = Request::new(Outbound::new(frames, session.clone()));
    request.metadata_mut().insert(EPOCH_KEY, MetadataValue::from(session.epoch));
    let mut client = RingClient::new(channel).max_encoding_message_size(session.limits.frame_message_bytes());
    let fault = |status| RingFault::seen(session.name(), &successor.device, &status);
    let mut acks = client.carry(request).await.map_err(fault)?.into_inner();
    if acks.message().await.map_err(fault)?.is_none() {
        return Err(RingFault::missed(session.name(), &successor.device, "it ended the stream at once"));
    }
    tokio::spawn(watch(session.clone(), successor.device.clone(), acks));
    Ok(())
}

/// Connects to another device once it has reached this epoch: it may still be starting, or be told later.
pub(crate) async fn reach(session: &Session, transport: &Transport, peer: &Peer) -> Result<Line, RingFault> {
    let deadline = Instant::now() + JOIN_DEADLINE;
    let mut pauses = CONNECTING.pauses();
    loop {
        let problem = match ask(session.name(), transport, peer).await {
            Ok((epoch, channel)) if epoch == session.epoch => return Ok(channel),
            Ok((epoch, _)) if epoch > session.epoch => {
                return Err(RingFault::superseded(&peer.device, session.epoch, epoch));
            }
            // It answers: whatever keeps it, the way to it is well.
            Ok((epoch, _)) => {
                let why = format!("it stays at epoch {epoch}, epoch {} began", session.epoch);
                RingFault::lost(&peer.device, &why)
            }
            Err(problem) if problem.kind == FaultKind::Version => return Err(problem),
            Err(problem) => problem,
        };
        if Instant::now() >= deadline {
            return Err(problem);
        }
        sleep(pauses.pause()).await;
    }
}

/// The epoch of another device, asked by the device `own`.
async fn ask(own: &str, transport: &Transport, peer: &Peer) -> Result<(u64, Line), RingFault> {
    let channel = connect(transport, &peer.uri).await.map_err(|error| {
        let fault = match &error {
            ConnectError::Unreachable { .. } => RingFault::missed(own, &peer.device, &error.to_string()),
            // Somebody answers there, or nobody could by such an address.
            ConnectError::Refused { .. } | ConnectError::Uri { .. } => {
                RingFault::lost(&peer.device, &error.to_string())
            }
        };
        fault.caused_by(error)
    })?;
    let mut client = ControlClient::new(channel.clone());
    let reply = client.status(StatusRequest {}).await.map_err(|status| RingFault::seen(own, &peer.device, &status))?;
    Ok((reply.into_inner().epoch, channel))
}

/// Ends the epoch when the successor ends the stream or is no longer there.
async fn watch(session: Arc<Session>, successor: String, mut acks: Streaming<Ack>) {
    let lost = loop {
        tokio::select! {
            biased;
            () = session.ended.cancelled() => break None,
            ack = acks.message() => match ack {
                Ok(Some(_)) => {}
                Ok(None) => break Some(RingFault::missed(session.name(), &successor, "it ended its stream")),
                Err(status) => break Some(RingFault::seen(session.name(), &successor, &status)),
            },
        }
    };
    match lost {
        Some(fault) => session.end(fault),
        // Dropped at once, the stream would take the last frame with it.
        None => {
            let drained = async { while let Ok(Some(_)) = acks.message().await {} };
            let _ = timeout(LAST_WORD, drained).await;
        }
    }
}
