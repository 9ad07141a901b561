//! Which fields of a `config.json` may stand there: those that this build obeys, those that say nothing of how a model computes,
//! and those whose value changes nothing. What is none of these is refused by name: to ignore it might be to compute another model.

use lime_files::{Fields, FileError, kind};
use serde_json::Value;

use crate::family::Family;

/// Obeyed in every family.
const OBEYED: &[&str] = &[
    "architectures",
    "auto_map",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "quantization",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "torch_dtype",
    "use_sliding_window",
    "vocab_size",
];

/// Of training, of generation, of other tasks, of tools, or of another place: no sum depends on them.
const IRRELEVANT: &[&str] = &[
    // Training and its machinery.
    "attention_dropout",
    "attn_dropout",
    "attn_pdrop",
    "dropout",
    "embd_pdrop",
    "embed_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "max_sequence_length",
    "gradient_checkpointing",
    "pretraining_tp",
    "resid_pdrop",
    "residual_dropout",
    "output_router_logits",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "use_flash_attention",
    "use_flash_attn",
    "use_flashattn",
    "use_cache",
    "weight_tying",
    // Which tokens mean what.
    "begin_suppress_tokens",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "image_token_id",
    "pad_token",
    "pad_token_id",
    "sep_token_id",
    "tokenizer_class",
    "unk_token_id",
    "video_token_id",
    "vision_end_token_id",
    "vision_start_token_id",
    "vision_token_id",
    // Generation, which generation_config.json has taken over.
    "bad_words_ids",
    "cache_implementation",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    // Other tasks.
    "classifier_dropout",
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    // Tools and their notes.
    "attn_implementation",
    "base_model",
    "chunk_size_feed_forward",
    "description",
    "framework",
    "is_decoder",
    "keys_to_ignore_at_inference",
    "language",
    "license",
    "mlx_lm_version",
    "model_max_length",
    "model_name",
    "name",
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "tags",
    "tf_legacy_loss",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "use_bfloat16",
    "version",
];

/// Fields that an error names.
const MOST_NAMED: usize = 8;

/// What tools put before the names of their own fields.
const IRRELEVANT_PREFIXES: &[&str] = &["_", "unsloth_"];

/// A value that changes nothing.
#[derive(Clone, Copy)]
enum Neutral {
    False,
    True,
    Zero,
    One,
    /// An empty list or object.
    Empty,
    /// Nothing but null, or the field left out.
    Nothing,
}

impl Neutral {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::False => value.as_bool() == Some(false),
            Self::True => value.as_bool() == Some(true),
            Self::Zero => value.as_f64() == Some(0.0),
            Self::One => value.as_f64() == Some(1.0),
            Self::Empty => {
                value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
            }
            Self::Nothing => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::True => "true",
            Self::Zero => "0",
            Self::One => "1",
            Self::Empty => "empty",
            Self::Nothing => "null",
        }
    }
}

/// Fields of other families and of newer ones, with the value at which a model computes as if they were not there.
const NEUTRAL: &[(&str, Neutral)] = &[
    ("add_cross_attention", Neutral::False),
    ("alibi", Neutral::False),
    ("attention_bias", Neutral::False),
    ("attention_multiplier", Neutral::Nothing),
    ("attention_out_bias", Neutral::False),
    ("attn_logit_softcapping", Neutral::Nothing),
    ("bias", Neutral::False),
    ("clip_qkv", Neutral::Nothing),
    ("compression_ratio", Neutral::One),
    ("cross_attention_hidden_size", Neutral::Nothing),
    ("decoder_sparse_step", Neutral::One),
    ("embedding_multiplier", Neutral::One),
    ("final_logit_softcapping", Neutral::Nothing),
    ("is_causal", Neutral::True),
    ("is_encoder_decoder", Neutral::False),
    ("is_llama_config", Neutral::True),
    ("logit_scale", Neutral::One),
    ("logits_scaling", Neutral::One),
    ("mlp_bias", Neutral::False),
    ("mlp_only_layers", Neutral::Empty),
    ("no_rope_layer_interval", Neutral::Nothing),
    ("no_rope_layers", Neutral::Empty),
    ("num_experts", Neutral::Zero),
    ("num_local_experts", Neutral::Zero),
    ("num_nextn_predict_layers", Neutral::Zero),
    ("pruned_heads", Neutral::Empty),
    ("qk_layernorm", Neutral::False),
    ("qk_norm", Neutral::False),
    ("qkv_bias", Neutral::False),
    ("query_pre_attn_scalar", Neutral::Nothing),
    ("residual_multiplier", Neutral::One),
    ("rope_interleaved", Neutral::False),
    ("tie_encoder_decoder", Neutral::False),
    ("use_bias", Neutral::False),
    ("use_bidirectional_attention", Neutral::False),
    ("use_mrope", Neutral::False),
    ("use_qk_norm", Neutral::False),
    ("use_rmsnorm", Neutral::True),
];

/// Refuses every field that is not known to be harmless, all of them at once.
pub(crate) fn check(fields: &Fields<'_>, family: &Family) -> Result<(), FileError> {
    let mut faults = Vec::new();
    let mut unknown = false;
    for (name, value) in fields.values().filter(|(_, value)| !value.is_null()) {
        let name = name.as_str();
        if OBEYED.contains(&name) || family.own_fields.contains(&name) || is_irrelevant(name) {
            continue;
        }
        match NEUTRAL.iter().find(|(neutral, _)| *neutral == name) {
            Some((_, neutral)) if neutral.is(value) => {}
            Some((_, neutral)) => {
                faults.push(format!("{name:?} is {}, this build computes {} alone", kind(value), neutral.name()));
            }
            None => {
                unknown = true;
                faults.push(format!("{name:?} ({}) is not known", kind(value)));
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let family = family.classes[0];
    if faults.len() > MOST_NAMED {
        let more = faults.len() - MOST_NAMED;
        faults.truncate(MOST_NAMED);
        faults.push(format!("and {more} more"));
    }
    let what = faults.join("; ");
    let advice = if unknown { ": remove what changes nothing in how the model computes" } else { "" };
    Err(fields.error(format!("{family} with fields that may make it another model: {what}{advice}")))
}

fn is_irrelevant(name: &str) -> bool {
    IRRELEVANT.contains(&name) || IRRELEVANT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Refuses code of the model's own, unless it is the family's, which this build has itself.
pub(crate) fn refuse_other_code(fields: &Fields<'_>, family: &Family) -> Result<(), FileError> {
    let Some(map) = fields.object("auto_map")? else { return Ok(()) };
    let Some(class) = map.text("AutoModelForCausalLM")? else { return Ok(()) };
    match class.rsplit('.').next() {
        Some(name) if family.is_class(name) => Ok(()),
        _ => Err(fields.error(format!(
            "\"auto_map\" says that the model is computed by {class:?}, code of its own, which this build does not run"
        ))),
    }
}
