//! Which KV page holds which positions of which sequence. The bytes themselves are the backend's.

mod grains;
mod kept;

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

    /// Forgets every sequence, and every page that is kept; `idle` as in [`KvTables::release`].
    pub(crate) fn reset(&mut self, mut idle: impl FnMut(Range<usize>)) {
        (0..self.slots.len() as u32).for_each(|slot| self.release(slot, &mut idle));
        self.forget_all(idle);
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

/// Pages on another device.
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
        let here = |(slot, held): (usize, &Slot)| (self.full_here(held), std::cmp::Reverse(slot));
        let (full, std::cmp::Reverse(slot)) = self.slots.iter().enumerate().map(here).max()?;
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
    fn full(&self, held: &Slot) -> u32 {
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

/// The same memory, for other pages.
fn emptied(mut pages: Vec<u32>) -> Vec<u32> {
    pages.clear();
    pages
}

const fn pages_for(positions: u64) -> usize {
    positions.div_ceil(KV_PAGE_TOKENS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Not a multiple of the grain: neighbours share one.
    const PAGE: Bytes = Bytes(1500);

    proptest! {
        #[test]
        fn no_page_has_two_owners(
            steps in proptest::collection::vec((0u32..4, 0u32..2, 0u32..150, 0u32..6, 0u32..300, 0u32..4), 1..60),
        ) {
            let mut tables = KvTables::new(3, &[true, true], 200, PAGE);
            for (slot, segment, count, anew, back, moves) in steps {
                match moves {
                    0 => if let Some((slot, number, page)) = tables.next_to_go() {
                        let held = &tables.slots[slot as usize];
                        prop_assert_eq!(held.pages[number as usize], page);
                        prop_assert!(held.lengths.iter().all(|length| *length >= (number + 1) * KV_PAGE_TOKENS as u32));
                        tables.went(slot);
                    },
                    1 => if let Some((slot, number, page)) = tables.next_to_come() {
                        let counted = tables.bytes_with_next();
                        tables.came(slot);
                        prop_assert_eq!(tables.bytes(), counted);
                        prop_assert_eq!(tables.slots[slot as usize].pages[number as usize], page);
                    },
                    _ => {}
                }
                if count == 0 {
                    tables.release(slot, |_| ());
                    continue;
                }
                let length = tables.slots.get(slot as usize).map_or(0, |held| held.lengths[segment as usize]);
                let start = match anew {
                    0 => 0,
                    1 | 2 => length.saturating_sub(back),
                    _ => length,
                };
                let parts = [part(slot, start, count)];
                // As the engine does: a sequence that begins anew takes no page from elsewhere along, and one that is cut back writes
                // into none.
                if start == 0 && tables.remote(slot) > 0 {
                    tables.release(slot, |_| ());
                }
                if segment == 0 && tables.check_all(0, &parts).is_ok() && tables.cuts(0, &parts[0]) {
                    while tables.remote(slot) > KvTables::whole_before(start) {
                        prop_assert!(tables.next_to_come_of(slot).is_some());
                        tables.came(slot);
                    }
                    tables.cut_back(0, &parts[0], |_| ());
                    let held = &tables.slots[slot as usize];
                    prop_assert!(held.lengths.iter().all(|length| *length <= start));
                    prop_assert!(held.pages.len() <= pages_for(parts[0].end()));
                } else if tables.remote(slot) > KvTables::whole_before(start) {
                    continue;
                }
                let counted = tables.bytes_with(segment as usize, &parts);
                if let Ok(batch) = tables.admit(segment as usize, &parts) {
                    prop_assert!(batch.rows.iter().all(|row| row.pages.len() * KV_PAGE_TOKENS > row.position as usize));
                    let remote = batch.remote[0] as usize;
                    for row in &batch.rows {
                        prop_assert!(row.position as usize >= remote * KV_PAGE_TOKENS);
                        prop_assert!(row.pages.iter().enumerate().all(|(at, page)| (*page == REMOTE) == (at < remote)));
                    }
                    drop(batch);
                    tables.commit(segment as usize, &parts);
                    prop_assert_eq!(counted.ok(), Some(tables.bytes()));
                }
                let touched: BTreeSet<usize> = tables.slots.iter().flat_map(|slot| &slot.pages)
                    .filter(|page| **page != REMOTE)
                    .flat_map(|page| tables.grains.of(*page)).collect();
                prop_assert_eq!(tables.bytes(), Bytes((touched.len() * 4096).min(12 * 1500) as u64));
                let held = tables.slots.iter().flat_map(|slot| &slot.pages).chain(&tables.free);
                let mut pages: Vec<u32> = held.copied().filter(|page| *page != REMOTE).collect();
                pages.sort_unstable();
                prop_assert_eq!(pages, (0..12).collect::<Vec<u32>>());
            }
        }
    }

    fn part(slot: u32, start: u32, count: u32) -> BatchRows {
        BatchRows { slot, start, count }
    }

    fn run(tables: &mut KvTables, segment: usize, parts: &[BatchRows]) -> Result<Vec<Vec<u32>>, EngineError> {
        let pages = tables.admit(segment, parts)?.rows.iter().map(|row| row.pages.to_vec()).collect();
        tables.commit(segment, parts);
        Ok(pages)
    }

    #[test]
    fn pages_grow_with_the_sequence_and_come_back() {
        let mut tables = KvTables::new(2, &[true], 130, PAGE);
        assert_eq!(run(&mut tables, 0, &[part(0, 0, 64)]).unwrap()[0], [0]);
        assert_eq!(run(&mut tables, 0, &[part(1, 0, 1), part(0, 64, 1)]).unwrap(), [vec![1], vec![0, 2]]);
        assert_eq!(run(&mut tables, 0, &[part(0, 65, 65)]).unwrap()[0], [0, 2, 3]);
        tables.release(0, |_| ());
        assert_eq!(run(&mut tables, 0, &[part(1, 1, 129)]).unwrap()[0].len(), 3);
        assert_eq!(run(&mut tables, 0, &[part(0, 0, 130)]).unwrap()[0].len(), 3);
        assert!(tables.free.is_empty());
        tables.reset(|_| ());
        assert_eq!(tables.free.len(), 6);
    }

    #[test]
    fn segments_keep_lengths_of_their_own() {
        let mut tables = KvTables::new(1, &[true, true], 100, PAGE);
        run(&mut tables, 0, &[part(0, 0, 10)]).unwrap();
        run(&mut tables, 0, &[part(0, 10, 10)]).unwrap();
        run(&mut tables, 1, &[part(0, 0, 10)]).unwrap();
        assert!(run(&mut tables, 1, &[part(0, 20, 1)]).is_err());
        run(&mut tables, 1, &[part(0, 10, 10)]).unwrap();
    }

    #[test]
    fn faults_change_nothing() {
        let mut tables = KvTables::new(2, &[true], 100, PAGE);
        run(&mut tables, 0, &[part(0, 0, 10)]).unwrap();
        let expect = |fault: Result<_, EngineError>, text: &str| {
            assert_eq!(fault.map(|_: Vec<Vec<u32>>| ()).unwrap_err().to_string(), text);
        };
        let mut refuse = |part: BatchRows, text: &str| expect(run(&mut tables, 0, &[self::part(1, 0, 1), part]), text);
        refuse(part(0, 11, 1), "slot 0: rows start at position 11, the sequence continues at 10");
        refuse(part(0, 10, 91), "slot 0: 101 positions, the plan's context has 100");
        refuse(part(0, u32::MAX, u32::MAX), "slot 0: 8589934590 positions, the plan's context has 100");
        refuse(part(2, 0, 1), "slot 2: the plan has 2");
        refuse(part(0, 10, 0), "a pass of 0 rows: the plan allows 1 to 100");
        assert!(tables.slots[1].pages.is_empty());
        run(&mut tables, 0, &[part(0, 10, 1), part(0, 11, 2)]).unwrap();
        refuse_twice(&mut tables);
        run(&mut tables, 0, &[part(0, 0, 1)]).unwrap();
        assert!(run(&mut tables, 0, &[part(0, 13, 1)]).is_err());
    }

    /// Rows of one slot in one pass follow each other.
    fn refuse_twice(tables: &mut KvTables) {
        let fault = tables.admit(0, &[part(0, 13, 1), part(0, 13, 1)]).unwrap_err();
        assert_eq!(fault.to_string(), "slot 0: rows start at position 13, the sequence continues at 14");
    }

    #[test]
    fn rows_below_what_a_slot_holds_cut_it_back_in_every_segment() {
        let mut tables = KvTables::new(2, &[true, true], 200, PAGE);
        for segment in 0..2 {
            run(&mut tables, segment, &[part(0, 0, 150)]).unwrap();
        }
        let rows = part(0, 60, 3);
        assert!(tables.cuts(0, &rows) && !tables.cuts(0, &part(0, 150, 1)) && !tables.cuts(0, &part(1, 0, 1)));
        let mut idle = 0;
        tables.cut_back(0, &rows, |_| idle += 1);
        assert_eq!((tables.slots[0].lengths.as_slice(), tables.slots[0].pages.len()), ([60, 60].as_slice(), 1));
        assert_eq!((tables.free.len(), idle), (7, 1), "pages that the rows do not reach are free");
        run(&mut tables, 0, &[rows]).unwrap();
        assert!(run(&mut tables, 1, &[part(0, 63, 1)]).is_err(), "what a segment has forgotten is not gone on from");
        run(&mut tables, 1, &[rows]).unwrap();
        // A segment that was not visited since goes by what the one before it forgot.
        run(&mut tables, 0, &[part(0, 20, 1)]).unwrap();
        assert_eq!(tables.slots[0].lengths, [21, 20]);
    }
}
