//! KV entries beyond their type's range: counted, and told once.

use super::{Engine, Runner};
use crate::backend::Backend as _;

impl Engine {
    /// Counts the entries of a pass that were beyond the range, and says so at the first of them.
    pub(super) fn note_saturated(&mut self) {
        let counted = match &mut self.runner {
            Runner::Exact(layers) => layers.backend.take_saturated(),
            Runner::Candle(layers) => layers.backend.take_saturated(),
        };
        // A device that cannot say it has failed the pass as well.
        let Ok(saturated @ 1..) = counted else { return };
        if self.figures.saturated == 0 {
            tracing::warn!(
                entries = saturated,
                "keys or values of this model are beyond the range of {}: they are kept as its greatest number, and \
                 answers may not be those of f32; kvCacheType: F32 keeps them all",
                self.entries
            );
        }
        self.figures.saturated += saturated;
    }
}
