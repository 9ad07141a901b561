//! One answer's way through its grammar.

use std::{fmt, sync::Arc};

use lime_plan::TokenSet;
use llguidance::{Matcher as Inner, api::StopReason, toktrie::TokEnv};

use crate::{
    error::{GrammarError, said},
    tokens::Known,
    waiting::Waiting,
};

/// How far an answer is in its grammar.
pub struct Matcher {
    inner: Inner,
    known: Arc<Known>,
    waiting: Waiting,
    /// What may come next; of no meaning where the text is over.
    allowed: TokenSet,
    /// Whether it can go back: the attributes `stop` and `max_tokens` of Lark's rules are in its way.
    goes_back: bool,
}

impl Clone for Matcher {
    /// What it has learnt of the grammar is its own: answers do not make each other's memory grow.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.deep_clone(),
            known: self.known.clone(),
            waiting: self.waiting.clone(),
            allowed: self.allowed.clone(),
            goes_back: self.goes_back,
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Matcher {
    pub(crate) fn begin(inner: Inner, known: Arc<Known>, goes_back: bool) -> Result<Self, GrammarError> {
        let allowed = TokenSet::none(known.vocabulary());
        let mut matcher = Self { inner, known, waiting: Waiting::Over, allowed, goes_back };
        matcher.allowed = matcher.masked()?;
        Ok(matcher)
    }

    pub(crate) fn waiting_for(mut self, mark: &str) -> Self {
        self.waiting = Waiting::for_mark(mark);
        self.allowed = self.anything();
        self
    }

    /// The tokens that may come next: at least one, where the text is not over.
    pub const fn allowed(&self) -> &TokenSet {
        &self.allowed
    }

    /// All but what ends an answer: it does not end before its text has begun.
    fn anything(&self) -> TokenSet {
        let mut ends = TokenSet::none(self.known.vocabulary());
        self.known.ends.iter().for_each(|end| ends.insert(*end));
        ends.others()
    }

    fn masked(&mut self) -> Result<TokenSet, GrammarError> {
        let mask = self.inner.compute_mask().map_err(|fault| GrammarError::Stuck(said(&fault)))?;
        Ok(TokenSet::of_words(mask.into(), self.known.vocabulary()))
    }

    fn next_allowed(&mut self) -> Result<TokenSet, GrammarError> {
        let mut allowed = match self.waiting {
            Waiting::ForMark { .. } => return Ok(self.anything()),
            Waiting::ForText { .. } | Waiting::Over if self.is_over() => TokenSet::none(self.known.vocabulary()),
            Waiting::ForText { .. } | Waiting::Over => self.masked()?,
        };
        if matches!(self.waiting, Waiting::ForText { blanks } if blanks > 0) {
            self.known.blank.iter().for_each(|token| allowed.insert(token));
        }
        Ok(allowed)
    }

    /// A token is drawn.
    ///
    /// # Errors
    /// When it is none that may come next, or going on takes too much work. The matcher is of no use after that.
    pub fn advance(&mut self, token: u32) -> Result<(), GrammarError> {
        let known = self.known.clone();
        let (text, blank) = (known.tokens.get(token as usize), known.blank.contains(token));
        if self.waiting == Waiting::Over {
            self.consume(&[token], token)?;
        } else if let Some(text) = text
            && let Some(begun) = self.waiting.take(text, blank)
        {
            let whole = text.bytes() == begun;
            // The rest of a token is read by its bytes: which tokens those would be makes no difference to a grammar.
            let rest = |tokens: TokEnv| tokens.tok_trie().greedy_tokenize(&begun);
            let tokens = if whole { vec![token] } else { self.inner.tok_env().map(rest).unwrap_or_default() };
            self.consume(&tokens, token)?;
        }
        self.allowed = self.next_allowed()?;
        Ok(())
    }

    fn consume(&mut self, tokens: &[u32], token: u32) -> Result<(), GrammarError> {
        self.inner.consume_tokens(tokens).map_err(|fault| GrammarError::Misplaced { token, why: said(&fault) })
    }

    /// Whether the text is whole, and nothing can follow.
    pub fn is_over(&self) -> bool {
        matches!(
            self.inner.stop_reason(),
            StopReason::EndOfSentence | StopReason::NoExtension | StopReason::NoExtensionBias
        )
    }

    /// What may come after each of `guesses`, as if they were drawn: of as many as have a place one after the other, none of which is the
    /// last of the text; of none where the grammar allows no looking ahead. The matcher stays where it is.
    ///
    /// # Errors
    /// When finding it takes too much work. The matcher is of no use after that.
    pub fn ahead(&mut self, guesses: &[u32]) -> Result<Vec<TokenSet>, GrammarError> {
        if self.waiting != Waiting::Over {
            return Ok(self.ahead_of_text(guesses));
        }
        if !self.goes_back {
            return Ok(Vec::new());
        }
        let (mut sets, mut gone): (Vec<TokenSet>, usize) = (Vec::with_capacity(guesses.len()), 0);
        for guess in guesses {
            if !sets.last().unwrap_or(&self.allowed).contains(*guess) {
                break;
            }
            self.consume(&[*guess], *guess)?;
            gone += 1;
            if self.is_over() {
                break;
            }
            sets.push(self.masked()?);
        }
        self.inner.rollback(gone).map_err(|fault| GrammarError::Stuck(said(&fault)))?;
        Ok(sets)
    }

    /// Before the text anything may come: up to the mark, where it begins.
    fn ahead_of_text(&self, guesses: &[u32]) -> Vec<TokenSet> {
        let mut waiting = self.waiting.clone();
        let goes_on = |guess: &&u32| {
            let Some(token) = self.known.tokens.get(**guess as usize) else { return false };
            let begun = waiting.take(token, self.known.blank.contains(**guess));
            self.allowed.contains(**guess) && begun.is_none() && matches!(waiting, Waiting::ForMark { .. })
        };
        vec![self.allowed.clone(); guesses.iter().take_while(goes_on).count()]
    }

    /// The bytes that come next whatever is drawn; none where there is a choice. Which tokens they are is open.
    pub fn forced(&mut self) -> Vec<u8> {
        if self.waiting == Waiting::Over && !self.is_over() { self.inner.compute_ff_bytes() } else { Vec::new() }
    }

    /// The longest tokens that those bytes could be: guesses that hold as often as a model writes what it must in as few tokens as it can.
    pub fn likely(&mut self) -> Vec<u32> {
        let forced = self.forced();
        let longest = |tokens: TokEnv| tokens.tok_trie().greedy_tokenize(&forced);
        if forced.is_empty() { Vec::new() } else { self.inner.tok_env().map(longest).unwrap_or_default() }
    }
}
