//! `lime plan`.

use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use super::wish::WishArgs;

const PLAN_HELP: &str = "\
Examples:
  What `lime up` would do here:
    lime plan -f manifests/bard.yaml --explain

  A fleet of boards that are not here, and a model of which only config.json is:
    lime plan -f manifests/llama-70b.yaml --model path/to/llama-3.3-70b --profiles manifests/fleets/jetsons-four.yaml

  Machines that were measured, each with `lime profile -o json > profiles/NAME.json`:
    lime plan -f deployment.yaml --profiles profiles/ --compare --timeline plan.svg";

#[derive(Args, Debug)]
#[command(after_long_help = PLAN_HELP)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) wish: WishArgs,

    /// The nodes: a fleet's file (manifests/fleets/), or a folder of what `lime profile -o json` wrote on each
    #[arg(long, value_name = "PATH", conflicts_with = "fleet")]
    pub(crate) profiles: Option<PathBuf>,

    /// The model's folder, instead of spec.model.source; config.json alone will do
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,

    /// The same model in another precision, to be suggested where the first does not fit: a folder, a GGUF file, hf://ORG/NAME:QUANT
    /// or the like, or :QUANT alone for another quantization of the same repository; may be repeated
    #[arg(long = "or-model", value_name = "MODEL")]
    pub(crate) or_models: Vec<String>,

    /// Form of the plan
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    /// Say where the time goes, what binds, who is left out and why, and what else was considered
    #[arg(long)]
    pub(crate) explain: bool,

    /// Draw what every device does during one token in steady state
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) timeline: Option<PathBuf>,

    /// Predict the same fleet under other systems' strategies too
    #[arg(long)]
    pub(crate) compare: bool,
}
