//! `exp` and `ln`, the same bits everywhere.

use crate::simd::{Scalar, Simd};

/// Below this (ln of the least normal number) `exp` is 0.
const EXP_LEAST: f32 = -87.336_54;
/// Above this `exp` is infinite.
const EXP_MOST: f32 = 88.37;
/// `1.5 * 2^23`: adding it rounds to an integer, which then stands in the low bits.
const SHIFT: f32 = 12_582_912.0;
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `(exp(r) - 1 - r) / r^2` on |r| <= ln(2) / 2, highest power first.
const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `exp` of sixteen lanes, within 2 units in the last place; 0 below ln(2^-126), infinite above 88.37.
///
/// # Safety
/// `S` must be available.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let shifted = S::fma(x, S::splat(std::f32::consts::LOG2_E), S::splat(SHIFT));
        let n = S::sub(shifted, S::splat(SHIFT));
        let r = S::fma(n, S::splat(-LN_2_HIGH), x);
        let r = S::fma(n, S::splat(-LN_2_LOW), r);
        let mut p = S::splat(POLYNOMIAL[0]);
        for coefficient in &POLYNOMIAL[1..] {
            p = S::fma(p, r, S::splat(*coefficient));
        }
        let p = S::fma(p, S::mul(r, r), r);
        let p = S::add(p, S::splat(1.0));
        let y = S::mul(p, S::pow2_of_shifted(shifted));
        let y = S::select_lt(x, S::splat(EXP_LEAST), S::splat(0.0), y);
        S::select_lt(S::splat(EXP_MOST), x, S::splat(f32::INFINITY), y)
    }
}

/// `cap * tanh(x / cap)`, by `tanh(y) = 1 - 2 / (exp(2 y) + 1)`: off by some 1e-7 of the cap.
///
/// # Safety
/// `S` must be available.
#[inline(always)]
pub(crate) unsafe fn capped<S: Simd>(x: S::V, cap: f32) -> S::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let (cap, two) = (S::splat(cap), S::splat(2.0));
        let e = exp::<S>(S::mul(S::div(x, cap), two));
        S::mul(cap, S::sub(S::splat(1.0), S::div(two, S::add(e, S::splat(1.0)))))
    }
}

/// [`exp`] of one number.
pub(crate) fn exp1(x: f32) -> f32 {
    // SAFETY: scalar code is always available.
    unsafe { exp::<Scalar>([x; 16])[0] }
}

/// `1 / (1 + exp(-x))`, the same bits everywhere.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp1(-x))
}

/// The natural logarithm, computed in f64 from additions, products and quotients alone, and rounded once to f32.
pub(crate) fn ln(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    // Every positive f32 is a normal f64: x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    let bits = f64::from(x).to_bits();
    let mut e = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | 1023 << 52);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    // ln m = 2 atanh z, z = (m - 1) / (m + 1), |z| < 0.172.
    let z = (m - 1.0) / (m + 1.0);
    let square = z * z;
    let mut series = 0.0;
    for power in (0..=10).rev() {
        series = series * square + 1.0 / f64::from(2 * power + 1);
    }
    (f64::from(e) * std::f64::consts::LN_2 + 2.0 * z * series) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ulps(found: f32, expected: f64) -> f64 {
        let ulp = f64::from(f32::from_bits((expected as f32).to_bits() + 1)) - f64::from(expected as f32);
        (f64::from(found) - expected).abs() / ulp
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp1(0.0), 1.0);
        assert_eq!(exp1(-0.0), 1.0);
        assert_eq!(exp1(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp1(-87.34), 0.0);
        assert_eq!(exp1(-1e30), 0.0);
        assert!(exp1(EXP_LEAST) >= f32::MIN_POSITIVE * 0.999);
        assert_eq!(exp1(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp1(89.0), f32::INFINITY);
        assert!(exp1(88.0).is_finite());
        assert!(exp1(EXP_MOST).is_finite());
        assert!(exp1(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_has_its_ends_and_its_middle() {
        assert_eq!([f32::NEG_INFINITY, -1e9, 0.0, 1e9].map(sigmoid), [0.0, 0.0, 0.5, 1.0]);
        assert!((sigmoid(1.0) - 0.731_058_6).abs() < 1e-6);
    }

    #[test]
    fn exp_is_within_two_ulps_on_a_fine_grid() {
        let mut worst = 0.0f64;
        for i in 0..=175_000 {
            let x = -87.0 + i as f32 * 1e-3;
            worst = worst.max(ulps(exp1(x), f64::from(x).exp()));
        }
        assert!(worst <= 2.0, "{worst} ulp");
    }

    proptest! {
        #[test]
        fn exp_is_within_two_ulps(x in -87.0f32..88.0) {
            prop_assert!(ulps(exp1(x), f64::from(x).exp()) <= 2.0);
        }

        #[test]
        fn caps_are_the_hyperbolic_tangents(x in -300.0f32..300.0, cap in 1.0f32..100.0) {
            // SAFETY: scalar code is always available.
            let found = unsafe { capped::<Scalar>([x; 16], cap)[0] };
            let expected = f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh();
            prop_assert!((f64::from(found) - expected).abs() <= f64::from(cap) * 5e-7, "{found} {expected}");
        }

        #[test]
        fn ln_is_rounded_correctly(x in 1e-38f32..3e38) {
            prop_assert!((f64::from(ln(x)) - f64::from(x).ln()).abs() <= f64::from(x).ln().abs() * 6.1e-8 + 1e-12);
        }
    }

    #[test]
    fn ln_at_the_edges() {
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan());
        assert!((ln(1e-45) - -103.278_93).abs() < 1e-4);
    }
}
