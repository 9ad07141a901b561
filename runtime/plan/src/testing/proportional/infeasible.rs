//! An impossible wish is answered with what would fit.

use super::super::{DeviceBudget, Infeasible, PlanRequest};
use crate::{
    memory::MemoryModel,
    placement::{PlacedBlock, Residency},
    serving_limits::ServingLimits,
    units::Bytes,
};

use super::fits;

pub(super) fn explain(request: &PlanRequest<'_>) -> Infeasible {
    let serving = request.serving;
    let (missing, device) = least_missing(request);
    let device = request.devices[device].name.clone();
    let mut changes = Vec::new();
    if let Some(tokens) = most(serving.max_context_tokens, |tokens| {
        fits(request, ServingLimits { max_context_tokens: tokens, ..serving }, request.devices)
    }) {
        changes.push(format!("a context of {tokens} tokens instead of {}", serving.max_context_tokens));
    }
    if let Some(requests) = most(serving.max_concurrent_requests, |requests| {
        fits(request, ServingLimits { max_concurrent_requests: requests, ..serving }, request.devices)
    }) {
        changes.push(format!("{requests} concurrent requests instead of {}", serving.max_concurrent_requests));
    }
    if let Some(rows) = most(serving.prefill_chunk_tokens, |rows| {
        fits(request, ServingLimits { prefill_chunk_tokens: rows, ..serving }, request.devices)
    }) {
        changes.push(format!("prefill chunks of {rows} tokens instead of {}", serving.prefill_chunk_tokens));
    }
    if changes.is_empty() {
        changes.push(format!("another device of {} or more", another_device(request)));
    }
    Infeasible::Memory {
        needed: needed(request),
        available: request.devices.iter().map(|device| device.memory).sum(),
        missing,
        device,
        fits: changes,
    }
}

/// What the model takes on one device: no split takes less, for each further device adds activations of its own.
fn needed(request: &PlanRequest<'_>) -> Bytes {
    let PlanRequest { model, serving, kv, residual, .. } = *request;
    let blocks = model.all_blocks().map(|block| PlacedBlock { block, residency: Residency::Pinned });
    MemoryModel { card: model, serving, kv, residual }.device(&blocks.collect::<Vec<_>>()).used()
}

/// The least memory that, added to one device, makes a plan possible, and that device.
fn least_missing(request: &PlanRequest<'_>) -> (Bytes, usize) {
    let with_more = |index: usize, more: u64| {
        let mut devices = request.devices.to_vec();
        devices[index].memory = Bytes(devices[index].memory.0.saturating_add(more));
        fits(request, request.serving, &devices)
    };
    let upper = needed(request).0;
    let missing = |index: usize| least(upper, |more| with_more(index, more));
    (0..request.devices.len()).map(|index| (Bytes(missing(index)), index)).min().unwrap_or((Bytes(upper), 0))
}

/// The least memory of one more device that makes a plan possible.
fn another_device(request: &PlanRequest<'_>) -> Bytes {
    let upper = needed(request).0;
    Bytes(least(upper, |memory| {
        let mut devices = request.devices.to_vec();
        devices.push(DeviceBudget { name: "\u{0}".into(), memory: Bytes(memory) });
        fits(request, request.serving, &devices)
    }))
}

/// The least value up to `upper` that satisfies `enough`, which must hold at `upper` and be monotone.
fn least(upper: u64, enough: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, upper);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    high
}

/// The largest value below `asked` that satisfies `enough`, if any: coarse enough to be remembered, fine enough to be useful.
fn most(asked: u32, enough: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, asked);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if enough(middle) { low = middle } else { high = middle }
    }
    (low > 0).then_some(low)
}
