//! One process, all weights in memory: decode against read bandwidth, prefill against the FMA peak, both against llama.cpp.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use lime_engine::{Engine, EngineOptions, Sampling};
use lime_model::ModelFolder;
use lime_plan::{BatchRows, Block, DeviceIndex, Dtype, LayerIndex, ModelCard, SegmentIndex, ServingLimits};
use lime_tests::ring::even_plan;

use crate::{
    Bench, machine, peer,
    report::{Samples, figure, ratio},
};

const ONLY: SegmentIndex = SegmentIndex(0);

/// Measures and prints.
pub(crate) fn measure(bench: &Bench, llama: Option<&Path>) -> Result<()> {
    let folder = ModelFolder::open(&bench.folder)?;
    let card = folder.card("synthetic");
    let most_rows = bench.prompt.max(1) as u32;
    let serving =
        ServingLimits { max_context_tokens: 1024, max_concurrent_requests: 1, prefill_chunk_tokens: most_rows };
    let plan = even_plan(&card, 1, 1, serving, Dtype::Bf16)?;
    let options = EngineOptions { threads: bench.threads, ..EngineOptions::default() };
    let mut engine = Engine::load(&folder, &plan, DeviceIndex(0), options, &mut |_, _| {})?;
    println!("one process, {} threads, {} kernels, {}", bench.threads, engine.isa(), card.weight_bytes());

    let [mut decode, mut prefill, mut read, mut peak] = std::array::from_fn(|_| Samples::default());
    let [mut llama_decode, mut llama_prefill] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.rounds {
        read.push(machine::read_bandwidth(bench.threads) / 1e9);
        decode.push(decode_rate(&mut engine, bench.tokens)?);
        peak.push(machine::fma_peak(bench.threads) / 1e9);
        prefill.push(prefill_rate(&mut engine, bench.prompt)?);
        if let Some(llama) = llama {
            let speed = peer::llama(llama, &bench.gguf, bench.threads, bench.prompt, bench.tokens)?;
            llama_decode.push(speed.decode);
            llama_prefill.push(speed.prefill);
        }
    }
    let per_token = (card.weight_bytes() - card.blocks.embedding).0 as f64 / 1e9;
    let flops = prefill_flops_per_row(&card) / 1e9;
    let scale = |samples: &Samples, factor: f64| {
        let mut scaled = Samples::default();
        samples.each(|value| scaled.push(value * factor));
        scaled
    };
    figure("read bandwidth, huge pages", &read, "GB/s");
    figure("f32 FMA peak", &peak, "GFLOP/s");
    figure("decode", &decode, "tokens/s");
    figure(&format!("prefill of {} rows", bench.prompt), &prefill, "tokens/s");
    ratio("decode: weights read / read bandwidth", &scale(&decode, per_token).over(&read), ">= 0.85");
    ratio("prefill: multiply-adds / FMA peak", &scale(&prefill, flops).over(&peak), ">= 0.85");
    if llama.is_some() {
        figure("llama.cpp decode", &llama_decode, "tokens/s");
        figure("llama.cpp prefill (bf16 dot where the CPU has it)", &llama_prefill, "tokens/s");
        ratio("decode / llama.cpp", &decode.over(&llama_decode), ">= 1.25");
        ratio("prefill / llama.cpp", &prefill.over(&llama_prefill), "(exact arithmetic: none)");
    }
    Ok(())
}

/// Projections of all layers; attention over positions is not counted, the head computes one row only.
fn prefill_flops_per_row(card: &ModelCard) -> f64 {
    let layers = (0..card.layers).map(LayerIndex);
    layers.map(|layer| card.flops_per_row(Block::Attention(layer)) + card.flops_per_row(Block::Mlp(layer))).sum::<u64>()
        as f64
}

/// Tokens per second after a short prompt.
pub(crate) fn decode_rate(engine: &mut Engine, tokens: usize) -> Result<f64> {
    let mut token = step(engine, 0, &(1..=16).collect::<Vec<u32>>())?;
    let begin = Instant::now();
    for index in 0..tokens {
        token = step(engine, 16 + index as u32, &[token])?;
    }
    let rate = tokens as f64 / begin.elapsed().as_secs_f64();
    engine.reset();
    Ok(rate)
}

/// Prompt tokens per second, the first drawn token included.
pub(crate) fn prefill_rate(engine: &mut Engine, rows: usize) -> Result<f64> {
    let prompt: Vec<u32> = (1..=rows as u32).collect();
    let begin = Instant::now();
    step(engine, 0, &prompt)?;
    let rate = rows as f64 / begin.elapsed().as_secs_f64();
    engine.reset();
    Ok(rate)
}

/// One pass of one sequence; gives the token drawn from its last row.
fn step(engine: &mut Engine, start: u32, tokens: &[u32]) -> Result<u32> {
    let mut activation = engine.embed(tokens)?;
    let rows = [BatchRows { slot: 0, start, count: tokens.len() as u32 }];
    engine.forward(ONLY, &rows, &mut activation)?;
    let mut logits = engine.logits(&[tokens.len() - 1], &activation)?;
    let sampled = engine.sample(&mut logits, &Sampling::default()).context("cannot draw a token")?;
    Ok(sampled.token)
}
