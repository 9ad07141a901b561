//! Metadata as the `config.json` that they stand for, which is then read and checked as every other.

use serde_json::{Map, Value as Json, json};

use super::{architectures::architecture, metadata::Metadata};
use crate::error::ModelError;

/// A tensor with a factor for each frequency of rotary positions: how converters store the scaling of Llama 3.1 and later.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";
/// The same of LongRoPE, within the context trained first.
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";
/// And beyond it.
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";

/// `config.json` of the model. `has` says whether there is a tensor of that name.
pub(super) fn config_json(
    metadata: &Metadata<'_>,
    has: &dyn Fn(&str) -> bool,
    rope_factors: Option<&[f32]>,
) -> Result<Vec<u8>, ModelError> {
    let architecture = architecture(metadata)?;
    let name = architecture.name;
    let key = |within: &str| format!("{name}.{within}");
    let count = |within: &str| metadata.count(&key(within));
    let heads = metadata.required_count(&key("attention.head_count"))?;
    let hidden = metadata.required_count(&key("embedding_length"))?;
    let usual = hidden.checked_div(heads);
    let head_dim = count("attention.key_length")?.or(usual).unwrap_or(0);
    let rotated = count("rope.dimension_count")?.unwrap_or(head_dim);
    let widths =
        [("attention.value_length", count("attention.value_length")?), ("rope.dimension_count", Some(rotated))];
    // Of Phi's heads a part may be rotated.
    let widths = widths.into_iter().filter(|(within, _)| !(architecture.fused && *within == "rope.dimension_count"));
    for (within, other) in widths {
        if let Some(other) = other.filter(|other| *other != head_dim) {
            let reason = format!("{:?} is {other}, and heads are {head_dim} wide: not supported", key(within));
            return Err(metadata.error(reason));
        }
    }
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.map(|tokens| tokens.len() as u64);
    let vocabulary = tokens.or(count("vocab_size")?).ok_or_else(|| metadata.missing("tokenizer.ggml.tokens"))?;
    let eps = key("attention.layer_norm_rms_epsilon");
    let theta = metadata.number(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let mut config = Map::new();
    let fields = json!({
        "hidden_size": hidden,
        "intermediate_size": metadata.required_count(&key("feed_forward_length"))?,
        "num_hidden_layers": metadata.required_count(&key("block_count"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": count("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "max_position_embeddings": metadata.required_count(&key("context_length"))?,
        "rms_norm_eps": metadata.number(&eps)?.ok_or_else(|| metadata.missing(&eps))?,
        "rope_theta": theta,
        // A matrix of its own is in the file, or there is none.
        "tie_word_embeddings": !has("output.weight"),
    });
    if let Json::Object(fields) = fields {
        config.extend(fields);
    }
    config.extend(architecture.own_fields(metadata, head_dim)?);
    if rotated != head_dim {
        config.insert("partial_rotary_factor".into(), json!(rotated as f64 / head_dim.max(1) as f64));
    }
    let scaling = match (scaling(metadata, name)?, rope_factors) {
        (None, Some(factors)) if architecture.fused => Some(long_scaling(metadata, name, factors)?),
        (None, Some(factors)) => by_factors(metadata, factors, head_dim, theta)?,
        (Some(_), Some(_)) => {
            let reason = format!("it scales positions twice, by {:?} and by {ROPE_FACTORS}", key("rope.scaling.type"));
            return Err(metadata.error(reason));
        }
        (scaling, None) => scaling,
    };
    config.extend(scaling.map(|scaling| ("rope_scaling".to_owned(), scaling)));
    if name == "llama" && count("expert_count")?.is_none_or(|experts| experts == 0) {
        config.insert("attention_bias".into(), has("blk.0.attn_q.bias").into());
        config.insert("mlp_bias".into(), has("blk.0.ffn_gate.bias").into());
    }
    for (field, key) in [("bos_token_id", "bos"), ("eos_token_id", "eos")] {
        let id = metadata.count(&format!("tokenizer.ggml.{key}_token_id"))?;
        config.extend(id.map(|id| (field.to_owned(), id.into())));
    }
    Ok(Json::Object(config).to_string().into_bytes())
}

/// How positions are stretched, where they are.
fn scaling(metadata: &Metadata<'_>, name: &str) -> Result<Option<Json>, ModelError> {
    let key = format!("{name}.rope.scaling.type");
    let factor = metadata.number(&format!("{name}.rope.scaling.factor"))?.unwrap_or(1.0);
    match metadata.text(&key)? {
        None | Some("none") => Ok(None),
        Some("linear") => Ok(Some(json!({ "rope_type": "linear", "factor": factor }))),
        Some("yarn") => {
            let within = |within: &str| format!("{name}.rope.scaling.{within}");
            let original = metadata.required_count(&within("original_context_length"))?;
            // Left out, they are as in transformers.
            let number = |key: &str| metadata.number(&within(key));
            for (key, usual) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0), ("attn_factor", 1.0)] {
                if let Some(other) = number(key)?.filter(|number| *number != usual) {
                    return Err(metadata.error(format!("{:?} is {other}, which is not supported", within(key))));
                }
            }
            let yarn = json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                "attention_factor": number("yarn_attn_factor")?, "beta_fast": number("yarn_beta_fast")?,
                "beta_slow": number("yarn_beta_slow")?,
            });
            Ok(Some(yarn))
        }
        Some(other) => {
            Err(metadata.error(format!("{key:?} is {other:?}, which is not supported: none, linear and yarn are")))
        }
    }
}

/// LongRoPE's factors: those beyond the context trained first are not read, since the model is not run there.
fn long_scaling(metadata: &Metadata<'_>, name: &str, factors: &[f32]) -> Result<Json, ModelError> {
    let original = metadata.required_count(&format!("{name}.rope.scaling.original_context_length"))?;
    let attention = metadata.number(&format!("{name}.rope.scaling.attn_factor"))?.filter(|factor| *factor != 0.0);
    Ok(json!({
        "rope_type": "longrope", "short_factor": factors, "original_max_position_embeddings": original,
        "attention_factor": attention,
    }))
}

/// The context of Llama 3, from which the later ones are stretched, and where in its wavelengths stretching begins and ends: of every
/// model of the kind that is published.
const LLAMA_3_CONTEXT: f64 = 8192.0;
const LLAMA_3_LOW: f64 = 1.0;
const LLAMA_3_HIGH: f64 = 4.0;

/// The scaling that a list of factors comes from.
fn by_factors(metadata: &Metadata<'_>, factors: &[f32], head_dim: u64, theta: f64) -> Result<Option<Json>, ModelError> {
    let near = |one: f64, other: f64| (one - other).abs() <= 1e-3 * other.abs();
    let greatest = factors.iter().copied().fold(1.0f32, f32::max);
    let is_llama_3 = factors.len() as u64 * 2 == head_dim
        && (0u32..)
            .zip(factors)
            .all(|(index, factor)| near((*factor).into(), llama_3_factor(index, head_dim, theta, greatest.into())));
    match is_llama_3 {
        true if greatest == 1.0 => Ok(None),
        true => Ok(Some(json!({
            "rope_type": "llama3", "factor": greatest, "low_freq_factor": LLAMA_3_LOW, "high_freq_factor": LLAMA_3_HIGH,
            "original_max_position_embeddings": LLAMA_3_CONTEXT as u64,
        }))),
        false => {
            let reason = format!(
                "the factors of its rotary positions ({ROPE_FACTORS}) are not those of Llama 3, and no others are supported"
            );
            Err(metadata.error(reason))
        }
    }
}

/// How much slower frequency `index` turns in a model of Llama 3's kind that is stretched by `factor`.
fn llama_3_factor(index: u32, head_dim: u64, theta: f64, factor: f64) -> f64 {
    let wavelength = std::f64::consts::TAU * theta.powf(2.0 * f64::from(index) / head_dim as f64);
    let turns = LLAMA_3_CONTEXT / wavelength;
    let smooth = ((turns - LLAMA_3_LOW) / (LLAMA_3_HIGH - LLAMA_3_LOW)).clamp(0.0, 1.0);
    1.0 / ((1.0 - smooth) / factor + smooth)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;

    #[test]
    fn the_factors_of_llama_3_are_known_again() {
        let values = BTreeMap::new();
        let metadata = Metadata { path: Path::new("m.gguf"), values: &values };
        let of = |factors: &[f32]| by_factors(&metadata, factors, 128, 500_000.0);
        for factor in [8.0, 32.0] {
            let factors: Vec<f32> = (0..64).map(|index| llama_3_factor(index, 128, 500_000.0, factor) as f32).collect();
            // As converters say: the fastest as they are, the slowest by the whole factor.
            assert_eq!((factors[0], factors[63]), (1.0, factor as f32));
            let found = of(&factors).unwrap().unwrap();
            assert_eq!((&found["rope_type"], found["factor"].as_f64()), (&json!("llama3"), Some(factor)));
            let mut others = factors.clone();
            others[30] *= 1.1;
            assert!(of(&others).unwrap_err().to_string().contains("not those of Llama 3"));
            assert!(of(&factors[..63]).is_err());
        }
        assert_eq!(of(&[1.0; 64]).unwrap(), None);
        assert!(of(&[f32::NAN; 64]).is_err());
    }
}
