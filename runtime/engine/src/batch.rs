//! A pass that has been checked: its rows with their KV pages.

use lime_kernels::AttentionRow;
use lime_plan::BatchRows;

/// A pass that has been checked: positions and KV pages of every row.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// The parts, in the order of their rows.
    pub(crate) parts: &'a [BatchRows],
    /// The position of each row.
    pub(crate) positions: Vec<u32>,
    /// Position and pages of each row's sequence.
    pub(crate) rows: Vec<AttentionRow<'a>>,
    /// For each part how many of its sequence's first pages are on another device.
    pub(crate) remote: Vec<u32>,
}
