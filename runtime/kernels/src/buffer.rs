//! Zeroed, page-aligned, anonymous memory, on huge pages where it is big enough.

use std::ops::{Deref, DerefMut, Range};
use std::ptr::{self, NonNull};

const PAGE: usize = 4 << 10;
/// A huge page: one entry of the page tables instead of 512, and one piece of memory for a disk to write to.
pub const HUGE_PAGE: usize = 2 << 20;

/// Memory could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot allocate {bytes} bytes: {source}")]
pub struct BufferError {
    /// The bytes asked for.
    pub bytes: usize,
    /// What the system said.
    pub source: std::io::Error,
}

/// Anonymous memory: zeroed, aligned to 4 KiB; from 2 MiB on aligned to 2 MiB and advised to huge pages, which
/// read about a quarter faster than any memory-mapped file can.
#[derive(Debug)]
pub struct AlignedBuf {
    data: NonNull<u8>,
    len: usize,
    mapping: NonNull<u8>,
    mapped: usize,
    grain: usize,
}

// SAFETY: the buffer owns its mapping alone; shared access is read-only through `&self`.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `bytes` of zeroed memory. Pages are committed when first written.
    pub fn new(bytes: usize) -> Result<Self, BufferError> {
        Self::in_grains(bytes, if bytes >= HUGE_PAGE { HUGE_PAGE } else { PAGE })
    }

    /// The same in pages of 4 KiB whatever the size: memory comes and goes in small pieces.
    pub fn on_small_pages(bytes: usize) -> Result<Self, BufferError> {
        let mut this = Self::in_grains(bytes, PAGE)?;
        this.refuse_huge_pages();
        Ok(this)
    }

    fn in_grains(bytes: usize, align: usize) -> Result<Self, BufferError> {
        let fail = |source| BufferError { bytes, source };
        let too_big = || fail(std::io::Error::from_raw_os_error(libc::ENOMEM));
        let len = bytes.max(1).checked_next_multiple_of(align).ok_or_else(too_big)?;
        let mapped = if align > PAGE { len.checked_add(align).ok_or_else(too_big)? } else { len };
        // SAFETY: a fresh private anonymous mapping; no existing memory is named.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(fail(std::io::Error::last_os_error()));
        }
        let mapping = NonNull::new(mapping.cast::<u8>()).ok_or_else(too_big)?;
        let skip = mapping.as_ptr().align_offset(align);
        // SAFETY: `skip < align`, and `align` spare bytes were mapped when it can be non-zero.
        let data = unsafe { mapping.add(skip) };
        #[cfg(target_os = "linux")]
        if align == HUGE_PAGE {
            // Advice only: without huge pages everything still works, more slowly.
            // SAFETY: the range lies inside the mapping above.
            unsafe { libc::madvise(data.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { data, len: bytes, mapping, mapped, grain: align })
    }

    /// The f32 elements `range` (counted in elements from the start of the buffer).
    ///
    /// # Panics
    /// When the range does not lie in the buffer.
    pub fn as_f32(&self, range: Range<usize>) -> &[f32] {
        self.check_f32(&range);
        // SAFETY: checked to lie inside; aligned to a page; every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast::<f32>().add(range.start), range.len()) }
    }

    /// The f32 elements `range`, writable.
    ///
    /// # Panics
    /// When the range does not lie in the buffer.
    pub fn as_f32_mut(&mut self, range: Range<usize>) -> &mut [f32] {
        self.check_f32(&range);
        // SAFETY: as in `as_f32`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().cast::<f32>().add(range.start), range.len()) }
    }

    /// Asks for 4 KiB pages; only what is not yet written is affected.
    pub(crate) fn refuse_huge_pages(&mut self) {
        #[cfg(target_os = "linux")]
        // SAFETY: advice on the mapping that this buffer owns.
        unsafe {
            libc::madvise(self.mapping.as_ptr().cast(), self.mapped, libc::MADV_NOHUGEPAGE)
        };
    }

    /// The unit in which memory comes to the buffer, and leaves it.
    pub const fn grain(&self) -> usize {
        self.grain
    }

    /// Gives the memory of `range` back to the system, as far as it is whole grains; what they held is lost, and they are
    /// zeros when they are next used. The buffer's last grain is whole when the range reaches its end.
    ///
    /// # Panics
    /// When the range does not lie in the buffer.
    pub fn give_back(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len, "range {range:?} outside {} bytes", self.len);
        let grain = self.grain;
        let start = range.start.next_multiple_of(grain);
        let end = if range.end == self.len { self.len.next_multiple_of(grain) } else { range.end / grain * grain };
        #[cfg(target_os = "linux")]
        if start < end {
            // SAFETY: whole pages of the mapping that this buffer owns, borrowed mutably; private and anonymous, so that they
            // read as zeros afterwards.
            unsafe { libc::madvise(self.data.as_ptr().add(start).cast(), end - start, libc::MADV_DONTNEED) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, end);
    }

    fn check_f32(&self, range: &Range<usize>) {
        let elements = self.len / size_of::<f32>();
        assert!(
            range.start <= range.end && range.end <= elements,
            "f32 range {range:?} outside a buffer of {elements} elements"
        );
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, unmapped once.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapped) };
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes of the mapping, zeroed by the system, live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        for bytes in [0, 1, 4095, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE + 5] {
            let mut buffer = AlignedBuf::new(bytes).unwrap();
            assert_eq!(buffer.len(), bytes);
            let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { PAGE };
            assert_eq!(buffer.as_ptr() as usize % align, 0);
            assert!(buffer.iter().all(|&byte| byte == 0));
            if let Some(last) = buffer.last_mut() {
                *last = 7;
            }
            let floats = bytes / 4;
            buffer.as_f32_mut(0..floats).fill(1.0);
            assert_eq!(buffer.as_f32(0..floats).len(), floats);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_given_back_is_zeros_and_the_rest_stays() {
        for (bytes, range, kept) in [
            (5 * PAGE, PAGE + 1..4 * PAGE + 1, [0..2 * PAGE, 4 * PAGE..5 * PAGE]),
            (HUGE_PAGE + 5, 3..HUGE_PAGE + 5, [0..HUGE_PAGE, 0..0]),
        ] {
            let mut buffer = AlignedBuf::new(bytes).unwrap();
            buffer.fill(7);
            buffer.give_back(range);
            let stays = |at: &usize| kept.iter().any(|kept| kept.contains(at));
            assert!((0..bytes).all(|at| (buffer[at] == 7) == stays(&at)));
            buffer.fill(8);
            assert!(buffer.iter().all(|&byte| byte == 8));
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(AlignedBuf::new(usize::MAX).is_err());
        assert!(AlignedBuf::new(usize::MAX / 4).is_err());
    }

    #[test]
    #[should_panic(expected = "outside a buffer")]
    fn a_range_outside_panics() {
        AlignedBuf::new(64).unwrap().as_f32(0..17);
    }
}
