//! Reading rows of a compact matrix, whatever its bytes are.

use super::expand::Expand;
use super::layout::{CompactLayout, EXCEPTION_BYTES, GROUP, GROUP_BYTES, HEAD_BYTES, STRIPE, TABLE};
use crate::simd::prefetch_far;

/// Sign and mantissa of a bf16 value.
const REST: u16 = 0x807f;

/// How far ahead of a row its successors' heads are asked for, in bytes.
const HEADS_AHEAD: usize = 16 * HEAD_BYTES;
/// How far ahead of a row's exceptions its successors' are asked for, in bytes.
const EXCEPTIONS_AHEAD: usize = 512;

/// The bytes of a compact matrix, as many as its layout says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactRows<'a> {
    bytes: &'a [u8],
    layout: CompactLayout,
}

impl<'a> CompactRows<'a> {
    /// # Panics
    /// When the number of bytes is not the layout's.
    pub(crate) fn new(bytes: &'a [u8], layout: CompactLayout) -> Self {
        assert_eq!(bytes.len(), layout.bytes, "bytes of a compact matrix");
        Self { bytes, layout }
    }

    /// Bytes of a row, exceptions and head apart.
    pub(crate) const fn record_bytes(&self) -> usize {
        self.layout.record_bytes()
    }

    /// A reader at the start of row `index`.
    ///
    /// # Panics
    /// When the row does not lie in the bytes; the caller knows the number of rows better.
    #[inline]
    pub(crate) fn reader(&self, index: usize) -> RowReader<'a> {
        let CompactLayout { groups, heads, exceptions, room, .. } = self.layout;
        let record = self.layout.record_bytes();
        let head = &self.bytes[heads..exceptions][index * HEAD_BYTES..][..HEAD_BYTES];
        let (table, listed) = head.split_first_chunk::<TABLE>().expect("a head is longer than its table");
        // Heads and exceptions are read too seldom for the processor to see a stream in them.
        prefetch_far(head.as_ptr().wrapping_add(HEADS_AHEAD));
        // Two u32 are one u64, little-endian too.
        let listed = listed.first_chunk().map_or(0, |listed| u64::from_le_bytes(*listed));
        // Whatever the head says, the exceptions lie in their section and are no more than elements.
        let start = room.min(listed as u32 as usize);
        let count = (room - start).min((listed >> 32) as usize).min(groups * GROUP);
        let exceptions = &self.bytes[exceptions..][start * EXCEPTION_BYTES..];
        prefetch_far(exceptions.as_ptr().wrapping_add(EXCEPTIONS_AHEAD));
        prefetch_far(exceptions.as_ptr().wrapping_add(EXCEPTIONS_AHEAD + 64));
        RowReader {
            record: &self.bytes[..heads][index * record..][..record],
            table: *table,
            exceptions: &exceptions[..count * EXCEPTION_BYTES],
            before: 0,
            end: 0,
        }
    }
}

/// Expands one row from its first element to its last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowReader<'a> {
    /// What is left of the record.
    record: &'a [u8],
    table: [u8; TABLE],
    /// What is left of the row's exceptions.
    exceptions: &'a [u8],
    /// Column of the exception before those.
    before: usize,
    /// Columns expanded so far.
    end: usize,
}

impl RowReader<'_> {
    /// Writes the next `groups` groups to the front of `into` as raw bf16. All but the last part of a row are whole
    /// stripes. Memory `ahead` bytes further on is asked for meanwhile.
    ///
    /// # Panics
    /// When so many groups are not left, or do not fit `into`.
    #[inline]
    pub(crate) fn expand(&mut self, expand: Expand, groups: usize, into: &mut [u8], ahead: usize) {
        let (part, record) = self.record.split_at(groups * GROUP_BYTES);
        debug_assert!(record.is_empty() || groups.is_multiple_of(STRIPE));
        self.record = record;
        let into = &mut into[..groups * GROUP * 2];
        expand.run(part, self.table, into, ahead);
        let (values, _) = into.as_chunks_mut::<2>();
        let start = self.end;
        self.end += groups * GROUP;
        let (exceptions, _) = self.exceptions.as_chunks::<EXCEPTION_BYTES>();
        let mut done = 0;
        for &[distance, exponent] in exceptions {
            let column = self.before + usize::from(distance);
            // Columns never fall, so that this one lies in `start..end` or beyond.
            let Some(value) = values.get_mut(column - start) else { break };
            let rest = u16::from_le_bytes(*value) & REST;
            *value = (rest | u16::from(exponent) << 7).to_le_bytes();
            self.before = column;
            done += 1;
        }
        self.exceptions = &self.exceptions[done * EXCEPTION_BYTES..];
    }
}
