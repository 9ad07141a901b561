//! What layers do, step by step. A model's spec is taken apart here field by field: what this build does not compute is refused by
//! name when a model is loaded, and nothing that a spec asks for is passed over.

use lime_model::{
    ActivationKind, AttentionSpec, HalfSpec, LayerSpec, LogitsSpec, MlpSpec, ModelConfig, ModelSpec, NormKind,
    NormPlace, NormSpec, QkNormSpec, QkNormWidth, RopeConfig, RopeSpec,
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
    /// How every layer rotates that does.
    pub(crate) rope: Option<RopeConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct LayerOps {
    attention: AttentionOps,
    mlp: MlpOps,
}

/// The attention half of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AttentionOps {
    pub(crate) norm: Norm,
    /// The norm of each head of q and k.
    pub(crate) head_norm: Option<Norm>,
    pub(crate) rotates: bool,
    /// What queries are multiplied with, so that one over the root of the head's width is the scale of scores everywhere: whoever
    /// keeps pages for another device knows of no other.
    pub(crate) query_scale: Option<f32>,
    pub(crate) residual_scale: Option<f32>,
}

/// The feed-forward half of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MlpOps {
    pub(crate) norm: Norm,
    pub(crate) residual_scale: Option<f32>,
}

impl ModelOps {
    /// The ops of a model in contexts of at most `positions`.
    ///
    /// # Errors
    /// [`EngineError::NotComputed`] with what the spec asks for beyond this build.
    pub(crate) fn of(config: &ModelConfig, positions: usize) -> Result<Self, EngineError> {
        let ModelSpec { embedding_multiplier, layers, final_norm, logits } = &config.spec;
        let LogitsSpec { multiplier, soft_cap } = *logits;
        let reader = Reader { config, positions, rope: config.spec.rope() };
        if soft_cap.is_some() {
            return not_computed(Block::Head, "a soft cap of logits");
        }
        let layers = (0u32..).map(LayerIndex).zip(layers).map(|(index, LayerSpec { attention, mlp })| {
            let attention = reader.attention(Block::Attention(index), attention)?;
            Ok(LayerOps { attention, mlp: reader.mlp(Block::Mlp(index), mlp)? })
        });
        Ok(Self {
            embedding_scale: unless_one(*embedding_multiplier),
            layers: layers.collect::<Result<_, EngineError>>()?,
            final_norm: norm(Block::Head, *final_norm)?,
            logits_scale: unless_one(multiplier),
            rope: reader.rope.map(|rope| rope.config),
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
    rope: Option<RopeSpec>,
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
        } = *spec;
        let ModelConfig { heads: all_heads, kv_heads: all_kv_heads, head_dim: all_head_dim, .. } = *self.config;
        if (heads, kv_heads, head_dim) != (all_heads, all_kv_heads, all_head_dim) {
            return not_computed(block, "heads unlike those of other layers");
        }
        if soft_cap.is_some() {
            return not_computed(block, "a soft cap of scores");
        }
        if let Some(window) = window.filter(|window| *window < self.positions) {
            return not_computed(block, &format!("an attention window of {window} positions"));
        }
        if let Some(RopeSpec { config, width }) = rope {
            if width != head_dim {
                return not_computed(block, &format!("a rotation of {width} elements of {head_dim} of a head"));
            }
            if self.rope.is_some_and(|first| first.config != config) {
                return not_computed(block, "a rotation unlike that of other layers");
            }
        }
        let (norm, residual_scale) = half_ops(block, half)?;
        let head_norm = match qk_norm {
            None => None,
            Some(QkNormSpec { norm: of_heads, over: QkNormWidth::Head }) => Some(self::norm(block, of_heads)?),
            Some(QkNormSpec { over: QkNormWidth::Row, .. }) => {
                return not_computed(block, "one norm over all heads of q and k");
            }
        };
        let query_scale = scale.and_then(|scale| unless_one((f64::from(scale) * (head_dim as f64).sqrt()) as f32));
        Ok(AttentionOps { norm, head_norm, rotates: rope.is_some(), query_scale, residual_scale })
    }

    fn mlp(&self, block: Block, spec: &MlpSpec) -> Result<MlpOps, EngineError> {
        let MlpSpec { half, width, activation, bias: _ } = *spec;
        if width != self.config.intermediate {
            return not_computed(block, "a width unlike that of other layers");
        }
        if activation != ActivationKind::Silu {
            return not_computed(block, &format!("the activation {}", activation.name()));
        }
        let (norm, residual_scale) = half_ops(block, half)?;
        Ok(MlpOps { norm, residual_scale })
    }
}

/// A half's norm, and what its result is multiplied with.
fn half_ops(block: Block, spec: HalfSpec) -> Result<(Norm, Option<f32>), EngineError> {
    let HalfSpec { norm, place, residual_multiplier } = spec;
    match place {
        NormPlace::Before => Ok((self::norm(block, norm)?, unless_one(residual_multiplier))),
        NormPlace::After | NormPlace::Both => not_computed(block, "a norm behind its projections"),
    }
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
        let attention = AttentionOps { norm, head_norm: None, rotates: true, query_scale: None, residual_scale: None };
        assert_eq!(ops.attention(LayerIndex(2)), attention);
        assert_eq!(ops.mlp(LayerIndex(0)), MlpOps { norm, residual_scale: None });
    }

    #[test]
    fn what_differs_from_layer_to_layer_stays_there() {
        let ops = ops(|spec| {
            spec.embedding_multiplier = 12.0;
            spec.logits.multiplier = 0.125;
            spec.layers[1].attention.rope = None;
            spec.layers[1].attention.scale = Some(0.5);
            spec.layers[1].attention.window = Some(100);
            spec.layers[2].mlp.half.residual_multiplier = 0.25;
            spec.layers[2].mlp.half.norm.offset = 1.0;
        })
        .unwrap();
        assert_eq!((ops.embedding_scale, ops.logits_scale), (Some(12.0), Some(0.125)));
        let of = |layer| ops.attention(LayerIndex(layer));
        assert_eq!([0, 1, 2].map(|layer| of(layer).rotates), [true, false, true]);
        // One over the root of 16 is a quarter.
        assert_eq!([0, 1].map(|layer| of(layer).query_scale), [None, Some(2.0)]);
        assert_eq!(ops.mlp(LayerIndex(1)).residual_scale, None);
        let last = MlpOps { norm: Norm { eps: 1e-5, offset: 1.0 }, residual_scale: Some(0.25) };
        assert_eq!(ops.mlp(LayerIndex(2)), last);
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name_and_layer() {
        type Change = fn(&mut ModelSpec);
        let changes: [(Change, &str); 14] = [
            (|spec| spec.logits.soft_cap = Some(30.0), "head asks for a soft cap of logits"),
            (|spec| spec.final_norm.kind = NormKind::Layer, "head asks for a norm by mean and deviation"),
            (|spec| spec.layers[1].attention.soft_cap = Some(50.0), "attention(1) asks for a soft cap of scores"),
            (
                |spec| spec.layers[1].attention.window = Some(99),
                "attention(1) asks for an attention window of 99 positions",
            ),
            (|spec| spec.layers[2].attention.heads = 8, "attention(2) asks for heads unlike"),
            (|spec| spec.layers[2].attention.kv_heads = 1, "attention(2) asks for heads unlike"),
            (|spec| spec.layers[2].attention.head_dim = 8, "attention(2) asks for heads unlike"),
            (
                |spec| spec.layers[0].attention.rope.as_mut().unwrap().width = 8,
                "attention(0) asks for a rotation of 8 elements of 16",
            ),
            (
                |spec| spec.layers[2].attention.rope.as_mut().unwrap().config = RopeConfig::plain(5e5),
                "attention(2) asks for a rotation unlike",
            ),
            (
                |spec| {
                    let norm = NormSpec::rms(1e-5);
                    spec.layers[0].attention.qk_norm = Some(QkNormSpec { norm, over: QkNormWidth::Row });
                },
                "attention(0) asks for one norm over all heads",
            ),
            (|spec| spec.layers[0].attention.half.place = NormPlace::After, "attention(0) asks for a norm behind"),
            (|spec| spec.layers[1].mlp.half.place = NormPlace::Both, "mlp(1) asks for a norm behind"),
            (
                |spec| spec.layers[1].mlp.activation = ActivationKind::GeluTanh,
                "mlp(1) asks for the activation gelu_pytorch_tanh",
            ),
            (|spec| spec.layers[1].mlp.width = 100, "mlp(1) asks for a width unlike"),
        ];
        for (change, expected) in changes {
            let refused = ops(change).unwrap_err();
            assert!(refused.starts_with(expected), "{expected:?}: {refused}");
        }
    }
}
