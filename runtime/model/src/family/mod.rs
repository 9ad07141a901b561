//! The model families: how a config names one, and what each is, as a page of data.

mod mixtures;
mod pages;

use lime_files::{Fields, FileError};
use lime_plan::Architecture;
use serde_json::Value;

use crate::{
    layer_spec::{ActivationKind, ExpertWeights, NormPlace, QkNormWidth},
    tensor_role::TensorRole,
};
use mixtures::MIXTURES;
use pages::DENSE;

/// One family: what its configs may say, what transformers assumes where they say nothing, and how it computes.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) architecture: Architecture,
    /// In `architectures`, as its makers and transformers write it.
    pub(crate) classes: &'static [&'static str],
    /// In `model_type`.
    pub(crate) model_type: &'static str,
    /// Fields of its own that say how it computes, beside those that all families have.
    pub(crate) own_fields: &'static [&'static str],
    /// Its own names of fields that all families have, behind those.
    pub(crate) renames: &'static [(&'static str, &'static str)],
    /// Key and value heads; as many as query heads where there is none.
    pub(crate) kv_heads: Option<usize>,
    /// Width of a head; the hidden size shared out where there is none.
    pub(crate) head_dim: Option<usize>,
    /// Whether its layers may have a window: in other families `sliding_window` ends the context, since nobody can say what is meant.
    pub(crate) windows: bool,
    /// The attention window.
    pub(crate) window: Option<usize>,
    /// Whether a window is in force only where `use_sliding_window` says so.
    pub(crate) window_by_flag: bool,
    /// One layer in so many looks back to the start, where the others have a window and neither `layer_types` nor
    /// `sliding_window_pattern` says another number. All have it where there is none.
    pub(crate) window_pattern: Option<usize>,
    pub(crate) rms_norm_eps: f64,
    /// Added to the weights of its norms, where `rms_norm_offset` says nothing else.
    pub(crate) norm_offset: f32,
    /// Where the norms of a half stand.
    pub(crate) norm_place: NormPlace,
    pub(crate) rope: RopePage,
    pub(crate) tied: bool,
    pub(crate) biases: BiasPage,
    /// How q and k are normalised.
    pub(crate) qk_norm: Option<QkNormWidth>,
    /// The activation of the feed-forward half.
    pub(crate) activation: ActivationKind,
    /// Whether fields say what embeddings, attention, residual stream and logits are scaled by.
    pub(crate) multipliers: bool,
    /// Whether embeddings are multiplied with the root of their width.
    pub(crate) scaled_embeddings: bool,
    /// Scores are divided by the root of `query_pre_attn_scalar`, or of this.
    pub(crate) query_scalar: Option<f64>,
    /// The bounds of scores and logits that fields say, and what is assumed where they say nothing.
    pub(crate) soft_caps: Option<SoftCapPage>,
    /// The experts among which rows choose.
    pub(crate) mixture: Option<MixturePage>,
    pub(crate) tensors: TensorPage,
}

/// Bounds where fields say nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftCapPage {
    pub(crate) scores: Option<f64>,
    pub(crate) logits: Option<f64>,
}

/// What a family assumes of its experts.
#[derive(Debug)]
pub(crate) struct MixturePage {
    /// The field that counts them.
    pub(crate) count: &'static str,
    /// How many there are.
    pub(crate) experts: usize,
    /// How many a row goes through, where `num_experts_per_tok` says nothing.
    pub(crate) used: usize,
    /// The field of their width.
    pub(crate) width: &'static str,
    /// How scores become weights.
    pub(crate) weights: WeightsPage,
    /// The expert that every row goes through.
    pub(crate) shared: Option<SharedPage>,
}

/// What a family assumes of the expert that every row goes through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPage {
    /// The field of its width. Zero means none.
    pub(crate) field: &'static str,
    /// Its width where the field says nothing.
    pub(crate) width: usize,
    /// Whether it has a score of its own.
    pub(crate) scored: bool,
}

/// How a family's scores become weights of experts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WeightsPage {
    Always(ExpertWeights),
    /// Shares of all, which add up to one where `norm_topk_prob` says so.
    ByField,
}

/// How layers with a window rotate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WindowedRope {
    AsOthers,
    /// With the same base, and nothing stretched.
    Unscaled,
    /// With a base of their own, and nothing stretched.
    Own {
        field: &'static str,
        theta: f64,
    },
}

/// What a family assumes of rotary positions.
#[derive(Debug)]
pub(crate) struct RopePage {
    pub(crate) theta: f64,
    /// Whether its positions are unknown where the config has no fields of the rope.
    pub(crate) required: bool,
    /// Whether `yarn` means what it means elsewhere.
    pub(crate) yarn: bool,
    /// How layers with a window rotate.
    pub(crate) windowed: WindowedRope,
    /// Whether a part of each head may be rotated.
    pub(crate) partial: bool,
    /// Whether `longrope` is known.
    pub(crate) long: bool,
    /// The layers with this distance do not rotate, unless `no_rope_layers` or `no_rope_layer_interval` say others. All rotate where
    /// there is none, and there are no such fields.
    pub(crate) unrotated_interval: Option<usize>,
}

/// Which projections of a family have biases.
#[derive(Debug)]
pub(crate) struct BiasPage {
    pub(crate) qkv: Bias,
    pub(crate) o: Bias,
    pub(crate) mlp: Bias,
}

/// Whether there is a bias.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bias {
    Never,
    Always,
    /// As a field says.
    By {
        field: &'static str,
        /// What transformers calls it, where its makers have another name.
        or: &'static str,
        default: bool,
    },
}

impl Bias {
    /// As a field says that is false where it is left out.
    pub(crate) const fn by(field: &'static str) -> Self {
        Self::By { field, or: field, default: false }
    }

    fn is_there(self, fields: &Fields<'_>) -> Result<bool, FileError> {
        match self {
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::By { field, or, default } => fields.flag(fields.either(field, or)?, default),
        }
    }
}

/// Which projections have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) o: bool,
    pub(crate) mlp: bool,
}

/// Under which names a family's files hold the tensors, and how.
#[derive(Debug)]
pub(crate) struct TensorPage {
    /// What stands before a layer's number in its own names.
    pub(crate) layers: &'static str,
    /// Its own names: within a layer, or whole where a tensor is of none. The usual name is looked for as well.
    pub(crate) names: &'static [(TensorRole, &'static str)],
    /// Tensors that hold the rows of several, one after the other; their names within a layer.
    pub(crate) fused: &'static [(&'static str, &'static [TensorRole])],
    /// Whether neighbouring elements of a head are rotated together.
    pub(crate) neighbours_rotate: bool,
    pub(crate) experts: ExpertTensors,
}

/// Where a family's experts lie; names within a layer.
#[derive(Debug)]
pub(crate) struct ExpertTensors {
    /// Its router.
    pub(crate) router: &'static str,
    /// Gate, up and down of each expert, whose number stands in the place of `*`.
    pub(crate) each: [&'static str; 3],
    /// Gate and up of all experts in one tensor, and down of all.
    pub(crate) stacked: [&'static str; 2],
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
        let by_class = class.and_then(|class| families().find(|family| family.classes[0] == class));
        let by_class = by_class.or_else(|| families().find(|family| class.is_some_and(|it| family.is_class(it))));
        if let (Some(class), None) = (class, by_class) {
            return Err(fields.error(format!("the architecture {class:?} is not supported: {}", supported())));
        }
        let model_type = fields.text("model_type")?;
        let by_type = model_type.and_then(|name| families().find(|family| family.model_type == name));
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

    /// The page of an architecture.
    pub(crate) fn page(architecture: Architecture) -> &'static Self {
        families().find(|family| family.architecture == architecture).expect("every architecture has its page")
    }

    /// The family's own name of a field that all families have; the same where it has none.
    pub(crate) fn renamed(&self, field: &'static str) -> &'static str {
        self.renames.iter().find(|(usual, _)| *usual == field).map_or(field, |(_, own)| own)
    }

    pub(crate) fn is_class(&self, name: &str) -> bool {
        self.classes.contains(&name)
    }

    pub(crate) fn biases(&self, fields: &Fields<'_>) -> Result<Biases, FileError> {
        let BiasPage { qkv, o, mlp } = &self.biases;
        Ok(Biases { qkv: qkv.is_there(fields)?, o: o.is_there(fields)?, mlp: mlp.is_there(fields)? })
    }
}

/// Every page.
fn families() -> impl Iterator<Item = &'static Family> {
    DENSE.iter().chain(&MIXTURES)
}

fn supported() -> String {
    let mut others: Vec<&str> = families().map(|family| family.classes[0]).collect();
    let last = others.pop().unwrap_or_default();
    format!("this build runs {} and {last}", others.join(", "))
}
