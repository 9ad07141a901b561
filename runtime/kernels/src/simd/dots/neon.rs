//! AArch64 Advanced SIMD: a block is two registers. Two products of bytes fit into 16 bits.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::aarch64::*;

use super::super::neon::Neon;
use super::{Dots, DotsTask};
use crate::lanes::BLOCK;

pub(super) struct NeonDots;

/// Runs `task`.
///
/// # Safety
/// The task's own contract must hold.
pub(super) unsafe fn run<T: DotsTask>(task: T) {
    task.run::<Neon, NeonDots>();
}

/// Four sums of eight products each.
#[inline(always)]
unsafe fn block(w: *const i8, x: *const i8) -> int32x4_t {
    let (w0, x0) = (vld1q_s8(w), vld1q_s8(x));
    let (w1, x1) = (vld1q_s8(w.add(16)), vld1q_s8(x.add(16)));
    let first = vmlal_high_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0)), w0, x0);
    let second = vmlal_high_s8(vmull_s8(vget_low_s8(w1), vget_low_s8(x1)), w1, x1);
    vpadalq_s16(vpaddlq_s16(first), second)
}

impl Dots for NeonDots {
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], halves: &[u8; 16]) -> [i8; BLOCK] {
        let (table, bytes) = (vld1q_s8(table.as_ptr()), vld1q_u8(halves.as_ptr()));
        let mut levels = [0; BLOCK];
        vst1q_s8(levels.as_mut_ptr(), vqtbl1q_s8(table, vandq_u8(bytes, vdupq_n_u8(15))));
        vst1q_s8(levels.as_mut_ptr().add(16), vqtbl1q_s8(table, vshrq_n_u8::<4>(bytes)));
        levels
    }

    #[inline(always)]
    unsafe fn dots(w: *const i8, x: *const i8, _sums: *const i32, into: *mut f32) {
        for four in 0..4 {
            let (w, x) = (w.add(four * 4 * BLOCK), x.add(four * 4 * BLOCK));
            let ab = vpaddq_s32(block(w, x), block(w.add(BLOCK), x.add(BLOCK)));
            let cd = vpaddq_s32(block(w.add(2 * BLOCK), x.add(2 * BLOCK)), block(w.add(3 * BLOCK), x.add(3 * BLOCK)));
            vst1q_f32(into.add(four * 4), vcvtq_f32_s32(vpaddq_s32(ab, cd)));
        }
    }
}
