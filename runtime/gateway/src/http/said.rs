//! A whole answer, gathered from its pieces.

use lime_text::{AnswerPart, ToolCall};

use crate::{
    answer::{Ended, Finished, Piece, Reason, TokenReport},
    intake::StreamFault,
    schedule::Guessed,
};

/// What one answer says.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<ToolCall>,
    /// The same in its order, neighbours of one kind joined.
    pub(super) parts: Vec<AnswerPart>,
    pub(super) reports: Vec<TokenReport>,
    pub(super) tokens: Vec<u32>,
    pub(super) reason: Reason,
    /// The stop string that ended it.
    pub(super) stop: Option<String>,
    /// Tokens drawn.
    pub(super) drawn: u64,
    /// What became of guesses.
    pub(super) guessed: Guessed,
    /// Tokens of the prompt that were not computed for it.
    pub(super) cached: u64,
}

impl Said {
    /// Takes a piece.
    ///
    /// # Errors
    /// Where there will be no answer.
    pub(super) fn push(&mut self, piece: Piece) -> Result<(), StreamFault> {
        self.reports.extend(piece.reports);
        self.tokens.extend(piece.tokens);
        for part in piece.parts {
            match &part {
                AnswerPart::Content(text) => self.content.push_str(text),
                AnswerPart::Reasoning(text) => self.reasoning.push_str(text),
                AnswerPart::Call(call) => self.calls.push(call.clone()),
            }
            match (self.parts.last_mut(), part) {
                (Some(AnswerPart::Content(before)), AnswerPart::Content(text))
                | (Some(AnswerPart::Reasoning(before)), AnswerPart::Reasoning(text)) => before.push_str(&text),
                (_, part) => self.parts.push(part),
            }
        }
        match piece.end {
            None => Ok(()),
            Some(Ended::Finished(Finished { reason, stop, drawn, guessed, cached })) => {
                (self.reason, self.stop, self.drawn) = (reason, stop, drawn);
                (self.guessed, self.cached) = (guessed, cached);
                Ok(())
            }
            Some(Ended::Failed(fault)) => Err(fault),
        }
    }

    /// How likely its tokens were, on the whole: the mean of their log-probabilities.
    pub(super) fn likelihood(&self) -> f64 {
        let sum: f64 = self.reports.iter().filter_map(|report| report.logprob).map(f64::from).sum();
        if self.reports.is_empty() { 0.0 } else { sum / self.reports.len() as f64 }
    }
}
