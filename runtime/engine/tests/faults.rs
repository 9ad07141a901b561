//! Wrong plans, wrong passes and damaged weights: a clear error, and the engine lives on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{Ring, Wish, bits, bundled};
use lime_engine::{Activation, Engine, EngineError, EngineOptions};
use lime_model::ModelFolder;
use lime_plan::{BatchRows, Bytes, DeviceIndex, Plan, PlanDraft, PlanError, Residency, SegmentIndex, ServingLimits};

fn wish(folder: &ModelFolder) -> Wish {
    let serving = ServingLimits { max_context_tokens: 20, max_concurrent_requests: 2, prefill_chunk_tokens: 8 };
    Wish { serving, ..Wish::golden(folder) }
}

fn load(folder: &ModelFolder, plan: &Plan, device: u32) -> Result<Engine, EngineError> {
    Engine::load(folder, plan, DeviceIndex(device), EngineOptions::default(), &mut |_, _| {})
}

fn refused<T>(outcome: Result<T, EngineError>, words: &[&str]) {
    let Err(fault) = outcome else { panic!("accepted, where {words:?} was expected") };
    let text = fault.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not name {words:?}");
}

#[test]
fn passes_that_make_no_sense() {
    let folder = bundled("tiny-qwen2-bf16");
    let mut ring = Ring::plain(&folder, wish(&folder), 1);
    let prompt = [5, 6, 7, 8];
    let expected = bits(&ring.feed(1, 0, &prompt, 4));
    ring.feed(0, 0, &prompt[..3], 3);

    let engine = &mut ring.engines[0];
    refused(engine.embed(&[5, 320]), &["token 320", "320"]);
    refused(engine.embed(&[]), &["0 rows", "1 to 10"]);
    refused(engine.embed(&[5; 11]), &["11 rows"]);
    let mut two = engine.embed(&[5, 6]).unwrap();
    let mut forward = |segment, parts: &[BatchRows], words: &[&str]| {
        refused(engine.forward(SegmentIndex(segment), parts, &mut two), words);
    };
    let part = |slot, start, count| BatchRows { slot, start, count };
    forward(1, &[part(0, 3, 2)], &["segment 1", "plan of 1"]);
    forward(0, &[part(0, 3, 3)], &["2 rows", "3"]);
    forward(0, &[part(0, 4, 2)], &["slot 0", "position 4", "continues at 3"]);
    forward(0, &[part(2, 0, 2)], &["slot 2", "has 2"]);
    forward(0, &[part(0, 19, 2)], &["21 positions", "20"]);
    forward(0, &[part(0, u32::MAX, 2)], &["slot 0", "context"]);
    forward(0, &[part(0, 3, u32::MAX), part(0, 3, 3)], &["rows"]);
    forward(0, &[part(0, 3, 2), part(0, 5, 0)], &["0 rows"]);
    forward(0, &[], &["0 rows"]);
    refused(engine.logits(&[2], &two), &["row 2", "2 rows"]);
    let mut narrow = Activation::new(2, 3, vec![0.0; 6]).unwrap();
    refused(engine.forward(SegmentIndex(0), &[part(0, 3, 2)], &mut narrow), &["3 elements", "64"]);
    refused(engine.logits(&[0], &narrow), &["3 elements", "64"]);
    engine.release(9);

    assert_eq!(bits(&ring.feed(0, 3, &prompt[3..], 1)), expected);
}

#[test]
fn blocks_that_are_elsewhere() {
    let folder = bundled("tiny-mistral-bf16");
    let plan = Wish { devices: 2, head: 1, ..wish(&folder) }.plan(&folder);
    let mut first = load(&folder, &plan, 0).unwrap();
    let activation = first.embed(&[5]).unwrap();
    refused(first.logits(&[0], &activation), &["head is not on this device"]);
    let mut second = load(&folder, &plan, 1).unwrap();
    refused(second.embed(&[5]), &["embedding is not on this device"]);
}

#[test]
fn plans_that_cannot_be_followed() {
    let folder = bundled("tiny-mistral-bf16");
    let plan = wish(&folder).plan(&folder);
    refused(load(&folder, &plan, 1), &["1 devices", "device 1"]);

    let changed = |change: &dyn Fn(&mut PlanDraft)| plan.changed(change).unwrap();

    let streamed = changed(&|plan| plan.devices[0].blocks[2].residency = Residency::Streamed);
    refused(load(&folder, &streamed, 0), &["streams mlp(0)"]);

    let narrow = plan.changed(|plan| plan.devices[0].memory.budget = Bytes(1)).unwrap_err();
    assert!(matches!(narrow, PlanError::OverBudget { .. }), "{narrow}");

    let uncounted = changed(&|plan| plan.devices[0].memory.kv = Bytes(0));
    refused(load(&folder, &uncounted, 0), &["d0", "the plan counts", "plan again"]);

    let other = bundled("tiny-llama3-bf16");
    refused(load(&other, &plan, 0), &["another model", "tiny-llama3-bf16"]);
    let shape = changed(&|plan| plan.model.heads += 1);
    refused(load(&folder, &shape, 0), &["number of heads", "5", "4"]);
    let context = changed(&|plan| {
        plan.serving.max_context_tokens = 1000;
        plan.devices[0].memory.budget = Bytes::gib(1);
    });
    refused(load(&folder, &context, 0), &["1000", "256"]);
}

#[test]
fn weights_cut_short_after_they_were_opened() {
    let source = bundled("tiny-llama3-bf16");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(source.path().join(name), dir.path().join(name)).unwrap();
    }
    let folder = ModelFolder::open(dir.path()).unwrap();
    let plan = wish(&folder).plan(&folder);
    let weights = dir.path().join("model.safetensors");
    let size = fs::metadata(&weights).unwrap().len();
    fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len(size - 1).unwrap();
    refused(load(&folder, &plan, 0), &["model.safetensors", "tensor", "truncated"]);
    fs::remove_file(&weights).unwrap();
    refused(load(&folder, &plan, 0), &["cannot open", "model.safetensors"]);
}
