//! What a plan promises: its predicted speed, where the time goes, who was left out and what else was close.

use std::{fmt, ops};

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// A span of time in nanoseconds: whole numbers, so that predictions are the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Seconds, for arithmetic that ends on a screen.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Nanos {
    /// Two times for one sentence: with as many digits as it takes to tell them apart, where they differ.
    pub fn apart(self, other: Self) -> (String, String) {
        let short = (self.to_string(), other.to_string());
        if short.0 != short.1 || self == other {
            return short;
        }
        // In the unit of the larger.
        let (scale, unit) = match self.0.max(other.0) {
            0..1_000_000 => (1e3, "us"),
            1_000_000..1_000_000_000 => (1e6, "ms"),
            _ => (1e9, "s"),
        };
        let with = |digits: usize| [self, other].map(|it| format!("{:.digits$} {unit}", it.0 as f64 / scale));
        let told = (2..=9).map(with).find(|[one, another]| one != another);
        told.map_or_else(|| (format!("{} ns", self.0), format!("{} ns", other.0)), |[one, another]| (one, another))
    }
}

impl ops::Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Nanos {
    /// Three significant places or so: `850 us`, `12.3 ms`, `4.56 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0 as f64;
        let text = match self.0 {
            0 => "0".to_owned(),
            1..1_000_000 => format!("{:.0} us", nanos / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} ms", nanos / 1e6),
            _ => format!("{:.2} s", nanos / 1e9),
        };
        f.pad(&text)
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Objective {
    /// Single requests now and then: least time of one, from its prompt to the end of its answer.
    #[default]
    Sporadic,
    /// All request slots busy: least time of as many requests, which come at once.
    Bursty,
}

const fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_one(count: &u32) -> bool {
    *count == 1
}

/// What the planner expects of a plan. Absent from plans that were written by hand or by rule of thumb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// What the plan was made for.
    pub objective: Objective,
    /// Groups into which the sequences of a pass are split so that several devices work at once.
    pub micro_batches: u32,
    /// Most chunks of a prompt that travel together through the segments of a ring that reads blocks from disk: see
    /// [`crate::PlanDraft::prompt_passes`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub prompt_passes: u32,
    /// Whether everything that the planner may choose was tried or bounded, so that nothing better exists.
    #[serde(default)]
    pub complete: bool,
    /// The least time of typical requests that was found. The plan may take one per cent more where it is better at the
    /// longest context.
    #[serde(default)]
    pub least_request_time: Nanos,
    /// The predicted speed.
    pub prediction: Prediction,
    /// Wishes that the best plan still misses, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<String>,
    /// Nodes that take no part, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedNode>,
    /// Runners-up, the fastest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// The predicted speed of a plan and where its time goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// Time of one pass in steady state: each sequence in flight gains one token.
    pub time_per_token: Nanos,
    /// Sequences in flight for which that was predicted.
    pub sequences: u32,
    /// Tokens in the KV cache of each sequence for which that was predicted.
    pub context_tokens: u32,
    /// From a prompt of `prompt_tokens` to its first token.
    pub time_to_first_token: Nanos,
    /// See `time_to_first_token`.
    pub prompt_tokens: u32,
    /// Tokens of the answers for which `request_time` was predicted; zero in plans of versions that did not predict it.
    #[serde(default)]
    pub answer_tokens: u32,
    /// From as many prompts as there are sequences in flight, which come at once, to the ends of their answers: what
    /// plans are compared by. Zero where it was not predicted.
    #[serde(default)]
    pub request_time: Nanos,
    /// No schedule of this plan can beat this: the larger of compute and hops in a row, and the slowest disk.
    pub lower_bound: Nanos,
    /// What limits the time per token.
    pub binds: String,
    /// Time per token at other lengths of context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growth: Vec<ContextPoint>,
    /// One entry per device, in ring order.
    pub devices: Vec<DeviceShare>,
}

impl Prediction {
    /// Tokens per second over all sequences in flight.
    pub fn tokens_per_second(&self) -> f64 {
        f64::from(self.sequences) / self.time_per_token.seconds().max(1e-9)
    }
}

/// Time per token at one length of context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextPoint {
    /// Tokens in each sequence's KV cache.
    pub context_tokens: u32,
    /// Time of a pass.
    pub time_per_token: Nanos,
}

/// What one device does in a pass. It computes, waits for weights or has nothing to do: the three add up to the pass.
/// Its disk and its link work at the same time, neither for longer than the pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceShare {
    /// The device.
    pub name: String,
    /// Time that it computes.
    pub compute: Nanos,
    /// Time that its disk reads.
    pub disk: Nanos,
    /// Time that it sends.
    pub link: Nanos,
    /// Time that it has an activation but waits for weights.
    pub stall: Nanos,
    /// Time in which it has nothing to compute: the activation is elsewhere.
    pub idle: Nanos,
    /// Bytes read from disk.
    pub streamed: Bytes,
}

/// A node that takes no part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedNode {
    /// The node.
    pub name: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// A plan that was considered and is not the best.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// Devices in ring order.
    pub devices: Vec<String>,
    /// Layers of each device; one that is cut counts where its attention is.
    pub layers: Vec<u32>,
    /// Times round the ring.
    pub segments: u32,
    /// Micro-batches.
    pub micro_batches: u32,
    /// Time of a pass.
    pub time_per_token: Nanos,
    /// As in the prediction.
    #[serde(default)]
    pub request_time: Nanos,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_differ_read_differently() {
        let table = [
            (1_390_000_000, 1_391_000_000, ("1.390 s", "1.391 s")),
            (1_390_000_000, 2_390_000_000, ("1.39 s", "2.39 s")),
            (1_390_000_000, 1_390_000_000, ("1.39 s", "1.39 s")),
            (902_400_000, 902_410_000, ("902.40 ms", "902.41 ms")),
            (1, 2, ("0.001 us", "0.002 us")),
            (
                5_000_000_000_000_000_000,
                5_000_000_000_000_000_001,
                ("5000000000000000000 ns", "5000000000000000001 ns"),
            ),
        ];
        for (one, another, expected) in table {
            let found = Nanos(one).apart(Nanos(another));
            assert_eq!((found.0.as_str(), found.1.as_str()), expected);
        }
    }
}
