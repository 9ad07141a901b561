//! Suffix lookup against a search that tries every place.

use proptest::prelude::*;

use super::suffix::{Match, SuffixLookup};

/// The length of the longest end of `text` that ends earlier as well.
fn longest(text: &[u32]) -> usize {
    let seen =
        |length: &usize| text[..text.len() - 1].windows(*length).any(|part| part == &text[text.len() - length..]);
    (1..text.len()).rev().find(seen).unwrap_or(0)
}

proptest! {
    /// The longest end is found at every token, at a place where it was, and what follows is what followed there.
    #[test]
    fn the_longest_end_that_was_seen_is_found(text in prop_oneof![
        proptest::collection::vec(0_u32..2, 1..60),
        proptest::collection::vec(0_u32..4, 1..120),
        proptest::collection::vec(0_u32..40, 1..120),
        (proptest::collection::vec(0_u32..3, 1..6), 1_usize..30).prop_map(|(part, times)| part.repeat(times)),
    ]) {
        let mut lookup = SuffixLookup::default();
        for end in 1..=text.len() {
            let found = lookup.push(text[end - 1]);
            let so_far = &text[..end];
            prop_assert_eq!(found.length as usize, longest(so_far), "{:?}", so_far);
            let (next, length) = (found.next as usize, found.length as usize);
            prop_assert!(length == 0 || next < end);
            prop_assert_eq!(&so_far[next - length..next], &so_far[end - length..]);
            let following = lookup.following(found, 7);
            if length == 0 {
                prop_assert!(following.is_empty());
            } else {
                prop_assert_eq!(following.len(), 7);
                let known = 7.min(end - next);
                prop_assert_eq!(&following[..known], &so_far[next..next + known]);
                // A text that overlaps itself goes on as it did.
                prop_assert!(following.iter().enumerate().all(|(at, token)| at < end - next || *token == following[at - (end - next)]));
            }
        }
    }
}

#[test]
fn the_latest_place_that_was_looked_up_is_given() {
    let mut lookup = SuffixLookup::default();
    let found: Vec<Match> = [1, 2, 7, 1, 2, 8, 1, 2].map(|token| lookup.push(token)).into();
    assert_eq!(found[4], Match { length: 2, next: 2 });
    assert_eq!(found[7], Match { length: 2, next: 5 });
    assert_eq!(lookup.following(found[7], 4), [8, 1, 2, 8]);
}

/// States and steps stay within twice and three times the text, whatever it is: time and memory are linear.
#[test]
fn a_long_text_takes_time_in_proportion() {
    let mut lookup = SuffixLookup::default();
    let mut state = 1_u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        lookup.push((state >> 62) as u32);
    }
    let (states, steps) = lookup.size();
    assert!(states <= 400_000 && steps <= 600_000, "{states} states, {steps} steps");
}
