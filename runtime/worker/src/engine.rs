//! The real engine behind the seam: `lime-model`, driven by what the wire brings.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lime_model::{
    Activation, BatchRows, BlockFiles, Engine, EngineError, EngineOptions, ModelFolder, PageKeeper, ResidencyCounters,
    Sampling, Shortage, StreamCounters, WeightSource,
};
use lime_planner::{Block, Bytes as Size, DeviceIndex, Dtype, Encoding, PlacedBlock, Plan, Residency, SegmentIndex};
use lime_ring::proto;
use lime_store::{Source, StoredModel};

use crate::{
    blocks::{self, Trust},
    compute::{Compute, ComputeError, Draw, Footprint, Loader, Span},
};

/// Loads from a model's folder; from the store where the plan streams, or where the model comes from a server.
pub(crate) struct EngineLoader {
    pub(crate) model: Source,
    pub(crate) store: Option<PathBuf>,
    pub(crate) options: EngineOptions,
}

impl Loader for EngineLoader {
    fn load(
        &mut self,
        plan: &Plan,
        device: DeviceIndex,
        progress: &mut dyn FnMut(Size, Size),
    ) -> Result<Box<dyn Compute>, ComputeError> {
        let local = self.model.folder().map(ModelFolder::open).transpose().map_err(|error| said(&error))?;
        let (mut repaired, mut reread) = (BTreeSet::new(), BTreeSet::new());
        let engine = loop {
            let stored = self.stored(plan, device, progress)?.map(Arc::new);
            let source = match (&stored, &local) {
                (Some(stored), _) => WeightSource::stored(stored.folder(), Arc::clone(stored) as Arc<dyn BlockFiles>),
                (None, Some(folder)) => folder.into(),
                (None, None) => return Err(self.no_store()),
            };
            match Engine::load(source, plan, device, self.options, progress) {
                // Once for each block: one that comes out wrong again has another cause.
                Err(EngineError::NotStored { block, source }) if repaired.insert(block) => {
                    tracing::warn!(%block, fault = %source, "a stored block is damaged, it is made again");
                    self.discard(block)?;
                }
                Err(fault @ EngineError::Stream { block, .. }) if reread.insert(block) => {
                    tracing::warn!(%block, %fault, "a stored block cannot be read, it is looked at again");
                    // What the load says next tells more than why this failed.
                    let _ = self
                        .look_again(block, plan.model.encoding, progress)
                        .inspect_err(|error| tracing::error!(%block, %error, "the block could not be made anew"));
                }
                engine => break engine.map_err(|error| said(&error))?,
            }
        };
        let repair = self.store.clone().map(|store| Repair {
            store,
            model: self.model.clone(),
            encoding: plan.model.encoding,
            repaired: BTreeMap::new(),
            unread: BTreeSet::new(),
        });
        Ok(Box::new(Loaded {
            engine,
            repair,
            dtype: plan.residual,
            columns: plan.model.hidden as usize,
            vocabulary: plan.model.vocabulary as usize,
            threads: self.options.threads as u32,
            batch: Activation::default(),
            parts: Vec::new(),
        }))
    }
}

impl EngineLoader {
    /// A plan that streams on this device, or has compact weights, is served from the store, in which its blocks are made first; so is
    /// a model that comes from a server.
    fn stored(
        &self,
        plan: &Plan,
        device: DeviceIndex,
        progress: &mut dyn FnMut(Size, Size),
    ) -> Result<Option<StoredModel>, ComputeError> {
        let placed = plan.devices.get(device.0 as usize).map_or(&[][..], |device| &device.blocks);
        let steps = plan.devices.get(device.0 as usize).is_some_and(|device| !device.steps.is_empty());
        let compact = plan.model.encoding == Encoding::Compact;
        let remote = self.model.folder().is_none();
        let streams = remote || compact || steps || placed.iter().any(|placed| placed.residency == Residency::Streamed);
        let Some(store) = self.store.as_ref().filter(|_| streams) else { return Ok(None) };
        blocks::ensure(store, &self.model, placed, plan.model.encoding, Trust::Headers, progress).map(Some)
    }

    /// Makes a block anew that the disk does not give, unless it does so now.
    fn look_again(
        &self,
        block: Block,
        encoding: Encoding,
        progress: &mut dyn FnMut(Size, Size),
    ) -> Result<(), ComputeError> {
        let Some(store) = &self.store else { return Ok(()) };
        blocks::ensure(store, &self.model, &[alone(block)], encoding, Trust::Nothing, progress).map(drop)
    }

    fn no_store(&self) -> ComputeError {
        ComputeError::new(format!("{} is fetched into a weight store: start the worker with --store", self.model))
    }

    /// Takes a damaged block out of the store.
    fn discard(&self, block: Block) -> Result<(), ComputeError> {
        let Some(store) = &self.store else { return Ok(()) };
        blocks::discard(store, &self.model, block)
    }
}

/// A block that comes out wrong again within this time has another cause than its file.
const UNTIL_NEXT_REPAIR: Duration = Duration::from_secs(60);

/// What it takes to make a stored block again.
struct Repair {
    store: PathBuf,
    model: Source,
    encoding: Encoding,
    /// When each block was made again.
    repaired: BTreeMap<Block, Instant>,
    /// Blocks that failed one pass because they could not be read, and were not looked at since.
    unread: BTreeSet<Block>,
}

/// A block by itself. Whether it stays in memory only matters for a tied head beside the embedding, which has no file of its own to
/// be damaged.
fn alone(block: Block) -> PlacedBlock {
    PlacedBlock { block, residency: Residency::Streamed }
}

impl Repair {
    /// A pass has failed because the disk did not give `block`. A file that is cut short or gone is made again at once. One that looks
    /// whole has a second pass, for disks that were away for a moment; then it is made anew beside what is there: sectors that
    /// cannot be read stay so until they are written.
    fn unreadable(&mut self, block: Block) {
        let wanting = blocks::is_wanting(&self.store, &self.model, block);
        if self.unread.insert(block) && !matches!(wanting, Ok(true)) {
            return;
        }
        self.unread.remove(&block);
        tracing::warn!(%block, "a stored block cannot be read, it is made anew unless it can now");
        self.make(block, Trust::Nothing);
    }

    /// Makes `block` again; the pass that met its damage has failed, the next finds it whole.
    fn repair(&mut self, block: Block, fault: &std::io::Error) {
        let now = Instant::now();
        if self.repaired.get(&block).is_some_and(|then| now.duration_since(*then) < UNTIL_NEXT_REPAIR) {
            return;
        }
        self.repaired.insert(block, now);
        tracing::warn!(%block, %fault, "a stored block is damaged, it is made again");
        match blocks::discard(&self.store, &self.model, block) {
            Ok(()) => self.make(block, Trust::Headers),
            Err(error) => tracing::error!(%block, %error, "the block could not be removed"),
        }
    }

    fn make(&self, block: Block, trust: Trust) {
        match blocks::ensure(&self.store, &self.model, &[alone(block)], self.encoding, trust, &mut |_, _| {}) {
            Ok(_) => tracing::info!(%block, "the block is whole again"),
            Err(error) => tracing::error!(%block, %error, "the block could not be made again"),
        }
    }
}

struct Loaded {
    engine: Engine,
    repair: Option<Repair>,
    dtype: Dtype,
    columns: usize,
    vocabulary: usize,
    threads: u32,
    batch: Activation,
    /// Kept from pass to pass for its memory.
    parts: Vec<BatchRows>,
}

impl Compute for Loaded {
    fn embed(&mut self, tokens: &[u32]) -> Result<(), ComputeError> {
        self.batch = self.engine.embed(tokens).map_err(|error| self.failed(&error))?;
        Ok(())
    }

    fn receive(&mut self, rows: usize, wire: &Bytes) -> Result<(), ComputeError> {
        let batch = Activation::from_wire(self.dtype, rows, self.columns, wire);
        self.batch = batch.map_err(|error| said(&error))?;
        Ok(())
    }

    fn forward(&mut self, segment: SegmentIndex, spans: &[Span]) -> Result<(), ComputeError> {
        let part = |span: &Span| BatchRows { slot: span.slot, start: span.start, count: span.count };
        self.parts.clear();
        self.parts.extend(spans.iter().map(part));
        let passed = self.engine.forward(segment, &self.parts, &mut self.batch);
        passed.map_err(|error| self.failed(&error))
    }

    fn send(&mut self) -> Result<Bytes, ComputeError> {
        Ok(Bytes::from(self.batch.to_wire(self.dtype)))
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Result<Vec<proto::Token>, ComputeError> {
        let rows: Vec<usize> = draws.iter().map(|draw| draw.row).collect();
        let mut logits = self.engine.logits(&rows, &self.batch).map_err(|error| self.failed(&error))?;
        let drawn = draws.iter().zip(logits.chunks_mut(self.vocabulary));
        drawn.map(|(draw, logits)| self.draw_one(draw, logits)).collect()
    }

    fn release(&mut self, slot: u32) {
        self.engine.release(slot);
    }

    fn reset(&mut self) {
        self.engine.reset();
    }

    fn footprint(&self) -> Footprint {
        let memory = self.engine.memory();
        let kernels = self.engine.isa().to_string();
        Footprint {
            pinned: memory.pinned,
            prefetch: memory.prefetch,
            kv: memory.kv,
            activations: memory.activations,
            kernels,
            threads: self.threads,
        }
    }

    fn streaming(&self) -> Arc<StreamCounters> {
        self.engine.streaming()
    }

    fn residency(&self) -> Option<Arc<ResidencyCounters>> {
        Some(self.engine.residency())
    }

    fn set_keeper(&mut self, keeper: Option<Box<dyn PageKeeper>>) {
        self.engine.set_keeper(keeper);
    }

    fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), ComputeError> {
        self.engine.press(shortage, why).map_err(|error| said(&error))
    }
}

impl Loaded {
    /// A pass has failed: where a stored block was damaged, that is mended before the next.
    fn failed(&mut self, error: &EngineError) -> ComputeError {
        match (error, &mut self.repair) {
            (EngineError::NotStored { block, source }, Some(repair)) => repair.repair(*block, source),
            (EngineError::Stream { block, .. }, Some(repair)) => repair.unreadable(*block),
            _ => {}
        }
        said(error)
    }

    fn draw_one(&self, draw: &Draw<'_>, logits: &mut [f32]) -> Result<proto::Token, ComputeError> {
        // Drawing uses the logits up.
        let kept = if draw.sampling.return_logits { little_endian(logits) } else { Bytes::new() };
        let sampled = self.engine.sample(logits, &sampling(draw.sampling));
        let sampled = sampled.map_err(|error| said(&error))?;
        let top = sampled.top.iter();
        let top = top.map(|one| proto::TokenLogprob { token: one.token, logprob: one.logprob });
        Ok(proto::Token {
            slot: draw.slot,
            token: sampled.token,
            logprob: sampled.logprob.unwrap_or_default(),
            top: top.collect(),
            logits: kept,
        })
    }
}

fn sampling(wire: &proto::Sampling) -> Sampling {
    Sampling {
        temperature: wire.temperature,
        // Proto's default, 0, means that nothing was asked for.
        top_p: if wire.top_p == 0.0 { 1.0 } else { wire.top_p },
        top_k: wire.top_k,
        seed: wire.seed,
        draw: wire.draw,
        logprobs: wire.logprobs,
        top_logprobs: wire.top_logprobs,
        bias: wire.bias.iter().map(|bias| (bias.token, bias.value)).collect(),
    }
}

fn little_endian(logits: &[f32]) -> Bytes {
    logits.iter().flat_map(|logit| logit.to_le_bytes()).collect::<Vec<_>>().into()
}

fn said(error: &(dyn std::error::Error + 'static)) -> ComputeError {
    ComputeError::from_error(error)
}
