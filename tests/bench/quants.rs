//! Quantized weights: decode and prefill in memory, and under hard limits, beside the peers on the same GGUF files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lime_engine::{Engine, EngineOptions};
use lime_model::ModelFolder;
use lime_plan::{DeviceIndex, Dtype, Format, ServingLimits};
use lime_tests::{
    quantized::Mix,
    ring::even_plan,
    synthetic::{self, Shape},
};

use crate::{
    Bench,
    one_process::{decode_rate, prefill_rate},
    peer,
    report::{Samples, figure, ratio},
    stream,
};

/// What is measured, and the least ratio of decoding to llama.cpp's that is expected.
const MIXES: [(Mix, &str); 3] =
    [(Mix::All(Format::Q8_0), ">= 1.15"), (Mix::All(Format::Q4_0), ">= 1.0"), (Mix::Q4KM, ">= 1.0")];
/// Lengths of prompts.
const PROMPTS: [usize; 2] = [128, 512];

/// The programs of peers, where they are to be had.
pub(crate) struct Peers<'a> {
    pub(crate) llama: Option<&'a Path>,
    pub(crate) prima: Option<&'a Path>,
}

/// The synthetic model in a mix, written the first time.
fn file(bench: &Bench, mix: Mix) -> Result<PathBuf> {
    let path = bench.folder.with_file_name(format!("llama-1b-{}.gguf", mix.name()));
    eprintln!("writing {}", path.display());
    synthetic::write_gguf_as(&Shape::LLAMA_1B, mix, &path).context("cannot write the synthetic model")?;
    Ok(path)
}

/// Whether `mix` is the one that was asked for, if any was.
fn is_asked(mix: Mix, asked: Option<&str>) -> bool {
    asked.is_none_or(|asked| asked == mix.name())
}

/// Measures and prints: in memory.
pub(crate) fn in_memory(bench: &Bench, asked: Option<&str>, peers: &Peers<'_>) -> Result<()> {
    for (mix, least) in MIXES.into_iter().filter(|(mix, _)| is_asked(*mix, asked)) {
        let path = file(bench, mix)?;
        let folder = ModelFolder::open(&path)?;
        let card = folder.card("synthetic");
        let serving = ServingLimits { max_context_tokens: 1024, max_concurrent_requests: 1, prefill_chunk_tokens: 512 };
        let plan = even_plan(&card, 1, 1, serving, Dtype::F16)?;
        let options = EngineOptions { threads: bench.threads, ..EngineOptions::default() };
        let mut engine = Engine::load(&folder, &plan, DeviceIndex(0), options, &mut |_, _| {})?;
        println!("{}, {} threads, {} kernels, {}", mix.name(), bench.threads, engine.isa(), card.weight_bytes());
        let [mut decode, mut llama_decode] = std::array::from_fn(|_| Samples::default());
        let mut prefill = PROMPTS.map(|_| [Samples::default(), Samples::default()]);
        for _ in 0..bench.rounds {
            decode.push(decode_rate(&mut engine, bench.tokens)?);
            for (rows, [ours, theirs]) in PROMPTS.into_iter().zip(&mut prefill) {
                ours.push(prefill_rate(&mut engine, rows)?);
                let Some(llama) = peers.llama else { continue };
                let speed = peer::llama(llama, &path, bench.threads, rows, bench.tokens)?;
                theirs.push(speed.prefill);
                if rows == PROMPTS[0] {
                    llama_decode.push(speed.decode);
                }
            }
        }
        figure("  decode", &decode, "tokens/s");
        if peers.llama.is_some() {
            figure("  llama.cpp decode", &llama_decode, "tokens/s");
            ratio("  decode / llama.cpp", &decode.over(&llama_decode), least);
        }
        for (rows, [ours, theirs]) in PROMPTS.into_iter().zip(&prefill) {
            figure(&format!("  prefill of {rows} rows"), ours, "tokens/s");
            if peers.llama.is_some() {
                figure(&format!("  llama.cpp prefill of {rows} rows"), theirs, "tokens/s");
                ratio(&format!("  prefill of {rows} rows / llama.cpp"), &ours.over(theirs), ">= 1.0");
            }
        }
    }
    Ok(())
}

/// Measures and prints: larger than memory.
pub(crate) fn streamed(bench: &Bench, asked: Option<&str>, lime: &Path, peers: &Peers<'_>) -> Result<()> {
    for mix in [Mix::All(Format::Q8_0), Mix::Q4KM].into_iter().filter(|mix| is_asked(*mix, asked)) {
        let path = file(bench, mix)?;
        stream::quantized(&Bench { folder: path.clone(), gguf: path, ..*bench }, &mix.name(), lime, peers)?;
    }
    Ok(())
}
