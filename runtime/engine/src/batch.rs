//! The rows of a pass: which positions of which sequences.

use lime_kernels::AttentionRow;

/// Consecutive positions of one sequence in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRows {
    /// The sequence's KV slot.
    pub slot: u32,
    /// Position of the first row: where the sequence ended, or below. What the slot holds from there on is forgotten; 0 begins it anew.
    pub start: u32,
    /// How many rows.
    pub count: u32,
}

impl BatchRows {
    /// One past the last position.
    pub(crate) const fn end(&self) -> u64 {
        self.start as u64 + self.count as u64
    }
}

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
    pub(crate) elsewhere: Vec<u32>,
}
