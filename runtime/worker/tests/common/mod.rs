//! Rings of several workers in one process, of fakes or of real engines.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use lime_plan::{
    Architecture, Arithmetic, BlockBytes, BlockRange, Bytes as Size, DeviceIndex, DeviceMemory, DevicePlan, Dtype,
    Format, MemoryModel, ModelCard, PLAN_VERSION, PlacedBlock, Plan, PlanDraft, Residency, ServingLimits,
};
use lime_ring::{
    FrameLimits, RingDriver, RingTopology, Transport,
    proto::{PassResult, Peer, Rows, Sampling},
};
use lime_worker::{WorkerConfig, WorkerHandle, compute::Loader, fake::FakeLoader, start_with};

/// Long enough for a busy machine, short enough for a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn card(layers: u32, hidden: u32, vocabulary: u32) -> ModelCard {
    let each = vec![Size::kib(4); layers as usize];
    ModelCard {
        name: "fake".into(),
        architecture: Architecture::Llama,
        format: Format::F32,
        layers,
        hidden,
        intermediate: hidden,
        heads: 1,
        kv_heads: 1,
        head_dim: hidden,
        vocabulary,
        context: 4096,
        tied: false,
        parameters: 0,
        encoding: Default::default(),
        compact: None,
        features: Default::default(),
        blocks: BlockBytes {
            embedding: Size::kib(4),
            attention: each.clone(),
            mlp: each,
            head: Size::kib(4),
            head_beside_embedding: Size::kib(4),
        },
    }
}

/// A plan that spreads the layers evenly over segments and devices, written by hand.
pub fn plan(model: ModelCard, devices: usize, segments: u32, head: usize) -> Plan {
    let serving = ServingLimits {
        max_context_tokens: model.context.min(256),
        max_concurrent_requests: 9,
        prefill_chunk_tokens: 128,
    };
    let parts = devices as u32 * segments;
    let cut = |part: u32| model.layers * part / parts;
    let range = |segment: u32, device: usize| {
        let part = segment * devices as u32 + device as u32;
        BlockRange::layers(cut(part), cut(part + 1))
    };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let described = (0..devices).map(|device| DevicePlan {
        name: names[device].into(),
        ranges: (0..segments).map(|segment| range(segment, device)).collect(),
        blocks: vec![],
        memory: DeviceMemory::default(),
        steps: vec![],
    });
    let json = serde_json::json!({
        "version": PLAN_VERSION,
        "inputHash": "",
        "model": model,
        "arithmetic": Arithmetic::Exact,
        "residual": Dtype::F32,
        "kv": Dtype::F32,
        "serving": serving,
        "segments": segments,
        "devices": described.collect::<Vec<_>>(),
        "head": DeviceIndex(head as u32),
    });
    // From JSON, so that optional parts of the plan that this test does not know are absent.
    let mut plan: PlanDraft = serde_json::from_value(json).unwrap();
    for device in 0..devices {
        let expected = plan.expected_blocks(DeviceIndex(device as u32));
        let pinned = |block| PlacedBlock { block, residency: Residency::Pinned };
        plan.devices[device].blocks = expected.into_iter().map(pinned).collect();
        let counted = MemoryModel::of(&plan).device(&plan.devices[device].blocks);
        plan.devices[device].memory = DeviceMemory { budget: Size::gib(8), ..counted };
    }
    plan.try_into().unwrap()
}

pub fn config(name: &str) -> WorkerConfig {
    WorkerConfig::new(name, PathBuf::new())
}

pub fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Workers in one process, and what a driver needs to know of them.
pub struct Ring {
    pub workers: Vec<WorkerHandle>,
    pub topology: RingTopology,
}

impl Ring {
    pub async fn of_fakes(plan: &Plan, fake: &FakeLoader) -> Self {
        Self::with(plan, |_| Box::new(fake.clone())).await
    }

    pub async fn with(plan: &Plan, loader: impl Fn(usize) -> Box<dyn Loader>) -> Self {
        let mut workers = Vec::new();
        for (index, device) in plan.devices.iter().enumerate() {
            let started = start_with(config(&device.name), loader(index), anywhere()).await;
            workers.push(started.unwrap());
        }
        let topology = topology(plan, &workers);
        Self { workers, topology }
    }

    pub async fn configure(&self, epoch: u64) -> RingDriver {
        RingDriver::configure(&self.topology, epoch, PATIENCE, |_, _| {}).await.unwrap()
    }

    pub async fn stop(self) {
        for worker in self.workers {
            worker.stop().await.unwrap();
        }
    }
}

pub fn topology(plan: &Plan, workers: &[WorkerHandle]) -> RingTopology {
    let peer = |(device, worker): (&DevicePlan, &WorkerHandle)| Peer {
        device: device.name.clone(),
        uri: format!("http://{}", worker.addr()),
    };
    RingTopology {
        plan_json: Bytes::from(serde_json::to_vec(plan).unwrap()),
        peers: plan.devices.iter().zip(workers).map(peer).collect(),
        head: plan.head.0 as usize,
        limits: FrameLimits::of(plan),
        transport: Transport::Plaintext,
    }
}

pub fn rows(slot: u32, start: u32, count: u32, draw: Option<u64>) -> Rows {
    let sample = draw.map(|draw| Sampling { draw, seed: 5, ..Sampling::default() });
    Rows { slot, start, count, sample, ..Rows::default() }
}

/// Result within [`PATIENCE`], or the test fails.
pub async fn next(driver: &mut RingDriver) -> PassResult {
    tokio::time::timeout(PATIENCE, driver.next()).await.expect("a result in time").unwrap()
}

/// Generates from `prompt` in `slot`, prefill in chunks of `chunk`.
pub async fn generate(driver: &mut RingDriver, slot: u32, prompt: &[u32], chunk: usize, tokens: usize) -> Vec<u32> {
    let mut start = 0;
    let chunks: Vec<&[u32]> = prompt.chunks(chunk).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let draw = (index + 1 == chunks.len()).then_some(0);
        let rows = vec![rows(slot, start, chunk.len() as u32, draw)];
        driver.submit(rows, chunk.to_vec(), vec![]).await.unwrap();
        start += chunk.len() as u32;
    }
    let mut out = Vec::new();
    for _ in 0..chunks.len() {
        let result = next(driver).await;
        assert_eq!(result.failure, "");
        out.extend(result.tokens.iter().map(|token| token.token));
    }
    while out.len() < tokens {
        let row = vec![rows(slot, start, 1, Some(out.len() as u64))];
        driver.submit(row, vec![*out.last().unwrap()], vec![]).await.unwrap();
        start += 1;
        out.push(next(driver).await.tokens[0].token);
    }
    out
}

/// A line to the member at `uri` that says which wire it speaks, as every member's does.
pub(crate) async fn line(uri: &str) -> lime_ring::Line {
    lime_ring::connect(&lime_ring::Transport::Plaintext, uri).await.unwrap()
}
