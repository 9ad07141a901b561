//! KV entries beyond their type's range: counted, and told once.

use lime_plan::Dtype;

use super::Memory;

impl<S, P> Memory<S, P> {
    /// Counts the entries of a pass that were beyond the range of their type, and says so at the first of them.
    pub(crate) fn note_saturated(&mut self, saturated: u64, entries: Dtype) {
        if saturated == 0 {
            return;
        }
        if self.figures.saturated == 0 {
            tracing::warn!(
                entries = saturated,
                "keys or values of this model are beyond the range of {entries}: they are kept as its greatest number, and \
                 answers may not be those of f32; kvCacheType: F32 keeps them all"
            );
        }
        self.figures.saturated += saturated;
    }
}
