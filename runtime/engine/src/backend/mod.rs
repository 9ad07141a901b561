//! What a layer needs of the thing that computes it.

use std::ops::Range;

use lime_kernels::{AttentionBounds, Gate};
use lime_model::TensorRole;
use lime_plan::{Bytes, Dtype};

use crate::{activation::Activation, batch::Batch, engine_error::EngineError, ops::Norm, routes::Route};

mod candle;
mod exact;
mod remote_pages;

pub(crate) use candle::{Candle, CandleShape, Uploaded, candle_device};
pub(crate) use exact::{Exact, ExactShape};
pub(crate) use remote_pages::{RemotePages, nobody};

/// Memory for a device's KV pages, where the backend computes.
pub(crate) trait KvPool {
    /// What is taken whatever pages are in use: the whole pool, of one that is taken at once and stays.
    fn fixed(&self) -> Bytes {
        Bytes::ZERO
    }

    /// Gives this part of a pool that grows with its pages back to the system: no page in use lies in it.
    fn give_back(&mut self, range: Range<usize>) {
        debug_assert!(!self.fixed().is_zero(), "bytes {range:?} of a pool that grows stay where they are");
    }

    /// Whether several sequences can have the same page.
    fn is_paged(&self) -> bool {
        false
    }

    /// The bytes of a page, where pages can be on another device.
    fn page(&mut self, page: u32) -> Option<&mut [u8]> {
        let _ = page;
        None
    }
}

/// Operations over rows of f32, on weights and KV entries that the backend holds where it computes.
///
/// Rows that an operation takes by value are done with: the backend may use their memory again.
pub(crate) trait Backend {
    /// One block's weights.
    type Weights;
    /// Rows on the backend's device.
    type Rows;
    /// Memory for keys and values.
    type Kv: KvPool;

    /// The embeddings of `tokens`.
    fn embed(&mut self, embedding: &Self::Weights, tokens: &[u32]) -> Result<Activation, EngineError>;

    /// Takes an activation up.
    fn enter(&mut self, activation: &mut Activation) -> Result<Self::Rows, EngineError>;

    /// Gives it back.
    fn leave(&mut self, rows: Self::Rows, activation: &mut Activation) -> Result<(), EngineError>;

    /// A copy of what rows hold, for others than layers; they are done with.
    fn values(&mut self, rows: Self::Rows) -> Result<Vec<f32>, EngineError>;

    /// Each row divided by its root mean square, times the weights of `norm` and what is added to them.
    fn rms_norm(
        &mut self,
        x: &Self::Rows,
        weights: &Self::Weights,
        norm: TensorRole,
        with: Norm,
    ) -> Result<Self::Rows, EngineError>;

    /// The same for some rows of an activation.
    fn select_rms_norm(
        &mut self,
        activation: &Activation,
        rows: &[usize],
        weights: &Self::Weights,
        norm: TensorRole,
        with: Norm,
    ) -> Result<Self::Rows, EngineError>;

    /// The same in place, for each part of each row that is as long as the norm: a head, or the row.
    fn norm_in_place(
        &mut self,
        x: &mut Self::Rows,
        weights: &Self::Weights,
        norm: TensorRole,
        with: Norm,
    ) -> Result<(), EngineError>;

    /// Projections of the same rows, with their biases where the block has them.
    fn project<const N: usize>(
        &mut self,
        x: Self::Rows,
        weights: &Self::Weights,
        matrices: [TensorRole; N],
    ) -> Result<[Self::Rows; N], EngineError>;

    /// Turns each head by its row's position, in the model's `rope`-th way.
    fn rope(&mut self, x: &mut Self::Rows, heads: usize, positions: &[u32], rope: usize) -> Result<(), EngineError>;

    /// Multiplies every number with `factor`.
    fn scale(&mut self, x: &mut Self::Rows, factor: f32) -> Result<(), EngineError>;

    /// Stores keys and values of a pass in the KV cache of the device's `layer`, rounded to its dtype; numbers beyond its range
    /// become the greatest of their sign.
    fn store(
        &mut self,
        kv: &mut Self::Kv,
        layer: usize,
        batch: &Batch<'_>,
        k: Self::Rows,
        v: Self::Rows,
    ) -> Result<(), EngineError>;

    /// Each query row attends to its sequence up to its own position, within bounds; `keeper` is asked about remote pages.
    fn attend(
        &mut self,
        kv: &Self::Kv,
        layer: usize,
        batch: &Batch<'_>,
        q: Self::Rows,
        bounds: AttentionBounds,
        keeper: Option<&mut RemotePages>,
    ) -> Result<Self::Rows, EngineError>;

    /// `f(gate) * up`.
    fn gated(&mut self, f: Gate, gate: Self::Rows, up: Self::Rows) -> Result<Self::Rows, EngineError>;

    /// The product of rows with a matrix, to be looked at in host memory; the rows are not done with.
    fn scores(
        &mut self,
        x: &Self::Rows,
        weights: &Self::Weights,
        matrix: TensorRole,
        look: impl FnOnce(&[f32]),
    ) -> Result<(), EngineError>;

    /// How many rows there are.
    fn row_count(&self, x: &Self::Rows) -> Result<usize, EngineError>;

    /// A copy of rows.
    fn copy(&mut self, x: &Self::Rows) -> Result<Self::Rows, EngineError>;

    /// Zeros in the shape of `x`.
    fn zeros(&mut self, x: &Self::Rows) -> Result<Self::Rows, EngineError>;

    /// The rows of `routes`, in their order; there is at least one.
    fn gather(&mut self, x: &Self::Rows, routes: &[Route]) -> Result<Self::Rows, EngineError>;

    /// Adds to each row of `routes` its row of `y`, times its weight.
    fn add_weighted(&mut self, sum: &mut Self::Rows, y: Self::Rows, routes: &[Route]) -> Result<(), EngineError>;

    /// Takes rows whose memory may be used again.
    fn done_with(&mut self, x: Self::Rows);

    /// `cap * tanh(logit / cap)`, in host memory.
    fn soft_cap(&mut self, cap: f32, logits: &mut [f32]);

    /// `x += y`, then rounded to `dtype`.
    fn add_rounded(&mut self, x: &mut Self::Rows, y: Self::Rows, dtype: Dtype) -> Result<(), EngineError>;

    /// The product with an output matrix, in host memory.
    fn logits(
        &mut self,
        x: Self::Rows,
        weights: &Self::Weights,
        matrix: TensorRole,
        out: &mut [f32],
    ) -> Result<(), EngineError>;

    /// How many numbers stored were beyond the range since this was asked last.
    fn take_saturated(&mut self) -> Result<u64, EngineError>;

    /// Bytes of scratch and tables.
    fn scratch_bytes(&self) -> u64;
}

/// The bias that belongs to a matrix.
pub(crate) const fn bias_of(matrix: TensorRole) -> Option<TensorRole> {
    match matrix {
        TensorRole::Q => Some(TensorRole::QBias),
        TensorRole::K => Some(TensorRole::KBias),
        TensorRole::V => Some(TensorRole::VBias),
        TensorRole::O => Some(TensorRole::OBias),
        TensorRole::Gate => Some(TensorRole::GateBias),
        TensorRole::Up => Some(TensorRole::UpBias),
        TensorRole::Down => Some(TensorRole::DownBias),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lime_kernels::Kernels;
    use lime_model::{BlockLayout, ModelFolder};
    use lime_plan::{Block, LayerIndex};

    use super::{
        candle::{DeviceBlock, rms_norm},
        exact::norm_weights,
        *,
    };
    use crate::{loader::LoadOptions, ops::Norm, weights::load_arena};

    /// No family of today stores its norms as their distance from one: the same numbers must come of weights that lie one lower.
    #[test]
    fn both_backends_add_the_offset_of_norms() {
        let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/tiny-llama3-bf16");
        let folder = ModelFolder::open(models).unwrap();
        let block = Block::Mlp(LayerIndex(0));
        let layout = BlockLayout::of(folder.config(), block);
        let options = LoadOptions { bytes_per_second: None };
        let loaded = load_arena(&folder, vec![(block, layout)], options, &mut |_, _| {}).unwrap();
        let host = &loaded.blocks[0].1;
        let hidden = folder.config().hidden;
        let x: Vec<f32> = (0..hidden).map(|index| index as f32 - 20.0).collect();
        let (mut stored, mut moved) = (vec![0.0; hidden], vec![0.0; hidden]);
        let with = Norm { eps: 1e-6, offset: 1.0 };
        let stored = norm_weights(host, TensorRole::PostNorm, Norm { offset: 0.0, ..with }, &mut stored);
        let moved = norm_weights(host, TensorRole::PostNorm, with, &mut moved);
        assert!(stored.iter().zip(moved).all(|(stored, moved)| stored + 1.0 == *moved));

        let mut ours = vec![0.0; hidden];
        Kernels::new(lime_kernels::Isa::Scalar, 1).rms_norm(&x, moved, with.eps, &mut ours);
        let device = candle_device(None).unwrap();
        let uploaded = DeviceBlock::upload(host, &device).unwrap();
        let rows = candle_core::Tensor::from_vec(x, (1, hidden), &device).unwrap();
        let theirs = rms_norm(&rows, uploaded.tensor(TensorRole::PostNorm), with).unwrap();
        let theirs: Vec<f32> = theirs.flatten_all().unwrap().to_vec1().unwrap();
        assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| (ours - theirs).abs() < 1e-5), "{ours:?} {theirs:?}");
    }
}
