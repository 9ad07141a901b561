//! Text to tokens and back.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use lime_files::read_bounded;

use crate::{
    decoding::Decoding,
    error::TextError,
    generation::GenerationConfig,
    model_tokens::ModelTokens,
    special::{Names, extra_special_tokens},
    tokenizer_check,
};

const TOKENIZER_FILE: &str = "tokenizer.json";
const TOKENIZER_LIMIT: u64 = 256 << 20;

/// The tokenizer of a model folder.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    decoding: Decoding,
    special: BTreeSet<u32>,
    bos: Option<u32>,
    eos: Vec<u32>,
}

impl Tokenizer {
    /// Opens the folder's `tokenizer.json`. The tokens that end an answer are those of `config.json`,
    /// `generation_config.json` and `tokenizer_config.json` together, as far as each is there.
    ///
    /// # Errors
    /// A file that is missing, damaged or not a tokenizer.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TextError> {
        let dir = dir.as_ref();
        Self::open_beside(dir, GenerationConfig::load(dir)?.eos, &ModelTokens::load(dir)?, &Names::load(dir)?)
    }

    /// As [`Tokenizer::open`], with what its neighbours say: `eos` of `generation_config.json`, and the tokens of `config.json`.
    pub(crate) fn open_beside(
        dir: &Path,
        eos: impl IntoIterator<Item = u32>,
        model: &ModelTokens,
        names: &Names,
    ) -> Result<Self, TextError> {
        let path = dir.join(TOKENIZER_FILE);
        let hint = if dir.join("tokenizer.model").exists() {
            "there is tokenizer.model, which is not read: transformers makes the fast tokenizer from it, \
             AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        } else {
            "the folder must hold a fast tokenizer (tokenizer.json); transformers writes one with save_pretrained"
        };
        let bytes = read_bounded(&path, TOKENIZER_LIMIT, hint)?;
        let fault = |reason: String| TextError::Tokenizer { path: path.clone(), reason };
        tokenizer_check::check(&bytes).map_err(&fault)?;
        let parsed = guarded(|| tokenizers::Tokenizer::from_bytes(&bytes).map_err(|fault| fault.to_string()));
        let mut inner = parsed.map_err(|reason| fault(format!("not a tokenizer: {reason}")))?;
        // A training-time truncation or padding would silently change prompts.
        inner.with_truncation(None).map_err(|reason| fault(reason.to_string()))?;
        inner.with_padding(None);
        let extra: BTreeSet<u32> =
            extra_special_tokens(&names.config).iter().filter_map(|text| inner.token_to_id(text)).collect();
        let id_of = |name: &str| names.special.get(name)?.as_str().and_then(|text| inner.token_to_id(text));
        let mut eos: Vec<u32> = id_of("eos_token").into_iter().chain(eos).collect();
        eos.extend(&model.eos);
        eos.sort_unstable();
        eos.dedup();
        let bos = id_of("bos_token").or(model.bos);
        let added = inner.get_added_tokens_decoder().into_iter();
        let special = added.filter(|(_, token)| token.special).map(|(id, _)| id).chain(extra).collect();
        let decoding = Decoding::of(inner.get_decoder());
        Ok(Self { path, inner, decoding, special, bos, eos })
    }

    /// The tokens of `text`. With `add_special`, the tokenizer adds what the model expects around a whole text (most
    /// often a token that begins it); a rendered chat template already has it.
    ///
    /// # Errors
    /// A text that the tokenizer's own rules refuse.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        let encode = || self.inner.encode_fast(text, add_special).map_err(|fault| fault.to_string());
        let encoded = guarded(encode).map_err(|reason| TextError::Tokenizer { path: self.path.clone(), reason })?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The text of `tokens`; ids that are no tokens have none. Equal to what a [`crate::DecodeStream`] gives piece by piece.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        let mut stream = self.decode_stream(skip_special);
        let mut text: String = tokens.iter().map(|token| stream.push(*token)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// The bytes that `token` adds to a text; none for an id that is no token. Not always valid UTF-8 on their own.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        self.text_of(token).map(|text| self.decoding.bytes(&text)).unwrap_or_default()
    }

    /// Whether in the middle of a text every token adds its [`Tokenizer::token_bytes`], whatever stands around it.
    pub fn adds_by_token(&self) -> bool {
        self.decoding.is_by_token()
    }

    /// Whether `token` is a special token, which is not part of an answer's text.
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    /// The text by which the tokenizer's files name `token`; none for an id that is no token.
    pub fn text_of(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    pub(crate) const fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// The id of a token given by its exact text.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// The token that begins a text, where there is one.
    pub const fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end an answer, ascending.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Number of tokens, added ones included. The model's matrices may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// Runs foreign code over foreign bytes: a panic in it becomes an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // Nothing is left half-changed: the tokenizer is built here, or only read.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("the tokenizer's rules contradict each other".into()))
}
