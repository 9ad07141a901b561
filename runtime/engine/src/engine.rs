//! One device's part of a plan: its blocks, its KV cache and the passes over them.

use std::sync::Arc;

use lime_kernels::{Isa, Kernels};
use lime_plan::{
    ActivationBytes, Arithmetic, BatchRows, Block, Bytes, DeviceIndex, DeviceMemory, DevicePlan, Dtype, Encoding,
    Ladder, MemoryModel, PlacedBlock, Plan, Residency, SegmentIndex,
};

use crate::{
    Activation, EngineError, PageKeeper, ResidencyCounters, ResidencyFigures, Sampled, Sampler, Sampling, Shortage,
    StreamCounters, Verified, WeightSource,
    backend::{Backend, Candle, CandleShape, Exact, ExactShape, Uploaded, candle_device},
    layers::{BlocksFor, Layers, Part, Shape},
    loader::LoadOptions,
    memory::{Memory, Sequences, Sizes},
    residency::{Blocks, Resident, StreamRecipe},
    steps::ModelSteps,
    stream::{StreamBlock, StreamOptions, VerifyReads},
    weights::{Layouts, load_pinned},
};
use lime_model::{BlockLayout, ModelConfig, ModelError, TensorRole};

/// How a device computes and loads. None of it changes a bit of the result of exact arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Threads that compute, the caller's included.
    pub threads: usize,
    /// The instruction set; the machine's best where none is named.
    pub isa: Option<Isa>,
    /// The GPU that candle arithmetic runs on (a build with the feature `cuda`); the CPU where none is named.
    pub gpu: Option<usize>,
    /// Reads weights no faster than this, so that one machine can play a slow disk.
    pub disk_bytes_per_second: Option<u64>,
    /// How often streamed blocks are compared with their digests.
    pub verify_reads: VerifyReads,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: 1, isa: None, gpu: None, disk_bytes_per_second: None, verify_reads: VerifyReads::EVERY_USE }
    }
}

/// One device of a plan, ready to compute. Driven from one thread.
pub struct Engine {
    runner: Runner,
    kernels: Arc<Kernels>,
    isa: Isa,
    device: DevicePlan,
    /// What is computed in each segment.
    parts: Vec<Vec<Part>>,
    limits: Limits,
    /// The block that holds the output matrix, where the head is here.
    output: Option<(Block, TensorRole)>,
    /// What the plan counts beside what is measured: activations, overhead, budget.
    memory: DeviceMemory,
    streaming: Arc<StreamCounters>,
    /// The dtype of KV entries.
    entries: Dtype,
}

struct Limits {
    hidden: usize,
    vocabulary: usize,
    most_rows: usize,
    /// Rows of logits that the plan has memory for.
    most_logits: usize,
}

/// Layers, and the memory that they run in, on one backend or another. What a backend cannot do was refused when it was loaded.
enum Runner {
    Exact(Box<Running<Exact, Resident>>),
    Candle(Box<Running<Candle, Uploaded>>),
}

struct Running<B: Backend, S> {
    layers: Layers<B>,
    memory: Memory<S, B::Kv>,
}

/// The same call on whichever backend runs.
macro_rules! on_backend {
    ($runner:expr, $it:ident => $call:expr) => {
        match $runner {
            Runner::Exact($it) => $call,
            Runner::Candle($it) => $call,
        }
    };
}

impl Engine {
    /// Loads the blocks of device `device` and allocates everything that its passes need, as the plan counts it; blocks that
    /// the plan streams begin to fill their buffer. `progress` hears how many bytes of how many are there.
    ///
    /// # Errors
    /// A plan that is for another model, or streams blocks where there is no store; weights that cannot be read;
    /// too little memory.
    pub fn load<'a>(
        source: impl Into<WeightSource<'a>>,
        plan: &Plan,
        device: DeviceIndex,
        options: EngineOptions,
        progress: &mut dyn FnMut(Bytes, Bytes),
    ) -> Result<Self, EngineError> {
        let source = source.into();
        let config = source.folder.config().encoded(plan.model.encoding);
        same_model(&source, &config, plan)?;
        let devices = plan.devices.len();
        let placed = plan.devices.get(device.0 as usize).cloned();
        let placed = placed.ok_or(EngineError::Device { device: device.0, devices })?;
        if plan.arithmetic == Arithmetic::Candle {
            computed_by_candle(&config, &placed)?;
        }
        counted(plan, &placed)?;
        let steps = ModelSteps::of(&config, plan.serving.max_context_tokens as usize)?;

        let isa = options.isa.unwrap_or_else(Isa::detect);
        let kernels = Arc::new(Kernels::new(isa, options.threads.max(1)));
        let streaming = Arc::new(StreamCounters::default());
        let loading = Loading {
            source,
            config: &config,
            plan,
            device: &placed,
            options,
            streaming: Arc::clone(&streaming),
            steps,
        };
        let bytes = MemoryModel::of(plan).activations(&placed.blocks);
        let runner = match plan.arithmetic {
            Arithmetic::Exact => loading.exact(Arc::clone(&kernels), bytes, progress)?,
            Arithmetic::Candle => loading.candle(bytes, progress)?,
        };
        let scratch = on_backend!(&runner, it => it.layers.backend.scratch_bytes());
        let activations = Bytes(scratch) + bytes.residual + bytes.wire + bytes.logits;
        Ok(Self {
            runner,
            kernels,
            isa,
            parts: parts(&placed, plan.segments),
            limits: Limits {
                hidden: plan.model.hidden as usize,
                vocabulary: plan.model.vocabulary as usize,
                most_rows: plan.serving.max_rows() as usize,
                most_logits: plan.serving.max_concurrent_requests.max(1) as usize,
            },
            output: output(plan, &placed),
            memory: DeviceMemory { activations, ..placed.memory },
            device: placed,
            streaming,
            entries: plan.kv,
        })
    }

    /// The embeddings of `tokens`, one row each.
    ///
    /// # Errors
    /// A token beyond the vocabulary, too many of them, or no embedding on this device.
    pub fn embed(&mut self, tokens: &[u32]) -> Result<Activation, EngineError> {
        let Limits { vocabulary, .. } = self.limits;
        self.check_rows(tokens.len())?;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
            return Err(EngineError::Token { token, vocabulary });
        }
        on_backend!(&mut self.runner, it => it.layers.embed(&mut it.memory.blocks, tokens))
    }

    /// Runs this device's layers of `segment` over the rows of a pass, in place.
    ///
    /// # Errors
    /// Rows that do not continue their sequences or do not fit the plan's limits or the activation. Sequences stay as they were.
    pub fn forward(
        &mut self,
        segment: SegmentIndex,
        rows: &[BatchRows],
        activation: &mut Activation,
    ) -> Result<(), EngineError> {
        let index = segment.0 as usize;
        if index >= self.parts.len() {
            return Err(EngineError::Segment { segment: segment.0, segments: self.parts.len() as u32 });
        }
        let total = rows.iter().map(|part| part.count as usize).sum();
        self.check_rows(total)?;
        self.check_activation(total, activation)?;
        let (parts, entries) = (&self.parts[index], self.entries);
        on_backend!(&mut self.runner, it => it.forward(index, parts, rows, activation, entries))
    }

    /// Says whether the pass of the next calls of [`Engine::forward`] is followed at once by one that meets the same blocks in the
    /// same visits: what is read from disk for it stays in memory for that one.
    pub fn followed(&mut self, followed: bool) {
        on_backend!(&mut self.runner, it => it.memory.blocks.set_followed(followed));
    }

    /// Logits of the rows with these indices, one row of the vocabulary's size each. The activation has been through every layer.
    ///
    /// # Errors
    /// A row that there is not, or no head on this device.
    pub fn logits(&mut self, rows: &[usize], activation: &Activation) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::with_capacity(rows.len() * self.limits.vocabulary);
        self.logits_by(self.limits.most_rows, rows, activation, |place, row| {
            logits.extend_from_slice(row);
            Ok::<_, EngineError>(place + 1)
        })?;
        Ok(logits)
    }

    /// The same, no more rows at once than the plan has memory for: `take` gets a row's place in `rows` and its logits, and says which place
    /// it wants next, above that one. What it passes over is not computed where that can be helped. The head is read once.
    ///
    /// # Errors
    /// A row that there is not, no head on this device, or what `take` fails with.
    pub fn each_logits<E: From<EngineError>>(
        &mut self,
        rows: &[usize],
        activation: &Activation,
        take: impl FnMut(usize, &mut [f32]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.logits_by(self.limits.most_logits, rows, activation, take)
    }

    fn logits_by<E: From<EngineError>>(
        &mut self,
        at_once: usize,
        rows: &[usize],
        activation: &Activation,
        take: impl FnMut(usize, &mut [f32]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let output = self.output.ok_or(EngineError::NotHere { block: Block::Head })?;
        self.check_activation(activation.rows, activation)?;
        if let Some(row) = rows.iter().copied().find(|row| *row >= activation.rows) {
            return Err(EngineError::Row { row, rows: activation.rows }.into());
        }
        on_backend!(&mut self.runner, it => it.layers.logits(&mut it.memory.blocks, output, (rows, at_once), activation, take))
    }

    /// What draws tokens from rows of logits.
    pub fn sampler(&self) -> Sampler {
        Sampler::new(Arc::clone(&self.kernels))
    }

    /// Draws a token from one row of logits.
    ///
    /// # Errors
    /// Parameters out of range, or logits that no token can be drawn from.
    pub fn sample(&self, logits: &mut [f32], sampling: &Sampling) -> Result<Sampled, ModelError> {
        crate::sample(&self.kernels, logits, sampling)
    }

    /// Forgets the sequence in `slot`.
    pub fn release(&mut self, slot: u32) {
        on_backend!(&mut self.runner, it => it.memory.release(slot));
    }

    /// Keeps full pages of the sequence in `slot`, from number `first` on, under `pages`: sequences begin behind them, also when the slot is
    /// released. They have only room that nobody else needs; what cannot be kept, or not any longer, [`Engine::take_forgotten`] tells.
    pub fn keep(&mut self, slot: u32, first: u32, pages: &[u64]) {
        on_backend!(&mut self.runner, it => it.memory.keep(slot, first, pages));
    }

    /// Keeps these pages no more.
    pub fn forget(&mut self, pages: &[u64]) {
        on_backend!(&mut self.runner, it => it.memory.forget(pages));
    }

    /// Begins the sequence in `slot` anew behind kept pages: its next rows come where they end. What it computes is what it would have
    /// computed from its start, bit for bit, if the pages are of the same tokens in the same places.
    ///
    /// # Errors
    /// Where one of them is not kept: the slot is empty then.
    pub fn begin_behind(&mut self, slot: u32, pages: &[u64]) -> Result<(), EngineError> {
        on_backend!(&mut self.runner, it => it.memory.begin_behind(slot, pages))
    }

    /// Pages that are not kept, or not any more, without anybody having said so since this was asked last.
    pub fn take_forgotten(&mut self) -> Vec<u64> {
        on_backend!(&mut self.runner, it => it.memory.take_forgotten())
    }

    /// Forgets every sequence, and every page that is kept.
    pub fn reset(&mut self) {
        on_backend!(&mut self.runner, it => it.memory.reset());
    }

    /// From now on the device does without `shortage` of its budget: blocks give way at once, and come back as passes meet them
    /// when it is over. `why` is for the log.
    ///
    /// # Errors
    /// When a buffer for streaming cannot be had; the next pass tries again.
    pub fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), EngineError> {
        on_backend!(&mut self.runner, it => it.memory.press(shortage, why))
    }

    /// The device that keeps KV pages for this one from now on, for the plan's step that hands pages over. No sequence has pages
    /// elsewhere: [`Engine::reset`] comes before.
    pub fn set_keeper(&mut self, keeper: Option<Box<dyn PageKeeper>>) {
        on_backend!(&mut self.runner, it => it.memory.set_keeper(keeper));
    }

    /// Compares the blocks in memory with the digests of the store that they came from, and reads those again that differ; what streams
    /// is read anew, from files that may be others by now. Blocks that came from a model's folder have no digests.
    ///
    /// # Errors
    /// When a block that differs cannot be read. Passes that meet it fail until another call succeeds.
    pub fn verify(&mut self) -> Result<Verified, EngineError> {
        on_backend!(&mut self.runner, it => it.memory.blocks.verify())
    }

    /// The memory that is taken now; of the KV cache, what pages in use take, where it does not come whole. Overhead and budget are
    /// the plan's.
    pub fn memory(&self) -> DeviceMemory {
        let (figures, buffers) = on_backend!(&self.runner, it => (it.memory.figures(), it.memory.buffers()));
        let ResidencyFigures { pinned, prefetch, kv, .. } = *figures;
        DeviceMemory { pinned, prefetch, kv, activations: self.memory.activations + buffers, ..self.memory }
    }

    /// What memory holds at the moment; it goes on being told.
    pub fn residency(&self) -> Arc<ResidencyCounters> {
        on_backend!(&self.runner, it => it.memory.told())
    }

    /// What streaming has done so far; it goes on counting.
    pub fn streaming(&self) -> Arc<StreamCounters> {
        Arc::clone(&self.streaming)
    }

    /// The instruction set in use.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// The device's part of the plan.
    pub const fn device(&self) -> &DevicePlan {
        &self.device
    }

    const fn check_rows(&self, rows: usize) -> Result<(), EngineError> {
        let most = self.limits.most_rows;
        if rows == 0 || rows > most { Err(EngineError::Rows { rows, most }) } else { Ok(()) }
    }

    const fn check_activation(&self, expected_rows: usize, activation: &Activation) -> Result<(), EngineError> {
        let Activation { rows, columns, .. } = *activation;
        let expected_columns = self.limits.hidden;
        if rows == expected_rows && columns == expected_columns {
            return Ok(());
        }
        Err(EngineError::Activation { rows, columns, expected_rows, expected_columns })
    }
}

impl<B: Backend, S: Blocks + BlocksFor<B>> Running<B, S> {
    /// A pass: memory admits it, layers run it, and what is stored counts when all of it is.
    fn forward(
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
        self.memory.settled();
        ran?;
        self.memory.commit(segment, rows);
        Ok(())
    }
}

/// What a device loads from, and how.
struct Loading<'a> {
    source: WeightSource<'a>,
    config: &'a ModelConfig,
    plan: &'a Plan,
    device: &'a DevicePlan,
    options: EngineOptions,
    streaming: Arc<StreamCounters>,
    steps: ModelSteps,
}

impl Loading<'_> {
    fn exact(
        &self,
        kernels: Arc<Kernels>,
        bytes: ActivationBytes,
        progress: &mut dyn FnMut(Bytes, Bytes),
    ) -> Result<Runner, EngineError> {
        if let Some(gpu) = self.options.gpu {
            return Err(EngineError::GpuExact { gpu });
        }
        let config = self.config;
        let layers = self.device.attentions() as usize;
        let (backend, pool) = Exact::new(
            kernels,
            &ExactShape {
                config,
                layers,
                rope: self.steps.rope,
                positions: self.plan.serving.max_context_tokens as usize,
                kv: self.plan.kv,
                kv_bytes: MemoryModel::of(self.plan).kv(layers as u32).0,
                bytes,
                most_rows: self.plan.serving.max_rows() as usize,
            },
        )?;
        let ladder = Ladder::of(self.plan, self.device)?;
        let Layouts { mut pinned, streamed } = Layouts::of(config, &self.device.blocks);
        let recipe = self.recipe(&ladder, &streamed, &pinned)?;
        // What may be given up lies at the arena's end, the first to go last.
        let place = |block: Block| ladder.rungs().iter().rev().position(|rung| rung.block == block);
        pinned.sort_by_key(|(block, _)| place(*block).map_or(0, |place| place + 1));
        let loaded = load_pinned(&self.source, pinned, self.load_options(), progress)?;
        let blocks = Resident::new(loaded, ladder, recipe, self.source.read_from())?;
        Ok(Runner::Exact(Box::new(self.running(backend, blocks, pool))))
    }

    /// What streams or may stream, in the order of a pass; `None` where nothing does.
    fn recipe(
        &self,
        ladder: &Ladder,
        streamed: &[(Block, BlockLayout)],
        pinned: &[(Block, BlockLayout)],
    ) -> Result<Option<StreamRecipe>, EngineError> {
        let mut blocks = Vec::new();
        for placed in &self.device.blocks {
            let of =
                |layouts: &[(Block, BlockLayout)]| layouts.iter().find(|(block, _)| *block == placed.block).cloned();
            let stepped = ladder.rungs().iter().any(|rung| rung.block == placed.block);
            let (found, streams) = match of(streamed) {
                Some(found) => (Some(found), true),
                None => (of(pinned).filter(|_| stepped), false),
            };
            if let Some((block, layout)) = found {
                blocks.push(self.stream_block(block, layout, streams)?);
            }
        }
        let Some(store) = self.source.store.as_ref().filter(|_| !blocks.is_empty()) else { return Ok(None) };
        let options = StreamOptions {
            buffer: self.device.memory.prefetch,
            uses: self.plan.micro_batches(),
            store: Arc::clone(store),
            verify: self.options.verify_reads,
            reader: Arc::clone(&self.source.reader),
            bytes_per_second: self.options.disk_bytes_per_second,
            counters: Arc::clone(&self.streaming),
        };
        Ok(Some(StreamRecipe { blocks, options }))
    }

    fn candle(&self, bytes: ActivationBytes, progress: &mut dyn FnMut(Bytes, Bytes)) -> Result<Runner, EngineError> {
        let config = self.config;
        let Layouts { pinned, .. } = Layouts::of(config, &self.device.blocks);
        let candle = candle_device(self.options.gpu)?;
        let memory = MemoryModel::of(self.plan);
        let shape = CandleShape {
            config,
            layers: self.device.attentions() as usize,
            rope: self.steps.rope,
            positions: self.plan.serving.max_context_tokens as usize,
            slots: self.plan.serving.max_concurrent_requests as usize,
            slot_positions: memory.pages_per_slot() as usize * lime_kernels::KV_PAGE_TOKENS,
            kv: self.plan.kv,
            scratch_bytes: (bytes.total() - bytes.residual - bytes.wire - bytes.logits).0,
        };
        let ladder = Ladder::of(self.plan, self.device)?;
        let (backend, caches) = Candle::new(candle.clone(), &shape)?;
        let blocks = Uploaded::load(&self.source, pinned, ladder, &candle, self.load_options(), progress)?;
        Ok(Runner::Candle(Box::new(self.running(backend, blocks, caches))))
    }

    fn running<B: Backend, S: Blocks>(&self, backend: B, blocks: S, pool: B::Kv) -> Running<B, S> {
        let (memory, layers) = (MemoryModel::of(self.plan), self.device.attentions());
        let ModelConfig { heads, kv_heads, head_dim, vocabulary, .. } = *self.config;
        let sequences = Sequences {
            slots: self.plan.serving.max_concurrent_requests as usize,
            most_positions: self.plan.serving.max_context_tokens,
            has_layers: parts(self.device, self.plan.segments).iter().map(|blocks| !blocks.is_empty()).collect(),
        };
        let sizes = Sizes {
            page: memory.page_bytes(layers),
            exchange: memory.exchange(layers),
            questions: layers * self.plan.micro_batches(),
            heads,
            head_dim,
        };
        let shape = Shape { heads, kv_heads, vocabulary, residual: self.plan.residual, steps: self.steps.clone() };
        Running { layers: Layers { backend, shape }, memory: Memory::new(blocks, pool, &sequences, sizes) }
    }

    /// A block that streams, or may later, with its file. Refuses a buffer that one that streams does not fit.
    fn stream_block(&self, block: Block, layout: BlockLayout, streams: bool) -> Result<StreamBlock, EngineError> {
        let planned = self.device.memory.prefetch;
        let from = self.source.read_from().ok_or(EngineError::NoStore { block })?;
        let file = from.locate(block, &layout)?;
        if streams && layout.bytes > planned.0 {
            return Err(EngineError::Prefetch { block, needed: Bytes(layout.bytes), planned });
        }
        Ok(StreamBlock { block, streams, segment: self.segment_of(block), layout, file })
    }

    /// The visit of a pass that meets `block`; the head has one of its own.
    fn segment_of(&self, block: Block) -> u32 {
        match block {
            Block::Embedding => 0,
            Block::Head => self.plan.segments,
            block => {
                let meets =
                    |segment: &u32| self.device.range_in(SegmentIndex(*segment)).blocks().any(|met| met == block);
                (0..self.plan.segments).find(meets).unwrap_or_default()
            }
        }
    }

    const fn load_options(&self) -> LoadOptions {
        LoadOptions { bytes_per_second: self.options.disk_bytes_per_second }
    }
}

/// What the device computes in each segment, attention with its place in the device's KV cache.
fn parts(device: &DevicePlan, segments: u32) -> Vec<Vec<Part>> {
    let mut place = 0..;
    let mut part = |block: Block| match block {
        Block::Attention(layer) => Some(Part::Attention { layer, place: place.next().unwrap_or_default() }),
        Block::Mlp(layer) => Some(Part::Mlp { layer }),
        Block::Embedding | Block::Head => None,
    };
    let segments = (0..segments).map(|segment| device.range_in(SegmentIndex(segment)));
    segments.map(|range| range.blocks().filter_map(&mut part).collect()).collect()
}

fn output(plan: &Plan, device: &DevicePlan) -> Option<(Block, TensorRole)> {
    if !device.holds(Block::Head) {
        return None;
    }
    let beside = PlacedBlock { block: Block::Embedding, residency: Residency::Pinned };
    let shared = plan.model.tied && device.blocks.contains(&beside);
    Some(if shared { (Block::Embedding, TensorRole::Embedding) } else { (Block::Head, TensorRole::Output) })
}

/// Refuses what candle's arithmetic cannot do, by name.
fn computed_by_candle(config: &ModelConfig, device: &DevicePlan) -> Result<(), EngineError> {
    if config.encoding == Encoding::Compact {
        return Err(EngineError::CompactCandle);
    }
    let streamed = device.blocks.iter().find(|placed| placed.residency == Residency::Streamed);
    if let Some(PlacedBlock { block, .. }) = streamed {
        return Err(EngineError::Streamed { block: *block });
    }
    if !device.steps.is_empty() {
        return Err(EngineError::StepsCandle { device: device.name.clone() });
    }
    Ok(())
}

/// Refuses a plan that counts less memory than would be allocated, before any of it is.
fn counted(plan: &Plan, device: &DevicePlan) -> Result<(), EngineError> {
    let needed = MemoryModel::of(plan).device(&device.blocks);
    let DeviceMemory { pinned, activations, .. } = device.memory;
    let mut kv = device.memory.kv;
    if plan.arithmetic == Arithmetic::Exact && !device.steps.is_empty() {
        kv = Ladder::of(plan, device)?.most();
    }
    if needed.pinned <= pinned && needed.kv <= kv && needed.activations <= activations {
        return Ok(());
    }
    let (device, needed, planned) = (device.name.clone(), needed.used(), pinned + kv + activations);
    Err(EngineError::Uncounted { device, needed, planned })
}

/// Refuses a plan whose sizes are not this model's.
fn same_model(source: &WeightSource<'_>, config: &ModelConfig, plan: &Plan) -> Result<(), EngineError> {
    let (planned, found) = (&plan.model, config.card(&plan.model.name));
    let differs = |what, planned: String, found: String| {
        let path = source.folder.path().to_owned();
        Err(EngineError::OtherModel { path, what, planned, found })
    };
    let ModelConfig { context, .. } = *config;
    if plan.serving.max_context_tokens as usize > context {
        return differs("the context", plan.serving.max_context_tokens.to_string(), format!("at most {context}"));
    }
    let numbers = [
        ("the number of layers", planned.layers, found.layers),
        ("the hidden size", planned.hidden, found.hidden),
        ("the intermediate size", planned.intermediate, found.intermediate),
        ("the number of heads", planned.heads, found.heads),
        ("the number of KV heads", planned.kv_heads, found.kv_heads),
        ("the head dimension", planned.head_dim, found.head_dim),
        ("the vocabulary", planned.vocabulary, found.vocabulary),
    ];
    if let Some((what, planned, found)) = numbers.into_iter().find(|(_, planned, found)| planned != found) {
        return differs(what, planned.to_string(), found.to_string());
    }
    if (planned.architecture, planned.format, planned.tied) != (found.architecture, found.format, found.tied) {
        let kind = |card: &lime_plan::ModelCard| {
            let head = if card.tied { "a tied head" } else { "a head of its own" };
            format!("{:?} in {} with {head}", card.architecture, card.format)
        };
        return differs("the kind of model", kind(planned), kind(&found));
    }
    if config.encoding == Encoding::Compact && source.store.is_none() {
        return Err(EngineError::CompactWithoutStore);
    }
    if planned.blocks != found.blocks {
        return differs("the weights' size", planned.weight_bytes().to_string(), found.weight_bytes().to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker hands its engine to the thread that computes.
    #[test]
    fn engines_can_move_between_threads() {
        fn movable<T: Send>() {}
        movable::<Engine>();
    }
}
