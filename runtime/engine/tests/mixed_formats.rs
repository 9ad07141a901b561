//! A made-up file with a format for every tensor: each of them serves, and the bits are the same however the work is cut.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Ring, Wish, WrittenBlocks, bits, bundled, isas, streamed};
use lime_engine::{EngineOptions, WeightSource};
use lime_plan::{Dtype, ServingLimits};

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
    let folder = bundled("gguf-mixed");
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
