//! Expanders against the portable one, and readers against hostile bytes.

use proptest::prelude::*;

use super::layout::GROUP_BYTES;
use super::*;
use crate::isa::Isa;

#[test]
fn layouts_are_aligned_and_small() {
    for (out, columns) in [(1, 1), (3, 63), (5, 64), (4096, 4096), (11008, 4096), (4096, 11008), (32000, 2048)] {
        let layout = CompactLayout::of(out, columns).unwrap();
        for at in [layout.heads, layout.exceptions, layout.bytes] {
            assert_eq!(at % 64, 0, "{out} x {columns}");
        }
        assert!(out * layout.record_bytes() <= layout.heads && layout.groups * GROUP >= columns);
        assert_eq!(compact_bytes(out, columns), layout.bytes as u64);
        let raw = out * columns * 2;
        assert!(out < 4096 || layout.bytes * 100 <= raw * 72, "{out} x {columns}: {} of {raw}", layout.bytes);
    }
    for (out, columns) in
        [(usize::MAX, usize::MAX), (usize::MAX, 1), (1, usize::MAX), (1 << 32, 1 << 32), (1 << 30, 1 << 30)]
    {
        assert!(CompactLayout::of(out, columns).is_none());
        assert_eq!(compact_bytes(out, columns), u64::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_expander_equals_scalar(
        groups in 1usize..20,
        bytes in proptest::collection::vec(any::<u8>(), 20 * GROUP_BYTES),
        table in any::<[u8; 8]>(),
    ) {
        // Exact lengths, so that a step outside is a step outside the allocation.
        let part = bytes[..groups * GROUP_BYTES].to_vec();
        let expanded = |isa| {
            let mut into = vec![0; groups * GROUP * 2];
            Expand::of(isa).run(&part, table, &mut into, 0);
            into
        };
        let expected = expanded(Isa::Scalar);
        for isa in Isa::available() {
            prop_assert_eq!(expanded(isa), expected.clone(), "{}", isa);
        }
    }

    #[test]
    fn parts_of_a_row_are_the_row(
        columns in 1usize..3000,
        seed in any::<u64>(),
    ) {
        let layout = CompactLayout::of(3, columns).unwrap();
        let mut state = seed | 1;
        let mut bytes: Vec<u8> = (0..layout.bytes)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        // Heads that say something: any bytes would mean no exceptions, most of the time.
        for row in 0..3 {
            let at = layout.heads + row * 16 + 8;
            bytes[at..at + 8].copy_from_slice(&[row as u8 * 7, 0, 0, 0, 40, 0, 0, 0]);
        }
        let rows = CompactRows::new(&bytes, layout);
        for isa in Isa::available() {
            let expand = Expand::of(isa);
            for index in 0..3 {
                let mut whole = vec![0; layout.groups * GROUP * 2];
                rows.reader(index).expand(expand, layout.groups, &mut whole, 64);
                let (mut row, mut parts) = (rows.reader(index), Vec::new());
                let mut part = vec![0; STRIPE * GROUP * 2];
                for first in (0..layout.groups).step_by(STRIPE) {
                    let groups = STRIPE.min(layout.groups - first);
                    row.expand(expand, groups, &mut part, 0);
                    parts.extend_from_slice(&part[..groups * GROUP * 2]);
                }
                prop_assert_eq!(&parts, &whole);
            }
        }
    }
}
