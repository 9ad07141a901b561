//! SentencePiece's BPE: pieces with scores, and bytes where there is no piece.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::Vocabulary;
use crate::error::ModelError;

/// More ways to join two pieces to one are refused.
const MOST_MERGES: usize = 1 << 23;
/// Stands for a space.
const SPACE: &str = "\u{2581}";

/// The parts of `tokenizer.json` that make texts to pieces and back.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<Json, ModelError> {
    let metadata = &vocabulary.metadata;
    let key = "tokenizer.ggml.scores";
    let scores = metadata.floats(key)?.ok_or_else(|| metadata.missing(key))?;
    vocabulary.same_length(key, Some(scores.len()))?;
    let unknown = vocabulary.special("unknown")?.map(|(_, text)| text);
    let begins = metadata.flag("tokenizer.ggml.add_space_prefix", true)?;
    let mut steps = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE })];
    let mut back = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if begins {
        steps.insert(0, json!({ "type": "Prepend", "prepend": SPACE }));
        back.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "normalizer": { "type": "Sequence", "normalizers": steps },
        "pre_tokenizer": null,
        "decoder": { "type": "Sequence", "decoders": back },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary.ids(), "merges": merges(vocabulary, scores)?,
        },
    }))
}

/// Pairs of pieces that make a piece, those of the highest score first, as transformers makes them of the same vocabulary.
fn merges(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Result<Vec<[String; 2]>, ModelError> {
    let ids: BTreeMap<&str, usize> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut merges = Vec::new();
    for (piece, id) in &ids {
        let cuts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        merges.extend(cuts.filter_map(|(left, right)| Some((*id, *ids.get(left)?, *ids.get(right)?))));
        if merges.len() > MOST_MERGES {
            let reason =
                format!("its pieces can be joined in more than {MOST_MERGES} ways: not a vocabulary of SentencePiece");
            return Err(vocabulary.metadata.error(reason));
        }
    }
    // Of one piece, the pair that was there first; of pieces of one score, the first piece.
    merges.sort_by(|one, other| scores[other.0].total_cmp(&scores[one.0]).then(one.cmp(other)));
    let text = |id: usize| vocabulary.tokens[id].clone();
    Ok(merges.into_iter().map(|(_, left, right)| [text(left), text(right)]).collect())
}
