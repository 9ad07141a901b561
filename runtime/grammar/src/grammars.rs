//! A model's tokens, and grammars over them.

use std::{fmt, panic::catch_unwind, sync::Arc};

use lime_plan::TokenSet;
use llguidance::{
    Matcher as Inner, ParserFactory,
    api::ParserLimits,
    toktrie::{ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};

use crate::{
    error::{GrammarError, said},
    form::Form,
    matcher::Matcher,
    tokens::{Known, TokenText},
};

/// Bytes of the longest token that a grammar may use; longer ones are of no language.
const LONGEST_TOKEN: usize = 512;
/// States of the machine that reads lexemes: 1 to 2 KiB each, for every answer under way.
const MOST_STATES: usize = 20_000;

/// The tokens of a model, laid out for grammars. Takes some MiB and some hundred milliseconds, once.
pub struct Grammars {
    factory: ParserFactory,
    known: Arc<Known>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").field("tokens", &self.known.tokens.len()).finish_non_exhaustive()
    }
}

impl Grammars {
    /// Of a model whose token `i` adds `tokens[i]` to an answer, and whose answers end with one of `ends`.
    ///
    /// # Errors
    /// When there are more tokens, or longer ones, than the library can lay out.
    pub fn new(tokens: Vec<TokenText>, ends: &[u32]) -> Result<Self, GrammarError> {
        let mut blank = TokenSet::none(tokens.len() as u32);
        for (id, token) in (0..).zip(&tokens) {
            if matches!(token, TokenText::Text(bytes) if !bytes.is_empty() && bytes.trim_ascii().is_empty()) {
                blank.insert(id);
            }
        }
        let ends: Vec<u32> = ends.iter().copied().filter(|end| (*end as usize) < tokens.len()).collect();
        let known = Arc::new(Known { tokens, ends, blank });
        let shared = known.clone();
        let made =
            catch_unwind(move || factory(&shared)).map_err(|_| GrammarError::Tokens("there are too many".into()))?;
        Ok(Self { factory: made?, known })
    }

    /// The grammar of a form.
    ///
    /// # Errors
    /// A form that is too large, too deep, or cannot be kept to exactly.
    pub fn compile(&self, form: &Form) -> Result<Grammar, GrammarError> {
        let fault = |fault: &dyn fmt::Display| GrammarError::Form(said(&fault));
        let parser = self.factory.create_parser(form.written()?).map_err(|error| fault(&format!("{error:#}")))?;
        let goes_back = parser.parser.grammar().lexer_spec().can_rollback();
        Ok(Grammar { begun: Matcher::begin(Inner::new(Ok(parser)), self.known.clone(), goes_back)? })
    }
}

fn factory(known: &Known) -> Result<ParserFactory, GrammarError> {
    let words: Vec<Vec<u8>> = known.tokens.iter().map(word).collect();
    let mut info = TokRxInfo::new(known.vocabulary(), INVALID_TOKEN);
    info.tok_eos = known.ends.first().copied().unwrap_or(INVALID_TOKEN);
    let mut trie = TokTrie::from(&info, &words);
    if known.ends.len() > 1 {
        trie = trie.with_eos_tokens(&known.ends);
    }
    // No token is the only right one for a text: whatever the grammar has a place for may be drawn.
    let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let fault = |fault| GrammarError::Tokens(said(&fault));
    let mut factory = ParserFactory::new(
        &tokens,
        InferenceCapabilities::default(),
        &llguidance::earley::SlicedBiasComputer::general_slices(),
    )
    .map_err(fault)?;
    factory.quiet();
    *factory.limits_mut() =
        ParserLimits { max_lexer_states: MOST_STATES, verbose_errors: false, ..ParserLimits::default() };
    Ok(factory)
}

fn word(token: &TokenText) -> Vec<u8> {
    let word = match token {
        TokenText::Text(bytes) => bytes.clone(),
        TokenText::Mark(name) => [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat(),
        TokenText::Nothing => Vec::new(),
    };
    if word.len() > LONGEST_TOKEN { Vec::new() } else { word }
}

/// A grammar, before the first token.
#[derive(Clone)]
pub struct Grammar {
    begun: Matcher,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// Goes through an answer that begins as the grammar does.
    pub fn matcher(&self) -> Matcher {
        self.begun.clone()
    }

    /// Goes through an answer that may say anything before `mark`, and must say that: thoughts come before what has a form.
    pub fn matcher_after(&self, mark: &str) -> Matcher {
        self.begun.clone().waiting_for(mark)
    }
}
