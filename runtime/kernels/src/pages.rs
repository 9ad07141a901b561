//! The inner part of attention: a run of query rows, one KV head, page after page.

use std::ops::Range;

use lime_plan::Dtype;

use crate::attention_rows::{AttentionArgs, AttentionBefore, Leave, Out, Run};
use crate::kv::KV_PAGE_TOKENS;
use crate::lanes::{BLOCK, HALF};
use crate::math::{capped, exp, exp1};
use crate::scratch::cut;
use crate::simd::{Element, Simd, TypedTask, load_tail};

/// The query heads of one KV head for a run of rows.
pub(crate) struct PagesTask<'a> {
    pub(crate) a: &'a AttentionArgs<'a>,
    /// First pages that were computed elsewhere.
    pub(crate) before: Option<AttentionBefore<'a>>,
    pub(crate) run: Run,
    pub(crate) kv_head: usize,
    /// What `out` is made of.
    pub(crate) leave: Leave,
    pub(crate) out: Out,
    /// [`PagesTask::scratch`] floats.
    pub(crate) scratch: &'a mut [f32],
}

/// The scratch, cut up. Vectors of a head are in lane order: per block 16 `first`, then 16 `second` lanes.
struct Vectors<'a> {
    /// Elements of a head, padded to whole blocks.
    width: usize,
    /// Query vectors.
    q: &'a mut [f32],
    /// Keys and values of the page at hand.
    keys: &'a mut [f32],
    values: &'a mut [f32],
    /// Scores, then weights, of two queries over the page at hand.
    scores: &'a mut [f32],
    /// Sixteen unfinished dot products for each of two queries.
    lanes: &'a mut [f32],
    /// For every query: the weighted values so far, the greatest score, the sum of weights.
    acc: &'a mut [f32],
    max: &'a mut [f32],
    sum: &'a mut [f32],
}

impl TypedTask for PagesTask<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, E: Element>(self) {
        let Self { a, before, run, kv_head, leave, out, scratch } = self;
        let width = a.layout.head_dim.next_multiple_of(BLOCK);
        let queries = (run.end - run.first) * a.group();
        let mut rest = scratch;
        let mut work = Vectors {
            width,
            q: cut(&mut rest, queries * width),
            keys: cut(&mut rest, KV_PAGE_TOKENS * width),
            values: cut(&mut rest, KV_PAGE_TOKENS * width),
            scores: cut(&mut rest, 2 * KV_PAGE_TOKENS),
            lanes: cut(&mut rest, 2 * HALF * HALF),
            acc: cut(&mut rest, queries * width),
            max: cut(&mut rest, queries),
            sum: cut(&mut rest, queries),
        };
        let heads = Heads { a, before, run, kv_head };
        heads.load_queries(E::TYPE, &mut work);
        heads.load_state(E::TYPE, &mut work);
        // SAFETY: passed on to the caller.
        unsafe {
            heads.all_pages::<S, E>(&mut work);
            match leave {
                Leave::Attention => heads.finish(E::TYPE, &work, out),
                Leave::State => heads.leave_state(E::TYPE, &work, out),
            }
        }
    }
}

impl PagesTask<'_> {
    /// Floats of scratch that a task takes.
    pub(crate) fn scratch(a: &AttentionArgs<'_>, run: Run) -> usize {
        let width = a.layout.head_dim.next_multiple_of(BLOCK);
        let queries = (run.end - run.first) * a.group();
        queries * (2 * width + 2) + 2 * KV_PAGE_TOKENS * (width + 1) + 2 * HALF * HALF
    }
}

struct Heads<'a> {
    a: &'a AttentionArgs<'a>,
    before: Option<AttentionBefore<'a>>,
    run: Run,
    kv_head: usize,
}

impl Heads<'_> {
    /// Where the head of query `query` begins in `q` and `out`.
    fn head_at(&self, query: usize) -> usize {
        let group = self.a.group();
        let row = self.run.first + query / group;
        let head = self.kv_head * group + query % group;
        (row * self.a.heads + head) * self.a.layout.head_dim
    }

    fn load_queries(&self, ty: Dtype, work: &mut Vectors<'_>) {
        let head_dim = self.a.layout.head_dim;
        work.q.fill(0.0);
        for (query, lanes) in work.q.chunks_exact_mut(work.width).enumerate() {
            let head = &self.a.q[self.head_at(query)..][..head_dim];
            for (d, &value) in head.iter().enumerate() {
                lanes[lane_of(ty, d)] = value;
            }
        }
    }

    /// Where the state of query `query` begins, among states of [`crate::attention_state_floats`].
    fn state_at(&self, query: usize) -> usize {
        let head_dim = self.a.layout.head_dim;
        self.head_at(query) / head_dim * (2 + head_dim)
    }

    /// Pages of this run's rows that were computed elsewhere.
    fn elsewhere(&self) -> usize {
        self.before.map_or(0, |before| before.pages[self.run.first] as usize)
    }

    /// Takes up what the pages elsewhere came to.
    fn load_state(&self, ty: Dtype, work: &mut Vectors<'_>) {
        let Some(before) = self.before.filter(|_| self.elsewhere() > 0) else { return };
        let head_dim = self.a.layout.head_dim;
        work.acc.fill(0.0);
        for (query, acc) in work.acc.chunks_exact_mut(work.width).enumerate() {
            let state = &before.state[self.state_at(query)..][..2 + head_dim];
            (work.max[query], work.sum[query]) = (state[0], state[1]);
            for (d, &value) in state[2..].iter().enumerate() {
                acc[lane_of(ty, d)] = value;
            }
        }
    }

    #[inline(always)]
    unsafe fn all_pages<S: Simd, E: Element>(&self, work: &mut Vectors<'_>) {
        let group = self.a.group();
        let bounds = self.a.bounds;
        let rows = &self.a.rows[self.run.first..self.run.end];
        let longest = &self.a.rows[self.run.longest];
        let positions = longest.position as usize + 1;
        // Pages before every row's window are not looked at.
        let first = rows.iter().map(|row| bounds.first(row.position as usize)).min().unwrap_or(0) / KV_PAGE_TOKENS;
        let skipped = self.elsewhere().max(first);
        for (page, start) in (0..positions).step_by(KV_PAGE_TOKENS).enumerate().skip(skipped) {
            let filled = (positions - start).min(KV_PAGE_TOKENS);
            // SAFETY: `AttentionArgs::check` has seen the pages of every row; queries and counts are in range.
            unsafe {
                self.load_page::<S, E>(longest.pages[page] as usize, filled, work);
                for (index, row) in rows.iter().enumerate() {
                    let position = row.position as usize;
                    let first = bounds.first(position);
                    if position < start || first >= start + KV_PAGE_TOKENS {
                        continue;
                    }
                    let keys = first.saturating_sub(start)..(position + 1 - start).min(KV_PAGE_TOKENS);
                    let first_page = page == first / KV_PAGE_TOKENS;
                    for query in (index * group..(index + 1) * group).step_by(2) {
                        let pair = (query + 1 < (index + 1) * group) as usize;
                        scores::<S>(work, [query, query + pair], &keys, self.a.scale, bounds.soft_cap);
                        for slot in 0..=pair {
                            let (max, sum) = weights::<S>(work, slot);
                            merge::<S>(work, slot, query + slot, keys.end, max, sum, first_page);
                        }
                    }
                }
            }
        }
    }

    /// Converts the first `filled` keys and values of a page to f32 in lane order.
    #[inline(always)]
    unsafe fn load_page<S: Simd, E: Element>(&self, page: usize, filled: usize, work: &mut Vectors<'_>) {
        let layout = &self.a.layout;
        let entry = layout.head_dim * E::TYPE.size() as usize;
        let start = page * layout.page_bytes() + layout.head_offset(self.a.layer, self.kv_head);
        let keys = &self.a.storage[start..][..filled * entry];
        let values = &self.a.storage[start + layout.plane_bytes()..][..filled * entry];
        // SAFETY: the slices above hold `filled` heads, the planes of `work` hold a page of them.
        unsafe {
            load_plane::<S, E>(keys, layout.head_dim, work.keys, work.width);
            load_plane::<S, E>(values, layout.head_dim, work.values, work.width);
        }
    }

    #[inline(always)]
    unsafe fn finish(&self, ty: Dtype, work: &Vectors<'_>, out: Out) {
        for (query, acc) in work.acc.chunks_exact(work.width).enumerate() {
            let (at, sum) = (self.head_at(query), work.sum[query]);
            for d in 0..self.a.layout.head_dim {
                // SAFETY: `out` is as long as `q`, in which the head lies; no other task has this head.
                unsafe { *out.0.add(at + d) = acc[lane_of(ty, d)] / sum };
            }
        }
    }

    #[inline(always)]
    unsafe fn leave_state(&self, ty: Dtype, work: &Vectors<'_>, out: Out) {
        for (query, acc) in work.acc.chunks_exact(work.width).enumerate() {
            let at = self.state_at(query);
            // SAFETY: `out` has `2 + head_dim` floats for each head of `q`; no other task has this head.
            unsafe {
                *out.0.add(at) = work.max[query];
                *out.0.add(at + 1) = work.sum[query];
                for d in 0..self.a.layout.head_dim {
                    *out.0.add(at + 2 + d) = acc[lane_of(ty, d)];
                }
            }
        }
    }
}

/// Where element `d` of a head stands in lane order.
#[inline(always)]
fn lane_of(ty: Dtype, d: usize) -> usize {
    match ty {
        Dtype::Bf16 => d / BLOCK * BLOCK + d % 2 * HALF + d % BLOCK / 2,
        Dtype::F16 | Dtype::F32 => d,
    }
}

#[inline(always)]
unsafe fn load_plane<S: Simd, E: Element>(bytes: &[u8], head_dim: usize, plane: &mut [f32], width: usize) {
    let entry = head_dim * E::TYPE.size() as usize;
    let (blocks, tail) = (head_dim / BLOCK, head_dim % BLOCK);
    debug_assert!(bytes.len() / entry * width <= plane.len());
    // SAFETY: every pointer stays in its entry of `bytes` or in its row of `plane`.
    unsafe {
        for (row, entry) in bytes.chunks_exact(entry).enumerate() {
            let (mut from, mut to) = (entry.as_ptr(), plane.as_mut_ptr().add(row * width));
            for _ in 0..blocks {
                let (first, second) = E::load_block::<S>(from);
                S::store(to, first);
                S::store(to.add(HALF), second);
                (from, to) = (from.add(BLOCK * E::TYPE.size() as usize), to.add(BLOCK));
            }
            if tail > 0 {
                let (first, second) = load_tail::<S, E>(from, tail);
                S::store(to, first);
                S::store(to.add(HALF), second);
            }
        }
    }
}

/// Scores of two queries (perhaps the same) over `seen` keys of the page; minus infinity for the others.
#[inline(always)]
unsafe fn scores<S: Simd>(
    work: &mut Vectors<'_>,
    queries: [usize; 2],
    seen: &Range<usize>,
    scale: f32,
    soft_cap: Option<f32>,
) {
    let width = work.width;
    // SAFETY: chunks of sixteen keys lie in the page of 64; queries are in range; every plane is `width` wide.
    unsafe {
        let q = [work.q.as_ptr().add(queries[0] * width), work.q.as_ptr().add(queries[1] * width)];
        let lanes = work.lanes.as_mut_ptr();
        for chunk in (0..seen.end).step_by(HALF) {
            for key in (0..HALF).step_by(2) {
                let k = work.keys.as_ptr().add((chunk + key) * width);
                pairs::<S>(q, [k, k.add(width)], width, lanes.add(key * HALF));
            }
            for slot in 0..2 {
                let mut scores = S::mul(S::sums(lanes.add(slot * HALF * HALF)), S::splat(scale));
                if let Some(cap) = soft_cap {
                    scores = capped::<S>(scores, cap);
                }
                S::store(work.scores.as_mut_ptr().add(slot * KV_PAGE_TOKENS + chunk), scores);
            }
        }
    }
    for slot in work.scores.chunks_exact_mut(KV_PAGE_TOKENS) {
        slot[..seen.start].fill(f32::NEG_INFINITY);
        slot[seen.end..].fill(f32::NEG_INFINITY);
    }
}

/// Unfinished dot products (`first + second`) of two queries and two keys, into their rows of `lanes`.
#[inline(always)]
unsafe fn pairs<S: Simd>(q: [*const f32; 2], k: [*const f32; 2], width: usize, lanes: *mut f32) {
    // SAFETY: the vectors are `width` long, a multiple of 32; `lanes` has a row of 16 for each pair.
    unsafe {
        let zero = S::splat(0.0);
        let mut halves = [[[zero; 2]; 2]; 2];
        for (half, acc) in halves.iter_mut().enumerate() {
            let mut at = half * HALF;
            while at < width {
                let (q0, q1) = (S::load(q[0].add(at)), S::load(q[1].add(at)));
                let (k0, k1) = (S::load(k[0].add(at)), S::load(k[1].add(at)));
                acc[0][0] = S::fma(q0, k0, acc[0][0]);
                acc[0][1] = S::fma(q0, k1, acc[0][1]);
                acc[1][0] = S::fma(q1, k0, acc[1][0]);
                acc[1][1] = S::fma(q1, k1, acc[1][1]);
                at += BLOCK;
            }
        }
        let [first, second] = halves;
        for query in 0..2 {
            for key in 0..2 {
                let to = lanes.add((query * HALF + key) * HALF);
                S::store(to, S::add(first[query][key], second[query][key]));
            }
        }
    }
}

/// Turns the scores of `slot` into weights; their greatest score and their sum.
#[inline(always)]
unsafe fn weights<S: Simd>(work: &mut Vectors<'_>, slot: usize) -> (f32, f32) {
    let scores = &mut work.scores[slot * KV_PAGE_TOKENS..][..KV_PAGE_TOKENS];
    let max = scores.iter().fold(f32::NEG_INFINITY, |max, &s| if max < s { s } else { max });
    // SAFETY: chunks of sixteen.
    unsafe {
        let mut sum = S::splat(0.0);
        for chunk in scores.chunks_exact_mut(HALF) {
            let p = exp::<S>(S::sub(S::load(chunk.as_ptr()), S::splat(max)));
            S::store(chunk.as_mut_ptr(), p);
            sum = S::add(sum, p);
        }
        (max, S::sum(sum))
    }
}

/// Adds the weighted values of the page to what query `query` has so far.
#[inline(always)]
unsafe fn merge<S: Simd>(
    work: &mut Vectors<'_>,
    slot: usize,
    query: usize,
    count: usize,
    max: f32,
    sum: f32,
    first_page: bool,
) {
    let (old, new) = if first_page {
        (0.0, 1.0)
    } else {
        let greatest = if work.max[query] < max { max } else { work.max[query] };
        (exp1(work.max[query] - greatest), exp1(max - greatest))
    };
    if first_page {
        (work.max[query], work.sum[query]) = (max, sum);
    } else {
        if work.max[query] < max {
            work.max[query] = max;
        }
        work.sum[query] = sum.mul_add(new, work.sum[query] * old);
    }
    let p = &work.scores[slot * KV_PAGE_TOKENS..][..count];
    let acc = &mut work.acc[query * work.width..][..work.width];
    // SAFETY: columns of `width`, a multiple of 32, in planes `width` wide; `count <= 64` rows.
    unsafe {
        let mut at = 0;
        while at + 2 * BLOCK <= work.width {
            columns::<S, 4>(p, work.values.as_ptr().add(at), work.width, &mut acc[at..], old, new, first_page);
            at += 2 * BLOCK;
        }
        if at < work.width {
            columns::<S, 2>(p, work.values.as_ptr().add(at), work.width, &mut acc[at..], old, new, first_page);
        }
    }
}

/// `N` vectors of columns of the weighted sum of values, merged into `acc`.
#[inline(always)]
unsafe fn columns<S: Simd, const N: usize>(
    p: &[f32],
    values: *const f32,
    width: usize,
    acc: &mut [f32],
    old: f32,
    new: f32,
    first_page: bool,
) {
    debug_assert!(acc.len() >= N * HALF);
    // SAFETY: the caller's plane has a row for every weight; `acc` has `N` vectors.
    unsafe {
        let mut page = [S::splat(0.0); N];
        for (j, &p) in p.iter().enumerate() {
            let p = S::splat(p);
            for (i, page) in page.iter_mut().enumerate() {
                *page = S::fma(p, S::load(values.add(j * width + i * HALF)), *page);
            }
        }
        for (i, page) in page.into_iter().enumerate() {
            let to = acc.as_mut_ptr().add(i * HALF);
            let merged =
                if first_page { page } else { S::fma(page, S::splat(new), S::mul(S::load(to), S::splat(old))) };
            S::store(to, merged);
        }
    }
}
