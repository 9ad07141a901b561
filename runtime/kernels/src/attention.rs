//! Attention over paged KV: checks, and the split into tasks.
//!
//! A task is a run of query rows over the same pages, for one KV head: a page's keys and values are converted once
//! for all query heads of all those rows. Each row and head is computed in the canonical order whatever its company.
//!
//! That order is page after page, each merged into what the pages before it came to. So the first pages of a sequence can be
//! computed elsewhere: [`Kernels::attention_state`] says where a row's heads stand after them, and
//! [`Kernels::attention_after`] goes on from there with the same bits as if nothing had been apart.

use crate::attention_rows::{AttentionArgs, AttentionBefore, Leave, Out, attention_state_floats};
use crate::kernels::Kernels;
use crate::pages::PagesTask;
use crate::scratch;
use crate::simd::{Typed, run};

impl Kernels {
    /// Attention of every row over its sequence's KV entries: `out` is rows x heads x head_dim.
    ///
    /// # Panics
    /// When the lengths do not fit, or a row names pages that it lacks or that lie outside the storage.
    pub fn attention(&self, a: &AttentionArgs<'_>, out: &mut [f32]) {
        assert_eq!(out.len(), a.q.len(), "output of attention");
        self.attend(a, None, Leave::Attention, out);
    }

    /// The same for rows of whose sequences the first pages are `before`, where [`Kernels::attention_state`] was computed.
    ///
    /// # Panics
    /// As [`Kernels::attention`]; when a row has no page here.
    pub fn attention_after(&self, a: &AttentionArgs<'_>, before: AttentionBefore<'_>, out: &mut [f32]) {
        assert_eq!(out.len(), a.q.len(), "output of attention");
        self.attend(a, Some(before), Leave::Attention, out);
    }

    /// Where every row stands after its entries up to its position, [`attention_state_floats`] for each.
    ///
    /// # Panics
    /// As [`Kernels::attention`].
    pub fn attention_state(&self, a: &AttentionArgs<'_>, state: &mut [f32]) {
        let floats = a.rows.len().checked_mul(attention_state_floats(a.heads, a.layout.head_dim));
        assert_eq!(Some(state.len()), floats, "state of attention");
        self.attend(a, None, Leave::State, state);
    }

    /// `out` is as long as `leave` asks for.
    fn attend(&self, a: &AttentionArgs<'_>, before: Option<AttentionBefore<'_>>, leave: Leave, out: &mut [f32]) {
        a.check(before);
        let runs = a.runs(before);
        let out = Out(out.as_mut_ptr());
        let kv_heads = a.layout.kv_heads;
        self.pool().run(runs.len() * kv_heads, |task| {
            let out = &out;
            let run_of_rows = runs[task / kv_heads];
            scratch::with(PagesTask::scratch(a, run_of_rows), |scratch| {
                let kv_head = task % kv_heads;
                let task = PagesTask { a, before, run: run_of_rows, kv_head, leave, out: *out, scratch };
                // SAFETY: `isa` is available; every length has been checked; tasks differ in rows or KV head.
                unsafe { run(self.isa(), Typed(a.layout.ty, task)) };
            });
        });
    }
}
