//! What a request asks of the choice of its tokens, and what that is on the wire for one draw.

use std::collections::{BTreeMap, HashMap};

use lime_plan::TokenSet;
use lime_ring::proto;

/// How a request wants its tokens drawn. Fixed at admission: a draw can be repeated after a failure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// 1: off.
    pub top_p: f32,
    /// 0: off.
    pub top_k: u32,
    /// With the index of the draw it fixes the random number.
    pub seed: u64,
    /// How many alternatives to report with their log-probabilities; `None`: report nothing.
    pub logprobs: Option<u32>,
    /// Taken once from the logit of every token that the answer already has.
    pub presence_penalty: f32,
    /// Taken from a token's logit as often as the answer already has it.
    pub frequency_penalty: f32,
    /// Added to single logits.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Draw from tokens with at least this part of the likeliest one's probability; 0: off.
    pub min_p: f32,
    /// Logits of tokens that prompt or answer have already are divided by it, or multiplied where they are negative; 0 or 1: off.
    pub repetition_penalty: f32,
    /// Draws before this one take none of `held_back`.
    pub min_tokens: u32,
    /// Tokens that would end the answer too soon.
    pub held_back: Vec<u32>,
}

impl SamplingParams {
    /// Whether draws depend on how often each token was drawn before.
    pub fn counts_tokens(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 || self.counts_prompt()
    }

    /// Whether they depend on which tokens the prompt has.
    pub fn counts_prompt(&self) -> bool {
        self.repetition_penalty != 0.0 && self.repetition_penalty != 1.0
    }

    /// Whether draws from number `draw` on differ in nothing but what follows from the tokens before them: guesses of tokens can be tried
    /// then. Tokens that are held back until an answer is long enough are another matter.
    pub fn takes_guesses(&self, draw: u64) -> bool {
        draw >= u64::from(self.min_tokens)
    }

    /// The wire form of draw number `draw`, given how often the answer has each token so far; a token of the prompt alone is there
    /// with a count of 0.
    pub fn on_wire(&self, draw: u64, counts: &HashMap<u32, u32>) -> proto::Sampling {
        // On the wire a top_p of 0 means that it is off; in the API it leaves the likeliest token alone.
        let likeliest_only = self.top_p <= 0.0;
        proto::Sampling {
            temperature: self.temperature,
            top_p: if likeliest_only { 1.0 } else { self.top_p },
            top_k: if likeliest_only { 1 } else { self.top_k },
            seed: self.seed,
            draw,
            top_logprobs: self.logprobs.unwrap_or(0),
            logprobs: self.logprobs.is_some(),
            bias: self.biases(draw, counts),
            return_logits: false,
            min_p: self.min_p,
            repetition_penalty: if self.counts_prompt() { self.repetition_penalty } else { 0.0 },
            repeated: if self.counts_prompt() { ascending(counts.keys()) } else { Vec::new() },
            allowed: None,
        }
    }

    /// The wire form of `guesses` of the draws that follow, given how often the answer has each token so far. Whatever a draw depends on beside
    /// its index and its logits must change with each guess that holds, just as [`SamplingParams::on_wire`] has it after that token was drawn.
    pub fn drafts_on_wire(&self, guesses: &[u32], counts: &HashMap<u32, u32>) -> Vec<proto::Draft> {
        let mut more: HashMap<u32, u32> = HashMap::new();
        let draft = |token: &u32| {
            let bias = self.counts_tokens().then(|| {
                let guessed = more.entry(*token).or_default();
                *guessed += 1;
                self.bias(*token, counts.get(token).copied().unwrap_or(0) + *guessed)
            });
            proto::Draft { token: *token, bias, allowed: None }
        };
        guesses.iter().map(draft).collect()
    }

    /// One bias for each token, ascending.
    fn biases(&self, draw: u64, counts: &HashMap<u32, u32>) -> Vec<proto::LogitBias> {
        let mut biases = self.logit_bias.clone();
        if self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 {
            let drawn = counts.iter().filter(|(_, count)| **count > 0);
            biases.extend(drawn.map(|(token, count)| (*token, self.bias(*token, *count))));
        }
        if draw < u64::from(self.min_tokens) {
            biases.extend(self.held_back.iter().map(|token| (*token, NEVER)));
        }
        biases.into_iter().map(|(token, value)| proto::LogitBias { token, value }).collect()
    }

    /// The bias of a token that the answer has `count` times.
    fn bias(&self, token: u32, count: u32) -> f32 {
        let penalty = self.presence_penalty + self.frequency_penalty * count as f32;
        self.logit_bias.get(&token).copied().unwrap_or_default() - penalty
    }
}

/// Lets a draw take tokens of `now` alone, and the draws after each of its guesses those of `ahead`.
pub(crate) fn allow(sample: &mut proto::Sampling, drafts: &mut [proto::Draft], now: &TokenSet, ahead: &[TokenSet]) {
    debug_assert_eq!(drafts.len(), ahead.len(), "each guess has its set");
    sample.allowed = Some(now.into());
    let mut before = now;
    for (draft, set) in drafts.iter_mut().zip(ahead) {
        draft.allowed = (set != before).then(|| set.into());
        before = set;
    }
}

/// A bias that leaves a token no probability at all.
const NEVER: f32 = -f32::MAX;

fn ascending<'a>(tokens: impl Iterator<Item = &'a u32>) -> Vec<u32> {
    let mut tokens: Vec<u32> = tokens.copied().collect();
    tokens.sort_unstable();
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_and_biases_add_up_by_token() {
        let params = SamplingParams {
            top_p: 1.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            logit_bias: BTreeMap::from([(7, 2.0), (9, -100.0)]),
            ..SamplingParams::default()
        };
        let wire = params.on_wire(3, &HashMap::from([(7, 2), (4, 1)]));
        let biases: Vec<(u32, f32)> = wire.bias.iter().map(|bias| (bias.token, bias.value)).collect();
        assert_eq!(biases, [(4, -0.75), (7, 1.0), (9, -100.0)]);
        assert_eq!((wire.draw, wire.top_k, wire.logprobs), (3, 0, false));
    }

    /// A draft's bias is the one that the next pass would have had, to the bit.
    #[test]
    fn guesses_bring_the_biases_that_follow_from_them() {
        let params = SamplingParams {
            presence_penalty: 0.7,
            frequency_penalty: 0.3,
            logit_bias: BTreeMap::from([(7, 2.0)]),
            ..SamplingParams::default()
        };
        let mut counts = HashMap::from([(7, 2), (4, 1)]);
        let guesses = [7, 9, 7, 4, 9, 9];
        for draft in params.drafts_on_wire(&guesses, &counts.clone()) {
            *counts.entry(draft.token).or_default() += 1;
            let next = params.on_wire(0, &counts);
            let bias = next.bias.iter().find(|bias| bias.token == draft.token).map(|bias| bias.value.to_bits());
            assert_eq!(draft.bias.map(f32::to_bits), bias);
        }
        let plain = SamplingParams { logit_bias: BTreeMap::from([(7, 2.0)]), ..SamplingParams::default() };
        assert!(plain.drafts_on_wire(&guesses, &HashMap::new()).iter().all(|draft| draft.bias.is_none()));
    }

    #[test]
    fn repeated_tokens_are_those_of_prompt_and_answer() {
        let params = SamplingParams { top_p: 1.0, repetition_penalty: 1.3, ..SamplingParams::default() };
        let wire = params.on_wire(1, &HashMap::from([(7, 2), (4, 0)]));
        assert_eq!((wire.repetition_penalty, wire.repeated, wire.bias.len()), (1.3, vec![4, 7], 0));
        let off = SamplingParams { repetition_penalty: 1.0, ..params }.on_wire(1, &HashMap::from([(7, 2)]));
        assert_eq!((off.repetition_penalty, off.repeated.len()), (0.0, 0));
    }

    #[test]
    fn what_would_end_an_answer_is_held_back_until_it_is_long_enough() {
        let params = SamplingParams { min_tokens: 2, held_back: vec![9], ..SamplingParams::default() };
        let banned = |draw| params.on_wire(draw, &HashMap::new()).bias.iter().any(|bias| bias.value == -f32::MAX);
        assert_eq!([0, 1, 2].map(banned), [true, true, false]);
        assert_eq!([0, 1, 2].map(|draw| params.takes_guesses(draw)), [false, false, true]);
    }

    #[test]
    fn no_nucleus_is_the_likeliest_token() {
        let params = SamplingParams { temperature: 1.0, top_p: 0.0, ..SamplingParams::default() };
        let wire = params.on_wire(0, &HashMap::new());
        assert_eq!((wire.top_p, wire.top_k), (1.0, 1));
    }
}
