//! The lanes of a dot product, and how many of them what holds.

use crate::isa::Isa;

/// k is padded to whole blocks of this many elements.
pub(crate) const BLOCK: usize = 32;
/// Lanes of each half (`first`, `second`) of a block.
pub(crate) const HALF: usize = 16;
/// Activation rows up to which float weights are read straight from memory, by a GEMV.
pub(crate) const GEMV_ROWS: usize = 3;

/// How an instruction set wants the rows of a GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileLayout {
    /// Lanes of a group: what one register holds.
    pub(crate) group: usize,
    /// Activation rows of a register tile.
    pub(crate) rows: usize,
}

impl TileLayout {
    pub(crate) const fn of(isa: Isa) -> Self {
        match isa {
            Isa::Avx512 => Self { group: 16, rows: 6 },
            Isa::Avx2 | Isa::Scalar => Self { group: 8, rows: 3 },
            Isa::Neon => Self { group: 4, rows: 6 },
        }
    }

    /// Blocks of k in a sweep: a panel of weights for one group then takes 16 KiB.
    pub(crate) const fn sweep(self) -> usize {
        256 / self.group
    }
}
