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
    /// The first of which the file has the name counts.
    pub(crate) places: Vec<Place>,
    pub(crate) order: RowOrder,
}

/// A stored tensor, in which another may lie.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// The stored tensor's shape.
    pub(crate) shape: Vec<usize>,
    /// Where in it the tensor begins, in rows of its last dimension.
    pub(crate) first_row: usize,
}

impl Place {
    fn whole(name: String, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_owned(), first_row: 0 }
    }
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
        let order = match role {
            TensorRole::Q | TensorRole::K if page.neighbours_rotate => RowOrder::Pairs { head_dim: config.head_dim },
            _ => RowOrder::Same,
        };
        let mut places: Vec<Place> = names.into_iter().map(|name| Place::whole(name, shape)).collect();
        places.extend(stacked(config, block, role));
        if let Some((within, together)) = page.fused.iter().find(|(_, together)| together.contains(&role)) {
            let rows = |roles: &[TensorRole]| roles.iter().map(|role| rows_of(config, *role)).sum();
            let before = together.iter().position(|held| *held == role).unwrap_or(0);
            places = vec![Place {
                name: format!("model.layers.{}.{within}", layer_of(block)),
                shape: vec![rows(together), config.hidden],
                first_row: rows(&together[..before]),
            }];
        }
        Self { places, order }
    }
}

/// Tensors that hold the matrices of all experts of a layer.
fn stacked(config: &ModelConfig, block: Block, role: TensorRole) -> Vec<Place> {
    let (hidden, inner) = (config.hidden, config.intermediate);
    let experts = config.spec.layers[0].mlp.mixture.map_or(0, |mixture| mixture.experts);
    let page = &Family::page(config.architecture).tensors.experts;
    let place = |name: &str, [rows, columns]: [usize; 2], first_row: usize| Place {
        name: format!("model.layers.{}.{name}", layer_of(block)),
        shape: vec![experts, rows, columns],
        first_row,
    };
    let [both, down] = page.stacked;
    // One after the other, as a family's own files and transformers have them, and apart, as GGUF files do.
    match role {
        TensorRole::ExpertGate(expert) => vec![
            place(both, [2 * inner, hidden], usize::from(expert) * 2 * inner),
            place(STACKED[0], [inner, hidden], usize::from(expert) * inner),
        ],
        TensorRole::ExpertUp(expert) => vec![
            place(both, [2 * inner, hidden], (usize::from(expert) * 2 + 1) * inner),
            place(STACKED[1], [inner, hidden], usize::from(expert) * inner),
        ],
        TensorRole::ExpertDown(expert) => {
            [down, STACKED[2]].map(|name| place(name, [hidden, inner], usize::from(expert) * hidden)).into()
        }
        _ => Vec::new(),
    }
}

/// Gate, up and down of all experts, each in a tensor.
pub(crate) const STACKED: [&str; 3] =
    ["mlp.experts.gate_proj.weight", "mlp.experts.up_proj.weight", "mlp.experts.down_proj.weight"];

/// Rows of a projection that takes the residual stream.
fn rows_of(config: &ModelConfig, role: TensorRole) -> usize {
    // In a mixture, of the expert that every row goes through.
    let shared = config.spec.layers[0].mlp.mixture.and_then(|mixture| mixture.shared);
    match role {
        TensorRole::Q => config.q_width(),
        TensorRole::K | TensorRole::V => config.kv_width(),
        _ => shared.map_or(config.intermediate, |shared| shared.width),
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
