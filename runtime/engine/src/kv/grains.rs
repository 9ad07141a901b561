//! The KV pool's memory as the system gives it: by the grain, when a page in it is first used.

use std::ops::Range;

use lime_kernels::{AlignedBuf, BufferError, HUGE_PAGE};
use lime_plan::Bytes;

/// The pool's memory in the units in which the system gives it: how many pages in use lie in each.
#[derive(Debug)]
pub(crate) struct Grains {
    page: usize,
    grain: usize,
    pool: usize,
    users: Vec<u32>,
    pub(super) used: usize,
}

/// A pool of this size or more comes in huge pages; in a smaller one they would be too coarse to follow a sequence by.
const LARGE_POOL: usize = 64 << 20;

/// Memory for a pool of so many bytes, which comes as it is used.
///
/// # Errors
/// When the addresses cannot be had.
pub(crate) fn pool(bytes: usize) -> Result<AlignedBuf, BufferError> {
    if bytes >= LARGE_POOL { AlignedBuf::new(bytes) } else { AlignedBuf::on_small_pages(bytes) }
}

impl Grains {
    pub(crate) fn new(page: usize, pages: usize) -> Self {
        let pool = page * pages;
        let grain = if pool >= LARGE_POOL { HUGE_PAGE } else { 4 << 10 };
        Self { page, grain, pool, users: vec![0; pool.div_ceil(grain)], used: 0 }
    }

    pub(super) fn of(&self, page: u32) -> Range<usize> {
        let start = page as usize * self.page;
        start / self.grain..(start + self.page).div_ceil(self.grain)
    }

    /// `page` is in use from now on.
    pub(crate) fn take(&mut self, page: u32) {
        for grain in self.of(page) {
            self.users[grain] += 1;
            self.used += usize::from(self.users[grain] == 1);
        }
    }

    /// Gives the grains that nobody uses any more, as a range of bytes.
    pub(crate) fn give_back(&mut self, page: u32) -> Option<Range<usize>> {
        let mut idle: Option<Range<usize>> = None;
        for grain in self.of(page) {
            self.users[grain] -= 1;
            if self.users[grain] == 0 {
                self.used -= 1;
                let from = idle.map_or(grain, |idle| idle.start);
                idle = Some(from..grain + 1);
            }
        }
        idle.map(|idle| idle.start * self.grain..(idle.end * self.grain).min(self.pool))
    }

    /// Memory that so many grains take.
    pub(super) fn bytes(&self, used: usize) -> Bytes {
        Bytes((used * self.grain).min(self.pool) as u64)
    }

    /// Memory that the pages in use take.
    pub(crate) fn in_use(&self) -> Bytes {
        self.bytes(self.used)
    }

    /// Grains that `pages`, by rising number, would bring into use.
    pub(super) fn wanted<'a>(&self, pages: impl Iterator<Item = &'a u32>) -> usize {
        let (mut count, mut seen) = (0, 0);
        for page in pages {
            let of = self.of(*page);
            for grain in of.start.max(seen)..of.end {
                count += usize::from(self.users[grain] == 0);
            }
            seen = seen.max(of.end);
        }
        count
    }
}
