//! The canonical order of `lime-kernels` on buffers of our own: the same bits on every CPU.

use std::{ops::Range, sync::Arc};

use lime_kernels::{
    AlignedBuf, AttentionArgs, AttentionBounds, Gate, Kernels, KvLayout, LinearJob, Operand, PackedRows, RopeTable,
    kv_store, round_to,
};
use lime_plan::{ActivationBytes, Dtype};

use super::{Backend, KvPool, RemotePages, bias_of, nobody};
use crate::{
    activation::Activation, batch::Batch, engine_error::EngineError, keeper::scale, ops::Norm, routes::Route,
    weights::HostBlock,
};
use lime_model::{ModelConfig, RopeSpec, TensorRole};

/// Our kernels and every buffer that they need for the plan's largest pass, allocated once.
pub(crate) struct Exact {
    kernels: Arc<Kernels>,
    /// Intermediate rows that are not in use.
    shelf: Vec<Vec<f32>>,
    /// The rows of a projection, as each operand that its matrices take: more than one is seldom, and of no plan's counting.
    packed: [PackedRows; MOST_OPERANDS],
    vectors: Vec<f32>,
    /// In the order of the model's ropes.
    ropes: Vec<RopeTable>,
    kv_layout: KvLayout,
    /// KV entries beyond their type's range that nobody has heard of.
    saturated: u64,
    hidden: usize,
    head_dim: usize,
    heads: usize,
    scratch_bytes: u64,
}

/// The pool of KV pages, in the kernels' layout. Memory comes to it as pages are used.
pub(crate) struct PagePool {
    bytes: AlignedBuf,
    page: usize,
}

impl KvPool for PagePool {
    fn give_back(&mut self, range: Range<usize>) {
        self.bytes.give_back(range);
    }

    fn is_paged(&self) -> bool {
        true
    }

    fn page(&mut self, page: u32) -> Option<&mut [u8]> {
        Some(&mut self.bytes[page as usize * self.page..][..self.page])
    }
}

/// Kinds of operands that there are.
const MOST_OPERANDS: usize = 3;

/// What [`Exact::new`] allocates for.
pub(crate) struct ExactShape<'a> {
    pub(crate) config: &'a ModelConfig,
    /// Layers on this device.
    pub(crate) layers: usize,
    /// How layers rotate.
    pub(crate) ropes: &'a [RopeSpec],
    /// Positions that RoPE must know.
    pub(crate) positions: usize,
    /// Dtype of KV entries.
    pub(crate) kv: Dtype,
    /// Size of the KV cache.
    pub(crate) kv_bytes: u64,
    /// Sizes of every other buffer.
    pub(crate) bytes: ActivationBytes,
    /// Most rows of a pass.
    pub(crate) most_rows: usize,
}

/// Rows at the front of a buffer from the shelf, or of an activation's own.
pub(crate) struct ExactRows {
    buffer: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl ExactRows {
    fn data(&self) -> &[f32] {
        &self.buffer[..self.rows * self.columns]
    }

    fn data_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.rows * self.columns]
    }
}

impl Exact {
    /// Allocates everything, and the pool of KV pages.
    pub(crate) fn new(kernels: Arc<Kernels>, shape: &ExactShape<'_>) -> Result<(Self, PagePool), EngineError> {
        let ExactShape { config, bytes, .. } = shape;
        let floats = |bytes: lime_plan::Bytes| bytes.0 as usize / size_of::<f32>();
        let buffers = bytes.rows.iter().chain(&bytes.mixture).filter(|size| **size > lime_plan::Bytes::ZERO);
        let shelf: Vec<Vec<f32>> = buffers.map(|size| vec![0.0; floats(*size)]).collect();
        let mut packed = [(); MOST_OPERANDS].map(|()| PackedRows::for_isa(kernels.isa()));
        let packed_columns = floats(bytes.packed) / shape.most_rows.max(1);
        if packed_columns > 0 {
            // Packing the largest rows once takes the memory now, not in a pass.
            let widest = vec![0.0; shape.most_rows * packed_columns];
            packed[0].pack(Operand::Halves, &widest, shape.most_rows, packed_columns);
        }
        let table = |rope: &RopeSpec| {
            let (frequencies, factor) = rope.config.inverse_frequencies(rope.width, config.context);
            RopeTable::new(&frequencies, shape.positions, factor)
        };
        let ropes: Vec<RopeTable> = shape.ropes.iter().filter(|_| shape.layers > 0).map(table).collect();
        let vectors = vec![0.0; floats(bytes.vectors)];
        let rope_bytes: usize = ropes.iter().map(|table| RopeTable::bytes(table.positions(), table.half())).sum();
        let floats: usize = shelf.iter().map(Vec::capacity).sum::<usize>() + vectors.capacity();
        let packed_bytes = PackedRows::bytes(shape.most_rows, packed_columns);
        let kv_layout =
            KvLayout { ty: shape.kv, kv_heads: config.kv_heads, head_dim: config.head_dim, layers: shape.layers };
        let pool = PagePool { bytes: crate::kv::pool(shape.kv_bytes as usize)?, page: kv_layout.page_bytes() };
        let exact = Self {
            kernels,
            shelf,
            packed,
            vectors,
            ropes,
            kv_layout,
            saturated: 0,
            hidden: config.hidden,
            head_dim: config.head_dim,
            heads: config.heads,
            scratch_bytes: (floats * size_of::<f32>() + packed_bytes + rope_bytes) as u64,
        };
        Ok((exact, pool))
    }

    /// The smallest buffer of the shelf that holds the rows.
    fn take(&mut self, rows: usize, columns: usize) -> ExactRows {
        let needed = rows * columns;
        let fits = self.shelf.iter().enumerate().filter(|(_, buffer)| buffer.len() >= needed);
        let buffer = match fits.min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index) {
            Some(index) => self.shelf.swap_remove(index),
            None => {
                debug_assert!(false, "the memory formula forgot rows of {columns} columns");
                vec![0.0; needed]
            }
        };
        ExactRows { buffer, rows, columns }
    }

    fn put_back(&mut self, rows: ExactRows) {
        self.shelf.push(rows.buffer);
    }
}

/// The weights of a norm, and what is added to them, at the front of `into`.
pub(super) fn norm_weights<'a>(weights: &HostBlock, role: TensorRole, with: Norm, into: &'a mut [f32]) -> &'a [f32] {
    let length = weights.vector(role, into).len();
    let weights = &mut into[..length];
    if with.offset != 0.0 {
        weights.iter_mut().for_each(|weight| *weight += with.offset);
    }
    weights
}

impl Backend for Exact {
    type Weights = HostBlock;
    type Rows = ExactRows;
    type Kv = PagePool;

    fn embed(&mut self, embedding: &HostBlock, tokens: &[u32]) -> Result<Activation, EngineError> {
        let matrix = embedding.matrix(TensorRole::Embedding);
        let (rows, columns) = (tokens.len(), self.hidden);
        let mut data = vec![0.0; rows * columns];
        for (token, row) in tokens.iter().zip(data.chunks_exact_mut(columns)) {
            matrix.decode_row(*token as usize, self.kernels.isa(), row);
        }
        Ok(Activation { rows, columns, data })
    }

    fn enter(&mut self, activation: &mut Activation) -> Result<ExactRows, EngineError> {
        let buffer = std::mem::take(&mut activation.data);
        Ok(ExactRows { buffer, rows: activation.rows, columns: activation.columns })
    }

    fn leave(&mut self, rows: ExactRows, activation: &mut Activation) -> Result<(), EngineError> {
        activation.data = rows.buffer;
        Ok(())
    }

    fn values(&mut self, rows: ExactRows) -> Result<Vec<f32>, EngineError> {
        let values = rows.data().to_vec();
        self.put_back(rows);
        Ok(values)
    }

    fn rms_norm(
        &mut self,
        x: &ExactRows,
        weights: &HostBlock,
        norm: TensorRole,
        with: Norm,
    ) -> Result<ExactRows, EngineError> {
        let mut out = self.take(x.rows, x.columns);
        let weight = norm_weights(weights, norm, with, &mut self.vectors);
        self.kernels.rms_norm(x.data(), weight, with.eps, out.data_mut());
        Ok(out)
    }

    fn select_rms_norm(
        &mut self,
        activation: &Activation,
        rows: &[usize],
        weights: &HostBlock,
        norm: TensorRole,
        with: Norm,
    ) -> Result<ExactRows, EngineError> {
        let columns = activation.columns;
        let mut out = self.take(rows.len(), columns);
        let weight = norm_weights(weights, norm, with, &mut self.vectors);
        for (row, out) in rows.iter().zip(out.data_mut().chunks_exact_mut(columns)) {
            let x = &activation.data[row * columns..(row + 1) * columns];
            self.kernels.rms_norm(x, weight, with.eps, out);
        }
        Ok(out)
    }

    fn norm_in_place(
        &mut self,
        x: &mut ExactRows,
        weights: &HostBlock,
        norm: TensorRole,
        with: Norm,
    ) -> Result<(), EngineError> {
        let weight = norm_weights(weights, norm, with, &mut self.vectors);
        self.kernels.rms_norm_in_place(x.data_mut(), weight, with.eps);
        Ok(())
    }

    fn project<const N: usize>(
        &mut self,
        x: ExactRows,
        weights: &HostBlock,
        matrices: [TensorRole; N],
    ) -> Result<[ExactRows; N], EngineError> {
        let rows = x.rows;
        let matrices = matrices.map(|role| (weights.matrix(role), bias_of(role)));
        let mut operands = [None; MOST_OPERANDS];
        for operand in matrices.iter().map(|(matrix, _)| Some(Operand::from(matrix.format()))) {
            let place = operands.iter().take_while(|known| known.is_some() && **known != operand).count();
            if operands[place].is_none() {
                self.packed[place].pack(operand.unwrap_or(Operand::Halves), x.data(), x.rows, x.columns);
                operands[place] = operand;
            }
        }
        self.put_back(x);
        let mut out = matrices.map(|(matrix, _)| self.take(rows, matrix.out_features()));

        let mut rest = self.vectors.as_mut_slice();
        let mut outputs = out.iter_mut();
        let mut jobs = matrices.map(|(w, bias)| {
            let y = outputs.next().map_or(&mut [][..], ExactRows::data_mut);
            let bias = bias.filter(|role| weights.entry(*role).is_some()).map(|role| {
                let (front, back) = std::mem::take(&mut rest).split_at_mut(w.out_features());
                rest = back;
                weights.vector(role, front)
            });
            LinearJob { weights: w, bias, y }
        });
        // Those that take the same operand go together: most often all do.
        let operand = |job: &LinearJob<'_>| Some(Operand::from(job.weights.format()));
        for alike in jobs.chunk_by_mut(|one, other| operand(one) == operand(other)) {
            let place = operands.iter().position(|known| *known == operand(&alike[0])).unwrap_or(0);
            self.kernels.linear_many(alike, &self.packed[place]);
        }
        Ok(out)
    }

    fn rope(&mut self, x: &mut ExactRows, heads: usize, positions: &[u32], rope: usize) -> Result<(), EngineError> {
        self.kernels.rope(x.data_mut(), heads, self.head_dim, positions, &self.ropes[rope]);
        Ok(())
    }

    fn scale(&mut self, x: &mut ExactRows, factor: f32) -> Result<(), EngineError> {
        x.data_mut().iter_mut().for_each(|number| *number *= factor);
        Ok(())
    }

    fn store(
        &mut self,
        kv: &mut PagePool,
        layer: usize,
        batch: &Batch<'_>,
        k: ExactRows,
        v: ExactRows,
    ) -> Result<(), EngineError> {
        let layout = &self.kv_layout;
        let page_bytes = layout.page_bytes();
        let columns = k.columns;
        let entries = k.data().chunks_exact(columns).zip(v.data().chunks_exact(columns));
        for (row, (k, v)) in batch.rows.iter().zip(entries) {
            let position = row.position as usize;
            let page = row.pages[position / lime_kernels::KV_PAGE_TOKENS] as usize;
            let page = &mut kv.bytes[page * page_bytes..(page + 1) * page_bytes];
            let saturated = kv_store(layout, page, layer, position % lime_kernels::KV_PAGE_TOKENS, k, v);
            self.saturated += saturated as u64;
        }
        self.put_back(k);
        self.put_back(v);
        Ok(())
    }

    fn attend(
        &mut self,
        kv: &PagePool,
        layer: usize,
        batch: &Batch<'_>,
        q: ExactRows,
        bounds: AttentionBounds,
        keeper: Option<&mut RemotePages>,
    ) -> Result<ExactRows, EngineError> {
        let mut out = self.take(q.rows, q.columns);
        let args = AttentionArgs {
            q: q.data(),
            heads: self.heads,
            layout: self.kv_layout,
            layer,
            scale: scale(self.head_dim),
            bounds,
            storage: &kv.bytes,
            rows: &batch.rows,
        };
        let mut answered = Ok(());
        if batch.remote.iter().any(|pages| *pages > 0) {
            let asked = keeper.ok_or_else(|| nobody().into());
            match asked.and_then(|remote| remote.ask(layer, batch, &args)) {
                Ok(before) => self.kernels.attention_after(&args, before, out.data_mut()),
                Err(error) => answered = Err(error),
            }
        } else {
            self.kernels.attention(&args, out.data_mut());
        }
        self.put_back(q);
        match answered {
            Ok(()) => Ok(out),
            // The buffers are for the next pass.
            Err(error) => {
                self.put_back(out);
                Err(error)
            }
        }
    }

    fn gated(&mut self, f: Gate, gate: ExactRows, up: ExactRows) -> Result<ExactRows, EngineError> {
        let mut out = self.take(gate.rows, gate.columns);
        self.kernels.gated(f, gate.data(), up.data(), out.data_mut());
        self.put_back(gate);
        self.put_back(up);
        Ok(out)
    }

    fn scores(
        &mut self,
        x: &ExactRows,
        weights: &HostBlock,
        matrix: TensorRole,
        look: impl FnOnce(&[f32]),
    ) -> Result<(), EngineError> {
        let w = weights.matrix(matrix);
        self.packed[0].pack(w.format(), x.data(), x.rows, x.columns);
        let mut out = self.take(x.rows, w.out_features());
        self.kernels.linear(&w, &self.packed[0], None, out.data_mut());
        look(out.data());
        self.put_back(out);
        Ok(())
    }

    fn row_count(&self, x: &ExactRows) -> Result<usize, EngineError> {
        Ok(x.rows)
    }

    fn copy(&mut self, x: &ExactRows) -> Result<ExactRows, EngineError> {
        let mut out = self.take(x.rows, x.columns);
        out.data_mut().copy_from_slice(x.data());
        Ok(out)
    }

    fn zeros(&mut self, x: &ExactRows) -> Result<ExactRows, EngineError> {
        let mut out = self.take(x.rows, x.columns);
        out.data_mut().fill(0.0);
        Ok(out)
    }

    fn gather(&mut self, x: &ExactRows, routes: &[Route]) -> Result<ExactRows, EngineError> {
        let mut out = self.take(routes.len(), x.columns);
        for (route, out) in routes.iter().zip(out.data_mut().chunks_exact_mut(x.columns)) {
            out.copy_from_slice(&x.data()[route.row as usize * x.columns..][..x.columns]);
        }
        Ok(out)
    }

    fn add_weighted(&mut self, sum: &mut ExactRows, y: ExactRows, routes: &[Route]) -> Result<(), EngineError> {
        let columns = sum.columns;
        for (route, y) in routes.iter().zip(y.data().chunks_exact(columns)) {
            let row = &mut sum.data_mut()[route.row as usize * columns..][..columns];
            // A product and a sum, each rounded: the same on every instruction set.
            row.iter_mut().zip(y).for_each(|(sum, y)| *sum += route.weight * y);
        }
        self.put_back(y);
        Ok(())
    }

    fn done_with(&mut self, x: ExactRows) {
        self.put_back(x);
    }

    fn soft_cap(&mut self, cap: f32, logits: &mut [f32]) {
        self.kernels.soft_cap(cap, logits);
    }

    fn add_rounded(&mut self, x: &mut ExactRows, y: ExactRows, dtype: Dtype) -> Result<(), EngineError> {
        self.kernels.add(x.data_mut(), y.data());
        round_to(dtype, x.data_mut());
        self.put_back(y);
        Ok(())
    }

    fn logits(
        &mut self,
        x: ExactRows,
        weights: &HostBlock,
        matrix: TensorRole,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let w = weights.matrix(matrix);
        self.packed[0].pack(w.format(), x.data(), x.rows, x.columns);
        self.put_back(x);
        self.kernels.linear(&w, &self.packed[0], None, out);
        Ok(())
    }

    fn take_saturated(&mut self) -> Result<u64, EngineError> {
        Ok(std::mem::take(&mut self.saturated))
    }

    fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }
}
