//! Which KV page holds which positions of which sequence. The bytes themselves are the backend's.

use std::{collections::BTreeSet, ops::Range};

use lime_kernels::{AlignedBuf, AttentionRow, BufferError, HUGE_PAGE, KV_PAGE_TOKENS};
use lime_planner::Bytes;

use crate::{BatchRows, EngineError, batch::Batch};

/// Page tables of every slot, over a pool with room for all at their longest. Memory comes to a page when it is first used.
#[derive(Debug)]
pub(crate) struct KvTables {
    slots: Vec<Slot>,
    /// The lowest goes first: pages in use lie together.
    free: BTreeSet<u32>,
    most_positions: u32,
    grains: Grains,
}

/// The pool's memory in the units in which the system gives it: how many pages in use lie in each.
#[derive(Debug)]
struct Grains {
    page: usize,
    grain: usize,
    pool: usize,
    users: Vec<u32>,
    used: usize,
}

/// A pool of this size or more comes in huge pages; in a smaller one they would be too coarse to follow a sequence by.
const LARGE_POOL: usize = 64 << 20;

/// Memory for a pool of so many bytes, which comes as it is used.
///
/// # Errors
/// When the addresses cannot be had.
pub(crate) fn pool(bytes: usize) -> Result<AlignedBuf, BufferError> {
    if bytes >= LARGE_POOL { AlignedBuf::new(bytes) } else { AlignedBuf::on_small_pages(bytes) }
}

impl Grains {
    fn new(page: usize, pages: usize) -> Self {
        let pool = page * pages;
        let grain = if pool >= LARGE_POOL { HUGE_PAGE } else { 4 << 10 };
        Self { page, grain, pool, users: vec![0; pool.div_ceil(grain)], used: 0 }
    }

    fn of(&self, page: u32) -> Range<usize> {
        let start = page as usize * self.page;
        start / self.grain..(start + self.page).div_ceil(self.grain)
    }

    fn take(&mut self, page: u32) {
        for grain in self.of(page) {
            self.users[grain] += 1;
            self.used += usize::from(self.users[grain] == 1);
        }
    }

    /// Gives the grains that nobody uses any more, as a range of bytes.
    fn give_back(&mut self, page: u32) -> Option<Range<usize>> {
        let mut idle: Option<Range<usize>> = None;
        for grain in self.of(page) {
            self.users[grain] -= 1;
            if self.users[grain] == 0 {
                self.used -= 1;
                let from = idle.map_or(grain, |idle| idle.start);
                idle = Some(from..grain + 1);
            }
        }
        idle.map(|idle| idle.start * self.grain..(idle.end * self.grain).min(self.pool))
    }

    fn bytes(&self, used: usize) -> Bytes {
        Bytes((used * self.grain).min(self.pool) as u64)
    }

    /// Grains that `pages`, by rising number, would bring into use.
    fn wanted<'a>(&self, pages: impl Iterator<Item = &'a u32>) -> usize {
        let (mut count, mut seen) = (0, 0);
        for page in pages {
            let of = self.of(*page);
            for grain in of.start.max(seen)..of.end {
                count += usize::from(self.users[grain] == 0);
            }
            seen = seen.max(of.end);
        }
        count
    }
}

#[derive(Debug)]
struct Slot {
    pages: Vec<u32>,
    /// Positions stored, by segment: passes overlap, so that segments of one sequence can be at different places.
    lengths: Vec<u32>,
}

impl KvTables {
    /// Tables for `slots` sequences of at most `most_positions` positions, met in `segments` segments; a page takes `page` bytes.
    pub(crate) fn new(slots: usize, segments: usize, most_positions: u32, page: Bytes) -> Self {
        let pages_per_slot = pages_for(u64::from(most_positions));
        let slot = || Slot { pages: Vec::with_capacity(pages_per_slot), lengths: vec![0; segments] };
        let pages = slots * pages_per_slot;
        Self {
            slots: std::iter::repeat_with(slot).take(slots).collect(),
            free: (0..pages as u32).collect(),
            most_positions,
            grains: Grains::new(page.0 as usize, pages),
        }
    }

    /// Memory that the pages in use take.
    pub(crate) fn bytes(&self) -> Bytes {
        self.grains.bytes(self.grains.used)
    }

    /// Memory that they take once `parts` are admitted.
    ///
    /// # Errors
    /// As [`KvTables::admit`].
    pub(crate) fn bytes_with(&self, segment: usize, parts: &[BatchRows]) -> Result<Bytes, EngineError> {
        let mut missing = 0;
        for (index, part) in parts.iter().enumerate() {
            self.check(segment, part, &parts[..index])?;
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
        for (index, part) in parts.iter().enumerate() {
            self.check(segment, part, &parts[..index])?;
        }
        for part in parts {
            let pages = &mut self.slots[part.slot as usize].pages;
            let missing = pages_for(part.end()).saturating_sub(pages.len());
            // The pool holds every slot at its longest, and no slot passed the check at more.
            for page in (0..missing).map_while(|_| self.free.pop_first()) {
                self.grains.take(page);
                pages.push(page);
            }
        }
        let total = parts.iter().map(|part| part.count as usize).sum();
        let (mut positions, mut rows) = (Vec::with_capacity(total), Vec::with_capacity(total));
        for part in parts {
            let pages = self.slots[part.slot as usize].pages.as_slice();
            for position in part.start..part.start + part.count {
                positions.push(position);
                rows.push(AttentionRow { position, pages });
            }
        }
        Ok(Batch { parts, positions, rows })
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
        if start != 0 && start != expected {
            return Err(EngineError::OutOfOrder { slot, start, expected });
        }
        Ok(())
    }

    /// Notes that the rows of `parts` are stored in `segment`.
    pub(crate) fn commit(&mut self, segment: usize, parts: &[BatchRows]) {
        for part in parts {
            self.slots[part.slot as usize].lengths[segment] = part.end() as u32;
        }
    }

    /// Forgets a sequence and takes its pages back; `idle` hears which bytes of the pool nobody uses any more. A slot beyond
    /// the plan's holds nothing.
    pub(crate) fn release(&mut self, slot: u32, mut idle: impl FnMut(Range<usize>)) {
        if let Some(held) = self.slots.get_mut(slot as usize) {
            held.lengths.fill(0);
            for page in held.pages.drain(..) {
                self.free.insert(page);
                self.grains.give_back(page).into_iter().for_each(&mut idle);
            }
        }
    }

    /// Forgets every sequence; `idle` as in [`KvTables::release`].
    pub(crate) fn reset(&mut self, mut idle: impl FnMut(Range<usize>)) {
        (0..self.slots.len() as u32).for_each(|slot| self.release(slot, &mut idle));
    }
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
        fn no_page_has_two_owners(steps in proptest::collection::vec((0u32..4, 0u32..2, 0u32..150, any::<bool>()), 1..60)) {
            let mut tables = KvTables::new(3, 2, 200, PAGE);
            for (slot, segment, count, anew) in steps {
                if count == 0 {
                    tables.release(slot, |_| ());
                    continue;
                }
                let length = tables.slots.get(slot as usize).map_or(0, |held| held.lengths[segment as usize]);
                let parts = [part(slot, if anew { 0 } else { length }, count)];
                let counted = tables.bytes_with(segment as usize, &parts);
                if let Ok(batch) = tables.admit(segment as usize, &parts) {
                    prop_assert!(batch.rows.iter().all(|row| row.pages.len() * KV_PAGE_TOKENS > row.position as usize));
                    drop(batch);
                    tables.commit(segment as usize, &parts);
                    prop_assert_eq!(counted.ok(), Some(tables.bytes()));
                }
                let touched: BTreeSet<usize> = tables.slots.iter().flat_map(|slot| &slot.pages)
                    .flat_map(|page| tables.grains.of(*page)).collect();
                prop_assert_eq!(tables.bytes(), Bytes((touched.len() * 4096).min(12 * 1500) as u64));
                let held = tables.slots.iter().flat_map(|slot| &slot.pages).chain(&tables.free);
                let mut pages: Vec<u32> = held.copied().collect();
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
        let mut tables = KvTables::new(2, 1, 130, PAGE);
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
        let mut tables = KvTables::new(1, 2, 100, PAGE);
        run(&mut tables, 0, &[part(0, 0, 10)]).unwrap();
        run(&mut tables, 0, &[part(0, 10, 10)]).unwrap();
        run(&mut tables, 1, &[part(0, 0, 10)]).unwrap();
        assert!(run(&mut tables, 1, &[part(0, 20, 1)]).is_err());
        run(&mut tables, 1, &[part(0, 10, 10)]).unwrap();
    }

    #[test]
    fn faults_change_nothing() {
        let mut tables = KvTables::new(2, 1, 100, PAGE);
        run(&mut tables, 0, &[part(0, 0, 10)]).unwrap();
        let expect = |fault: Result<_, EngineError>, text: &str| {
            assert_eq!(fault.map(|_: Vec<Vec<u32>>| ()).unwrap_err().to_string(), text);
        };
        let mut refuse = |part: BatchRows, text: &str| expect(run(&mut tables, 0, &[self::part(1, 0, 1), part]), text);
        refuse(part(0, 9, 1), "slot 0: rows start at position 9, the sequence continues at 10");
        refuse(part(0, 11, 1), "slot 0: rows start at position 11, the sequence continues at 10");
        refuse(part(0, 10, 91), "slot 0: 101 positions, the plan's context has 100");
        refuse(part(0, u32::MAX, u32::MAX), "slot 0: 8589934590 positions, the plan's context has 100");
        refuse(part(2, 0, 1), "slot 2: the plan has 2");
        refuse(part(0, 10, 0), "a pass of 0 rows: the plan allows 1 to 100");
        assert!(tables.slots[1].pages.is_empty());
        run(&mut tables, 0, &[part(0, 10, 1), part(0, 11, 2)]).unwrap();
        run(&mut tables, 0, &[part(0, 0, 1)]).unwrap();
        assert!(run(&mut tables, 0, &[part(0, 13, 1)]).is_err());
    }
}
