//! The gateway's side: passes in, results out.

use std::sync::Arc;

use lime_ring::{
    Checksummed as _, FrameError, NOT_AS_SENT, epoch_of,
    proto::{Ack, Pass, PassResult, ResultsRequest, driver_server::Driver},
    wrong_epoch,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::enqueue::{enqueue, invalid};
use crate::{command::Batch, compute::ComputeError, ending::Ending, session::Session, state::Worker};

pub(super) struct DriverService {
    worker: Arc<Worker>,
}

impl DriverService {
    pub(super) const fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }
}

#[tonic::async_trait]
impl Driver for DriverService {
    type SubmitStream = Ending<Ack>;
    type ResultsStream = Ending<PassResult>;

    async fn submit(&self, request: Request<Streaming<Pass>>) -> Result<Response<Ending<Ack>>, Status> {
        let session = self.worker.live_session(epoch_of(request.metadata()))?;
        if session.device.0 != 0 {
            return Err(wrong_device(&session, 0, "passes begin on"));
        }
        let (acks, stream) = mpsc::channel(2);
        // The channel is new and has room.
        let _ = acks.try_send(Ok(Ack { epoch: session.epoch, pass: 0, segment: 0 }));
        let passes = request.into_inner();
        tokio::spawn(read_passes(self.worker.clone(), session.clone(), passes, acks));
        Ok(Response::new(Ending::new(stream, session).held()))
    }

    async fn results(&self, request: Request<ResultsRequest>) -> Result<Response<Ending<PassResult>>, Status> {
        let session = self.worker.live_session(Some(request.into_inner().epoch))?;
        if !session.is_head() {
            return Err(wrong_device(&session, session.plan.head.0, "results come from"));
        }
        let results = session.results.subscribe();
        Ok(Response::new(Ending::new(results, session).held()))
    }
}

fn wrong_device(session: &Session, device: u32, what: &str) -> Status {
    let right = session.peers.get(device as usize).map_or("", |peer| &peer.device);
    Status::failed_precondition(format!("{what} device {right:?}, this is {:?}", session.name()))
}

/// Takes passes until the epoch or the stream ends. A wrong pass ends the stream and not the epoch.
async fn read_passes(
    worker: Arc<Worker>,
    session: Arc<Session>,
    mut passes: Streaming<Pass>,
    acks: mpsc::Sender<Result<Ack, Status>>,
) {
    loop {
        let message = tokio::select! {
            biased;
            () = session.ended.cancelled() => return,
            message = passes.message() => message,
        };
        let Ok(Some(pass)) = message else { return };
        match accept(&session, pass) {
            Ok(batch) => {
                // A false answer means that the epoch ended: the next turn sees it.
                enqueue(&worker, &session, batch).await;
            }
            Err(status) => {
                let _ = acks.send(Err(status)).await;
                return;
            }
        }
    }
}

fn accept(session: &Session, pass: Pass) -> Result<Batch, Status> {
    let pass = pass.unsealed().ok_or_else(|| Status::data_loss(format!("the gateway: {NOT_AS_SENT}")))?;
    if pass.epoch != session.epoch {
        return Err(wrong_epoch(session.name(), pass.epoch, session.epoch));
    }
    if session.is_draining() {
        let message = format!("device {:?} is draining: it takes no new passes", session.name());
        return Err(Status::failed_precondition(message));
    }
    let checked = session.limits.check_pass(&pass);
    let refusal = match &checked {
        Ok(_) => None,
        Err(error) => {
            Some(error.refused_slot().map(|slot| refusal(session, slot, error)).ok_or_else(|| invalid(error))?)
        }
    };
    session
        .follow(pass.pass)
        .map_err(|expected| Status::invalid_argument(format!("pass {} where pass {expected} is next", pass.pass)))?;
    Ok(match refusal {
        Some(refusal) => Batch::from_refused(pass, refusal),
        None => Batch::from_pass(pass, checked.unwrap_or_default()),
    })
}

/// What a request can say ends that request, and neither the stream nor the epoch.
fn refusal(session: &Session, slot: u32, error: &FrameError) -> ComputeError {
    ComputeError::refused(slot, format!("device {:?} refuses: {error}", session.name()))
}
