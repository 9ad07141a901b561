//! Portable code: the format in words of Rust.
#![allow(unsafe_op_in_unsafe_fn)]

use super::super::layout::{CODE_BYTES, GROUP, TABLE};
use super::Groups;

/// # Safety
/// As [`super::ExpandPart`].
pub(super) unsafe fn expand(part: *const u8, groups: usize, table: [u8; TABLE], into: *mut u8, ahead: usize) {
    for (rest, codes, into) in Groups::new(part, groups, into, ahead) {
        let rest = rest.cast::<[u8; GROUP]>().read();
        let codes = codes.cast::<[u8; CODE_BYTES]>().read();
        let mut values = [[0u8; 2]; GROUP];
        for (place, rest) in rest.into_iter().enumerate() {
            let low = codes[place % 16] >> (place / 16 * 2) & 3;
            let high = codes[16 + place % 8] >> (place / 8) & 1;
            let exponent = table[usize::from(high << 2 | low)];
            let value = [exponent << 7 | rest & 0x7f, rest & 0x80 | exponent >> 1];
            values[place / 8 % 2 * 32 + place / 16 * 8 + place % 8] = value;
        }
        into.cast::<[[u8; 2]; GROUP]>().write(values);
    }
}
