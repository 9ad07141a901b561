//! Conversions between f32 and the stored types, rounding to nearest, ties to even.

use half::f16;

use lime_plan::Dtype;

/// Rounds every element to `ty` and back.
pub fn round_to(ty: Dtype, x: &mut [f32]) {
    match ty {
        Dtype::Bf16 => x.iter_mut().for_each(|x| *x = widen_bf16(narrow_bf16(*x))),
        Dtype::F16 => x.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        Dtype::F32 => {}
    }
}

/// Stores `values` as `ty`, little-endian.
///
/// # Panics
/// When `bytes` is not exactly as long as the values take.
pub fn encode(ty: Dtype, values: &[f32], bytes: &mut [u8]) {
    check(ty, values.len(), bytes.len());
    let values = values.iter().copied();
    match ty {
        Dtype::Bf16 => {
            for (value, bytes) in values.zip(bytes.chunks_exact_mut(2)) {
                bytes.copy_from_slice(&narrow_bf16(value).to_le_bytes());
            }
        }
        Dtype::F16 => {
            for (value, bytes) in values.zip(bytes.chunks_exact_mut(2)) {
                bytes.copy_from_slice(&f16::from_f32(value).to_le_bytes());
            }
        }
        Dtype::F32 => {
            for (value, bytes) in values.zip(bytes.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}

/// Reads `values` stored as `ty`, little-endian.
///
/// # Panics
/// When `bytes` is not exactly as long as the values take.
pub fn decode(ty: Dtype, bytes: &[u8], values: &mut [f32]) {
    check(ty, values.len(), bytes.len());
    match ty {
        Dtype::Bf16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = widen_bf16(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        }
        Dtype::F16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = widen_f16(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        }
        Dtype::F32 => {
            for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
}

fn check(ty: Dtype, values: usize, bytes: usize) {
    assert_eq!(Some(bytes), values.checked_mul(ty.size() as usize), "bytes of {values} {ty} values");
}

/// Branch-free where the value is a number, so that loops over it vectorise.
#[inline]
fn narrow_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    let quiet = ((bits >> 16) | 0x40) as u16;
    if x.is_nan() { quiet } else { rounded }
}

#[inline]
pub(crate) fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[inline]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounds_as_half_does(bits in proptest::collection::vec(any::<u32>(), 0..64)) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let mut bytes = vec![0; values.len() * 2];
            encode(Dtype::Bf16, &values, &mut bytes);
            let expected: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
            prop_assert_eq!(&bytes, &expected);
            encode(Dtype::F16, &values, &mut bytes);
            let expected: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32_const(x).to_le_bytes()).collect();
            prop_assert_eq!(&bytes, &expected);
        }

        #[test]
        fn decode_inverts_encode(bits in proptest::collection::vec(any::<u32>(), 0..64)) {
            for ty in Dtype::ALL {
                let mut rounded: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
                let mut bytes = vec![0; rounded.len() * ty.size() as usize];
                encode(ty, &rounded, &mut bytes);
                let mut decoded = vec![0.0; rounded.len()];
                decode(ty, &bytes, &mut decoded);
                round_to(ty, &mut rounded);
                for (a, b) in decoded.iter().zip(&rounded) {
                    prop_assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "bytes of 3 bf16 values")]
    fn lengths_are_checked() {
        encode(Dtype::Bf16, &[0.0; 3], &mut [0; 5]);
    }
}
