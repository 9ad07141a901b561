//! The front: an instruction set and a pool.

use crate::isa::Isa;
use crate::pool::Pool;

/// The kernels on one instruction set, with their threads. Neither changes any result.
pub struct Kernels {
    isa: Isa,
    pool: Pool,
}

impl Kernels {
    /// Kernels on `isa` with `threads` threads, the caller included.
    ///
    /// # Panics
    /// When this machine does not have `isa`.
    pub fn new(isa: Isa, threads: usize) -> Self {
        assert!(Isa::available().contains(&isa), "this machine does not have {isa}");
        Self { isa, pool: Pool::new(threads) }
    }

    /// The instruction set in use.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }
}
