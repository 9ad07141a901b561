//! The portable instruction set: plain loops and `f32::mul_add`.
#![allow(unsafe_op_in_unsafe_fn)]

use super::Simd;
use crate::convert::{widen_bf16, widen_f16};
use crate::isa::Isa;
use crate::lanes::TileLayout;

/// Portable code.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type V = [f32; 16];
type G = [f32; 8];

#[inline(always)]
fn zip<const N: usize>(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|l| f(a[l], b[l]))
}

#[inline(always)]
unsafe fn half_word(p: *const u8, index: usize) -> u16 {
    u16::from_le_bytes(p.add(2 * index).cast::<[u8; 2]>().read())
}

impl Simd for Scalar {
    type V = V;
    type G = G;
    const LAYOUT: TileLayout = TileLayout::of(Isa::Scalar);

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        p.cast::<V>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        p.cast::<V>().write_unaligned(v);
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        std::array::from_fn(|l| a[l].mul_add(b[l], c[l]))
    }
    #[inline(always)]
    unsafe fn select_lt(x: V, y: V, a: V, b: V) -> V {
        std::array::from_fn(|l| if x[l] < y[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    unsafe fn pow2_of_shifted(t: V) -> V {
        t.map(|t| f32::from_bits((t.to_bits() << 23).wrapping_add(1.0f32.to_bits())))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> (V, V) {
        (
            std::array::from_fn(|l| widen_bf16(half_word(p, 2 * l))),
            std::array::from_fn(|l| widen_bf16(half_word(p, 2 * l + 1))),
        )
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V {
        std::array::from_fn(|l| widen_f16(half_word(p, l)))
    }
    #[inline(always)]
    unsafe fn sum(mut v: V) -> f32 {
        for step in [8, 4, 2, 1] {
            for l in 0..step {
                v[l] += v[l + step];
            }
        }
        v[0]
    }
    #[inline(always)]
    unsafe fn sums(rows: *const f32) -> V {
        std::array::from_fn(|row| Self::sum(Self::load(rows.add(16 * row))))
    }
    #[inline(always)]
    unsafe fn store_groups(p: *mut f32, step: usize, v: V) {
        p.copy_from_nonoverlapping(v.as_ptr(), 8);
        p.add(step).copy_from_nonoverlapping(v.as_ptr().add(8), 8);
    }
    #[inline(always)]
    unsafe fn load_groups(p: *const f32, step: usize) -> V {
        let (low, high) = (Self::group_load(p), Self::group_load(p.add(step)));
        std::array::from_fn(|l| if l < 8 { low[l] } else { high[l - 8] })
    }
    #[inline(always)]
    unsafe fn group_zero() -> G {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn group_load(p: *const f32) -> G {
        p.cast::<G>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn group_store(p: *mut f32, g: G) {
        p.cast::<G>().write_unaligned(g);
    }
    #[inline(always)]
    unsafe fn group_fma(a: G, b: G, c: G) -> G {
        std::array::from_fn(|l| a[l].mul_add(b[l], c[l]))
    }
}
