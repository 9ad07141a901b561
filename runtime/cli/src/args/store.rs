//! What looks at models and fills the weight store: `lime inspect`, `lime pull`, `lime store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Output;

const PULL_HELP: &str = "\
Examples:
  A whole model from the Hugging Face hub:
    lime pull hf://meta-llama/Llama-3.2-1B

  One quantization of the GGUF files there:
    lime pull hf://Qwen/Qwen3-8B-GGUF:Q4_K_M

  Only what device a of a plan holds, from a mirror that speaks as the hub does:
    lime plan -f fleet.yaml -o json > plan.json
    HF_ENDPOINT=https://mirror.example lime pull hf://org/model --plan plan.json --device a

  From a folder on this machine, or one on a web server that knows range requests:
    lime pull path/to/model
    lime pull https://models.example/bard

A pull that was cut, even by a power cut, goes on from where it was when it is run again; several may run at once.
Gated and private models need a token: HF_TOKEN, or the file that the hub's own tools keep.";

#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  lime inspect path/to/model\n  lime inspect path/to/model -o json\n  lime inspect hf://Qwen/Qwen3-8B-GGUF:Q4_K_M"
)]
pub(crate) struct InspectArgs {
    /// The model's folder (config.json, *.safetensors, tokenizer.json), file://FOLDER, hf://ORG/NAME or http(s)://HOST/FOLDER; a GGUF
    /// file by its path or address, on the hub hf://ORG/NAME:QUANT or hf://ORG/NAME/FILE.gguf. Of those on servers only the small files, headers and samples of the weights are fetched, and nothing is kept
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Branch, tag or commit of an hf:// model
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,

    /// Form of the card
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    /// Also write a brief card, or why there is none, to this file (the operator's inspections do this)
    #[arg(long, value_name = "FILE")]
    pub(crate) termination_log: Option<PathBuf>,
}

/// Where the weight store is.
#[derive(Args, Debug)]
pub(crate) struct StoreFolder {
    /// The weight store's folder; default: lime in the user's cache folder
    #[arg(long = "store", value_name = "DIR", env = "LIME_STORE", global = true)]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_long_help = PULL_HELP)]
pub(crate) struct PullArgs {
    /// hf://ORG/NAME, http(s)://HOST/FOLDER, file://FOLDER or a folder's path; of GGUF files hf://ORG/NAME:QUANT,
    /// hf://ORG/NAME/FILE.gguf, or the file in the folder's place
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// Branch, tag or commit of an hf:// source; default: main
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreFolder,

    /// Only the blocks of this device of --plan
    #[arg(long, value_name = "NAME", requires = "plan")]
    pub(crate) device: Option<String>,

    /// A plan as JSON (`lime plan -o json`)
    #[arg(long, value_name = "FILE", requires = "device")]
    pub(crate) plan: Option<PathBuf>,

    /// Blocks fetched at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) connections: u16,

    /// Read the blocks that are there and compare their digests; else sizes and headers are compared
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  lime store ls\n  lime store verify --repair\n  lime store prune --dry-run bard-2m\n  lime store prune --all"
)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) store: StoreFolder,

    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the models and what is there of each
    Ls,
    /// Read every block and compare its digest
    Verify {
        /// Names or keys of models, as `lime store ls` shows them; default: all
        #[arg(value_name = "MODEL")]
        models: Vec<String>,

        /// Make damaged blocks again, from where they came
        #[arg(long)]
        repair: bool,
    },
    /// Remove models, and what interrupted pulls left behind
    Prune {
        /// Names or keys of models, as `lime store ls` shows them; without any, only leftovers go
        #[arg(value_name = "MODEL", conflicts_with = "all")]
        models: Vec<String>,

        /// Remove every model
        #[arg(long)]
        all: bool,

        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}
