//! How much of a model's weights is stored how.

use std::{cmp::Reverse, collections::BTreeMap};

use lime_plan::{Bytes, Format};

use crate::{config::ModelConfig, layout::BlockLayout, tensor_role::TensorRole};

impl ModelConfig {
    /// The formats of the weights with the bytes that each takes, the most first. A head that shares the embedding's matrix counts once.
    pub fn shares(&self) -> Vec<(Format, Bytes)> {
        let mut bytes: BTreeMap<Format, Bytes> = BTreeMap::new();
        for block in self.card("").all_blocks() {
            let entries = BlockLayout::of(self, block).entries.into_iter();
            let own = entries.filter(|entry| !(self.tied && entry.role == TensorRole::Output));
            own.for_each(|entry| *bytes.entry(entry.format).or_default() += Bytes(entry.bytes));
        }
        let mut shares: Vec<(Format, Bytes)> = bytes.into_iter().collect();
        shares.sort_by_key(|(_, bytes)| Reverse(*bytes));
        shares
    }
}
