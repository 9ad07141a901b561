//! A ring from outside: `cargo run --release -p lime-worker --example talk_to_ring [-- FOLDER]`.
//!
//! Three workers in this process, each with a third of the model; a prompt of three tokens goes in, tokens come out. Workers on other
//! machines are reached the same way, by their addresses.

use std::{env, error::Error, path::PathBuf, time::Duration};

use bytes::Bytes;
use lime_model::ModelFolder;
use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
use lime_plan::{Arithmetic, Bytes as Size, Dtype, Plan, ServingLimits};
use lime_ring::{
    FrameLimits, Peer, RingDriver, RingTopology, Transport,
    proto::{Rows, Sampling},
};
use lime_worker::{WorkerConfig, WorkerHandle, start};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let model = PathBuf::from(env::args().nth(1).unwrap_or_else(|| MODEL.to_owned()));
    let plan = thirds(&model)?;
    let mut workers = Vec::new();
    for device in &plan.devices {
        workers.push(worker(&device.name, &model).await?);
    }
    let peer = |(device, worker): (&lime_plan::DevicePlan, &WorkerHandle)| Peer {
        device: device.name.clone(),
        uri: format!("http://{}", worker.addr()),
    };
    let topology = RingTopology {
        plan_json: Bytes::from(serde_json::to_vec(&plan)?),
        peers: plan.devices.iter().zip(&workers).map(peer).collect(),
        head: plan.head.0 as usize,
        limits: FrameLimits::of(&plan),
        transport: Transport::Plaintext,
    };
    let mut ring = RingDriver::configure(&topology, 1, Duration::from_secs(30), |_, _| {}).await?;

    let (mut tokens, mut start) = (vec![1, 20, 30], 0);
    for draw in 0..8 {
        let count = tokens.len() as u32;
        let sample = Some(Sampling { draw, ..Sampling::default() });
        ring.submit(vec![Rows { slot: 0, start, count, sample, ..Rows::default() }], tokens, vec![]).await?;
        let drawn = ring.next().await?.tokens[0].token;
        println!("token {drawn}");
        (start, tokens) = (start + count, vec![drawn]);
    }
    drop(ring);
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

fn thirds(model: &std::path::Path) -> Result<Plan, Box<dyn Error>> {
    let device = |name: &str| DeviceBudget { name: name.into(), memory: Size::gib(16) };
    Ok(proportional(&PlanRequest {
        model: &ModelFolder::open(model)?.card("model"),
        devices: &[device("ada"), device("bob"), device("eve")],
        serving: ServingLimits { max_context_tokens: 256, max_concurrent_requests: 1, prefill_chunk_tokens: 64 },
        segments: 1,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv: Dtype::F16,
    })?)
}

async fn worker(name: &str, model: &std::path::Path) -> Result<WorkerHandle, Box<dyn Error>> {
    let config = WorkerConfig::new(name, model.to_owned());
    Ok(start(config, ([127, 0, 0, 1], 0).into()).await?)
}
