//! What is served, and with what.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Files that say what to serve, and with what.
#[derive(Args, Debug)]
pub(crate) struct WishArgs {
    /// File with a LimeDeployment, and a LocalFleet beside it or in --fleet
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// File with a LocalFleet, instead of the one beside the LimeDeployment
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: Option<PathBuf>,

    /// How sums are formed, instead of spec.arithmetic
    #[arg(long, value_name = "KIND")]
    pub(crate) arithmetic: Option<ArithmeticArg>,

    /// How many times an activation goes round the ring for a token
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) segments: Option<u32>,

    /// Tokens of the prompt of a typical request, instead of spec.objective.promptTokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1 << 24))]
    pub(crate) prompt_tokens: Option<i32>,

    /// Tokens of the answer of a typical request, instead of spec.objective.answerTokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1 << 24))]
    pub(crate) answer_tokens: Option<i32>,

    /// Measure this machine anew instead of believing what was measured within a day
    #[arg(long)]
    pub(crate) measure: bool,
}

/// How sums are formed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ArithmeticArg {
    /// The same tokens on every CPU, over every plan
    Exact,
    /// candle's own operations; on the GPU of `lime worker --gpu`
    Candle,
}

impl From<ArithmeticArg> for lime_api::Arithmetic {
    fn from(arg: ArithmeticArg) -> Self {
        match arg {
            ArithmeticArg::Exact => Self::Exact,
            ArithmeticArg::Candle => Self::Candle,
        }
    }
}
