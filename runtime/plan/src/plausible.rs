//! Bounds of the numbers in a plan. Plans come over the network and from files: what is within these bounds can be added up and
//! multiplied without a second thought, and no list made from it is longer than a machine can hold.

use crate::{belief::Limit, plan_draft::PlanDraft, plan_error::PlanError};

/// The first number that cannot be meant.
pub(crate) fn check(plan: &PlanDraft) -> Result<(), PlanError> {
    Limit::DEVICES.check(plan.devices.len() as u64)?;
    Limit::SEGMENTS.check(plan.segments)?;
    plan.model.check()?;
    plan.serving.check(&plan.model, plan.kv, plan.residual)?;
    for device in &plan.devices {
        let it = &device.memory;
        Limit::DEVICE.check(it.budget.0)?;
        Limit::DEVICE.check_sum([&it.pinned, &it.prefetch, &it.kv, &it.activations, &it.overhead, &it.lent])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, DeviceBudget, PlanRequest, proportional};
    use crate::{plan::Plan, serving_limits::ServingLimits, units::Bytes};

    fn plan() -> Plan {
        let card = testing::small_card(&mut testing::Random::new(1), 4);
        let devices = [DeviceBudget { name: "a".into(), memory: Bytes::gib(1 << 20) }];
        let serving = ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 8 };
        let request = PlanRequest {
            model: &card,
            devices: &devices,
            serving,
            segments: 1,
            arithmetic: crate::arithmetic::Arithmetic::Exact,
            residual: crate::dtype::Dtype::F32,
            kv: crate::dtype::Dtype::F32,
        };
        proportional(&request).unwrap()
    }

    #[test]
    fn numbers_at_which_arithmetic_breaks_are_refused_by_name() {
        type Change = fn(&mut PlanDraft);
        let good = plan();
        check(&good).unwrap();
        let changes: [(&str, Change); 8] = [
            ("layers", |plan| plan.model.layers = u32::MAX),
            ("segments", |plan| plan.segments = u32::MAX),
            ("request slots", |plan| plan.serving.max_concurrent_requests = u32::MAX),
            ("bytes of weights", |plan| plan.model.blocks.attention[0] = Bytes(u64::MAX)),
            ("bytes on one device", |plan| plan.devices[0].memory.overhead = Bytes(u64::MAX)),
            ("bytes on one device", |plan| plan.devices[0].memory.budget = Bytes(u64::MAX)),
            ("MLP blocks", |plan| plan.model.blocks.mlp.truncate(3)),
            ("bytes of KV cache", |plan| {
                (plan.model.heads, plan.model.kv_heads, plan.model.head_dim) = (1 << 14, 1 << 14, 1 << 13);
                (plan.serving.max_context_tokens, plan.serving.max_concurrent_requests) = (1 << 24, 1 << 12);
            }),
        ];
        for (what, change) in changes {
            let refused = good.changed(change).unwrap_err();
            assert!(matches!(refused, PlanError::Unbelievable(_) | PlanError::Card(_)), "{what}: {refused}");
            assert!(refused.to_string().contains(what), "{refused}");
        }
    }
}
