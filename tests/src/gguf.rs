//! A minimal GGUF writer (version 3), so that peers can be measured on the very weights that LIME runs.
//! Form: the GGUF specification of the ggml project.

use std::io::{self, Write};

use crate::synthetic::Shape;

const ALIGNMENT: usize = 32;
const TYPE_U32: u32 = 4;
const TYPE_F32: u32 = 6;
const TYPE_STRING: u32 = 8;
const GGML_F32: u32 = 0;
const GGML_BF16: u32 = 30;

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn entry(out: &mut Vec<u8>, key: &str, kind: u32, value: &[u8]) {
    string(out, key);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(value);
}

/// Writes a Llama of this shape without a vocabulary: projections in bf16, norms in f32 as converters write them.
pub(crate) fn write_llama(shape: &Shape, out: &mut impl Write) -> io::Result<()> {
    let tensors = shape.tensors();
    let text = |value: &str| {
        let mut bytes = Vec::new();
        string(&mut bytes, value);
        bytes
    };
    let (architecture, no_vocabulary) = (text("llama"), text("no_vocab"));
    let number = |value: usize| (value as u32).to_le_bytes().to_vec();
    let pairs: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", TYPE_STRING, architecture),
        ("tokenizer.ggml.model", TYPE_STRING, no_vocabulary),
        ("llama.vocab_size", TYPE_U32, number(shape.vocabulary)),
        ("llama.context_length", TYPE_U32, number(shape.context)),
        ("llama.embedding_length", TYPE_U32, number(shape.hidden)),
        ("llama.block_count", TYPE_U32, number(shape.layers)),
        ("llama.feed_forward_length", TYPE_U32, number(shape.intermediate)),
        ("llama.rope.dimension_count", TYPE_U32, number(shape.head_dim)),
        ("llama.attention.head_count", TYPE_U32, number(shape.heads)),
        ("llama.attention.head_count_kv", TYPE_U32, number(shape.kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", TYPE_F32, 1e-5f32.to_le_bytes().to_vec()),
        ("llama.rope.freq_base", TYPE_F32, 10_000f32.to_le_bytes().to_vec()),
        ("general.alignment", TYPE_U32, number(ALIGNMENT)),
    ];
    let mut head = b"GGUF".to_vec();
    head.extend_from_slice(&3u32.to_le_bytes());
    head.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    head.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for (key, kind, value) in &pairs {
        entry(&mut head, key, *kind, value);
    }
    let mut offset = 0usize;
    for tensor in &tensors {
        string(&mut head, &tensor.ggml);
        let dims: &[usize] = if tensor.is_norm() { &[tensor.columns] } else { &[tensor.columns, tensor.rows] };
        head.extend_from_slice(&(dims.len() as u32).to_le_bytes());
        for dim in dims {
            head.extend_from_slice(&(*dim as u64).to_le_bytes());
        }
        let (kind, size) = if tensor.is_norm() { (GGML_F32, 4) } else { (GGML_BF16, 2) };
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&(offset as u64).to_le_bytes());
        offset += (tensor.elements() * size).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&head)?;
    for (index, tensor) in tensors.iter().enumerate() {
        let written = if tensor.is_norm() {
            out.write_all(&1f32.to_le_bytes().repeat(tensor.elements()))?;
            tensor.elements() * 4
        } else {
            tensor.write_bf16(index as u64 + 1, out)?;
            tensor.elements() * 2
        };
        out.write_all(&vec![0; written.next_multiple_of(ALIGNMENT) - written])?;
    }
    Ok(())
}
