//! Whole layers in proportion, under caps.

use crate::{block::BlockRange, units::Bytes};

/// Splits `layers` over devices in proportion to `room`, nobody over its cap: largest remainders first, and what a capped
/// device cannot take goes to the others. `None` where the caps do not suffice.
pub(super) fn proportional_shares(room: &[Bytes], caps: &[u32], layers: u32) -> Option<Vec<u32>> {
    let total_cap: u64 = caps.iter().map(|cap| u64::from(*cap)).sum();
    if total_cap < u64::from(layers) {
        return None;
    }
    let mut shares = vec![0_u32; room.len()];
    let mut left = layers;
    while left > 0 {
        let open: Vec<usize> = (0..room.len()).filter(|&index| shares[index] < caps[index]).collect();
        // A device with layers to take but no room to count must still weigh something.
        let weight = |index: usize| u128::from(room[index].0.max(1));
        let total: u128 = open.iter().map(|&index| weight(index)).sum();
        let exact = |index: usize| u128::from(left) * weight(index);
        let mut order = open.clone();
        order.sort_by_key(|&index| (std::cmp::Reverse(exact(index) % total), index));
        let mut given = 0;
        for &index in &open {
            let whole = (exact(index) / total) as u32;
            let taken = whole.min(caps[index] - shares[index]);
            shares[index] += taken;
            given += taken;
        }
        for index in order {
            if given < left && shares[index] < caps[index] {
                shares[index] += 1;
                given += 1;
            }
        }
        left -= given;
    }
    Some(shares)
}

/// Cuts the layers into segments and each segment into devices, so that device `d` holds `totals[d]` layers in all, spread
/// evenly over the segments. One list of ranges per device, one range per segment.
pub(super) fn segment_ranges(totals: &[u32], segments: u32) -> Vec<Vec<BlockRange>> {
    let mut ranges = vec![Vec::with_capacity(segments as usize); totals.len()];
    let mut next = 0;
    let mut extra_from = 0;
    let mut extras = vec![vec![0_u32; segments as usize]; totals.len()];
    for (device, total) in totals.iter().enumerate() {
        // The odd layers of one device follow those of the one before: segments stay about equal.
        for _ in 0..total % segments {
            extras[device][extra_from as usize] += 1;
            extra_from = (extra_from + 1) % segments;
        }
    }
    for segment in 0..segments {
        for (device, total) in totals.iter().enumerate() {
            let count = total / segments + extras[device][segment as usize];
            ranges[device].push(BlockRange::layers(next, next + count));
            next += count;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_room() {
        let room = [Bytes(100), Bytes(200), Bytes(300)];
        assert_eq!(proportional_shares(&room, &[9, 9, 9], 6), Some(vec![1, 2, 3]));
        assert_eq!(proportional_shares(&room, &[9, 9, 9], 7), Some(vec![1, 2, 4]));
    }

    #[test]
    fn what_a_capped_device_cannot_take_goes_to_the_others() {
        let room = [Bytes(100), Bytes(200), Bytes(300)];
        assert_eq!(proportional_shares(&room, &[9, 9, 1], 6), Some(vec![2, 3, 1]));
        assert_eq!(proportional_shares(&room, &[1, 1, 4], 6), Some(vec![1, 1, 4]));
        assert_eq!(proportional_shares(&room, &[1, 1, 3], 6), None);
    }

    #[test]
    fn odd_layers_are_spread_over_the_segments() {
        let ranges = segment_ranges(&[3, 5, 4], 2);
        assert_eq!(ranges[0], [BlockRange::layers(0, 2), BlockRange::layers(6, 7)]);
        assert_eq!(ranges[1], [BlockRange::layers(2, 4), BlockRange::layers(7, 10)]);
        assert_eq!(ranges[2], [BlockRange::layers(4, 6), BlockRange::layers(10, 12)]);
    }
}
