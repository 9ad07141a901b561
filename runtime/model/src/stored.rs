//! Under which names a family's files hold the tensors, in which part of a larger one, and in which order of rows.

use lime_plan::Block;

use crate::{
    config::ModelConfig,
    family::Family,
    tensor_names::{embedding_names, names},
    tensor_role::{OUTPUT_NAME, TensorRole, layer_of},
};

/// The order of a stored matrix's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As the layout has them.
    Same,
    /// In each head the rows that are rotated together lie together; in the layout they are half a head apart.
    Pairs {
        /// Rows of one head.
        head_dim: usize,
    },
}

/// Bytes that lie together in a file and in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset in the file.
    pub from: u64,
    /// Offset in the tensor as the layout has it.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

/// Where a tensor is looked for.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Its names; the first that is there counts.
    pub(crate) names: Vec<String>,
    /// The stored tensor's shape.
    pub(crate) shape: Vec<usize>,
    /// Where in it the tensor begins.
    pub(crate) first_row: usize,
    pub(crate) order: RowOrder,
}

impl Stored {
    /// Where `role` of `block`, which is of `shape`, is looked for.
    pub(crate) fn of(config: &ModelConfig, block: Block, role: TensorRole, shape: &[usize]) -> Self {
        let mut names = names(config.architecture, role, block);
        if config.tied {
            // One matrix, under either name; where there are both, they are not tied.
            match role {
                TensorRole::Embedding => names.push(OUTPUT_NAME.into()),
                TensorRole::Output => names.splice(0..0, embedding_names(config.architecture)).for_each(drop),
                _ => {}
            }
        }
        let page = &Family::page(config.architecture).tensors;
        let mut stored = Self { names, shape: shape.to_owned(), first_row: 0, order: RowOrder::Same };
        if page.neighbours_rotate && matches!(role, TensorRole::Q | TensorRole::K) {
            stored.order = RowOrder::Pairs { head_dim: config.head_dim };
        }
        let Some((within, together)) = page.fused.iter().find(|(_, together)| together.contains(&role)) else {
            return stored;
        };
        let rows = |roles: &[TensorRole]| roles.iter().map(|role| rows_of(config, *role)).sum();
        let before = together.iter().position(|held| *held == role).unwrap_or(0);
        Self {
            names: vec![format!("model.layers.{}.{within}", layer_of(block))],
            shape: vec![rows(together), config.hidden],
            first_row: rows(&together[..before]),
            ..stored
        }
    }
}

/// Rows of a projection that takes the residual stream.
const fn rows_of(config: &ModelConfig, role: TensorRole) -> usize {
    match role {
        TensorRole::Q => config.q_width(),
        TensorRole::K | TensorRole::V => config.kv_width(),
        _ => config.intermediate,
    }
}

impl RowOrder {
    /// The runs of a matrix of `bytes` in `rows` rows that is stored from `offset` on, in the layout's order.
    pub(crate) fn runs(self, offset: u64, bytes: u64, rows: usize) -> Vec<Run> {
        let Self::Pairs { head_dim } = self else {
            return vec![Run { from: offset, at: 0, bytes }];
        };
        debug_assert!(head_dim.is_multiple_of(2) && rows.is_multiple_of(head_dim), "heads are whole");
        let row_bytes = bytes / rows as u64;
        let run = |row: usize| {
            let (head, within) = (row / head_dim, row % head_dim);
            let (pair, side) = (within % (head_dim / 2), within / (head_dim / 2));
            let stored = head * head_dim + 2 * pair + side;
            Run { from: offset + stored as u64 * row_bytes, at: row as u64 * row_bytes, bytes: row_bytes }
        };
        (0..rows).map(run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_rotated_together_come_half_a_head_apart() {
        let runs = RowOrder::Pairs { head_dim: 4 }.runs(100, 80, 8);
        let from: Vec<u64> = runs.iter().map(|run| (run.from - 100) / 10).collect();
        assert_eq!(from, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert!(runs.iter().enumerate().all(|(row, run)| run.at == row as u64 * 10 && run.bytes == 10));
        assert_eq!(RowOrder::Same.runs(7, 80, 8), [Run { from: 7, at: 0, bytes: 80 }]);
    }
}
