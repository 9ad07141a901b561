//! Room for the KV cache while passes run: steps of the plan taken and undone between passes.

use std::time::Instant;

use lime_plan::{BatchRows, Bytes};

use super::Memory;
use crate::{
    backend::KvPool,
    engine_error::EngineError,
    residency::{Blocks, Decision, Shortage},
};

impl<S: Blocks, P: KvPool> Memory<S, P> {
    /// From now on the device does without `shortage` of its budget: blocks give way at once, and come back as passes meet them
    /// when it is over. `why` is for the log.
    ///
    /// # Errors
    /// When a buffer for streaming cannot be had; the next pass tries again.
    pub(crate) fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), EngineError> {
        if shortage == self.policy.shortage {
            return Ok(());
        }
        self.policy.shortage = shortage;
        self.forget_before_steps(&[], |memory| Ok(memory.kv_bytes()))?;
        let settled = self.adjust(self.kv_bytes(), why, |memory| Ok(memory.kv_bytes()));
        let kv = self.kv_bytes();
        if !self.policy.fits(self.blocks.steps(), kv) {
            let missing = (kv + shortage.hard).saturating_sub(self.blocks.steps().most());
            tracing::warn!(%missing, why, "memory is short beyond every step of the plan: no KV page is added");
        }
        self.publish();
        settled
    }

    /// Makes room for the KV pages that `rows` need.
    pub(super) fn make_room(&mut self, segment: usize, rows: &[BatchRows]) -> Result<(), EngineError> {
        self.forget_before_steps(rows, |memory| memory.kv_bytes_with(segment, rows))?;
        let needed = self.kv_bytes_with(segment, rows)?;
        let most = self.blocks.steps().most() + self.remote_room();
        let grows = needed > self.kv_bytes();
        if grows && needed + self.policy.shortage.hard > most {
            return self.refused(needed);
        }
        self.adjust(needed, "the KV cache grows", |memory| memory.kv_bytes_with(segment, rows))?;
        // Only whole pages can be remote, and asking about them takes buffers: what is left here may still be too much.
        let needed = self.kv_bytes_with(segment, rows)?;
        if !grows || self.policy.fits(self.blocks.steps(), needed + self.buffers()) {
            return Ok(());
        }
        let remote = self.kv.tables.all_remote();
        let all = needed + self.sizes.page * u64::from(remote);
        if remote > 0 && self.policy.fits(self.blocks.steps(), all) {
            return self.bring_all_back(needed, "the KV cache grows");
        }
        self.refused(needed)
    }

    pub(super) fn refused(&mut self, needed: Bytes) -> Result<(), EngineError> {
        let room = self.blocks.steps().most().saturating_sub(self.policy.shortage.hard);
        self.figures.refused += 1;
        self.publish();
        Err(EngineError::NoRoom { needed, room })
    }

    /// Takes the steps that a KV cache of `kv` here needs, or has one undone. `with` says what is here with the pass after pages
    /// have gone.
    fn adjust(
        &mut self,
        kv: Bytes,
        why: &str,
        with: impl Fn(&Self) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let used = self.memory_use(kv)?;
        match self.policy.decide(self.blocks.steps(), &used) {
            Decision::Stay => {
                self.blocks.stay();
                self.blocks.fit_stream()
            }
            Decision::UndoStep => {
                self.blocks.undo_step();
                self.blocks.fit_stream()
            }
            Decision::TakeSteps(level) => self.take_steps(level, kv, why),
            Decision::HandOver(level) => {
                self.take_steps(level, kv, why)?;
                self.hand_over(level, why, &with)?;
                // What no page could make room for, blocks do.
                let needed = with(self)? + self.buffers() + self.policy.short();
                let now = self.blocks.level();
                let level = self.blocks.steps().level(needed, now, Bytes::ZERO);
                if level < now {
                    self.blocks.undo_step();
                    return self.blocks.fit_stream();
                }
                self.take_steps(level, kv, why)
            }
            Decision::BringBack(level) => {
                self.take_steps(level, kv, why)?;
                self.bring_back(why, &with)
            }
        }
    }

    /// Takes steps until `level` of them are in force.
    pub(super) fn take_steps(&mut self, level: usize, kv: Bytes, why: &str) -> Result<(), EngineError> {
        let (from, began) = (self.blocks.level(), Instant::now());
        let taken = self.blocks.take_steps(level);
        let micros = began.elapsed().as_micros() as u64;
        let to = self.blocks.level();
        self.figures.taken += (to - from) as u64;
        for step in &self.blocks.steps().stream_steps()[from..to] {
            let (freed, pass) = (step.bytes.saturating_sub(step.grows), step.time_per_token);
            let short = self.policy.short();
            tracing::info!(
                block = %step.block, why, %kv, %short, %freed, predicted = %pass, micros,
                "the block is read for every pass from now on"
            );
        }
        self.publish();
        taken
    }
}
