//! Loading one block of 32 stored elements in canonical lane order.

use super::Simd;
use lime_plan::Dtype;

use crate::lanes::BLOCK;

/// A stored element type.
pub(crate) trait Element: Copy + 'static {
    /// The type at run time.
    const TYPE: Dtype;

    /// The `first` and `second` lanes of the 32 elements at `p`.
    ///
    /// # Safety
    /// 32 elements must be readable at `p`, and `S` available.
    unsafe fn load_block<S: Simd>(p: *const u8) -> (S::V, S::V);
}

/// bf16, as stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredBf16;
/// f16, as stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredF16;
/// f32, as stored; also what any type looks like once it is in lane order.
#[derive(Clone, Copy)]
pub(crate) struct StoredF32;

impl Element for StoredBf16 {
    const TYPE: Dtype = Dtype::Bf16;

    #[inline(always)]
    unsafe fn load_block<S: Simd>(p: *const u8) -> (S::V, S::V) {
        // SAFETY: as contracted.
        unsafe { S::load_bf16(p) }
    }
}

impl Element for StoredF16 {
    const TYPE: Dtype = Dtype::F16;

    #[inline(always)]
    unsafe fn load_block<S: Simd>(p: *const u8) -> (S::V, S::V) {
        // SAFETY: as contracted.
        unsafe { (S::load_f16(p), S::load_f16(p.add(BLOCK))) }
    }
}

impl Element for StoredF32 {
    const TYPE: Dtype = Dtype::F32;

    #[inline(always)]
    unsafe fn load_block<S: Simd>(p: *const u8) -> (S::V, S::V) {
        let p = p.cast::<f32>();
        // SAFETY: as contracted; loads take any alignment.
        unsafe { (S::load(p), S::load(p.add(BLOCK / 2))) }
    }
}

/// As [`Element::load_block`] for the last `count < 32` elements of a row: nothing beyond them is read, the rest
/// is zero.
///
/// # Safety
/// `count` elements must be readable at `p`, and `S` available.
#[inline(always)]
pub(crate) unsafe fn load_tail<S: Simd, E: Element>(p: *const u8, count: usize) -> (S::V, S::V) {
    debug_assert!(count < BLOCK);
    let mut block = [0u8; BLOCK * 4];
    // SAFETY: `count < 32` elements of at most 4 bytes fit into the block.
    unsafe {
        std::ptr::copy_nonoverlapping(p, block.as_mut_ptr(), count * E::TYPE.size() as usize);
        E::load_block::<S>(block.as_ptr())
    }
}
