//! AArch64 Advanced SIMD: sixteen lanes are four registers.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::aarch64::*;

use super::{Simd, Task};
use crate::isa::Isa;
use crate::lanes::TileLayout;

/// Advanced SIMD, which every AArch64 has.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// Runs `task`.
///
/// # Safety
/// The task's own contract must hold.
pub(crate) unsafe fn run<T: Task>(task: T) {
    task.run::<Neon>();
}

type G = float32x4_t;
type V = [float32x4_t; 4];

/// The tree below four lanes: l+2, l+1.
#[inline(always)]
unsafe fn sum4(v: G) -> f32 {
    let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    vget_lane_f32::<0>(v) + vget_lane_f32::<1>(v)
}

/// l+8, then l+4.
#[inline(always)]
unsafe fn fold(v: V) -> G {
    vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]))
}

/// l+2: two lanes of row `a`, then two of row `b`.
#[inline(always)]
unsafe fn fold2(a: G, b: G) -> G {
    let low = vcombine_f32(vget_low_f32(a), vget_low_f32(b));
    let high = vcombine_f32(vget_high_f32(a), vget_high_f32(b));
    vaddq_f32(low, high)
}

/// l+1 of four rows.
#[inline(always)]
unsafe fn fold1(a: G, b: G) -> G {
    vaddq_f32(vuzp1q_f32(a, b), vuzp2q_f32(a, b))
}

#[inline(always)]
unsafe fn bits(v: G) -> uint32x4_t {
    vreinterpretq_u32_f32(v)
}

#[inline(always)]
unsafe fn floats(v: uint32x4_t) -> G {
    vreinterpretq_f32_u32(v)
}

impl Simd for Neon {
    type V = V;
    type G = G;
    const LAYOUT: TileLayout = TileLayout::of(Isa::Neon);

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [vdupq_n_f32(x); 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))]
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        vst1q_f32(p, v[0]);
        vst1q_f32(p.add(4), v[1]);
        vst1q_f32(p.add(8), v[2]);
        vst1q_f32(p.add(12), v[3]);
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1]), vaddq_f32(a[2], b[2]), vaddq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1]), vsubq_f32(a[2], b[2]), vsubq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1]), vmulq_f32(a[2], b[2]), vmulq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1]), vdivq_f32(a[2], b[2]), vdivq_f32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        // vfmaq adds the product of its last two to its first.
        [
            vfmaq_f32(c[0], a[0], b[0]),
            vfmaq_f32(c[1], a[1], b[1]),
            vfmaq_f32(c[2], a[2], b[2]),
            vfmaq_f32(c[3], a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn select_lt(x: V, y: V, a: V, b: V) -> V {
        [
            vbslq_f32(vcltq_f32(x[0], y[0]), a[0], b[0]),
            vbslq_f32(vcltq_f32(x[1], y[1]), a[1], b[1]),
            vbslq_f32(vcltq_f32(x[2], y[2]), a[2], b[2]),
            vbslq_f32(vcltq_f32(x[3], y[3]), a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn pow2_of_shifted(t: V) -> V {
        let one = vdupq_n_u32(1.0f32.to_bits());
        [
            floats(vaddq_u32(vshlq_n_u32::<23>(bits(t[0])), one)),
            floats(vaddq_u32(vshlq_n_u32::<23>(bits(t[1])), one)),
            floats(vaddq_u32(vshlq_n_u32::<23>(bits(t[2])), one)),
            floats(vaddq_u32(vshlq_n_u32::<23>(bits(t[3])), one)),
        ]
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> (V, V) {
        let high = vdupq_n_u32(0xffff_0000);
        let a = vreinterpretq_u32_u8(vld1q_u8(p));
        let b = vreinterpretq_u32_u8(vld1q_u8(p.add(16)));
        let c = vreinterpretq_u32_u8(vld1q_u8(p.add(32)));
        let d = vreinterpretq_u32_u8(vld1q_u8(p.add(48)));
        (
            [
                floats(vshlq_n_u32::<16>(a)),
                floats(vshlq_n_u32::<16>(b)),
                floats(vshlq_n_u32::<16>(c)),
                floats(vshlq_n_u32::<16>(d)),
            ],
            [
                floats(vandq_u32(a, high)),
                floats(vandq_u32(b, high)),
                floats(vandq_u32(c, high)),
                floats(vandq_u32(d, high)),
            ],
        )
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V {
        // The f16 vector intrinsics are not stable in every compiler we accept: `fcvtl` by hand.
        let a = vld1q_u16(p.cast());
        let b = vld1q_u16(p.add(16).cast());
        [widen4(vget_low_u16(a)), widen4(vget_high_u16(a)), widen4(vget_low_u16(b)), widen4(vget_high_u16(b))]
    }
    #[inline(always)]
    unsafe fn sum(v: V) -> f32 {
        sum4(fold(v))
    }
    #[inline(always)]
    unsafe fn sums(rows: *const f32) -> V {
        [sums4(rows), sums4(rows.add(64)), sums4(rows.add(128)), sums4(rows.add(192))]
    }
    #[inline(always)]
    unsafe fn store_groups(p: *mut f32, step: usize, v: V) {
        vst1q_f32(p, v[0]);
        vst1q_f32(p.add(step), v[1]);
        vst1q_f32(p.add(2 * step), v[2]);
        vst1q_f32(p.add(3 * step), v[3]);
    }
    #[inline(always)]
    unsafe fn load_groups(p: *const f32, step: usize) -> V {
        [vld1q_f32(p), vld1q_f32(p.add(step)), vld1q_f32(p.add(2 * step)), vld1q_f32(p.add(3 * step))]
    }
    #[inline(always)]
    unsafe fn group_zero() -> G {
        vdupq_n_f32(0.0)
    }
    #[inline(always)]
    unsafe fn group_load(p: *const f32) -> G {
        vld1q_f32(p)
    }
    #[inline(always)]
    unsafe fn group_store(p: *mut f32, g: G) {
        vst1q_f32(p, g);
    }
    #[inline(always)]
    unsafe fn group_fma(a: G, b: G, c: G) -> G {
        vfmaq_f32(c, a, b)
    }
}

/// The sums of four rows of sixteen lanes.
#[inline(always)]
unsafe fn sums4(rows: *const f32) -> G {
    let r0 = fold(Neon::load(rows));
    let r1 = fold(Neon::load(rows.add(16)));
    let r2 = fold(Neon::load(rows.add(32)));
    let r3 = fold(Neon::load(rows.add(48)));
    fold1(fold2(r0, r1), fold2(r2, r3))
}

/// Four f16 values as f32.
#[inline(always)]
unsafe fn widen4(v: uint16x4_t) -> G {
    let wide: G;
    std::arch::asm!(
        "fcvtl {wide:v}.4s, {narrow:v}.4h",
        wide = lateout(vreg) wide,
        narrow = in(vreg) v,
        options(pure, nomem, nostack, preserves_flags)
    );
    wide
}
