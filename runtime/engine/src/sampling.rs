//! Drawing a token from logits: a pure function of the logits and of what was asked.
//!
//! Order of operations: log-probabilities of the model's own distribution, repetition penalty, bias, tokens that may not be drawn,
//! temperature, min-p, top-k, top-p, draw.
//! Exponentials and their sums come from the kernels in the canonical order, everything else is IEEE arithmetic in a
//! fixed order: the same logits give the same token on every machine.

use std::sync::Arc;

use lime_kernels::Kernels;
use lime_model::ModelError;
use lime_plan::TokenSet;

use crate::ranking;

/// What a request asks of the choice of its next token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; above, the logits are divided by it.
    pub temperature: f32,
    /// Draw from the likeliest tokens whose probabilities reach this sum; 1 draws from all.
    pub top_p: f32,
    /// Draw from this many likeliest tokens; 0 draws from all.
    pub top_k: u32,
    /// The request's seed.
    pub seed: u64,
    /// Which draw of the request this is, from 0: the position in its answer.
    pub draw: u64,
    /// Whether the token's log-probability is wanted.
    pub logprobs: bool,
    /// How many alternatives are wanted with their log-probabilities.
    pub top_logprobs: u32,
    /// Added to the logits of single tokens before anything else.
    pub bias: Vec<(u32, f32)>,
    /// Draw from tokens with at least this part of the likeliest one's probability; 0 draws from all.
    pub min_p: f32,
    /// Logits of repeated tokens are divided by it, or multiplied where they are negative; 1: off.
    pub repetition_penalty: f32,
    /// The tokens that the penalty is for, each once.
    pub repeated: Vec<u32>,
    /// No other tokens are drawn; none: any is.
    pub allowed: Option<TokenSet>,
}

impl Default for Sampling {
    /// Greedy, without log-probabilities.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            draw: 0,
            logprobs: false,
            top_logprobs: 0,
            bias: Vec::new(),
            min_p: 0.0,
            repetition_penalty: 1.0,
            repeated: Vec::new(),
            allowed: None,
        }
    }
}

/// A token and the natural logarithm of its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Under the model's own distribution, before temperature and truncation.
    pub logprob: f32,
}

/// A drawn token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Its log-probability, where it was asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens, likeliest first, as many as were asked for.
    pub top: Vec<TokenLogprob>,
}

/// Draws tokens, apart from the engine that made their logits.
#[derive(Clone)]
pub struct Sampler {
    kernels: Arc<Kernels>,
}

impl Sampler {
    pub(crate) const fn new(kernels: Arc<Kernels>) -> Self {
        Self { kernels }
    }

    /// How likely `token` is by one row of logits, with the `top` likeliest.
    ///
    /// # Errors
    /// Logits that are empty or not finite, or too few for the token.
    pub fn score(&self, logits: &mut [f32], token: u32, top: u32) -> Result<Sampled, ModelError> {
        check(logits)?;
        let own = logits.get(token as usize).copied();
        let own = own.ok_or_else(|| ModelError::Logits { reason: format!("there is none of token {token}") })?;
        let normaliser = self.kernels.log_sum_exp(logits);
        let likely = |logit: f32| (logit - normaliser).max(LEAST_LOGPROB);
        let top = ranking::best(logits, top as usize).into_iter();
        let top = top.map(|(token, logit)| TokenLogprob { token, logprob: likely(logit) }).collect();
        Ok(Sampled { token, logprob: Some(likely(own)), top })
    }

    /// Draws a token from one row of logits: see [`sample`].
    ///
    /// # Errors
    /// Parameters out of range, or logits that no token can be drawn from.
    pub fn sample(&self, logits: &mut [f32], sampling: &Sampling) -> Result<Sampled, ModelError> {
        sample(&self.kernels, logits, sampling)
    }
}

/// The log-probability of what is all but impossible, as the OpenAI API gives it.
const LEAST_LOGPROB: f32 = -9999.0;

/// Below this temperature only the likeliest token is left anyway.
const GREEDY_BELOW: f32 = 1e-5;

impl Sampling {
    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// The first that is out of it.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fault = |name, expected, found: f32| Err(ModelError::Sampling { name, expected, found: found.to_string() });
        if !(0.0..=f32::MAX).contains(&self.temperature) {
            return fault("temperature", "a number of at least 0", self.temperature);
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return fault("top_p", "a number from 0 to 1", self.top_p);
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return fault("min_p", "a number from 0 to 1", self.min_p);
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return fault("repetition_penalty", "a number above 0", self.repetition_penalty);
        }
        match self.bias.iter().find(|(_, bias)| !bias.is_finite()) {
            Some((_, bias)) => fault("logit_bias", "finite numbers", *bias),
            None => Ok(()),
        }
    }

    fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW || self.top_k == 1
    }
}

/// Chooses a token. The logits are used as scratch and are worthless afterwards.
///
/// Equal logits count as if the lower token were the likelier one. Biases for tokens that the model does not have are
/// ignored.
///
/// # Errors
/// A parameter out of range, or logits that are empty or not finite.
pub fn sample(kernels: &Kernels, logits: &mut [f32], sampling: &Sampling) -> Result<Sampled, ModelError> {
    sampling.validate()?;
    check(logits)?;
    let wants_logprobs = sampling.logprobs || sampling.top_logprobs > 0;
    let normaliser = if wants_logprobs { kernels.log_sum_exp(logits) } else { 0.0 };
    let logprob = |logit: f32| (logit - normaliser).max(LEAST_LOGPROB);
    let top = ranking::best(logits, sampling.top_logprobs as usize)
        .into_iter()
        .map(|(token, logit)| TokenLogprob { token, logprob: logprob(logit) })
        .collect();
    // The log-probability is that of the model's own logit, which penalties, biases and drawing overwrite.
    let own: Option<Vec<f32>> = sampling.logprobs.then(|| logits.to_vec());
    penalize(logits, sampling);
    for (token, bias) in &sampling.bias {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit = (*logit + bias).clamp(-f32::MAX, f32::MAX);
        }
    }
    if let Some(allowed) = &sampling.allowed {
        forbid_others(logits, allowed)?;
    }
    let token = if sampling.is_greedy() { ranking::first(logits) } else { draw(kernels, logits, sampling) };
    Ok(Sampled { token, logprob: own.map(|own| logprob(own[token as usize])), top })
}

/// Makes what was said already less likely: one division or product a token, which IEEE arithmetic has no choice in.
fn penalize(logits: &mut [f32], sampling: &Sampling) {
    let penalty = sampling.repetition_penalty;
    if penalty == 1.0 {
        return;
    }
    for token in &sampling.repeated {
        if let Some(logit) = logits.get_mut(*token as usize) {
            let penalized = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            *logit = penalized.clamp(-f32::MAX, f32::MAX);
        }
    }
}

/// Leaves all but `allowed` no probability, less than the least that a bias can leave.
fn forbid_others(logits: &mut [f32], allowed: &TokenSet) -> Result<(), ModelError> {
    let mut any = false;
    for (token, logit) in (0..).zip(logits) {
        if allowed.contains(token) {
            any = true;
        } else {
            *logit = f32::NEG_INFINITY;
        }
    }
    let none = || ModelError::Sampling { name: "allowed", expected: "a token of the model", found: "none".into() };
    any.then_some(()).ok_or_else(none)
}

fn check(logits: &[f32]) -> Result<(), ModelError> {
    if logits.is_empty() {
        return Err(ModelError::Logits { reason: "there are none".into() });
    }
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(token) => Err(ModelError::Logits { reason: format!("token {token} has {}", logits[token]) }),
        None => Ok(()),
    }
}

fn draw(kernels: &Kernels, logits: &mut [f32], sampling: &Sampling) -> u32 {
    let point = uniform(sampling.seed, sampling.draw);
    let top_k = sampling.top_k as usize;
    if top_k == 0 || top_k >= logits.len() {
        into_probabilities(kernels, logits, sampling.temperature);
        if sampling.min_p > 0.0 {
            let least = least_probability(logits, sampling.min_p);
            logits.iter_mut().filter(|p| **p < least).for_each(|p| *p = 0.0);
        }
        let total = logits.iter().map(|p| f64::from(*p)).sum::<f64>();
        if sampling.top_p >= 1.0 {
            return pick(logits.iter().copied().enumerate().map(|(token, p)| (token as u32, p)), point * total);
        }
        let kept = ranking::reaching(logits, f64::from(sampling.top_p) * total);
        return pick_from(&kept, point);
    }
    let mut kept = ranking::best(logits, top_k);
    let mut probabilities: Vec<f32> = kept.iter().map(|(_, logit)| *logit).collect();
    into_probabilities(kernels, &mut probabilities, sampling.temperature);
    for ((_, value), p) in kept.iter_mut().zip(probabilities) {
        *value = p;
    }
    if sampling.min_p > 0.0 {
        // The likeliest is the first, and stays.
        let least = kept[0].1 * sampling.min_p;
        kept.retain(|(_, p)| *p >= least);
    }
    let total = kept.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
    let count = ranking::count_reaching(&kept, f64::from(sampling.top_p) * total);
    pick_from(&kept[..count], point)
}

/// Divides by the temperature and takes the softmax. Differences to the largest are divided, so nothing overflows.
fn into_probabilities(kernels: &Kernels, logits: &mut [f32], temperature: f32) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for logit in logits.iter_mut() {
        *logit = ((*logit - largest) / temperature).max(-f32::MAX);
    }
    kernels.softmax(logits);
}

/// What a token must have to be drawn from, by the part `min_p` of the likeliest one's probability.
fn least_probability(probabilities: &[f32], min_p: f32) -> f32 {
    probabilities.iter().copied().fold(0.0, f32::max) * min_p
}

fn pick_from(kept: &[(u32, f32)], point: f64) -> u32 {
    let total = kept.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
    pick(kept.iter().copied(), point * total)
}

/// The token at which the running sum of probabilities passes `point`.
fn pick(candidates: impl Iterator<Item = (u32, f32)>, point: f64) -> u32 {
    let mut sum = 0.0;
    let mut last = 0;
    for (token, p) in candidates {
        if p > 0.0 {
            last = token;
        }
        sum += f64::from(p);
        if sum > point {
            return token;
        }
    }
    last
}

/// A number in `[0, 1)` that depends on the request's seed and the place in its answer, and on nothing else.
pub fn uniform(seed: u64, draw: u64) -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    // SplitMix64's finaliser, twice: neighbouring seeds and draws have nothing in common.
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let bits = mix(mix(seed.wrapping_add(STEP)).wrapping_add(draw.wrapping_add(1).wrapping_mul(STEP)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
