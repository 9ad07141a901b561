//! The asking side: the compute thread orders and waits, a task carries orders and answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lime_engine::{KeeperError, PageKeeper};
use lime_plan::KeptRows;
use lime_ring::{
    ASKER_KEY, Checksummed as _, EPOCH_KEY, KeepLimits, LinkShape, NOT_AS_SENT, RingFault, ShapedLink, Transport,
    proto::{self, FailureKind, KeepAnswer, KeepOrder, KeepPage, KeepQuestion, ProbeRequest, keep_order::Order},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{BinaryMetadataValue, MetadataValue},
};

use super::{from_wire, to_wire};
use crate::{join::reach, session::Session};

/// The keeper as the compute thread sees it.
#[derive(Debug)]
pub(crate) struct RemoteKeeper {
    name: String,
    epoch: u64,
    orders: mpsc::Sender<KeepOrder>,
    answers: mpsc::Receiver<Bytes>,
    link: Option<ShapedLink>,
}

/// The other ends, for the task that carries.
#[derive(Debug)]
pub(crate) struct Asking {
    orders: mpsc::Receiver<KeepOrder>,
    answers: mpsc::Sender<Bytes>,
}

/// A keeper for the compute thread, and what carries its orders to the device `name`.
pub(crate) fn asking(name: &str, epoch: u64, link: Option<LinkShape>) -> (RemoteKeeper, Asking) {
    let (order, orders) = mpsc::channel(1);
    let (answer, answers) = mpsc::channel(1);
    let link = link.map(ShapedLink::new);
    let keeper = RemoteKeeper { name: name.to_owned(), epoch, orders: order, answers, link };
    (keeper, Asking { orders, answers: answer })
}

impl RemoteKeeper {
    fn order(&mut self, order: Order) -> Result<Bytes, KeeperError> {
        let order = KeepOrder { epoch: self.epoch, order: Some(order), checksum: 0 }.sealed();
        if let Some(link) = &mut self.link {
            link.carry(&order);
        }
        let sent = self.orders.blocking_send(order).ok();
        sent.and_then(|()| self.answers.blocking_recv()).ok_or_else(|| KeeperError::Lost { keeper: self.name.clone() })
    }

    /// An answer of `found` bytes, where there should be `expected`.
    fn answered(&self, found: usize, expected: usize) -> KeeperError {
        KeeperError::Answer { keeper: self.name.clone(), found, expected }
    }
}

impl PageKeeper for RemoteKeeper {
    fn name(&self) -> &str {
        &self.name
    }

    fn store(&mut self, slot: u32, page: u32, bytes: &[u8]) -> Result<(), KeeperError> {
        let entries = Bytes::copy_from_slice(bytes);
        self.order(Order::Store(KeepPage { slot, page, entries })).map(drop)
    }

    fn take_back(&mut self, slot: u32, page: u32, into: &mut [u8]) -> Result<(), KeeperError> {
        let entries = self.order(Order::TakeBack(proto::KeptPage { slot, page }))?;
        if entries.len() != into.len() {
            return Err(self.answered(entries.len(), into.len()));
        }
        into.copy_from_slice(&entries);
        Ok(())
    }

    fn attend(&mut self, layer: u32, rows: &[KeptRows], queries: &[f32], state: &mut [f32]) -> Result<(), KeeperError> {
        let rows = rows.iter().copied().map(Into::into).collect();
        let answer = self.order(Order::Ask(KeepQuestion { layer, rows, queries: to_wire(queries) }))?;
        if from_wire(&answer, state) { Ok(()) } else { Err(self.answered(answer.len(), size_of_val(state))) }
    }

    fn release(&mut self, slot: u32) -> Result<(), KeeperError> {
        self.order(Order::Release(slot)).map(drop)
    }

    fn probe(&mut self, question: usize, answer: usize) -> Result<Duration, KeeperError> {
        let began = Instant::now();
        let payload = Bytes::from(vec![0; question]);
        let reply_bytes = u32::try_from(answer)
            .map_err(|_| KeeperError::Refused { what: format!("a reply of {answer} bytes is too long") })?;
        self.order(Order::Probe(ProbeRequest { payload, reply_bytes }))?;
        Ok(began.elapsed())
    }
}

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
