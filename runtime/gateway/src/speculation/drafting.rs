//! One sequence's guesses: where they come from, and how good they were.

use std::{fmt, sync::Arc};

use lime_ring::MOST_DRAFTS;

use super::{
    acceptance::Acceptance,
    suffix::{Match, SuffixLookup},
    window::Guesses,
};

/// Tokens that may come next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) tokens: Vec<u32>,
    /// How many tokens before them were seen before, just so.
    pub(crate) matched: u32,
}

/// A source of guesses. Whatever it guesses, the answer stays: it is foreign to it.
pub(crate) trait Drafter: fmt::Debug + Send {
    /// The sequence goes on with `tokens`.
    fn feed(&mut self, tokens: &[u32]);

    /// Up to `most` tokens that may come next.
    fn guess(&self, most: usize) -> Guess;
}

/// Makes the source of a sequence's guesses, given its prompt and what its answer is expected to be.
pub(crate) type NewDrafter = Arc<dyn Fn(&[u32], &[u32]) -> Box<dyn Drafter> + Send + Sync>;

/// Of no vocabulary: nothing that was seen before it goes on behind it.
const BETWEEN: u32 = u32::MAX;
/// A prediction is what follows the prompt: it is put behind so many tokens of its end.
const BEFORE_PREDICTION: usize = 4;

/// Guesses from the sequence itself, and from what its answer was said to be like.
#[derive(Debug, Default)]
pub(crate) struct OwnText {
    lookup: SuffixLookup,
    found: Option<Match>,
}

impl OwnText {
    /// Of a sequence that begins with `prompt` and may go on with `prediction`.
    pub(crate) fn new(prompt: &[u32], prediction: &[u32]) -> Self {
        let mut this = Self::default();
        if !prediction.is_empty() {
            let end = &prompt[prompt.len().saturating_sub(BEFORE_PREDICTION)..];
            this.feed(end);
            this.feed(prediction);
            this.feed(&[BETWEEN]);
        }
        this
    }
}

impl Drafter for OwnText {
    fn feed(&mut self, tokens: &[u32]) {
        for token in tokens {
            self.found = Some(self.lookup.push(*token));
        }
    }

    fn guess(&self, most: usize) -> Guess {
        let Some(found) = self.found else { return Guess::default() };
        let mut tokens = self.lookup.following(found, most);
        if let Some(end) = tokens.iter().position(|token| *token == BETWEEN) {
            tokens.truncate(end);
        }
        Guess { tokens, matched: found.length }
    }
}

/// A sequence that is guessed ahead.
#[derive(Debug)]
pub(crate) struct Drafting {
    source: Box<dyn Drafter>,
    /// Tokens of the sequence that the source knows.
    fed: usize,
    acceptance: Acceptance,
    /// The guess of the tokens that are being drawn.
    guess: Guess,
}

impl Drafting {
    pub(crate) fn new(source: Box<dyn Drafter>) -> Self {
        Self { source, fed: 0, acceptance: Acceptance::default(), guess: Guess::default() }
    }

    /// The source hears of the sequence's first `known` tokens, as far as it has not.
    pub(crate) fn catch_up(&mut self, tokens: &[u32], known: usize) {
        if let Some(news) = tokens.get(self.fed..known).filter(|news| !news.is_empty()) {
            self.source.feed(news);
            self.fed = known;
        }
    }

    /// Guesses up to `most` tokens of what comes after `tokens`, of a model of `vocabulary` tokens; the chances that they hold.
    pub(crate) fn guess(&mut self, tokens: &[u32], most: usize, vocabulary: u32) -> Guesses {
        self.catch_up(tokens, tokens.len());
        // One is always guessed: whether it would have held says whether guessing pays.
        let mut guess = self.source.guess(most.clamp(1, MOST_DRAFTS));
        let good = guess.tokens.iter().take_while(|token| **token < vocabulary).count();
        guess.tokens.truncate(good);
        let chance = |ahead: usize| self.acceptance.chance(guess.matched.saturating_add(ahead as u32));
        let chances = (0..guess.tokens.len().min(most)).map(chance).collect();
        self.guess = guess;
        Guesses { chances }
    }

    /// The first `count` tokens of the guess.
    pub(crate) fn first(&self, count: usize) -> &[u32] {
        &self.guess.tokens[..count.min(self.guess.tokens.len())]
    }

    /// These tokens were drawn: notes which of those that were guessed would have held.
    pub(crate) fn drawn(&mut self, tokens: &[u32]) {
        let guess = std::mem::take(&mut self.guess);
        for (ahead, (guessed, drawn)) in guess.tokens.iter().zip(tokens).enumerate() {
            self.acceptance.note(guess.matched.saturating_add(ahead as u32), guessed == drawn);
            if guessed != drawn {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_what_follows_the_prompt() {
        let (prompt, prediction) = ([5, 6, 7, 8, 9], [20, 21, 22, 23]);
        let mut own = OwnText::new(&prompt, &prediction);
        own.feed(&prompt);
        assert_eq!(own.guess(9), Guess { tokens: prediction.into(), matched: 4 }, "and nothing behind it");
        own.feed(&[20, 21]);
        assert_eq!(own.guess(1), Guess { tokens: vec![22], matched: 6 });
        own.feed(&[99]);
        assert_eq!(own.guess(3), Guess::default());
        own.feed(&[21]);
        assert_eq!(own.guess(2).tokens.len(), 2, "an edit goes on where the text does");
    }

    #[test]
    fn guesses_are_of_the_vocabulary_and_noted_though_they_were_not_sent() {
        let mut drafting = Drafting::new(Box::<OwnText>::default());
        let text: Vec<u32> = [1, 2, 3, 4].repeat(10);
        assert!(drafting.guess(&text[..6], 2, 3).chances.is_empty(), "token 3 is no token of three");
        let before = drafting.guess(&text[..7], 4, 10).chances;
        assert_eq!((before.len(), drafting.first(2)), (4, [4, 1].as_slice()));
        drafting.drawn(&text[7..8]);
        for at in 8..30 {
            drafting.guess(&text[..at], 0, 10);
            drafting.drawn(&text[at..=at]);
        }
        assert!(drafting.guess(&text[..30], 1, 10).chances[0] > 0.9);
    }
}
