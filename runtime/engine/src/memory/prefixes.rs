//! Pages that are kept for sequences to come. They have only room that nobody else needs: before a step is taken, a page goes elsewhere or a
//! pass is refused they go, the least recently used first, and while a step is in force none is kept.

use lime_plan::{BatchRows, Bytes};

use super::Memory;
use crate::{backend::KvPool, engine_error::EngineError, residency::Blocks};

impl<S: Blocks, P: KvPool> Memory<S, P> {
    /// Keeps pages of `slot` from number `first` on, when it is released and others begin behind them, under `ids`. Those that cannot be
    /// kept are told by [`Memory::take_forgotten`].
    pub(crate) fn keep(&mut self, slot: u32, first: u32, ids: &[u64]) {
        let room = self.kv.pool.is_paged() && !self.is_tight(self.kv_bytes());
        let refused = if room { self.kv.tables.keep(slot, first, ids) } else { ids.to_vec() };
        self.forgotten.extend(refused);
    }

    /// Keeps these pages no more.
    pub(crate) fn forget(&mut self, ids: &[u64]) {
        let idle = ids.iter().filter_map(|id| self.kv.tables.forget(*id)).collect();
        self.give_back(idle);
    }

    /// Begins the sequence of `slot` anew behind the pages kept under `ids`.
    ///
    /// # Errors
    /// Where one of them is not kept here.
    pub(crate) fn begin_behind(&mut self, slot: u32, ids: &[u64]) -> Result<(), EngineError> {
        self.release_remote(slot);
        let mut idle = Vec::new();
        let begun = self.kv.tables.begin_behind(slot, ids, |range| idle.push(range));
        self.give_back(idle);
        begun
    }

    /// Pages that were to be kept and are not, or not any more, since this was asked last.
    pub(crate) fn take_forgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgotten)
    }

    /// Lets kept pages go until `rows` have pages, and what `with` says fits, without a step.
    pub(super) fn forget_before_steps(
        &mut self,
        rows: &[BatchRows],
        with: impl Fn(&Self) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let mut idle = Vec::new();
        while let Some(id) = self.kv.tables.first_to_forget() {
            if self.kv.tables.has_free(rows) && !self.is_tight(with(self)?) {
                break;
            }
            idle.extend(self.kv.tables.forget(id));
            self.forgotten.push(id);
        }
        if !idle.is_empty() {
            self.give_back(idle);
        }
        Ok(())
    }

    /// Whether a KV cache of `kv` needs room that somebody else has, or has it.
    fn is_tight(&self, kv: Bytes) -> bool {
        let fixed = self.kv.pool.fixed();
        let level = self.blocks.level();
        level > 0
            || self.kv.tables.all_remote() > 0
            || (fixed.is_zero() && kv + self.policy.short() > self.blocks.steps().room(0))
    }
}
