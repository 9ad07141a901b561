//! How a model computes, layer by layer, as data: what a family is to whoever computes it.
//!
//! A spec says more than this build can do. Whoever computes takes it apart field by field and refuses by name what it does not do
//! (`lime-engine`'s `ops.rs`), so that nothing which a spec asks for is passed over.

use lime_plan::LayerIndex;

use crate::rope::RopeConfig;

/// How a model computes.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// What embeddings are multiplied with before the first layer.
    pub embedding_multiplier: f32,
    /// One for each layer; there is at least one.
    pub layers: Vec<LayerSpec>,
    /// The norm after the last layer.
    pub final_norm: NormSpec,
    /// From the last norm to logits.
    pub logits: LogitsSpec,
}

/// How logits come of the output matrix's product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitsSpec {
    /// What they are multiplied with.
    pub multiplier: f32,
    /// The bound that they are bent under by a hyperbolic tangent.
    pub soft_cap: Option<f32>,
}

/// How one layer computes: two halves, each with its own block, its norms and its place in the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Attention.
    pub attention: AttentionSpec,
    /// The feed-forward half.
    pub mlp: MlpSpec,
}

/// How a half of a layer stands in the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HalfSpec {
    /// Its norms.
    pub norm: NormSpec,
    /// Where they stand.
    pub place: NormPlace,
    /// What its result is multiplied with before it is added to the stream.
    pub residual_multiplier: f32,
}

/// A norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Of which kind.
    pub kind: NormKind,
    /// Added to the mean square, or to the variance.
    pub eps: f32,
    /// Added to every weight: some families store their distance from one.
    pub offset: f32,
}

/// Kinds of norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Divides by the root mean square.
    Rms,
    /// Takes the mean away and divides by the deviation.
    Layer,
}

/// Where the norms of a half stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before its projections.
    Before,
    /// After them, before the result joins the stream.
    After,
    /// At both places.
    Both,
}

/// The attention half of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Its place in the stream.
    pub half: HalfSpec,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of each.
    pub head_dim: usize,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub o_bias: bool,
    /// How q and k are normalised before they are rotated.
    pub qk_norm: Option<QkNormSpec>,
    /// How q and k are rotated by their positions; not at all where there is none.
    pub rope: Option<RopeSpec>,
    /// How many positions a row looks back, its own counted; all of them where there is none.
    pub window: Option<usize>,
    /// What scores are multiplied with; one over the root of the head's width where there is none.
    pub scale: Option<f32>,
    /// The bound that scores are bent under by a hyperbolic tangent.
    pub soft_cap: Option<f32>,
}

/// How q and k are normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNormSpec {
    /// The norm.
    pub norm: NormSpec,
    /// What is normalised as one.
    pub over: QkNormWidth,
}

/// What a norm of q and k takes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNormWidth {
    /// Each head by itself, all by the same weights.
    Head,
    /// The heads of a row together.
    Row,
}

/// How heads are rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base and scaling.
    pub config: RopeConfig,
    /// Leading elements of a head that are rotated; the others stay.
    pub width: usize,
}

/// The feed-forward half of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MlpSpec {
    /// Its place in the stream.
    pub half: HalfSpec,
    /// Width of gate and up; of each expert's in a mixture.
    pub width: usize,
    /// What the gate goes through.
    pub activation: ActivationKind,
    /// Whether the projections have biases.
    pub bias: bool,
    /// The experts among which each row chooses; one MLP for all where there is none.
    pub mixture: Option<MixtureSpec>,
}

/// How a row goes through some of a layer's experts, each an MLP of its own: a router's scores choose the greatest, of equal ones
/// those with the lowest numbers, and what the chosen come to is added up by their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixtureSpec {
    /// Experts of the layer.
    pub experts: usize,
    /// How many of them a row goes through.
    pub used: usize,
    /// How scores become weights.
    pub weights: ExpertWeights,
    /// One more, which every row goes through.
    pub shared: Option<SharedSpec>,
}

/// An expert that every row goes through, added to the sum of those that were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSpec {
    /// Width of its gate and up.
    pub width: usize,
    /// Whether a score of its own, bent between 0 and 1, is its weight; it is one where there is none.
    pub scored: bool,
}

/// How a router's scores become weights of the experts that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertWeights {
    /// Shares of a softmax over all experts.
    OfAll,
    /// The same, then divided by their sum.
    OfAllToOne,
    /// A softmax over those that are used.
    OfUsed,
}

/// Functions of one number between the projections of a feed-forward half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The Gaussian error unit by the error function.
    Gelu,
    /// The same by a hyperbolic tangent.
    GeluTanh,
    /// Nothing below zero.
    Relu,
    /// Its square.
    ReluSquared,
}

impl ActivationKind {
    /// The function that transformers calls so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            "relu2" => Some(Self::ReluSquared),
            _ => None,
        }
    }

    /// Its name in transformers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_pytorch_tanh",
            Self::Relu => "relu",
            Self::ReluSquared => "relu2",
        }
    }
}

impl NormSpec {
    /// The norm by root mean square of most families.
    pub const fn rms(eps: f32) -> Self {
        Self { kind: NormKind::Rms, eps, offset: 0.0 }
    }
}

impl HalfSpec {
    /// A half with a norm before it, whose result joins the stream as it is.
    pub const fn after(norm: NormSpec) -> Self {
        Self { norm, place: NormPlace::Before, residual_multiplier: 1.0 }
    }
}

impl ModelSpec {
    /// The spec of `layer`. Of a layer that the model does not have there is no block either: whoever asks gets the last one's.
    pub fn layer(&self, layer: LayerIndex) -> &LayerSpec {
        &self.layers[(layer.0 as usize).min(self.layers.len() - 1)]
    }

    /// The different ways in which layers rotate, in the order in which layers have them.
    pub fn ropes(&self) -> Vec<&RopeSpec> {
        let mut ropes = Vec::new();
        for rope in self.layers.iter().filter_map(|layer| layer.attention.rope.as_ref()) {
            if !ropes.contains(&rope) {
                ropes.push(rope);
            }
        }
        ropes
    }
}
