//! AArch64 Advanced SIMD: half a block is one register. Four products of bytes are one instruction where the CPU has `sdot`; elsewhere
//! two products of signed bytes fit into 16 bits.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::{aarch64::*, asm};
use std::marker::PhantomData;

use super::super::Simd;
use super::super::neon::Neon;
use super::{Dots, DotsTask};

/// How four products of bytes are added up.
pub(super) struct NeonDots<F: Fours>(PhantomData<F>);

/// Runs `task` with what every AArch64 has.
///
/// # Safety
/// The task's own contract must hold.
pub(super) unsafe fn run<T: DotsTask>(task: T) {
    task.run::<NeonDots<Multiplied>>();
}

/// Runs `task` with the feature on.
///
/// # Safety
/// It must be present; the task's own contract must hold.
#[target_feature(enable = "dotprod")]
pub(super) unsafe fn run_sdot<T: DotsTask>(task: T) {
    task.run::<NeonDots<Sdot>>();
}

type Bytes = [uint8x16_t; 4];
type Ints = [int32x4_t; 4];

/// Adds to four numbers the four products of their signed bytes.
///
/// # Safety
/// What it takes must be present.
pub(super) trait Fours {
    /// Whether it takes several instructions.
    const SEVERAL: bool;

    unsafe fn accumulate(sums: int32x4_t, w: uint8x16_t, x: uint8x16_t) -> int32x4_t;
}

/// By multiplying bytes to 16 bits.
pub(super) struct Multiplied;

impl Fours for Multiplied {
    const SEVERAL: bool = true;

    #[inline(always)]
    unsafe fn accumulate(sums: int32x4_t, w: uint8x16_t, x: uint8x16_t) -> int32x4_t {
        let (w, x) = (vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(x));
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
        let high = vpaddlq_s16(vmull_high_s8(w, x));
        vaddq_s32(sums, vpaddq_s32(low, high))
    }
}

/// By the instruction of that name.
pub(super) struct Sdot;

impl Fours for Sdot {
    const SEVERAL: bool = false;

    #[inline(always)]
    unsafe fn accumulate(mut sums: int32x4_t, w: uint8x16_t, x: uint8x16_t) -> int32x4_t {
        // The intrinsic is not stable. SAFETY: the instruction reads and writes registers alone; the caller has seen that it is there.
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
        sums
    }
}

/// Eight sums of two neighbouring products of signed bytes.
#[inline(always)]
unsafe fn pairs(w: uint8x16_t, x: uint8x16_t) -> int16x8_t {
    let (w, x) = (vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(x));
    vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x))
}

/// The bits of bytes, `places` down, or up where that is negative.
#[inline(always)]
unsafe fn shifted(v: uint8x16_t, places: i32) -> uint8x16_t {
    vshlq_u8(v, vdupq_n_s8(-places as i8))
}

/// `value` in every byte whose bit is set.
#[inline(always)]
unsafe fn value_where(bits: u16, value: u8) -> uint8x16_t {
    let bytes = vcombine_u8(vdup_n_u8(bits as u8), vdup_n_u8((bits >> 8) as u8));
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(value))
}

/// One sum of each of the four.
#[inline(always)]
unsafe fn fold4(a: int32x4_t, b: int32x4_t, c: int32x4_t, d: int32x4_t) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))
}

#[inline(always)]
unsafe fn bytes16(words: [u64; 2]) -> uint8x16_t {
    vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(words[0]), vcreate_u64(words[1])))
}

impl<F: Fours> Dots for NeonDots<F> {
    type S = Neon;
    type Bytes = Bytes;
    type Ints = Ints;
    type Words = [int16x8_t; 4];
    const BIAS: i32 = 0;
    const WIDE: bool = false;
    const NARROW: bool = F::SEVERAL;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> Bytes {
        [vld1q_u8(p), vld1q_u8(p.add(16)), vld1q_u8(p.add(32)), vld1q_u8(p.add(48))]
    }
    #[inline(always)]
    unsafe fn load_two(a: *const u8, b: *const u8) -> Bytes {
        [vld1q_u8(a), vld1q_u8(a.add(16)), vld1q_u8(b), vld1q_u8(b.add(16))]
    }
    #[inline(always)]
    unsafe fn twice(p: *const u8) -> Bytes {
        Self::load_two(p, p)
    }
    #[inline(always)]
    unsafe fn nibbles(a: *const u8, b: *const u8) -> Bytes {
        let (a, b, low) = (vld1q_u8(a), vld1q_u8(b), vdupq_n_u8(15));
        [vandq_u8(a, low), vshrq_n_u8::<4>(a), vandq_u8(b, low), vshrq_n_u8::<4>(b)]
    }
    #[inline(always)]
    unsafe fn splat4(p: *const u8) -> Bytes {
        [vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())); 4]
    }
    #[inline(always)]
    unsafe fn splat4_two(a: *const u8, b: *const u8) -> Bytes {
        let (a, b) = (Self::splat4(a), Self::splat4(b));
        [a[0], a[1], b[2], b[3]]
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, v: Bytes) {
        for at in 0..4 {
            vst1q_u8(p.add(16 * at), v[at]);
        }
    }
    #[inline(always)]
    unsafe fn and(v: Bytes, mask: u8) -> Bytes {
        let mask = vdupq_n_u8(mask);
        [vandq_u8(v[0], mask), vandq_u8(v[1], mask), vandq_u8(v[2], mask), vandq_u8(v[3], mask)]
    }
    #[inline(always)]
    unsafe fn or(v: Bytes, w: Bytes) -> Bytes {
        [vorrq_u8(v[0], w[0]), vorrq_u8(v[1], w[1]), vorrq_u8(v[2], w[2]), vorrq_u8(v[3], w[3])]
    }
    #[inline(always)]
    unsafe fn bits(v: Bytes, a: i32, b: i32, mask: u8) -> Bytes {
        Self::and([shifted(v[0], a), shifted(v[1], a), shifted(v[2], b), shifted(v[3], b)], mask)
    }
    #[inline(always)]
    unsafe fn add_where(v: Bytes, bits: [u32; 2], value: u8) -> Bytes {
        [
            vaddq_u8(v[0], value_where(bits[0] as u16, value)),
            vaddq_u8(v[1], value_where((bits[0] >> 16) as u16, value)),
            vaddq_u8(v[2], value_where(bits[1] as u16, value)),
            vaddq_u8(v[3], value_where((bits[1] >> 16) as u16, value)),
        ]
    }
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], v: Bytes) -> Bytes {
        let table = vreinterpretq_u8_s8(vld1q_s8(table.as_ptr()));
        [vqtbl1q_u8(table, v[0]), vqtbl1q_u8(table, v[1]), vqtbl1q_u8(table, v[2]), vqtbl1q_u8(table, v[3])]
    }
    #[inline(always)]
    unsafe fn bias(v: Bytes) -> Bytes {
        v
    }

    #[inline(always)]
    unsafe fn zero() -> Ints {
        [vdupq_n_s32(0); 4]
    }
    #[inline(always)]
    unsafe fn load_ints(p: *const i32) -> Ints {
        [vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))]
    }
    #[inline(always)]
    unsafe fn ints_twice(p: *const i32) -> Ints {
        let (low, high) = (vld1q_s32(p), vld1q_s32(p.add(4)));
        [low, high, low, high]
    }
    #[inline(always)]
    unsafe fn add(a: Ints, b: Ints) -> Ints {
        [vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1]), vaddq_s32(a[2], b[2]), vaddq_s32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn sub(a: Ints, b: Ints) -> Ints {
        [vsubq_s32(a[0], b[0]), vsubq_s32(a[1], b[1]), vsubq_s32(a[2], b[2]), vsubq_s32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn mul(a: Ints, b: Ints) -> Ints {
        [vmulq_s32(a[0], b[0]), vmulq_s32(a[1], b[1]), vmulq_s32(a[2], b[2]), vmulq_s32(a[3], b[3])]
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Ints {
        [vdupq_n_s32(x); 4]
    }
    #[inline(always)]
    unsafe fn accumulate(sums: Ints, w: Bytes, x: Bytes, _signed: bool) -> Ints {
        // Bytes of at most 127 are signed ones too.
        [
            F::accumulate(sums[0], w[0], x[0]),
            F::accumulate(sums[1], w[1], x[1]),
            F::accumulate(sums[2], w[2], x[2]),
            F::accumulate(sums[3], w[3], x[3]),
        ]
    }
    #[inline(always)]
    unsafe fn no_words() -> Self::Words {
        [vdupq_n_s16(0); 4]
    }
    #[inline(always)]
    unsafe fn accumulate_words(sums: Self::Words, w: Bytes, x: Bytes) -> Self::Words {
        [
            vaddq_s16(sums[0], pairs(w[0], x[0])),
            vaddq_s16(sums[1], pairs(w[1], x[1])),
            vaddq_s16(sums[2], pairs(w[2], x[2])),
            vaddq_s16(sums[3], pairs(w[3], x[3])),
        ]
    }
    #[inline(always)]
    unsafe fn add_words(sums: Ints, words: Self::Words) -> Ints {
        [
            vpadalq_s16(sums[0], words[0]),
            vpadalq_s16(sums[1], words[1]),
            vpadalq_s16(sums[2], words[2]),
            vpadalq_s16(sums[3], words[3]),
        ]
    }
    #[inline(always)]
    unsafe fn fold_halves(s: [Ints; 8]) -> [Ints; 2] {
        let (mut first, mut second) = (Self::zero(), Self::zero());
        for four in 0..4 {
            let (a, b) = (s[2 * four], s[2 * four + 1]);
            first[four] = fold4(a[0], a[2], b[0], b[2]);
            second[four] = fold4(a[1], a[3], b[1], b[3]);
        }
        [first, second]
    }
    #[inline(always)]
    unsafe fn fold(s: [Ints; 8]) -> Ints {
        let mut all = Self::zero();
        for four in 0..4 {
            let (a, b) = (s[2 * four], s[2 * four + 1]);
            let (first, second) = (vaddq_s32(a[0], a[1]), vaddq_s32(a[2], a[3]));
            all[four] = fold4(first, second, vaddq_s32(b[0], b[1]), vaddq_s32(b[2], b[3]));
        }
        all
    }
    #[inline(always)]
    unsafe fn evens_odds(bytes: [u64; 4]) -> [Ints; 2] {
        let (mut evens, mut odds) = (Self::zero(), Self::zero());
        for half in 0..2 {
            let words = vreinterpretq_s16_u8(bytes16([bytes[2 * half], bytes[2 * half + 1]]));
            let (even, odd) = (vshrq_n_s16::<8>(vshlq_n_s16::<8>(words)), vshrq_n_s16::<8>(words));
            evens[2 * half] = vmovl_s16(vget_low_s16(even));
            evens[2 * half + 1] = vmovl_high_s16(even);
            odds[2 * half] = vmovl_s16(vget_low_s16(odd));
            odds[2 * half + 1] = vmovl_high_s16(odd);
        }
        [evens, odds]
    }

    #[inline(always)]
    unsafe fn floats(v: Ints) -> [float32x4_t; 4] {
        [vcvtq_f32_s32(v[0]), vcvtq_f32_s32(v[1]), vcvtq_f32_s32(v[2]), vcvtq_f32_s32(v[3])]
    }
    #[inline(always)]
    unsafe fn byte_floats(bytes: [u64; 2]) -> [float32x4_t; 4] {
        let bytes = bytes16(bytes);
        let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
        [
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
            vcvtq_f32_u32(vmovl_high_u16(low)),
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
            vcvtq_f32_u32(vmovl_high_u16(high)),
        ]
    }
    #[inline(always)]
    unsafe fn floats_twice(p: *const f32) -> [float32x4_t; 4] {
        let (low, high) = (vld1q_f32(p), vld1q_f32(p.add(4)));
        [low, high, low, high]
    }
    #[inline(always)]
    unsafe fn splat_two(a: f32, b: f32) -> [float32x4_t; 4] {
        let (a, b) = (vdupq_n_f32(a), vdupq_n_f32(b));
        [a, a, b, b]
    }
    #[inline(always)]
    unsafe fn half_floats(halves: [u16; 16]) -> [float32x4_t; 4] {
        Neon::load_f16(halves.as_ptr().cast())
    }
}
