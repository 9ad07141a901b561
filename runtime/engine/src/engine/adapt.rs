//! Room for the KV cache while passes run: steps of the plan taken and undone between passes.

use std::{ops::Range, time::Instant};

use lime_plan::{Bytes, DeviceMemory, Nanos};

use super::{Engine, Runner};
use crate::{
    BatchRows, EngineError,
    kv::KvTables,
    residency::{ResidencyFigures, Resident, Shortage, Verdict},
};

impl Engine {
    /// From now on the device does without `shortage` of its budget: blocks give way at once, and come back as passes meet them
    /// when it is over. `why` is for the log.
    ///
    /// # Errors
    /// When a buffer for streaming cannot be had; the next pass tries again.
    pub fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), EngineError> {
        if shortage == self.room.shortage {
            return Ok(());
        }
        self.room.shortage = shortage;
        let kv = self.kv.bytes();
        let settled = self.settle(kv, why, |kv| Ok(kv.bytes()));
        let kv = self.kv.bytes();
        if let Runner::Exact(layers) = &self.runner
            && !self.room.fits(layers.blocks.ladder(), kv)
        {
            let missing = kv + shortage.hard - layers.blocks.ladder().most();
            tracing::warn!(%missing, why, "memory is short beyond every step of the plan: no KV page is added");
        }
        self.publish();
        settled
    }

    /// Makes room for the KV pages that `rows` need.
    pub(super) fn make_room(&mut self, segment: usize, rows: &[BatchRows]) -> Result<(), EngineError> {
        let needed = self.kv.bytes_with(segment, rows)?;
        let Runner::Exact(layers) = &self.runner else { return Ok(()) };
        let ladder = layers.blocks.ladder();
        let most = ladder.most() + self.room_elsewhere(ladder);
        let grows = needed > self.kv.bytes();
        if grows && needed + self.room.shortage.hard > most {
            return self.refused(needed);
        }
        self.settle(needed, "the KV cache grows", |kv| kv.bytes_with(segment, rows))?;
        // Only whole pages can be elsewhere, and asking about them takes buffers: what is left here may still be too much.
        let needed = self.kv.bytes_with(segment, rows)?;
        let fits = |this: &Self, kv| match &this.runner {
            Runner::Exact(layers) => this.room.fits(layers.blocks.ladder(), kv),
            Runner::Candle(_) => true,
        };
        if !grows || fits(self, needed + self.buffers()) {
            return Ok(());
        }
        if self.kv.all_elsewhere() > 0 && fits(self, needed + self.page * u64::from(self.kv.all_elsewhere())) {
            return self.bring_all_back(needed, "the KV cache grows");
        }
        self.refused(needed)
    }

    fn refused(&mut self, needed: Bytes) -> Result<(), EngineError> {
        let Runner::Exact(layers) = &self.runner else { return Ok(()) };
        let room = layers.blocks.ladder().most().saturating_sub(self.room.shortage.hard);
        self.figures.refused += 1;
        self.publish();
        Err(EngineError::NoRoom { needed, room })
    }

    /// Takes the steps that a KV cache of `kv` here needs, or has one undone. `with` says what is here with the pass after pages
    /// have gone.
    pub(super) fn settle(
        &mut self,
        kv: Bytes,
        why: &str,
        with: impl Fn(&KvTables) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let stand = self.standing(kv)?;
        let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
        let blocks = &mut layers.blocks;
        match self.room.decide(blocks.ladder(), &stand) {
            Verdict::Stay => {
                blocks.stay();
                blocks.fit_stream()
            }
            Verdict::Descend => {
                blocks.descend();
                blocks.fit_stream()
            }
            Verdict::Climb(level) => self.climb(level, kv, why),
            Verdict::HandOver(level) => {
                self.climb(level, kv, why)?;
                self.hand_over(level, why, &with)?;
                // What no page could make room for, blocks do.
                let needed = with(&self.kv)? + self.buffers() + self.room.short();
                let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
                let blocks = &mut layers.blocks;
                let now = blocks.level();
                let level = blocks.ladder().level(needed, now, Bytes::ZERO);
                if level < now {
                    blocks.descend();
                    return blocks.fit_stream();
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
        let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
        let blocks = &mut layers.blocks;
        let (from, began) = (blocks.level(), Instant::now());
        let climbed = blocks.climb(level);
        let micros = began.elapsed().as_micros() as u64;
        self.figures.taken += (blocks.level() - from) as u64;
        for rung in &blocks.ladder().rungs()[from..blocks.level()] {
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

    /// Notes what a pass brought back.
    pub(super) fn settled(&mut self) {
        if let Runner::Exact(layers) = &mut self.runner
            && layers.blocks.has_returned()
        {
            let blocks = &mut layers.blocks;
            self.room.undone();
            self.figures.undone += 1;
            if let Some(rung) = blocks.ladder().rungs().get(blocks.level()) {
                tracing::info!(block = %rung.block, kv = %self.kv.bytes(), "the block is kept in memory again");
            }
            // Where the smaller buffer cannot be had now, the next pass asks again and says so.
            let _ = blocks.fit_stream();
        }
        self.note_questions();
        self.publish();
    }

    /// Gives memory of KV pages that nobody uses back to the system.
    pub(super) fn give_back(&mut self, idle: Vec<Range<usize>>) {
        if let Runner::Exact(layers) = &mut self.runner {
            idle.into_iter().for_each(|range| layers.backend.give_back(range));
        }
        self.publish();
    }

    /// Tells the counters.
    pub(super) fn publish(&mut self) {
        let mut figures = self.figures;
        figures.kv = self.kv.bytes();
        if let Runner::Exact(layers) = &self.runner {
            let blocks: &Resident = &layers.blocks;
            let shortage = self.room.short();
            let over = blocks.ladder().hand_over().filter(|_| layers.backend.has_keeper());
            figures = ResidencyFigures {
                pinned: blocks.pinned_bytes(),
                prefetch: blocks.buffer(),
                kv_room: blocks.ladder().room(blocks.level()).saturating_sub(shortage),
                level: blocks.level() as u64,
                steps: blocks.ladder().rungs().len() as u64,
                shortage,
                elsewhere: self.page * u64::from(self.kv.all_elsewhere()),
                elsewhere_room: over.map_or(Bytes::ZERO, |over| over.page * u64::from(over.pages)),
                elsewhere_costs: over.map_or(Nanos::ZERO, |over| self.link.costs(over.costs)),
                ..figures
            };
        } else {
            let DeviceMemory { pinned, prefetch, kv, .. } = self.memory;
            figures = ResidencyFigures { pinned, prefetch, kv, kv_room: kv, ..figures };
        }
        self.figures = figures;
        self.residency.set(figures);
    }
}
