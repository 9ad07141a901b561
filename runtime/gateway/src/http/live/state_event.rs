//! The ring's state and its workers' figures at one moment.

use lime_plan::Plan;
use lime_ring::proto::StatusReply;
use serde_json::{Value, json};

use crate::{
    config::Event,
    happenings::{Happening, unix_millis},
    http::App,
    status::RingState,
};

/// The state by the devices of `plan`, in ring order.
pub(super) fn state(app: &App, state: &RingState, plan: &Plan, replies: &[StatusReply]) -> Value {
    let devices: Vec<Value> = plan
        .devices
        .iter()
        .map(|device| {
            let reply = replies.iter().find(|reply| reply.device == device.name);
            let (loaded, total) = state.devices.get(&device.name).copied().unwrap_or_default();
            self::device(&device.name, loaded, total, reply)
        })
        .collect();
    let (waiting, active, drawn) = app.metrics.at_present();
    json!({
        "at_millis": unix_millis(),
        "phase": state.phase.name(),
        "epoch": state.epoch,
        "trouble": state.trouble,
        "requests": { "waiting": waiting, "active": active },
        "drawn_tokens": drawn,
        "devices": devices,
        "happened": state.happenings.iter().map(happened).collect::<Vec<_>>(),
    })
}

/// A device; of one that does not answer only what the gateway knows.
fn device(name: &str, loaded: u64, total: u64, reply: Option<&StatusReply>) -> Value {
    let mut device = json!({ "name": name, "answers": reply.is_some(), "loaded_bytes": loaded, "total_bytes": total });
    let Some(reply) = reply else { return device };
    device["phase"] = reply.phase.as_str().into();
    device["stuck"] = reply.stuck.as_str().into();
    if let Some(memory) = &reply.memory {
        device["memory"] = json!({
            "pinned_bytes": memory.pinned_bytes,
            "prefetch_bytes": memory.prefetch_bytes,
            "kv_bytes": memory.kv_bytes,
            "kv_room_bytes": memory.kv_room_bytes,
            "activation_bytes": memory.activation_bytes,
            "shortage_bytes": memory.shortage_bytes,
        });
    }
    if let Some(stream) = &reply.stream {
        device["stream"] = json!({
            "blocks": stream.blocks,
            "bytes": stream.bytes,
            "read_bytes": stream.read_bytes,
            "wait_micros": stream.wait_micros,
        });
    }
    if let Some(work) = &reply.work {
        device["work"] = json!({ "passes": work.passes, "compute_micros": work.compute_micros });
    }
    device
}

fn happened(happening: &Happening) -> Value {
    let mut told = match &happening.event {
        Event::Loading { .. } => json!({ "kind": "loading" }),
        Event::Ready { epoch } => json!({ "kind": "ready", "epoch": epoch }),
        Event::WorkerLost { device, reason } => json!({ "kind": "lost", "device": device, "reason": reason }),
        Event::Unavailable { reason } => json!({ "kind": "unavailable", "reason": reason }),
        Event::PlanTaken { name, generation } => json!({ "kind": "plan", "name": name, "generation": generation }),
        Event::Recovered { epoch } => json!({ "kind": "recovered", "epoch": epoch }),
    };
    told["number"] = happening.number.into();
    told["at_millis"] = happening.at_millis.into();
    told
}
