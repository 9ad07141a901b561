//! Whether a model's weights can be compact: told from samples.

use std::{fs::File, os::unix::fs::FileExt as _};

use lime_kernels::Compactor;
use lime_planner::{Block, Dtype, LayerIndex, ModelCard};

use crate::{ModelFolder, TensorEntry};

/// Layers that are looked at, spread over the model.
const LAYERS: u32 = 6;
/// Bytes of each matrix that are looked at, about.
const SAMPLE: usize = 256 << 10;

impl ModelFolder {
    /// The card, with the sizes of compact blocks where samples of the weights say that they can be compact. A folder without
    /// weights says nothing of them.
    pub fn surveyed_card(&self, name: &str) -> ModelCard {
        let card = self.card(name);
        let compact = self.config().compact_blocks().filter(|_| self.is_compactible(&card));
        ModelCard { compact, ..card }
    }

    fn is_compactible(&self, card: &ModelCard) -> bool {
        let layers = (0..card.layers.min(LAYERS)).map(|nth| {
            let spread = u64::from(nth) * u64::from(card.layers) / u64::from(card.layers.min(LAYERS));
            LayerIndex(spread as u32)
        });
        let blocks = layers.flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)]);
        blocks.chain([Block::Embedding, Block::Head]).all(|block| {
            let tensors = self.tensors(block).unwrap_or_default();
            tensors.iter().filter(|tensor| tensor.dtype == Dtype::Bf16).all(is_sample_compactible)
        })
    }
}

/// Whether rows from the middle of a matrix stay within what the form has room for; vectors stay raw.
fn is_sample_compactible(tensor: &TensorEntry) -> bool {
    let &[rows, columns] = tensor.shape.as_slice() else { return true };
    let row_bytes = columns * 2;
    let sampled = (SAMPLE / row_bytes).clamp(1, rows);
    let mut sample = vec![0; sampled * row_bytes];
    let from = tensor.offset + ((rows - sampled) / 2 * row_bytes) as u64;
    let read = File::open(&tensor.file).and_then(|file| file.read_exact_at(&mut sample, from));
    let Ok(mut compactor) = Compactor::new(sampled, columns) else { return false };
    read.is_ok()
        && compactor.push_rows(&sample, &mut |_, _| Ok(())).is_ok()
        && compactor.finish(&mut |_, _| Ok(())).is_ok()
}
