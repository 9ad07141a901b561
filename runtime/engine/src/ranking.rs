//! The likeliest tokens, likeliest first; of equals the lower token first.

use std::cmp::Ordering;

/// How many tokens are sorted at first when it is not known how many a nucleus needs.
const FIRST_SORTED: usize = 256;

fn order(left: &(u32, f32), right: &(u32, f32)) -> Ordering {
    // Callers have made sure that there is no NaN. (`total_cmp` would tell 0.0 from -0.0.)
    right.1.partial_cmp(&left.1).unwrap_or(Ordering::Equal).then(left.0.cmp(&right.0))
}

/// The best token.
pub(crate) fn first(values: &[f32]) -> u32 {
    let mut best = 0;
    for (token, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = token;
        }
    }
    best as u32
}

/// The `count` best tokens with their values, in order.
pub(crate) fn best(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    let mut all = numbered(values);
    sort_best(&mut all, count);
    all.truncate(count);
    all
}

/// The fewest best tokens whose probabilities add up to `mass`, at least one.
pub(crate) fn reaching(probabilities: &[f32], mass: f64) -> Vec<(u32, f32)> {
    let mut all = numbered(probabilities);
    let mut sorted = FIRST_SORTED;
    loop {
        sort_best(&mut all, sorted);
        let ready = &all[..sorted.min(all.len())];
        let count = count_reaching(ready, mass);
        if count < ready.len() || ready.len() == all.len() {
            all.truncate(count);
            return all;
        }
        sorted *= 8;
    }
}

/// How many of these add up to `mass`: at least one, all where they do not reach it.
pub(crate) fn count_reaching(candidates: &[(u32, f32)], mass: f64) -> usize {
    let mut sum = 0.0;
    for (place, (_, p)) in candidates.iter().enumerate() {
        sum += f64::from(*p);
        if sum >= mass {
            return place + 1;
        }
    }
    candidates.len()
}

fn numbered(values: &[f32]) -> Vec<(u32, f32)> {
    (0..).zip(values.iter().copied()).collect()
}

/// Brings the `count` best to the front, in order.
fn sort_best(all: &mut [(u32, f32)], count: usize) {
    if count < all.len() {
        all.select_nth_unstable_by(count - 1, order);
        all[..count].sort_unstable_by(order);
    } else {
        all.sort_unstable_by(order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equals_go_by_token() {
        assert_eq!(first(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(best(&[2.0, 3.0, 2.0, 3.0], 3), [(1, 3.0), (3, 3.0), (0, 2.0)]);
        assert_eq!(best(&[1.0], 5), [(0, 1.0)]);
    }

    proptest! {
        #[test]
        fn parts_of_the_order_are_the_order(values in proptest::collection::vec(-4i8..4, 1..2000), count in 1usize..600) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let mut all = numbered(&values);
            all.sort_by(order);
            prop_assert_eq!(first(&values), all[0].0);
            prop_assert_eq!(best(&values, count), all[..count.min(all.len())].to_vec());
        }

        #[test]
        fn a_nucleus_is_a_prefix_of_the_order(values in proptest::collection::vec(0u8..9, 1..3000), part in 0.0..1.1f64) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let mass = part * values.iter().map(|value| f64::from(*value)).sum::<f64>();
            let mut all = numbered(&values);
            all.sort_by(order);
            all.truncate(count_reaching(&all, mass));
            prop_assert_eq!(reaching(&values, mass), all);
        }
    }
}
