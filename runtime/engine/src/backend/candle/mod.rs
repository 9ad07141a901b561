//! candle's own operations on one of its devices: the way to GPUs, and the oracle that tests compare with.

mod blocks;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use lime_kernels::{AttentionBounds, Gate, Reach, reach};
use lime_plan::{Bytes, Dtype};

pub(crate) use blocks::{DeviceBlock, Uploaded, candle_device};

use super::{Backend, KvPool, RemotePages, bias_of, nobody};
use crate::{activation::Activation, batch::Batch, engine_error::EngineError, ops::Norm, routes::Route};
use lime_model::{ModelConfig, RopeSpec, TensorRole};

const fn candle_type(dtype: Dtype) -> DType {
    match dtype {
        Dtype::Bf16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F32 => DType::F32,
    }
}

/// K and V of one slot in one layer, `kv_heads x positions x head_dim`.
type SlotCache = (Tensor, Tensor);

/// The KV cache, by layer, then by slot: taken whole when it is loaded.
pub(crate) struct SlotCaches {
    layers: Vec<Vec<SlotCache>>,
    bytes: Bytes,
}

impl KvPool for SlotCaches {
    fn fixed(&self) -> Bytes {
        self.bytes
    }
}

/// candle on a device.
pub(crate) struct Candle {
    device: Device,
    /// Cosines and sines of each of the model's ropes.
    ropes: Vec<(Tensor, Tensor)>,
    /// The range of KV entries, where it is less than f32's.
    reach: Option<Reach>,
    /// How many numbers were beyond it, on the device.
    saturated: Tensor,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scratch_bytes: u64,
}

/// What [`Candle::new`] allocates for.
pub(crate) struct CandleShape<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layers: usize,
    /// How layers rotate.
    pub(crate) ropes: &'a [RopeSpec],
    pub(crate) positions: usize,
    pub(crate) slots: usize,
    /// Positions of one slot in whole pages.
    pub(crate) slot_positions: usize,
    pub(crate) kv: Dtype,
    /// What the plan counts for activations: candle allocates them itself, as it goes.
    pub(crate) scratch_bytes: u64,
}

impl Candle {
    /// Allocates the KV cache and the tables of sines and cosines.
    pub(crate) fn new(device: Device, shape: &CandleShape<'_>) -> Result<(Self, SlotCaches), EngineError> {
        let config = shape.config;
        let tables = shape.ropes.iter().map(|rope| rope_tables(shape, rope, &device));
        let ropes = tables.collect::<Result<_, EngineError>>()?;
        let dims = (config.kv_heads, shape.slot_positions, config.head_dim);
        let empty = || Tensor::zeros(dims, candle_type(shape.kv), &device);
        let slot = || Ok::<_, candle_core::Error>((empty()?, empty()?));
        let layer = || std::iter::repeat_with(slot).take(shape.slots).collect::<Result<Vec<_>, _>>();
        let layers: Vec<Vec<SlotCache>> = std::iter::repeat_with(layer).take(shape.layers).collect::<Result<_, _>>()?;
        let size = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        let bytes = Bytes(layers.iter().flatten().map(|(k, v)| size(k) + size(v)).sum());
        let saturated = nothing_yet(&device)?;
        let candle = Self {
            reach: reach(shape.kv),
            saturated,
            device,
            ropes,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scratch_bytes: shape.scratch_bytes,
        };
        Ok((candle, SlotCaches { layers, bytes }))
    }

    /// `x` times the transpose of `w`. On the CPU in f32, where candle's bf16 products are slow; elsewhere in the weights' dtype.
    fn matmul(&self, x: &Tensor, w: &Tensor) -> Result<Tensor, EngineError> {
        let ty = if self.device.is_cpu() { DType::F32 } else { w.dtype() };
        let product = x.to_dtype(ty)?.matmul(&w.to_dtype(ty)?.t()?)?;
        Ok(product.to_dtype(DType::F32)?)
    }

    /// Rows within the range of KV entries: numbers beyond it become the greatest of their sign, and are counted; what is no finite
    /// number becomes NaN.
    fn within_reach(&mut self, rows: &Tensor) -> Result<Tensor, EngineError> {
        let Some(Reach { greatest, beyond }) = self.reach else { return Ok(rows.clone()) };
        let sizes = rows.abs()?;
        let saturated = (sizes.ge(beyond)?.to_dtype(DType::F32)? * sizes.le(f32::MAX)?.to_dtype(DType::F32)?)?;
        self.saturated = (&self.saturated + saturated.sum_all()?)?;
        Ok((rows.clamp(-greatest, greatest)? + (rows * 0.0)?)?)
    }

    fn heads_of(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let (rows, columns) = x.dims2()?;
        Ok(x.reshape((rows, columns / self.head_dim, self.head_dim))?)
    }
}

fn nothing_yet(device: &Device) -> Result<Tensor, EngineError> {
    Ok(Tensor::zeros((), DType::F32, device)?)
}

/// Cosines and sines, positions x planes, computed apart from the kernels' table.
fn rope_tables(shape: &CandleShape<'_>, rope: &RopeSpec, device: &Device) -> Result<(Tensor, Tensor), EngineError> {
    let (frequencies, factor) = rope.config.inverse_frequencies(rope.width, shape.config.context);
    let angle = |position: usize| frequencies.iter().map(move |frequency| position as f64 * frequency);
    let table = |of: fn(f64) -> f64| {
        let values: Vec<f32> = (0..shape.positions).flat_map(|p| angle(p).map(|a| (of(a) * factor) as f32)).collect();
        Tensor::from_vec(values, (shape.positions, frequencies.len()), device)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, with: Norm) -> Result<Tensor, EngineError> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let scaled = x.broadcast_div(&(mean + f64::from(with.eps))?.sqrt()?)?;
    let weight = (weight.to_dtype(DType::F32)? + f64::from(with.offset))?;
    Ok(scaled.broadcast_mul(&weight)?)
}

impl Backend for Candle {
    type Weights = DeviceBlock;
    type Rows = Tensor;
    type Kv = SlotCaches;

    fn embed(&mut self, embedding: &DeviceBlock, tokens: &[u32]) -> Result<Activation, EngineError> {
        let ids = Tensor::new(tokens, &self.device)?;
        let rows = embedding.tensor(TensorRole::Embedding).index_select(&ids, 0)?.to_dtype(DType::F32)?;
        let (rows, columns, data) = (rows.dim(0)?, rows.dim(1)?, rows.flatten_all()?.to_vec1()?);
        Ok(Activation { rows, columns, data })
    }

    fn enter(&mut self, activation: &mut Activation) -> Result<Tensor, EngineError> {
        let shape = (activation.rows, activation.columns);
        Ok(Tensor::from_slice(&activation.data, shape, &self.device)?)
    }

    fn leave(&mut self, rows: Tensor, activation: &mut Activation) -> Result<(), EngineError> {
        activation.data = rows.flatten_all()?.to_vec1()?;
        Ok(())
    }

    fn values(&mut self, rows: Tensor) -> Result<Vec<f32>, EngineError> {
        Ok(rows.flatten_all()?.to_vec1()?)
    }

    fn rms_norm(
        &mut self,
        x: &Tensor,
        weights: &DeviceBlock,
        norm: TensorRole,
        with: Norm,
    ) -> Result<Tensor, EngineError> {
        rms_norm(x, weights.tensor(norm), with)
    }

    fn select_rms_norm(
        &mut self,
        activation: &Activation,
        rows: &[usize],
        weights: &DeviceBlock,
        norm: TensorRole,
        with: Norm,
    ) -> Result<Tensor, EngineError> {
        let columns = activation.columns;
        let chosen: Vec<f32> =
            rows.iter().flat_map(|row| &activation.data[row * columns..(row + 1) * columns]).copied().collect();
        let x = Tensor::from_vec(chosen, (rows.len(), columns), &self.device)?;
        rms_norm(&x, weights.tensor(norm), with)
    }

    fn norm_in_place(
        &mut self,
        x: &mut Tensor,
        weights: &DeviceBlock,
        norm: TensorRole,
        with: Norm,
    ) -> Result<(), EngineError> {
        let weight = weights.tensor(norm);
        let ((rows, columns), length) = (x.dims2()?, weight.dim(0)?);
        let normed = rms_norm(&x.reshape((rows, columns / length, length))?, weight, with)?;
        *x = normed.reshape(x.shape())?;
        Ok(())
    }

    fn project<const N: usize>(
        &mut self,
        x: Tensor,
        weights: &DeviceBlock,
        matrices: [TensorRole; N],
    ) -> Result<[Tensor; N], EngineError> {
        let mut out = matrices.map(|_| x.clone());
        for (role, out) in matrices.into_iter().zip(&mut out) {
            *out = self.matmul(&x, weights.tensor(role))?;
            if let Some(bias) = bias_of(role).and_then(|bias| weights.find(bias)) {
                *out = out.broadcast_add(&bias.to_dtype(DType::F32)?)?;
            }
        }
        Ok(out)
    }

    fn rope(&mut self, x: &mut Tensor, _heads: usize, positions: &[u32], rope: usize) -> Result<(), EngineError> {
        let positions = Tensor::new(positions, &self.device)?;
        let (cos, sin) = &self.ropes[rope];
        let half = cos.dim(1)?;
        let cos = cos.index_select(&positions, 0)?.unsqueeze(1)?;
        let sin = sin.index_select(&positions, 0)?.unsqueeze(1)?;
        let heads = self.heads_of(x)?;
        let (low, high) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
        let still = heads.narrow(2, 2 * half, self.head_dim - 2 * half)?;
        let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        let parts = [turned_low, turned_high, still];
        let parts = if 2 * half == self.head_dim { &parts[..2] } else { &parts[..] };
        *x = Tensor::cat(parts, 2)?.reshape(x.shape())?;
        Ok(())
    }

    fn scale(&mut self, x: &mut Tensor, factor: f32) -> Result<(), EngineError> {
        *x = (&*x * f64::from(factor))?;
        Ok(())
    }

    fn store(
        &mut self,
        kv: &mut SlotCaches,
        layer: usize,
        batch: &Batch<'_>,
        k: Tensor,
        v: Tensor,
    ) -> Result<(), EngineError> {
        let (k, v) = (self.within_reach(&k)?, self.within_reach(&v)?);
        let mut row = 0;
        for part in batch.parts {
            let (k_cache, v_cache) = &kv.layers[layer][part.slot as usize];
            for (cache, rows) in [(k_cache, &k), (v_cache, &v)] {
                let rows = self.heads_of(&rows.narrow(0, row, part.count as usize)?.contiguous()?)?;
                let by_head = rows.transpose(0, 1)?.to_dtype(cache.dtype())?.contiguous()?;
                cache.slice_set(&by_head, 1, part.start as usize)?;
            }
            row += part.count as usize;
        }
        Ok(())
    }

    fn attend(
        &mut self,
        kv: &SlotCaches,
        layer: usize,
        batch: &Batch<'_>,
        q: Tensor,
        bounds: AttentionBounds,
        _keeper: Option<&mut RemotePages>,
    ) -> Result<Tensor, EngineError> {
        if batch.remote.iter().any(|pages| *pages > 0) {
            return Err(nobody().into());
        }
        let group = self.heads / self.kv_heads;
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let (mut row, mut out) = (0, Vec::with_capacity(batch.parts.len()));
        for part in batch.parts {
            let (count, length) = (part.count as usize, part.end() as usize);
            let (k, v) = &kv.layers[layer][part.slot as usize];
            let k = k.narrow(1, 0, length)?.to_dtype(DType::F32)?.contiguous()?;
            let v = v.narrow(1, 0, length)?.to_dtype(DType::F32)?.contiguous()?;
            // Heads that share keys become rows of one product.
            let q = self.heads_of(&q.narrow(0, row, count)?.contiguous()?)?.transpose(0, 1)?.contiguous()?;
            let q = q.reshape((self.kv_heads, group * count, self.head_dim))?;
            let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * scale)?;
            let scores = match bounds.soft_cap.map(f64::from) {
                None => scores,
                Some(cap) => ((scores / cap)?.tanh()? * cap)?,
            };
            let mask = self.mask(part.start, count, length, bounds.window)?;
            let scores = scores.reshape((self.heads, count, length))?.broadcast_add(&mask)?;
            let weights = softmax_last_dim(&scores)?.reshape((self.kv_heads, group * count, length))?;
            let attended = weights.matmul(&v)?.reshape((self.heads, count, self.head_dim))?;
            out.push(attended.transpose(0, 1)?.contiguous()?.reshape((count, self.heads * self.head_dim))?);
            row += count;
        }
        Ok(Tensor::cat(&out, 0)?)
    }

    fn gated(&mut self, f: Gate, gate: Tensor, up: Tensor) -> Result<Tensor, EngineError> {
        let gate = match f {
            Gate::Silu => gate.silu()?,
            Gate::GeluTanh => gate.gelu()?,
        };
        Ok((gate * up)?)
    }

    fn scores(
        &mut self,
        x: &Tensor,
        weights: &DeviceBlock,
        matrix: TensorRole,
        look: impl FnOnce(&[f32]),
    ) -> Result<(), EngineError> {
        look(&self.matmul(x, weights.tensor(matrix))?.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    fn row_count(&self, x: &Tensor) -> Result<usize, EngineError> {
        Ok(x.dim(0)?)
    }

    fn copy(&mut self, x: &Tensor) -> Result<Tensor, EngineError> {
        Ok(x.clone())
    }

    fn zeros(&mut self, x: &Tensor) -> Result<Tensor, EngineError> {
        Ok(x.zeros_like()?)
    }

    fn gather(&mut self, x: &Tensor, routes: &[Route]) -> Result<Tensor, EngineError> {
        Ok(x.index_select(&self.rows_of(routes)?, 0)?)
    }

    fn add_weighted(&mut self, sum: &mut Tensor, y: Tensor, routes: &[Route]) -> Result<(), EngineError> {
        let weights: Vec<f32> = routes.iter().map(|route| route.weight).collect();
        let weights = Tensor::from_vec(weights, (routes.len(), 1), &self.device)?;
        *sum = sum.index_add(&self.rows_of(routes)?, &y.broadcast_mul(&weights)?, 0)?;
        Ok(())
    }

    fn done_with(&mut self, _x: Tensor) {}

    fn soft_cap(&mut self, cap: f32, logits: &mut [f32]) {
        logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
    }

    fn add_rounded(&mut self, x: &mut Tensor, y: Tensor, dtype: Dtype) -> Result<(), EngineError> {
        *x = (&*x + y)?.to_dtype(candle_type(dtype))?.to_dtype(DType::F32)?;
        Ok(())
    }

    fn logits(
        &mut self,
        x: Tensor,
        weights: &DeviceBlock,
        matrix: TensorRole,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let logits: Vec<f32> = self.matmul(&x, weights.tensor(matrix))?.flatten_all()?.to_vec1()?;
        out.copy_from_slice(&logits);
        Ok(())
    }

    fn take_saturated(&mut self) -> Result<u64, EngineError> {
        if self.reach.is_none() {
            return Ok(0);
        }
        let counted = std::mem::replace(&mut self.saturated, nothing_yet(&self.device)?);
        Ok(counted.to_scalar::<f32>()? as u64)
    }

    fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }
}

impl Candle {
    /// Which rows `routes` are of.
    fn rows_of(&self, routes: &[Route]) -> Result<Tensor, EngineError> {
        let rows: Vec<u32> = routes.iter().map(|route| route.row).collect();
        Ok(Tensor::new(rows, &self.device)?)
    }

    /// Zero where a row may look, minus infinity after its own position and before its window.
    fn mask(&self, start: u32, count: usize, length: usize, window: Option<usize>) -> Result<Tensor, EngineError> {
        let start = start as usize;
        let allowed = |row: usize, position: usize| {
            let own = start + row;
            let seen = position <= own && window.is_none_or(|window| own - position < window);
            if seen { 0.0 } else { f32::NEG_INFINITY }
        };
        let mask: Vec<f32> = (0..count).flat_map(|row| (0..length).map(move |p| allowed(row, p))).collect();
        Ok(Tensor::from_vec(mask, (1, count, length), &self.device)?)
    }
}
