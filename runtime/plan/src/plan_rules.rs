//! The rules of a plan.

use std::collections::BTreeSet;

use crate::block::block_at;
use crate::{
    block::Block,
    device_steps::DeviceSteps,
    plan_draft::{PLAN_VERSION, PlanDraft},
    plan_error::PlanError,
    plausible,
    units::{DeviceIndex, SegmentIndex},
};

/// The first rule that `plan` breaks, of those that workers rely on.
pub(crate) fn check(plan: &PlanDraft) -> Result<(), PlanError> {
    if plan.version != PLAN_VERSION {
        return Err(PlanError::Version { found: plan.version });
    }
    let counts = [
        ("devices", plan.devices.len() as u64),
        ("segments", u64::from(plan.segments)),
        ("layers", u64::from(plan.model.layers)),
        ("context", u64::from(plan.serving.max_context_tokens)),
        ("request slots", u64::from(plan.serving.max_concurrent_requests)),
        ("prefill rows", u64::from(plan.serving.prefill_chunk_tokens)),
    ];
    if let Some((what, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(PlanError::Empty(what));
    }
    plausible::check(plan)?;
    check_names(plan)?;
    check_ranges(plan)?;
    if plan.head.0 as usize >= plan.devices.len() {
        return Err(PlanError::Head { head: plan.head.0, devices: plan.devices.len() });
    }
    check_blocks(plan)
}

fn check_names(plan: &PlanDraft) -> Result<(), PlanError> {
    let mut names = BTreeSet::new();
    match plan.devices.iter().find(|device| !names.insert(device.name.as_str())) {
        Some(twice) => Err(PlanError::DuplicateDevice(twice.name.clone())),
        None => Ok(()),
    }
}

fn check_ranges(plan: &PlanDraft) -> Result<(), PlanError> {
    for device in &plan.devices {
        if device.ranges.len() != plan.segments as usize {
            let (device, found) = (device.name.clone(), device.ranges.len());
            return Err(PlanError::Ranges { device, found, segments: plan.segments });
        }
    }
    let head = 2 * plan.model.layers + 1;
    let mut next = 1;
    for segment in 0..plan.segments {
        for device in &plan.devices {
            let range = device.range_in(SegmentIndex(segment));
            if range.is_empty() {
                continue;
            }
            if range.start != next || range.end > head {
                let (device, expected) = (device.name.clone(), next);
                return Err(PlanError::Order { segment, device, expected, found: range });
            }
            next = range.end;
        }
    }
    if next != head {
        return Err(PlanError::Uncovered { missing: block_at(next), layers: plan.model.layers });
    }
    Ok(())
}

fn check_blocks(plan: &PlanDraft) -> Result<(), PlanError> {
    for (index, device) in plan.devices.iter().enumerate() {
        let expected = plan.expected_blocks(DeviceIndex(index as u32));
        let found = device.blocks.iter().map(|placed| placed.block);
        if !found.clone().eq(expected.iter().copied()) {
            let wrong = expected.iter().copied().zip(found.clone()).find(|(want, got)| want != got);
            let block = wrong.map(|(want, _)| want).or(expected.last().copied()).unwrap_or(Block::Head);
            return Err(PlanError::Blocks { device: device.name.clone(), block: block.to_string() });
        }
        let used = device.memory.used();
        if used > device.memory.budget {
            let (device, budget) = (device.name.clone(), device.memory.budget);
            return Err(PlanError::OverBudget { device, used, budget });
        }
        DeviceSteps::check(plan, device)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block::BlockRange, plan::Plan, plan_error::PlanReadError, testing, units::Bytes};

    /// Each of these is JSON of the right form: whichever way it is read, it is refused, and by its kind.
    #[test]
    fn there_is_no_plan_that_breaks_a_rule() {
        type Case = (fn(&mut PlanDraft), fn(&PlanError) -> bool);
        let cases: [Case; 10] = [
            (|plan| plan.version += 1, |fault| matches!(fault, PlanError::Version { .. })),
            (|plan| plan.devices.clear(), |fault| matches!(fault, PlanError::Empty("devices"))),
            (|plan| plan.devices[1].name = "a".into(), |fault| matches!(fault, PlanError::DuplicateDevice(_))),
            (|plan| plan.segments = 3, |fault| matches!(fault, PlanError::Ranges { .. })),
            (|plan| plan.devices[0].ranges[1].start += 1, |fault| matches!(fault, PlanError::Order { .. })),
            (|plan| plan.devices[1].ranges[1].end += 1, |fault| matches!(fault, PlanError::Order { .. })),
            (
                |plan| plan.devices[1].ranges[1] = BlockRange::default(),
                |fault| matches!(fault, PlanError::Uncovered { .. }),
            ),
            (|plan| plan.head = DeviceIndex(2), |fault| matches!(fault, PlanError::Head { .. })),
            (|plan| plan.devices[0].blocks.truncate(1), |fault| matches!(fault, PlanError::Blocks { .. })),
            (|plan| plan.devices[0].memory.budget = Bytes(1), |fault| matches!(fault, PlanError::OverBudget { .. })),
        ];
        let good = testing::small_plan();
        let written = serde_json::to_vec(&good).unwrap();
        assert_eq!(Plan::from_json(&written).unwrap(), good);
        for (change, expected) in cases {
            let mut draft = good.clone().into_draft();
            change(&mut draft);
            let json = serde_json::to_vec(&draft).unwrap();
            assert!(serde_json::from_slice::<Plan>(&json).is_err());
            match Plan::from_json(&json) {
                Err(PlanReadError::Plan(fault)) => assert!(expected(&fault), "{fault}"),
                other => panic!("{other:?}"),
            }
            assert!(expected(&Plan::try_from(draft).unwrap_err()));
        }
        assert!(matches!(Plan::from_json(b"{}"), Err(PlanReadError::Malformed(_))));
    }
}
