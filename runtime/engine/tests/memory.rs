//! The engine takes exactly the memory that the plan counts: KV pages when they are needed (exact arithmetic), everything
//! else when it is loaded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{MIXTURES, Ring, TINY, UNLIKE, Wish, bundled};
use lime_engine::EngineOptions;
use lime_plan::{Arithmetic, Bytes, DeviceMemory, Dtype, ServingLimits};

#[test]
fn pages_are_of_one_size() {
    assert_eq!(lime_plan::KV_PAGE_TOKENS as usize, lime_kernels::KV_PAGE_TOKENS);
}

#[test]
fn plans_count_what_engines_take() {
    let limits = [(64, 1, 1), (65, 3, 16), (200, 8, 130)];
    let limits = limits.map(|(max_context_tokens, max_concurrent_requests, prefill_chunk_tokens)| ServingLimits {
        max_context_tokens,
        max_concurrent_requests,
        prefill_chunk_tokens,
    });
    for name in TINY.into_iter().chain(["bard-2m"]).chain(UNLIKE).chain(MIXTURES) {
        let folder = bundled(name);
        for (devices, segments, cut_layers) in
            [(1, 1, false), (2, 1, false), (3, 2, false), (4, 3, false), (3, 1, true), (2, 4, true)]
        {
            for serving in limits {
                for arithmetic in [Arithmetic::Exact, Arithmetic::Candle] {
                    for (head, kv, residual) in [(0, Dtype::Bf16, Dtype::F32), (devices - 1, Dtype::F32, Dtype::F16)] {
                        let wish = Wish { devices, segments, head, arithmetic, kv, residual, serving, cut_layers };
                        let ring = Ring::load(&folder, wish.plan(&folder), EngineOptions::default());
                        for (engine, device) in ring.engines.iter().zip(&ring.plan.devices) {
                            // candle's backend takes its KV cache whole.
                            let kv = if arithmetic == Arithmetic::Exact { Bytes::ZERO } else { device.memory.kv };
                            let at_rest = DeviceMemory { kv, ..device.memory };
                            assert_eq!(
                                engine.memory(),
                                at_rest,
                                "{name} {devices} {segments} {cut_layers} {serving:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The largest pass that the plan allows runs in the buffers that it counts (a debug assertion watches the shelf), and the longest
/// sequences in every slot take exactly its KV pages.
#[test]
fn the_largest_pass_fits() {
    let serving = ServingLimits { max_context_tokens: 100, max_concurrent_requests: 3, prefill_chunk_tokens: 97 };
    for name in TINY.into_iter().chain(UNLIKE).chain(MIXTURES) {
        let folder = bundled(name);
        let vocabulary = folder.config().vocabulary as u32;
        let mut ring = Ring::plain(&folder, Wish { serving, ..Wish::golden(&folder) }, 1);
        let tokens: Vec<u32> = (0..100).map(|token| 5 + token % (vocabulary - 5)).collect();
        for slot in 0..3 {
            let logits = ring.feed(slot, 0, &tokens, 100);
            assert!(logits.iter().all(|logit| logit.is_finite()));
        }
        for (engine, device) in ring.engines.iter().zip(&ring.plan.devices) {
            assert_eq!(engine.memory(), device.memory, "{name}");
        }
    }
}
