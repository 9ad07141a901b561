//! From a spec to what the planner is asked: one way for the operator and for the command line.

use lime_plan::{Dtype, Encoding, Goal, ModelCard, Nanos, Objective, Offload, ServingLimits};

use crate::{
    deployment::LimeDeploymentSpec,
    nodes::{OffloadPolicy, WeightEncoding},
    serving::RequestPattern,
};

impl LimeDeploymentSpec {
    /// What the planner is asked for a model, with a note where the model allows less than the spec asks for. Counts below one,
    /// which no schema lets pass, are one; wishes below zero are none.
    pub fn goal(&self, card: &ModelCard) -> (Goal, Option<String>) {
        let serving = &self.serving;
        let asked = count(serving.max_context_tokens);
        let context = asked.min(card.context);
        let note = (context < asked).then(|| {
            format!("the model takes {context} tokens of context: maxContextTokens {asked} is lowered to that")
        });
        let wished = self.objective.clone().unwrap_or_default();
        let goal = Goal {
            objective: match serving.request_pattern {
                RequestPattern::Sporadic => Objective::Sporadic,
                RequestPattern::Bursty => Objective::Bursty,
            },
            serving: ServingLimits {
                max_context_tokens: context,
                max_concurrent_requests: count(serving.max_concurrent_requests),
                prefill_chunk_tokens: count(serving.prefill_chunk_tokens).min(context.max(1)),
            },
            arithmetic: self.arithmetic.into(),
            residual: Dtype::F32,
            kv: serving.kv_cache_type.dtype(card.dtype()),
            offload: match self.offload.policy {
                OffloadPolicy::Auto => Offload::Auto,
                OffloadPolicy::Never => Offload::Never,
                OffloadPolicy::Always => Offload::Always,
            },
            encoding: match self.offload.encoding {
                WeightEncoding::Auto => None,
                WeightEncoding::Raw => Some(Encoding::Raw),
                WeightEncoding::Compact => Some(Encoding::Compact),
            },
            segments: None,
            least_devices: count(self.nodes.min_count),
            most_devices: self.nodes.max_count.map(count),
            typical_context: None,
            typical_prompt: wished.prompt_tokens.map(count),
            typical_answer: wished.answer_tokens.map(count),
            wished_time_per_token: nanos(wished.time_per_token_milliseconds),
            wished_time_to_first_token: nanos(wished.time_to_first_token_milliseconds),
        };
        (goal, note)
    }
}

fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default().max(1)
}

fn nanos(milliseconds: Option<i32>) -> Option<Nanos> {
    let milliseconds = u64::try_from(milliseconds?).ok()?;
    Some(Nanos(milliseconds * 1_000_000))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use lime_plan::testing::{Random, small_card};
    use serde_json::json;

    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_a_spec_says_the_goal_is_one_that_can_be_planned(
            context in proptest::num::i32::ANY,
            requests in proptest::num::i32::ANY,
            chunk in proptest::num::i32::ANY,
            counts in proptest::array::uniform2(proptest::num::i32::ANY),
            wishes in proptest::array::uniform2(proptest::num::i32::ANY),
            request in proptest::array::uniform2(proptest::num::i32::ANY),
        ) {
            let spec: LimeDeploymentSpec = serde_json::from_value(json!({
                "model": { "source": "file:///m" },
                "serving": { "maxContextTokens": context, "maxConcurrentRequests": requests, "prefillChunkTokens": chunk },
                "nodes": { "minCount": counts[0], "maxCount": counts[1] },
                "objective": {
                    "timePerTokenMilliseconds": wishes[0], "timeToFirstTokenMilliseconds": wishes[1],
                    "promptTokens": request[0], "answerTokens": request[1],
                },
            })).unwrap();
            let card = small_card(&mut Random::new(1), 4);
            let (goal, note) = spec.goal(&card);
            let serving = goal.serving;
            proptest::prop_assert!((1..=card.context).contains(&serving.max_context_tokens));
            proptest::prop_assert!((1..=serving.max_context_tokens).contains(&serving.prefill_chunk_tokens));
            proptest::prop_assert_eq!(note.is_some(), context > 512);
            proptest::prop_assert_eq!(goal.wished_time_per_token.is_some(), wishes[0] >= 0);
            proptest::prop_assert!((1..=serving.max_context_tokens).contains(&goal.prompt()) && goal.answer() >= 1);
            proptest::prop_assert!(goal.least_devices >= 1 && goal.most_devices.unwrap() >= 1);
            let in_schema = (1..=4096).contains(&requests) && counts[0] <= 1 && counts[1] >= counts[0];
            proptest::prop_assert!(!in_schema || goal.check(&card).is_ok());
        }
    }
}
