//! The architectures of GGUF files that are run, each with what its keys mean beyond those that all have.

use serde_json::{Map, Value as Json, json};

use super::{metadata::Metadata, value::Value};
use crate::error::ModelError;

/// An architecture by GGUF's name.
pub(super) struct GgufArchitecture {
    pub(super) name: &'static str,
    /// What `config.json` calls it.
    class: &'static str,
    /// The same where the file has a window, or experts, if it is called otherwise then.
    class_with: Option<(&'static str, &'static str)>,
    /// Keys that mean something here, beside those that all have.
    keys: &'static [&'static str],
    /// Whether converters put the rows that are rotated together next to each other.
    pub(super) rotated: bool,
    /// Whether q, k and v lie in one tensor, and gate and up.
    pub(super) fused: bool,
    /// Whether there are norms before the projections and behind them.
    pub(super) around: bool,
}

const WINDOW: &str = "attention.sliding_window";
const PATTERN: &str = "attention.sliding_window_pattern";
const EXPERTS: &str = "expert_count";
const SCALES: [&str; 4] = ["attention.scale", "embedding_scale", "logit_scale", "residual_scale"];

const PLAIN: GgufArchitecture = GgufArchitecture {
    name: "llama",
    class: "LlamaForCausalLM",
    class_with: Some((EXPERTS, "MixtralForCausalLM")),
    keys: &[EXPERTS],
    rotated: true,
    fused: false,
    around: false,
};
const NEW: GgufArchitecture = GgufArchitecture { class_with: None, keys: &[], rotated: false, ..PLAIN };

static ARCHITECTURES: [GgufArchitecture; 11] = [
    PLAIN,
    GgufArchitecture { name: "qwen2", class: "Qwen2ForCausalLM", ..NEW },
    GgufArchitecture { name: "qwen3", class: "Qwen3ForCausalLM", ..NEW },
    GgufArchitecture { name: "qwen3moe", class: "Qwen3MoeForCausalLM", keys: &[EXPERTS], ..NEW },
    GgufArchitecture { name: "olmoe", class: "OlmoeForCausalLM", keys: &[EXPERTS], ..NEW },
    GgufArchitecture {
        name: "olmo2",
        class: "Olmo2ForCausalLM",
        class_with: Some((WINDOW, "Olmo3ForCausalLM")),
        keys: &[WINDOW, PATTERN],
        ..NEW
    },
    GgufArchitecture {
        name: "gemma2",
        class: "Gemma2ForCausalLM",
        keys: &[WINDOW, PATTERN, SCALES[0], "attn_logit_softcapping", "final_logit_softcapping"],
        around: true,
        ..NEW
    },
    GgufArchitecture {
        name: "gemma3",
        class: "Gemma3ForCausalLM",
        keys: &[WINDOW, PATTERN, SCALES[0], "final_logit_softcapping"],
        around: true,
        ..NEW
    },
    GgufArchitecture { name: "phi3", class: "Phi3ForCausalLM", keys: &[WINDOW], fused: true, ..NEW },
    GgufArchitecture { name: "granite", class: "GraniteForCausalLM", keys: &SCALES, rotated: true, ..NEW },
    GgufArchitecture {
        name: "granitemoe",
        class: "GraniteMoeForCausalLM",
        keys: &[EXPERTS, SCALES[0], SCALES[1], SCALES[2], SCALES[3]],
        rotated: true,
        ..NEW
    },
];

/// Keys that change what is computed, and would have to be nothing where an architecture does not know them.
const MUST_BE_NOTHING: [(&str, &str); 15] = [
    (EXPERTS, "a mixture of experts"),
    (WINDOW, "an attention window"),
    (PATTERN, "an attention window"),
    ("attn_logit_softcapping", "a soft cap"),
    ("final_logit_softcapping", "a soft cap"),
    (SCALES[0], "scaled scores"),
    (SCALES[1], "scaled embeddings"),
    (SCALES[2], "scaled logits"),
    (SCALES[3], "a scaled residual stream"),
    ("attention.clamp_kqv", "bounds of q, k and v"),
    ("expert_shared_count", "experts that all rows share"),
    ("expert_shared_feed_forward_length", "experts that all rows share"),
    ("expert_weights_scale", "scaled weights of experts"),
    ("leading_dense_block_count", "layers without experts"),
    ("nextn_predict_layers", "layers that guess"),
];

/// The architecture of a file.
pub(super) fn architecture(metadata: &Metadata<'_>) -> Result<&'static GgufArchitecture, ModelError> {
    let name = metadata.text("general.architecture")?.ok_or_else(|| metadata.missing("general.architecture"))?;
    ARCHITECTURES.iter().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
        let reason = format!("the architecture {name:?} is not supported: of GGUF files, {} are run", known.join(", "));
        metadata.error(reason)
    })
}

impl GgufArchitecture {
    /// The fields of `config.json` that follow from this architecture's own keys; `head_dim` is the width of a head.
    pub(super) fn own_fields(&self, metadata: &Metadata<'_>, head_dim: u64) -> Result<Map<String, Json>, ModelError> {
        let key = |within: &str| format!("{}.{within}", self.name);
        let number = |within: &str| metadata.number(&key(within));
        for (within, what) in MUST_BE_NOTHING {
            let is_there = match metadata.get(&key(within)) {
                Some(Value::Flags(flags)) => flags.contains(&true),
                Some(_) => number(within)?.is_some_and(|number| number != 0.0),
                None => false,
            };
            if is_there && !self.keys.contains(&within) {
                return Err(metadata.error(format!("{:?} asks for {what}, which is not supported", key(within))));
            }
        }
        if number("expert_gating_func")?.is_some_and(|function| function != SOFTMAX) {
            let reason = format!("{:?} asks for weights of experts that are no softmax's", key("expert_gating_func"));
            return Err(metadata.error(reason));
        }
        let mut fields = Map::new();
        let mut set = |name: &str, value: Json| fields.insert(name.to_owned(), value);
        let class = match self.class_with {
            Some((with, class)) if number(with)?.is_some_and(|number| number != 0.0) => class,
            _ => self.class,
        };
        set("architectures", json!([class]));
        let layers = metadata.required_count(&key("block_count"))?;
        if self.keys.contains(&EXPERTS)
            && let Some(experts) = metadata.count(&key(EXPERTS))?.filter(|experts| *experts != 0)
        {
            set("num_local_experts", experts.into());
            set("num_experts_per_tok", metadata.required_count(&key("expert_used_count"))?.into());
            match self.name {
                "qwen3moe" => {
                    let width = metadata.required_count(&key("expert_feed_forward_length"))?;
                    set("moe_intermediate_size", width.into());
                    set("norm_topk_prob", true.into());
                }
                "olmoe" => drop(set("norm_topk_prob", false.into())),
                _ => {}
            }
        }
        if self.keys.contains(&WINDOW) {
            let window = metadata.count(&key(WINDOW))?.filter(|window| *window != 0);
            // Gemma 2 has one where nothing is said.
            if window.is_some() || self.name != "gemma2" {
                set("sliding_window", window.into());
            }
            if let Some(slides) = pattern(metadata, &key(PATTERN), layers)?.filter(|_| window.is_some()) {
                let name = |slides: bool| if slides { "sliding_attention" } else { "full_attention" };
                set("layer_types", slides.into_iter().map(name).collect());
            }
        }
        if self.around {
            // Converters have added one to the norms.
            set("rms_norm_offset", json!(0.0));
            set("query_pre_attn_scalar", json!(self.query_scalar(metadata, layers, head_dim)?));
        }
        for cap in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let Some(number) = number(cap)?.filter(|_| self.keys.contains(&cap)) {
                set(cap, if number == 0.0 { Json::Null } else { json!(number) });
            }
        }
        if self.name == "gemma3" {
            let theta = number("rope.freq_base_swa")?.unwrap_or(10_000.0);
            set("rope_local_base_freq", json!(theta));
        } else if let Some(other) = number("rope.freq_base_swa")?
            && number("rope.freq_base")? != Some(other)
        {
            let reason = format!("{:?} turns layers with a window by a base of their own", key("rope.freq_base_swa"));
            return Err(metadata.error(reason));
        }
        if self.keys.contains(&SCALES[2]) {
            let usual = 1.0 / (head_dim as f64).sqrt();
            set("attention_multiplier", json!(scale(number(SCALES[0])?).unwrap_or(usual)));
            set("embedding_multiplier", json!(scale(number(SCALES[1])?).unwrap_or(1.0)));
            set("logits_scaling", json!(scale(number(SCALES[2])?).unwrap_or(1.0)));
            set("residual_multiplier", json!(scale(number(SCALES[3])?).unwrap_or(1.0)));
        }
        Ok(fields)
    }

    /// What Gemma's scores are divided by the root of. Files seldom say it: it is the width of a head, and in the largest models that of
    /// the residual stream shared out among heads.
    fn query_scalar(&self, metadata: &Metadata<'_>, layers: u64, head_dim: u64) -> Result<f64, ModelError> {
        let key = |within: &str| format!("{}.{within}", self.name);
        if let Some(scale) = scale(metadata.number(&key(SCALES[0]))?) {
            return Ok(1.0 / (scale * scale));
        }
        let largest = matches!((self.name, layers), ("gemma2", 46) | ("gemma3", 62));
        let heads = metadata.required_count(&key("attention.head_count"))?;
        let hidden = metadata.required_count(&key("embedding_length"))?;
        Ok(if largest { hidden as f64 / heads as f64 } else { head_dim as f64 })
    }
}

/// ggml's number for weights of experts by a softmax.
const SOFTMAX: f64 = 1.0;

/// A factor; nothing stands for none.
fn scale(number: Option<f64>) -> Option<f64> {
    number.filter(|number| *number != 0.0)
}

/// Which layers have a window: a list, or a number of which every such layer has none.
fn pattern(metadata: &Metadata<'_>, key: &str, layers: u64) -> Result<Option<Vec<bool>>, ModelError> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Flags(flags)) if flags.len() as u64 == layers => Ok(Some(flags.clone())),
        Some(Value::Flags(flags)) => {
            let found = flags.len();
            Err(metadata.error(format!("{key:?} has {found} entries for {layers} layers")))
        }
        Some(_) => {
            let every = metadata.count(key)?.filter(|every| *every != 0);
            Ok(every.map(|every| (1..=layers).map(|layer| !layer.is_multiple_of(every)).collect()))
        }
    }
}
