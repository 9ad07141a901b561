//! Portable code: the definition in words of Rust.

use super::Dots;
use crate::lanes::BLOCK;

pub(crate) struct ScalarDots;

impl Dots for ScalarDots {
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], halves: &[u8; 16]) -> [i8; BLOCK] {
        let mut levels = [0; BLOCK];
        for (at, byte) in halves.iter().enumerate() {
            levels[at] = table[usize::from(byte & 15)];
            levels[at + 16] = table[usize::from(byte >> 4)];
        }
        levels
    }

    #[inline(always)]
    unsafe fn dots(w: *const i8, x: *const i8, _sums: *const i32, into: *mut f32) {
        for block in 0..16 {
            let mut dot = 0i32;
            for at in block * BLOCK..(block + 1) * BLOCK {
                // SAFETY: the caller's blocks.
                dot += unsafe { i32::from(*w.add(at)) * i32::from(*x.add(at)) };
            }
            // SAFETY: the caller's room.
            unsafe { *into.add(block) = dot as f32 };
        }
    }
}
