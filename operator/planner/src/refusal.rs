//! Why there is no plan.

use std::fmt::Write as _;

use thiserror::Error;

use lime_plan::{Bytes, GoalError, Nanos, PlanError};

/// Why there is no plan.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The fleet has no nodes.
    #[error("the fleet has no nodes")]
    Empty,
    /// Fewer nodes than must take part.
    #[error("the fleet has {nodes} nodes, {least} or more are to take part: add nodes or ask for fewer")]
    TooFew {
        /// Fewest that were asked for.
        least: u32,
        /// Nodes of the fleet.
        nodes: usize,
    },
    /// The wish or the model card makes no sense.
    #[error(transparent)]
    Goal(#[from] GoalError),
    /// What the search made is no plan: a fault of its own.
    #[error(
        "the search made a plan that breaks a rule ({0}): a fault of LIME, please report it with card, fleet and wish"
    )]
    Unsound(#[from] PlanError),
    /// Nothing fits.
    #[error("{0}")]
    Infeasible(MissingMemory),
}

/// What is missing where, and what would fit instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingMemory {
    /// Bytes that are missing on `node`; zero where no amount on one node helps.
    pub missing: Bytes,
    /// The node to which the least would have to be added.
    pub node: String,
    /// Weights of the model.
    pub weights: Bytes,
    /// KV cache of all layers.
    pub kv: Bytes,
    /// Memory of the whole fleet.
    pub memory: Bytes,
    /// Up to three changes that were planned and fit.
    pub fits: Vec<Suggestion>,
}

/// A change that was planned and fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The change, as a sentence without its full stop.
    pub change: String,
    /// The time per token that is predicted then.
    pub time_per_token: Nanos,
}

impl std::fmt::Display for MissingMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!(
            "the fleet does not hold the model: {} of weights and {} of KV cache for {} of memory",
            self.weights, self.kv, self.memory
        );
        if self.missing > Bytes::ZERO {
            let (missing, exact, node) = (self.missing, self.missing.0, &self.node);
            let _ = write!(text, "; {missing} ({exact} bytes) more on {node:?} would be the least that helps");
        }
        for (index, suggestion) in self.fits.iter().enumerate() {
            let before = if index == 0 { "; what would fit: " } else { "; or " };
            let _ = write!(text, "{before}{} ({} per token)", suggestion.change, suggestion.time_per_token);
        }
        f.write_str(&text)
    }
}
