use proptest::prelude::*;

use super::*;

fn book(room: u64) -> Prefixes {
    Prefixes::new(PrefixCache::PerKey, room)
}

/// Pages that all begin with these tokens, one each.
fn tokens(pages: &[u32]) -> Vec<u32> {
    pages.iter().flat_map(|page| std::iter::repeat_n(*page, PAGE)).collect()
}

/// A sequence has been computed up to its end, and is over.
fn computed(book: &mut Prefixes, key: Option<KeyId>, pages: &[u32]) -> Vec<KeepPages> {
    let (all, mut place) = (tokens(pages), Place::default());
    book.begin(key, &all, &mut place);
    book.learn(key, &all, all.len(), 0, &mut place);
    book.leave(&mut place);
    book.take_orders().0
}

#[test]
fn a_sequence_begins_behind_all_that_is_known_but_one_row() {
    let mut book = book(100);
    let kept = computed(&mut book, None, &[1, 2, 3]);
    assert_eq!(kept, [KeepPages { pages: vec![1, 2, 3], ..KeepPages::default() }]);
    let known = |pages: &[u32], more: usize| {
        let mut all = tokens(pages);
        all.resize(all.len() + more, 9);
        book.known(None, &all)
    };
    assert_eq!(known(&[1, 2, 3], 1), 3);
    assert_eq!(known(&[1, 2, 3], 0), 2, "a row is left to be computed");
    assert_eq!((known(&[1, 2, 4], 1), known(&[2, 2, 3], 1), known(&[], 63)), (2, 0, 0));
    let more = computed(&mut book, None, &[1, 2, 4, 5]);
    assert_eq!(
        more,
        [KeepPages { first: 2, pages: vec![4, 5], ..KeepPages::default() }],
        "what is known is not kept again"
    );
}

#[test]
fn what_one_key_computed_serves_no_other() {
    let (one, other) = (Some(KeyId(0)), Some(KeyId(1)));
    let mut book = book(100);
    computed(&mut book, one, &[1, 2]);
    let asked = tokens(&[1, 2, 3]);
    assert_eq!([one, other, None].map(|key| book.known(key, &asked)), [2, 0, 0]);
    let mut shared = Prefixes::new(PrefixCache::Shared, 100);
    computed(&mut shared, one, &[1, 2]);
    assert_eq!([one, other, None].map(|key| shared.known(key, &asked)), [2, 2, 2]);
    for mut nothing in [Prefixes::new(PrefixCache::Off, 100), Prefixes::new(PrefixCache::Shared, 0)] {
        assert!(computed(&mut nothing, one, &[1, 2]).is_empty() && nothing.known(one, &asked) == 0);
    }
}

#[test]
fn the_least_recently_used_go_and_what_sequences_have_stays() {
    let mut book = book(6);
    computed(&mut book, None, &[1, 2]);
    computed(&mut book, None, &[3, 4]);
    let (asked, mut place) = (tokens(&[1, 2, 5]), Place::default());
    assert_eq!(book.begin(None, &asked, &mut place), [1, 2]);
    book.make_room(2);
    assert_eq!(book.take_orders().1, Vec::<u64>::new());
    book.make_room(3);
    assert_eq!(book.take_orders().1, [4], "the end of the one that nobody has");
    book.make_room(100);
    assert_eq!(book.take_orders().1, [3]);
    assert_eq!(book.known(None, &asked), 2);
    book.leave(&mut place);
    book.make_room(5);
    assert_eq!((book.take_orders().1, book.known(None, &asked)), (vec![2], 1));
}

#[test]
fn what_a_device_has_forgotten_goes_everywhere_with_what_hangs_on_it() {
    let mut book = book(100);
    computed(&mut book, None, &[1, 2, 3]);
    computed(&mut book, None, &[1, 4]);
    let (asked, mut place) = (tokens(&[1, 2, 3, 5]), Place::default());
    book.begin(None, &asked, &mut place);
    book.forgotten(&[2, 77], std::iter::once(&mut place));
    assert_eq!((book.take_orders().1, place.shared()), (vec![2, 3], 1));
    assert_eq!(book.known(None, &asked), 1);
    // Its tip is gone: what comes behind could be found by nobody.
    book.learn(None, &asked, asked.len(), 0, &mut place);
    assert!(book.take_orders().0.is_empty());
    assert_eq!(book.take_counts(), PrefixCounts { reused: 4, kept: 4, dropped: 2, ..PrefixCounts::default() });
    book.clear(100);
    assert_eq!((book.pages(), book.take_counts().dropped), (0, 2));
}

proptest! {
    #[test]
    fn the_tree_holds_together(
        acts in proptest::collection::vec((0_usize..3, 0_u8..5, proptest::collection::vec(0_u32..3, 1..5)), 1..60),
    ) {
        let mut book = book(8);
        let mut places: [(Vec<u32>, Place); 3] = std::array::from_fn(|_| (vec![0], Place::default()));
        for (who, act, pages) in acts {
            match act {
                0 | 1 => {
                    let (all, place) = &mut places[who];
                    *all = tokens(&pages);
                    all.push(7);
                    let behind = book.begin(None, all, place);
                    prop_assert!(behind.len() <= pages.len());
                }
                2 => {
                    let (all, place) = &mut places[who];
                    book.learn(None, all, all.len() - 1, who as u32, place);
                }
                3 => book.leave(&mut places[who].1),
                _ => {
                    let ids: Vec<u64> = book.pages.keys().copied().filter(|id| id % 3 == u64::from(pages[0])).collect();
                    book.forgotten(&ids[..ids.len().min(2)], places.iter_mut().map(|(_, place)| place));
                }
            }
            book.make_room(2);
            for (id, node) in &book.pages {
                let users = places.iter().filter(|(_, place)| place.held.contains(id)).count();
                prop_assert_eq!(users, node.users as usize);
                prop_assert_eq!(book.idle.contains(&(node.used, *id)), users == 0 && node.children.is_empty());
                prop_assert!(node.children.iter().all(|(tokens, child)| book.pages[child].tokens == *tokens && child > id));
                let listed = match node.parent {
                    Tip::Root => book.roots[&None].get(&node.tokens),
                    Tip::Page(parent) => book.pages[&parent].children.get(&node.tokens),
                };
                prop_assert_eq!(listed, Some(id));
            }
            prop_assert!(book.idle.iter().all(|(_, id)| book.pages.contains_key(id)));
            prop_assert!(book.pages.len() <= 6 || book.idle.is_empty());
        }
    }
}
