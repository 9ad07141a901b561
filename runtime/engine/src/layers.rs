//! The transformer itself, written once for every backend.

use lime_plan::{Block, Dtype, LayerIndex};

use crate::{Activation, EngineError, backend::Backend, batch::Batch, weights::BlockSource};
use lime_model::{ModelConfig, TensorRole};

/// What the layers need of the config and the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    heads: usize,
    kv_heads: usize,
    eps: f32,
    qk_norm: bool,
    vocabulary: usize,
    /// The residual stream is rounded to this after every block.
    residual: Dtype,
}

impl Shape {
    pub(crate) const fn new(config: &ModelConfig, residual: Dtype) -> Self {
        let ModelConfig { heads, kv_heads, rms_norm_eps, qk_norm, vocabulary, .. } = *config;
        Self { heads, kv_heads, eps: rms_norm_eps, qk_norm, vocabulary, residual }
    }
}

/// A device's blocks and the backend that computes them.
pub(crate) struct Layers<B, S> {
    pub(crate) backend: B,
    pub(crate) blocks: S,
    pub(crate) shape: Shape,
}

impl<B: Backend, S: BlockSource<Weights = B::Weights>> Layers<B, S> {
    /// The embeddings of `tokens`, rounded as after every block.
    pub(crate) fn embed(&mut self, tokens: &[u32]) -> Result<Activation, EngineError> {
        let embedding = self.blocks.block(Block::Embedding)?;
        let mut activation = self.backend.embed(&embedding, tokens)?;
        lime_kernels::round_to(self.shape.residual.into(), &mut activation.data);
        Ok(activation)
    }

    /// Runs `layers`, each with its place in the device's KV cache, over the rows of a pass.
    pub(crate) fn forward(
        &mut self,
        layers: impl Iterator<Item = (LayerIndex, usize)>,
        batch: &Batch<'_>,
        activation: &mut Activation,
    ) -> Result<(), EngineError> {
        let mut x = self.backend.enter(activation)?;
        for (layer, place) in layers {
            let attention = self.blocks.block(Block::Attention(layer))?;
            self.attention(&attention, place, batch, &mut x)?;
            drop(attention);
            let mlp = self.blocks.block(Block::Mlp(layer))?;
            self.mlp(&mlp, &mut x)?;
        }
        self.backend.leave(x, activation)
    }

    fn attention(
        &mut self,
        weights: &B::Weights,
        place: usize,
        batch: &Batch<'_>,
        x: &mut B::Rows,
    ) -> Result<(), EngineError> {
        let Shape { heads, kv_heads, eps, qk_norm, residual, .. } = self.shape;
        let backend = &mut self.backend;
        let normed = backend.rms_norm(x, weights, TensorRole::InputNorm, eps)?;
        let [mut q, mut k, v] = backend.project(normed, weights, [TensorRole::Q, TensorRole::K, TensorRole::V])?;
        if qk_norm {
            backend.head_norm(&mut q, weights, TensorRole::QNorm, eps)?;
            backend.head_norm(&mut k, weights, TensorRole::KNorm, eps)?;
        }
        backend.rope(&mut q, heads, &batch.positions)?;
        backend.rope(&mut k, kv_heads, &batch.positions)?;
        backend.store(place, batch, k, v)?;
        let attended = backend.attend(place, batch, q)?;
        let [projected] = backend.project(attended, weights, [TensorRole::O])?;
        backend.add_rounded(x, projected, residual)
    }

    fn mlp(&mut self, weights: &B::Weights, x: &mut B::Rows) -> Result<(), EngineError> {
        let Shape { eps, residual, .. } = self.shape;
        let backend = &mut self.backend;
        let normed = backend.rms_norm(x, weights, TensorRole::PostNorm, eps)?;
        let [gate, up] = backend.project(normed, weights, [TensorRole::Gate, TensorRole::Up])?;
        let product = backend.swiglu(gate, up)?;
        let [projected] = backend.project(product, weights, [TensorRole::Down])?;
        backend.add_rounded(x, projected, residual)
    }

    /// Logits of some rows of an activation that has been through every layer; `matrix` is the block with the output matrix.
    pub(crate) fn logits(
        &mut self,
        matrix: (Block, TensorRole),
        rows: &[usize],
        activation: &Activation,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        debug_assert_eq!(out.len(), rows.len() * self.shape.vocabulary);
        let head = self.blocks.block(Block::Head)?;
        let normed = self.backend.select_rms_norm(activation, rows, &head, TensorRole::FinalNorm, self.shape.eps)?;
        let output = self.blocks.block(matrix.0)?;
        self.backend.logits(normed, &output, matrix.1, out)
    }
}
