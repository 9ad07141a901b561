//! The predecessor's side: frames in.

use std::sync::Arc;

use lime_ring::{
    Checksummed as _, NOT_AS_SENT, RingFault, epoch_of,
    proto::{Ack, Frame, ring_server::Ring},
    wrong_epoch,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::enqueue::{enqueue, invalid};
use crate::{command::Batch, ending::Ending, session::Session, state::Worker};

pub(super) struct RingService {
    worker: Arc<Worker>,
}

impl RingService {
    pub(super) const fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }
}

#[tonic::async_trait]
impl Ring for RingService {
    type CarryStream = Ending<Ack>;

    async fn carry(&self, request: Request<Streaming<Frame>>) -> Result<Response<Ending<Ack>>, Status> {
        let session = self.worker.live_session(epoch_of(request.metadata()))?;
        if session.plan.devices.len() == 1 {
            return Err(Status::failed_precondition("a ring of one device has no predecessor"));
        }
        if !session.admit_predecessor() {
            let message = format!("device {:?} has joined epoch {} already", session.predecessor(), session.epoch);
            return Err(Status::already_exists(message));
        }
        let (acks, stream) = mpsc::channel(2);
        // The channel is new and has room.
        let _ = acks.try_send(Ok(Ack { epoch: session.epoch, pass: 0, segment: 0 }));
        let frames = request.into_inner();
        tokio::spawn(read_frames(self.worker.clone(), session.clone(), frames, acks));
        Ok(Response::new(Ending::new(stream, session)))
    }
}

/// Takes frames until the epoch ends; whatever else ends the stream ends the epoch.
async fn read_frames(
    worker: Arc<Worker>,
    session: Arc<Session>,
    mut frames: Streaming<Frame>,
    acks: mpsc::Sender<Result<Ack, Status>>,
) {
    let fault = loop {
        let message = tokio::select! {
            biased;
            () = session.ended.cancelled() => return,
            message = frames.message() => message,
        };
        match message {
            Ok(Some(frame)) => match accept(&session, frame) {
                Ok(batch) => {
                    if !enqueue(&worker, &session, batch).await {
                        return;
                    }
                }
                Err(Refusal::Broken(fault)) => break fault,
                Err(Refusal::Wrong(status)) => {
                    let why = format!("it sent a wrong frame: {}", status.message());
                    let _ = acks.send(Err(status)).await;
                    break RingFault::failed(session.predecessor(), &why);
                }
            },
            Ok(None) => break RingFault::missed(session.name(), session.predecessor(), "it ended its stream"),
            Err(status) => break RingFault::seen(session.name(), session.predecessor(), &status),
        }
    };
    session.end(fault);
}

enum Refusal {
    Broken(RingFault),
    Wrong(Status),
}

fn accept(session: &Session, frame: Frame) -> Result<Batch, Refusal> {
    let damaged = || Refusal::Broken(RingFault::lost(session.predecessor(), NOT_AS_SENT));
    let frame = frame.unsealed().ok_or_else(damaged)?;
    if frame.epoch != session.epoch {
        let status = wrong_epoch(session.name(), frame.epoch, session.epoch);
        return Err(Refusal::Wrong(status));
    }
    if let Some(fault) = RingFault::from_frame(&frame) {
        return Err(Refusal::Broken(fault));
    }
    let rows = session.limits.check_frame(&frame).map_err(|error| Refusal::Wrong(invalid(&error)))?;
    if frame.segment == 0 && session.device.0 == 0 {
        let message = "passes begin on the first device; no frame comes to it in segment 0";
        return Err(Refusal::Wrong(Status::invalid_argument(message)));
    }
    Ok(Batch::from_frame(frame, rows))
}
