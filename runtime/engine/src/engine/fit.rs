//! Whether a plan is one for this model and for what would be computed with it, before anything is allocated.

use lime_plan::{
    Arithmetic, Block, DeviceMemory, DevicePlan, DeviceSteps, Encoding, LayerIndex, MemoryModel, ModelCard,
    PlacedBlock, Plan, Relief, Residency,
};

use crate::{engine_error::EngineError, weights::WeightSource};
use lime_model::ModelConfig;

/// Refuses what candle's arithmetic cannot do, by name.
pub(super) fn computed_by_candle(config: &ModelConfig, device: &DevicePlan) -> Result<(), EngineError> {
    if config.encoding == Encoding::Compact {
        return Err(EngineError::CompactCandle);
    }
    let streamed = device.blocks.iter().find(|placed| placed.residency == Residency::Streamed);
    if let Some(PlacedBlock { block, .. }) = streamed {
        return Err(EngineError::Streamed { block: *block });
    }
    if !device.steps.is_empty() {
        return Err(EngineError::StepsCandle { device: device.name.clone() });
    }
    Ok(())
}

/// Refuses a plan that counts less memory than would be allocated, before any of it is.
pub(super) fn counted(plan: &Plan, device: &DevicePlan) -> Result<(), EngineError> {
    let needed = MemoryModel::of(plan).device(&device.blocks);
    let DeviceMemory { pinned, activations, .. } = device.memory;
    let mut kv = device.memory.kv;
    if plan.arithmetic == Arithmetic::Exact && !device.steps.is_empty() {
        kv = DeviceSteps::of(plan, device)?.most();
    }
    if needed.pinned <= pinned && needed.kv <= kv && needed.activations <= activations {
        return Ok(());
    }
    let (device, needed, planned) = (device.name.clone(), needed.used(), pinned + kv + activations);
    Err(EngineError::Uncounted { device, needed, planned })
}

/// Refuses to hand pages over where attention is bounded: whoever keeps them knows of no bounds.
pub(super) fn keeps_its_pages(plan: &Plan, device: &DevicePlan) -> Result<(), EngineError> {
    let hands_over = device.steps.iter().any(|step| matches!(step.relief, Relief::HandOver { .. }));
    if !hands_over || plan.model.features.attends_plainly() {
        return Ok(());
    }
    let what = "attention with a window or a soft cap over pages that another device keeps".to_owned();
    Err(EngineError::NotComputed { block: Block::Attention(LayerIndex(0)), what })
}

/// Refuses a plan whose sizes are not this model's.
pub(super) fn same_model(source: &WeightSource<'_>, config: &ModelConfig, plan: &Plan) -> Result<(), EngineError> {
    let (planned, found) = (&plan.model, config.card(&plan.model.name));
    let differs = |what, planned: String, found: String| {
        let path = source.folder.path().to_owned();
        Err(EngineError::OtherModel { path, what, planned, found })
    };
    let ModelConfig { context, .. } = *config;
    if plan.serving.max_context_tokens as usize > context {
        return differs("the context", plan.serving.max_context_tokens.to_string(), format!("at most {context}"));
    }
    let numbers = [
        ("the number of layers", planned.layers, found.layers),
        ("the hidden size", planned.hidden, found.hidden),
        ("the intermediate size", planned.intermediate, found.intermediate),
        ("the number of heads", planned.heads, found.heads),
        ("the number of KV heads", planned.kv_heads, found.kv_heads),
        ("the head dimension", planned.head_dim, found.head_dim),
        ("the vocabulary", planned.vocabulary, found.vocabulary),
    ];
    if let Some((what, planned, found)) = numbers.into_iter().find(|(_, planned, found)| planned != found) {
        return differs(what, planned.to_string(), found.to_string());
    }
    if (planned.architecture, planned.format, planned.tied) != (found.architecture, found.format, found.tied) {
        let kind = |card: &ModelCard| {
            let head = if card.tied { "a tied head" } else { "a head of its own" };
            format!("{:?} in {} with {head}", card.architecture, card.format)
        };
        return differs("the kind of model", kind(planned), kind(&found));
    }
    if config.encoding == Encoding::Compact && source.store.is_none() {
        return Err(EngineError::CompactWithoutStore);
    }
    if planned.features != found.features {
        let features = |card: &ModelCard| format!("{:?}", card.features);
        return differs("what its layers compute", features(planned), features(&found));
    }
    if planned.blocks != found.blocks {
        return differs("the weights' size", planned.weight_bytes().to_string(), found.weight_bytes().to_string());
    }
    Ok(())
}
