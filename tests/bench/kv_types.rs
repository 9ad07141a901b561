//! What the type of KV entries does to a real model: perplexity, and answers that are not those of transformers in f32.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use lime_engine::{Engine, EngineOptions};
use lime_kernels::{Isa, Kernels};
use lime_model::ModelFolder;
use lime_plan::{BatchRows, DeviceIndex, Dtype, SegmentIndex, ServingLimits};
use lime_tests::{
    fixtures::shared,
    real_model::{answers, first_difference, golden, smollm2, three_devices},
    ring::{Workers, even_plan},
};
use lime_text::Tokenizer;

/// Tokens that are computed together, each knowing all before it; those of the second half are scored.
const WINDOW: usize = 512;

const TEXTS: [&str; 2] = ["tinyshakespeare.txt", "tinystories_sample.txt"];

/// Prints a row for each type, from `tokens` tokens of each text.
pub(crate) fn measure(threads: usize, tokens: usize) -> Result<()> {
    let Some(model) = smollm2()? else { return Ok(()) };
    println!("| KV entries | bytes a token | {} | {} | answers as in f32 |", TEXTS[0], TEXTS[1]);
    println!("|---|---|---|---|---|");
    for kv in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let folder = ModelFolder::open(&model)?;
        let card = folder.card("smollm2");
        let bytes = card.kv_bytes_per_token_per_layer(kv) * u64::from(card.layers);
        let mut row = format!("| {kv} | {} |", bytes.0);
        for name in TEXTS {
            let Some(texts) = shared("text") else { return Ok(()) };
            let text = std::fs::read_to_string(texts.join(name)).with_context(|| name.to_owned())?;
            let mut ids = Tokenizer::open(&model)?.encode(&text, false)?;
            ids.truncate(tokens);
            row.push_str(&format!(" {:.4} |", perplexity(&folder, kv, threads, &ids)?));
        }
        let (right, all) = answered(&model, kv)?;
        println!("{row} {right} of {all} |");
    }
    Ok(())
}

fn perplexity(folder: &ModelFolder, kv: Dtype, threads: usize, ids: &[u32]) -> Result<f64> {
    let rows = WINDOW as u32;
    let serving = ServingLimits { max_context_tokens: rows, max_concurrent_requests: 1, prefill_chunk_tokens: rows };
    let plan = even_plan(&folder.card("smollm2"), 1, 1, serving, kv)?;
    let options = EngineOptions { threads, ..EngineOptions::default() };
    let mut engine = Engine::load(folder, &plan, DeviceIndex(0), options, &mut |_, _| {})?;
    let kernels = Arc::new(Kernels::new(Isa::detect(), 1));
    let vocabulary = folder.config().vocabulary;
    let (mut sum, mut scored) = (0.0, 0_u32);
    for window in ids.chunks_exact(WINDOW) {
        let mut activation = engine.embed(window)?;
        engine.forward(SegmentIndex(0), &[BatchRows { slot: 0, start: 0, count: rows }], &mut activation)?;
        let places: Vec<usize> = (WINDOW / 2..WINDOW - 1).collect();
        let logits = engine.logits(&places, &activation)?;
        for (logits, place) in logits.chunks_exact(vocabulary).zip(places) {
            sum += f64::from(kernels.log_sum_exp(logits)) - f64::from(logits[window[place + 1] as usize]);
            scored += 1;
        }
    }
    ensure!(scored > 0, "the text is shorter than a window of {WINDOW} tokens");
    Ok((sum / f64::from(scored)).exp())
}

/// How many of the golden answers three devices give.
fn answered(model: &Path, kv: Dtype) -> Result<(usize, usize)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let cases = golden()?;
        let plan = three_devices(&ModelFolder::open(model)?.card("smollm2"), kv, 4)?;
        let mut workers = Workers::start(model, 3, 1).await?;
        let mut ring = workers.configure(&plan).await?;
        let mut right = 0;
        for (case, answer) in cases.iter().zip(answers(&mut ring, &cases, 4).await?) {
            match first_difference(case, &answer)? {
                None => right += 1,
                Some((at, margin)) => eprintln!("{kv}: {:?} differs at token {at}, margin {margin}", case.question),
            }
        }
        drop(ring);
        workers.stop().await?;
        Ok((right, cases.len()))
    })
}
