//! A made-up file with a format for every tensor: each of them serves, and the bits are the same however the work is cut.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, path::Path};

use common::{Ring, Wish, WrittenBlocks, bits, isas, streamed};
use half::f16;
use lime_engine::{EngineOptions, WeightSource};
use lime_kernels::format_bytes;
use lime_model::ModelFolder;
use lime_plan::{Dtype, Format, ServingLimits};

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
        lime_kernels::encode(dtype.into(), &values, &mut bytes);
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

/// Layers whose projections take activations as bytes, as lanes in either order, and as several of these at once.
fn tensors() -> Vec<(String, Format, usize, usize)> {
    use Format::{Bf16, F16, F32, Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let mut all = vec![
        ("token_embd".to_owned(), Q6K, VOCABULARY, HIDDEN),
        ("output_norm".to_owned(), F32, 1, HIDDEN),
        ("output".to_owned(), Q5K, VOCABULARY, HIDDEN),
    ];
    let formats = [
        [Q4K, Q5K, Q6K, Q4_1, Q5_0, Q5_1, Q4K],
        [Q8_0, Bf16, Q4_0, Q4_0, F16, Bf16, Q6K],
        [Q2K, Q3K, Iq4Nl, Iq4Xs, Mxfp4, Q3K, Q2K],
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

fn write(path: &Path) {
    let counts = [
        ("block_count", 3),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", INNER),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("context_length", 256),
        ("vocab_size", VOCABULARY),
    ];
    let tensors = tensors();
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

fn answer(ring: &mut Ring, slot: u32, chunk: usize) -> Vec<Vec<u32>> {
    let prompt: Vec<u32> = (0..70).map(|index| index * 37 % 64).collect();
    let mut steps = vec![bits(&ring.feed(slot, 0, &prompt, chunk))];
    for position in 70..73 {
        steps.push(bits(&ring.feed(slot, position, &[position % 64], 1)));
    }
    steps
}

#[test]
fn every_format_serves_with_the_same_bits_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed.gguf");
    write(&path);
    let folder = ModelFolder::open(&path).unwrap();
    let serving = ServingLimits { max_context_tokens: 80, max_concurrent_requests: 4, prefill_chunk_tokens: 70 };
    let wish = Wish { serving, kv: Dtype::F16, ..Wish::golden(&folder) };
    let expected = answer(&mut Ring::plain(&folder, wish, 1), 0, 70);
    let logits: Vec<f32> = expected.iter().flatten().map(|logit| f32::from_bits(*logit)).collect();
    assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|logit| logit.abs() > 1e-3));
    for options in isas().flat_map(|options| (1..=2).map(move |threads| EngineOptions { threads, ..options })) {
        let mut ring = Ring::load(&folder, wish.plan(&folder), options);
        for (slot, chunk) in [(0, 70), (2, 9), (3, 1)] {
            assert_eq!(answer(&mut ring, slot, chunk), expected, "{options:?} chunks of {chunk}");
        }
    }
    for (devices, segments, head) in [(2, 1, 1), (1, 2, 0)] {
        let mut ring = Ring::plain(&folder, Wish { devices, segments, head, ..wish }, 1);
        assert_eq!(answer(&mut ring, 1, 33), expected, "{devices} devices, {segments} segments");
    }
    let source = WeightSource::stored(&folder, WrittenBlocks::write(&folder));
    let plan = streamed(Wish { devices: 2, ..wish }.plan(&folder), |_| true, 0.0);
    assert_eq!(answer(&mut Ring::load(source, plan, EngineOptions::default()), 0, 20), expected, "streamed");
}
