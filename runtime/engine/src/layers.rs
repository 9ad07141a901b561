//! The transformer itself, written once for every backend.

use lime_plan::{Block, Dtype, LayerIndex};

use crate::{
    activation::Activation,
    backend::Backend,
    engine_error::EngineError,
    memory::Admitted,
    ops::{AttentionOps, MlpOps, ModelOps},
    weights::BlockSource,
};
use lime_model::TensorRole;

/// What the layers need of the model and the plan.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) vocabulary: usize,
    /// The residual stream is rounded to this after every block.
    pub(crate) residual: Dtype,
    pub(crate) ops: ModelOps,
}

/// A block of a layer on this device: attention and MLP of one layer may be on two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Attention, with its place in the device's KV cache.
    Attention { layer: LayerIndex, place: usize },
    /// Feed-forward projections.
    Mlp { layer: LayerIndex },
}

/// A model's layers on a backend. The blocks and the KV cache that they run over are the device's memory's.
pub(crate) struct Layers<B> {
    pub(crate) backend: B,
    pub(crate) shape: Shape,
}

/// Where the layers of a pass find their blocks.
pub(crate) trait BlocksFor<B: Backend>: BlockSource<Weights = B::Weights> {}

impl<B: Backend, S: BlockSource<Weights = B::Weights>> BlocksFor<B> for S {}

impl<B: Backend> Layers<B> {
    /// The embeddings of `tokens`, rounded as after every block.
    pub(crate) fn embed(&mut self, blocks: &mut impl BlocksFor<B>, tokens: &[u32]) -> Result<Activation, EngineError> {
        let embedding = blocks.block(Block::Embedding)?;
        let mut activation = self.backend.embed(&embedding, tokens)?;
        scale_all(self.shape.ops.embedding_scale, &mut activation.data);
        lime_kernels::round_to(self.shape.residual, &mut activation.data);
        Ok(activation)
    }

    /// Runs `parts` over the rows of a pass.
    pub(crate) fn forward(
        &mut self,
        parts: &[Part],
        mut with: Admitted<'_, impl BlocksFor<B>, B::Kv>,
        activation: &mut Activation,
    ) -> Result<(), EngineError> {
        let mut x = self.backend.enter(activation)?;
        for part in parts {
            match *part {
                Part::Attention { layer, place } => self.attention(layer, place, &mut with, &mut x)?,
                Part::Mlp { layer } => self.mlp(layer, with.blocks, &mut x)?,
            }
        }
        self.backend.leave(x, activation)
    }

    /// The attention half of a layer, with its block.
    fn attention(
        &mut self,
        layer: LayerIndex,
        place: usize,
        with: &mut Admitted<'_, impl BlocksFor<B>, B::Kv>,
        x: &mut B::Rows,
    ) -> Result<(), EngineError> {
        let AttentionOps { norm, head_norm, rotates, query_scale, residual_scale } = self.shape.ops.attention(layer);
        let Shape { heads, kv_heads, residual, .. } = self.shape;
        let Admitted { batch, blocks, kv, keeper } = with;
        let weights = &blocks.block(Block::Attention(layer))?;
        let backend = &mut self.backend;
        let normed = backend.rms_norm(x, weights, TensorRole::InputNorm, norm)?;
        let [mut q, mut k, v] = backend.project(normed, weights, [TensorRole::Q, TensorRole::K, TensorRole::V])?;
        if let Some(norm) = head_norm {
            backend.head_norm(&mut q, weights, TensorRole::QNorm, norm)?;
            backend.head_norm(&mut k, weights, TensorRole::KNorm, norm)?;
        }
        if rotates {
            backend.rope(&mut q, heads, &batch.positions)?;
            backend.rope(&mut k, kv_heads, &batch.positions)?;
        }
        if let Some(factor) = query_scale {
            backend.scale(&mut q, factor)?;
        }
        backend.store(kv, place, batch, k, v)?;
        let attended = backend.attend(kv, place, batch, q, keeper.as_deref_mut())?;
        let [mut projected] = backend.project(attended, weights, [TensorRole::O])?;
        if let Some(factor) = residual_scale {
            backend.scale(&mut projected, factor)?;
        }
        backend.add_rounded(x, projected, residual)
    }

    /// The feed-forward half of a layer, with its block.
    fn mlp(&mut self, layer: LayerIndex, blocks: &mut impl BlocksFor<B>, x: &mut B::Rows) -> Result<(), EngineError> {
        let MlpOps { norm, residual_scale } = self.shape.ops.mlp(layer);
        let weights = &blocks.block(Block::Mlp(layer))?;
        let backend = &mut self.backend;
        let normed = backend.rms_norm(x, weights, TensorRole::PostNorm, norm)?;
        let [gate, up] = backend.project(normed, weights, [TensorRole::Gate, TensorRole::Up])?;
        let product = backend.swiglu(gate, up)?;
        let [mut projected] = backend.project(product, weights, [TensorRole::Down])?;
        if let Some(factor) = residual_scale {
            backend.scale(&mut projected, factor)?;
        }
        backend.add_rounded(x, projected, self.shape.residual)
    }

    /// States of some rows behind the last norm, of an activation that has been through every layer.
    pub(crate) fn states(
        &mut self,
        blocks: &mut impl BlocksFor<B>,
        rows: &[usize],
        activation: &Activation,
    ) -> Result<Activation, EngineError> {
        let head = blocks.block(Block::Head)?;
        let norm = self.shape.ops.final_norm;
        let normed = self.backend.select_rms_norm(activation, rows, &head, TensorRole::FinalNorm, norm)?;
        let mut states = Activation { rows: rows.len(), columns: activation.columns, data: Vec::new() };
        states.data.resize(rows.len() * activation.columns, 0.0);
        self.backend.leave(normed, &mut states)?;
        Ok(states)
    }

    /// Logits of some rows of an activation that has been through every layer; `matrix` is the block with the output matrix.
    pub(crate) fn logits<E: From<EngineError>>(
        &mut self,
        blocks: &mut impl BlocksFor<B>,
        matrix: (Block, TensorRole),
        (rows, at_once): (&[usize], usize),
        activation: &Activation,
        mut take: impl FnMut(usize, &mut [f32]) -> Result<usize, E>,
    ) -> Result<(), E> {
        if rows.is_empty() {
            return Ok(());
        }
        let vocabulary = self.shape.vocabulary;
        let (head, output) = (blocks.block(Block::Head)?, blocks.block(matrix.0)?);
        let mut logits = vec![0.0; rows.len().min(at_once) * vocabulary];
        let (mut place, mut wanted) = (0, 0);
        while place < rows.len() {
            let chunk = &rows[place..rows.len().min(place + at_once)];
            let logits = &mut logits[..chunk.len() * vocabulary];
            let ops = &self.shape.ops;
            let normed =
                self.backend.select_rms_norm(activation, chunk, &head, TensorRole::FinalNorm, ops.final_norm)?;
            self.backend.logits(normed, &output, matrix.1, logits)?;
            scale_all(self.shape.ops.logits_scale, logits);
            for (row, logits) in (place..).zip(logits.chunks_mut(vocabulary)) {
                if row == wanted {
                    wanted = take(row, logits)?.max(row + 1);
                }
            }
            place = wanted.max(place + chunk.len());
        }
        Ok(())
    }
}

fn scale_all(factor: Option<f32>, numbers: &mut [f32]) {
    if let Some(factor) = factor {
        numbers.iter_mut().for_each(|number| *number *= factor);
    }
}
