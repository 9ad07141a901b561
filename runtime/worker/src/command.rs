//! What the compute thread is asked to do.

use std::sync::Arc;

use bytes::Bytes;
use lime_ring::proto::{ConfigureProgress, Frame, KeepPages, Pass, RestoredPage, Rows};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::{
    compute::{ComputeError, Mended, NamedPages},
    failure::Failure,
    pressure::watch::Press,
    session::Session,
};

/// Where progress of a load goes.
pub(crate) type ProgressSender = mpsc::Sender<Result<ConfigureProgress, Status>>;

/// A request to the compute thread. Requests are handled strictly in order.
pub(crate) enum Command {
    /// Load what the session needs, or keep what is loaded, and forget the KV cache.
    Configure { session: Arc<Session>, progress: ProgressSender, reply: oneshot::Sender<Result<Taken, ComputeError>> },
    /// The device is to leave so much of its memory to others from now on.
    Press(Press),
    /// A pass or a frame, checked.
    Run(Arc<Session>, Box<Batch>),
    /// End the thread.
    Stop,
}

/// A plan that was taken up.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) mended: Mended,
    pub(crate) pages: NamedPages,
}

/// A batch on its way, as it reaches this device.
pub(crate) struct Batch {
    pub(crate) pass: u64,
    pub(crate) micro_batch: u32,
    pub(crate) segment: u32,
    pub(crate) rows: Vec<Rows>,
    pub(crate) row_count: u32,
    pub(crate) release: Vec<u32>,
    pub(crate) keep: Vec<KeepPages>,
    pub(crate) forget: Vec<u64>,
    pub(crate) restore: Vec<RestoredPage>,
    /// Kept pages that devices on the way have forgotten.
    pub(crate) forgotten: Vec<u64>,
    pub(crate) input: Input,
    /// Why the pass has failed on its way.
    pub(crate) failure: Option<ComputeError>,
}

/// Where a batch's activations are.
pub(crate) enum Input {
    /// Not yet embedded.
    Tokens(Vec<u32>),
    /// As they came from the predecessor.
    Wire(Bytes),
    /// In the engine.
    AtHand,
}

impl Batch {
    /// A pass that begins here; it has `row_count` rows.
    pub(crate) fn from_pass(pass: Pass, row_count: u32) -> Self {
        Self {
            pass: pass.pass,
            micro_batch: 0,
            segment: 0,
            rows: pass.rows,
            row_count,
            release: pass.release,
            keep: pass.keep,
            forget: pass.forget,
            restore: pass.restore,
            forgotten: Vec::new(),
            input: Input::Tokens(pass.tokens),
            failure: None,
        }
    }

    /// A pass that is refused because of what one of its sequences asks for: it goes round the ring as one that has failed, so that its
    /// number is counted everywhere and its slots are released.
    pub(crate) fn from_refused(pass: Pass, refusal: ComputeError) -> Self {
        let pass = Pass { rows: Vec::new(), tokens: Vec::new(), ..pass };
        Self { failure: Some(refusal), ..Self::from_pass(pass, 0) }
    }

    /// A frame from the predecessor; it has `row_count` rows.
    pub(crate) fn from_frame(frame: Frame, row_count: u32) -> Self {
        let told = Failure::told(frame.failure_kind(), frame.refused_slot);
        let failure = ComputeError::told(told, frame.failure);
        let failure = (!failure.text.is_empty()).then_some(failure);
        Self {
            pass: frame.pass,
            micro_batch: frame.micro_batch,
            segment: frame.segment,
            rows: frame.rows,
            row_count,
            release: frame.release,
            keep: frame.keep,
            forget: frame.forget,
            restore: frame.restore,
            forgotten: frame.forgotten,
            input: Input::Wire(frame.activations),
            failure,
        }
    }
}
