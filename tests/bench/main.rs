//! `make bench`: LIME's speed as ratios to what this machine can do, and to a peer where one is named.
//!
//! Every figure is taken in alternation with its yardstick, several times over, because the machine may be shared: what is
//! printed is the median of the rounds' ratios, with the lowest and the highest.

mod disk;
mod elsewhere;
mod kv_types;
mod machine;
mod memory;
mod one_process;
mod peer;
mod perplexity;
mod prefixes;
mod processes;
mod quants;
mod report;
mod ring;
mod security;
mod soak;
mod speculate;
mod stream;
mod truth;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use lime_tests::synthetic::{self, Shape};

/// Measures LIME on a synthetic 1.1 B-parameter Llama in bf16 (2.2 GB of random weights, written once).
#[derive(Parser)]
struct Args {
    /// Where the synthetic model is kept.
    #[arg(long, default_value = "target/bench-models")]
    models: PathBuf,
    /// Threads that compute.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// Rounds of alternation.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Tokens generated in a round.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Prompt rows of a round.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// llama.cpp's `llama-bench`, measured in alternation when given.
    #[arg(long, env = "LLAMA_BENCH")]
    llama_bench: Option<PathBuf>,
    /// prima.cpp's `llama-cli`, measured beside rings that stream when given.
    #[arg(long, env = "PRIMA_CLI")]
    prima_cli: Option<PathBuf>,
    /// Minutes that `soak` serves.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Tokens of each text that `kv-types` takes.
    #[arg(long, default_value_t = 16_384)]
    text_tokens: usize,
    /// Where `gguf_golden.py formats` wrote GGUF files and llama.cpp's figures, for `perplexity`.
    #[arg(long, default_value = "target/bench-models/formats")]
    formats: PathBuf,
    /// `speculate` measures only rings whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// `speculate` takes 81 M parameters instead of 1.1 B.
    #[arg(long)]
    small: bool,
    /// The `lime` binary that plays the ring's workers.
    #[arg(long, env = "LIME_BIN", default_value = "target/release/lime")]
    lime: PathBuf,
    /// What to measure.
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Everything.
    All,
    /// Decode and prefill in one process.
    OneProcess,
    /// Rings of worker processes on the loopback.
    Ring,
    /// A chat's second turn behind what was kept of the first; not part of `all`.
    Prefixes,
    /// One device under hard memory limits.
    StreamOne,
    /// How long rings that stream take to be ready.
    Start,
    /// Two and four devices under hard memory limits.
    StreamRing,
    /// Eight sequences at once over streamed weights.
    StreamBatch,
    /// Throttled disks and links: more segments against one.
    StreamSegments,
    /// 8 B parameters on two and four devices of 2 GB; writes 28 GB, and is not part of `all`.
    Stream8b,
    /// A KV cache that outgrows its device: pages on another one against streamed blocks, with throttled disks and links.
    Elsewhere,
    /// Predicted against measured time per token of what `lime up` serves.
    Truth,
    /// Mutual TLS against plain text on the loopback, with the bundled model.
    Security,
    /// A worker at its memory limit for `--minutes`, its cache growing and shrinking; not part of `all`.
    Soak,
    /// Perplexity and answers of a real model by the type of its KV entries; `--text-tokens` says how much text. Not part of `all`.
    KvTypes,
    /// Perplexity of a real model in every GGUF format beside llama.cpp's, and how far both are from exact arithmetic (`--formats`). Not part of `all`.
    Perplexity,
    /// Quantized weights in memory, beside llama.cpp on the same files. Not part of `all`.
    Quants,
    /// Quantized weights under hard memory limits, beside llama.cpp and prima.cpp. Not part of `all`.
    StreamQuants,
    /// Tokens guessed ahead against none: edits, prose and random text, in memory, on a ring and streamed. Not part of `all`.
    Speculate,
    /// Only writes the synthetic models.
    Synthesize,
}

/// What every measurement needs to know.
struct Bench {
    folder: PathBuf,
    gguf: PathBuf,
    threads: usize,
    rounds: usize,
    tokens: usize,
    prompt: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if matches!(args.what, What::All | What::Security) {
        security::measure(args.rounds)?;
    }
    if args.what == What::Security {
        return Ok(());
    }
    if matches!(args.what, What::All | What::Elsewhere) {
        elsewhere::measure(args.rounds)?;
    }
    if args.what == What::Elsewhere {
        return Ok(());
    }
    if args.what == What::KvTypes {
        return kv_types::measure(args.threads, args.text_tokens);
    }
    if args.what == What::Perplexity {
        return perplexity::measure(&args.formats, args.threads);
    }
    if args.what == What::Soak {
        return soak::measure(&args.lime, std::time::Duration::from_secs(args.minutes.saturating_mul(60)));
    }
    std::fs::create_dir_all(&args.models).with_context(|| format!("cannot create {}", args.models.display()))?;
    let Args { threads, rounds, tokens, prompt, .. } = args;
    let folder = args.models.join("llama-1b-bf16");
    let bench = Bench { gguf: folder.with_extension("gguf"), folder, threads, rounds, tokens, prompt };
    if args.what == What::Speculate {
        let (shape, name) =
            if args.small { (Shape::LLAMA_81M, "llama-81m-bf16") } else { (Shape::LLAMA_1B, "llama-1b-bf16") };
        let folder = args.models.join(name);
        synthetic::write_folder(&shape, &folder).context("cannot write the synthetic model")?;
        return speculate::measure(&folder, &speculate::Extent { threads, rounds, tokens, only: args.only });
    }
    let peers = quants::Peers { llama: args.llama_bench.as_deref(), prima: args.prima_cli.as_deref() };
    match args.what {
        What::Quants => return quants::in_memory(&bench, &peers),
        What::StreamQuants => return quants::streamed(&bench, &args.lime, &peers),
        _ => {}
    }
    eprintln!("the synthetic model is kept in {}", bench.folder.display());
    synthetic::write_folder(&Shape::LLAMA_1B, &bench.folder).context("cannot write the synthetic model")?;
    if args.llama_bench.is_some() || args.prima_cli.is_some() {
        synthetic::write_gguf(&Shape::LLAMA_1B, &bench.gguf).context("cannot write the peer's file")?;
    }
    if matches!(args.what, What::All | What::OneProcess) {
        one_process::measure(&bench, args.llama_bench.as_deref())?;
    }
    if matches!(args.what, What::All | What::Ring) {
        ring::measure(&bench, &args.lime)?;
    }
    if args.what == What::Prefixes {
        return prefixes::measure(&bench, &args.lime);
    }
    if matches!(args.what, What::All | What::StreamOne) {
        stream::one(&bench, &args.lime, args.llama_bench.as_deref())?;
    }
    if matches!(args.what, What::All | What::Start) {
        stream::start(&bench, &args.lime)?;
    }
    if matches!(args.what, What::All | What::StreamRing) {
        stream::ring(&bench, &args.lime, args.prima_cli.as_deref())?;
    }
    if matches!(args.what, What::All | What::StreamBatch) {
        stream::batch(&bench, &args.lime)?;
    }
    if matches!(args.what, What::All | What::StreamSegments) {
        stream::segments(&bench, &args.lime)?;
    }
    if args.what == What::Stream8b {
        let folder = args.models.join("llama-8b-bf16");
        eprintln!("writing {}", folder.display());
        synthetic::write_folder(&Shape::LLAMA_8B, &folder).context("cannot write the larger model")?;
        stream::large(&Bench { folder, ..bench }, &args.lime)?;
        return Ok(());
    }
    if matches!(args.what, What::All | What::Truth) {
        truth::measure(&bench, &args.lime)?;
    }
    Ok(())
}
