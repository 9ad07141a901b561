//! The real engine behind the seam: `lime-model`, driven by what the wire brings.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use bytes::Bytes;
use lime_engine::{
    Activation, Engine, EngineError, EngineOptions, PageDisk, PageKeeper, ResidencyCounters, Sampled, Sampler,
    Sampling, Shortage, StreamCounters, WeightSource,
};
use lime_model::{BlockFiles, ModelError, ModelFolder};
use lime_plan::{BatchRows, Bytes as Size, DeviceIndex, Dtype, PageName, Plan, SegmentIndex};
use lime_ring::proto;
use lime_store::{Source, Store, StoredModel};

use crate::{
    blocks,
    compute::{Compute, ComputeError, Draw, Footprint, Loader, Mended, NamedPages, Scored},
    disk_counters::PageDiskCounters,
    mending::Mending,
    page_disk::StoredPages,
};

/// Loads from a model's folder; from the store where the plan streams, or where the model comes from a server.
pub(crate) struct EngineLoader {
    pub(crate) model: Source,
    pub(crate) store: Option<PathBuf>,
    pub(crate) options: EngineOptions,
    /// What KV pages may take on the disk, beside the weights in the store.
    pub(crate) page_disk: Option<Size>,
    pub(crate) pages: Arc<PageDiskCounters>,
}

impl Loader for EngineLoader {
    fn load(
        &mut self,
        plan: &Plan,
        device: DeviceIndex,
        progress: &mut dyn FnMut(Size, Size),
    ) -> Result<Box<dyn Compute>, ComputeError> {
        let local = self.model.folder().map(ModelFolder::open).transpose()?;
        let (mut repaired, mut reread) = (BTreeSet::new(), BTreeSet::new());
        let (mut engine, stored) = loop {
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
                    // It is seldom the only one, and each would take another load to be found.
                    if let Some(stored) = &stored {
                        let placed = plan.devices.get(device.0 as usize).map_or(&[][..], |device| &device.blocks);
                        let all: Vec<_> = placed.iter().map(|placed| placed.block).collect();
                        blocks::make(stored, placed, plan.model.encoding, &all, progress)?;
                    }
                }
                Err(fault @ EngineError::Stream { block, .. }) if reread.insert(block) => {
                    tracing::warn!(%block, %fault, "a stored block cannot be read, it is looked at again");
                    if let Some(stored) = &stored {
                        // What the load says next tells more than why this failed.
                        let made = blocks::make_anew(stored, block, plan.model.encoding, progress);
                        let _ = made.inspect_err(|error| tracing::error!(%block, %error, "it could not be made anew"));
                    }
                }
                engine => break (engine?, stored),
            }
        };
        engine.set_page_disk(self.page_disk(stored.clone(), plan, device));
        let placed = engine.device().blocks.clone();
        let mending = stored.map(|stored| Mending::new(stored, placed, plan.model.encoding));
        Ok(Box::new(EngineCompute {
            engine,
            mending,
            dtype: plan.residual,
            columns: plan.model.hidden as usize,
            threads: self.options.threads as u32,
            batch: Activation::default(),
            pages: self.pages.clone(),
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
        let device = plan.devices.get(device.0 as usize);
        let is_needed = self.model.folder().is_none() || device.is_some_and(|device| plan.needs_store(device));
        let Some(store) = self.store.as_ref().filter(|_| is_needed) else { return Ok(None) };
        let placed = device.map_or(&[][..], |device| &device.blocks);
        blocks::ensure(store, &self.model, placed, plan.model.encoding, progress).map(Some)
    }

    /// The disk for KV pages, where the device is to have one. One that cannot be used keeps nobody from serving.
    fn page_disk(
        &self,
        stored: Option<Arc<StoredModel>>,
        plan: &Plan,
        device: DeviceIndex,
    ) -> Option<Box<dyn PageDisk>> {
        let (limit, root) = (self.page_disk?, self.store.as_ref()?);
        let device = plan.devices.get(device.0 as usize).filter(|device| device.attentions() > 0)?;
        let open = || {
            let stored = match stored {
                Some(stored) => stored,
                // Of a model in a folder only what it is called by lies in the store.
                None => {
                    let store = Store::open(root)?;
                    Arc::new(store.model_or_last(&self.model)?.0)
                }
            };
            StoredPages::open(stored, plan, device, limit, self.pages.clone())
        };
        match open() {
            Ok(Some(pages)) => Some(Box::new(pages)),
            Ok(None) => {
                tracing::warn!(
                    device = device.name,
                    "another process has this device's KV pages on the disk: none are read or written"
                );
                None
            }
            Err(error) => {
                tracing::warn!(device = device.name, %error, "KV pages cannot be kept on the disk");
                None
            }
        }
    }

    fn no_store(&self) -> ComputeError {
        ComputeError::new(format!("{} is fetched into a weight store: start the worker with --store", self.model))
    }
}

struct EngineCompute {
    engine: Engine,
    /// Where blocks come from a weight store.
    mending: Option<Mending>,
    dtype: Dtype,
    columns: usize,
    threads: u32,
    batch: Activation,
    pages: Arc<PageDiskCounters>,
}

impl Compute for EngineCompute {
    fn embed(&mut self, tokens: &[u32]) -> Result<(), ComputeError> {
        self.used();
        self.batch = self.engine.embed(tokens).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn receive(&mut self, rows: usize, wire: &Bytes) -> Result<(), ComputeError> {
        self.batch = Activation::from_wire(self.dtype, rows, self.columns, wire)?;
        Ok(())
    }

    fn followed(&mut self, followed: bool) {
        self.engine.followed(followed);
    }

    fn forward(&mut self, segment: SegmentIndex, rows: &[BatchRows]) -> Result<(), ComputeError> {
        self.used();
        let passed = self.engine.forward(segment, rows, &mut self.batch);
        passed.map_err(|error| self.failed(error))
    }

    fn send(&mut self) -> Result<Bytes, ComputeError> {
        Ok(Bytes::from(self.batch.to_wire(self.dtype)))
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Result<Vec<proto::Token>, ComputeError> {
        // Every row that may be drawn from, with its draw and the guesses before it.
        let each = |(at, draw): (usize, &Draw<'_>)| (0..draw.rows()).map(move |held| (at, held));
        let rows: Vec<(usize, usize)> = draws.iter().enumerate().flat_map(each).collect();
        let places: Vec<usize> = rows.iter().map(|(at, held)| draws[*at].row + held).collect();
        self.used();
        let (sampler, mut tokens) = (self.engine.sampler(), Vec::with_capacity(draws.len()));
        let taken = self.engine.each_logits(&places, &self.batch, |place, logits| {
            let (at, held) = rows[place];
            let draw = &draws[at];
            let token = draw_one(&sampler, draw.slot, &draw.sampling_after(held), logits)?;
            let goes_on = draw.holds(held, token.token);
            tokens.push(token);
            // The rows of guesses after one that did not hold are of no use.
            Ok(if goes_on { place + 1 } else { place + draw.rows() - held })
        });
        match taken {
            Ok(()) => Ok(tokens),
            Err(DrawFault::Engine(error)) => Err(self.failed(error)),
            Err(DrawFault::Draw(error)) => Err(error.into()),
        }
    }

    fn score(&mut self, scored: &[Scored<'_>]) -> Result<Vec<proto::Token>, ComputeError> {
        let each = |scored: &Scored<'_>| {
            let (slot, row, top) = (scored.slot, scored.row, scored.scoring.top_logprobs);
            scored
                .scoring
                .next
                .iter()
                .enumerate()
                .map(move |(at, token)| (slot, row + at, *token, top))
                .collect::<Vec<_>>()
        };
        let asked: Vec<(u32, usize, u32, u32)> = scored.iter().flat_map(each).collect();
        let places: Vec<usize> = asked.iter().map(|(_, row, ..)| *row).collect();
        self.used();
        let (sampler, mut tokens) = (self.engine.sampler(), Vec::with_capacity(asked.len()));
        let taken = self.engine.each_logits(&places, &self.batch, |place, logits| {
            let (slot, _, token, top) = asked[place];
            tokens.push(told(slot, sampler.score(logits, token, top).map_err(DrawFault::Draw)?, Bytes::new()));
            Ok(place + 1)
        });
        match taken {
            Ok(()) => Ok(tokens),
            Err(DrawFault::Engine(error)) => Err(self.failed(error)),
            Err(DrawFault::Draw(error)) => Err(said_by_model(error)),
        }
    }

    fn pool(&mut self, rows: std::ops::Range<usize>) -> Result<Vec<i64>, ComputeError> {
        self.used();
        let rows: Vec<usize> = rows.collect();
        let pooled = self.engine.pooled(&rows, &self.batch);
        pooled.map_err(|error| self.failed(error))
    }

    fn release(&mut self, slot: u32) {
        self.engine.release(slot);
    }

    fn keep(&mut self, slot: u32, first: u32, pages: &[u64], names: &[PageName]) {
        self.engine.keep(slot, first, pages, names);
    }

    fn restore(&mut self, pages: &[(u64, PageName)]) {
        self.engine.restore(pages);
    }

    fn named_pages(&self) -> NamedPages {
        let (names, disk_room) = self.engine.named_pages();
        NamedPages { names, disk_room }
    }

    fn page_disk(&self) -> Arc<PageDiskCounters> {
        self.pages.clone()
    }

    fn forget_named(&mut self) {
        self.engine.forget_named();
    }

    fn spill(&mut self) -> bool {
        self.engine.spill()
    }

    fn forget(&mut self, pages: &[u64]) {
        self.engine.forget(pages);
    }

    fn begin_behind(&mut self, slot: u32, pages: &[u64]) -> Result<(), ComputeError> {
        Ok(self.engine.begin_behind(slot, pages)?)
    }

    fn take_forgotten(&mut self) -> Vec<u64> {
        self.engine.take_forgotten()
    }

    fn reset(&mut self) {
        self.engine.reset();
    }

    fn verify(&mut self) -> Result<Mended, ComputeError> {
        match &mut self.mending {
            Some(mending) => mending.verify(&mut self.engine),
            // Read from the model's own folder, which has no digests.
            None => Ok(Mended::default()),
        }
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
        Ok(self.engine.press(shortage, why)?)
    }
}

impl EngineCompute {
    /// Blocks are computed with.
    fn used(&mut self) {
        if let Some(mending) = &mut self.mending {
            mending.used();
        }
    }

    /// A pass has failed: where stored blocks are damaged, they are mended before the next.
    fn failed(&mut self, error: EngineError) -> ComputeError {
        let seen = self.mending.as_mut().and_then(|mending| mending.after(&error, &mut self.engine));
        let error = ComputeError::from(error);
        match seen {
            Some(failure) => error.because(failure),
            None => error,
        }
    }
}

/// Why nothing was drawn.
enum DrawFault {
    Engine(EngineError),
    Draw(ModelError),
}

impl From<EngineError> for DrawFault {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

fn draw_one(
    sampler: &Sampler,
    slot: u32,
    how: &proto::Sampling,
    logits: &mut [f32],
) -> Result<proto::Token, DrawFault> {
    // Drawing uses the logits up.
    let kept = if how.return_logits { little_endian(logits) } else { Bytes::new() };
    let sampled = sampler.sample(logits, &sampling(how, logits.len())?).map_err(DrawFault::Draw)?;
    Ok(told(slot, sampled, kept))
}

/// A token as the wire carries it.
fn told(slot: u32, sampled: Sampled, logits: Bytes) -> proto::Token {
    let top = sampled.top.iter().map(|one| proto::TokenLogprob { token: one.token, logprob: one.logprob });
    let (token, logprob) = (sampled.token, sampled.logprob.unwrap_or_default());
    proto::Token { slot, token, logprob, top: top.collect(), logits }
}

fn sampling(wire: &proto::Sampling, vocabulary: usize) -> Result<Sampling, DrawFault> {
    // Checked when it came: this is no place to find fault with it.
    let allowed = wire.allowed.as_ref().map(|allowed| allowed.read(vocabulary as u32)).transpose();
    let allowed = allowed.map_err(|found| {
        DrawFault::Draw(ModelError::Sampling { name: "allowed", expected: "tokens of the model", found: found.into() })
    })?;
    Ok(Sampling {
        temperature: wire.temperature,
        // Proto's default, 0, means that nothing was asked for.
        top_p: if wire.top_p == 0.0 { 1.0 } else { wire.top_p },
        top_k: wire.top_k,
        seed: wire.seed,
        draw: wire.draw,
        logprobs: wire.logprobs,
        top_logprobs: wire.top_logprobs,
        bias: wire.bias.iter().map(|bias| (bias.token, bias.value)).collect(),
        min_p: wire.min_p,
        repetition_penalty: if wire.repetition_penalty == 0.0 { 1.0 } else { wire.repetition_penalty },
        repeated: wire.repeated.clone(),
        allowed,
    })
}

fn little_endian(logits: &[f32]) -> Bytes {
    logits.iter().flat_map(|logit| logit.to_le_bytes()).collect::<Vec<_>>().into()
}
