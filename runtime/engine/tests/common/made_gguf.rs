//! GGUF models of random weights: all of one format, or with another for every tensor.

use std::{
    fs,
    path::{Path, PathBuf},
};

use half::f16;
use lime_kernels::format_bytes;
use lime_plan::Format;

const HIDDEN: usize = 256;
const INNER: usize = 512;
const KV: usize = 128;
const VOCABULARY: usize = 64;

/// ggml's number for a format.
fn code(format: Format) -> u32 {
    match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q4_1 => 3,
        Format::Q5_0 => 6,
        Format::Q5_1 => 7,
        Format::Q8_0 => 8,
        Format::Q4K => 12,
        Format::Q5K => 13,
        Format::Q6K => 14,
        Format::Q2K => 10,
        Format::Q3K => 11,
        Format::Iq4Nl => 20,
        Format::Iq4Xs => 23,
        Format::Mxfp4 => 39,
        Format::Bf16 => 30,
        Format::CompactBf16 => panic!("no file has it"),
    }
}

/// Where a unit has f16 numbers that all its weights are multiplied by.
fn scales(format: Format) -> &'static [usize] {
    match format {
        Format::Q6K => &[208],
        Format::Q2K => &[80, 82],
        Format::Q3K => &[108],
        Format::Mxfp4 => &[],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        _ => &[0],
    }
}

/// Weights of about a sixteenth, whatever the format.
fn weights(format: Format, rows: usize, columns: usize, state: &mut u64) -> Vec<u8> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as u32
    };
    let mut small = |by: f32| (next() % 2001) as f32 / 1000.0 * by - by;
    if let Some(dtype) = format.element() {
        let values: Vec<f32> = (0..rows * columns).map(|_| if rows == 1 { 1.0 } else { small(0.1) }).collect();
        let mut bytes = vec![0; format_bytes(format, rows, columns).unwrap() as usize];
        lime_kernels::encode(dtype, &values, &mut bytes);
        return bytes;
    }
    let mut bytes: Vec<u8> =
        (0..format_bytes(format, rows, columns).unwrap()).map(|_| small(128.0) as i8 as u8).collect();
    // The greatest magnitude of the whole numbers that a scale multiplies.
    let greatest = match format {
        Format::Q8_0 => 128.0,
        Format::Q4K => 63.0 * 15.0,
        Format::Q5K => 63.0 * 31.0,
        Format::Q6K => 128.0 * 32.0,
        Format::Q2K => 15.0 * 3.0,
        Format::Q3K => 32.0 * 4.0,
        Format::Iq4Nl => 127.0,
        Format::Iq4Xs => 127.0 * 32.0,
        _ => 32.0,
    };
    for unit in bytes.chunks_mut(format.unit().unwrap().bytes) {
        if format == Format::Mxfp4 {
            // Its scale is a power of two, and its greatest number six.
            unit[0] = 121 + unit[0] % 3;
        }
        for at in scales(format) {
            unit[*at..at + 2].copy_from_slice(&f16::from_f32(small(0.2) / greatest).to_le_bytes());
        }
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// Layers whose projections are stored as `kind` says. Of the mixed kind they take activations as bytes, as lanes in either order, and as
/// several of these at once.
fn tensors(kind: &str) -> Vec<(String, Format, usize, usize)> {
    use Format::{Bf16, F16, F32, Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let (ends, formats) = match kind {
        "mixed" => (
            [Q6K, Q5K],
            vec![
                [Q4K, Q5K, Q6K, Q4_1, Q5_0, Q5_1, Q4K],
                [Q8_0, Bf16, Q4_0, Q4_0, F16, Bf16, Q6K],
                [Q2K, Q3K, Iq4Nl, Iq4Xs, Mxfp4, Q3K, Q2K],
            ],
        ),
        "q8_0" => ([Q8_0; 2], vec![[Q8_0; 7]; 6]),
        "q4_k" => ([Q4K, Q6K], vec![[Q4K; 7]; 6]),
        other => panic!("no model is of the kind {other:?}"),
    };
    let mut all = vec![
        ("token_embd".to_owned(), ends[0], VOCABULARY, HIDDEN),
        ("output_norm".to_owned(), F32, 1, HIDDEN),
        ("output".to_owned(), ends[1], VOCABULARY, HIDDEN),
    ];
    for (layer, formats) in formats.into_iter().enumerate() {
        let shapes = [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV, HIDDEN),
            ("attn_v", KV, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN),
            ("ffn_down", HIDDEN, INNER),
        ];
        let matrices = shapes.into_iter().zip(formats);
        all.extend(
            matrices.map(|((name, rows, columns), format)| (format!("blk.{layer}.{name}"), format, rows, columns)),
        );
        all.extend(["attn_norm", "ffn_norm"].map(|name| (format!("blk.{layer}.{name}"), F32, 1, HIDDEN)));
    }
    all
}

/// The file, written the first time that anybody asks for it.
pub(crate) fn file(kind: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("made-1-{kind}.gguf"));
    if !path.is_file() {
        let half = path.with_extension(std::process::id().to_string());
        write(&half, kind);
        fs::rename(half, &path).unwrap();
    }
    path
}

fn write(path: &Path, kind: &str) {
    let tensors = tensors(kind);
    let layers = tensors.iter().filter(|(name, ..)| name.ends_with("attn_norm")).count();
    let counts = [
        ("block_count", layers),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", INNER),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("context_length", 256),
        ("vocab_size", VOCABULARY),
    ];
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((counts.len() as u64 + 2).to_le_bytes());
    head.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat());
    for (key, count) in counts {
        head.extend([text(&format!("llama.{key}")), [4u32, count as u32].map(u32::to_le_bytes).concat()].concat());
    }
    let eps = 1e-5f32.to_le_bytes().to_vec();
    head.extend([text("llama.attention.layer_norm_rms_epsilon"), 6u32.to_le_bytes().to_vec(), eps].concat());
    let (mut data, mut state) = (Vec::new(), 7u64);
    for (name, format, rows, columns) in tensors {
        head.extend(text(&format!("{name}.weight")));
        let dims = if rows == 1 { vec![columns] } else { vec![columns, rows] };
        head.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| head.extend((*dim as u64).to_le_bytes()));
        head.extend(code(format).to_le_bytes());
        head.extend((data.len() as u64).to_le_bytes());
        data.extend(weights(format, rows, columns, &mut state));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    head.resize(head.len().next_multiple_of(32), 0);
    fs::write(path, [head, data].concat()).unwrap();
}
