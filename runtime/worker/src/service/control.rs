//! A worker's life: configuration, status, probes, draining.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use lime_plan::Bytes as Size;
use lime_ring::{
    Checksummed as _, LONGEST_PROBE_REPLY, NOT_AS_SENT, gateway_of,
    proto::{
        ConfigureProgress, ConfigureRequest, DrainReply, DrainRequest, MemoryFigures, ProbeReply, ProbeRequest,
        StatusReply, StatusRequest, StayReply, StayRequest, control_server::Control,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    assignment::Assignment, figures, pressure::of_the_plan, session::Session, state::Worker, take_up::take_up,
};

/// How long a drain waits for passes whose other devices may be slow.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct ControlService {
    worker: Arc<Worker>,
}

impl ControlService {
    pub(super) const fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }

    fn passes(&self) -> u64 {
        self.worker.counters.passes.load(Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type ConfigureStream = ReceiverStream<Result<ConfigureProgress, Status>>;

    async fn configure(&self, request: Request<ConfigureRequest>) -> Result<Response<Self::ConfigureStream>, Status> {
        let gateway = gateway_of(request.metadata());
        let request = request.into_inner().unsealed();
        let request = request.ok_or_else(|| Status::data_loss(format!("the gateway: {NOT_AS_SENT}")))?;
        let assignment = Assignment::check(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let session = self.worker.begin(Assignment { gateway, ..assignment })?;
        tracing::info!(device = session.name(), epoch = session.epoch, "configuring");
        let (progress, stream) = mpsc::channel(64);
        tokio::spawn(take_up(self.worker.clone(), session, progress));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let counters = &self.worker.counters;
        let session = self.worker.session();
        let session = session.as_deref();
        let footprint = counters.footprint();
        let lent = session.map_or(Size::ZERO, Session::lent);
        let device = session.and_then(|session| session.plan.devices.get(session.device.0 as usize));
        let residency = counters.residency().unwrap_or_default();
        let shortage = device.map_or(residency.shortage, |device| of_the_plan(residency.shortage, device));
        let memory = MemoryFigures { shortage_bytes: shortage.0, ..figures::memory(&footprint, &residency) };
        // A ring that is draining was let go.
        let holder = session.filter(|session| !session.is_draining()).map(|session| &session.holder);
        let holder = holder.and_then(|holder| Some((holder.name()?.to_owned(), holder.away())));
        let (holder, holder_away) = holder.unwrap_or_default();
        Ok(Response::new(StatusReply {
            device: session.map_or(&*self.worker.name, Session::name).to_owned(),
            epoch: session.map_or(0, |session| session.epoch),
            phase: phase(session).to_owned(),
            failure: session.and_then(Session::cause).map_or_else(String::new, |cause| cause.reason.clone()),
            stuck: self.worker.vitals.stuck().unwrap_or_default(),
            memory: Some(memory),
            stream: Some(figures::stream(&counters.streaming())),
            remote: Some(figures::remote_pages(&residency)),
            kept: Some(figures::kept(lent, &counters.kept.figures())),
            work: Some(counters.work()),
            page_disk: Some(counters.page_disk()),
            kernels: footprint.kernels,
            threads: footprint.threads,
            holder,
            holder_away_millis: u64::try_from(holder_away.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let bytes = request.into_inner().reply_bytes as usize;
        if bytes > LONGEST_PROBE_REPLY {
            let message = format!("a reply of {bytes} bytes is too long, the most is {LONGEST_PROBE_REPLY}");
            return Err(Status::invalid_argument(message));
        }
        Ok(Response::new(ProbeReply { payload: Bytes::from(vec![0; bytes]) }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let epoch = request.into_inner().epoch;
        let meant = |session: &Arc<Session>| epoch == 0 || session.epoch == epoch;
        if let Some(session) = self.worker.session().filter(meant) {
            session.drain();
            let settled = async {
                tokio::select! {
                    () = session.settled() => {}
                    () = session.ended.cancelled() => {}
                }
            };
            if timeout(DRAIN_DEADLINE, settled).await.is_err() {
                let seconds = DRAIN_DEADLINE.as_secs();
                let message = format!("passes are still on the ring after {seconds} s");
                return Err(Status::deadline_exceeded(message));
            }
        }
        Ok(Response::new(DrainReply { passes: self.passes() }))
    }

    async fn stay(&self, request: Request<StayRequest>) -> Result<Response<StayReply>, Status> {
        self.worker.live_session(Some(request.into_inner().epoch))?.stay();
        Ok(Response::new(StayReply {}))
    }
}

fn phase(session: Option<&Session>) -> &'static str {
    match session {
        None => "idle",
        Some(session) if session.is_over() => "failed",
        Some(session) if session.is_draining() => "draining",
        Some(session) if session.is_ready() => "ready",
        Some(_) => "loading",
    }
}
