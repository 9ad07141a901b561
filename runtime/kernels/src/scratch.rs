//! Scratch memory of a thread, kept from task to task.

use std::cell::RefCell;

use crate::buffer::AlignedBuf;

thread_local! {
    static SCRATCH: RefCell<Option<AlignedBuf>> = const { RefCell::new(None) };
}

/// Hands `body` this thread's `floats` elements of scratch, with whatever the last task left in them.
pub(crate) fn with<R>(floats: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        let bytes = floats.saturating_mul(size_of::<f32>());
        let enough = scratch.take().filter(|buffer| buffer.len() >= bytes);
        let buffer = scratch.insert(enough.unwrap_or_else(|| AlignedBuf::new(bytes).expect("scratch memory")));
        body(buffer.as_f32_mut(0..floats))
    })
}

/// Cuts parts off the front of a scratch slice.
pub(crate) fn cut<'a>(rest: &mut &'a mut [f32], floats: usize) -> &'a mut [f32] {
    let (part, tail) = std::mem::take(rest).split_at_mut(floats);
    *rest = tail;
    part
}
