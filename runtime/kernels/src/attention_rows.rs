//! What attention works on: query rows with their pages, checked, and cut into runs that share pages.

#[cfg(doc)]
use crate::kernels::Kernels;
use crate::kv::{KV_PAGE_TOKENS, KvLayout};

/// Query vectors of a task, about.
const TASK_QUERIES: usize = 64;

/// One query row.
#[derive(Clone, Copy, Debug)]
pub struct AttentionRow<'a> {
    /// The row attends to positions up to this one, from 0 or its window's first on.
    pub position: u32,
    /// The pages of its sequence in the storage, in order.
    pub pages: &'a [u32],
}

/// Floats that say where one row stands after some of its pages: for each head the greatest score, the sum of weights, and the
/// `head_dim` weighted values, not yet divided by that sum.
pub const fn attention_state_floats(heads: usize, head_dim: usize) -> usize {
    heads * (2 + head_dim)
}

/// First pages of rows that were computed elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBefore<'a> {
    /// For each row how many of its first pages `state` has in it: 0 for a row that begins with its first page. Those entries of
    /// [`AttentionRow::pages`] are not looked at.
    pub pages: &'a [u32],
    /// [`attention_state_floats`] for each row; those of rows without such pages are not looked at.
    pub state: &'a [f32],
}

/// What keeps attention within bounds; in most models nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttentionBounds {
    /// How many positions a row looks back, its own counted; at least one.
    pub window: Option<usize>,
    /// What scores stay under: `cap * tanh(score / cap)`, behind the factor.
    pub soft_cap: Option<f32>,
}

impl AttentionBounds {
    /// The first position that a row at `position` looks at.
    pub(crate) fn first(self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// What [`Kernels::attention`] works on.
#[derive(Clone, Copy, Debug)]
pub struct AttentionArgs<'a> {
    /// Queries: rows x heads x head_dim.
    pub q: &'a [f32],
    /// Query heads; a multiple of the layout's KV heads.
    pub heads: usize,
    /// Layout of the pages.
    pub layout: KvLayout,
    /// The layer whose entries are used.
    pub layer: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// What else becomes of them.
    pub bounds: AttentionBounds,
    /// All pages, one after the other.
    pub storage: &'a [u8],
    /// The query rows.
    pub rows: &'a [AttentionRow<'a>],
}

impl AttentionArgs<'_> {
    /// Query heads that share a KV head.
    pub(crate) const fn group(&self) -> usize {
        self.heads / self.layout.kv_heads
    }

    pub(crate) fn check(&self, before: Option<AttentionBefore<'_>>) {
        let KvLayout { kv_heads, head_dim, layers, ty } = self.layout;
        assert!(kv_heads > 0 && head_dim > 0, "attention without heads");
        assert!(self.heads > 0 && self.heads.is_multiple_of(kv_heads), "{} heads over {kv_heads} KV heads", self.heads);
        assert!(self.layer < layers, "layer {} of {layers}", self.layer);
        let row = self.heads.checked_mul(head_dim).expect("heads x head_dim");
        assert_eq!(Some(self.q.len()), row.checked_mul(self.rows.len()), "queries");
        assert!(self.bounds.window != Some(0), "a window of no position");
        if let Some(before) = before {
            assert!(self.bounds == AttentionBounds::default(), "bounded attention over pages elsewhere");
            assert_eq!(before.pages.len(), self.rows.len(), "rows with pages elsewhere");
            let floats = self.rows.len().checked_mul(attention_state_floats(self.heads, head_dim));
            assert_eq!(Some(before.state.len()), floats, "state of the pages elsewhere");
        }
        let page_bytes = [2, layers, kv_heads, KV_PAGE_TOKENS, ty.size() as usize]
            .iter()
            .try_fold(head_dim, |bytes, &factor| bytes.checked_mul(factor))
            .expect("bytes of a KV page");
        let pages = self.storage.len() / page_bytes;
        for (index, row) in self.rows.iter().enumerate() {
            let needed = row.position as usize / KV_PAGE_TOKENS + 1;
            assert!(row.pages.len() >= needed, "position {} with {} pages", row.position, row.pages.len());
            let elsewhere = before.map_or(0, |before| before.pages[index] as usize);
            assert!(elsewhere < needed, "position {} with {elsewhere} pages elsewhere", row.position);
            for &page in &row.pages[elsewhere..needed] {
                assert!((page as usize) < pages, "page {page} of a storage of {pages}");
            }
        }
    }

    /// Cuts the rows into runs over the same pages, as many of which are elsewhere.
    pub(crate) fn runs(&self, before: Option<AttentionBefore<'_>>) -> Vec<Run> {
        let elsewhere = |row: usize| before.map_or(0, |before| before.pages[row]);
        let most = (TASK_QUERIES / self.group()).max(1);
        let mut runs: Vec<Run> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            match runs.last_mut() {
                // Every row of a run agrees with its longest row, so all agree with each other.
                Some(run)
                    if run.end - run.first < most
                        && elsewhere(run.first) == elsewhere(index)
                        && same_pages(&self.rows[run.longest], row) =>
                {
                    run.end = index + 1;
                    if row.position > self.rows[run.longest].position {
                        run.longest = index;
                    }
                }
                _ => runs.push(Run { first: index, end: index + 1, longest: index }),
            }
        }
        runs
    }
}

/// Rows `first..end`, each of which needs a prefix of the pages of row `longest`.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) longest: usize,
}

/// Whether the pages that both rows need are the same.
fn same_pages(a: &AttentionRow<'_>, b: &AttentionRow<'_>) -> bool {
    let needed = a.position.min(b.position) as usize / KV_PAGE_TOKENS + 1;
    a.pages[..needed] == b.pages[..needed]
}

/// The output, of which every task writes its own heads.
#[derive(Clone, Copy)]
pub(crate) struct Out(pub(crate) *mut f32);

// SAFETY: tasks write disjoint heads.
unsafe impl Sync for Out {}

/// What a task leaves of each row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Attention itself, rows x heads x head_dim.
    Attention,
    /// Where the heads stand, for [`Kernels::attention_after`].
    State,
}
