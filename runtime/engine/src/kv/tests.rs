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
