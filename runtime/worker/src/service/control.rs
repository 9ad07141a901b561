//! A worker's life: configuration, status, probes, draining.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use lime_ring::{
    Checksummed as _, LONGEST_PROBE_REPLY, NOT_AS_SENT,
    proto::{
        ConfigureProgress, ConfigureRequest, DrainReply, DrainRequest, ProbeReply, ProbeRequest, StatusReply,
        StatusRequest, control_server::Control,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{assignment::Assignment, session::Session, state::Worker, take_up::take_up};

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
        let request = request.into_inner().unsealed();
        let request = request.ok_or_else(|| Status::data_loss(format!("the gateway: {NOT_AS_SENT}")))?;
        let assignment = Assignment::check(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let session = self.worker.begin(assignment)?;
        tracing::info!(device = session.name(), epoch = session.epoch, "configuring");
        let (progress, stream) = mpsc::channel(64);
        tokio::spawn(take_up(self.worker.clone(), session, progress));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let counters = &self.worker.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let session = self.worker.session();
        let session = session.as_deref();
        let footprint = counters.footprint();
        let streaming = counters.streaming();
        let residency = counters.residency().unwrap_or_default();
        let kept = counters.kept.figures();
        Ok(Response::new(StatusReply {
            device: session.map_or(&*self.worker.name, Session::name).to_owned(),
            epoch: session.map_or(0, |session| session.epoch),
            phase: phase(session).to_owned(),
            failure: session.and_then(Session::cause).map_or_else(String::new, |cause| cause.reason.clone()),
            pinned_bytes: footprint.pinned.0,
            kv_bytes: footprint.kv.0,
            passes: self.passes(),
            compute_micros: count(&counters.compute_micros),
            send_micros: count(&counters.link.send_micros),
            wait_micros: count(&counters.wait_micros),
            kernels: footprint.kernels,
            threads: footprint.threads,
            prefetch_bytes: footprint.prefetch.0,
            activation_bytes: footprint.activations.0,
            streamed_blocks: streaming.streamed_blocks,
            streamed_bytes: streaming.streamed_size,
            read_bytes: streaming.read_bytes,
            wasted_bytes: streaming.wasted_bytes,
            load_wait_micros: u64::try_from(streaming.waited.as_micros()).unwrap_or(u64::MAX),
            prefetch_hits: streaming.hits,
            prefetch_misses: streaming.misses,
            read_retries: streaming.retries,
            buffered_reads: streaming.buffered,
            kv_room_bytes: residency.kv_room.0,
            steps_in_force: residency.level,
            steps_planned: residency.steps,
            steps_taken: residency.taken,
            steps_undone: residency.undone,
            passes_refused: residency.refused,
            memory_shortage_bytes: residency.shortage.0,
            elsewhere_bytes: residency.elsewhere.0,
            elsewhere_room_bytes: residency.elsewhere_room.0,
            pages_handed_over: residency.handed_over,
            pages_brought_back: residency.brought_back,
            elsewhere_cost_micros: residency.elsewhere_costs.0 / 1000,
            elsewhere_wait_micros: residency.elsewhere_waited.0 / 1000,
            lent_bytes: session.map_or(0, |session| session.lent().0),
            kept_bytes: kept.bytes.0,
            kept_pages: kept.pages,
            kept_questions: kept.questions,
            kv_saturated: residency.saturated,
            stuck: self.worker.vitals.stuck().unwrap_or_default(),
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

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        if let Some(session) = self.worker.session() {
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
