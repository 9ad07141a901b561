//! The keeping side: a thread of its own for each asking device, so that nobody waits for this device's passes.

use std::{sync::Arc, thread};

use bytes::Bytes;
use lime_engine::{EngineError, KeeperError, KeptPages};
use lime_plan::{DeviceIndex, KeptRows};
use lime_ring::{
    Checksummed as _, KeepLimits, ShapedLink,
    proto::{KeepAnswer, KeepOrder, KeepQuestion, keep_order::Order},
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{from_wire, to_wire};
use crate::{session::Session, state::Worker};

/// Where answers go, or the refusal that ends the stream.
type Answers = mpsc::Sender<Result<KeepAnswer, Status>>;

/// Orders for a thread that keeps pages. It ends, and gives their memory back, when this is dropped.
pub(crate) type Keeping = mpsc::Sender<KeepOrder>;

/// Starts the thread that keeps pages of `asker`; its answers go to `answers`.
///
/// # Errors
/// When the plan lends `asker` no room here, or there is no memory or thread.
pub(crate) fn keep(
    worker: &Worker,
    session: &Arc<Session>,
    asker: DeviceIndex,
    answers: Answers,
) -> Result<Keeping, Status> {
    let kept = KeptPages::new(&session.plan, asker, session.device, worker.kernels, worker.counters.kept.clone());
    let mut pages = kept.map_err(|error| match error {
        EngineError::Memory(_) => Status::resource_exhausted(error.to_string()),
        _ => Status::failed_precondition(error.to_string()),
    })?;
    let mut link = worker.link.map(ShapedLink::new);
    let (orders, mut queue) = mpsc::channel::<KeepOrder>(1);
    let (epoch, longest) = (session.epoch, KeepLimits::of(&session.plan).answer_bytes());
    let keeping = move || {
        while let Some(order) = queue.blocking_recv() {
            let answer =
                obey(&mut pages, order, longest).map(|payload| KeepAnswer { epoch, payload, checksum: 0 }.sealed());
            if let (Some(link), Ok(answer)) = (&mut link, &answer) {
                link.carry(answer);
            }
            let refused = answer.is_err();
            let answer = answer.map_err(|error| refusal(&error));
            if answers.blocking_send(answer).is_err() || refused {
                return;
            }
        }
    };
    let started = thread::Builder::new().name("lime-keeper".to_owned()).spawn(keeping);
    started.map_err(|error| Status::resource_exhausted(format!("no thread for KV pages: {error}")))?;
    Ok(orders)
}

/// The kind of a refusal, as the asking device reads it.
fn refusal(error: &KeeperError) -> Status {
    match error {
        KeeperError::NoRoom { .. } => Status::resource_exhausted(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}

/// Does as it is told; nothing that is asked of it makes an answer longer than `longest`.
fn obey(pages: &mut KeptPages, order: KeepOrder, longest: usize) -> Result<Bytes, KeeperError> {
    match order.order {
        Some(Order::Store(page)) => pages.store(page.slot, page.page, &page.entries).map(|()| Bytes::new()),
        Some(Order::TakeBack(page)) => pages.take_back(page.slot, page.page, Bytes::copy_from_slice),
        Some(Order::Ask(question)) => answer(pages, &question),
        Some(Order::Release(slot)) => {
            pages.release(slot);
            Ok(Bytes::new())
        }
        Some(Order::Probe(probe)) if probe.reply_bytes as usize <= longest => {
            Ok(Bytes::from(vec![0; probe.reply_bytes as usize]))
        }
        Some(Order::Probe(probe)) => Err(refused(format!("a reply of {} bytes is too long", probe.reply_bytes))),
        None => Err(refused("an order that this build does not know".to_owned())),
    }
}

const fn refused(what: String) -> KeeperError {
    KeeperError::Refused { what }
}

fn answer(pages: &KeptPages, question: &KeepQuestion) -> Result<Bytes, KeeperError> {
    let rows: Vec<KeptRows> = question.rows.iter().copied().map(Into::into).collect();
    let mut queries = vec![0.0; question.queries.len() / size_of::<f32>()];
    if !from_wire(&question.queries, &mut queries) {
        return Err(refused(format!("{} bytes of queries", question.queries.len())));
    }
    pages.attend(question.layer, &rows, &queries).map(|state| to_wire(&state))
}
