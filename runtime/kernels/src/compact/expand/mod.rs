//! From codes, signs and mantissas to raw bf16, exceptions apart.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use super::layout::{CODE_BYTES, GROUP, GROUP_BYTES, STRIPE, TABLE};
use crate::isa::Isa;
use crate::simd::prefetch_far;

/// Expands a part of a record: `groups` groups at `part`, the elements to `into`.
///
/// # Safety
/// `part` holds so many groups of [`GROUP_BYTES`], whole stripes but for the last; `into` has room for [`GROUP`] bf16
/// values each; the instruction set is there. Memory `ahead` of what is read is asked for; it may lie anywhere.
type ExpandPart = unsafe fn(part: *const u8, groups: usize, table: [u8; TABLE], into: *mut u8, ahead: usize);

/// An expander of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expand(ExpandPart);

impl Expand {
    /// The expander of `isa`, which this machine has.
    pub(crate) fn of(isa: Isa) -> Self {
        Self(match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512bw") => avx512::expand,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => avx2::expand,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::expand,
            _ => scalar::expand,
        })
    }

    /// Expands the groups of `part` to `into`, asking for memory `ahead` bytes further on.
    ///
    /// # Panics
    /// When the lengths do not fit each other.
    pub(crate) fn run(self, part: &[u8], table: [u8; TABLE], into: &mut [u8], ahead: usize) {
        let groups = part.len() / GROUP_BYTES;
        assert!(part.len() == groups * GROUP_BYTES && into.len() == groups * GROUP * 2, "groups of a compact row");
        // SAFETY: the lengths were checked; `of` chose what the machine has.
        unsafe { (self.0)(part.as_ptr(), groups, table, into.as_mut_ptr(), ahead) };
    }
}

/// The groups of a part of a record: where one's signs and mantissas lie, where its codes, and where its elements go.
struct Groups {
    rest: *const u8,
    codes: *const u8,
    into: *mut u8,
    /// Where the stripe's bytes are asked for.
    ask: *const u8,
    /// Groups left in the stripe.
    height: usize,
    /// Groups left in the part.
    left: usize,
}

impl Groups {
    #[inline(always)]
    fn new(part: *const u8, groups: usize, into: *mut u8, ahead: usize) -> Self {
        Self { rest: part, codes: part, into, ask: part.wrapping_add(ahead), height: 0, left: groups }
    }
}

impl Iterator for Groups {
    type Item = (*const u8, *const u8, *mut u8);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.height == 0 {
            if self.left == 0 {
                return None;
            }
            // The next stripe begins where the last one's codes end.
            self.height = self.left.min(STRIPE);
            self.left -= self.height;
            self.rest = self.codes;
            self.codes = self.rest.wrapping_add(self.height * GROUP);
        }
        let group = (self.rest, self.codes, self.into);
        self.height -= 1;
        // Two lines, which a group's bytes touch in the mean.
        prefetch_far(self.ask);
        prefetch_far(self.ask.wrapping_add(GROUP_BYTES / 2));
        self.ask = self.ask.wrapping_add(GROUP_BYTES);
        self.rest = self.rest.wrapping_add(GROUP);
        self.codes = self.codes.wrapping_add(CODE_BYTES);
        self.into = self.into.wrapping_add(GROUP * 2);
        Some(group)
    }
}
