//! Which KV page holds which positions of which sequence. The bytes themselves are the backend's.

use lime_kernels::{AttentionRow, KV_PAGE_TOKENS};

use crate::{BatchRows, EngineError, batch::Batch};

/// Page tables of every slot, over a pool that the plan's KV budget pays for.
#[derive(Debug)]
pub(crate) struct KvTables {
    slots: Vec<Slot>,
    free: Vec<u32>,
    most_positions: u32,
}

#[derive(Debug)]
struct Slot {
    pages: Vec<u32>,
    /// Positions stored, by segment: passes overlap, so that segments of one sequence can be at different places.
    lengths: Vec<u32>,
}

impl KvTables {
    /// Tables for `slots` sequences of at most `most_positions` positions, met in `segments` segments.
    pub(crate) fn new(slots: usize, segments: usize, most_positions: u32) -> Self {
        let pages_per_slot = pages_for(u64::from(most_positions));
        let slot = || Slot { pages: Vec::with_capacity(pages_per_slot), lengths: vec![0; segments] };
        let pages = slots * pages_per_slot;
        Self {
            slots: std::iter::repeat_with(slot).take(slots).collect(),
            free: (0..pages as u32).rev().collect(),
            most_positions,
        }
    }

    /// Checks that `parts` continue their sequences in `segment`, and gives them pages. Nothing changes on an error; lengths
    /// change only with [`KvTables::commit`].
    pub(crate) fn admit<'a>(&'a mut self, segment: usize, parts: &'a [BatchRows]) -> Result<Batch<'a>, EngineError> {
        for (index, part) in parts.iter().enumerate() {
            self.check(segment, part, &parts[..index])?;
        }
        for part in parts {
            let (pages, free) = (&mut self.slots[part.slot as usize].pages, &mut self.free);
            let missing = pages_for(part.end()).saturating_sub(pages.len());
            // The pool holds every slot at its longest, and no slot passed the check at more.
            let given = free.split_off(free.len().saturating_sub(missing));
            pages.extend(given.into_iter().rev());
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

    /// Forgets a sequence and takes its pages back. A slot beyond the plan's holds nothing.
    pub(crate) fn release(&mut self, slot: u32) {
        if let Some(held) = self.slots.get_mut(slot as usize) {
            held.lengths.fill(0);
            self.free.extend(held.pages.drain(..).rev());
        }
    }

    /// Forgets every sequence.
    pub(crate) fn reset(&mut self) {
        (0..self.slots.len() as u32).for_each(|slot| self.release(slot));
    }
}

const fn pages_for(positions: u64) -> usize {
    positions.div_ceil(KV_PAGE_TOKENS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_page_has_two_owners(steps in proptest::collection::vec((0u32..4, 0u32..2, 0u32..150, any::<bool>()), 1..60)) {
            let mut tables = KvTables::new(3, 2, 200);
            for (slot, segment, count, anew) in steps {
                if count == 0 {
                    tables.release(slot);
                    continue;
                }
                let length = tables.slots.get(slot as usize).map_or(0, |held| held.lengths[segment as usize]);
                let parts = [part(slot, if anew { 0 } else { length }, count)];
                if let Ok(batch) = tables.admit(segment as usize, &parts) {
                    prop_assert!(batch.rows.iter().all(|row| row.pages.len() * KV_PAGE_TOKENS > row.position as usize));
                    drop(batch);
                    tables.commit(segment as usize, &parts);
                }
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
        let mut tables = KvTables::new(2, 1, 130);
        assert_eq!(run(&mut tables, 0, &[part(0, 0, 64)]).unwrap()[0], [0]);
        assert_eq!(run(&mut tables, 0, &[part(1, 0, 1), part(0, 64, 1)]).unwrap(), [vec![1], vec![0, 2]]);
        assert_eq!(run(&mut tables, 0, &[part(0, 65, 65)]).unwrap()[0], [0, 2, 3]);
        tables.release(0);
        assert_eq!(run(&mut tables, 0, &[part(1, 1, 129)]).unwrap()[0].len(), 3);
        assert_eq!(run(&mut tables, 0, &[part(0, 0, 130)]).unwrap()[0].len(), 3);
        assert!(tables.free.is_empty());
        tables.reset();
        assert_eq!(tables.free.len(), 6);
    }

    #[test]
    fn segments_keep_lengths_of_their_own() {
        let mut tables = KvTables::new(1, 2, 100);
        run(&mut tables, 0, &[part(0, 0, 10)]).unwrap();
        run(&mut tables, 0, &[part(0, 10, 10)]).unwrap();
        run(&mut tables, 1, &[part(0, 0, 10)]).unwrap();
        assert!(run(&mut tables, 1, &[part(0, 20, 1)]).is_err());
        run(&mut tables, 1, &[part(0, 10, 10)]).unwrap();
    }

    #[test]
    fn faults_change_nothing() {
        let mut tables = KvTables::new(2, 1, 100);
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
