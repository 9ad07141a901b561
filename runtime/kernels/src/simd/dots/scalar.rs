//! Portable code: the definition in words of Rust.

use super::Dots;
use crate::lanes::BLOCK;

pub(super) struct ScalarDots;

impl Dots for ScalarDots {
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
