//! What tests share: numbers from a seed and small models.

mod cut;
mod proportional;
mod wish;

pub use cut::cut_layers;
pub use proportional::proportional;
pub use wish::{DeviceBudget, Infeasible, PlanRequest};

use crate::{
    arithmetic::Arithmetic,
    card::{Architecture, BlockBytes, ModelCard},
    dtype::Dtype,
    format::Format,
    outlook::Nanos,
    plan::Plan,
    profile::NodeProfile,
    serving_limits::ServingLimits,
    units::Bytes,
};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between `least` and `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }
}

/// A model of megabytes with blocks of drawn sizes.
pub fn small_card(random: &mut Random, layers: u32) -> ModelCard {
    let mut bytes = |least: u64, most: u64| Bytes(random.between(least, most) * 4096);
    let (attention, mlp) = (bytes(50, 500), bytes(50, 1500));
    let (embedding, head) = (bytes(20, 600), bytes(20, 600));
    let tied = random.between(0, 1) == 0;
    ModelCard {
        name: "drawn".to_owned(),
        architecture: Architecture::Llama,
        format: Format::Bf16,
        layers,
        hidden: 256,
        intermediate: 512,
        heads: 8,
        kv_heads: 4,
        head_dim: 32,
        vocabulary: 1000,
        context: 512,
        tied,
        parameters: 1_000_000,
        encoding: Default::default(),
        compact: None,
        features: Default::default(),
        blocks: BlockBytes {
            embedding,
            attention: vec![attention; layers as usize],
            mlp: vec![mlp; layers as usize],
            head,
            head_beside_embedding: if tied { Bytes(4096) } else { head },
        },
    }
}

/// A plan of four layers over devices `a` and `b` in two segments, everything in memory.
pub fn small_plan() -> Plan {
    let device = |name: &str| DeviceBudget { name: name.into(), memory: Bytes::gib(1) };
    let request = PlanRequest {
        model: &small_card(&mut Random::new(1), 4),
        devices: &[device("a"), device("b")],
        serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 8 },
        segments: 2,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv: Dtype::F32,
    };
    proportional(&request).expect("a model of megabytes fits into gigabytes")
}

/// Memory from much too little to twice what is fair, in percent.
pub const AROUND: (u64, u64) = (40, 220);

/// A node with drawn speeds and `percent` of `fair` as its memory, or somewhat more; one of six has no disk.
pub fn drawn_node(random: &mut Random, index: u64, fair: u64, percent: (u64, u64)) -> NodeProfile {
    NodeProfile {
        name: format!("n{index}"),
        memory: Bytes(fair * random.between(percent.0, percent.1) / 100 + 400_000),
        overhead: Bytes(random.between(0, 100_000)),
        memory_bandwidth: random.between(1, 20) * 1_000_000_000,
        compact_bandwidth: None,
        throughput: random.between(1, 20) * 10_000_000_000,
        disk_bandwidth: (random.between(0, 5) > 0).then(|| random.between(1, 30) * 100_000_000),
        block_latency: Nanos(random.between(0, 20_000)),
        formats: Default::default(),
    }
}
