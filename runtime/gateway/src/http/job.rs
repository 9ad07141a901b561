//! A request that has been read and found good: what is to be done.

use std::sync::Arc;

use lime_trace::TraceContext;

use super::{error::ApiError, fields::wrong_value, form::AnswerGrammar, params::Common};
use crate::{answer::AnswerForm, intake::SequenceRequest, schedule::KeyId, text::TextModel};

/// Which of the two interfaces was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// One prompt. Made by the encoder alone, which lets no token through that the model has no row for.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) tokens: Arc<[u32]>,
    /// The text to begin the answer with.
    pub(crate) echo: String,
}

/// What is to be done. Answer `i` belongs to prompt `i / drawn`; where more are drawn than there are choices, the best are taken.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) common: Common,
    /// 0 only where nothing is to be drawn at all.
    pub(crate) max_tokens: Vec<u32>,
    /// Alternatives to report for each token; `None`: no log-probabilities.
    pub(crate) logprobs: Option<u32>,
    /// What the answer is expected to be like, if anything.
    pub(crate) prediction: Arc<[u32]>,
    /// How the answers are to be read.
    pub(crate) answer: Arc<AnswerForm>,
    /// Their grammar, if they have one.
    pub(crate) grammar: Option<AnswerGrammar>,
    /// How many alternatives are told of each token of the prompts, with how likely it was.
    pub(crate) scoring: Option<u32>,
}

impl Job {
    /// Number of answers that are drawn.
    pub(crate) fn choices(&self) -> usize {
        self.prompts.len() * self.common.drawn
    }

    /// The prompt of an answer.
    pub(crate) fn prompt_of(&self, choice: usize) -> &Prompt {
        &self.prompts[choice / self.common.drawn]
    }

    /// Whether more answers are drawn than are given.
    pub(crate) fn chooses(&self) -> bool {
        self.common.drawn > self.common.n
    }

    /// Whether it is the first choice of its prompt: usage counts a prompt once, with what was there for that one.
    pub(crate) fn is_first_of_prompt(&self, choice: usize) -> bool {
        choice.is_multiple_of(self.common.drawn)
    }

    /// Tokens of all prompts.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum()
    }

    /// Whether anything is to be computed.
    pub(crate) fn draws(&self) -> bool {
        self.scoring.is_some() || self.max_tokens.iter().all(|most| *most > 0)
    }

    /// Whether an answer is to have no token.
    pub(crate) fn is_empty(&self, choice: usize) -> bool {
        self.max_tokens[choice / self.common.drawn] == 0
    }

    /// One sequence for each choice.
    pub(crate) fn sequences(
        &self,
        text: &TextModel,
        trace: Option<TraceContext>,
        key: Option<KeyId>,
    ) -> Vec<SequenceRequest> {
        let own: &[u32] = if self.common.ignore_eos { &[] } else { &text.end_tokens };
        let end_tokens: Arc<[u32]> = own.iter().chain(&self.common.stop_tokens).copied().collect();
        let request = |choice: usize| {
            let mut sampling = self.common.sampling_of(choice % self.common.drawn);
            // The best answers are known by their log-probabilities.
            sampling.logprobs = self.logprobs.or(self.chooses().then_some(0));
            sampling.held_back = if sampling.min_tokens > 0 { end_tokens.to_vec() } else { Vec::new() };
            SequenceRequest {
                prompt: self.prompt_of(choice).tokens.clone(),
                // Without a draw no sequence comes to its end: the token is not told.
                max_tokens: self.max_tokens[choice / self.common.drawn].max(1),
                sampling,
                end_tokens: end_tokens.clone(),
                trace,
                prediction: self.prediction.clone(),
                key,
                matcher: self.grammar.as_ref().map(AnswerGrammar::matcher),
                scoring: self.scoring,
                pooling: None,
            }
        };
        (0..self.choices()).map(request).collect()
    }
}

/// The number of tokens that an answer to `prompt` tokens may have: `asked` is a bound, as is the context.
pub(super) fn room(context: u32, prompt: usize, asked: Option<u32>, param: &str) -> Result<u32, ApiError> {
    let left = u64::from(context).saturating_sub(prompt as u64);
    match asked {
        Some(0) if prompt as u64 <= u64::from(context) => Ok(0),
        asked if left > 0 => Ok(asked.map_or(left, |asked| left.min(asked.into())) as u32),
        asked => Err(ApiError::context(param, context, prompt, asked.unwrap_or(1).into())),
    }
}

/// Whether `prompts` prompts with `n` choices each are no more than the `most` sequences that could ever be taken up.
pub(super) fn check_choices(prompts: usize, n: usize, most: usize) -> Result<(), ApiError> {
    let asked = prompts.saturating_mul(n);
    if asked <= most {
        return Ok(());
    }
    let param = if n > 1 { "n" } else { "prompt" };
    let message = format!("a request may ask for at most {most} sequences at once here, but this one asks for {asked}");
    Err(wrong_value(param, message))
}
