//! The steps of one device as a worker follows them: blocks that it stops keeping, one after the other, as its KV cache grows or its
//! memory shrinks, and a device with room that keeps KV pages for it.

use std::collections::BTreeSet;

use crate::{
    arithmetic::Arithmetic,
    block::Block,
    device_plan::DevicePlan,
    memory::MemoryModel,
    outlook::Nanos,
    placement::{PlacedBlock, Residency},
    plan_draft::PlanDraft,
    plan_error::PlanError,
    step::Relief,
    units::{Bytes, DeviceIndex},
};

/// A step that hands pages over, as a worker follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The device that keeps the pages.
    pub to: DeviceIndex,
    /// How many it keeps at most.
    pub pages: u32,
    /// Bytes of each.
    pub page: Bytes,
    /// What all of them free, the buffers for questions and answers subtracted.
    pub frees: Bytes,
    /// By how much a pass gets longer, as planned.
    pub costs: Nanos,
    /// Steps of the plan that come before it.
    pub after: usize,
}

/// A step that streams a block, as a worker follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStep {
    /// The block that is no longer kept.
    pub block: Block,
    /// Its size.
    pub bytes: Bytes,
    /// Bytes of KV cache that fit here before this step.
    pub above: Bytes,
    /// The buffer for streamed blocks from then on.
    pub buffer: Bytes,
    /// By how much the buffer grows.
    pub grows: Bytes,
    /// What a pass takes from then on, if only this device takes steps.
    pub time_per_token: Nanos,
}

/// The steps of one device as a worker follows them: blocks that give way, in their order, and room elsewhere, which may be used
/// beside them or not. A device at *level* n streams the first n of those blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSteps {
    stream_steps: Vec<StreamStep>,
    base: Bytes,
    most: Bytes,
    /// What a pass takes before any step.
    time: Nanos,
    hand_over: Option<HandOver>,
}

impl DeviceSteps {
    /// The steps of one of a plan's devices.
    ///
    /// # Errors
    /// A step for a block that the device does not keep, for room that no device lends, or at another size of the KV cache than the
    /// device's memory makes it.
    pub fn of(plan: &PlanDraft, device: &DevicePlan) -> Result<Self, PlanError> {
        let fault = |what: String| PlanError::Step { device: device.name.clone(), what };
        let memory = device.memory;
        let base = memory.kv + memory.budget.saturating_sub(memory.used());
        let (mut above, mut buffer) = (base, memory.prefetch);
        let (mut stream_steps, mut taken) = (Vec::with_capacity(device.steps.len()), BTreeSet::new());
        let mut hand_over: Option<HandOver> = None;
        for (index, step) in device.steps.iter().enumerate() {
            if step.above != above {
                let what = match &step.relief {
                    Relief::Stream(block) => format!("streams {block}"),
                    Relief::HandOver { to, .. } => format!("hands pages to {to:?}"),
                };
                return Err(fault(format!("{what} above {} of KV cache, not above {above}", step.above)));
            }
            let elsewhere = hand_over.map_or(Bytes::ZERO, |over| over.frees);
            match step.relief {
                Relief::Stream(block) => {
                    let pinned = PlacedBlock { block, residency: Residency::Pinned };
                    let movable = matches!(block, Block::Attention(_) | Block::Mlp(_));
                    if !movable || !device.blocks.contains(&pinned) || !taken.insert(block) {
                        return Err(fault(format!("streams {block}, which it does not keep until then")));
                    }
                    let bytes = plan.model.block_bytes(block);
                    let grown = buffer.max(bytes);
                    let grows = grown.saturating_sub(buffer);
                    let costs = hand_over.map_or(0, |over| over.costs.0);
                    let time_per_token = Nanos(step.time_per_token.0.saturating_sub(costs));
                    let here = above - elsewhere;
                    stream_steps.push(StreamStep { block, bytes, above: here, buffer: grown, grows, time_per_token });
                    above += bytes.saturating_sub(grows);
                    buffer = grown;
                }
                Relief::HandOver { ref to, room, costs } => {
                    let over = over(plan, device, to, room).map_err(&fault)?;
                    if hand_over.is_some() {
                        return Err(fault(format!("hands pages to {to:?}, after another that hands pages over")));
                    }
                    above += over.frees;
                    hand_over = Some(HandOver { costs, after: index, ..over });
                }
            }
        }
        let most = above - hand_over.map_or(Bytes::ZERO, |over| over.frees);
        let planned = plan.outlook.as_ref().map(|outlook| outlook.prediction.time_per_token);
        let first = stream_steps.first().map(|step| step.time_per_token);
        Ok(Self { stream_steps, base, most, time: planned.or(first).unwrap_or_default(), hand_over })
    }

    /// Checks that a device with steps can hold the longest KV cache that the plan allows, whatever becomes of its links, and that
    /// what it lends is no more than what others count on.
    pub(crate) fn check(plan: &PlanDraft, device: &DevicePlan) -> Result<(), PlanError> {
        let all_steps = plan.devices.iter().flat_map(|asker| asker.steps.iter().map(move |step| (asker, step)));
        let rooms = all_steps.filter_map(|(asker, step)| match &step.relief {
            Relief::HandOver { to, room, .. } if *to == device.name => {
                Some(room.0.saturating_add(MemoryModel::of(plan).exchange(asker.attentions()).0))
            }
            _ => None,
        });
        let asked = rooms.fold(0_u64, u64::saturating_add);
        if asked > device.memory.lent.0 {
            let what = format!("would lend {}, others count on {} there", device.memory.lent, Bytes(asked));
            return Err(PlanError::Step { device: device.name.clone(), what });
        }
        if device.steps.is_empty() {
            return Ok(());
        }
        let steps = Self::of(plan, device)?;
        let needed = MemoryModel::of(plan).kv(device.attentions());
        if steps.most() < needed {
            return Err(PlanError::KvShort { device: device.name.clone(), needed, room: steps.most() });
        }
        Ok(())
    }

    /// The steps that stream a block.
    pub fn stream_steps(&self) -> &[StreamStep] {
        &self.stream_steps
    }

    /// The step that hands pages over, where the plan has one.
    pub const fn hand_over(&self) -> Option<&HandOver> {
        self.hand_over.as_ref()
    }

    /// What a pass takes at `level` with all pages here, if only this device takes steps.
    pub fn time(&self, level: usize) -> Nanos {
        let last = level.min(self.stream_steps.len()).checked_sub(1);
        last.map_or(self.time, |last| self.stream_steps[last].time_per_token)
    }

    /// The least level at which a KV cache of `needed` fits here.
    pub fn least(&self, needed: Bytes) -> Option<usize> {
        (0..=self.stream_steps.len()).find(|&level| needed <= self.room(level))
    }

    /// Bytes of KV cache that fit here at `level`.
    pub fn room(&self, level: usize) -> Bytes {
        self.stream_steps.get(level).map_or(self.most, |step| step.above)
    }

    /// Bytes of KV cache that fit here when every block gives way that may.
    pub const fn most(&self) -> Bytes {
        self.most
    }

    /// Bytes of KV cache that fit before any step.
    pub const fn base(&self) -> Bytes {
        self.base
    }

    /// The level for a device at level `now` that needs room for `needed`: as high as it must be, at once; down by one step
    /// where that leaves `slack` free, and what the step back holds twice for a moment.
    pub fn level(&self, needed: Bytes, now: usize, slack: Bytes) -> usize {
        let least = self.least(needed).unwrap_or(self.stream_steps.len());
        if least >= now {
            return least;
        }
        let below = now.min(self.stream_steps.len()) - 1;
        let spare = slack.max(self.stream_steps[below].grows);
        if needed + spare <= self.room(below) { below } else { now }
    }
}

/// The room that device `to` lends, if it can.
fn over(plan: &PlanDraft, device: &DevicePlan, to: &str, room: Bytes) -> Result<HandOver, String> {
    let (memory, layers) = (MemoryModel::of(plan), device.attentions());
    let page = memory.page_bytes(layers);
    let Some((index, keeper)) = plan.device(to).filter(|_| to != device.name) else {
        return Err(format!("hands pages to {to:?}, which is no other device of the plan"));
    };
    if plan.arithmetic != Arithmetic::Exact {
        return Err("hands pages over, which only exact arithmetic can".to_owned());
    }
    if keeper.steps.iter().any(|step| matches!(step.relief, Relief::HandOver { .. })) {
        return Err(format!("hands pages to {to:?}, which hands pages over itself"));
    }
    let frees = room.saturating_sub(memory.exchange(layers));
    if page > room || frees == Bytes::ZERO || room > memory.kv(layers) {
        return Err(format!("hands {room} of pages over, of {page} each"));
    }
    let pages = u32::try_from(room.0 / page.0.max(1)).map_err(|_| format!("hands {room} of pages over"))?;
    Ok(HandOver { to: index, pages, page, frees, costs: Nanos::ZERO, after: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers grow with the first block and with a larger one; `sizes` of blocks.
    fn steps(base: u64, buffer: u64, sizes: &[u64]) -> DeviceSteps {
        let (mut above, mut buffer) = (Bytes(base), Bytes(buffer));
        let mut stream_steps = Vec::new();
        for (index, &bytes) in sizes.iter().enumerate() {
            let (bytes, grown) = (Bytes(bytes), buffer.max(Bytes(bytes)));
            let grows = grown.saturating_sub(buffer);
            let block = Block::Mlp(crate::units::LayerIndex(index as u32));
            stream_steps.push(StreamStep { block, bytes, above, buffer: grown, grows, time_per_token: Nanos::ZERO });
            above += bytes.saturating_sub(grows);
            buffer = grown;
        }
        DeviceSteps { stream_steps, base: Bytes(base), most: above, time: Nanos::ZERO, hand_over: None }
    }

    #[test]
    fn a_first_block_that_only_pays_for_its_buffer_takes_the_next_one_along() {
        let steps = steps(100, 0, &[30, 30, 30]);
        assert_eq!([0, 1, 2, 3].map(|level| steps.room(level).0), [100, 100, 130, 160]);
        let level = |needed| steps.level(Bytes(needed), 0, Bytes::ZERO);
        assert_eq!([0, 100, 101, 130, 131, 160, 900].map(level), [0, 0, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn the_way_back_is_one_step_at_a_time_and_waits_for_room() {
        let steps = steps(100, 0, &[30, 30, 30]);
        let level = |needed, now| steps.level(Bytes(needed), now, Bytes(10));
        assert_eq!(level(0, 3), 2);
        assert_eq!([119, 120, 121, 131].map(|needed| level(needed, 3)), [2, 2, 3, 3]);
        // The last step back holds block and buffer at once.
        assert_eq!([70, 71, 100].map(|needed| level(needed, 1)), [0, 1, 1]);
    }
}
