//! Where what lies in a compact matrix.

/// Elements of a group: what one step of an expander makes.
pub(crate) const GROUP: usize = 64;
/// Groups of a stripe: a whole number of cache lines.
pub(crate) const STRIPE: usize = 8;
/// Bytes of the codes of a group.
pub(super) const CODE_BYTES: usize = GROUP * 3 / 8;
/// Bytes of a group: sign and mantissa of every element, and the codes.
pub(super) const GROUP_BYTES: usize = GROUP + CODE_BYTES;
/// Exponents of a row's table.
pub(super) const TABLE: usize = 8;
/// Bytes of a row's head.
pub(super) const HEAD_BYTES: usize = TABLE + 8;
/// Bytes of an exception.
pub(super) const EXCEPTION_BYTES: usize = 2;
/// Sections begin at multiples of this.
const ALIGN: u128 = 64;
/// There is room for an exception in this many elements.
const ELEMENTS_PER_EXCEPTION: u128 = 40;
/// Exceptions that there is room for in any matrix.
const SPARE_EXCEPTIONS: u128 = 32;

/// Bytes of the compact form of a bf16 matrix; `u64::MAX` for one too big to have a compact form.
pub fn compact_bytes(out_features: usize, in_features: usize) -> u64 {
    CompactLayout::of(out_features, in_features).map_or(u64::MAX, |layout| layout.bytes as u64)
}

/// The sections of a compact matrix of some shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactLayout {
    /// Groups of a row.
    pub(super) groups: usize,
    /// Where the heads begin.
    pub(super) heads: usize,
    /// Where the exceptions begin.
    pub(super) exceptions: usize,
    /// Exceptions that there is room for.
    pub(super) room: usize,
    /// Bytes of all sections.
    pub(crate) bytes: usize,
}

impl CompactLayout {
    /// The layout of a shape, if its bytes and exceptions can be counted.
    pub(crate) fn of(out_features: usize, in_features: usize) -> Option<Self> {
        let (out, columns) = (out_features as u128, in_features as u128);
        let groups = columns.div_ceil(GROUP as u128);
        // Dimensions of 64 bits: the products fit into u128 only once the number of elements is known to be small.
        let elements = out.checked_mul(columns).filter(|&elements| elements <= u64::MAX.into())?;
        let room = elements / ELEMENTS_PER_EXCEPTION + SPARE_EXCEPTIONS;
        let heads = out.checked_mul(groups * GROUP_BYTES as u128)?.next_multiple_of(ALIGN);
        let exceptions = heads + (out * HEAD_BYTES as u128).next_multiple_of(ALIGN);
        let bytes = exceptions + (room * EXCEPTION_BYTES as u128).next_multiple_of(ALIGN);
        u32::try_from(room).ok()?;
        // What fits into an isize may be the size of something in memory, and its parts may be added up.
        isize::try_from(bytes).ok()?;
        Some(Self {
            groups: groups as usize,
            heads: heads as usize,
            exceptions: exceptions as usize,
            room: room as usize,
            bytes: bytes as usize,
        })
    }

    /// Bytes of a row's record.
    pub(super) const fn record_bytes(&self) -> usize {
        self.groups * GROUP_BYTES
    }
}
