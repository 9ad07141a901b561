//! The rules of a plan.

use std::collections::BTreeSet;

use crate::{Block, DeviceIndex, Ladder, PLAN_VERSION, PlanDraft, PlanError, SegmentIndex, plausible};

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
    check_layers(plan)?;
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

fn check_layers(plan: &PlanDraft) -> Result<(), PlanError> {
    for device in &plan.devices {
        if device.layers.len() != plan.segments as usize {
            let (device, found) = (device.name.clone(), device.layers.len());
            return Err(PlanError::Ranges { device, found, segments: plan.segments });
        }
    }
    let mut next = 0;
    for segment in 0..plan.segments {
        for device in &plan.devices {
            let range = device.layers_in(SegmentIndex(segment));
            if range.is_empty() {
                continue;
            }
            if range.start.0 != next {
                let (device, found) = (device.name.clone(), range.start.0);
                return Err(PlanError::Order { segment, device, expected: next, found });
            }
            next = range.end.0;
        }
    }
    if next != plan.model.layers {
        return Err(PlanError::Uncovered { covered: next, layers: plan.model.layers });
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
        Ladder::check(plan, device)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, DeviceBudget, PlanRequest, proportional};
    use crate::{Arithmetic, Bytes, Dtype, Plan, PlanReadError, ServingLimits};

    fn plan() -> Plan {
        let device = |name: &str| DeviceBudget { name: name.into(), memory: Bytes::gib(1) };
        let request = PlanRequest {
            model: &testing::small_card(&mut testing::Random::new(1), 4),
            devices: &[device("a"), device("b")],
            serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 8 },
            segments: 2,
            arithmetic: Arithmetic::Exact,
            residual: Dtype::F32,
            kv: Dtype::F32,
        };
        proportional(&request).unwrap()
    }

    /// Each of these is JSON of the right form: whichever way it is read, it is refused, and by its kind.
    #[test]
    fn there_is_no_plan_that_breaks_a_rule() {
        type Case = (fn(&mut PlanDraft), fn(&PlanError) -> bool);
        let cases: [Case; 7] = [
            (|plan| plan.version += 1, |fault| matches!(fault, PlanError::Version { .. })),
            (|plan| plan.devices.clear(), |fault| matches!(fault, PlanError::Empty("devices"))),
            (|plan| plan.devices[1].name = "a".into(), |fault| matches!(fault, PlanError::DuplicateDevice(_))),
            (|plan| plan.segments = 3, |fault| matches!(fault, PlanError::Ranges { .. })),
            (|plan| plan.head = DeviceIndex(2), |fault| matches!(fault, PlanError::Head { .. })),
            (|plan| plan.devices[0].blocks.truncate(1), |fault| matches!(fault, PlanError::Blocks { .. })),
            (|plan| plan.devices[0].memory.budget = Bytes(1), |fault| matches!(fault, PlanError::OverBudget { .. })),
        ];
        let good = plan();
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
