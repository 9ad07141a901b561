use lime_plan::Bytes;
use proptest::prelude::*;

use super::*;

/// Not a multiple of the grain: neighbours share one.
const PAGE: Bytes = Bytes(1500);
const TOKENS: u32 = KV_PAGE_TOKENS as u32;

fn part(slot: u32, start: u32, count: u32) -> BatchRows {
    BatchRows { slot, start, count }
}

fn run(tables: &mut KvTables, slot: u32, start: u32, count: u32) -> Vec<u32> {
    let parts = [part(slot, start, count)];
    let pages = tables.admit(0, &parts).unwrap().rows[0].pages.to_vec();
    tables.commit(0, &parts);
    pages
}

/// Every page has as many users as there are slots and numbers that have it, and is free or in a grain in use.
fn check(tables: &KvTables, pages: usize) {
    let mut users = vec![0_u32; pages];
    let held = tables.slots.iter().flat_map(|slot| &slot.pages).filter(|page| **page != REMOTE);
    for page in held.copied().chain(tables.kept.pages.values().map(|kept| kept.page)) {
        users[page as usize] += 1;
    }
    assert_eq!(users, tables.users);
    let free: BTreeSet<u32> = (0..pages as u32).filter(|page| users[*page as usize] == 0).collect();
    assert_eq!(free, tables.free, "none is free while it is used, and none is lost");
    let grains: BTreeSet<usize> =
        (0..pages as u32).filter(|page| !free.contains(page)).flat_map(|page| tables.grains.of(page)).collect();
    assert_eq!(grains.len(), tables.grains.used);
    assert_eq!(tables.kept.order.len(), tables.kept.pages.len());
}

#[test]
fn a_kept_page_outlives_its_sequence_and_serves_several() {
    let mut tables = KvTables::new(3, &[true], 200, PAGE);
    let pages = run(&mut tables, 0, 0, 150);
    assert_eq!(tables.keep(0, 0, &[10, 11, 12], &[], |_| ()), [12], "the last page is not full");
    tables.release(0, |_| ());
    check(&tables, 12);
    for slot in [0, 1] {
        tables.begin_behind(slot, &[10, 11], |_| ()).unwrap();
        let held = run(&mut tables, slot, 2 * TOKENS, 10);
        assert_eq!(held[..2], pages[..2]);
    }
    assert_ne!(tables.slots[0].pages[2], tables.slots[1].pages[2], "what is written is nobody else's");
    for id in [10, 11] {
        tables.forget(id);
    }
    check(&tables, 12);
    assert!(matches!(tables.begin_behind(2, &[10], |_| ()), Err(EngineError::NotKept { slot: 2, page: 10 })));
    tables.reset(|_| ());
    assert_eq!((tables.free.len(), tables.bytes()), (12, Bytes::ZERO));
}

#[test]
fn a_slot_begins_behind_its_own_pages() {
    let mut tables = KvTables::new(1, &[true], 200, PAGE);
    let pages = run(&mut tables, 0, 0, 130);
    assert!(tables.keep(0, 0, &[1, 2], &[], |_| ()).is_empty());
    let mut idle = 0;
    tables.begin_behind(0, &[1], |range| idle += range.len()).unwrap();
    assert_eq!(run(&mut tables, 0, TOKENS, 70)[0], pages[0]);
    check(&tables, 4);
}

#[test]
fn the_least_recently_used_goes_first_and_a_sequence_from_its_end() {
    let mut tables = KvTables::new(2, &[true], 200, PAGE);
    run(&mut tables, 0, 0, 130);
    run(&mut tables, 1, 0, 130);
    tables.keep(0, 0, &[1, 2], &[], |_| ());
    tables.keep(1, 0, &[3, 4], &[], |_| ());
    tables.begin_behind(0, &[1], |_| ()).unwrap();
    let order: Vec<u64> = std::iter::from_fn(|| tables.forget_first()?.id).collect();
    assert_eq!(order, [2, 4, 3, 1]);
}

#[test]
fn segments_that_are_behind_keep_a_page_from_being_kept() {
    let mut tables = KvTables::new(1, &[true, false, true], 200, PAGE);
    run(&mut tables, 0, 0, 64);
    assert_eq!(tables.keep(0, 0, &[1], &[], |_| ()), [1]);
    let parts = [part(0, 0, 64)];
    tables.admit(2, &parts).unwrap();
    tables.commit(2, &parts);
    assert!(tables.keep(0, 0, &[1], &[], |_| ()).is_empty());
    tables.begin_behind(0, &[1], |_| ()).unwrap();
    for segment in [0, 2] {
        let parts = [part(0, 64, 3)];
        assert!(tables.admit(segment, &parts).is_ok(), "every segment goes on behind them");
        tables.commit(segment, &parts);
    }
}

#[test]
fn pages_that_others_have_do_not_go_elsewhere() {
    let mut tables = KvTables::new(2, &[true], 200, PAGE);
    run(&mut tables, 0, 0, 130);
    tables.keep(0, 0, &[1], &[], |_| ());
    assert_eq!(tables.next_to_go(), None);
    tables.begin_behind(1, &[1], |_| ()).unwrap();
    tables.forget(1);
    assert_eq!((tables.next_to_go(), tables.all_full_here()), (None, 0), "two sequences have it");
    tables.release(1, |_| ());
    assert_eq!(tables.next_to_go().map(|(slot, number, _)| (slot, number)), Some((0, 0)));
    tables.went(0);
    assert_eq!(tables.keep(0, 0, &[5, 6], &[], |_| ()), [5], "one that is remote cannot be kept");
    check(&tables, 8);
}

#[test]
fn a_sequence_that_is_cut_back_writes_into_no_page_that_others_have() {
    let mut tables = KvTables::new(2, &[true], 200, PAGE);
    let pages = run(&mut tables, 0, 0, 150);
    assert!(tables.keep(0, 0, &[1, 2], &[], |_| ()).is_empty());
    let within = [part(0, 100, 5)];
    assert!(matches!(tables.check_all(0, &within), Err(EngineError::Shared { slot: 0, start: 100 })));
    // From the page's start on the rows get a page of their own.
    let again = part(0, TOKENS, 80);
    tables.cut_back(0, &again, |_| ());
    let found = run(&mut tables, 0, TOKENS, 80);
    assert!(found[0] == pages[0] && found[1] != pages[1], "{found:?} after {pages:?}");
    tables.begin_behind(1, &[1, 2], |_| ()).unwrap();
    assert_eq!(run(&mut tables, 1, 2 * TOKENS, 1)[..2], pages[..2]);
    check(&tables, 8);
}

#[test]
fn a_device_without_layers_misses_nothing() {
    let mut tables = KvTables::new(1, &[false], 200, Bytes::ZERO);
    assert!(tables.keep(0, 0, &[1], &[], |_| ()).is_empty());
    tables.begin_behind(0, &[1], |_| ()).unwrap();
}

proptest! {
    #[test]
    fn no_page_is_lost_or_freed_while_used(
        steps in proptest::collection::vec((0_u32..3, 0_u32..6, 1_u32..150, 0_u64..12), 1..80),
    ) {
        let mut tables = KvTables::new(3, &[true, true], 200, PAGE);
        for (slot, act, count, id) in steps {
            let length = tables.slots[slot as usize].lengths[0].min(tables.slots[slot as usize].lengths[1]);
            match act {
                0 => { tables.keep(slot, count / 64, &[id, id + 100], &[], |_| ()); }
                1 => {
                    let ids: Vec<u64> = [id, id + 100].into_iter().take(count as usize % 3).collect();
                    let known = ids.iter().all(|id| tables.kept.has(*id));
                    prop_assert_eq!(tables.begin_behind(slot, &ids, |_| ()).is_ok(), known);
                    let expected = if known { ids.len() } else { 0 };
                    prop_assert_eq!(tables.slots[slot as usize].pages.len(), expected);
                }
                2 => { tables.forget(id); }
                3 => tables.release(slot, |_| ()),
                4 => if let Some((slot, _, _)) = tables.next_to_go() {
                    tables.went(slot);
                },
                _ => {
                    if tables.remote(slot) > 0 {
                        tables.release(slot, |_| ());
                    }
                    let start = tables.slots[slot as usize].lengths[0].min(length);
                    let parts = [part(slot, start, count)];
                    while !tables.has_free(&parts) && tables.forget_first().is_some() {}
                    // What is written is in pages that nobody else has.
                    for segment in [0, 1] {
                        let Ok(batch) = tables.admit(segment, &parts) else { continue };
                        let pages = batch.rows[0].pages.to_vec();
                        prop_assert!(pages.len() * KV_PAGE_TOKENS >= (start + count) as usize);
                        drop(batch);
                        for page in &pages[start as usize / KV_PAGE_TOKENS..] {
                            prop_assert_eq!(tables.users[*page as usize], 1);
                        }
                        tables.commit(segment, &parts);
                    }
                }
            }
            check(&tables, 12);
        }
    }
}
