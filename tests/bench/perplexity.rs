//! Perplexity of GGUF files beside what llama.cpp makes of them: the files and its figures are those of
//! `tests/fixtures/tools/gguf_golden.py formats`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use lime_tests::one_engine::OneEngine;
use serde::Deserialize;

#[derive(Deserialize)]
struct Chunks {
    /// Ids of a text, each list seen from its start.
    chunks: Vec<Vec<u32>>,
    /// The mean negative log likelihood that llama.cpp finds, by the name of a file.
    #[serde(rename = "llama.cpp")]
    llama: BTreeMap<String, f64>,
}

/// Prints a line for each file in `folder`.
pub(crate) fn measure(folder: &Path, threads: usize) -> Result<()> {
    let path = folder.join("chunks.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let Chunks { chunks, llama } = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let context = chunks.iter().map(Vec::len).max().unwrap_or(0) as u32;
    println!("| file | LIME | llama.cpp | ratio |\n|---|---|---|---|");
    for (name, theirs) in llama {
        let mut engine = OneEngine::load(&folder.join(&name).with_extension("gguf"), context, threads)?;
        let (mut sum, mut count) = (0.0, 0);
        for chunk in &chunks {
            let surprise = engine.surprise(chunk)?;
            (sum, count) = (sum + surprise.iter().sum::<f64>(), count + surprise.len());
        }
        let (ours, theirs) = ((sum / f64::from(count as u32)).exp(), theirs.exp());
        println!("| {name} | {ours:.3} | {theirs:.3} | {:+.3} % |", (ours / theirs - 1.0) * 100.0);
    }
    Ok(())
}
