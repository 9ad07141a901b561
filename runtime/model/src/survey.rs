//! Whether a model's weights can be compact: told from samples.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use lime_kernels::Compactor;
use lime_plan::{Block, Encoding, Format, LayerIndex, ModelCard};

use crate::source::{ModelFolder, TensorEntry};

/// Layers that are looked at, spread over the model, the first and the last among them.
const LAYERS: u32 = 3;
/// Bytes of each matrix that are looked at, about.
const SAMPLE: usize = 64 << 10;

/// Fills a buffer from an offset of a tensor's file on.
pub type ReadTensor<'a> = dyn Fn(&TensorEntry, u64, &mut [u8]) -> io::Result<()> + 'a;

impl ModelFolder {
    /// The card, with the sizes of compact blocks where samples of the weights say that they can be compact. A folder without
    /// weights says nothing of them.
    pub fn surveyed_card(&self, name: &str) -> ModelCard {
        let read =
            |tensor: &TensorEntry, from: u64, into: &mut [u8]| File::open(&tensor.file)?.read_exact_at(into, from);
        let compactible = self.is_compactible(&read).unwrap_or(false);
        self.card_knowing(name, compactible)
    }

    /// The card, with the sizes of compact blocks if the weights are known to be `compactible`.
    pub fn card_knowing(&self, name: &str, compactible: bool) -> ModelCard {
        let compact = self.config().compact_blocks().filter(|_| compactible);
        ModelCard { compact, ..self.card(name) }
    }

    /// Whether samples of the weights keep within what the compact form has room for. `read` fills a buffer from an offset of a
    /// tensor's file on.
    ///
    /// # Errors
    /// What `read` says.
    pub fn is_compactible(&self, read: &ReadTensor<'_>) -> io::Result<bool> {
        if !self.config().has_compact_form() {
            return Ok(false);
        }
        let last = self.config().layers as u32 - 1;
        let layers = (0..LAYERS).map(|nth| LayerIndex(nth * last / (LAYERS - 1)));
        let blocks = layers.flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)]);
        for block in blocks.chain([Block::Embedding, Block::Head]) {
            for tensor in self.tensors(block).map_err(io::Error::other)? {
                // Vectors and what is stored otherwise stay raw.
                if let &[rows, columns] = tensor.shape.as_slice()
                    && Encoding::Compact.of(tensor.format) == Format::CompactBf16
                    && !is_sample_compactible(&tensor, rows, columns, read)?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Whether rows from the middle of a matrix can be compact.
fn is_sample_compactible(tensor: &TensorEntry, rows: usize, columns: usize, read: &ReadTensor<'_>) -> io::Result<bool> {
    let row_bytes = columns * 2;
    let sampled = (SAMPLE / row_bytes).clamp(1, rows);
    let mut sample = vec![0; sampled * row_bytes];
    read(tensor, tensor.offset + ((rows - sampled) / 2 * row_bytes) as u64, &mut sample)?;
    let Ok(mut compactor) = Compactor::new(sampled, columns) else { return Ok(false) };
    let mut nowhere = |_: u64, _: &[u8]| Ok(());
    Ok(compactor.push_rows(&sample, &mut nowhere).is_ok() && compactor.finish(&mut nowhere).is_ok())
}
