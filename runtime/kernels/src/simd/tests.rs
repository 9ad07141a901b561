//! Every primitive of every instruction set of this machine against scalar, bit for bit.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

const N: usize = 256;

/// Runs every primitive over `x` (256 floats) and appends the bits of all results to `out`.
struct Primitives<'a> {
    x: &'a [f32],
    out: &'a RefCell<Vec<f32>>,
}

impl Task for Primitives<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: all pointers lie in `x`, which is 256 floats long, or in `lanes`.
        unsafe {
            let p = self.x.as_ptr();
            let (a, b, c, d) = (S::load(p.add(1)), S::load(p.add(17)), S::load(p.add(34)), S::load(p.add(51)));
            let bytes = p.cast::<u8>().add(3);
            let (even, odd) = S::load_bf16(bytes);
            let n = S::add(S::splat(12_582_912.0), S::splat((self.x[0].to_bits() % 254) as f32 - 126.0));
            let results = [
                S::splat(self.x[5]),
                S::add(a, b),
                S::sub(a, b),
                S::mul(a, b),
                S::div(a, b),
                S::fma(a, b, c),
                S::select_lt(a, b, c, d),
                S::pow2_of_shifted(n),
                even,
                odd,
                S::load_f16(bytes),
                S::splat(S::sum(a)),
                S::sums(p),
            ];
            let mut lanes = [0.0f32; 16];
            for v in results {
                S::store(lanes.as_mut_ptr(), v);
                self.out.borrow_mut().extend_from_slice(&lanes);
            }
            // Lane groups, summed over one V so that their width does not show.
            for start in (0..16).step_by(S::GROUP) {
                let g = S::group_fma(S::group_load(p.add(start)), S::group_load(p.add(64 + start)), S::group_zero());
                S::group_store(lanes.as_mut_ptr().add(start), g);
            }
            self.out.borrow_mut().extend_from_slice(&lanes);
        }
    }
}

fn primitives(isa: Isa, x: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), N);
    let out = RefCell::new(Vec::new());
    // SAFETY: only instruction sets of this machine are asked for.
    unsafe { run(isa, Primitives { x, out: &out }) };
    out.into_inner()
}

proptest! {
    #[test]
    fn every_primitive_equals_scalar(bits in proptest::collection::vec(any::<u32>(), N), tame in any::<bool>()) {
        let x: Vec<f32> = bits
            .into_iter()
            .map(|bits| if tame { bits as i32 as f32 / 1e9 } else { f32::from_bits(bits) })
            .collect();
        let expected = primitives(Isa::Scalar, &x);
        for isa in Isa::available() {
            let found = primitives(isa, &x);
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                prop_assert!(same, "{isa}, primitive {}, lane {}: {a:e} is not {b:e}", i / 16, i % 16);
            }
        }
    }
}
