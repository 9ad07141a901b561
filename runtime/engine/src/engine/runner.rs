//! Layers and the memory that they run in, on the backend that the plan's arithmetic asks for.

use lime_plan::{BatchRows, Dtype};

use crate::{
    activation::Activation,
    backend::{Backend, Candle, Exact, Uploaded},
    engine_error::EngineError,
    layers::{BlocksFor, Layers, Part},
    memory::Memory,
    residency::{Blocks, Resident},
};

/// Layers, and the memory that they run in, on one backend or another. What a backend cannot do was refused when it was loaded.
pub(super) enum Runner {
    Exact(Box<Running<Exact, Resident>>),
    Candle(Box<Running<Candle, Uploaded>>),
}

pub(super) struct Running<B: Backend, S> {
    pub(super) layers: Layers<B>,
    pub(super) memory: Memory<S, B::Kv>,
}

/// The same call on whichever backend runs.
macro_rules! on_backend {
    ($runner:expr, $it:ident => $call:expr) => {
        match $runner {
            crate::engine::runner::Runner::Exact($it) => $call,
            crate::engine::runner::Runner::Candle($it) => $call,
        }
    };
}
pub(super) use on_backend;

impl<B: Backend, S: Blocks + BlocksFor<B>> Running<B, S> {
    /// A pass: memory admits it, layers run it, and what is stored counts when all of it is.
    pub(super) fn forward(
        &mut self,
        segment: usize,
        parts: &[Part],
        rows: &[BatchRows],
        activation: &mut Activation,
        entries: Dtype,
    ) -> Result<(), EngineError> {
        let admitted = self.memory.admit(segment, rows)?;
        let ran = self.layers.forward(parts, admitted, activation);
        // A device that cannot say it has failed the pass as well.
        let saturated = self.layers.backend.take_saturated().unwrap_or(0);
        self.memory.note_saturated(saturated, entries);
        self.memory.pass_ended();
        ran?;
        self.memory.commit(segment, rows);
        Ok(())
    }
}
