//! The transformer itself, written once for every backend.

use lime_kernels::Gate;
use lime_model::{MixtureSpec, SharedSpec, TensorRole};
use lime_plan::{Block, Dtype, LayerIndex};

use crate::{
    activation::Activation,
    backend::Backend,
    engine_error::EngineError,
    memory::Admitted,
    ops::{AttentionOps, HalfOps, MlpOps, ModelOps},
    routes::Routes,
    weights::BlockSource,
};

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
    /// Of the mixture at hand. Its lists are used again.
    routes: Routes,
}

/// Where the layers of a pass find their blocks.
pub(crate) trait BlocksFor<B: Backend>: BlockSource<Weights = B::Weights> {}

impl<B: Backend, S: BlockSource<Weights = B::Weights>> BlocksFor<B> for S {}

impl<B: Backend> Layers<B> {
    pub(crate) fn new(backend: B, shape: Shape) -> Self {
        Self { backend, shape, routes: Routes::default() }
    }

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
        let AttentionOps { half, qk_norm, rope, query_scale, bounds } = self.shape.ops.attention(layer);
        let Shape { heads, kv_heads, .. } = self.shape;
        let Admitted { batch, blocks, kv, keeper } = with;
        let weights = &blocks.block(Block::Attention(layer))?;
        let normed = self.before(half, x, weights, TensorRole::InputNorm)?;
        let backend = &mut self.backend;
        let [mut q, mut k, v] = backend.project(normed, weights, [TensorRole::Q, TensorRole::K, TensorRole::V])?;
        if let Some(norm) = qk_norm {
            backend.norm_in_place(&mut q, weights, TensorRole::QNorm, norm)?;
            backend.norm_in_place(&mut k, weights, TensorRole::KNorm, norm)?;
        }
        if let Some(rope) = rope {
            backend.rope(&mut q, heads, &batch.positions, rope)?;
            backend.rope(&mut k, kv_heads, &batch.positions, rope)?;
        }
        if let Some(factor) = query_scale {
            backend.scale(&mut q, factor)?;
        }
        backend.store(kv, place, batch, k, v)?;
        let attended = backend.attend(kv, place, batch, q, bounds, keeper.as_deref_mut())?;
        let [projected] = backend.project(attended, weights, [TensorRole::O])?;
        self.behind(half, x, projected, weights, TensorRole::AttentionOutNorm)
    }

    /// The feed-forward half of a layer, with its block.
    fn mlp(&mut self, layer: LayerIndex, blocks: &mut impl BlocksFor<B>, x: &mut B::Rows) -> Result<(), EngineError> {
        let MlpOps { half, gate: f, mixture } = self.shape.ops.mlp(layer);
        let weights = &blocks.block(Block::Mlp(layer))?;
        let normed = self.before(half, x, weights, TensorRole::PostNorm)?;
        let projected = match mixture {
            Some(mixture) => self.experts(normed, weights, f, mixture)?,
            None => self.expert(normed, weights, f, [TensorRole::Gate, TensorRole::Up, TensorRole::Down])?,
        };
        self.behind(half, x, projected, weights, TensorRole::MlpOutNorm)
    }

    /// What a half's projections take: the residual stream, normed where the half has a norm before them.
    fn before(
        &mut self,
        half: HalfOps,
        x: &B::Rows,
        weights: &B::Weights,
        norm: TensorRole,
    ) -> Result<B::Rows, EngineError> {
        match half.norm {
            Some(with) => self.backend.rms_norm(x, weights, norm, with),
            None => self.backend.copy(x),
        }
    }

    /// What a half comes to joins the residual stream.
    fn behind(
        &mut self,
        half: HalfOps,
        x: &mut B::Rows,
        mut projected: B::Rows,
        weights: &B::Weights,
        norm: TensorRole,
    ) -> Result<(), EngineError> {
        if let Some(with) = half.out_norm {
            self.backend.norm_in_place(&mut projected, weights, norm, with)?;
        }
        if let Some(factor) = half.residual_scale {
            self.backend.scale(&mut projected, factor)?;
        }
        self.backend.add_rounded(x, projected, self.shape.residual)
    }

    /// One MLP.
    fn expert(
        &mut self,
        rows: B::Rows,
        weights: &B::Weights,
        f: Gate,
        [gate, up, down]: [TensorRole; 3],
    ) -> Result<B::Rows, EngineError> {
        let [gate, up] = self.backend.project(rows, weights, [gate, up])?;
        let product = self.backend.gated(f, gate, up)?;
        let [projected] = self.backend.project(product, weights, [down])?;
        Ok(projected)
    }

    /// The experts that the router chooses for each row, added up by their weights: expert after expert, each for all its rows at once.
    fn experts(
        &mut self,
        rows: B::Rows,
        weights: &B::Weights,
        f: Gate,
        mixture: MixtureSpec,
    ) -> Result<B::Rows, EngineError> {
        let mut routes = std::mem::take(&mut self.routes);
        self.backend.scores(&rows, weights, TensorRole::Router, |scores| routes.choose(scores, mixture))?;
        let mut sum = self.backend.zeros(&rows)?;
        for taken in routes.by_expert() {
            let expert = taken[0].expert;
            let chosen = self.backend.gather(&rows, taken)?;
            let roles = [TensorRole::ExpertGate(expert), TensorRole::ExpertUp(expert), TensorRole::ExpertDown(expert)];
            let projected = self.expert(chosen, weights, f, roles)?;
            self.backend.add_weighted(&mut sum, projected, taken)?;
        }
        match mixture.shared {
            None => self.backend.done_with(rows),
            Some(SharedSpec { scored, .. }) => {
                if scored {
                    self.backend
                        .scores(&rows, weights, TensorRole::SharedRouter, |scores| routes.weigh_shared(scores))?;
                } else {
                    routes.share(self.backend.row_count(&rows)?);
                }
                let projected = self.expert(rows, weights, f, [TensorRole::Gate, TensorRole::Up, TensorRole::Down])?;
                self.backend.add_weighted(&mut sum, projected, routes.all())?;
            }
        }
        self.routes = routes;
        Ok(sum)
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
        // Copied: the rows are the backend's, which has no more of them than its memory was planned for.
        let data = self.backend.values(normed)?;
        Ok(Activation { rows: rows.len(), columns: activation.columns, data })
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
            if let Some(cap) = self.shape.ops.logits_cap {
                self.backend.soft_cap(cap, logits);
            }
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
