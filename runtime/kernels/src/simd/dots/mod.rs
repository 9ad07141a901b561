//! Dot products of signed bytes, and the entry points that switch an instruction set on for them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

pub(crate) use scalar::ScalarDots;

use super::{Scalar, Simd};
use crate::isa::Isa;
use crate::lanes::BLOCK;

/// Dot products of sixteen blocks of 32 bytes.
pub(crate) trait Dots {
    /// Writes the sixteen dot products of the blocks at `w` with those at `x`, which are exact in f32. `sums` are the sums of
    /// the blocks at `x`.
    ///
    /// # Safety
    /// The instruction set is there; there are 512 bytes at `w` and `x`, those at `x` above -128, and sixteen numbers at `sums`
    /// and `into`.
    unsafe fn dots(w: *const i8, x: *const i8, sums: *const i32, into: *mut f32);

    /// What the low halves of sixteen bytes stand for, then what the high ones do.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn levels(table: &[i8; 16], halves: &[u8; 16]) -> [i8; BLOCK];
}

/// An algorithm over quantized rows that any instruction set can run.
pub(crate) trait DotsTask {
    /// # Safety
    /// `S` and `D` must be available on this machine. Implementations are `#[inline(always)]`.
    unsafe fn run<S: Simd, D: Dots>(self);
}

/// Runs `task` on `isa`, with what this machine has beside it for bytes.
///
/// # Safety
/// `isa` must be available on this machine, and whatever the task's own contract asks for must hold.
pub(crate) unsafe fn run_dots<T: DotsTask>(isa: Isa, task: T) {
    // SAFETY: the caller vouches for `isa` and the task.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") => {
                avx512::run(task);
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx2::run_wide(task),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(task),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::run(task),
            _ => task.run::<Scalar, ScalarDots>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Both<'a> {
        w: &'a [i8],
        x: &'a [i8],
        sums: &'a [i32; 16],
        into: &'a mut [f32; 16],
    }

    impl DotsTask for Both<'_> {
        #[inline(always)]
        unsafe fn run<S: Simd, D: Dots>(self) {
            // SAFETY: the lengths are asserted by the test.
            unsafe { D::dots(self.w.as_ptr(), self.x.as_ptr(), self.sums.as_ptr(), self.into.as_mut_ptr()) };
        }
    }

    struct Levels<'a> {
        table: &'a [i8; 16],
        halves: &'a [u8; 16],
        into: &'a mut [i8; BLOCK],
    }

    impl DotsTask for Levels<'_> {
        #[inline(always)]
        unsafe fn run<S: Simd, D: Dots>(self) {
            // SAFETY: whoever runs this vouches for the instruction set.
            *self.into = unsafe { D::levels(self.table, self.halves) };
        }
    }

    fn check(w: &[i8], x: &[i8]) {
        assert!(w.len() == 512 && x.len() == 512);
        let block = |b: usize| b * 32..(b + 1) * 32;
        let sums = std::array::from_fn(|b| x[block(b)].iter().map(|x| i32::from(*x)).sum());
        let expected: [f32; 16] = std::array::from_fn(|b| {
            let products = w[block(b)].iter().zip(&x[block(b)]).map(|(w, x)| i32::from(*w) * i32::from(*x));
            products.sum::<i32>() as f32
        });
        for isa in Isa::available() {
            let mut into = [f32::NAN; 16];
            // SAFETY: the instruction set is there, and the lengths are right.
            unsafe { run_dots(isa, Both { w, x, sums: &sums, into: &mut into }) };
            assert_eq!(into, expected, "{isa}");
        }
    }

    #[test]
    fn the_greatest_bytes_do_not_overflow() {
        for (w, x) in [(-128, 127), (-128, -127), (127, 127), (127, -127), (0, 5)] {
            check(&[w; 512], &[x; 512]);
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_finds_the_levels(table in any::<[i8; 16]>(), halves in any::<[u8; 16]>()) {
            let half = |at: usize| if at < 16 { halves[at] & 15 } else { halves[at - 16] >> 4 };
            let expected: [i8; BLOCK] = std::array::from_fn(|at| table[usize::from(half(at))]);
            for isa in Isa::available() {
                let mut into = [99; BLOCK];
                // SAFETY: the instruction set is there.
                unsafe { run_dots(isa, Levels { table: &table, halves: &halves, into: &mut into }) };
                prop_assert_eq!(into, expected, "{}", isa);
            }
        }

        #[test]
        fn every_instruction_set_gives_the_integers(
            w in proptest::collection::vec(any::<i8>(), 512),
            x in proptest::collection::vec(-127i8.., 512),
        ) {
            check(&w, &x);
        }
    }
}
