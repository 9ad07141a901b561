//! Where blocks were read from, so that they can be compared and read again.

use std::sync::Arc;

use lime_plan::Block;

use crate::{engine_error::EngineError, stream::BlockReader};
use lime_model::{BlockFile, BlockFiles, BlockLayout};

/// What a device's blocks were read from.
#[derive(Clone)]
pub(crate) struct ReadFrom {
    pub(crate) store: Arc<dyn BlockFiles>,
    pub(crate) reader: Arc<dyn BlockReader>,
}

impl ReadFrom {
    /// The file of `block`.
    pub(crate) fn locate(&self, block: Block, layout: &BlockLayout) -> Result<BlockFile, EngineError> {
        self.store.locate(block, layout).map_err(|source| EngineError::NotStored { block, source })
    }
}
