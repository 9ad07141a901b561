//! Room for the KV cache while passes run: steps of the plan taken and undone between passes.

use std::time::Instant;

use lime_plan::{BatchRows, Bytes};

use super::Memory;
use crate::{
    EngineError,
    backend::KvPool,
    residency::{Blocks, Shortage, Verdict},
};

impl<S: Blocks, P: KvPool> Memory<S, P> {
    /// From now on the device does without `shortage` of its budget: blocks give way at once, and come back as passes meet them
    /// when it is over. `why` is for the log.
    ///
    /// # Errors
    /// When a buffer for streaming cannot be had; the next pass tries again.
    pub(crate) fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), EngineError> {
        if shortage == self.room.shortage {
            return Ok(());
        }
        self.room.shortage = shortage;
        self.forget_before_steps(&[], |memory| Ok(memory.kv_bytes()))?;
        let settled = self.settle(self.kv_bytes(), why, |memory| Ok(memory.kv_bytes()));
        let kv = self.kv_bytes();
        if !self.room.fits(self.blocks.ladder(), kv) {
            let missing = (kv + shortage.hard).saturating_sub(self.blocks.ladder().most());
            tracing::warn!(%missing, why, "memory is short beyond every step of the plan: no KV page is added");
        }
        self.publish();
        settled
    }

    /// Makes room for the KV pages that `rows` need.
    pub(super) fn make_room(&mut self, segment: usize, rows: &[BatchRows]) -> Result<(), EngineError> {
        self.forget_before_steps(rows, |memory| memory.kv_bytes_with(segment, rows))?;
        let needed = self.kv_bytes_with(segment, rows)?;
        let most = self.blocks.ladder().most() + self.room_elsewhere();
        let grows = needed > self.kv_bytes();
        if grows && needed + self.room.shortage.hard > most {
            return self.refused(needed);
        }
        self.settle(needed, "the KV cache grows", |memory| memory.kv_bytes_with(segment, rows))?;
        // Only whole pages can be elsewhere, and asking about them takes buffers: what is left here may still be too much.
        let needed = self.kv_bytes_with(segment, rows)?;
        if !grows || self.room.fits(self.blocks.ladder(), needed + self.buffers()) {
            return Ok(());
        }
        let elsewhere = self.kv.tables.all_elsewhere();
        let all = needed + self.sizes.page * u64::from(elsewhere);
        if elsewhere > 0 && self.room.fits(self.blocks.ladder(), all) {
            return self.bring_all_back(needed, "the KV cache grows");
        }
        self.refused(needed)
    }

    pub(super) fn refused(&mut self, needed: Bytes) -> Result<(), EngineError> {
        let room = self.blocks.ladder().most().saturating_sub(self.room.shortage.hard);
        self.figures.refused += 1;
        self.publish();
        Err(EngineError::NoRoom { needed, room })
    }

    /// Takes the steps that a KV cache of `kv` here needs, or has one undone. `with` says what is here with the pass after pages
    /// have gone.
    fn settle(
        &mut self,
        kv: Bytes,
        why: &str,
        with: impl Fn(&Self) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let stand = self.standing(kv)?;
        match self.room.decide(self.blocks.ladder(), &stand) {
            Verdict::Stay => {
                self.blocks.stay();
                self.blocks.fit_stream()
            }
            Verdict::Descend => {
                self.blocks.descend();
                self.blocks.fit_stream()
            }
            Verdict::Climb(level) => self.climb(level, kv, why),
            Verdict::HandOver(level) => {
                self.climb(level, kv, why)?;
                self.hand_over(level, why, &with)?;
                // What no page could make room for, blocks do.
                let needed = with(self)? + self.buffers() + self.room.short();
                let now = self.blocks.level();
                let level = self.blocks.ladder().level(needed, now, Bytes::ZERO);
                if level < now {
                    self.blocks.descend();
                    return self.blocks.fit_stream();
                }
                self.climb(level, kv, why)
            }
            Verdict::BringBack(level) => {
                self.climb(level, kv, why)?;
                self.bring_back(why, &with)
            }
        }
    }

    /// Takes steps until `level` of them are in force.
    pub(super) fn climb(&mut self, level: usize, kv: Bytes, why: &str) -> Result<(), EngineError> {
        let (from, began) = (self.blocks.level(), Instant::now());
        let climbed = self.blocks.climb(level);
        let micros = began.elapsed().as_micros() as u64;
        let to = self.blocks.level();
        self.figures.taken += (to - from) as u64;
        for rung in &self.blocks.ladder().rungs()[from..to] {
            let (freed, pass) = (rung.bytes.saturating_sub(rung.grows), rung.time_per_token);
            let short = self.room.short();
            tracing::info!(
                block = %rung.block, why, %kv, %short, %freed, predicted = %pass, micros,
                "the block is read for every pass from now on"
            );
        }
        self.publish();
        climbed
    }
}
