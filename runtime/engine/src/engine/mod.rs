//! One device's part of a plan: its blocks, its KV cache and the passes over them.

mod draw;
mod fit;
mod load;
mod options;
mod pass;
mod runner;

use std::sync::Arc;

use lime_kernels::{Isa, Kernels};
use lime_plan::{Block, DeviceMemory, DevicePlan, Dtype, PageName};

use crate::{
    engine_error::EngineError,
    keeper::PageKeeper,
    layers::Part,
    page_disk::PageDisk,
    residency::{Blocks as _, ResidencyCounters, ResidencyFigures, Shortage, Verified},
    stream::StreamCounters,
};
use lime_model::TensorRole;

pub use options::EngineOptions;
use runner::{Runner, on_backend};

/// One device of a plan, ready to compute. Driven from one thread.
pub struct Engine {
    runner: Runner,
    kernels: Arc<Kernels>,
    isa: Isa,
    device: DevicePlan,
    /// What is computed in each segment.
    parts: Vec<Vec<Part>>,
    limits: Limits,
    /// The block that holds the output matrix, where the head is here.
    output: Option<(Block, TensorRole)>,
    /// What the plan counts beside what is measured: activations, overhead, budget.
    memory: DeviceMemory,
    streaming: Arc<StreamCounters>,
    /// The dtype of KV entries.
    entries: Dtype,
}

struct Limits {
    hidden: usize,
    vocabulary: usize,
    most_rows: usize,
    /// Rows of logits that the plan has memory for.
    most_logits: usize,
}

impl Engine {
    /// Forgets the sequence in `slot`.
    pub fn release(&mut self, slot: u32) {
        on_backend!(&mut self.runner, it => it.memory.release(slot));
    }

    /// Keeps full pages of the sequence in `slot`, from number `first` on, under `pages`: sequences begin behind them, also when the slot is
    /// released. They have only room that nobody else needs; what cannot be kept, or not any longer, [`Engine::take_forgotten`] tells.
    /// Under `names`, one for each or none at all, they are found again when the numbers are of no meaning any more: [`Engine::restore`].
    pub fn keep(&mut self, slot: u32, first: u32, pages: &[u64], names: &[PageName]) {
        on_backend!(&mut self.runner, it => it.memory.keep(slot, first, pages, names));
    }

    /// Keeps pages that were kept under these names under a number again. They are of one sequence, in its order; [`Engine::take_forgotten`]
    /// tells of those that are not there any more.
    pub fn restore(&mut self, pages: &[(u64, PageName)]) {
        on_backend!(&mut self.runner, it => it.memory.restore(pages));
    }

    /// Names that can be restored, the one that goes last first, and how many pages the disk has room for.
    pub fn named_pages(&self) -> (Vec<PageName>, usize) {
        on_backend!(&self.runner, it => it.memory.named_pages())
    }

    /// Forgets what was computed before, in memory and on the disk: the weights may have been others than they should be.
    pub fn forget_named(&mut self) {
        on_backend!(&mut self.runner, it => it.memory.forget_named());
    }

    /// The disk on which pages that have a name are kept, too.
    pub fn set_page_disk(&mut self, disk: Option<Box<dyn PageDisk>>) {
        on_backend!(&mut self.runner, it => it.memory.set_page_disk(disk));
    }

    /// Has pages written to that disk which wait for it; whether some are left that it takes a little later.
    pub fn spill(&mut self) -> bool {
        on_backend!(&mut self.runner, it => it.memory.spill())
    }

    /// Keeps these pages no more.
    pub fn forget(&mut self, pages: &[u64]) {
        on_backend!(&mut self.runner, it => it.memory.forget(pages));
    }

    /// Begins the sequence in `slot` anew behind kept pages: its next rows come where they end. What it computes is what it would have
    /// computed from its start, bit for bit, if the pages are of the same tokens in the same places.
    ///
    /// # Errors
    /// Where one of them is not kept: the slot is empty then.
    pub fn begin_behind(&mut self, slot: u32, pages: &[u64]) -> Result<(), EngineError> {
        on_backend!(&mut self.runner, it => it.memory.begin_behind(slot, pages))
    }

    /// Pages that are not kept, or not any more, without anybody having said so since this was asked last.
    pub fn take_forgotten(&mut self) -> Vec<u64> {
        on_backend!(&mut self.runner, it => it.memory.take_forgotten())
    }

    /// Forgets every sequence, the numbers of pages that are kept, and those that have no name.
    pub fn reset(&mut self) {
        on_backend!(&mut self.runner, it => it.memory.reset());
    }

    /// From now on the device does without `shortage` of its budget: blocks give way at once, and come back as passes meet them
    /// when it is over. `why` is for the log.
    ///
    /// # Errors
    /// When a buffer for streaming cannot be had; the next pass tries again.
    pub fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), EngineError> {
        on_backend!(&mut self.runner, it => it.memory.press(shortage, why))
    }

    /// The device that keeps KV pages for this one from now on, for the plan's step that hands pages over. No sequence has pages
    /// remote: [`Engine::reset`] comes before.
    pub fn set_keeper(&mut self, keeper: Option<Box<dyn PageKeeper>>) {
        on_backend!(&mut self.runner, it => it.memory.set_keeper(keeper));
    }

    /// Whether passes find `block` in memory at the moment, and do not read it.
    pub fn keeps(&self, block: Block) -> bool {
        on_backend!(&self.runner, it => it.memory.blocks.keeps(block))
    }

    /// Compares the blocks in memory with the digests of the store that they came from, and reads those again that differ; what streams
    /// is read anew, from files that may be others by now. Blocks that came from a model's folder have no digests.
    ///
    /// # Errors
    /// When a block that differs cannot be read. Passes that meet it fail until another call succeeds.
    pub fn verify(&mut self) -> Result<Verified, EngineError> {
        on_backend!(&mut self.runner, it => it.memory.blocks.verify())
    }

    /// The memory that is taken now; of the KV cache, what pages in use take, where it does not come whole. Overhead and budget are
    /// the plan's.
    pub fn memory(&self) -> DeviceMemory {
        let (figures, buffers) = on_backend!(&self.runner, it => (it.memory.figures(), it.memory.buffers()));
        let ResidencyFigures { pinned, prefetch, kv, .. } = *figures;
        DeviceMemory { pinned, prefetch, kv, activations: self.memory.activations + buffers, ..self.memory }
    }

    /// What memory holds at the moment; it goes on being told.
    pub fn residency(&self) -> Arc<ResidencyCounters> {
        on_backend!(&self.runner, it => it.memory.told())
    }

    /// What streaming has done so far; it goes on counting.
    pub fn streaming(&self) -> Arc<StreamCounters> {
        Arc::clone(&self.streaming)
    }

    /// The instruction set in use.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// The device's part of the plan.
    pub const fn device(&self) -> &DevicePlan {
        &self.device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker hands its engine to the thread that computes.
    #[test]
    fn engines_can_move_between_threads() {
        fn movable<T: Send>() {}
        movable::<Engine>();
    }
}
