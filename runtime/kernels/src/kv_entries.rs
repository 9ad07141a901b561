//! Rounding of KV entries: to nearest, ties to even, and never to an infinity.

use lime_plan::Dtype;

use crate::convert::encode;

use crate::reach::{Reach, reach};

/// Values that are rounded at a time.
const BATCH: usize = 64;

/// Stores `values` as `ty`, little-endian. A number beyond the type's range becomes the greatest number of its sign: an infinity
/// would take the whole sequence with it. What was no finite number before becomes NaN in the 16-bit types, with the same bits
/// on every CPU: it comes of a fault, which is to show in the logits. In f32 everything stays as it is.
///
/// Returns how many numbers were beyond the range.
///
/// # Panics
/// When `bytes` is not exactly as long as the values take.
pub(crate) fn store(ty: Dtype, values: &[f32], bytes: &mut [u8]) -> usize {
    let Some(Reach { greatest, beyond }) = reach(ty) else {
        encode(ty, values, bytes);
        return 0;
    };
    assert_eq!(bytes.len(), values.len() * ty.size() as usize, "bytes of {} KV entries", values.len());
    let (mut saturated, mut held) = (0, [0.0_f32; BATCH]);
    for (values, bytes) in values.chunks(BATCH).zip(bytes.chunks_mut(BATCH * ty.size() as usize)) {
        let held = &mut held[..values.len()];
        for (held, &value) in held.iter_mut().zip(values) {
            saturated += usize::from(value.is_finite() && value.abs() >= beyond);
            *held = if value.is_finite() { value.clamp(-greatest, greatest) } else { f32::NAN };
        }
        encode(ty, held, bytes);
    }
    saturated
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    /// IEEE 754 by plain arithmetic: steps of the type's last place, counted in f64, where all of this is exact.
    fn nearest(x: f64, bits: i32, least_exponent: i32, greatest: f64) -> f64 {
        if x == 0.0 {
            return x;
        }
        let exponent = (((x.abs().to_bits() >> 52) as i32) - 1023).max(least_exponent);
        let step = 2_f64.powi(exponent - bits);
        ((x / step).round_ties_even() * step).clamp(-greatest, greatest)
    }

    fn stored(ty: Dtype, value: f32) -> (u16, usize) {
        let mut bytes = [0; 2];
        let saturated = store(ty, &[value], &mut bytes);
        (u16::from_le_bytes(bytes), saturated)
    }

    fn agrees(value: f32) {
        let x = f64::from(value);
        let (f16_bits, saturated) = stored(Dtype::F16, value);
        let found = f16::from_bits(f16_bits).to_f64();
        if !value.is_finite() {
            assert_eq!((f16_bits, saturated), (0x7e00, 0), "{value:e}");
            assert_eq!(stored(Dtype::Bf16, value), (0x7fc0, 0), "{value:e}");
            return;
        }
        let expected = nearest(x, 10, -14, 65504.0);
        assert_eq!(found.to_bits(), expected.to_bits(), "{value:e} as f16: {found:e}, expected {expected:e}");
        assert_eq!(saturated, usize::from(x.abs() >= 65520.0), "{value:e}");

        let (bf16_bits, saturated) = stored(Dtype::Bf16, value);
        let (found, most) = (bf16::from_bits(bf16_bits).to_f64(), bf16::MAX.to_f64());
        let expected = nearest(x, 7, -126, most);
        assert_eq!(found.to_bits(), expected.to_bits(), "{value:e} as bf16: {found:e}, expected {expected:e}");
        assert_eq!(saturated, usize::from(nearest(x, 7, -126, f64::MAX).abs() > most), "{value:e}");
    }

    /// Every exponent of f32 with its zeros, subnormals, infinities and NaN; every mantissa that decides a rounding to f16 or bf16.
    #[test]
    fn every_class_is_rounded_as_ieee_says() {
        let kept = [0x0000_0000_u32, 0x0000_2000, 0x0000_4000, 0x0001_0000, 0x0055_0000, 0x007f_8000, 0x007f_e000];
        let dropped = [0_u32, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x7fff, 0x8000, 0x8001, 0xffff];
        for exponent in 0..=0xff_u32 {
            for kept in kept {
                for dropped in dropped {
                    let bits = exponent << 23 | (kept | dropped) & 0x007f_ffff;
                    agrees(f32::from_bits(bits));
                    agrees(f32::from_bits(bits | 1 << 31));
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        for (value, bits, saturated) in [
            (65504.0, 0x7bff, 0),
            (65519.99, 0x7bff, 0),
            (65520.0, 0x7bff, 1),
            (-65520.0, 0xfbff, 1),
            (f32::MAX, 0x7bff, 1),
            (f32::INFINITY, 0x7e00, 0),
            (f32::NEG_INFINITY, 0x7e00, 0),
            (-f32::NAN, 0x7e00, 0),
            (6.0e-8, 0x0001, 0),
            (-6.1e-5, 0x83ff, 0),
            (2.9802322e-8, 0x0000, 0),
            (2.9802326e-8, 0x0001, 0),
            (-0.0, 0x8000, 0),
        ] {
            assert_eq!(stored(Dtype::F16, value), (bits, saturated), "{value:e}");
        }
        let mut bytes = [0; 4];
        assert_eq!(store(Dtype::F32, &[f32::INFINITY], &mut bytes), 0);
        assert_eq!(f32::from_le_bytes(bytes), f32::INFINITY, "f32 entries stay as they are");
    }

    proptest! {
        #[test]
        fn any_number_is_rounded_as_ieee_says(bits in any::<u32>(), near in 0x3300_0000_u32..0x4790_0000) {
            agrees(f32::from_bits(bits));
            // Within f16's own range, its subnormals included.
            agrees(f32::from_bits(near));
        }

        #[test]
        fn a_run_is_stored_as_its_values_are(bits in proptest::collection::vec(any::<u32>(), 0..200)) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            for ty in [Dtype::F16, Dtype::Bf16] {
                let mut bytes = vec![0; values.len() * 2];
                let saturated = store(ty, &values, &mut bytes);
                let alone: Vec<(u16, usize)> = values.iter().map(|value| stored(ty, *value)).collect();
                prop_assert_eq!(bytes, alone.iter().flat_map(|(bits, _)| bits.to_le_bytes()).collect::<Vec<u8>>());
                prop_assert_eq!(saturated, alone.iter().map(|(_, count)| count).sum::<usize>());
            }
        }
    }
}
