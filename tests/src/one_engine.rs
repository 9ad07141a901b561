//! A whole model in one engine of this process: what it makes of every position of a sequence.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use lime_engine::{Engine, EngineOptions};
use lime_model::ModelFolder;
use lime_plan::{BatchRows, Bytes, DeviceIndex, Fleet, Goal, Link, Nanos, SegmentIndex};

use crate::node::node;

/// A model that sees one sequence at a time, from its start, in one pass.
pub struct OneEngine {
    engine: Engine,
    vocabulary: usize,
}

impl OneEngine {
    /// Loads the model at `path` for sequences of at most `context` tokens.
    ///
    /// # Errors
    /// When it cannot be read, planned or loaded.
    pub fn load(path: &Path, context: u32, threads: usize) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        let card = folder.card("model");
        let node = node("here", Bytes::gib(64));
        let mut goal = Goal::sporadic(&card, context);
        goal.serving.prefill_chunk_tokens = context;
        let fleet = Fleet::uniform(vec![node], Link { bandwidth: 1_000_000_000, latency: Nanos::ZERO });
        let plan = lime_planner::plan(&card, &fleet, &goal).map_err(|refusal| anyhow!("{refusal}"))?;
        ensure!(plan.segments == 1, "one device and no disk have one segment");
        let options = EngineOptions { threads, ..EngineOptions::default() };
        let engine = Engine::load(&folder, &plan, DeviceIndex(0), options, &mut |_, _| {})?;
        Ok(Self { engine, vocabulary: card.vocabulary as usize })
    }

    /// The logits of every position of `tokens`.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        let mut activation = self.engine.embed(tokens)?;
        let rows = BatchRows { slot: 0, start: 0, count: tokens.len() as u32 };
        self.engine.forward(SegmentIndex(0), &[rows], &mut activation)?;
        let wanted: Vec<usize> = (0..tokens.len()).collect();
        let logits = self.engine.logits(&wanted, &activation)?;
        Ok(logits.chunks(self.vocabulary).map(<[f32]>::to_vec).collect())
    }
}
