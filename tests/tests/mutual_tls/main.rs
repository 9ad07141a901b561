//! Rings that speak mutual TLS: who is let in, what a rotation does, and that no token changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod files;
mod operator;
mod outsiders;
mod refusals;
mod replan;
mod rotation;
mod tokens;

use anyhow::Result;
use lime_plan::{Dtype, Plan, ServingLimits};
use lime_ring::{Peer, Transport};
use lime_tests::{
    certificates::Member,
    fixtures,
    ring::{self, Sequence, card, even_plan},
};
use lime_worker::WorkerHandle;
use tempfile::TempDir;

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 128, max_concurrent_requests: 2, prefill_chunk_tokens: 64 };

/// A member of a ring: its transport, and the folder that it reads.
struct Joined {
    folder: TempDir,
    transport: Transport,
}

fn join(member: &Member) -> Result<Joined> {
    let folder = member.folder()?;
    let transport = Transport::open(Some(folder.path()))?;
    Ok(Joined { folder, transport })
}

async fn lone_worker(transport: &Transport) -> Result<(WorkerHandle, Peer)> {
    ring::lone_worker(transport, &fixtures::bard()).await
}

fn bard_plan(devices: usize, segments: u32) -> Result<Plan> {
    even_plan(&card(&fixtures::bard())?, devices, segments, SERVING, Dtype::Bf16)
}

fn sequence(draws: usize) -> Sequence {
    Sequence { prompt: (0..20).map(|index| 2 + index * 131 % 1000).collect(), draws, temperature: 0.7, seed: 5 }
}
