//! A buffer used as a ring: ranges of it are written by some threads while others read others.

use std::ops::{Deref, DerefMut, Range};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::{AlignedBuf, BufferError, HUGE_PAGE};

const PAGE: usize = 4 << 10;

/// Memory of which ranges are claimed for writing or for reading.
///
/// Offsets count on beyond the end: `len + x` is `x`. In a *mirrored* buffer a range may run over the end and is still
/// contiguous, because the same pages are mapped twice in a row. They are shared memory, which lies on huge pages (all but
/// its end) where the system is Linux 6.1 or newer: a disk was measured to write 1.75 times as fast to those. In a plain one, on
/// huge pages anywhere, it may not.
#[derive(Debug)]
pub struct RingBuf {
    memory: Memory,
    /// As many bytes as ranges may span from offset 0.
    addressable: usize,
    base: *mut u8,
    len: usize,
    claims: Mutex<Vec<Held>>,
}

// SAFETY: the memory belongs to this value alone, and `claims` keeps writers apart from everybody else.
unsafe impl Send for RingBuf {}
// SAFETY: as above.
unsafe impl Sync for RingBuf {}

#[derive(Debug)]
enum Memory {
    Plain { held: AlignedBuf },
    Mirrored { mapping: *mut libc::c_void, mapped: usize },
}

/// A claim in force. Claims of the same range for reading are counted apart.
#[derive(Debug)]
struct Held {
    start: usize,
    len: usize,
    writes: bool,
}

impl RingBuf {
    /// A plain buffer of `bytes` bytes, zeroed.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn plain(bytes: usize) -> Result<Arc<Self>, BufferError> {
        let mut held = AlignedBuf::new(bytes)?;
        let base = held.as_mut_ptr();
        let memory = Memory::Plain { held };
        Ok(Arc::new(Self { memory, addressable: bytes, base, len: bytes, claims: Mutex::default() }))
    }

    /// A mirrored buffer of `bytes` bytes, a multiple of 4 KiB; zeroed, and all of it taken from the system now.
    ///
    /// # Errors
    /// When memory cannot be had, or the size is no multiple of 4 KiB.
    #[cfg(target_os = "linux")]
    pub fn mirrored(bytes: usize) -> Result<Arc<Self>, BufferError> {
        use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

        let fail = |source| BufferError { bytes, source };
        let last = || fail(std::io::Error::last_os_error());
        let mapped = bytes.checked_mul(2).filter(|_| bytes > 0 && bytes.is_multiple_of(PAGE));
        let mapped = mapped.ok_or_else(|| fail(std::io::Error::from_raw_os_error(libc::EINVAL)))?;
        // SAFETY: a name that ends in zero, and no pointer besides.
        let file = unsafe { libc::memfd_create(c"lime-ring".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(last());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        let size = libc::off_t::try_from(bytes).map_err(|_| fail(std::io::Error::from_raw_os_error(libc::EFBIG)))?;
        // SAFETY: a call on a descriptor that is open; it touches no memory of ours.
        if unsafe { libc::ftruncate(file.as_raw_fd(), size) } != 0 {
            return Err(last());
        }
        let huge = bytes / HUGE_PAGE * HUGE_PAGE;
        let spare = if huge > 0 { HUGE_PAGE } else { 0 };
        let mapped = mapped.checked_add(spare).ok_or_else(|| fail(std::io::Error::from_raw_os_error(libc::ENOMEM)))?;
        // SAFETY: a fresh mapping that reserves addresses; no existing memory is named.
        let mapping = unsafe {
            libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if mapping == libc::MAP_FAILED {
            return Err(last());
        }
        let skip = if huge > 0 { mapping.cast::<u8>().align_offset(HUGE_PAGE) } else { 0 };
        // SAFETY: less than a huge page, which was reserved to spare.
        let base = unsafe { mapping.cast::<u8>().add(skip) };
        // From here on the mapping is undone when this is dropped.
        let ring = Self {
            memory: Memory::Mirrored { mapping, mapped },
            addressable: 2 * bytes,
            base,
            len: bytes,
            claims: Mutex::default(),
        };
        for half in [0, bytes] {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: both halves lie in the addresses reserved above, which nothing else uses.
            let placed = unsafe { libc::mmap(base.add(half).cast(), bytes, access, flags, file.as_raw_fd(), 0) };
            if placed == libc::MAP_FAILED {
                return Err(last());
            }
        }
        let take = |from: usize, bytes: usize| {
            // SAFETY: a call on a descriptor that is open; it touches no memory of ours but what nothing uses yet.
            unsafe { libc::fallocate(file.as_raw_fd(), 0, from as libc::off_t, bytes as libc::off_t) == 0 }
        };
        // A huge page is made of a range with one small page in it: of none it would not be, and of 512 it would be copied.
        for from in (0..huge).step_by(HUGE_PAGE) {
            if !take(from, PAGE) {
                return Err(last());
            }
        }
        if huge > 0 {
            // Both halves see the same pages, large or small. What cannot be collapsed, on older systems or for want of huge
            // pages, works with small ones, more slowly.
            // SAFETY: a part of the first half, mapped above; its contents stay as they are.
            unsafe { libc::madvise(ring.base.cast(), huge, libc::MADV_COLLAPSE) };
        }
        if !take(0, bytes) {
            return Err(last());
        }
        Ok(Arc::new(ring))
    }

    /// Bytes of memory.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Claims `len` bytes at offset `start` for one writer; `None` where another claim has a part of them, or they do not lie
    /// in the buffer.
    pub fn write(self: &Arc<Self>, start: usize, len: usize) -> Option<RingWrite> {
        let claim = self.claim(start, len, true)?;
        Some(RingWrite { claim })
    }

    /// Claims `len` bytes at offset `start` for reading; `None` where a writer has a part of them, or they do not lie in
    /// the buffer.
    pub fn read(self: &Arc<Self>, start: usize, len: usize) -> Option<RingRead> {
        let claim = self.claim(start, len, false)?;
        Some(RingRead { claim })
    }

    /// Gives the memory from `start` on back to the system, but for the rest of the grain that `start` is in; what it held is
    /// lost. False, and nothing happens, where a claim has a part of it, or the buffer is mirrored.
    pub fn give_back_from(&self, start: usize) -> bool {
        let Memory::Plain { held } = &self.memory else { return false };
        let grain = held.grain();
        let claims = self.lock();
        let rest = (start.min(self.len), self.len.saturating_sub(start));
        let claimed = claims.iter().any(|held| self.overlap((held.start, held.len), rest));
        if claimed {
            return false;
        }
        #[cfg(target_os = "linux")]
        {
            let (from, to) = (rest.0.next_multiple_of(grain), self.len.next_multiple_of(grain));
            if from < to {
                // SAFETY: whole pages at the end of the buffer's own mapping; nobody has a claim on them, and nobody can get
                // one while the lock is held.
                unsafe { libc::madvise(self.base.add(from).cast(), to - from, libc::MADV_DONTNEED) };
            }
        }
        drop(claims);
        true
    }

    fn claim(self: &Arc<Self>, start: usize, len: usize, writes: bool) -> Option<Claim> {
        let end = start.checked_add(len)?;
        if start >= self.len || len > self.len || end > self.addressable {
            return None;
        }
        let mut claims = self.lock();
        let free = |held: &Held| !(held.writes || writes) || !self.overlap((held.start, held.len), (start, len));
        if !claims.iter().all(free) {
            return None;
        }
        claims.push(Held { start, len, writes });
        drop(claims);
        Some(Claim { ring: Arc::clone(self), start, len, writes })
    }

    /// Whether two ranges, either of which may run over the end, share a byte.
    fn overlap(&self, one: (usize, usize), other: (usize, usize)) -> bool {
        let parts = |(start, len): (usize, usize)| -> [Range<usize>; 2] {
            let end = start + len;
            [start..end.min(self.len), 0..end.saturating_sub(self.len)]
        };
        let others = parts(other);
        parts(one).iter().any(|a| others.iter().any(|b| a.start.max(b.start) < a.end.min(b.end)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RingBuf {
    fn drop(&mut self) {
        if let Memory::Mirrored { mapping, mapped } = self.memory {
            // SAFETY: exactly the addresses reserved in `mirrored`, unmapped once; no claim outlives the buffer.
            unsafe { libc::munmap(mapping, mapped) };
        }
    }
}

#[derive(Debug)]
struct Claim {
    ring: Arc<RingBuf>,
    start: usize,
    len: usize,
    writes: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.ring.lock();
        let same = |held: &Held| (held.start, held.len, held.writes) == (self.start, self.len, self.writes);
        if let Some(index) = claims.iter().position(same) {
            claims.swap_remove(index);
        }
    }
}

/// A range that one thread writes.
#[derive(Debug)]
pub struct RingWrite {
    claim: Claim,
}

/// A range that is read.
#[derive(Debug)]
pub struct RingRead {
    claim: Claim,
}

impl Deref for RingRead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Claim { ring, start, len, .. } = &self.claim;
        // SAFETY: `claim` checked that the range is mapped; its memory is initialized and nobody writes it while this claim lasts.
        unsafe { std::slice::from_raw_parts(ring.base.add(*start), *len) }
    }
}

impl Deref for RingWrite {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Claim { ring, start, len, .. } = &self.claim;
        // SAFETY: as in `RingRead`: the only writer is this value, borrowed.
        unsafe { std::slice::from_raw_parts(ring.base.add(*start), *len) }
    }
}

impl DerefMut for RingWrite {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Claim { ring, start, len, .. } = &self.claim;
        // SAFETY: as above, and no other claim has a byte of the range, under either of its addresses.
        unsafe { std::slice::from_raw_parts_mut(ring.base.add(*start), *len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_end_of_a_plain_ring_can_be_given_back() {
        let ring = RingBuf::plain(3 * PAGE).unwrap();
        ring.write(0, 3 * PAGE).unwrap().fill(7);
        let front = ring.read(0, PAGE).unwrap();
        assert!(!ring.give_back_from(PAGE - 1));
        assert!(ring.give_back_from(PAGE));
        let back = ring.read(PAGE, 2 * PAGE).unwrap();
        assert!(front.iter().all(|&byte| byte == 7) && back.iter().all(|&byte| byte == 0));
        assert!(!RingBuf::mirrored(PAGE).unwrap().give_back_from(0));
    }

    #[test]
    fn a_plain_ring_keeps_claims_apart() {
        let ring = RingBuf::plain(100).unwrap();
        let mut first = ring.write(0, 50).unwrap();
        assert!(ring.write(49, 2).is_none() && ring.read(0, 1).is_none());
        let second = ring.write(50, 50).unwrap();
        assert!(ring.write(99, 2).is_none() && ring.write(100, 0).is_none() && ring.write(0, usize::MAX).is_none());
        first.fill(7);
        drop((first, second));
        let (one, two) = (ring.read(0, 60).unwrap(), ring.read(40, 60).unwrap());
        assert_eq!((one[49], two[9], two[10]), (7, 7, 0));
        assert!(ring.write(10, 1).is_none());
        drop(one);
        assert!(ring.write(10, 1).is_some() && ring.write(45, 1).is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_mirrored_ring_runs_over_its_end() {
        let ring = RingBuf::mirrored(3 * PAGE).unwrap();
        let mut over = ring.write(2 * PAGE, 2 * PAGE).unwrap();
        assert!(ring.write(0, PAGE).is_none() && ring.read(PAGE, PAGE + 1).is_none());
        for (index, byte) in over.iter_mut().enumerate() {
            *byte = (index / PAGE) as u8 + 1;
        }
        drop(over);
        assert!(ring.read(0, PAGE).unwrap().iter().all(|byte| *byte == 2));
        assert!(ring.read(2 * PAGE, PAGE).unwrap().iter().all(|byte| *byte == 1));
        assert!(ring.read(PAGE, 3 * PAGE).is_some() && ring.read(PAGE, 3 * PAGE + 1).is_none());
        assert!(RingBuf::mirrored(100).is_err() && RingBuf::mirrored(0).is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_mirrored_ring_of_huge_pages_is_aligned_to_them() {
        for len in [2 * HUGE_PAGE, 2 * HUGE_PAGE + PAGE, 3 * HUGE_PAGE - PAGE] {
            let ring = RingBuf::mirrored(len).unwrap();
            assert_eq!(ring.base.align_offset(HUGE_PAGE), 0);
            ring.write(len - PAGE, 2 * PAGE).unwrap().fill(3);
            assert!(ring.read(0, PAGE).unwrap().iter().all(|byte| *byte == 3));
            assert!(ring.read(PAGE, HUGE_PAGE - PAGE).unwrap().iter().all(|byte| *byte == 0));
            assert!(ring.read(len - PAGE, 2 * PAGE).unwrap().iter().all(|byte| *byte == 3));
        }
    }
}
