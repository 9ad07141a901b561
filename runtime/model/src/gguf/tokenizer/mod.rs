//! The tokenizer of a file as the files of a fast tokenizer, which are then read and checked as every other.

mod byte_level;
mod sentence_piece;

use serde_json::{Map, Value as Json, json};

use super::metadata::Metadata;
use crate::error::ModelError;

/// Longer tokens are refused: joining them takes time by the square of their lengths.
const LONGEST_TOKEN: usize = 512;

/// What a token is, by ggml's numbers.
mod kind {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// A vocabulary: tokens, and what each is.
struct Vocabulary<'a> {
    metadata: Metadata<'a>,
    tokens: &'a [String],
    kinds: Option<&'a [i64]>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &Metadata<'a>) -> Result<Self, ModelError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = metadata.texts(key)?.ok_or_else(|| metadata.missing(key))?;
        if let Some(long) = tokens.iter().find(|token| token.len() > LONGEST_TOKEN) {
            return Err(metadata
                .error(format!("a token of {} bytes is longer than the {LONGEST_TOKEN} that are read", long.len())));
        }
        let kinds = metadata.integers("tokenizer.ggml.token_type")?;
        let this = Self { metadata: *metadata, tokens, kinds };
        this.same_length("tokenizer.ggml.token_type", kinds.map(<[i64]>::len))?;
        Ok(this)
    }

    fn same_length(&self, key: &str, length: Option<usize>) -> Result<(), ModelError> {
        match length {
            Some(length) if length != self.tokens.len() => {
                let reason = format!("{key:?} has {length} entries for {} tokens", self.tokens.len());
                Err(self.metadata.error(reason))
            }
            _ => Ok(()),
        }
    }

    fn kind(&self, id: usize) -> i64 {
        self.kinds.map_or(kind::NORMAL, |kinds| kinds[id])
    }

    /// The token of the id under that name, where there is one: `bos`, `eos` and the like.
    fn special(&self, name: &str) -> Result<Option<(u64, &'a str)>, ModelError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = self.metadata.count(&key)? else { return Ok(None) };
        let text = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        let text = text
            .ok_or_else(|| self.metadata.error(format!("{key:?} is {id}, there are {} tokens", self.tokens.len())))?;
        Ok(Some((id, text)))
    }

    /// Ids by tokens. Where a text is there twice the last id counts, as a map has it.
    fn ids(&self) -> Map<String, Json> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect()
    }

    /// Tokens that are looked for in a text before all others.
    fn added(&self) -> Vec<Json> {
        let is_added = |id: &usize| matches!(self.kind(*id), kind::UNKNOWN | kind::CONTROL | kind::USER_DEFINED);
        let added = (0..self.tokens.len()).filter(|id| is_added(id) && !self.tokens[*id].is_empty());
        let token = |id: usize| {
            json!({
                "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": self.kind(id) != kind::USER_DEFINED,
            })
        };
        added.map(token).collect()
    }

    /// What is put around a text.
    fn around(&self, adds_bos: bool) -> Result<Json, ModelError> {
        let flag = |name: &str, usual| self.metadata.flag(&format!("tokenizer.ggml.add_{name}_token"), usual);
        let (mut template, mut specials) = (vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })], Map::new());
        let mut special = |name: &str, text: &str, id: u64| {
            specials.insert(text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] }));
            let _ = name;
            json!({ "SpecialToken": { "id": text, "type_id": 0 } })
        };
        for (name, usual, at_front) in [("bos", adds_bos, true), ("eos", false, false)] {
            if !flag(name, usual)? {
                continue;
            }
            let Some((id, text)) = self.special(name)? else { continue };
            let token = special(name, text, id);
            if at_front { template.insert(0, token) } else { template.push(token) }
        }
        if specials.is_empty() {
            return Ok(Json::Null);
        }
        Ok(json!({ "type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": specials }))
    }
}

/// The tokenizer's files by name.
pub(super) fn small_files(metadata: &Metadata<'_>) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
    let model = metadata.text("tokenizer.ggml.model")?.ok_or_else(|| metadata.missing("tokenizer.ggml.model"))?;
    let vocabulary = Vocabulary::read(metadata)?;
    let (tokenizer, adds_bos) = match model {
        "llama" => (sentence_piece::tokenizer(&vocabulary)?, true),
        "gpt2" => byte_level::tokenizer(&vocabulary)?,
        other => {
            let reason = format!(
                "the tokenizer {other:?} is not supported: llama (SentencePiece) and gpt2 (byte-level BPE) are"
            );
            return Err(metadata.error(reason));
        }
    };
    let mut whole = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": vocabulary.added(), "post_processor": vocabulary.around(adds_bos)?,
    });
    if let (Json::Object(whole), Json::Object(parts)) = (&mut whole, tokenizer) {
        whole.extend(parts);
    }
    let mut config = Map::new();
    for (field, name) in
        [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
    {
        config.extend(vocabulary.special(name)?.map(|(_, text)| (field.to_owned(), text.into())));
    }
    config.extend(templates(metadata)?.map(|templates| ("chat_template".to_owned(), templates)));
    let ends = ["eos", "eot", "eom"].into_iter().filter_map(|name| vocabulary.special(name).transpose());
    let ends: Vec<u64> = ends.map(|found| found.map(|(id, _)| id)).collect::<Result<_, _>>()?;
    let text = |value: Json| value.to_string().into_bytes();
    Ok(vec![
        ("tokenizer.json", text(whole)),
        ("tokenizer_config.json", text(Json::Object(config))),
        ("generation_config.json", text(json!({ "eos_token_id": ends }))),
    ])
}

/// The chat templates, as `tokenizer_config.json` has them.
fn templates(metadata: &Metadata<'_>) -> Result<Option<Json>, ModelError> {
    const KEY: &str = "tokenizer.chat_template";
    let usual = metadata.text(KEY)?;
    let prefix = format!("{KEY}.");
    let mut named = Vec::new();
    for key in metadata.values.keys().filter(|key| key.starts_with(&prefix)) {
        let text = metadata.text(key)?.unwrap_or_default();
        named.push(json!({ "name": key[prefix.len()..], "template": text }));
    }
    if named.is_empty() {
        return Ok(usual.map(Json::from));
    }
    named.extend(usual.map(|usual| json!({ "name": "default", "template": usual })));
    Ok(Some(named.into()))
}
