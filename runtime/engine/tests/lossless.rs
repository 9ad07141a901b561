//! The same bits however the work is cut: chunks, batch mates, threads, instruction sets, devices and segments.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{MIXTURES, QUANTIZED, Ring, TINY, UNLIKE, Wish, bits, bundled, isas};
use lime_engine::EngineOptions;
use lime_model::ModelFolder;
use lime_plan::{Arithmetic, BatchRows, Dtype, ServingLimits};

const SLOTS: u32 = 8;

fn wish(folder: &ModelFolder, residual: Dtype) -> Wish {
    let serving = ServingLimits { max_context_tokens: 140, max_concurrent_requests: SLOTS, prefill_chunk_tokens: 130 };
    Wish { serving, residual, kv: folder.config().dtype(), ..Wish::golden(folder) }
}

fn tokens(seed: u32, count: usize, vocabulary: u32) -> Vec<u32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        3 + (state >> 8) % (vocabulary - 3)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A prompt over two pages and four decode steps: every step's logits.
fn answer(ring: &mut Ring, slot: u32, chunk: usize) -> Vec<Vec<u32>> {
    let prompt = tokens(7, 129, ring.plan.model.vocabulary);
    let mut steps = vec![bits(&ring.feed(slot, 0, &prompt, chunk))];
    for (index, token) in tokens(8, 4, ring.plan.model.vocabulary).into_iter().enumerate() {
        steps.push(bits(&ring.feed(slot, (prompt.len() + index) as u32, &[token], 1)));
    }
    steps
}

/// Of quantized weights `mixed_formats.rs` and `quantized.rs` say the same.
#[test]
fn chunks_threads_and_instruction_sets() {
    for name in TINY.into_iter().chain(["bard-2m"]).chain(UNLIKE).chain(MIXTURES) {
        let folder = bundled(name);
        let wish = wish(&folder, Dtype::F32);
        let expected = answer(&mut Ring::plain(&folder, wish, 1), 0, 130);
        assert!(expected.iter().flatten().all(|logit| f32::from_bits(*logit).is_finite()));
        for options in isas().flat_map(|options| (1..=3).map(move |threads| EngineOptions { threads, ..options })) {
            let mut ring = Ring::load(&folder, wish.plan(&folder), options);
            for (slot, chunk) in [(0, 130), (3, 7), (7, 1)] {
                assert_eq!(answer(&mut ring, slot, chunk), expected, "{name} {options:?} chunks of {chunk}");
            }
        }
    }
}

#[test]
fn devices_and_segments() {
    let quantized = QUANTIZED.map(|name| (name, Dtype::F32));
    let floats = [("bard-2m", Dtype::F32), ("bard-2m", Dtype::Bf16), ("tiny-qwen3-bf16", Dtype::F16)];
    let unlike = UNLIKE.into_iter().chain(MIXTURES).map(|name| (name, Dtype::F32));
    for (name, residual) in floats.into_iter().chain(quantized).chain(unlike) {
        let folder = bundled(name);
        let wish = wish(&folder, residual);
        let expected = answer(&mut Ring::plain(&folder, wish, 1), 0, 130);
        for (devices, segments) in [(2, 1), (1, 3), (3, 2), (5, 2), (2, 4)] {
            for head in 0..devices {
                let mut ring = Ring::plain(&folder, Wish { devices, segments, head, ..wish }, 1);
                assert_eq!(
                    answer(&mut ring, 2, 50),
                    expected,
                    "{name} {devices} devices {segments} segments head {head}"
                );
            }
        }
    }
}

/// Attention and MLP of a layer on two devices, down to rings in which one has all attention and the other every MLP.
#[test]
fn cuts_inside_layers() {
    let floats = [("bard-2m", Dtype::F32), ("bard-2m", Dtype::Bf16), ("tiny-qwen3-bf16", Dtype::F16)];
    let others = QUANTIZED.into_iter().chain(UNLIKE).chain(MIXTURES).map(|name| (name, Dtype::F32));
    for (name, residual) in floats.into_iter().chain(others) {
        let folder = bundled(name);
        let (wish, layers) = (wish(&folder, residual), folder.config().layers as u32);
        let expected = answer(&mut Ring::plain(&folder, wish, 1), 0, 130);
        for (devices, segments) in [(2, layers), (3, 1), (5, 1), (3, 3), (2, 5)] {
            for head in [0, devices - 1] {
                let cut = Wish { devices, segments, head, cut_layers: true, ..wish };
                let mut ring = Ring::plain(&folder, cut, 1);
                assert!(ring.plan.cuts_layers() || (devices, segments) != (2, layers), "{name}");
                assert_eq!(answer(&mut ring, 2, 50), expected, "{name} {devices} devices {segments} segments {head}");
            }
        }
        let mut apart = Ring::plain(&folder, Wish { devices: 2, segments: layers, cut_layers: true, ..wish }, 1);
        assert_eq!(apart.plan.devices.iter().map(|device| device.attentions()).collect::<Vec<_>>(), [layers, 0]);
        // Everything that a sequence may do there: begin anew, follow another, grow row by row.
        assert_eq!(answer(&mut apart, 1, 7), expected);
        assert_eq!(answer(&mut apart, 1, 130), expected);
        apart.engines.iter_mut().for_each(|engine| engine.release(1));
        assert_eq!(answer(&mut apart, 1, 1), expected);
    }
}

/// candle's sums depend on the rows of a pass, but not on who computes them.
#[test]
fn candle_on_like_devices() {
    let folder = bundled("tiny-qwen3-bf16");
    let wish = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder, Dtype::Bf16) };
    let expected = answer(&mut Ring::plain(&folder, wish, 1), 0, 50);
    let mut ring = Ring::plain(&folder, Wish { devices: 3, segments: 2, head: 1, ..wish }, 1);
    assert_eq!(answer(&mut ring, 5, 50), expected);
    let mut cut = Ring::plain(&folder, Wish { devices: 3, segments: 1, head: 1, cut_layers: true, ..wish }, 1);
    assert_eq!(answer(&mut cut, 5, 50), expected);
}

#[test]
fn batch_mates() {
    ["bard-2m"].into_iter().chain(QUANTIZED).chain(UNLIKE).chain(MIXTURES).for_each(among_batch_mates);
}

fn among_batch_mates(name: &str) {
    let folder = bundled(name);
    let wish = wish(&folder, Dtype::F32);
    let prompts: Vec<Vec<u32>> =
        (0..SLOTS).map(|slot| tokens(slot, 3 + 9 * slot as usize, folder.config().vocabulary as u32)).collect();
    let alone: Vec<_> =
        prompts.iter().map(|prompt| bits(&Ring::plain(&folder, wish, 1).feed(0, 0, prompt, 130))).collect();

    // All prompts grow together, five tokens of each a pass, in slots of any order.
    let mut ring = Ring::plain(&folder, Wish { devices: 2, segments: 2, ..wish }, 2);
    let mut last = vec![vec![]; prompts.len()];
    for start in (0..).step_by(5).take_while(|start| prompts.iter().any(|prompt| prompt.len() > *start)) {
        let (mut parts, mut given, mut wanted, mut whose) = (vec![], vec![], vec![], vec![]);
        for (index, prompt) in prompts.iter().enumerate().rev().filter(|(_, prompt)| prompt.len() > start) {
            let chunk = &prompt[start..prompt.len().min(start + 5)];
            given.extend_from_slice(chunk);
            let slot = (index as u32 * 3) % SLOTS;
            parts.push(BatchRows { slot, start: start as u32, count: chunk.len() as u32 });
            wanted.push(given.len() - 1);
            whose.push(index);
        }
        let logits = ring.pass(&parts, &given, &wanted);
        for (index, logits) in whose.into_iter().zip(logits.chunks_exact(folder.config().vocabulary)) {
            last[index] = bits(logits);
        }
    }
    assert_eq!(last, alone, "{name}");
}

/// Rows below what a slot holds forget the rest, and one pass may draw from several rows: guesses that were wrong leave no trace.
#[test]
fn a_sequence_that_is_cut_back_goes_on_as_if_the_rest_had_never_been() {
    for (name, arithmetic) in [
        ("bard-2m", Arithmetic::Exact),
        ("gguf-mixed", Arithmetic::Exact),
        ("tiny-gemma3-bf16", Arithmetic::Exact),
        ("tiny-qwen3-moe-bf16", Arithmetic::Exact),
        ("tiny-qwen3-bf16", Arithmetic::Candle),
        ("tiny-gemma2-bf16", Arithmetic::Candle),
    ] {
        let folder = bundled(name);
        let residual = if arithmetic == Arithmetic::Candle { Dtype::Bf16 } else { Dtype::F32 };
        let wish = Wish { arithmetic, ..wish(&folder, residual) };
        let vocabulary = folder.config().vocabulary as u32;
        let text = tokens(5, 136, vocabulary);
        let mut plain = Ring::plain(&folder, wish, 1);
        // candle's sums depend on the rows of a pass: there each row comes alone.
        let alone = arithmetic == Arithmetic::Candle;
        let chunk = if alone { 1 } else { 130 };
        plain.feed(1, 0, &text[..40], chunk);
        let expected: Vec<_> = (40..136).map(|at| bits(&plain.feed(1, at as u32, &text[at..=at], 1))).collect();
        for (devices, segments) in [(1, 1), (2, 3)] {
            let mut ring = Ring::plain(&folder, Wish { devices, segments, head: devices - 1, ..wish }, 2);
            ring.feed(1, 0, &text[..40], chunk);
            let (mut at, mut guesses) = (40, tokens(9, 500, vocabulary).into_iter());
            while at < 136 {
                // So many rows are right, so many wrong; the wrong ones run over the end of a page now and then.
                let right = (1 + at % 5).min(136 - at);
                let wrong = (at * 7 % 9).min(140 - at - right);
                let mut given = text[at..at + right].to_vec();
                given.extend(guesses.by_ref().take(wrong));
                let count = given.len();
                let rows =
                    |start: usize, count: usize| [BatchRows { slot: 1, start: start as u32, count: count as u32 }];
                let logits = if alone {
                    let each = |row: usize| ring.pass(&rows(at + row, 1), &given[row..=row], &[0]);
                    (0..count).flat_map(each).collect()
                } else {
                    ring.pass(&rows(at, count), &given, &(0..count).collect::<Vec<_>>())
                };
                for (row, logits) in logits.chunks_exact(vocabulary as usize).take(right).enumerate() {
                    assert_eq!(
                        bits(logits),
                        expected[at + row - 40],
                        "{name} {devices} devices, position {}",
                        at + row
                    );
                }
                at += right;
            }
        }
    }
}

#[test]
fn a_slot_can_be_used_again() {
    let folder = bundled("tiny-llama3-bf16");
    let mut ring = Ring::plain(&folder, wish(&folder, Dtype::F32), 1);
    let expected = answer(&mut ring, 0, 130);
    // Begun anew without a word, after a release, and after a reset.
    assert_eq!(answer(&mut ring, 0, 130), expected);
    ring.engines[0].release(0);
    assert_eq!(answer(&mut ring, 1, 130), expected);
    ring.engines[0].reset();
    assert_eq!(answer(&mut ring, 0, 9), expected);
}
