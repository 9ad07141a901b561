//! Bounds of the numbers in a plan. Plans come over the network and from files: what is within these bounds can be added up and
//! multiplied without a second thought, and no list made from it is longer than a machine can hold.

use crate::{Bytes, KV_PAGE_TOKENS, MemoryModel, Plan, PlanError};

/// Far more than all memory and disks of a fleet.
const MOST_BYTES: u128 = 1 << 56;

/// The first number that cannot be meant.
pub(crate) fn check(plan: &Plan) -> Result<(), PlanError> {
    let (card, serving) = (&plan.model, &plan.serving);
    let counts: [(&'static str, u64, u32); 12] = [
        ("devices", plan.devices.len() as u64, 12),
        ("segments", plan.segments.into(), 16),
        ("layers", card.layers.into(), 16),
        ("columns of the residual stream", card.hidden.into(), 20),
        ("columns of an MLP", card.intermediate.into(), 22),
        ("heads", card.heads.into(), 14),
        ("KV heads", card.kv_heads.into(), 14),
        ("columns of a head", card.head_dim.into(), 14),
        ("tokens in the vocabulary", card.vocabulary.into(), 26),
        ("tokens of context", serving.max_context_tokens.into(), 26),
        ("request slots", serving.max_concurrent_requests.into(), 14),
        ("prefill rows", serving.prefill_chunk_tokens.into(), 20),
    ];
    for (what, found, bits) in counts {
        believe(what, found.into(), 1 << bits)?;
    }
    let memory = MemoryModel::of(plan);
    let pages = u128::from(memory.pages_per_slot()) * u128::from(serving.max_concurrent_requests);
    let page = u128::from(card.kv_bytes_per_token_per_layer(plan.kv).0) * u128::from(KV_PAGE_TOKENS);
    believe("bytes of KV cache", pages * page * u128::from(card.layers), MOST_BYTES)?;
    let blocks = &card.blocks;
    let ends = [&blocks.embedding, &blocks.head, &blocks.head_beside_embedding];
    believe("bytes of weights", sum(ends.into_iter().chain(&blocks.attention).chain(&blocks.mlp)), MOST_BYTES)?;
    for device in &plan.devices {
        let it = &device.memory;
        believe(
            "bytes on one device",
            sum([&it.pinned, &it.prefetch, &it.kv, &it.activations, &it.overhead, &it.lent]),
            MOST_BYTES,
        )?;
    }
    Ok(())
}

fn believe(what: &'static str, found: u128, most: u128) -> Result<(), PlanError> {
    if found <= most { Ok(()) } else { Err(PlanError::Unbelievable { what, found, most }) }
}

fn sum<'a>(sizes: impl IntoIterator<Item = &'a Bytes>) -> u128 {
    sizes.into_iter().map(|bytes| u128::from(bytes.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServingLimits;
    use crate::testing::{self, DeviceBudget, PlanRequest, proportional};

    fn plan() -> Plan {
        let card = testing::small_card(&mut testing::Random::new(1), 4);
        let devices = [DeviceBudget { name: "a".into(), memory: Bytes::gib(1 << 20) }];
        let serving = ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 8 };
        let request = PlanRequest {
            model: &card,
            devices: &devices,
            serving,
            segments: 1,
            arithmetic: crate::Arithmetic::Exact,
            residual: crate::Dtype::F32,
            kv: crate::Dtype::F32,
        };
        proportional(&request).unwrap()
    }

    #[test]
    fn numbers_at_which_arithmetic_breaks_are_refused_by_name() {
        type Change = fn(&mut Plan);
        let good = plan();
        check(&good).unwrap();
        let changes: [(&str, Change); 6] = [
            ("layers", |plan| plan.model.layers = u32::MAX),
            ("segments", |plan| plan.segments = u32::MAX),
            ("request slots", |plan| plan.serving.max_concurrent_requests = u32::MAX),
            ("bytes of weights", |plan| plan.model.blocks.attention[0] = Bytes(u64::MAX)),
            ("bytes on one device", |plan| plan.devices[0].memory.overhead = Bytes(u64::MAX)),
            ("bytes of KV cache", |plan| {
                (plan.model.heads, plan.model.kv_heads, plan.model.head_dim) = (1 << 14, 1 << 14, 1 << 14);
                plan.serving.max_context_tokens = 1 << 26;
            }),
        ];
        for (what, change) in changes {
            let mut plan = good.clone();
            change(&mut plan);
            let refused = plan.validate().unwrap_err();
            assert!(matches!(refused, PlanError::Unbelievable { .. }), "{what}: {refused}");
            assert!(refused.to_string().contains(what), "{refused}");
        }
    }
}
