//! From codes, signs and mantissas to raw bf16, exceptions apart.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use super::layout::{GROUP, GROUP_BYTES, STRIPE, TABLE};
use crate::isa::Isa;

/// Expands a part of a record: `groups` groups at `part`, the elements to `into`.
///
/// # Safety
/// `part` holds so many groups of [`GROUP_BYTES`], whole stripes but for the last; `into` has room for [`GROUP`] bf16
/// values each; the instruction set is there.
type ExpandPart = unsafe fn(part: *const u8, groups: usize, table: [u8; TABLE], into: *mut u8);

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

    /// Expands the groups of `part` to `into`.
    ///
    /// # Panics
    /// When the lengths do not fit each other.
    pub(crate) fn run(self, part: &[u8], table: [u8; TABLE], into: &mut [u8]) {
        let groups = part.len() / GROUP_BYTES;
        assert!(part.len() == groups * GROUP_BYTES && into.len() == groups * GROUP * 2, "groups of a compact row");
        // SAFETY: the lengths were checked; `of` chose what the machine has.
        unsafe { (self.0)(part.as_ptr(), groups, table, into.as_mut_ptr()) };
    }
}

/// Where a group's signs and mantissas and its codes lie in a part of `groups` groups.
#[inline(always)]
const fn places(group: usize, groups: usize) -> (usize, usize) {
    let first = group / STRIPE * STRIPE;
    let height = if groups - first < STRIPE { groups - first } else { STRIPE };
    let rest = first * GROUP_BYTES + (group - first) * GROUP;
    (rest, first * GROUP_BYTES + height * GROUP + (group - first) * (GROUP_BYTES - GROUP))
}
