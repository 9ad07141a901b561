//! A model in ten lines: `cargo run --release -p lime-engine --example run_model [-- FOLDER [PROMPT]]`.
//!
//! No ring, no gateway: one engine that holds all of the model, and the likeliest token each time.

use std::{
    env,
    error::Error,
    io::{Write as _, stdout},
};

use lime_engine::{Engine, EngineOptions, Sampling};
use lime_model::ModelFolder;
use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
use lime_plan::{Arithmetic, BatchRows, Bytes, DeviceIndex, Dtype, SegmentIndex, ServingLimits};
use lime_text::ServedText;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| MODEL.to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "ROMEO:".to_owned());

    let folder = ModelFolder::open(&model)?;
    let plan = proportional(&PlanRequest {
        model: &folder.card("here"),
        devices: &[DeviceBudget { name: "here".into(), memory: Bytes::gib(16) }],
        serving: ServingLimits { max_context_tokens: 256, max_concurrent_requests: 1, prefill_chunk_tokens: 64 },
        segments: 1,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv: Dtype::F16,
    })?;
    let mut engine = Engine::load(&folder, &plan, DeviceIndex(0), EngineOptions::default(), &mut |_, _| {})?;
    let text = ServedText::open(&model)?;

    let mut rows = text.tokenizer.encode(&prompt, true)?;
    let (mut start, mut shown) = (0, text.tokenizer.decode_stream(true));
    while start < 64 {
        let count = rows.len() as u32;
        let mut activation = engine.embed(&rows)?;
        engine.forward(SegmentIndex(0), &[BatchRows { slot: 0, start, count }], &mut activation)?;
        let mut logits = engine.logits(&[count as usize - 1], &activation)?;
        let drawn = engine.sample(&mut logits, &Sampling::default())?.token;
        print!("{}", shown.push(drawn));
        stdout().flush()?;
        (start, rows) = (start + count, vec![drawn]);
    }
    println!();
    Ok(())
}
