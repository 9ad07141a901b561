//! Plans that cut inside layers, made from such that do not.

use crate::{
    device_memory::DeviceMemory,
    memory::MemoryModel,
    placement::{PlacedBlock, Residency},
    plan::Plan,
    units::DeviceIndex,
};

/// The plan with every boundary between two visits moved by one block: who comes first has the attention of the layer whose MLP
/// the next one has. Everything is in memory, of which there is as much as that takes.
pub fn cut_layers(plan: &Plan) -> Plan {
    let mut draft = plan.clone().into_draft();
    let places = (0..draft.segments as usize).flat_map(|segment| (0..draft.devices.len()).map(move |at| (at, segment)));
    let visits: Vec<_> = places.filter(|&(at, segment)| !draft.devices[at].ranges[segment].is_empty()).collect();
    for pair in visits.windows(2) {
        let [(before, ends), (after, begins)] = [pair[0], pair[1]];
        if draft.devices[after].ranges[begins].len() > 1 {
            draft.devices[before].ranges[ends].end += 1;
            draft.devices[after].ranges[begins].start += 1;
        }
    }
    for at in 0..draft.devices.len() {
        let pinned = |block| PlacedBlock { block, residency: Residency::Pinned };
        let blocks: Vec<PlacedBlock> = draft.expected_blocks(DeviceIndex(at as u32)).into_iter().map(pinned).collect();
        let budget = draft.devices[at].memory.budget;
        let memory = MemoryModel::of(&draft).device(&blocks);
        let device = &mut draft.devices[at];
        device.memory = DeviceMemory { budget: budget.max(memory.used()), ..memory };
        device.blocks = blocks;
        device.steps.clear();
    }
    draft.outlook = None;
    draft.try_into().expect("the same blocks in the same order")
}
