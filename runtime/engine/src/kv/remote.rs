//! KV pages on another device, in the page tables.

use std::{cmp::Reverse, ops::Range};

use lime_kernels::KV_PAGE_TOKENS;
use lime_plan::Bytes;

use super::{KvTables, REMOTE, Slot};

impl KvTables {
    /// How many of a sequence's pages are remote.
    pub(crate) fn remote(&self, slot: u32) -> u32 {
        self.slots.get(slot as usize).map_or(0, |held| held.remote)
    }

    /// How many pages are remote, over all sequences.
    pub(crate) fn all_remote(&self) -> u32 {
        self.slots.iter().map(|held| held.remote).sum()
    }

    /// The page to hand over next, as its sequence's slot, its number there, and its place in the pool: the oldest of the sequence
    /// that has the most here. Only pages that no row will write any more go, and that nobody else has.
    pub(crate) fn next_to_go(&self) -> Option<(u32, u32, u32)> {
        let here = |(slot, held): (usize, &Slot)| (self.full_here(held), Reverse(slot));
        let (full, Reverse(slot)) = self.slots.iter().enumerate().map(here).max()?;
        let held = &self.slots[slot];
        (full > 0).then(|| (slot as u32, held.remote, held.pages[held.remote as usize]))
    }

    /// How many pages could go, over all sequences.
    pub(crate) fn all_full_here(&self) -> u32 {
        self.slots.iter().map(|held| self.full_here(held)).sum()
    }

    /// Pages of a sequence here that are full in every segment; none while others have the first of them, for pages go in order.
    fn full_here(&self, held: &Slot) -> u32 {
        let first = held.pages.get(held.remote as usize);
        if first.is_none_or(|page| self.users[*page as usize] > 1) {
            return 0;
        }
        self.full(held).saturating_sub(held.remote)
    }

    /// Pages of a sequence that are full in every segment.
    pub(super) fn full(&self, held: &Slot) -> u32 {
        let stored = self.visited.iter().map(|segment| held.lengths[*segment]).min().unwrap_or(0);
        stored / KV_PAGE_TOKENS as u32
    }

    /// Notes that the page of [`KvTables::next_to_go`] is remote; the bytes of the pool that nobody uses any more.
    pub(crate) fn went(&mut self, slot: u32) -> Option<Range<usize>> {
        let held = &mut self.slots[slot as usize];
        let page = std::mem::replace(&mut held.pages[held.remote as usize], REMOTE);
        held.remote += 1;
        self.let_go(page)
    }

    /// The page to bring back next, as its sequence's slot, its number there, and the place in the pool that it gets.
    pub(crate) fn next_to_come(&self) -> Option<(u32, u32, u32)> {
        let slot = self.slots.iter().position(|held| held.remote > 0)?;
        self.next_to_come_of(slot as u32)
    }

    /// The same of one sequence.
    pub(crate) fn next_to_come_of(&self, slot: u32) -> Option<(u32, u32, u32)> {
        let number = self.remote(slot).checked_sub(1)?;
        // The pool holds every slot at its longest.
        Some((slot, number, *self.free.first()?))
    }

    /// Memory that the pages here take once the page of [`KvTables::next_to_come`] is back.
    pub(crate) fn bytes_with_next(&self) -> Bytes {
        self.grains.bytes(self.grains.used + self.grains.wanted(self.free.iter().take(1)))
    }

    /// Notes that the page of [`KvTables::next_to_come`] or [`KvTables::next_to_come_of`] is here.
    pub(crate) fn came(&mut self, slot: u32) {
        if let Some(page) = self.take_free() {
            let held = &mut self.slots[slot as usize];
            held.remote -= 1;
            held.pages[held.remote as usize] = page;
        }
    }
}
