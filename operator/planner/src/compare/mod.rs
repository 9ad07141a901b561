//! Other systems' strategies on the same inputs: what a fleet would give under each of them.
//!
//! Each is modelled with the same costs as our own plans, at its best: it chooses its own split, reads at the full speed of the
//! disk and never fails. What differs is the strategy alone. Reads of weights that do not fit cost what the strategy makes
//! them cost: on demand in the way of the token, or in the background.

mod layers;
mod ring;
mod tensor;

use serde::Serialize;

use crate::search::Problem;
use crate::{
    suggest::plan,
    timeline::{Timeline, timeline},
};
use lime_plan::{Fleet, Goal, ModelCard, Nanos};

/// A way to run a model on a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// Our own plan.
    Lime,
    /// Layers in a pipeline, what does not fit loaded when it is needed (EdgeShard with offloading).
    LayerPipeline,
    /// Every layer over all devices, ring all-reduce, what does not fit loaded when it is needed (Galaxy with offloading).
    TensorParallel,
    /// Every layer over all devices, star all-reduce, a sliding window loads in the background (TPI-LLM).
    TensorWindow,
    /// A piped ring whose weights are mapped files under the page cache (prima.cpp).
    PipedRing,
    /// The best single node with a mapped file (llama.cpp).
    SingleNode,
}

impl Strategy {
    /// All of them, ours first.
    pub const ALL: [Self; 6] =
        [Self::Lime, Self::LayerPipeline, Self::TensorParallel, Self::TensorWindow, Self::PipedRing, Self::SingleNode];

    /// A name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lime => "LIME",
            Self::LayerPipeline => "layer pipeline, loads on demand (EdgeShard)",
            Self::TensorParallel => "tensor parallel, loads on demand (Galaxy)",
            Self::TensorWindow => "tensor parallel, sliding window (TPI-LLM)",
            Self::PipedRing => "piped ring over mmap (prima.cpp)",
            Self::SingleNode => "best single node, mmap (llama.cpp)",
        }
    }
}

/// What a strategy gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The strategy.
    pub strategy: Strategy,
    /// Time of a pass: each sequence gains a token. `None` where it cannot run at all.
    pub time_per_token: Option<Nanos>,
    /// Where the time goes, in a few words.
    pub because: String,
    /// The pass as a picture.
    pub timeline: Option<Timeline>,
}

impl Comparison {
    fn impossible(strategy: Strategy, because: &str) -> Self {
        Self { strategy, time_per_token: None, because: because.to_owned(), timeline: None }
    }
}

/// Every strategy on the same model, fleet and goal.
pub fn compare(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Vec<Comparison> {
    let ours = match plan(card, fleet, goal) {
        Ok(plan) => {
            let prediction = plan.outlook.as_ref().map(|outlook| &outlook.prediction);
            Comparison {
                strategy: Strategy::Lime,
                time_per_token: prediction.map(|prediction| prediction.time_per_token),
                because: prediction.map(|prediction| prediction.binds.clone()).unwrap_or_default(),
                timeline: timeline(&plan, fleet),
            }
        }
        Err(refusal) => Comparison::impossible(Strategy::Lime, &refusal.to_string()),
    };
    if goal.check(card).is_err() || fleet.nodes().is_empty() {
        return vec![ours];
    }
    let problem = Problem::new(card, fleet, goal);
    vec![
        ours,
        layers::layer_pipeline(&problem),
        tensor::on_demand(&problem),
        tensor::sliding_window(&problem),
        ring::piped_ring(&problem),
        ring::single_node(&problem),
    ]
}
