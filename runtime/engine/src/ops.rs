//! What layers do, operation by operation. A model's spec is taken apart here field by field: what this build does not compute is refused by
//! name when a model is loaded, and nothing that a spec asks for is passed over.

use lime_kernels::{AttentionBounds, Gate};
use lime_model::{
    ActivationKind, AttentionSpec, HalfSpec, LayerSpec, LogitsSpec, MixtureSpec, MlpSpec, ModelConfig, ModelSpec,
    NormKind, NormPlace, NormSpec, QkNormSpec, QkNormWidth, RopeSpec,
};
use lime_plan::{Block, LayerIndex};

use crate::engine_error::EngineError;

/// A norm by root mean square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Norm {
    pub(crate) eps: f32,
    /// Added to every weight.
    pub(crate) offset: f32,
}

/// What a model does beside its layers' halves, and those.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelOps {
    pub(crate) embedding_scale: Option<f32>,
    /// By layer.
    layers: Vec<LayerOps>,
    pub(crate) final_norm: Norm,
    pub(crate) logits_scale: Option<f32>,
    /// What logits are bent under.
    pub(crate) logits_cap: Option<f32>,
    /// The ways in which layers rotate.
    pub(crate) ropes: Vec<RopeSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct LayerOps {
    attention: AttentionOps,
    mlp: MlpOps,
}

/// How a half stands in the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HalfOps {
    /// The norm before its projections.
    pub(crate) norm: Option<Norm>,
    /// The norm of what they come to.
    pub(crate) out_norm: Option<Norm>,
    pub(crate) residual_scale: Option<f32>,
}

/// The attention half of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AttentionOps {
    pub(crate) half: HalfOps,
    /// The norm of q and k, of heads or of rows as their weights are long.
    pub(crate) qk_norm: Option<Norm>,
    /// Which of [`ModelOps::ropes`] rotates it.
    pub(crate) rope: Option<usize>,
    /// What queries are multiplied with, so that one over the root of the head's width is the scale of scores everywhere: whoever
    /// keeps pages for another device knows of no other.
    pub(crate) query_scale: Option<f32>,
    pub(crate) bounds: AttentionBounds,
}

/// The feed-forward half of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MlpOps {
    pub(crate) half: HalfOps,
    pub(crate) gate: Gate,
    pub(crate) mixture: Option<MixtureSpec>,
}

impl ModelOps {
    /// The steps of a model in contexts of at most `positions`.
    ///
    /// # Errors
    /// [`EngineError::NotComputed`] with what the spec asks for beyond this build.
    pub(crate) fn of(config: &ModelConfig, positions: usize) -> Result<Self, EngineError> {
        let ModelSpec { embedding_multiplier, layers, final_norm, logits } = &config.spec;
        let LogitsSpec { multiplier, soft_cap } = *logits;
        let reader = Reader { config, positions, ropes: config.spec.ropes() };
        let layers = (0u32..).map(LayerIndex).zip(layers).map(|(index, LayerSpec { attention, mlp })| {
            let attention = reader.attention(Block::Attention(index), attention)?;
            Ok(LayerOps { attention, mlp: reader.mlp(Block::Mlp(index), mlp)? })
        });
        Ok(Self {
            embedding_scale: unless_one(*embedding_multiplier),
            layers: layers.collect::<Result<_, EngineError>>()?,
            final_norm: norm(Block::Head, *final_norm)?,
            logits_scale: unless_one(multiplier),
            logits_cap: soft_cap,
            ropes: reader.ropes.into_iter().cloned().collect(),
        })
    }

    /// The attention half of `layer`, which the model has: the plan was checked against it.
    pub(crate) fn attention(&self, layer: LayerIndex) -> AttentionOps {
        self.layers[layer.0 as usize].attention
    }

    /// The feed-forward half of `layer`.
    pub(crate) fn mlp(&self, layer: LayerIndex) -> MlpOps {
        self.layers[layer.0 as usize].mlp
    }
}

/// What the halves of all layers share.
struct Reader<'a> {
    config: &'a ModelConfig,
    positions: usize,
    ropes: Vec<&'a RopeSpec>,
}

impl Reader<'_> {
    fn attention(&self, block: Block, spec: &AttentionSpec) -> Result<AttentionOps, EngineError> {
        // Biases are added where the block's layout has them.
        let AttentionSpec {
            half,
            heads,
            kv_heads,
            head_dim,
            qkv_bias: _,
            o_bias: _,
            qk_norm,
            rope,
            window,
            scale,
            soft_cap,
        } = spec;
        let ModelConfig { heads: all_heads, kv_heads: all_kv_heads, head_dim: all_head_dim, .. } = *self.config;
        if (*heads, *kv_heads, *head_dim) != (all_heads, all_kv_heads, all_head_dim) {
            return not_computed(block, "heads unlike those of other layers");
        }
        let half = half_ops(block, *half)?;
        // Of heads or of rows: the layout has as many weights.
        let qk_norm = match qk_norm {
            None => None,
            Some(QkNormSpec { norm, over: QkNormWidth::Head | QkNormWidth::Row }) => Some(self::norm(block, *norm)?),
        };
        let rope = match rope {
            None => None,
            Some(RopeSpec { width, .. }) if *width > *head_dim => {
                return not_computed(block, &format!("a rotation of {width} elements of {head_dim} of a head"));
            }
            Some(rope) => self.ropes.iter().position(|known| *known == rope),
        };
        let query_scale = scale.and_then(|scale| unless_one((f64::from(scale) * (*head_dim as f64).sqrt()) as f32));
        let window = window.filter(|window| *window < self.positions);
        Ok(AttentionOps { half, qk_norm, rope, query_scale, bounds: AttentionBounds { window, soft_cap: *soft_cap } })
    }

    fn mlp(&self, block: Block, spec: &MlpSpec) -> Result<MlpOps, EngineError> {
        let MlpSpec { half, width, activation, bias, mixture } = *spec;
        if width != self.config.intermediate {
            return not_computed(block, "a width unlike that of other layers");
        }
        if mixture.is_some() && bias {
            return not_computed(block, "biases of experts");
        }
        if mixture != self.config.spec.layers[0].mlp.mixture {
            return not_computed(block, "experts unlike those of other layers");
        }
        let gate = match activation {
            ActivationKind::Silu => Gate::Silu,
            ActivationKind::GeluTanh => Gate::GeluTanh,
            ActivationKind::Gelu | ActivationKind::Relu | ActivationKind::ReluSquared => {
                return not_computed(block, &format!("the activation {}", activation.name()));
            }
        };
        Ok(MlpOps { half: half_ops(block, half)?, gate, mixture })
    }
}

/// A half's norms, and what its result is multiplied with.
fn half_ops(block: Block, spec: HalfSpec) -> Result<HalfOps, EngineError> {
    let HalfSpec { norm, place, residual_multiplier } = spec;
    let norm = self::norm(block, norm)?;
    let (norm, out_norm) = match place {
        NormPlace::Before => (Some(norm), None),
        NormPlace::After => (None, Some(norm)),
        NormPlace::Both => (Some(norm), Some(norm)),
    };
    Ok(HalfOps { norm, out_norm, residual_scale: unless_one(residual_multiplier) })
}

fn norm(block: Block, spec: NormSpec) -> Result<Norm, EngineError> {
    let NormSpec { kind, eps, offset } = spec;
    match kind {
        NormKind::Rms => Ok(Norm { eps, offset }),
        NormKind::Layer => not_computed(block, "a norm by mean and deviation"),
    }
}

/// A factor, where it is one that changes something.
fn unless_one(factor: f32) -> Option<f32> {
    (factor != 1.0).then_some(factor)
}

fn not_computed<T>(block: Block, what: &str) -> Result<T, EngineError> {
    Err(EngineError::NotComputed { block, what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use lime_model::ExpertWeights;

    use super::*;

    fn config() -> ModelConfig {
        let json = r#"{
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 128,
            "dtype": "bfloat16", "rms_norm_eps": 1e-5
        }"#;
        ModelConfig::parse(json).unwrap()
    }

    fn ops(change: impl Fn(&mut ModelSpec)) -> Result<ModelOps, String> {
        let mut config = config();
        change(&mut config.spec);
        ModelOps::of(&config, 100).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plain_model_scales_nothing() {
        let ops = ops(|_| ()).unwrap();
        let norm = Norm { eps: 1e-5, offset: 0.0 };
        assert_eq!((ops.embedding_scale, ops.logits_scale, ops.final_norm), (None, None, norm));
        let half = HalfOps { norm: Some(norm), out_norm: None, residual_scale: None };
        let attention =
            AttentionOps { half, qk_norm: None, rope: Some(0), query_scale: None, bounds: AttentionBounds::default() };
        assert_eq!(ops.attention(LayerIndex(2)), attention);
        assert_eq!(ops.mlp(LayerIndex(0)), MlpOps { half, gate: Gate::Silu, mixture: None });
        assert_eq!((ops.ropes.len(), ops.logits_cap), (1, None));
    }

    #[test]
    fn what_differs_from_layer_to_layer_stays_there() {
        let ops = ops(|spec| {
            spec.embedding_multiplier = 12.0;
            spec.logits.multiplier = 0.125;
            spec.layers[1].attention.rope = None;
            spec.layers[1].attention.scale = Some(0.5);
            spec.layers[0].attention.window = Some(99);
            spec.layers[1].attention.window = Some(100);
            spec.layers[2].attention.rope.as_mut().unwrap().width = 8;
            spec.layers[2].mlp.half.residual_multiplier = 0.25;
            spec.layers[2].mlp.half.norm.offset = 1.0;
            spec.layers[2].mlp.half.place = NormPlace::Both;
            spec.layers[2].mlp.activation = ActivationKind::GeluTanh;
        })
        .unwrap();
        assert_eq!((ops.embedding_scale, ops.logits_scale), (Some(12.0), Some(0.125)));
        let of = |layer| ops.attention(LayerIndex(layer));
        assert_eq!([0, 1, 2].map(|layer| of(layer).rope), [Some(0), None, Some(1)]);
        assert_eq!(ops.ropes.iter().map(|rope| rope.width).collect::<Vec<_>>(), [16, 8]);
        // One over the root of 16 is a quarter.
        assert_eq!([0, 1].map(|layer| of(layer).query_scale), [None, Some(2.0)]);
        // A window as long as the longest text is none.
        assert_eq!([0, 1].map(|layer| of(layer).bounds.window), [Some(99), None]);
        assert_eq!(ops.mlp(LayerIndex(1)).half.residual_scale, None);
        let norm = Some(Norm { eps: 1e-5, offset: 1.0 });
        let last = HalfOps { norm, out_norm: norm, residual_scale: Some(0.25) };
        assert_eq!((ops.mlp(LayerIndex(2)).half, ops.mlp(LayerIndex(2)).gate), (last, Gate::GeluTanh));
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name_and_layer() {
        type Change = fn(&mut ModelSpec);
        let changes: [(Change, &str); 8] = [
            (|spec| spec.final_norm.kind = NormKind::Layer, "head asks for a norm by mean and deviation"),
            (|spec| spec.layers[2].attention.heads = 8, "attention(2) asks for heads unlike"),
            (|spec| spec.layers[2].attention.kv_heads = 1, "attention(2) asks for heads unlike"),
            (|spec| spec.layers[2].attention.head_dim = 8, "attention(2) asks for heads unlike"),
            (
                |spec| spec.layers[0].attention.rope.as_mut().unwrap().width = 18,
                "attention(0) asks for a rotation of 18 elements of 16",
            ),
            (|spec| spec.layers[1].mlp.activation = ActivationKind::Gelu, "mlp(1) asks for the activation gelu"),
            (|spec| spec.layers[1].mlp.width = 100, "mlp(1) asks for a width unlike"),
            (
                |spec| {
                    let weights = ExpertWeights::OfAll;
                    spec.layers[1].mlp.mixture = Some(MixtureSpec { experts: 8, used: 2, weights, shared: None });
                },
                "mlp(1) asks for experts unlike",
            ),
        ];
        for (change, expected) in changes {
            let refused = ops(change).unwrap_err();
            assert!(refused.starts_with(expected), "{expected:?}: {refused}");
        }
    }
}
