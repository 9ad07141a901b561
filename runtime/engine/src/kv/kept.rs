//! Pages that stay when their sequence ends, under numbers that whoever drives the ring gives them: a sequence that begins with the
//! same tokens begins behind them. They are full and never written again, and a slot has them as it has its own.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use lime_kernels::KV_PAGE_TOKENS;
use lime_plan::BatchRows;

use super::{KvTables, REMOTE, pages_for};
use crate::engine_error::EngineError;

/// What is kept, and in which order it goes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pages: HashMap<u64, KeptPage>,
    /// The one that was used least recently first; of one sequence the last page, for without it the others are of use.
    order: BTreeSet<(u64, Reverse<u64>)>,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct KeptPage {
    page: u32,
    used: u64,
}

impl Kept {
    fn insert(&mut self, id: u64, page: u32) {
        let used = self.clock;
        self.pages.insert(id, KeptPage { page, used });
        self.order.insert((used, Reverse(id)));
    }

    fn remove(&mut self, id: u64) -> Option<u32> {
        let KeptPage { page, used } = self.pages.remove(&id)?;
        self.order.remove(&(used, Reverse(id)));
        Some(page)
    }

    fn touch(&mut self, id: u64) {
        if let Some(kept) = self.pages.get_mut(&id) {
            self.order.remove(&(kept.used, Reverse(id)));
            kept.used = self.clock;
            self.order.insert((kept.used, Reverse(id)));
        }
    }
}

impl KvTables {
    /// Keeps pages of `slot` from number `first` on under `ids`. Gives those ids for which there is no full page here that can be.
    pub(crate) fn keep(&mut self, slot: u32, first: u32, ids: &[u64]) -> Vec<u64> {
        self.kept.clock += 1;
        // Where no layer is, nothing is held, and nothing is missed.
        if self.visited.is_empty() {
            return Vec::new();
        }
        let mut refused = Vec::new();
        for (number, id) in (first as usize..).zip(ids) {
            let held = self.slots.get(slot as usize);
            let full = held.filter(|held| number < self.full(held) as usize);
            let page = full.and_then(|held| held.pages.get(number).copied()).filter(|page| *page != REMOTE);
            match page.filter(|_| !self.kept.pages.contains_key(id)) {
                Some(page) => {
                    self.users[page as usize] += 1;
                    self.kept.insert(*id, page);
                }
                None => refused.push(*id),
            }
        }
        refused
    }

    /// Begins the sequence of `slot` anew behind the pages kept under `ids`; `idle` as in [`KvTables::release`].
    ///
    /// # Errors
    /// Where one of them is not kept here: the slot is empty then.
    pub(crate) fn begin_behind(
        &mut self,
        slot: u32,
        ids: &[u64],
        idle: impl FnMut(Range<usize>),
    ) -> Result<(), EngineError> {
        if slot >= self.slots() {
            return Err(EngineError::Slot { slot, slots: self.slots.len() });
        }
        let positions = ids.len() as u64 * KV_PAGE_TOKENS as u64;
        if positions >= u64::from(self.most_positions) {
            return Err(EngineError::ContextFull { slot, length: positions, most: self.most_positions });
        }
        if self.visited.is_empty() {
            self.slots[slot as usize].lengths.fill(positions as u32);
            return Ok(());
        }
        self.kept.clock += 1;
        let found: Result<Vec<u32>, u64> =
            ids.iter().map(|id| self.kept.pages.get(id).map(|kept| kept.page).ok_or(*id)).collect();
        // Taken before what the slot had is let go: it may be the same.
        for page in found.iter().flatten() {
            self.users[*page as usize] += 1;
        }
        ids.iter().for_each(|id| self.kept.touch(*id));
        self.release(slot, idle);
        let pages = found.map_err(|page| EngineError::NotKept { slot, page })?;
        let held = &mut self.slots[slot as usize];
        held.pages.extend(pages);
        held.lengths.fill(positions as u32);
        Ok(())
    }

    /// Keeps a page no more; the bytes of the pool that nobody uses any more. One that is not kept is none.
    pub(crate) fn forget(&mut self, id: u64) -> Option<Range<usize>> {
        let page = self.kept.remove(id)?;
        self.let_go(page)
    }

    /// The page that is to be kept no more before all others.
    pub(crate) fn first_to_forget(&self) -> Option<u64> {
        self.kept.order.first().map(|(_, Reverse(id))| *id)
    }

    /// Whether the pool has the pages that `parts` need beside what is in use, kept or not.
    pub(crate) fn has_free(&self, parts: &[BatchRows]) -> bool {
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for part in parts {
            let end = ends.entry(part.slot).or_default();
            *end = part.end().max(*end);
        }
        let held = |slot: u32| self.slots.get(slot as usize).map_or(0, |held| held.pages.len());
        let missing = ends.into_iter().map(|(slot, end)| pages_for(end).saturating_sub(held(slot)));
        // Remote pages come back into the pool.
        missing.sum::<usize>() + self.all_remote() as usize <= self.free.len()
    }

    pub(super) fn forget_all(&mut self, mut idle: impl FnMut(Range<usize>)) {
        while let Some(id) = self.first_to_forget() {
            self.forget(id).into_iter().for_each(&mut idle);
        }
    }
}

#[cfg(test)]
mod tests;
