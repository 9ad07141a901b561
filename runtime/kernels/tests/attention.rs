//! Attention against plain f64 arithmetic, and against itself: instruction sets, company and threads change no bit.

use lime_kernels::{
    AttentionArgs, AttentionBefore, AttentionBounds, AttentionRow, Isa, KV_PAGE_TOKENS, Kernels, KvLayout,
    attention_state_floats, kv_store, round_to,
};
use lime_plan::Dtype;
use proptest::prelude::*;

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0
        })
        .collect()
}

/// A sequence's keys and values, in pages scattered over a storage.
struct Sequence {
    layout: KvLayout,
    layer: usize,
    bounds: AttentionBounds,
    pages: Vec<u32>,
    storage: Vec<u8>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Sequence {
    fn new(layout: KvLayout, layer: usize, length: usize, seed: u64) -> Self {
        let count = length.div_ceil(KV_PAGE_TOKENS);
        let pages: Vec<u32> = (0..count as u32).rev().map(|page| 2 * page + 1).collect();
        let width = layout.kv_heads * layout.head_dim;
        // What no position has written is NaN: nothing may read it.
        let mut storage = vec![0xff; (2 * count + 1) * layout.page_bytes()];
        let (mut k, mut v) = (noise(seed, length * width), noise(seed + 1, length * width));
        for position in 0..length {
            let page = pages[position / KV_PAGE_TOKENS] as usize;
            let page = &mut storage[page * layout.page_bytes()..][..layout.page_bytes()];
            let range = position * width..(position + 1) * width;
            let beyond = kv_store(&layout, page, layer, position % KV_PAGE_TOKENS, &k[range.clone()], &v[range]);
            assert_eq!(beyond, 0);
        }
        round_to(layout.ty, &mut k);
        round_to(layout.ty, &mut v);
        Self { layout, layer, bounds: AttentionBounds::default(), pages, storage, k, v }
    }

    fn attend(&self, kernels: &Kernels, q: &[f32], heads: usize, positions: &[u32]) -> Vec<f32> {
        let rows: Vec<_> = positions.iter().map(|&position| AttentionRow { position, pages: &self.pages }).collect();
        let mut out = vec![0.0; q.len()];
        let args = AttentionArgs {
            q,
            heads,
            layout: self.layout,
            layer: self.layer,
            scale: 1.0 / (self.layout.head_dim as f32).sqrt(),
            bounds: self.bounds,
            storage: &self.storage,
            rows: &rows,
        };
        kernels.attention(&args, &mut out);
        out
    }

    /// The same with the first `elsewhere` pages computed apart, by another instruction set and from another storage.
    fn attend_apart(
        &self,
        [there, here]: [&Kernels; 2],
        q: &[f32],
        heads: usize,
        positions: &[u32],
        elsewhere: u32,
    ) -> Vec<f32> {
        let (page, head_dim) = (self.layout.page_bytes(), self.layout.head_dim);
        let moved: Vec<u8> = (0..elsewhere as usize)
            .flat_map(|index| &self.storage[self.pages[index] as usize * page..][..page])
            .copied()
            .collect();
        let their_pages: Vec<u32> = (0..elsewhere).collect();
        let last = elsewhere * KV_PAGE_TOKENS as u32 - 1;
        let theirs: Vec<_> = positions.iter().map(|_| AttentionRow { position: last, pages: &their_pages }).collect();
        let mut state = vec![f32::NAN; positions.len() * attention_state_floats(heads, head_dim)];
        let args = AttentionArgs {
            q,
            heads,
            layout: self.layout,
            layer: self.layer,
            scale: 1.0 / (head_dim as f32).sqrt(),
            bounds: self.bounds,
            storage: &moved,
            rows: &theirs,
        };
        there.attention_state(&args, &mut state);

        // What is elsewhere is nowhere here.
        let mut pages = self.pages.clone();
        pages[..elsewhere as usize].fill(u32::MAX);
        let rows: Vec<_> = positions.iter().map(|&position| AttentionRow { position, pages: &pages }).collect();
        let counts = vec![elsewhere; rows.len()];
        let mut out = vec![0.0; q.len()];
        let args = AttentionArgs { storage: &self.storage, rows: &rows, ..args };
        here.attention_after(&args, AttentionBefore { pages: &counts, state: &state }, &mut out);
        out
    }

    fn naive(&self, q: &[f32], heads: usize, positions: &[u32]) -> Vec<f64> {
        let KvLayout { kv_heads, head_dim, .. } = self.layout;
        let entry = |x: &[f32], position: usize, head: usize, d: usize| {
            f64::from(x[(position * kv_heads + head) * head_dim + d])
        };
        let mut out = Vec::new();
        for (row, &position) in positions.iter().enumerate() {
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let q = &q[(row * heads + head) * head_dim..][..head_dim];
                let first = self.bounds.window.map_or(0, |window| (position as usize + 1).saturating_sub(window));
                let weights: Vec<f64> = (0..=position as usize)
                    .map(|j| {
                        let dot: f64 = (0..head_dim).map(|d| f64::from(q[d]) * entry(&self.k, j, kv_head, d)).sum();
                        let score = dot / (head_dim as f64).sqrt();
                        let cap = |cap: f32| f64::from(cap) * (score / f64::from(cap)).tanh();
                        if j < first { 0.0 } else { self.bounds.soft_cap.map_or(score, cap).exp() }
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let sum: f64 = weights.iter().enumerate().map(|(j, w)| w * entry(&self.v, j, kv_head, d)).sum();
                    out.push(sum / total);
                }
            }
        }
        out
    }
}

/// Every way to cut a sequence's pages in two gives the bits of the whole, whoever computes which part.
#[test]
fn pages_computed_elsewhere_change_no_bit() {
    for (case, ty) in Dtype::ALL.into_iter().enumerate() {
        for (head_dim, kv_heads, group, length) in [(33, 2, 3, 300), (64, 1, 5, 257), (8, 3, 1, 128), (128, 2, 4, 140)]
        {
            let layout = KvLayout { ty, kv_heads, head_dim, layers: 2 };
            let sequence = Sequence::new(layout, 1, length, (case * 1000 + length) as u64);
            let heads = kv_heads * group;
            // A prefill chunk over a page's boundary.
            let positions: Vec<u32> = (length as u32 - 9..length as u32).collect();
            let q = noise(length as u64, positions.len() * heads * head_dim);
            let whole = sequence.attend(&Kernels::new(Isa::Scalar, 1), &q, heads, &positions);
            for elsewhere in 1..=positions[0] / KV_PAGE_TOKENS as u32 {
                for (there, here) in
                    Isa::available().into_iter().flat_map(|a| Isa::available().into_iter().map(move |b| (a, b)))
                {
                    let kernels = [&Kernels::new(there, 2), &Kernels::new(here, 1)];
                    let apart = sequence.attend_apart(kernels, &q, heads, &positions, elsewhere);
                    assert_eq!(
                        bits(&apart),
                        bits(&whole),
                        "{ty:?} {head_dim} {elsewhere} pages on {there}, rest on {here}"
                    );
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "position 63 with 1 pages elsewhere")]
fn a_row_has_its_own_page_here() {
    let layout = KvLayout { ty: Dtype::F32, kv_heads: 1, head_dim: 8, layers: 1 };
    let storage = vec![0u8; layout.page_bytes()];
    let rows = [AttentionRow { position: 63, pages: &[0] }];
    let args = AttentionArgs {
        q: &[0.0; 8],
        heads: 1,
        layout,
        layer: 0,
        scale: 1.0,
        bounds: AttentionBounds::default(),
        storage: &storage,
        rows: &rows,
    };
    let before = AttentionBefore { pages: &[1], state: &[0.0; 10] };
    Kernels::new(Isa::Scalar, 1).attention_after(&args, before, &mut [0.0; 8]);
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn near_f64_and_the_same_bits_everywhere(
        ty in proptest::sample::select(&Dtype::ALL[..]),
        head_dim in proptest::sample::select(&[6usize, 8, 32, 33, 64, 80, 96, 128][..]),
        kv_heads in 1usize..3,
        group in 1usize..6,
        length in 1usize..200,
        row_count in 1usize..12,
        threads in 1usize..5,
        window in proptest::option::of(1usize..150),
        soft_cap in proptest::option::of(0.5f32..20.0),
        seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let layout = KvLayout { ty, kv_heads, head_dim, layers: 2 };
        let bounds = AttentionBounds { window, soft_cap };
        let sequence = Sequence { bounds, ..Sequence::new(layout, 1, length, seed) };
        let heads = kv_heads * group;
        let rows = row_count.min(length);
        let positions: Vec<u32> = (length - rows..length).map(|p| p as u32).collect();
        let q = noise(seed + 2, rows * heads * head_dim);
        let expected = sequence.attend(&Kernels::new(Isa::Scalar, 1), &q, heads, &positions);
        for (found, exact) in expected.iter().zip(sequence.naive(&q, heads, &positions)) {
            prop_assert!((f64::from(*found) - exact).abs() < 2e-5, "{found} is not {exact}");
        }
        for isa in Isa::available() {
            let kernels = Kernels::new(isa, threads);
            prop_assert_eq!(bits(&sequence.attend(&kernels, &q, heads, &positions)), bits(&expected), "{}", isa);
            for (row, position) in positions.iter().enumerate() {
                let range = row * heads * head_dim..(row + 1) * heads * head_dim;
                let alone = sequence.attend(&kernels, &q[range.clone()], heads, &[*position]);
                prop_assert_eq!(bits(&alone), bits(&expected[range]), "{} row {} alone", isa, row);
            }
        }
    }
}

#[test]
fn rows_of_different_sequences_with_common_pages_keep_apart() {
    // A short row first, then two longer ones that share its page but not each other's.
    let layout = KvLayout { ty: Dtype::F32, kv_heads: 1, head_dim: 8, layers: 1 };
    let mut storage = vec![0u8; 3 * layout.page_bytes()];
    for (page, bytes) in storage.chunks_exact_mut(layout.page_bytes()).enumerate() {
        for position in 0..KV_PAGE_TOKENS {
            let seed = (page * 64 + position) as u64;
            assert_eq!(kv_store(&layout, bytes, 0, position, &noise(seed + 1, 8), &noise(seed + 1000, 8)), 0);
        }
    }
    let rows = [
        AttentionRow { position: 10, pages: &[0] },
        AttentionRow { position: 70, pages: &[0, 1] },
        AttentionRow { position: 90, pages: &[0, 2] },
    ];
    let q = noise(9, 3 * 16);
    let args = AttentionArgs {
        q: &q,
        heads: 2,
        layout,
        layer: 0,
        scale: 0.5,
        bounds: AttentionBounds::default(),
        storage: &storage,
        rows: &rows,
    };
    let kernels = Kernels::new(Isa::detect(), 1);
    let mut together = vec![0.0; q.len()];
    kernels.attention(&args, &mut together);
    for row in 0..3 {
        let mut alone = vec![0.0; 16];
        let args = AttentionArgs { q: &q[row * 16..][..16], rows: &rows[row..=row], ..args };
        kernels.attention(&args, &mut alone);
        assert_eq!(bits(&alone), bits(&together[row * 16..][..16]), "row {row}");
    }
}

#[test]
#[should_panic(expected = "page 5 of a storage of 1")]
fn a_page_outside_the_storage_panics() {
    let layout = KvLayout { ty: Dtype::F32, kv_heads: 1, head_dim: 8, layers: 1 };
    let storage = vec![0u8; layout.page_bytes()];
    let rows = [AttentionRow { position: 0, pages: &[5] }];
    let args = AttentionArgs {
        q: &[0.0; 8],
        heads: 1,
        layout,
        layer: 0,
        scale: 1.0,
        bounds: AttentionBounds::default(),
        storage: &storage,
        rows: &rows,
    };
    Kernels::new(Isa::Scalar, 1).attention(&args, &mut [0.0; 8]);
}

#[test]
#[should_panic(expected = "position 64 with 1 pages")]
fn a_row_without_its_pages_panics() {
    let layout = KvLayout { ty: Dtype::F32, kv_heads: 1, head_dim: 8, layers: 1 };
    let storage = vec![0u8; layout.page_bytes()];
    let rows = [AttentionRow { position: 64, pages: &[0] }];
    let args = AttentionArgs {
        q: &[0.0; 8],
        heads: 1,
        layout,
        layer: 0,
        scale: 1.0,
        bounds: AttentionBounds::default(),
        storage: &storage,
        rows: &rows,
    };
    Kernels::new(Isa::Scalar, 1).attention(&args, &mut [0.0; 8]);
}

/// Every finite f16 as the value of a sequence of one entry, whose attention it is: subnormals are read as IEEE says.
#[test]
fn every_f16_entry_is_read_exactly() {
    let layout = KvLayout { ty: Dtype::F16, kv_heads: 16, head_dim: 64, layers: 1 };
    let width = layout.kv_heads * layout.head_dim;
    let sequences = (1 << 16) / width;
    let expected: Vec<f32> = (0..=u16::MAX).map(|bits| half::f16::from_bits(bits).to_f32()).collect();
    let mut storage = vec![0; sequences * layout.page_bytes()];
    for (page, entries) in storage.chunks_exact_mut(layout.page_bytes()).zip(expected.chunks(width)) {
        let finite: Vec<f32> = entries.iter().map(|value| if value.is_finite() { *value } else { 1.0 }).collect();
        assert_eq!(kv_store(&layout, page, 0, 0, &vec![1.0; width], &finite), 0);
    }
    let pages: Vec<u32> = (0..sequences as u32).collect();
    let rows: Vec<_> = pages.chunks(1).map(|pages| AttentionRow { position: 0, pages }).collect();
    let q = vec![1.0; sequences * width];
    let args = AttentionArgs {
        q: &q,
        heads: 16,
        layout,
        layer: 0,
        scale: 0.125,
        bounds: AttentionBounds::default(),
        storage: &storage,
        rows: &rows,
    };
    for isa in Isa::available() {
        let mut out = vec![f32::NAN; q.len()];
        Kernels::new(isa, 1).attention(&args, &mut out);
        let wrong = expected.iter().zip(&out).find(|(value, out)| value.is_finite() && value != out);
        assert_eq!(wrong, None, "on {isa}");
    }
}

/// An entry beyond f16's range is the greatest number there is, whatever reads it; the sequence goes on.
#[test]
fn entries_beyond_the_range_poison_nothing() {
    let layout = KvLayout { ty: Dtype::F16, kv_heads: 1, head_dim: 64, layers: 1 };
    let mut storage = vec![0; layout.page_bytes()];
    let (k, mut v) = (noise(1, 64), noise(2, 64));
    (v[3], v[40]) = (1.0e6, -70000.0);
    assert_eq!(kv_store(&layout, &mut storage, 0, 0, &k, &v), 2);
    assert_eq!(kv_store(&layout, &mut storage, 0, 1, &noise(3, 64), &noise(4, 64)), 0);
    let rows = [AttentionRow { position: 1, pages: &[0] }];
    let q = noise(5, 64);
    let args = AttentionArgs {
        q: &q,
        heads: 1,
        layout,
        layer: 0,
        scale: 0.125,
        bounds: AttentionBounds::default(),
        storage: &storage,
        rows: &rows,
    };
    let outputs: Vec<Vec<u32>> = Isa::available()
        .into_iter()
        .map(|isa| {
            let mut out = vec![f32::NAN; 64];
            Kernels::new(isa, 1).attention(&args, &mut out);
            assert!(out.iter().all(|value| value.is_finite() && value.abs() <= 65504.0), "on {isa}: {out:?}");
            out.into_iter().map(f32::to_bits).collect()
        })
        .collect();
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "instruction sets differ");
}
