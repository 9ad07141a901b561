//! What a planner is asked, and what it answers when it cannot be.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{arithmetic::Arithmetic, card::ModelCard, dtype::Dtype, serving_limits::ServingLimits, units::Bytes};

/// A device and the memory that a plan may use of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceBudget {
    /// The device's name, unique among those given.
    pub name: String,
    /// What the plan may use of its memory.
    pub memory: Bytes,
}

/// What is to be planned.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRequest<'a> {
    /// The model.
    pub model: &'a ModelCard,
    /// The devices, in the order in which the ring should run where nothing speaks against it.
    pub devices: &'a [DeviceBudget],
    /// What may be asked at once.
    pub serving: ServingLimits,
    /// How many times an activation goes round for a token.
    pub segments: u32,
    /// How sums are formed.
    pub arithmetic: Arithmetic,
    /// The residual stream's dtype.
    pub residual: Dtype,
    /// The dtype of KV entries.
    pub kv: Dtype,
}

impl PlanRequest<'_> {
    /// SHA-256 over everything that decides the plan, in hexadecimal.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("numbers, texts and lists always have a JSON form");
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Infeasible {
    /// The question itself makes no sense.
    #[error("{0}")]
    Request(String),
    /// The devices' memory does not suffice.
    #[error("{}", shortfall(*.needed, *.available, *.missing, .device, .fits))]
    Memory {
        /// What the whole deployment takes, at the least.
        needed: Bytes,
        /// What the devices have together.
        available: Bytes,
        /// What is missing, if it were added to `device`.
        missing: Bytes,
        /// The device to which the least would have to be added.
        device: String,
        /// Changes that were tried and do fit, the smallest first.
        fits: Vec<String>,
    },
}

fn shortfall(needed: Bytes, available: Bytes, missing: Bytes, device: &str, fits: &[String]) -> String {
    let mut text = format!(
        "the devices' memory does not hold the model: {needed} are needed, {available} are there, and {missing} ({} bytes) \
         more on {device:?} would be the least that does it",
        missing.0
    );
    if !fits.is_empty() {
        text.push_str("; what would fit: ");
        text.push_str(&fits.join("; or "));
    }
    text
}
