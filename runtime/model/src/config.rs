//! The model's shape, read from a Hugging Face `config.json`.

use std::path::{Path, PathBuf};

use lime_files::{Fields, FileError, read_bounded};
use lime_plan::{Architecture, Block, Dtype, Encoding, Format};
use serde_json::Value;

use crate::{
    error::ModelError,
    family::Family,
    formats::Formats,
    known_fields::{self, refuse_other_code},
    layer_spec::ModelSpec,
    reach,
    read_spec::{Shape, read_spec, rotating_layers},
    rope_config::Rotation,
    tensor_names::embedding_names,
    tensor_role::{OUTPUT_NAME, TensorRole},
    weight_files::{instead, names_in_index},
};

const CONFIG_FILE: &str = "config.json";
const MISSING_CONFIG: &str = "the folder must hold a Hugging Face model (config.json, *.safetensors, tokenizer.json)";
const CONFIG_LIMIT: u64 = 16 << 20;

/// The shape of a model that this build can run. Every number has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward projections, of each expert in a mixture.
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
    /// Longest context in tokens in which the model is exact.
    pub context: usize,
    /// Whether embedding and output matrix are one tensor.
    pub tied: bool,
    /// How every tensor is stored.
    pub formats: Formats,
    /// How the weights lie in the store and in memory; raw as the config is read.
    pub encoding: Encoding,
    /// How it computes, layer by layer.
    pub spec: ModelSpec,
    /// The token that begins a text, where there is one.
    pub bos: Option<u32>,
    /// The tokens that end a text.
    pub eos: Vec<u32>,
    /// What a person should know of how the files were read.
    pub remarks: Vec<String>,
}

impl ModelConfig {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// As [`ModelConfig::parse`], or when the file cannot be read.
    pub fn load(dir: &Path) -> Result<Self, FileError> {
        Ok(Self::read(dir)?.alone())
    }

    /// Reads `config.json` of a model whose weights are not there: an index says whether the head has a matrix of its own, as
    /// headers would.
    ///
    /// # Errors
    /// As [`ModelConfig::load`].
    pub fn load_without_weights(dir: &Path) -> Result<Self, ModelError> {
        let draft = Self::read(dir).map_err(|fault| instead(dir, fault.into()))?;
        let names = names_in_index(dir);
        let mut config = draft.alone();
        config.untie_where(&|name| names.contains(name));
        Ok(config)
    }

    /// Reads the text of a `config.json`, in the form of transformers 4 or 5.
    ///
    /// # Errors
    /// A field that is missing, out of range or unknown, or an architecture, rope type, quantization or activation that this
    /// build does not run, by name.
    pub fn parse(json: &str) -> Result<Self, FileError> {
        Ok(Self::from_bytes(&PathBuf::from(CONFIG_FILE), json.as_bytes())?.alone())
    }

    /// The same model with its weights laid out as `encoding` says.
    #[must_use]
    pub fn encoded(&self, encoding: Encoding) -> Self {
        Self { encoding, ..self.clone() }
    }

    /// The type that the layers' matrices count as.
    pub const fn dtype(&self) -> Dtype {
        self.formats.usual().counts_as()
    }

    /// Whether most matrices have a compact form: the model is then worth making compact, if its weights are compressible.
    pub fn has_compact_form(&self) -> bool {
        Encoding::Compact.of(self.formats.usual()) == Format::CompactBf16
    }

    /// Width of all query heads together.
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// A head whose matrix lies beside the embedding's is not tied, whatever the config says.
    pub(crate) fn untie_where(&mut self, is_there: &dyn Fn(&str) -> bool) {
        let embedding = || embedding_names(self.architecture).iter().any(|name| is_there(name));
        if self.tied && is_there(OUTPUT_NAME) && embedding() {
            self.tied = false;
            let remark = "lies beside the embedding and is used, although \"tie_word_embeddings\" is true";
            self.remarks.push(format!("{OUTPUT_NAME} {remark}"));
        }
    }

    /// How a matrix of `block` lies in the store and in memory.
    pub(crate) fn matrix_format(&self, block: Block, role: TensorRole) -> Format {
        self.encoding.of(self.formats.of(block, role))
    }

    /// Reads the config of a folder for whoever knows the headers of its weights.
    pub(crate) fn read(dir: &Path) -> Result<Draft, FileError> {
        let path = dir.join(CONFIG_FILE);
        let bytes = read_bounded(&path, CONFIG_LIMIT, MISSING_CONFIG)?;
        Self::from_bytes(&path, &bytes)
    }

    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Draft, FileError> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|fault| FileError::Wrong { path: path.to_owned(), reason: format!("not valid JSON: {fault}") })?;
        let fields = Fields::new(path, &value)?;
        let family = Family::of(&fields)?;
        refuse_quantized(&fields)?;
        refuse_other_code(&fields, family)?;
        known_fields::check(&fields, family)?;
        let shape = Shape::read(&fields, family)?;
        let rotation = Rotation::read(&fields, family, shape.context, shape.head_dim)?;
        let rotates = rotating_layers(&fields, family, shape.layers)?;
        let (windows, unknown) = reach::windows(&fields, family, &rotates)?;
        let spec = read_spec(&fields, family, &shape, &rotation, &rotates, &windows)?;
        let (context, cut) = reach::within(rotation.context, rotation.limit.clone().into_iter().chain(unknown));
        let dtype = dtype(&fields)?;
        let config = Self {
            architecture: family.architecture,
            hidden: shape.hidden,
            intermediate: shape.intermediate,
            layers: shape.layers,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            vocabulary: shape.vocabulary,
            context,
            tied: fields.flag("tie_word_embeddings", family.tied)?,
            formats: Formats::all(dtype.unwrap_or(Dtype::Bf16).into()),
            encoding: Encoding::Raw,
            spec,
            bos: fields.token_ids("bos_token_id")?.first().copied(),
            eos: fields.token_ids("eos_token_id")?,
            remarks: rotation.remarks.into_iter().chain(cut).collect(),
        };
        // Each number may be believed and all of them together not.
        config.card("this model").check().map_err(|fault| fields.error(fault.to_string()))?;
        Ok(Draft { config, dtype })
    }
}

/// A config before the headers of its weights, which know better what is stored and how, have been looked at.
pub(crate) struct Draft {
    pub(crate) config: ModelConfig,
    /// What the config says of the weights' type; many say nothing.
    pub(crate) dtype: Option<Dtype>,
}

impl Draft {
    /// The config alone.
    fn alone(mut self) -> ModelConfig {
        if self.dtype.is_none() {
            let assumed = self.config.dtype();
            let remark = format!("config.json does not say in which type the weights are stored: {assumed} is assumed");
            self.config.remarks.push(remark);
        }
        self.config
    }
}

/// The type of the weights, where the config says one.
fn dtype(fields: &Fields<'_>) -> Result<Option<Dtype>, FileError> {
    let name = match fields.text("dtype")? {
        Some(name) => Some(name),
        None => fields.text("torch_dtype")?,
    };
    match name.map(|name| name.trim_start_matches("torch.")) {
        None | Some("auto") => Ok(None),
        Some("bfloat16") => Ok(Some(Dtype::Bf16)),
        Some("float16" | "half") => Ok(Some(Dtype::F16)),
        Some("float32" | "float") => Ok(Some(Dtype::F32)),
        Some(other) => {
            let what = "is not supported: use weights in bfloat16, float16 or float32";
            Err(fields.error(format!("the dtype {other:?} {what}")))
        }
    }
}

fn refuse_quantized(fields: &Fields<'_>) -> Result<(), FileError> {
    // The second is MLX's.
    for field in ["quantization_config", "quantization"] {
        if let Some(quantization) = fields.get(field) {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
            return Err(fields.error(format!(
                "the weights are quantized ({field:?}: {method:?}), which is not supported: use the bf16, f16 or f32 weights of \
                 the model"
            )));
        }
    }
    Ok(())
}
