//! Which KV page holds which positions of which sequence. The bytes themselves are the backend's.

mod grains;
mod kept;
mod remote;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, ops::Range};

use lime_kernels::{AttentionRow, KV_PAGE_TOKENS};
use lime_plan::{BatchRows, Bytes};

pub(crate) use grains::{Grains, pool};
use kept::Kept;

use crate::{batch::Batch, engine_error::EngineError};

/// Page tables of every slot, over a pool with room for all at their longest. Memory comes to a page when it is first used.
#[derive(Debug)]
pub(crate) struct KvTables {
    slots: Vec<Slot>,
    /// The lowest goes first: pages in use lie together.
    free: BTreeSet<u32>,
    /// How many have each page: slots, and what is kept.
    users: Vec<u32>,
    kept: Kept,
    most_positions: u32,
    /// The segments in which this device has layers.
    visited: Vec<usize>,
    grains: Grains,
}

/// In a page table: the page is on another device.
const REMOTE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot {
    /// The first `remote` of them are [`REMOTE`].
    pages: Vec<u32>,
    remote: u32,
    /// Positions stored, by segment: passes overlap, so that segments of one sequence can be at different places.
    lengths: Vec<u32>,
}

impl KvTables {
    /// Tables for `slots` sequences of at most `most_positions` positions; each segment of the plan has layers here or not; a page
    /// takes `page` bytes.
    pub(crate) fn new(slots: usize, has_layers: &[bool], most_positions: u32, page: Bytes) -> Self {
        let pages_per_slot = pages_for(u64::from(most_positions));
        let lengths = vec![0; has_layers.len()];
        let slot = || Slot { pages: Vec::with_capacity(pages_per_slot), remote: 0, lengths: lengths.clone() };
        let pages = slots * pages_per_slot;
        Self {
            slots: std::iter::repeat_with(slot).take(slots).collect(),
            free: (0..pages as u32).collect(),
            users: vec![0; pages],
            kept: Kept::default(),
            most_positions,
            visited: has_layers.iter().enumerate().filter(|(_, has)| **has).map(|(segment, _)| segment).collect(),
            grains: Grains::new(page.0 as usize, pages),
        }
    }

    /// How many sequences there can be.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The segment with which a pass comes here first.
    pub(crate) fn first_segment(&self) -> usize {
        self.visited.first().copied().unwrap_or(0)
    }

    /// Memory that the pages in use take.
    pub(crate) fn bytes(&self) -> Bytes {
        self.grains.in_use()
    }

    /// Memory that they take once `parts` are admitted.
    ///
    /// # Errors
    /// As [`KvTables::admit`].
    pub(crate) fn bytes_with(&self, segment: usize, parts: &[BatchRows]) -> Result<Bytes, EngineError> {
        self.check_all(segment, parts)?;
        let mut missing = 0;
        for (index, part) in parts.iter().enumerate() {
            // A later part of the same slot goes on where an earlier one ends.
            let earlier =
                parts[..index].iter().filter(|other| other.slot == part.slot).map(|other| pages_for(other.end()));
            let held = earlier.max().unwrap_or(0).max(self.slots[part.slot as usize].pages.len());
            missing += pages_for(part.end()).saturating_sub(held);
        }
        if missing == 0 {
            return Ok(self.bytes());
        }
        Ok(self.grains.bytes(self.grains.used + self.grains.wanted(self.free.iter().take(missing))))
    }

    /// Checks that `parts` continue their sequences in `segment`, and gives them pages. Nothing changes on an error; lengths
    /// change only with [`KvTables::commit`].
    pub(crate) fn admit<'a>(&'a mut self, segment: usize, parts: &'a [BatchRows]) -> Result<Batch<'a>, EngineError> {
        self.check_all(segment, parts)?;
        for part in parts {
            let held = self.slots[part.slot as usize].pages.len();
            // The pool holds every slot at its longest, and no slot passed the check at more; what is only kept has gone before.
            for _ in held..pages_for(part.end()) {
                let Some(page) = self.take_free() else { break };
                self.slots[part.slot as usize].pages.push(page);
            }
        }
        let total = parts.iter().map(|part| part.count as usize).sum();
        let (mut positions, mut rows) = (Vec::with_capacity(total), Vec::with_capacity(total));
        let mut remote = Vec::with_capacity(parts.len());
        for part in parts {
            let slot = &self.slots[part.slot as usize];
            let pages = slot.pages.as_slice();
            remote.push(slot.remote);
            for position in part.start..part.start + part.count {
                positions.push(position);
                rows.push(AttentionRow { position, pages });
            }
        }
        Ok(Batch { parts, positions, rows, remote })
    }

    /// Checks that `parts` continue their sequences in `segment`.
    pub(crate) fn check_all(&self, segment: usize, parts: &[BatchRows]) -> Result<(), EngineError> {
        parts.iter().enumerate().try_for_each(|(index, part)| self.check(segment, part, &parts[..index]))
    }

    fn check(&self, segment: usize, part: &BatchRows, before: &[BatchRows]) -> Result<(), EngineError> {
        let BatchRows { slot, start, count } = *part;
        let Some(held) = self.slots.get(slot as usize) else {
            return Err(EngineError::Slot { slot, slots: self.slots.len() });
        };
        if count == 0 {
            return Err(EngineError::Rows { rows: 0, most: self.most_positions as usize });
        }
        if part.end() > u64::from(self.most_positions) {
            return Err(EngineError::ContextFull { slot, length: part.end(), most: self.most_positions });
        }
        let earlier = before.iter().rev().find(|other| other.slot == slot);
        let expected = earlier.map_or(held.lengths[segment], |other| other.end() as u32);
        // Rows below what the slot holds cut it back; those of one pass follow each other.
        let continues = if earlier.is_some() { start == expected } else { start <= expected };
        if !continues {
            return Err(EngineError::OutOfOrder { slot, start, expected });
        }
        if self.writes_shared(part) { Err(EngineError::Shared { slot, start }) } else { Ok(()) }
    }

    /// Whether `part` begins within a page that others have as well. They have whole pages only, which a sequence that grows is past.
    fn writes_shared(&self, part: &BatchRows) -> bool {
        let (number, within) = (part.start as usize / KV_PAGE_TOKENS, part.start as usize % KV_PAGE_TOKENS);
        let page = self.slots[part.slot as usize].pages.get(number).filter(|page| **page != REMOTE);
        within > 0 && page.is_some_and(|page| self.users[*page as usize] > 1)
    }

    /// Notes that the rows of `parts` are stored in `segment`.
    pub(crate) fn commit(&mut self, segment: usize, parts: &[BatchRows]) {
        for part in parts {
            let lengths = &mut self.slots[part.slot as usize].lengths;
            // What the segments after this one hold from there on is of rows that are forgotten.
            lengths[segment..].iter_mut().for_each(|length| *length = part.start.min(*length));
            lengths[segment] = part.end() as u32;
        }
    }

    /// Forgets a sequence and takes its pages back; `idle` hears which bytes of the pool nobody uses any more. A slot beyond
    /// the plan's holds nothing.
    pub(crate) fn release(&mut self, slot: u32, idle: impl FnMut(Range<usize>)) {
        self.begin_anew(slot, 0, idle);
    }

    /// The same for a sequence that begins anew in `segment`: those before it have begun already.
    pub(crate) fn begin_anew(&mut self, slot: u32, segment: usize, mut idle: impl FnMut(Range<usize>)) {
        if let Some(held) = self.slots.get_mut(slot as usize) {
            held.lengths[segment..].fill(0);
            let remote = std::mem::take(&mut held.remote) as usize;
            let pages = std::mem::take(&mut held.pages);
            for page in pages.iter().skip(remote) {
                self.let_go(*page).into_iter().for_each(&mut idle);
            }
            // Its memory is for the slot's next sequence.
            self.slots[slot as usize].pages = emptied(pages);
        }
    }

    /// Whether `part` begins below what its slot holds in `segment` or one after it: a pass cuts the sequence back. Those before have been
    /// cut back already.
    pub(crate) fn cuts(&self, segment: usize, part: &BatchRows) -> bool {
        let held = self.slots.get(part.slot as usize);
        held.is_some_and(|held| held.lengths[segment..].iter().any(|length| part.start < *length))
    }

    /// How many of a sequence's first pages hold nothing from position `start` on.
    pub(crate) const fn whole_before(start: u32) -> u32 {
        start / KV_PAGE_TOKENS as u32
    }

    /// Cuts the sequence of `part` back to where `part` begins, from `segment` on, and takes the pages back that `part` does not reach, and
    /// those that others have as well; `idle` as in [`KvTables::release`]. Nothing from there on is remote.
    pub(crate) fn cut_back(&mut self, segment: usize, part: &BatchRows, mut idle: impl FnMut(Range<usize>)) {
        let Some(held) = self.slots.get_mut(part.slot as usize) else { return };
        debug_assert!(held.remote <= Self::whole_before(part.start), "rows are written into remote pages");
        held.lengths[segment..].iter_mut().for_each(|length| *length = part.start.min(*length));
        let reached = pages_for(part.end()).min(held.pages.len());
        let first = pages_for(part.start.into()).min(reached);
        // What others have is not written into: the rows get pages of their own.
        let shared = held.pages[first..reached].iter().position(|page| self.users[*page as usize] > 1);
        let kept = shared.map_or(reached, |shared| first + shared);
        for page in held.pages.split_off(kept) {
            self.let_go(page).into_iter().for_each(&mut idle);
        }
    }

    /// Forgets every sequence, and every page that is kept and has no name; `idle` as in [`KvTables::release`].
    pub(crate) fn reset(&mut self, mut idle: impl FnMut(Range<usize>)) {
        (0..self.slots.len() as u32).for_each(|slot| self.release(slot, &mut idle));
        self.end_numbers(idle);
    }

    /// A page that nobody has, for one who has it from now on.
    fn take_free(&mut self) -> Option<u32> {
        let page = self.free.pop_first()?;
        self.users[page as usize] = 1;
        self.grains.take(page);
        Some(page)
    }

    /// One of those who have `page` has it no more; the bytes of the pool that nobody uses any more.
    fn let_go(&mut self, page: u32) -> Option<Range<usize>> {
        let users = &mut self.users[page as usize];
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.free.insert(page);
        self.grains.give_back(page)
    }
}

/// The same memory, for other pages.
fn emptied(mut pages: Vec<u32>) -> Vec<u32> {
    pages.clear();
    pages
}

const fn pages_for(positions: u64) -> usize {
    positions.div_ceil(KV_PAGE_TOKENS as u64) as usize
}
