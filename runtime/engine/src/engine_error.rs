//! What can go wrong in a device's part of a pass, and while it loads.

use std::{io, path::PathBuf};

use lime_kernels::BufferError;
use lime_plan::{Block, Bytes, PlanError};
use thiserror::Error;

use lime_model::ModelError;

/// A fault that names the thing. A pass that failed left the KV cache as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model's files.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The plan breaks a rule.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan was made for another model.
    #[error("the plan is for another model than {}: {what} is {planned} in the plan, {found} in the folder; plan again", path.display())]
    OtherModel {
        /// The folder.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the plan.
        planned: String,
        /// In the folder.
        found: String,
    },
    /// The plan names fewer devices.
    #[error("the plan has {devices} devices, device {device} was to be loaded")]
    Device {
        /// The index asked for.
        device: u32,
        /// Number of devices.
        devices: usize,
    },
    /// The plan counts less memory than its own passes take.
    #[error(
        "device {device:?} takes {needed} for weights, KV cache and activations, the plan counts {planned}: plan again with this build"
    )]
    Uncounted {
        /// The device.
        device: String,
        /// What would be allocated.
        needed: Bytes,
        /// What the plan says.
        planned: Bytes,
    },
    /// A block is to be streamed by arithmetic that cannot.
    #[error(
        "the plan streams {block}; candle arithmetic keeps every block in memory: plan with exact arithmetic, more memory or more devices"
    )]
    Streamed {
        /// The block.
        block: Block,
    },
    /// The model computes in a way that this build does not.
    #[error("{block} asks for {what}, which this build does not compute")]
    NotComputed {
        /// Where.
        block: Block,
        /// What it asks for.
        what: String,
    },
    /// A device is to make room by steps, in arithmetic that cannot.
    #[error(
        "the plan has steps by which device {device:?} makes room; candle arithmetic keeps every block and the whole KV cache: plan \
         with exact arithmetic"
    )]
    StepsCandle {
        /// The device.
        device: String,
    },
    /// A GPU was named for arithmetic that does not run on one.
    #[error(
        "the worker was started for GPU {gpu}, and the plan has exact arithmetic, which runs on CPUs: plan with candle arithmetic, or \
         start the worker without --gpu"
    )]
    GpuExact {
        /// The GPU.
        gpu: usize,
    },
    /// Weights are to be compact, and arithmetic cannot compute with such.
    #[error(
        "the plan has compact weights; candle arithmetic takes raw ones: plan with exact arithmetic or raw weights"
    )]
    CompactCandle,
    /// Weights are stored in a format that arithmetic cannot compute with.
    #[error("the model has weights in {format}; candle arithmetic takes bf16, f16 and f32: plan with exact arithmetic")]
    CandleFormat {
        /// The format.
        format: lime_plan::Format,
    },
    /// Weights are to be compact, and there is no weight store in which they are.
    #[error(
        "the plan has compact weights, and there is no weight store to make them in: start the worker with --store"
    )]
    CompactWithoutStore,
    /// A block is to be streamed, and there is nothing to stream it from.
    #[error("the plan streams {block}, and there is no weight store to read it from: start the worker with --store")]
    NoStore {
        /// The block.
        block: Block,
    },
    /// A block is not in the weight store, or not whole.
    #[error("{block} is not in the weight store as it should be: {source}")]
    NotStored {
        /// The block.
        block: Block,
        /// What the store says.
        source: io::Error,
    },
    /// The buffer for streamed blocks is smaller than one of them.
    #[error(
        "the plan gives streamed blocks a buffer of {planned}, {block} alone takes {needed}: plan again with this build"
    )]
    Prefetch {
        /// The largest block.
        block: Block,
        /// Its size.
        needed: Bytes,
        /// What the plan counts.
        planned: Bytes,
    },
    /// A streamed or stored block could not be read.
    #[error("cannot read {block} from {}: {source}", path.display())]
    Stream {
        /// The block.
        block: Block,
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A streamed block has no room beside what its own pass holds.
    #[error("the buffer for streamed blocks has no room for {block} beside what the same step uses: plan a larger one")]
    Stuck {
        /// The block.
        block: Block,
    },
    /// KV pages that would not fit, whatever else gives way.
    #[error(
        "the KV cache would take {needed}, the memory that is left has room for {room}: try again when others need less"
    )]
    NoRoom {
        /// What the pass needs.
        needed: Bytes,
        /// What fits with every step of the plan taken.
        room: Bytes,
    },
    /// The device that keeps KV pages for this one.
    #[error("KV pages on another device: {0}")]
    Keeper(#[from] crate::keeper::KeeperError),
    /// Threads for reading could not be started.
    #[error("cannot start a thread that reads weights: {0}")]
    Threads(io::Error),
    /// Memory could not be had.
    #[error(transparent)]
    Memory(#[from] BufferError),
    /// A weights file could not be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Bytes of a tensor could not be read.
    #[error("cannot read tensor {tensor:?} of {} at offset {offset}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where in the file.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// A weights file became shorter than its header says.
    #[error("{} ends at offset {offset}, in the middle of tensor {tensor:?}: the file is truncated or being written", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where the file ended.
        offset: u64,
    },
    /// A block that this device does not hold was needed.
    #[error("{block} is not on this device")]
    NotHere {
        /// The block.
        block: Block,
    },
    /// A segment that the plan does not have.
    #[error("segment {segment} of a plan of {segments}")]
    Segment {
        /// The segment asked for.
        segment: u32,
        /// Segments of the plan.
        segments: u32,
    },
    /// Too many rows at once, or none.
    #[error("a pass of {rows} rows: the plan allows 1 to {most}")]
    Rows {
        /// Rows of the pass.
        rows: usize,
        /// What the buffers hold.
        most: usize,
    },
    /// An activation that does not fit the pass or the model.
    #[error(
        "an activation of {rows} rows of {columns} elements where {expected_rows} of {expected_columns} were expected"
    )]
    Activation {
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// Rows of the pass.
        expected_rows: usize,
        /// Width of the residual stream.
        expected_columns: usize,
    },
    /// A row index beyond the activation.
    #[error("row {row} of an activation of {rows} rows")]
    Row {
        /// The index asked for.
        row: usize,
        /// Rows that there are.
        rows: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// A slot beyond the plan's.
    #[error("slot {slot}: the plan has {slots}")]
    Slot {
        /// The slot asked for.
        slot: u32,
        /// Slots of the plan.
        slots: usize,
    },
    /// Rows that do not continue their sequence.
    #[error("slot {slot}: rows start at position {start}, the sequence continues at {expected}")]
    OutOfOrder {
        /// The slot.
        slot: u32,
        /// Where the rows start.
        start: u32,
        /// Where they should.
        expected: u32,
    },
    /// Rows within a page that other sequences have as well, or that is kept.
    #[error("slot {slot}: rows from position {start} would overwrite a page that others have as well")]
    Shared {
        /// The slot.
        slot: u32,
        /// Where the rows start.
        start: u32,
    },
    /// A sequence that was to begin behind a page that is not kept here.
    #[error("slot {slot} was to begin behind page {page}, which is not kept here")]
    NotKept {
        /// The slot.
        slot: u32,
        /// The page's number.
        page: u64,
    },
    /// A sequence longer than the plan's context.
    #[error("slot {slot}: {length} positions, the plan's context has {most}")]
    ContextFull {
        /// The slot.
        slot: u32,
        /// Positions that the sequence would have.
        length: u64,
        /// Positions that it may have.
        most: u32,
    },
    /// Bytes or elements that are not the activation that they should be.
    #[error("{found} {unit} are not an activation of {rows} rows of {columns} elements")]
    Wire {
        /// Rows announced.
        rows: usize,
        /// Columns announced.
        columns: usize,
        /// Of what there were `found`.
        unit: &'static str,
        /// How many there were.
        found: usize,
    },
    /// candle refused an operation.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}
