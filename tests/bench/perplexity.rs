//! Perplexity of GGUF files beside what llama.cpp makes of them, and beside exact arithmetic with the same weights: the files and the
//! peer's figures are those of `tests/fixtures/tools/gguf_golden.py formats`.
//!
//! Which of two roundings of activations is the better one, perplexity does not say: noise moves it up or down. How far the
//! distributions are from those of exact arithmetic (in f32, with the weights as they are stored) does.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use lime_tests::one_engine::OneEngine;
use serde::{Deserialize, de::DeserializeOwned};

/// What llama.cpp finds with one file, a sum for each piece of the text.
#[derive(Deserialize)]
struct Peer {
    /// Negative log likelihoods.
    #[serde(rename = "llama.cpp")]
    quantized: Vec<f64>,
    /// The same of the first pieces with the weights of the file in F32.
    exact: Vec<f64>,
    /// Kullback-Leibler divergences of the first from the second, of these pieces.
    divergence: Vec<f64>,
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Prints a line for each file in `folder`.
pub(crate) fn measure(folder: &Path, threads: usize) -> Result<()> {
    let pieces: Vec<Vec<u32>> = json(&folder.join("chunks.json"))?;
    let mut names: Vec<String> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned))
        .filter(|name| name != "chunks")
        .collect();
    names.sort();
    println!("{} tokens; what is exact, and how far from that, of the first pieces alone", pieces.concat().len());
    println!(
        "| file | LIME | llama.cpp | LIME / llama.cpp | LIME / exact | llama.cpp / exact | distance, LIME | llama.cpp |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    // Of each piece the first token is not guessed.
    let guessed: Vec<f64> = pieces.iter().map(|piece| f64::from(piece.len() as u32 - 1)).collect();
    for name in names {
        let peer: Peer = json(&folder.join(&name).with_extension("json"))?;
        let compared = peer.exact.len();
        let sound =
            peer.quantized.len() == pieces.len() && peer.divergence.len() == compared && compared <= pieces.len();
        ensure!(sound, "{name}.json is not of these pieces");
        let (ours, distance) = lime(folder, &name, &pieces, compared, threads)?;
        let per_token = |sums: &[f64]| sums.iter().sum::<f64>() / guessed[..sums.len()].iter().sum::<f64>();
        println!(
            "| {name} | {:.3} | {:.3} | {} | {} | {} | {:.6} | {:.6} |",
            per_token(&ours).exp(),
            per_token(&peer.quantized).exp(),
            ratio(&ours, &peer.quantized, &guessed),
            ratio(&ours, &peer.exact, &guessed),
            ratio(&peer.quantized, &peer.exact, &guessed),
            per_token(&distance),
            per_token(&peer.divergence),
        );
    }
    Ok(())
}

/// What LIME finds with a file: for each piece its negative log likelihood, and for the first ones how far it is from exact.
fn lime(
    folder: &Path,
    name: &str,
    pieces: &[Vec<u32>],
    compared: usize,
    threads: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let context = pieces.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let load = |name: &str| OneEngine::load(&folder.join(format!("{name}.gguf")), context, threads);
    let (mut quantized, mut exact) = (load(name)?, load(&format!("{name}-exact"))?);
    let (mut surprise, mut distance) = (Vec::new(), Vec::new());
    for (index, piece) in pieces.iter().enumerate() {
        let ours = log_likelihoods(quantized.logits(piece)?);
        surprise.push(-ours.iter().zip(&piece[1..]).map(|(row, next)| row[*next as usize]).sum::<f64>());
        if index < compared {
            let exact = log_likelihoods(exact.logits(piece)?);
            let of = |(exact, ours): (&Vec<f64>, &Vec<f64>)| -> f64 {
                exact.iter().zip(ours).map(|(exact, ours)| exact.exp() * (exact - ours)).sum()
            };
            distance.push(exact.iter().zip(&ours).take(piece.len() - 1).map(of).sum());
        }
    }
    Ok((surprise, distance))
}

fn log_likelihoods(logits: Vec<Vec<f32>>) -> Vec<Vec<f64>> {
    let of = |row: Vec<f32>| {
        let top = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
        let all = top + sum.ln();
        row.into_iter().map(|logit| f64::from(logit) - all).collect()
    };
    logits.into_iter().map(of).collect()
}

/// How much greater the first perplexity is, over the pieces that both have, with the standard error that their differences have.
fn ratio(ours: &[f64], theirs: &[f64], guessed: &[f64]) -> String {
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
    let guessed = &guessed[..differences.len()];
    let all: f64 = guessed.iter().sum();
    let mean = differences.iter().sum::<f64>() / all;
    let spread: f64 = differences.iter().zip(guessed).map(|(it, count)| (it - mean * count).powi(2)).sum();
    format!("{:+.3} % (± {:.3})", (mean.exp() - 1.0) * 100.0, spread.sqrt() / all * 100.0)
}
