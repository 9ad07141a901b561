//! What a layer needs of the thing that computes it.

use lime_plan::Dtype;

use crate::{Activation, EngineError, batch::Batch, steps::Norm};
use lime_model::TensorRole;

mod candle;
mod elsewhere;
mod exact;

pub(crate) use candle::{Candle, CandleShape, DeviceBlock, candle_device};
pub(crate) use elsewhere::Elsewhere;
pub(crate) use exact::{Exact, ExactShape};

/// Operations over rows of f32, on weights and KV entries that the backend holds where it computes.
///
/// Rows that an operation takes by value are done with: the backend may use their memory again.
pub(crate) trait Backend {
    /// One block's weights.
    type Weights;
    /// Rows on the backend's device.
    type Rows;

    /// The embeddings of `tokens`.
    fn embed(&mut self, embedding: &Self::Weights, tokens: &[u32]) -> Result<Activation, EngineError>;

    /// Takes an activation up.
    fn enter(&mut self, activation: &mut Activation) -> Result<Self::Rows, EngineError>;

    /// Gives it back.
    fn leave(&mut self, rows: Self::Rows, activation: &mut Activation) -> Result<(), EngineError>;

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

    /// The same for each head of each row, in place. The norm is as long as a head.
    fn head_norm(
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

    /// Turns each head by its row's position.
    fn rope(&mut self, x: &mut Self::Rows, heads: usize, positions: &[u32]) -> Result<(), EngineError>;

    /// Multiplies every number with `factor`.
    fn scale(&mut self, x: &mut Self::Rows, factor: f32) -> Result<(), EngineError>;

    /// Stores keys and values of a pass in the KV cache of the device's `layer`, rounded to its dtype; numbers beyond its range
    /// become the greatest of their sign.
    fn store(&mut self, layer: usize, batch: &Batch<'_>, k: Self::Rows, v: Self::Rows) -> Result<(), EngineError>;

    /// Each query row attends to its sequence up to its own position.
    fn attend(&mut self, layer: usize, batch: &Batch<'_>, q: Self::Rows) -> Result<Self::Rows, EngineError>;

    /// `silu(gate) * up`.
    fn swiglu(&mut self, gate: Self::Rows, up: Self::Rows) -> Result<Self::Rows, EngineError>;

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

    /// Bytes that the KV cache takes.
    fn kv_bytes(&self) -> u64;

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
