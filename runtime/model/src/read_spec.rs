//! From the fields of a `config.json` and its family's page to sizes and to the spec of every layer.

use lime_files::{Fields, FileError};
use lime_plan::Limit;

use crate::{
    family::{Family, MixturePage, SharedPage, WeightsPage},
    layer_spec::{
        ActivationKind, AttentionSpec, ExpertWeights, HalfSpec, LayerSpec, LogitsSpec, MixtureSpec, MlpSpec, ModelSpec,
        NormSpec, QkNormSpec, SharedSpec,
    },
    rope_config::Rotation,
};

/// A model's sizes, as its config says them.
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    /// Of the MLP, or of each expert.
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocabulary: usize,
    /// As the config says it.
    pub(crate) context: usize,
    pub(crate) rms_norm_eps: f32,
}

impl Shape {
    pub(crate) fn read(fields: &Fields<'_>, family: &Family) -> Result<Self, FileError> {
        let hidden = fields.required_count("hidden_size", Limit::HIDDEN.most)?;
        let heads = fields.required_count("num_attention_heads", Limit::HEADS.most)?;
        // An explicit null means multi-head attention; a field left out means the family's default.
        let default = if fields.has("num_key_value_heads") { None } else { family.kv_heads };
        let kv_heads = fields.count("num_key_value_heads", Limit::KV_HEADS.most)?.or(default).unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let reason = format!("{heads} \"num_attention_heads\" cannot share {kv_heads} \"num_key_value_heads\"");
            return Err(fields.error(reason));
        }
        let default = if fields.has("head_dim") { None } else { family.head_dim };
        let head_dim = match fields.count("head_dim", Limit::HEAD_DIM.most)?.or(default) {
            Some(given) => given,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let reason = format!("\"hidden_size\" {hidden} is no multiple of \"num_attention_heads\" {heads}");
                return Err(fields.error(reason));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(fields.error(format!("\"head_dim\" must be even for rotary positions, found {head_dim}")));
        }
        let layers = fields.either("num_hidden_layers", family.renamed("num_hidden_layers"))?;
        let width = family.mixture.as_ref().map_or("intermediate_size", |page| page.width);
        let eps = fields.either("rms_norm_eps", family.renamed("rms_norm_eps"))?;
        Ok(Self {
            hidden,
            intermediate: fields.required_count(width, Limit::INTERMEDIATE.most)?,
            layers: fields.required_count(layers, Limit::LAYERS.most)?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: fields.required_count("vocab_size", Limit::VOCABULARY.most)?,
            context: fields.required_count("max_position_embeddings", Limit::MODEL_CONTEXT.most)?,
            rms_norm_eps: fields.number(eps, 0.0, 1.0)?.unwrap_or(family.rms_norm_eps) as f32,
        })
    }
}

/// How the model computes: every layer with what its family and its config say of it.
pub(crate) fn read_spec(
    fields: &Fields<'_>,
    family: &Family,
    shape: &Shape,
    rotation: &Rotation,
    rotates: &[bool],
    windows: &[Option<usize>],
) -> Result<ModelSpec, FileError> {
    let biases = family.biases(fields)?;
    let scaled = Multipliers::read(fields, family)?;
    let caps = SoftCaps::read(fields, family)?;
    let given = if family.norm_offset == 0.0 { None } else { fields.number("rms_norm_offset", 0.0, 1.0)? };
    let offset = given.map_or(family.norm_offset, |offset| offset as f32);
    let norm = NormSpec { offset, ..NormSpec::rms(shape.rms_norm_eps) };
    let half = HalfSpec { norm, place: family.norm_place, residual_multiplier: scaled.residual };
    let rope = |layer: usize| if windows[layer].is_some() { &rotation.windowed } else { &rotation.rope };
    let attention = |layer: usize| AttentionSpec {
        half,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        qkv_bias: biases.qkv,
        o_bias: biases.o,
        qk_norm: family.qk_norm.map(|over| QkNormSpec { norm, over }),
        rope: rotates[layer].then(|| rope(layer).clone()),
        // One that is as long as the context is none.
        window: windows[layer].filter(|window| *window < rotation.context),
        scale: scaled.attention,
        soft_cap: caps.scores,
    };
    let activation = activation(fields, family)?;
    let mixture = family.mixture.as_ref().map(|page| mixture(fields, page)).transpose()?;
    let mlp = MlpSpec { half, width: shape.intermediate, activation, bias: biases.mlp, mixture };
    let width = if family.scaled_embeddings { (shape.hidden as f64).sqrt() as f32 } else { 1.0 };
    Ok(ModelSpec {
        embedding_multiplier: scaled.embedding * width,
        layers: (0..shape.layers).map(|layer| LayerSpec { attention: attention(layer), mlp }).collect(),
        final_norm: norm,
        logits: LogitsSpec { multiplier: 1.0 / scaled.logits, soft_cap: caps.logits },
    })
}

/// A layer's experts.
fn mixture(fields: &Fields<'_>, page: &MixturePage) -> Result<MixtureSpec, FileError> {
    let count = fields.either(page.count, "num_local_experts")?;
    let experts = fields.count(count, Limit::EXPERTS.most)?.unwrap_or(page.experts);
    let used = fields.count("num_experts_per_tok", Limit::EXPERTS.most)?.unwrap_or(page.used);
    if used > experts {
        return Err(fields.error(format!("\"num_experts_per_tok\" is {used}, and there are {experts} experts")));
    }
    let weights = match page.weights {
        WeightsPage::Always(weights) => weights,
        WeightsPage::ByField if fields.flag("norm_topk_prob", false)? => ExpertWeights::OfAllToOne,
        WeightsPage::ByField => ExpertWeights::OfAll,
    };
    let shared = match page.shared {
        None => None,
        Some(SharedPage { field, width, scored }) => {
            // Of zero there is none, which is no count.
            let none = fields.get(field).is_some_and(|value| value.as_u64() == Some(0));
            let given = if none { Some(0) } else { fields.count(field, Limit::INTERMEDIATE.most)? };
            Some(given.unwrap_or(width)).filter(|width| *width > 0).map(|width| SharedSpec { width, scored })
        }
    };
    Ok(MixtureSpec { experts, used, weights, shared })
}

/// The bounds that scores and logits are bent under.
struct SoftCaps {
    scores: Option<f32>,
    logits: Option<f32>,
}

impl SoftCaps {
    fn read(fields: &Fields<'_>, family: &Family) -> Result<Self, FileError> {
        let Some(page) = family.soft_caps else { return Ok(Self { scores: None, logits: None }) };
        let cap = |name, assumed: Option<f64>| {
            // An explicit null means none; a field left out means the family's.
            let assumed = if fields.has(name) { None } else { assumed };
            Ok::<_, FileError>(fields.number(name, 1e-3, 1e6)?.or(assumed).map(|cap| cap as f32))
        };
        Ok(Self {
            scores: cap("attn_logit_softcapping", page.scores)?,
            logits: cap("final_logit_softcapping", page.logits)?,
        })
    }
}

/// What a family with multipliers scales by; all of it one, and the usual scale of attention, in the others.
struct Multipliers {
    embedding: f32,
    residual: f32,
    /// Of scores; `None` is one over the root of the head's width.
    attention: Option<f32>,
    /// What logits are divided by.
    logits: f32,
}

impl Multipliers {
    fn read(fields: &Fields<'_>, family: &Family) -> Result<Self, FileError> {
        if !family.multipliers {
            let scalar = match family.query_scalar {
                None => None,
                Some(assumed) => Some(fields.number("query_pre_attn_scalar", 1e-3, 1e9)?.unwrap_or(assumed)),
            };
            let attention = scalar.map(|scalar| (1.0 / scalar.sqrt()) as f32);
            return Ok(Self { embedding: 1.0, residual: 1.0, attention, logits: 1.0 });
        }
        let number = |name| Ok::<_, FileError>(fields.number(name, 1e-6, 1e6)?.unwrap_or(1.0) as f32);
        Ok(Self {
            embedding: number("embedding_multiplier")?,
            residual: number("residual_multiplier")?,
            attention: Some(number("attention_multiplier")?),
            logits: number("logits_scaling")?,
        })
    }
}

/// Which layers rotate q and k by their positions.
pub(crate) fn rotating_layers(fields: &Fields<'_>, family: &Family, layers: usize) -> Result<Vec<bool>, FileError> {
    let Some(usual) = family.rope.unrotated_interval else { return Ok(vec![true; layers]) };
    let Some(listed) = fields.get("no_rope_layers") else {
        let interval = fields.count("no_rope_layer_interval", Limit::LAYERS.most)?.unwrap_or(usual);
        return Ok((1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    // In spite of its name the list has a one for each layer that rotates.
    let entries = listed.as_array().filter(|entries| entries.len() >= layers);
    let rotates = entries.and_then(|entries| {
        let flags =
            entries.iter().take(layers).map(|entry| entry.as_u64().filter(|flag| *flag <= 1).map(|flag| flag == 1));
        flags.collect::<Option<Vec<bool>>>()
    });
    rotates.ok_or_else(|| fields.wrong("no_rope_layers", &format!("a list of {layers} zeros and ones"), listed))
}

/// The activation, which must be the one that the family is known with.
fn activation(fields: &Fields<'_>, family: &Family) -> Result<ActivationKind, FileError> {
    let field = fields.either("hidden_act", family.renamed("hidden_act"))?;
    match fields.text(field)? {
        None => Ok(family.activation),
        Some(name) if ActivationKind::named(name) == Some(family.activation) => Ok(family.activation),
        Some(other) => {
            let only = family.activation.name();
            Err(fields.error(format!("the activation {field:?}: {other:?} is not supported, only {only} is")))
        }
    }
}
