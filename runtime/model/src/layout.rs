//! Where each tensor of a block lies, in memory and (by name) in the model's files.

use lime_kernels::format_bytes;
use lime_plan::{Block, Format};

use crate::{
    config::ModelConfig,
    layer_spec::{NormPlace, QkNormWidth},
    tensor_role::TensorRole,
};

/// Tensors start at multiples of this, so that every row load of a kernel is aligned.
pub const TENSOR_ALIGNMENT: u64 = 64;
/// Blocks are padded to multiples of this, so that one block is one direct read into whole pages.
pub const BLOCK_ALIGNMENT: u64 = 4096;

/// A tensor's place in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutEntry {
    /// What it is for.
    pub role: TensorRole,
    /// Offset in the block, a multiple of [`TENSOR_ALIGNMENT`].
    pub offset: u64,
    /// Its size, padding not counted.
    pub bytes: u64,
    /// How it is stored.
    pub format: Format,
    /// `[rows, columns]` of a matrix, `[length]` of a vector.
    pub shape: Vec<usize>,
}

impl LayoutEntry {
    /// Whether it is a matrix of a layer, which are all of one type.
    pub(crate) fn is_layer_matrix(&self) -> bool {
        self.shape.len() == 2
            && !matches!(
                self.role,
                TensorRole::Embedding | TensorRole::Output | TensorRole::Router | TensorRole::SharedRouter
            )
    }

    /// Numbers that it holds.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

/// How a block lies in memory: its tensors in a fixed order, each aligned, the whole padded to pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    /// The tensors in order.
    pub entries: Vec<LayoutEntry>,
    /// Size of the whole, a multiple of [`BLOCK_ALIGNMENT`].
    pub bytes: u64,
}

impl BlockLayout {
    /// The layout of `block` in a model of this shape and encoding. The head carries its matrix even where it is tied.
    pub fn of(config: &ModelConfig, block: Block) -> Self {
        Self::pack(config, block, tensors_of(config, block))
    }

    /// The layout of a head that shares the matrix of an embedding on the same device: the final norm alone.
    pub fn head_beside_embedding(config: &ModelConfig) -> Self {
        Self::pack(config, Block::Head, vec![(TensorRole::FinalNorm, vec![config.hidden])])
    }

    /// The entry for `role`, where the block has one.
    pub fn entry(&self, role: TensorRole) -> Option<&LayoutEntry> {
        // Of many experts the place is known: looking for it would take a decode step's time.
        let expected = match role {
            TensorRole::ExpertGate(expert) => Some(3 * usize::from(expert)),
            TensorRole::ExpertUp(expert) => Some(3 * usize::from(expert) + 1),
            TensorRole::ExpertDown(expert) => Some(3 * usize::from(expert) + 2),
            _ => None,
        };
        let before = || self.entries.iter().take_while(|entry| entry.role != TensorRole::ExpertGate(0)).count();
        let found = expected.and_then(|place| self.entries.get(before() + place)).filter(|entry| entry.role == role);
        found.or_else(|| self.entries.iter().find(|entry| entry.role == role))
    }

    /// Elements of all tensors together.
    pub fn elements(&self) -> u64 {
        self.entries.iter().map(LayoutEntry::elements).sum()
    }

    fn pack(config: &ModelConfig, block: Block, tensors: Vec<(TensorRole, Vec<usize>)>) -> Self {
        let mut end = 0;
        let entries = tensors.into_iter().map(|(role, shape)| {
            let (format, rows, columns) = match *shape.as_slice() {
                [rows, columns] => (config.matrix_format(block, role), rows, columns),
                _ => (config.formats.of(block, role), 1, shape.iter().product()),
            };
            // A format that cannot hold the shape is of a file that does not fit its config, which opening refuses.
            let bytes = format_bytes(format, rows, columns).unwrap_or(0);
            let entry = LayoutEntry { role, offset: end, bytes, format, shape };
            end = (end + entry.bytes).next_multiple_of(TENSOR_ALIGNMENT);
            entry
        });
        let entries = entries.collect();
        Self { entries, bytes: end.next_multiple_of(BLOCK_ALIGNMENT) }
    }
}

/// The norms of a half that there are, of those before and behind its projections.
fn norms(place: NormPlace, [before, behind]: [TensorRole; 2], hidden: usize) -> Vec<(TensorRole, Vec<usize>)> {
    let roles = match place {
        NormPlace::Before => vec![before],
        NormPlace::After => vec![behind],
        NormPlace::Both => vec![before, behind],
    };
    roles.into_iter().map(|role| (role, vec![hidden])).collect()
}

/// The tensors of a block and their shapes, in the order in which they lie in it.
fn tensors_of(config: &ModelConfig, block: Block) -> Vec<(TensorRole, Vec<usize>)> {
    let (hidden, inner) = (config.hidden, config.intermediate);
    let (q, kv) = (config.q_width(), config.kv_width());
    let vocabulary = vec![config.vocabulary, hidden];
    match block {
        Block::Embedding => vec![(TensorRole::Embedding, vocabulary)],
        Block::Attention(layer) => {
            let spec = &config.spec.layer(layer).attention;
            let mut tensors = norms(spec.half.place, [TensorRole::InputNorm, TensorRole::AttentionOutNorm], hidden);
            tensors.extend([
                (TensorRole::Q, vec![q, hidden]),
                (TensorRole::K, vec![kv, hidden]),
                (TensorRole::V, vec![kv, hidden]),
                (TensorRole::O, vec![hidden, q]),
            ]);
            if spec.qkv_bias {
                let biases = [(TensorRole::QBias, q), (TensorRole::KBias, kv), (TensorRole::VBias, kv)];
                tensors.extend(biases.map(|(role, length)| (role, vec![length])));
            }
            if spec.o_bias {
                tensors.push((TensorRole::OBias, vec![hidden]));
            }
            match spec.qk_norm.map(|norm| norm.over) {
                None => {}
                Some(QkNormWidth::Head) => {
                    tensors.extend([TensorRole::QNorm, TensorRole::KNorm].map(|role| (role, vec![config.head_dim])));
                }
                Some(QkNormWidth::Row) => {
                    tensors.extend([(TensorRole::QNorm, vec![q]), (TensorRole::KNorm, vec![kv])]);
                }
            }
            tensors
        }
        Block::Mlp(layer) => {
            let spec = &config.spec.layer(layer).mlp;
            let mut tensors = norms(spec.half.place, [TensorRole::PostNorm, TensorRole::MlpOutNorm], hidden);
            if let Some(mixture) = spec.mixture {
                tensors.push((TensorRole::Router, vec![mixture.experts, hidden]));
                if let Some(shared) = mixture.shared {
                    let (wide, narrow) = (vec![shared.width, hidden], vec![hidden, shared.width]);
                    tensors.extend(shared.scored.then(|| (TensorRole::SharedRouter, vec![1, hidden])));
                    tensors.extend([
                        (TensorRole::Gate, wide.clone()),
                        (TensorRole::Up, wide),
                        (TensorRole::Down, narrow),
                    ]);
                }
                // There are no more than are believed.
                for expert in 0..mixture.experts as u16 {
                    tensors.extend([
                        (TensorRole::ExpertGate(expert), vec![inner, hidden]),
                        (TensorRole::ExpertUp(expert), vec![inner, hidden]),
                        (TensorRole::ExpertDown(expert), vec![hidden, inner]),
                    ]);
                }
                return tensors;
            }
            tensors.extend([
                (TensorRole::Gate, vec![inner, hidden]),
                (TensorRole::Up, vec![inner, hidden]),
                (TensorRole::Down, vec![hidden, inner]),
            ]);
            if spec.bias {
                let biases =
                    [(TensorRole::GateBias, inner), (TensorRole::UpBias, inner), (TensorRole::DownBias, hidden)];
                tensors.extend(biases.map(|(role, length)| (role, vec![length])));
            }
            tensors
        }
        Block::Head => vec![(TensorRole::FinalNorm, vec![hidden]), (TensorRole::Output, vocabulary)],
    }
}
