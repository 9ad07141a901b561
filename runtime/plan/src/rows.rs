//! The rows of a pass: which positions of which sequences.

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
    pub const fn end(&self) -> u64 {
        self.start as u64 + self.count as u64
    }
}

/// Consecutive rows of one sequence whose first KV pages are on another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptRows {
    /// The sequence's KV slot.
    pub slot: u32,
    /// How many of its first pages are elsewhere.
    pub pages: u32,
    /// How many rows.
    pub count: u32,
}
