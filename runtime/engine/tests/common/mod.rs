//! Models, plans and a ring without wires, for the tests of this folder.
#![allow(dead_code, reason = "each test program uses its own part")]

mod made_gguf;

use std::{collections::BTreeMap, fs, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use lime_engine::{Activation, Engine, EngineOptions, WeightSource};
use lime_kernels::Isa;
use lime_model::{BlockFile, BlockFiles, BlockLayout, ModelFolder};
use lime_plan::{
    Arithmetic, BatchRows, Block, BlockRange, Bytes, DeviceIndex, DeviceMemory, DevicePlan, Dtype, Hop, MemoryModel,
    Nanos, PLAN_VERSION, PlacedBlock, Plan, PlanDraft, Relief, Residency, SegmentIndex, ServingLimits, Stage, Step,
};

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// GGUF models of random weights: in one format each, and with another for every tensor.
pub(crate) const QUANTIZED: [&str; 3] = ["gguf-q8_0", "gguf-q4_k", "gguf-mixed"];

/// A model of the repository, or one of [`QUANTIZED`].
pub(crate) fn bundled(name: &str) -> ModelFolder {
    if let Some(name) = name.strip_suffix(".gguf") {
        let file = repository().join("tests/fixtures/gguf").join(format!("{name}.gguf"));
        return ModelFolder::open(file).unwrap();
    }
    if let Some(kind) = name.strip_prefix("gguf-") {
        return ModelFolder::open(made_gguf::file(kind)).unwrap();
    }
    ModelFolder::open(repository().join("tests/fixtures/models").join(name)).unwrap()
}

/// A model that only some checkouts have beside them; says so where it is missing.
pub(crate) fn shared(name: &str) -> Option<ModelFolder> {
    let path = repository().join("../shared/models").join(name);
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(ModelFolder::open(path).unwrap())
}

pub(crate) const TINY: [&str; 6] = [
    "tiny-llama3-bf16",
    "tiny-llama-yarn-f16",
    "tiny-llama-linear-f32",
    "tiny-mistral-bf16",
    "tiny-qwen2-bf16",
    "tiny-qwen3-bf16",
];

/// Families that are Llama by another name, by other names of tensors, by another order of rows, by factors here and there, or without
/// rotation in some layers.
pub(crate) const OTHER_NAMES: [&str; 8] = [
    "tiny-seed-oss-bf16",
    "tiny-ministral3-bf16",
    "tiny-internlm3-bf16",
    "tiny-exaone-bf16",
    "tiny-phi3-bf16",
    "tiny-ernie4-5-bf16",
    "tiny-granite-bf16",
    "tiny-smollm3-bf16",
];

/// Families whose layers have windows, caps, norms behind their projections, or more than one rope.
pub(crate) const UNLIKE: [&str; 7] = [
    "tiny-mistral-window-bf16",
    "tiny-ministral-bf16",
    "tiny-olmo2-bf16",
    "tiny-olmo3-bf16",
    "tiny-gemma2-bf16",
    "tiny-gemma3-bf16",
    "tiny-phi4-mini-bf16",
];

/// Families of which each row chooses among experts.
pub(crate) const MIXTURES: [&str; 6] = [
    "tiny-qwen2-moe-bf16",
    "tiny-qwen3-moe-bf16",
    "tiny-olmoe-bf16",
    "tiny-mixtral-bf16",
    "tiny-granite-moe-bf16",
    "tiny-granite-moe-shared-bf16",
];

/// What a test wants of a plan.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) devices: u32,
    pub(crate) segments: u32,
    pub(crate) head: u32,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) kv: Dtype,
    pub(crate) residual: Dtype,
    pub(crate) serving: ServingLimits,
    /// Attention and MLP of a layer may be on two devices.
    pub(crate) cut_layers: bool,
}

impl Wish {
    /// One device, exact, everything in f32, the model's whole context in one chunk.
    pub(crate) fn golden(folder: &ModelFolder) -> Self {
        let context = folder.config().context as u32;
        let serving =
            ServingLimits { max_context_tokens: context, max_concurrent_requests: 1, prefill_chunk_tokens: context };
        let (kv, residual) = (Dtype::F32, Dtype::F32);
        Self {
            devices: 1,
            segments: 1,
            head: 0,
            arithmetic: Arithmetic::Exact,
            kv,
            residual,
            serving,
            cut_layers: false,
        }
    }

    pub(crate) fn plan(&self, folder: &ModelFolder) -> Plan {
        let card = folder.card("test");
        let parts = self.devices * self.segments;
        // Blocks of layers, from the first one's attention, in whole layers where nothing else is asked for.
        let each = if self.cut_layers { 1 } else { 2 };
        let cut = |part: u32| 1 + part * (2 * card.layers / each) / parts * each;
        let devices = (0..self.devices).map(|device| {
            let part = |segment| segment * self.devices + device;
            let range = |segment| BlockRange::new(cut(part(segment)), cut(part(segment) + 1));
            let ranges = (0..self.segments).map(range).collect();
            DevicePlan {
                name: format!("d{device}"),
                ranges,
                blocks: vec![],
                memory: DeviceMemory::default(),
                steps: vec![],
            }
        });
        let mut plan = PlanDraft {
            version: PLAN_VERSION,
            input_hash: String::new(),
            arithmetic: self.arithmetic,
            residual: self.residual,
            kv: self.kv,
            serving: self.serving,
            segments: self.segments,
            devices: devices.collect(),
            head: DeviceIndex(self.head),
            outlook: None,
            model: card,
        };
        for index in 0..plan.devices.len() {
            let place = |block: Block| PlacedBlock { block, residency: Residency::Pinned };
            let blocks: Vec<_> = plan.expected_blocks(DeviceIndex(index as u32)).into_iter().map(place).collect();
            let memory = MemoryModel::of(&plan).device(&blocks);
            plan.devices[index].memory = DeviceMemory { budget: memory.used(), ..memory };
            plan.devices[index].blocks = blocks;
        }
        plan.try_into().unwrap()
    }
}

/// Every block of a folder in a file of its own, behind a page of something else.
pub(crate) struct WrittenBlocks {
    dir: tempfile::TempDir,
    sizes: BTreeMap<Block, u64>,
}

impl WrittenBlocks {
    pub(crate) fn write(folder: &ModelFolder) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut sizes = BTreeMap::new();
        for block in folder.card("test").all_blocks() {
            let layout = BlockLayout::of(folder.config(), block);
            let mut bytes = vec![0; (4096 + layout.bytes) as usize];
            for tensor in folder.tensors(block).unwrap() {
                let Some(entry) = layout.entry(tensor.role) else { continue };
                let into = &mut bytes[(4096 + entry.offset) as usize..][..entry.bytes as usize];
                let file = fs::File::open(&tensor.file).unwrap();
                for run in tensor.runs() {
                    let into = &mut into[run.at as usize..][..run.bytes as usize];
                    file.read_exact_at(into, run.from).unwrap();
                }
            }
            fs::write(dir.path().join(block.to_string()), bytes).unwrap();
            sizes.insert(block, layout.bytes);
        }
        Arc::new(Self { dir, sizes })
    }
}

impl BlockFiles for WrittenBlocks {
    fn locate(&self, block: Block, layout: &BlockLayout) -> io::Result<BlockFile> {
        let bytes = *self.sizes.get(&block).ok_or(io::ErrorKind::NotFound)?;
        assert!(layout.bytes <= bytes);
        Ok(BlockFile { path: self.dir.path().join(block.to_string()), offset: 4096, bytes })
    }
}

/// The plan with `streams` blocks streamed, through a buffer of the largest of them and a share of the others.
pub(crate) fn streamed(plan: Plan, streams: impl Fn(Block) -> bool, share: f64) -> Plan {
    let mut plan = plan.into_draft();
    let card = plan.model.clone();
    for device in &mut plan.devices {
        for placed in device.blocks.iter_mut().filter(|placed| streams(placed.block)) {
            placed.residency = Residency::Streamed;
        }
    }
    for index in 0..plan.devices.len() {
        let blocks = plan.devices[index].blocks.clone();
        let streamed = blocks.iter().filter(|placed| placed.residency == Residency::Streamed);
        let sizes: Vec<u64> = streamed.map(|placed| card.block_bytes(placed.block).0).collect();
        let (largest, sum) = (sizes.iter().max().copied().unwrap_or(0), sizes.iter().sum::<u64>());
        let prefetch = Bytes(largest + ((sum - largest) as f64 * share) as u64);
        let memory = DeviceMemory { prefetch, ..MemoryModel::of(&plan).device(&blocks) };
        plan.devices[index].memory = DeviceMemory { budget: memory.used(), ..memory };
    }
    plan.try_into().unwrap()
}

/// Every device of a plan in this process, the activation encoded and decoded at every hop.
pub(crate) struct Ring {
    pub(crate) plan: Plan,
    pub(crate) engines: Vec<Engine>,
}

impl Ring {
    pub(crate) fn load<'a>(source: impl Into<WeightSource<'a>>, plan: Plan, options: EngineOptions) -> Self {
        let source = source.into();
        let load = |index| {
            let mut last = (Bytes::ZERO, Bytes::ZERO);
            let mut progress = |loaded, total| last = (loaded, total);
            let engine = Engine::load(source.clone(), &plan, DeviceIndex(index), options, &mut progress).unwrap();
            assert_eq!(last.0, last.1, "all bytes are reported");
            engine
        };
        let engines = (0..plan.devices.len() as u32).map(load).collect();
        Self { plan, engines }
    }

    pub(crate) fn plain(folder: &ModelFolder, wish: Wish, threads: usize) -> Self {
        Self::load(folder, wish.plan(folder), EngineOptions { threads, ..EngineOptions::default() })
    }

    /// Runs a pass as workers do. Returns the logits of `wanted` rows.
    pub(crate) fn pass(&mut self, parts: &[BatchRows], tokens: &[u32], wanted: &[usize]) -> Vec<f32> {
        let (residual, devices) = (self.plan.residual, self.engines.len() as u32);
        let mut activation = self.engines[0].embed(tokens).unwrap();
        let (mut device, mut segment) = (DeviceIndex(0), SegmentIndex(0));
        loop {
            let engine = &mut self.engines[device.0 as usize];
            match self.plan.stage(device, segment) {
                Stage::Blocks(segment) => engine.forward(segment, parts, &mut activation).unwrap(),
                Stage::Head => return engine.logits(wanted, &activation).unwrap(),
                Stage::Forward => {}
            }
            match self.plan.hop(device, segment) {
                Hop::HeadHere => return self.engines[device.0 as usize].logits(wanted, &activation).unwrap(),
                Hop::Successor(next) => segment = next,
            }
            device = DeviceIndex((device.0 + 1) % devices);
            let bytes = activation.to_wire(residual);
            activation = Activation::from_wire(residual, activation.rows(), activation.columns(), &bytes).unwrap();
        }
    }

    /// Logits of the last position of `tokens`, given in chunks to `slot`, from position `start` on.
    pub(crate) fn feed(&mut self, slot: u32, start: u32, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let (mut start, mut logits) = (start, vec![]);
        for tokens in tokens.chunks(chunk) {
            let count = tokens.len() as u32;
            logits = self.pass(&[BatchRows { slot, start, count }], tokens, &[tokens.len() - 1]);
            start += count;
        }
        logits
    }

    /// First-step logits and `count` greedy tokens after a prompt.
    pub(crate) fn greedy(&mut self, prompt: &[u32], count: usize) -> (Vec<f32>, Vec<u32>) {
        let first = self.feed(0, 0, prompt, prompt.len());
        let mut ids = vec![argmax(&first)];
        while ids.len() < count {
            let position = (prompt.len() + ids.len() - 1) as u32;
            let logits = self.feed(0, position, &ids[ids.len() - 1..], 1);
            ids.push(argmax(&logits));
        }
        (first, ids)
    }
}

pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    logits.iter().enumerate().max_by(best).unwrap().0 as u32
}

pub(crate) fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

pub(crate) fn isas() -> impl Iterator<Item = EngineOptions> {
    Isa::available().into_iter().map(|isa| EngineOptions { isa: Some(isa), ..EngineOptions::default() })
}

/// The plan with steps that stream every pinned block of a layer, in an order that `seed` shuffles, and so much less KV cache.
pub(crate) fn with_steps(plan: Plan, seed: u64, kv: impl Fn(Bytes) -> Bytes) -> Plan {
    let mut plan = plan.into_draft();
    let card = plan.model.clone();
    for device in &mut plan.devices {
        let pinned = device.blocks.iter().filter(|placed| placed.residency == Residency::Pinned);
        let mut movable: Vec<Block> = pinned.map(|placed| placed.block).collect();
        movable.retain(|block| matches!(block, Block::Attention(_) | Block::Mlp(_)));
        let mut state = seed | 1;
        for index in (1..movable.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            movable.swap(index, (state >> 33) as usize % (index + 1));
        }
        let memory = &mut device.memory;
        let sizes: Vec<Bytes> = movable.iter().map(|block| card.block_bytes(*block)).collect();
        let largest = sizes.iter().copied().max().unwrap_or_default();
        let frees = sizes.into_iter().sum::<Bytes>().saturating_sub(largest.saturating_sub(memory.prefetch));
        memory.kv = kv(memory.kv).max(memory.kv.saturating_sub(frees));
        memory.budget = memory.used();
        let (mut above, mut buffer) = (memory.kv, memory.prefetch);
        let step = |block: Block| {
            let bytes = card.block_bytes(block);
            let frees = bytes.saturating_sub(bytes.saturating_sub(buffer));
            let step = Step { above, relief: Relief::Stream(block), frees, time_per_token: Nanos(1) };
            above += frees;
            buffer = buffer.max(bytes);
            step
        };
        device.steps = movable.into_iter().map(step).collect();
    }
    plan.try_into().unwrap()
}
