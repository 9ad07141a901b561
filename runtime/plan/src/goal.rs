//! What a plan is asked to do.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    arithmetic::Arithmetic,
    belief::{CardError, Limit, Unbelievable},
    card::ModelCard,
    dtype::Dtype,
    encoding::Encoding,
    outlook::{Nanos, Objective},
    serving_limits::ServingLimits,
};

/// Whether weights may be read from disk in every pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Offload {
    /// Where that is faster, or memory does not suffice otherwise.
    #[default]
    Auto,
    /// Everything stays in memory, or there is no plan.
    Never,
    /// Every device that has a disk reads from it, even where its memory would suffice: to try the disks.
    Always,
}

/// The wish as the search sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Goal {
    /// What to optimise.
    pub objective: Objective,
    /// What may be asked at once; there is memory for all of it, when need be by streaming more (see
    /// `typical_context`).
    pub serving: ServingLimits,
    /// How sums are formed.
    pub arithmetic: Arithmetic,
    /// The residual stream's dtype.
    pub residual: Dtype,
    /// The dtype of KV entries.
    pub kv: Dtype,
    /// Whether weights may be read from disk in every pass.
    #[serde(default)]
    pub offload: Offload,
    /// How weights lie on disk and in memory; where absent, compact if that is faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// How many times an activation goes round a ring of several devices for a token; the search chooses where absent.
    #[serde(default)]
    pub segments: Option<u32>,
    /// Fewest devices that must take part.
    #[serde(default = "one")]
    pub least_devices: u32,
    /// Most devices that may take part.
    #[serde(default)]
    pub most_devices: Option<u32>,
    /// Tokens in a sequence's KV cache for which the time per token counts, and for which devices that stream keep room
    /// from the beginning; half the longest context where absent.
    #[serde(default)]
    pub typical_context: Option<u32>,
    /// Tokens of the prompt of a typical request: [`Self::TYPICAL_PROMPT`] where absent, or two thirds of a context
    /// that does not hold both it and the typical answer.
    #[serde(default)]
    pub typical_prompt: Option<u32>,
    /// Tokens of the answer of a typical request: [`Self::TYPICAL_ANSWER`] where absent, or what the prompt leaves of
    /// the context. The more of them, the more the time per token counts and the less the time to first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical_answer: Option<u32>,
    /// The longest time per token that is wished for: met if any plan meets it. Missing it is reported, not refused.
    #[serde(default)]
    pub wished_time_per_token: Option<Nanos>,
    /// The longest time to first token that is wished for.
    #[serde(default)]
    pub wished_time_to_first_token: Option<Nanos>,
}

const fn one() -> u32 {
    1
}

/// A model card or wish that no fleet could serve.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum GoalError {
    /// A count that is zero.
    #[error("{0} is zero")]
    Zero(&'static str),
    /// More context than the model has.
    #[error("a context of {asked} tokens was asked for, {model} was trained for {limit}")]
    Context {
        /// Tokens asked for.
        asked: u32,
        /// The model's limit.
        limit: u32,
        /// The model.
        model: String,
    },
    /// What the arithmetic that is asked for cannot do.
    #[error("{0}")]
    Candle(&'static str),
    /// A card that no model has.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Bounds on the number of devices that no ring can keep.
    #[error("{least} devices or more are to take part, at most {most} can ({why})")]
    Devices {
        /// Fewest that were asked for.
        least: u32,
        /// Most that there can be.
        most: u32,
        /// What keeps it to that.
        why: &'static str,
    },
    /// A number beyond belief.
    #[error("the wish has {0}")]
    Unbelievable(#[from] Unbelievable),
}

impl Goal {
    /// One request at a time, the rest as usual: f32 residual, KV entries as [`Dtype::kv_entries`] says, 128 rows of
    /// prefill.
    pub fn sporadic(card: &ModelCard, context: u32) -> Self {
        let serving =
            ServingLimits { max_context_tokens: context, max_concurrent_requests: 1, prefill_chunk_tokens: 128 };
        Self {
            objective: Objective::Sporadic,
            serving,
            arithmetic: Arithmetic::Exact,
            residual: Dtype::F32,
            kv: card.dtype().kv_entries(),
            offload: Offload::Auto,
            encoding: None,
            segments: None,
            least_devices: 1,
            most_devices: None,
            typical_context: None,
            typical_prompt: None,
            typical_answer: None,
            wished_time_per_token: None,
            wished_time_to_first_token: None,
        }
    }

    /// `requests` at once, the rest as in [`Self::sporadic`].
    pub fn bursty(card: &ModelCard, context: u32, requests: u32) -> Self {
        let mut goal = Self::sporadic(card, context);
        goal.objective = Objective::Bursty;
        goal.serving.max_concurrent_requests = requests;
        goal
    }

    /// Tokens in the KV cache for which the time per token is optimised.
    pub fn context(&self) -> u32 {
        self.typical_context.unwrap_or(self.serving.max_context_tokens / 2).min(self.serving.max_context_tokens)
    }

    /// Tokens of a typical prompt where the wish names none.
    pub const TYPICAL_PROMPT: u32 = 512;

    /// Tokens of a typical answer where the wish names none.
    pub const TYPICAL_ANSWER: u32 = 256;

    /// Tokens of a typical prompt: one at least, and no more than the context.
    pub fn prompt(&self) -> u32 {
        let context = self.serving.max_context_tokens;
        let usual = || match context < Self::TYPICAL_PROMPT + Self::TYPICAL_ANSWER {
            true => (u64::from(context) * 2 / 3) as u32,
            false => Self::TYPICAL_PROMPT,
        };
        self.typical_prompt.unwrap_or_else(usual).clamp(1, context.max(1))
    }

    /// Tokens of a typical answer: one at least. What a wish names may exceed the context: it only weighs, up to what
    /// is believed of any.
    pub fn answer(&self) -> u32 {
        let left = self.serving.max_context_tokens.saturating_sub(self.prompt());
        let most = u32::try_from(Limit::CONTEXT.most).unwrap_or(u32::MAX);
        self.typical_answer.unwrap_or(Self::TYPICAL_ANSWER.min(left)).clamp(1, most)
    }

    /// Sequences that a pass carries in the case that is optimised.
    pub fn sequences(&self) -> u32 {
        match self.objective {
            Objective::Sporadic => 1,
            Objective::Bursty => self.serving.max_concurrent_requests.max(1),
        }
    }

    /// Whether blocks may be read from disk in every pass: candle's arithmetic keeps all of them.
    pub fn may_stream(&self) -> bool {
        self.offload != Offload::Never && self.arithmetic == Arithmetic::Exact
    }

    /// Checks the wish against the model, and the model against itself.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, card: &ModelCard) -> Result<(), GoalError> {
        card.check()?;
        let counts = [
            ("the context", self.serving.max_context_tokens),
            ("the number of concurrent requests", self.serving.max_concurrent_requests),
            ("the prefill chunk", self.serving.prefill_chunk_tokens),
            ("the prompt of a typical request", self.typical_prompt.unwrap_or(1)),
            ("the answer of a typical request", self.typical_answer.unwrap_or(1)),
            ("the number of segments", self.segments.unwrap_or(1)),
            ("the number of devices that may take part", self.most_devices.unwrap_or(1)),
        ];
        if let Some((what, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(GoalError::Zero(what));
        }
        let limits = [
            (card.layers, "every device holds a layer of the model"),
            (self.most_devices.unwrap_or(u32::MAX), "no more were asked for"),
        ];
        if let Some((most, why)) = limits.into_iter().find(|(most, _)| self.least_devices > *most) {
            return Err(GoalError::Devices { least: self.least_devices, most, why });
        }
        if self.arithmetic == Arithmetic::Candle {
            if self.offload == Offload::Always {
                let reason = "candle arithmetic keeps every block in memory, and the offload policy Always asks for blocks from disk: \
                              ask for Auto or Never, or for exact arithmetic";
                return Err(GoalError::Candle(reason));
            }
            if card.format.element().is_none() {
                let reason = "candle arithmetic takes weights in bf16, f16 and f32, and those of this model are quantized: ask for \
                              exact arithmetic";
                return Err(GoalError::Candle(reason));
            }
        }
        let asked = self.serving.max_context_tokens;
        if asked > card.context {
            return Err(GoalError::Context { asked, limit: card.context, model: card.name.clone() });
        }
        Limit::SEGMENTS.check(self.segments.unwrap_or(1))?;
        Ok(self.serving.check(card, self.kv, self.residual)?)
    }
}
