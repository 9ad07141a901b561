//! A device of a plan is loaded: its blocks, and all that its passes need.

use std::sync::Arc;

use lime_kernels::{Isa, Kernels};
use lime_plan::{
    ActivationBytes, Arithmetic, Block, Bytes, DeviceIndex, DeviceMemory, DevicePlan, DeviceSteps, MemoryModel,
    PlacedBlock, Plan, Residency, SegmentIndex,
};

use super::{
    Engine, Limits,
    fit::{computed_by_candle, counted, keeps_its_pages, same_model},
    options::EngineOptions,
    runner::{Runner, Running, on_backend},
};
use crate::{
    backend::{Backend, Candle, CandleShape, Exact, ExactShape, Uploaded, candle_device},
    engine_error::EngineError,
    layers::{Layers, Part, Shape},
    loader::LoadOptions,
    memory::{Memory, Sequences, Sizes},
    ops::ModelOps,
    residency::{Blocks, Resident, StreamRecipe},
    stream::{StreamBlock, StreamCounters, StreamOptions},
    weights::{Layouts, WeightSource, load_pinned},
};
use lime_model::{BlockLayout, ModelConfig, TensorRole};

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
        keeps_its_pages(plan, &placed)?;
        let ops = ModelOps::of(&config, plan.serving.max_context_tokens as usize)?;

        let isa = options.isa.unwrap_or_else(Isa::detect);
        let kernels = Arc::new(Kernels::new(isa, options.threads.max(1)));
        let streaming = Arc::new(StreamCounters::default());
        let loading =
            Loading { source, config: &config, plan, device: &placed, options, streaming: Arc::clone(&streaming), ops };
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
}

/// What a device loads from, and how.
struct Loading<'a> {
    source: WeightSource<'a>,
    config: &'a ModelConfig,
    plan: &'a Plan,
    device: &'a DevicePlan,
    options: EngineOptions,
    streaming: Arc<StreamCounters>,
    ops: ModelOps,
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
                ropes: &self.ops.ropes,
                positions: self.plan.serving.max_context_tokens as usize,
                kv: self.plan.kv,
                kv_bytes: MemoryModel::of(self.plan).kv(layers as u32).0,
                bytes,
                most_rows: self.plan.serving.max_rows() as usize,
            },
        )?;
        let steps = DeviceSteps::of(self.plan, self.device)?;
        let Layouts { mut pinned, streamed } = Layouts::of(config, &self.device.blocks);
        let recipe = self.recipe(&steps, &streamed, &pinned)?;
        // What may be given up lies at the arena's end, the first to go last.
        let place = |block: Block| steps.stream_steps().iter().rev().position(|step| step.block == block);
        pinned.sort_by_key(|(block, _)| place(*block).map_or(0, |place| place + 1));
        let loaded = load_pinned(&self.source, pinned, self.load_options(), progress)?;
        let blocks = Resident::new(loaded, steps, recipe, self.source.read_from())?;
        Ok(Runner::Exact(Box::new(self.running(backend, blocks, pool))))
    }

    /// What streams or may stream, in the order of a pass; `None` where nothing does.
    fn recipe(
        &self,
        steps: &DeviceSteps,
        streamed: &[(Block, BlockLayout)],
        pinned: &[(Block, BlockLayout)],
    ) -> Result<Option<StreamRecipe>, EngineError> {
        let mut blocks = Vec::new();
        for placed in &self.device.blocks {
            let of =
                |layouts: &[(Block, BlockLayout)]| layouts.iter().find(|(block, _)| *block == placed.block).cloned();
            let stepped = steps.stream_steps().iter().any(|step| step.block == placed.block);
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
            ropes: &self.ops.ropes,
            positions: self.plan.serving.max_context_tokens as usize,
            slots: self.plan.serving.max_concurrent_requests as usize,
            slot_positions: memory.pages_per_slot() as usize * lime_kernels::KV_PAGE_TOKENS,
            kv: self.plan.kv,
            scratch_bytes: (bytes.total() - bytes.residual - bytes.wire - bytes.logits).0,
        };
        let steps = DeviceSteps::of(self.plan, self.device)?;
        let (backend, caches) = Candle::new(candle.clone(), &shape)?;
        let blocks = Uploaded::load(&self.source, pinned, steps, &candle, self.load_options(), progress)?;
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
        let shape = Shape { heads, kv_heads, vocabulary, residual: self.plan.residual, ops: self.ops.clone() };
        Running { layers: Layers::new(backend, shape), memory: Memory::new(blocks, pool, &sequences, sizes) }
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
