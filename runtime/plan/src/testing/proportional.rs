//! The proportional plan: every device takes layers in proportion to its memory, everything pinned.
//!
//! A rule of thumb that needs no measurements: right where memory is all that is known of the devices. The search over
//! measured profiles is a planner of its own; both answer a [`PlanRequest`] with a [`Plan`].

use super::{DeviceBudget, Infeasible, PlanRequest};
use crate::{
    block::{Block, BlockRange},
    device_memory::DeviceMemory,
    device_plan::DevicePlan,
    memory::MemoryModel,
    placement::{PlacedBlock, Residency},
    plan::Plan,
    plan_draft::{PLAN_VERSION, PlanDraft},
    serving_limits::ServingLimits,
    units::{Bytes, DeviceIndex, LayerIndex},
};

mod infeasible;
mod shares;

/// Splits the model over the devices in proportion to their memory, to the byte by [`MemoryModel`].
///
/// The first device of the plan holds the embedding; a tied head stays beside it where that fits, another one is on the last
/// device where that fits. Devices that get neither a layer nor the head are left out. The same request gives the same plan.
///
/// # Errors
/// [`Infeasible::Request`] for a request without sense, [`Infeasible::Memory`] where no split fits: with the bytes that are
/// missing and with changes that were tried and do fit.
pub fn proportional(request: &PlanRequest<'_>) -> Result<Plan, Infeasible> {
    check(request)?;
    split(request).ok_or_else(|| infeasible::explain(request))
}

fn check(request: &PlanRequest<'_>) -> Result<(), Infeasible> {
    let fault = |text: String| Err(Infeasible::Request(text));
    let (model, serving) = (request.model, request.serving);
    if request.devices.is_empty() {
        return fault("there are no devices: name at least one".into());
    }
    if let Some(twice) = duplicate(request.devices) {
        return fault(format!("two devices are named {twice:?}: give each its own name"));
    }
    if request.segments == 0 || request.segments > model.layers {
        let (segments, layers) = (request.segments, model.layers);
        return fault(format!("{segments} segments of a model of {layers} layers: choose 1 to {layers}"));
    }
    if serving.max_context_tokens == 0 || serving.max_context_tokens > model.context {
        let (asked, most) = (serving.max_context_tokens, model.context);
        return fault(format!("a context of {asked} tokens was asked for, the model takes 1 to {most}"));
    }
    if serving.max_concurrent_requests == 0 || serving.prefill_chunk_tokens == 0 {
        return fault("at least one request at once and one row of prefill are needed".into());
    }
    Ok(())
}

fn duplicate(devices: &[DeviceBudget]) -> Option<&str> {
    let names = || devices.iter().map(|device| device.name.as_str());
    names().enumerate().find(|(index, name)| names().take(*index).any(|other| other == *name)).map(|(_, name)| name)
}

/// The first placement of embedding and head that fits, in order of preference.
fn split(request: &PlanRequest<'_>) -> Option<Plan> {
    let count = request.devices.len();
    (0..count).find_map(|first| {
        let mut order: Vec<usize> = (0..count).filter(|index| *index != first).collect();
        order.insert(0, first);
        let heads: Vec<usize> = if request.model.tied { (0..count).collect() } else { (0..count).rev().collect() };
        heads.into_iter().find_map(|head| Arrangement { request, order: &order, head }.plan())
    })
}

/// Devices in ring order, and which of them holds the head.
struct Arrangement<'a> {
    request: &'a PlanRequest<'a>,
    order: &'a [usize],
    head: usize,
}

impl Arrangement<'_> {
    fn device(&self, place: usize) -> &DeviceBudget {
        &self.request.devices[self.order[place]]
    }

    fn memory_model(&self) -> MemoryModel<'_> {
        let PlanRequest { model, serving, kv, residual, .. } = *self.request;
        MemoryModel { card: model, serving, kv, residual }
    }

    /// The blocks of the device at `place` when it holds those of `layers`.
    fn blocks(&self, place: usize, layers: impl Iterator<Item = Block>) -> Vec<PlacedBlock> {
        let embedding = (place == 0).then_some(Block::Embedding);
        let head = (place == self.head).then_some(Block::Head);
        let blocks = embedding.into_iter().chain(layers).chain(head);
        blocks.map(|block| PlacedBlock { block, residency: Residency::Pinned }).collect()
    }

    fn memory(&self, place: usize, blocks: &[PlacedBlock]) -> DeviceMemory {
        DeviceMemory { budget: self.device(place).memory, ..self.memory_model().device(blocks) }
    }

    /// What the device at `place` has left when it holds `layers` of the model's layers, the largest ones; `None`: over budget.
    fn room(&self, place: usize, largest: &[LayerIndex], layers: u32) -> Option<Bytes> {
        let blocks = self.blocks(place, both(largest.iter().copied().take(layers as usize)));
        let memory = self.memory(place, &blocks);
        (memory.used() <= memory.budget).then(|| memory.budget - memory.used())
    }

    fn plan(&self) -> Option<Plan> {
        let layers = self.request.model.layers;
        let mut largest: Vec<LayerIndex> = (0..layers).map(LayerIndex).collect();
        largest.sort_by_key(|layer| std::cmp::Reverse(self.request.model.layer_bytes(*layer)));
        let places = 0..self.order.len();
        // A device too small for anything takes no part, unless embedding or head are to be there.
        let base = |place| match self.room(place, &largest, 0) {
            None if place != 0 && place != self.head => Some(Bytes::ZERO),
            room => room,
        };
        let room: Option<Vec<Bytes>> = places.clone().map(base).collect();
        let caps: Vec<u32> = places
            .map(|place| (1..=layers).take_while(|count| self.room(place, &largest, *count).is_some()).count() as u32)
            .collect();
        let totals = shares::proportional_shares(&room?, &caps, layers)?;
        Some(self.build(&totals))
    }

    fn build(&self, totals: &[u32]) -> Plan {
        let segments = self.request.segments;
        let ranges = shares::segment_ranges(totals, segments);
        let kept: Vec<usize> =
            (0..totals.len()).filter(|&place| place == 0 || place == self.head || totals[place] > 0).collect();
        let devices = kept.iter().map(|&place| self.device_plan(place, &ranges[place])).collect();
        let head = kept.iter().position(|&place| place == self.head).unwrap_or_default();
        let draft = PlanDraft {
            version: PLAN_VERSION,
            input_hash: self.request.hash(),
            model: self.request.model.clone(),
            arithmetic: self.request.arithmetic,
            residual: self.request.residual,
            kv: self.request.kv,
            serving: self.request.serving,
            segments,
            devices,
            head: DeviceIndex(head as u32),
            outlook: None,
        };
        Plan::try_from(draft).expect("whoever tests with this rule of thumb stays within what is believed")
    }

    fn device_plan(&self, place: usize, ranges: &[BlockRange]) -> DevicePlan {
        let blocks = self.blocks(place, ranges.iter().flat_map(|range| range.blocks()));
        let memory = self.memory(place, &blocks);
        DevicePlan { name: self.device(place).name.clone(), ranges: ranges.to_vec(), blocks, memory, steps: Vec::new() }
    }
}

/// Attention and MLP of each layer.
fn both(layers: impl Iterator<Item = LayerIndex>) -> impl Iterator<Item = Block> {
    layers.flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)])
}

/// Whether the request fits with other limits or other budgets.
fn fits(request: &PlanRequest<'_>, serving: ServingLimits, devices: &[DeviceBudget]) -> bool {
    split(&PlanRequest { serving, devices, ..request.clone() }).is_some()
}

#[cfg(test)]
mod tests;
