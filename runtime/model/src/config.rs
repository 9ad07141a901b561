//! The model's shape, read from a Hugging Face `config.json`.

use std::path::{Path, PathBuf};

use lime_planner::{Architecture, Dtype, Encoding};
use serde_json::Value;

use crate::{
    ModelError, RopeConfig,
    json::{Fields, read_bounded},
};

const CONFIG_FILE: &str = "config.json";
const CONFIG_LIMIT: u64 = 16 << 20;

const MOST_LAYERS: u64 = 4096;
const MOST_HEADS: u64 = 1 << 14;
const MOST_HEAD_DIM: u64 = 1 << 13;
const MOST_WIDTH: u64 = 1 << 20;
const MOST_VOCABULARY: u64 = 1 << 24;
const MOST_CONTEXT: u64 = 1 << 27;

/// The shape of a model that this build can run. Every number has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward projections.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Rows of the embedding and of the output matrix.
    pub vocabulary: usize,
    /// Longest context in tokens.
    pub context: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Whether embedding and output matrix are one tensor.
    pub tied: bool,
    /// Element type of the weights.
    pub dtype: Dtype,
    /// How the weights lie in the store and in memory; raw as the config is read.
    pub encoding: Encoding,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub o_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// Whether each head of q and k is normalised before it is rotated.
    pub qk_norm: bool,
    /// The token that begins a text, where there is one.
    pub bos: Option<u32>,
    /// The tokens that end a text.
    pub eos: Vec<u32>,
}

impl ModelConfig {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// As [`ModelConfig::parse`], or when the file cannot be read.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG_FILE);
        let hint = "the folder must hold a Hugging Face model (config.json, *.safetensors, tokenizer.json)";
        let bytes = read_bounded(&path, CONFIG_LIMIT, hint)?;
        Self::from_bytes(&path, &bytes)
    }

    /// Reads the text of a `config.json`, in the form of transformers 4 or 5.
    ///
    /// # Errors
    /// A field that is missing or out of range, or an architecture, rope type, quantization, activation or attention
    /// window that this build does not run, by name.
    pub fn parse(json: &str) -> Result<Self, ModelError> {
        Self::from_bytes(&PathBuf::from(CONFIG_FILE), json.as_bytes())
    }

    /// The same model with its weights laid out as `encoding` says.
    #[must_use]
    pub fn encoded(&self, encoding: Encoding) -> Self {
        Self { encoding, ..self.clone() }
    }

    /// Width of all query heads together.
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|fault| ModelError::Config {
            path: path.to_owned(),
            reason: format!("not valid JSON: {fault}"),
        })?;
        let fields = Fields::new(path, &value)?;
        let architecture = architecture(&fields)?;
        refuse_quantized(&fields)?;
        refuse_other_activations(&fields)?;
        let shape = Shape::read(&fields, architecture)?;
        refuse_sliding_window(&fields, architecture, &shape)?;
        let attention_bias = fields.flag("attention_bias", false)?;
        let has_bias_field = matches!(architecture, Architecture::Llama | Architecture::Qwen3);
        Ok(Self {
            architecture,
            hidden: shape.hidden,
            intermediate: shape.intermediate,
            layers: shape.layers,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            vocabulary: shape.vocabulary,
            context: shape.context,
            rms_norm_eps: fields.number("rms_norm_eps", 0.0, 1.0)?.unwrap_or(1e-6) as f32,
            tied: fields.flag("tie_word_embeddings", false)?,
            dtype: dtype(&fields)?,
            encoding: Encoding::Raw,
            rope: RopeConfig::from_fields(&fields, shape.context)?,
            qkv_bias: architecture == Architecture::Qwen2 || (has_bias_field && attention_bias),
            o_bias: has_bias_field && attention_bias,
            mlp_bias: architecture == Architecture::Llama && fields.flag("mlp_bias", false)?,
            qk_norm: architecture == Architecture::Qwen3,
            bos: fields.token_ids("bos_token_id")?.first().copied(),
            eos: fields.token_ids("eos_token_id")?,
        })
    }
}

struct Shape {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context: usize,
}

impl Shape {
    fn read(fields: &Fields<'_>, architecture: Architecture) -> Result<Self, ModelError> {
        let hidden = fields.required_count("hidden_size", MOST_WIDTH)?;
        let heads = fields.required_count("num_attention_heads", MOST_HEADS)?;
        // An explicit null means multi-head attention; a field left out means the family's default.
        let kv_default = if fields.has("num_key_value_heads") { heads } else { default_kv_heads(architecture, heads) };
        let kv_heads = fields.count("num_key_value_heads", MOST_HEADS)?.unwrap_or(kv_default);
        if !heads.is_multiple_of(kv_heads) {
            let reason = format!("{heads} \"num_attention_heads\" cannot share {kv_heads} \"num_key_value_heads\"");
            return Err(fields.error(reason));
        }
        let head_dim = match fields.count("head_dim", MOST_HEAD_DIM)? {
            Some(given) => given,
            None if architecture == Architecture::Qwen3 && !fields.has("head_dim") => 128,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let reason = format!("\"hidden_size\" {hidden} is no multiple of \"num_attention_heads\" {heads}");
                return Err(fields.error(reason));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(fields.error(format!("\"head_dim\" must be even for rotary positions, found {head_dim}")));
        }
        Ok(Self {
            hidden,
            intermediate: fields.required_count("intermediate_size", MOST_WIDTH)?,
            layers: fields.required_count("num_hidden_layers", MOST_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: fields.required_count("vocab_size", MOST_VOCABULARY)?,
            context: fields.required_count("max_position_embeddings", MOST_CONTEXT)?,
        })
    }
}

/// What transformers assumes where `num_key_value_heads` is left out.
const fn default_kv_heads(architecture: Architecture, heads: usize) -> usize {
    match architecture {
        Architecture::Llama => heads,
        Architecture::Mistral => 8,
        Architecture::Qwen2 | Architecture::Qwen3 => 32,
    }
}

fn architecture(fields: &Fields<'_>) -> Result<Architecture, ModelError> {
    const SUPPORTED: &str =
        "this build runs LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM";
    let class = match fields.get("architectures") {
        Some(Value::Array(names)) if names.len() == 1 => names[0].as_str(),
        Some(Value::Array(names)) if names.is_empty() => None,
        Some(other) => {
            return Err(fields.wrong("architectures", "a list of one class name", other));
        }
        None => None,
    };
    if let Some(class) = class {
        return match class {
            "LlamaForCausalLM" => Ok(Architecture::Llama),
            "MistralForCausalLM" => Ok(Architecture::Mistral),
            "Qwen2ForCausalLM" => Ok(Architecture::Qwen2),
            "Qwen3ForCausalLM" => Ok(Architecture::Qwen3),
            other => Err(fields.error(format!("the architecture {other:?} is not supported: {SUPPORTED}"))),
        };
    }
    match fields.text("model_type")? {
        Some("llama") => Ok(Architecture::Llama),
        Some("mistral") => Ok(Architecture::Mistral),
        Some("qwen2") => Ok(Architecture::Qwen2),
        Some("qwen3") => Ok(Architecture::Qwen3),
        Some(other) => Err(fields.error(format!("the model type {other:?} is not supported: {SUPPORTED}"))),
        None => Err(fields.error(format!("neither \"architectures\" nor \"model_type\" is given: {SUPPORTED}"))),
    }
}

fn dtype(fields: &Fields<'_>) -> Result<Dtype, ModelError> {
    let name = match fields.text("dtype")? {
        Some(name) => Some(name),
        None => fields.text("torch_dtype")?,
    };
    let Some(name) = name else {
        let reason = "neither \"dtype\" nor \"torch_dtype\" is given: add \"dtype\" with the type that the weights are stored in \
             (bfloat16, float16 or float32)";
        return Err(fields.error(reason));
    };
    match name.trim_start_matches("torch.") {
        "bfloat16" => Ok(Dtype::Bf16),
        "float16" | "half" => Ok(Dtype::F16),
        "float32" | "float" => Ok(Dtype::F32),
        _ => {
            Err(fields
                .error(format!("the dtype {name:?} is not supported: use weights in bfloat16, float16 or float32")))
        }
    }
}

fn refuse_quantized(fields: &Fields<'_>) -> Result<(), ModelError> {
    let Some(quantization) = fields.get("quantization_config") else {
        return Ok(());
    };
    let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
    Err(fields.error(format!(
        "the weights are quantized (\"quantization_config\": {method:?}), which is not supported: use the bf16, f16 or f32 \
         weights of the model"
    )))
}

fn refuse_other_activations(fields: &Fields<'_>) -> Result<(), ModelError> {
    match fields.text("hidden_act")? {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => {
            Err(fields.error(format!("the activation \"hidden_act\": {other:?} is not supported, only silu is")))
        }
    }
}

fn refuse_sliding_window(fields: &Fields<'_>, family: Architecture, shape: &Shape) -> Result<(), ModelError> {
    const WHAT_TO_DO: &str = "attention windows are not supported: use a model with full attention, or lower \
         \"max_position_embeddings\" to the window";
    if let Some(Value::Array(types)) = fields.get("layer_types") {
        if let Some(other) = types.iter().find(|kind| kind.as_str() != Some("full_attention")) {
            let found = crate::json::kind(other);
            return Err(fields.error(format!("\"layer_types\" names {found}; {WHAT_TO_DO}")));
        }
        return Ok(());
    }
    let default = if fields.has("sliding_window") { None } else { Some(4096) };
    let window = fields.count("sliding_window", u64::MAX)?.or(default);
    let in_use = match family {
        Architecture::Llama => false,
        Architecture::Mistral => true,
        Architecture::Qwen2 | Architecture::Qwen3 => {
            let full_layers = match fields.get("max_window_layers") {
                Some(value) => value.as_u64().unwrap_or(0),
                None => 28,
            };
            fields.flag("use_sliding_window", false)? && full_layers < shape.layers as u64
        }
    };
    match window {
        Some(window) if in_use && window < shape.context => {
            let context = shape.context;
            Err(fields
                .error(format!("\"sliding_window\" of {window} is in use in a context of {context}; {WHAT_TO_DO}")))
        }
        _ => Ok(()),
    }
}
