//! A minimal GGUF writer (version 3), so that peers can be measured on the very weights that LIME runs.
//! Form: the GGUF specification of the ggml project.

use std::io::{self, Write};

use lime_plan::Format;

use crate::{
    quantized::{self, Mix},
    synthetic::Shape,
};

const ALIGNMENT: usize = 32;
const TYPE_U32: u32 = 4;
const TYPE_F32: u32 = 6;
const TYPE_I32: u32 = 5;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn entry(out: &mut Vec<u8>, key: &str, kind: u32, value: &[u8]) {
    string(out, key);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(value);
}

/// An array of `count` values, which `bytes` has one after the other.
fn array(kind: u32, count: usize, bytes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut all = kind.to_le_bytes().to_vec();
    all.extend_from_slice(&(count as u64).to_le_bytes());
    all.extend(bytes);
    all
}

/// A vocabulary that peers can cut any text by: three marks, one token for each byte, and words that no text has.
fn vocabulary(size: usize) -> [(&'static str, u32, Vec<u8>); 3] {
    const MARKS: [&str; 3] = ["<unk>", "<s>", "</s>"];
    let word = |id: usize| match id {
        0..3 => MARKS[id].to_owned(),
        3..259 => format!("<0x{:02X}>", id - 3),
        _ => format!("\u{2581}t{id}"),
    };
    let mut words = Vec::new();
    (0..size).for_each(|id| string(&mut words, &word(id)));
    // Of the SentencePiece kinds: unknown, control, byte, normal.
    let kind = |id: usize| match id {
        0 => 2i32,
        1..3 => 3,
        3..259 => 6,
        _ => 1,
    };
    [
        ("tokenizer.ggml.tokens", TYPE_ARRAY, array(TYPE_STRING, size, words)),
        (
            "tokenizer.ggml.scores",
            TYPE_ARRAY,
            array(TYPE_F32, size, (0..size).flat_map(|id| (-(id as f32)).to_le_bytes())),
        ),
        (
            "tokenizer.ggml.token_type",
            TYPE_ARRAY,
            array(TYPE_I32, size, (0..size).flat_map(|id| kind(id).to_le_bytes())),
        ),
    ]
}

/// Bytes of a matrix.
fn bytes_of(format: Format, rows: usize, columns: usize) -> usize {
    rows * format.row_bytes(columns as u64) as usize
}

/// Writes a Llama of this shape with a made-up vocabulary: projections as `mix` has them, norms in f32 as converters write them.
pub(crate) fn write_llama(shape: &Shape, mix: Mix, out: &mut impl Write) -> io::Result<()> {
    let tensors = shape.tensors();
    let text = |value: &str| {
        let mut bytes = Vec::new();
        string(&mut bytes, value);
        bytes
    };
    let (architecture, tokenizer) = (text("llama"), text("llama"));
    let number = |value: usize| (value as u32).to_le_bytes().to_vec();
    let mut pairs: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", TYPE_STRING, architecture),
        ("tokenizer.ggml.model", TYPE_STRING, tokenizer),
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
    pairs.extend(vocabulary(shape.vocabulary));
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
        let format = mix.format(tensor, shape.layers);
        head.extend_from_slice(&quantized::code(format)?.to_le_bytes());
        head.extend_from_slice(&(offset as u64).to_le_bytes());
        offset += bytes_of(format, tensor.rows, tensor.columns).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&head)?;
    for (index, tensor) in tensors.iter().enumerate() {
        let (format, seed) = (mix.format(tensor, shape.layers), index as u64 + 1);
        match format {
            Format::F32 => out.write_all(&1f32.to_le_bytes().repeat(tensor.elements()))?,
            Format::Bf16 => tensor.write_bf16(seed, out)?,
            quantized => quantized::write(tensor, quantized, seed, out)?,
        }
        let written = bytes_of(format, tensor.rows, tensor.columns);
        out.write_all(&vec![0; written.next_multiple_of(ALIGNMENT) - written])?;
    }
    Ok(())
}
