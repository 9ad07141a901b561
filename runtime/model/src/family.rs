//! The model families: what they are called, what their configs say, and what transformers assumes where they say nothing.

use lime_plan::Architecture;
use serde_json::Value;

use lime_files::{Fields, FileError};

/// One family.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) architecture: Architecture,
    /// In `architectures`, as its makers and transformers write it.
    pub(crate) classes: &'static [&'static str],
    /// In `model_type`.
    pub(crate) model_type: &'static str,
    /// Fields of its own that say how it computes, beside those that all families have.
    pub(crate) own_fields: &'static [&'static str],
    /// Key and value heads; as many as query heads where there is none.
    pub(crate) kv_heads: Option<usize>,
    /// Width of a head; the hidden size shared out where there is none.
    pub(crate) head_dim: Option<usize>,
    /// The attention window.
    pub(crate) window: Option<usize>,
    /// Whether a window is in force only where `use_sliding_window` says so.
    pub(crate) window_by_flag: bool,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) tied: bool,
}

/// What most families assume.
const PLAIN: Family = Family {
    architecture: Architecture::Llama,
    classes: &["LlamaForCausalLM"],
    model_type: "llama",
    own_fields: &["attention_bias", "mlp_bias"],
    kv_heads: None,
    head_dim: None,
    window: None,
    window_by_flag: false,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    tied: false,
};

static FAMILIES: [Family; 10] = [
    PLAIN,
    Family {
        architecture: Architecture::Mistral,
        classes: &["MistralForCausalLM"],
        model_type: "mistral",
        own_fields: &[],
        kv_heads: Some(8),
        window: Some(4096),
        ..PLAIN
    },
    Family {
        architecture: Architecture::Qwen2,
        classes: &["Qwen2ForCausalLM"],
        model_type: "qwen2",
        // Its biases are what they are; whether the file's agree is seen from its tensors.
        own_fields: &["attention_bias"],
        kv_heads: Some(32),
        window: Some(4096),
        window_by_flag: true,
        ..PLAIN
    },
    Family {
        architecture: Architecture::Qwen3,
        classes: &["Qwen3ForCausalLM"],
        model_type: "qwen3",
        own_fields: &["attention_bias"],
        kv_heads: Some(32),
        head_dim: Some(128),
        window: Some(4096),
        window_by_flag: true,
        ..PLAIN
    },
    Family {
        architecture: Architecture::SeedOss,
        classes: &["SeedOssForCausalLM"],
        model_type: "seed_oss",
        own_fields: &["attention_bias", "attention_out_bias", "mlp_bias"],
        kv_heads: Some(8),
        head_dim: Some(128),
        ..PLAIN
    },
    Family {
        architecture: Architecture::Ministral3,
        classes: &["Ministral3ForCausalLM"],
        model_type: "ministral3",
        own_fields: &[],
        kv_heads: Some(8),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        ..PLAIN
    },
    Family {
        architecture: Architecture::InternLm3,
        classes: &["InternLM3ForCausalLM", "LlamaForCausalLM"],
        model_type: "internlm3",
        // The latter two are what transformers calls the former.
        own_fields: &["qkv_bias", "bias", "attention_bias", "mlp_bias"],
        kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        ..PLAIN
    },
    Family {
        architecture: Architecture::Exaone,
        classes: &["ExaoneForCausalLM", "LlamaForCausalLM"],
        model_type: "exaone",
        // The other names of fields that all families have.
        own_fields: &["num_layers", "layer_norm_epsilon", "activation_function"],
        kv_heads: Some(8),
        rms_norm_eps: 1e-5,
        rope_theta: 500_000.0,
        ..PLAIN
    },
    Family {
        architecture: Architecture::Phi3,
        classes: &["Phi3ForCausalLM"],
        model_type: "phi3",
        own_fields: &[],
        rms_norm_eps: 1e-5,
        ..PLAIN
    },
    Family {
        architecture: Architecture::Ernie45,
        classes: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
        model_type: "ernie4_5",
        own_fields: &[],
        kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        rope_theta: 500_000.0,
        tied: true,
        ..PLAIN
    },
];

/// Which projections have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) o: bool,
    pub(crate) mlp: bool,
}

impl Family {
    /// The family that a config names. Where `architectures` and `model_type` are both given they must name the same one: what
    /// runs under a name that is not its own runs wrong.
    pub(crate) fn of(fields: &Fields<'_>) -> Result<&'static Self, FileError> {
        let class = match fields.get("architectures") {
            Some(Value::Array(names)) if names.is_empty() => None,
            Some(Value::Array(names)) if names.len() == 1 && names[0].is_string() => names[0].as_str(),
            Some(other) => return Err(fields.wrong("architectures", "a list of one class name", other)),
            None => None,
        };
        let by_class = class.and_then(|class| FAMILIES.iter().find(|family| family.classes[0] == class));
        let by_class = by_class.or_else(|| FAMILIES.iter().find(|family| class.is_some_and(|it| family.is_class(it))));
        if let (Some(class), None) = (class, by_class) {
            return Err(fields.error(format!("the architecture {class:?} is not supported: {}", supported())));
        }
        let model_type = fields.text("model_type")?;
        let by_type = model_type.and_then(|name| FAMILIES.iter().find(|family| family.model_type == name));
        match (class, by_class, model_type, by_type) {
            (Some(class), _, Some(_), Some(family)) if family.is_class(class) => Ok(family),
            (Some(class), Some(_), Some(name), _) => Err(fields.error(format!(
                "\"architectures\" says {class:?} and \"model_type\" {name:?}, which is another kind of model: correct the one that \
                 is wrong"
            ))),
            (_, _, Some(_), Some(family)) => Ok(family),
            (_, _, Some(name), None) => {
                Err(fields.error(format!("the model type {name:?} is not supported: {}", supported())))
            }
            (_, Some(family), None, _) => Ok(family),
            _ => {
                let neither = "neither \"architectures\" nor \"model_type\" is given";
                Err(fields.error(format!("{neither}: {}", supported())))
            }
        }
    }

    /// The family's own name of a field that all families have; the same where it has none.
    pub(crate) fn renamed(&self, field: &'static str) -> &'static str {
        match (self.architecture, field) {
            (Architecture::Exaone, "num_hidden_layers") => "num_layers",
            (Architecture::Exaone, "rms_norm_eps") => "layer_norm_epsilon",
            (Architecture::Exaone, "hidden_act") => "activation_function",
            (_, field) => field,
        }
    }

    pub(crate) fn is_class(&self, name: &str) -> bool {
        self.classes.contains(&name)
    }

    pub(crate) fn biases(&self, fields: &Fields<'_>) -> Result<Biases, FileError> {
        let flag = |name| fields.flag(name, false);
        Ok(match self.architecture {
            Architecture::Llama => {
                let attention = flag("attention_bias")?;
                Biases { qkv: attention, o: attention, mlp: flag("mlp_bias")? }
            }
            Architecture::Qwen2 => Biases { qkv: true, ..Biases::default() },
            Architecture::Qwen3 => {
                let attention = flag("attention_bias")?;
                Biases { qkv: attention, o: attention, mlp: false }
            }
            Architecture::SeedOss => Biases {
                qkv: fields.flag("attention_bias", true)?,
                o: flag("attention_out_bias")?,
                mlp: flag("mlp_bias")?,
            },
            Architecture::InternLm3 => {
                let (qkv, rest) = (fields.either("qkv_bias", "attention_bias")?, fields.either("bias", "mlp_bias")?);
                let flag = |name: &str| fields.flag(name, false);
                let rest = flag(rest)?;
                Biases { qkv: flag(qkv)?, o: rest, mlp: rest }
            }
            Architecture::Mistral
            | Architecture::Ministral3
            | Architecture::Exaone
            | Architecture::Phi3
            | Architecture::Ernie45 => Biases::default(),
        })
    }
}

fn supported() -> String {
    let (last, others) = FAMILIES.split_last().expect("there are families");
    let others: Vec<&str> = others.iter().map(|family| family.classes[0]).collect();
    format!("this build runs {} and {}", others.join(", "), last.classes[0])
}
