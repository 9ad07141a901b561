//! The side of a device that keeps KV pages for others.

use std::sync::Arc;

use lime_ring::{
    Checksummed as _, NOT_AS_SENT, RingFault, asker_of, epoch_of,
    proto::{KeepAnswer, KeepOrder, keeper_server::Keeper},
    wrong_epoch,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    ending::Ending,
    keeper::{Keeping, keep},
    session::Session,
    state::Worker,
};

pub(super) struct KeeperService {
    worker: Arc<Worker>,
}

impl KeeperService {
    pub(super) const fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }
}

#[tonic::async_trait]
impl Keeper for KeeperService {
    type KeepStream = Ending<KeepAnswer>;

    async fn keep(&self, request: Request<Streaming<KeepOrder>>) -> Result<Response<Ending<KeepAnswer>>, Status> {
        let session = self.worker.live_session(epoch_of(request.metadata()))?;
        let name = asker_of(request.metadata()).unwrap_or_default();
        let Some((asker, _)) = session.plan.device(&name) else {
            return Err(Status::failed_precondition(format!("the plan has no device {name:?} that could ask")));
        };
        let (answers, stream) = mpsc::channel(2);
        // The channel is new and has room.
        let _ = answers.try_send(Ok(KeepAnswer { epoch: session.epoch, ..KeepAnswer::default() }.sealed()));
        if !session.admit_asker(asker) {
            let message = format!("device {name:?} has joined epoch {} already", session.epoch);
            return Err(Status::already_exists(message));
        }
        let keeping = keep(&self.worker, &session, asker, answers.clone())?;
        tokio::spawn(read_orders(session.clone(), name, request.into_inner(), keeping, answers));
        Ok(Response::new(Ending::new(stream, session)))
    }
}

/// Takes orders until the epoch or the stream ends. A wrong order ends the stream and not the epoch: who sent it ends that.
async fn read_orders(
    session: Arc<Session>,
    asker: String,
    mut orders: Streaming<KeepOrder>,
    keeping: Keeping,
    answers: mpsc::Sender<Result<KeepAnswer, Status>>,
) {
    loop {
        let message = tokio::select! {
            biased;
            () = session.ended.cancelled() => return,
            message = orders.message() => message,
        };
        let order = match message {
            Ok(Some(order)) => order,
            Ok(None) => return,
            Err(status) => {
                // Too long, or not to be read. Whoever is gone does not hear it.
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let Some(order) = order.unsealed() else {
            let _ = answers.send(Err(RingFault::lost(&asker, NOT_AS_SENT).status())).await;
            return;
        };
        if order.epoch != session.epoch {
            let _ = answers.send(Err(wrong_epoch(session.name(), order.epoch, session.epoch))).await;
            return;
        }
        let taken = tokio::select! {
            biased;
            () = session.ended.cancelled() => return,
            taken = keeping.send(order) => taken,
        };
        if taken.is_err() {
            return;
        }
    }
}
