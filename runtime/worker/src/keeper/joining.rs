//! The asking side's stream to the keeper, from its opening to its end.

use std::sync::Arc;

use bytes::Bytes;
use lime_ring::{
    ASKER_KEY, Checksummed as _, EPOCH_KEY, KeepLimits, NOT_AS_SENT, RingFault, Transport,
    proto::{self, FailureKind, KeepAnswer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{BinaryMetadataValue, MetadataValue},
};

use super::Asking;
use crate::{join::reach, session::Session};

/// Opens the stream to the keeper, and carries orders and answers in a task of its own until the epoch ends.
pub(crate) async fn join_keeper(
    session: &Arc<Session>,
    transport: &Transport,
    asking: Asking,
) -> Result<(), RingFault> {
    let Some(keeper) = session.keeper() else { return Ok(()) };
    let channel = reach(session, transport, keeper).await?;
    let Asking { orders, answers } = asking;
    let mut request = Request::new(ReceiverStream::new(orders));
    request.metadata_mut().insert(EPOCH_KEY, MetadataValue::from(session.epoch));
    request.metadata_mut().insert_bin(ASKER_KEY, BinaryMetadataValue::from_bytes(session.name().as_bytes()));
    let limit = KeepLimits::of(&session.plan).message_bytes();
    let client = proto::keeper_client::KeeperClient::new(channel);
    let mut client = client.max_encoding_message_size(limit).max_decoding_message_size(limit);
    let fault = |status| ended(session.name(), &keeper.device, &status);
    let mut stream = client.keep(request).await.map_err(fault)?.into_inner();
    if stream.message().await.map_err(fault)?.is_none() {
        return Err(RingFault::missed(session.name(), &keeper.device, "it ended the stream of KV pages at once"));
    }
    tokio::spawn(watch(session.clone(), keeper.device.clone(), stream, answers));
    Ok(())
}

/// Why the keeper ended the stream: by what it refuses (see `keeping`), or it is missed.
fn ended(name: &str, keeper: &str, status: &Status) -> RingFault {
    let refuses = || RingFault::failed(keeper, &format!("it refuses KV pages: {}", status.message()));
    match status.code() {
        Code::InvalidArgument => refuses(),
        Code::ResourceExhausted => refuses().because(FailureKind::NoRoom),
        _ => RingFault::seen(name, keeper, status),
    }
}

/// Hands answers to the compute thread; ends the epoch when the keeper ends the stream or is no longer there.
async fn watch(session: Arc<Session>, keeper: String, mut stream: Streaming<KeepAnswer>, answers: mpsc::Sender<Bytes>) {
    let lost = loop {
        let answer = tokio::select! {
            biased;
            // With the stream the keeper hears that nobody asks any more.
            () = session.ended.cancelled() => return,
            // The engine is gone: its passes say why.
            () = answers.closed() => return,
            answer = stream.message() => answer,
        };
        match answer {
            // One order is on its way at a time, so there is room.
            Ok(Some(answer)) => {
                let Some(answer) = answer.unsealed() else { break RingFault::lost(&keeper, NOT_AS_SENT) };
                if answer.epoch != session.epoch || answers.try_send(answer.payload).is_err() {
                    break RingFault::failed(&keeper, "it answers what it was not asked about KV pages");
                }
            }
            Ok(None) => break RingFault::missed(session.name(), &keeper, "it ended the stream of KV pages"),
            Err(status) => break ended(session.name(), &keeper, &status),
        }
    };
    session.end(lost);
}
