//! Under which names a family's files hold the tensors, in which part of a larger one, and in which order of rows.

use lime_plan::{Architecture, Block};

use crate::{ModelConfig, TensorRole};

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

pub(crate) const OUTPUT_NAME: &str = "lm_head.weight";

/// The names of the embedding in the files of a family.
pub(crate) fn embedding_names(architecture: Architecture) -> Vec<String> {
    names(architecture, TensorRole::Embedding, Block::Embedding)
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
        let whole = Self { names, shape: shape.to_owned(), first_row: 0, order: RowOrder::Same };
        match config.architecture {
            Architecture::Phi3 => whole.fused(config, block, role),
            Architecture::Ernie45 if matches!(role, TensorRole::Q | TensorRole::K) => {
                Self { order: RowOrder::Pairs { head_dim: config.head_dim }, ..whole }
            }
            _ => whole,
        }
    }

    /// Phi-3 has q, k and v in one tensor, and gate and up in another.
    fn fused(self, config: &ModelConfig, block: Block, role: TensorRole) -> Self {
        let (q, kv, inner) = (config.q_width(), config.kv_width(), config.intermediate);
        let (within, rows, first_row) = match role {
            TensorRole::Q => ("self_attn.qkv_proj.weight", q + 2 * kv, 0),
            TensorRole::K => ("self_attn.qkv_proj.weight", q + 2 * kv, q),
            TensorRole::V => ("self_attn.qkv_proj.weight", q + 2 * kv, q + kv),
            TensorRole::Gate => ("mlp.gate_up_proj.weight", 2 * inner, 0),
            TensorRole::Up => ("mlp.gate_up_proj.weight", 2 * inner, inner),
            _ => return self,
        };
        let names = vec![format!("model.layers.{}.{within}", layer_of(block))];
        Self { names, shape: vec![rows, config.hidden], first_row, ..self }
    }
}

fn names(architecture: Architecture, role: TensorRole, block: Block) -> Vec<String> {
    let usual = role.file_name(block);
    if architecture != Architecture::Exaone {
        return vec![usual];
    }
    let within = match role {
        TensorRole::Embedding => return vec!["transformer.wte.weight".into(), usual],
        TensorRole::FinalNorm => return vec!["transformer.ln_f.weight".into(), usual],
        TensorRole::InputNorm => "ln_1.weight",
        TensorRole::Q => "attn.attention.q_proj.weight",
        TensorRole::K => "attn.attention.k_proj.weight",
        TensorRole::V => "attn.attention.v_proj.weight",
        TensorRole::O => "attn.attention.out_proj.weight",
        TensorRole::PostNorm => "ln_2.weight",
        TensorRole::Gate => "mlp.c_fc_0.weight",
        TensorRole::Up => "mlp.c_fc_1.weight",
        TensorRole::Down => "mlp.c_proj.weight",
        _ => return vec![usual],
    };
    vec![format!("transformer.h.{}.{within}", layer_of(block)), usual]
}

pub(crate) const fn layer_of(block: Block) -> u32 {
    match block {
        Block::Attention(layer) | Block::Mlp(layer) => layer.0,
        Block::Embedding | Block::Head => 0,
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
