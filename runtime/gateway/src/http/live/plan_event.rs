//! The plan as the page draws it: who holds what, and what is expected of it.

use lime_plan::{Block, DevicePlan, Plan, Prediction, Residency};
use serde_json::{Value, json};

use crate::{http::App, status::ServedPlan};

/// A plan, with the model that it serves and how clients ask for it.
pub(super) fn plan(app: &App, served: &ServedPlan, plan: &Plan) -> Value {
    let head = plan.devices.get(plan.head.0 as usize).map(|device| device.name.as_str());
    let devices: Vec<Value> =
        plan.devices.iter().map(|device| self::device(device, Some(device.name.as_str()) == head)).collect();
    let generation = &app.text.generation;
    json!({
        "name": served.name,
        "generation": served.generation,
        "served_name": app.served_name,
        "build": env!("CARGO_PKG_VERSION"),
        "model": {
            "name": plan.model.name,
            "layers": plan.model.layers,
            "parameters": plan.model.parameters,
            "format": plan.model.format.to_string(),
            "bytes": plan.model.all_blocks().map(|block| plan.model.block_bytes(block).0).sum::<u64>(),
            "chat_template": app.text.has_template(),
        },
        "context_tokens": served.context,
        "concurrent_requests": served.slots,
        "segments": plan.segments,
        "defaults": {
            "temperature": if generation.do_sample == Some(false) { Some(0.0) } else { generation.temperature },
            "top_p": generation.top_p,
            "max_tokens": generation.max_new_tokens,
        },
        "devices": devices,
        "prediction": plan.outlook.as_ref().map(|outlook| prediction(&outlook.prediction)),
    })
}

/// A device; blocks by their numbers in the model's order, of which 0 is the embedding.
fn device(device: &DevicePlan, head: bool) -> Value {
    let ranges: Vec<Value> = device.ranges.iter().map(|range| json!([range.start, range.end])).collect();
    let streamed: Vec<u64> = device
        .blocks
        .iter()
        .filter(|placed| placed.residency == Residency::Streamed)
        .filter_map(|placed| number(placed.block))
        .collect();
    let memory = &device.memory;
    json!({
        "name": device.name,
        "embedding": device.holds(Block::Embedding),
        "head": head,
        "ranges": ranges,
        "streamed": streamed,
        "steps": device.steps.len(),
        "memory": {
            "pinned_bytes": memory.pinned.0,
            "prefetch_bytes": memory.prefetch.0,
            "kv_bytes": memory.kv.0,
            "activation_bytes": memory.activations.0,
            "overhead_bytes": memory.overhead.0,
            "lent_bytes": memory.lent.0,
            "budget_bytes": memory.budget.0,
        },
    })
}

/// A block's number in the model's order; the head has none that does not depend on the number of layers.
fn number(block: Block) -> Option<u64> {
    match block {
        Block::Embedding => Some(0),
        Block::Attention(layer) => Some(2 * u64::from(layer.0) + 1),
        Block::Mlp(layer) => Some(2 * u64::from(layer.0) + 2),
        Block::Head => None,
    }
}

fn prediction(prediction: &Prediction) -> Value {
    json!({
        "tokens_per_second": prediction.tokens_per_second(),
        "sequences": prediction.sequences,
        "context_tokens": prediction.context_tokens,
        "time_to_first_token_seconds": prediction.time_to_first_token.seconds(),
        "prompt_tokens": prediction.prompt_tokens,
        "binds": prediction.binds,
    })
}
