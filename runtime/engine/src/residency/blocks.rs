//! What memory needs of a device's blocks, wherever they are held.

use lime_plan::{Block, Bytes, DeviceSteps};

use super::Verified;
use crate::{engine_error::EngineError, weights::BlockSource};

/// A device's blocks: those that are kept, and those that give way by the plan's steps.
///
/// A backend that keeps all of them whole has no steps (a plan with some is refused when it is loaded): so what is said here of steps
/// that are in force holds as it stands for one of which none can be.
pub(crate) trait Blocks: BlockSource {
    /// The plan's steps for this device.
    fn steps(&self) -> &DeviceSteps;

    /// Whether passes find `block` in memory, and never read it.
    fn keeps(&self, block: Block) -> bool;

    /// Bytes of weights that are kept.
    fn pinned_bytes(&self) -> Bytes;

    /// Compares the blocks that are kept with what they were read from, and reads those again that differ. No pass holds a block.
    ///
    /// # Errors
    /// When a block that differs cannot be read: passes that meet it fail until it can.
    fn verify(&mut self) -> Result<Verified, EngineError>;

    /// Steps that are in force.
    fn level(&self) -> usize {
        0
    }

    /// Bytes of the buffer for blocks that stream.
    fn buffer(&self) -> Bytes {
        Bytes::ZERO
    }

    /// Takes steps until `level` of them are in force. No pass holds a block.
    ///
    /// # Errors
    /// When a buffer for streaming cannot be had: the next call tries again.
    fn take_steps(&mut self, level: usize) -> Result<(), EngineError> {
        debug_assert!(self.steps().stream_steps().is_empty(), "step {level}, which this backend does not take");
        Ok(())
    }

    /// Says whether the pass that meets blocks from now on is followed at once by one that meets the same ones: what streams stays for
    /// that one.
    fn set_followed(&mut self, _followed: bool) {}

    /// Leaves things as they are.
    fn stay(&mut self) {}

    /// Undoes the last step when a pass next meets its block.
    fn undo_step(&mut self) {}

    /// Whether a step was undone since this was last asked.
    fn has_returned(&mut self) -> bool {
        false
    }

    /// Whether the buffer is the one that the level asks for; else makes it so. What was read ahead is lost with the old one.
    ///
    /// # Errors
    /// When memory cannot be had.
    fn fit_stream(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}
