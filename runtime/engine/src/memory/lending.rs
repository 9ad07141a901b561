//! KV pages on another device: handed over and brought back between passes, asked about in passes.

use std::time::Instant;

use lime_kernels::attention_state_floats;
use lime_plan::{BatchRows, Bytes, HandOver, Nanos};

use super::{Memory, Sizes};
use crate::{
    backend::{KvPool, RemotePages, nobody},
    engine_error::EngineError,
    keeper::KeeperError,
    kv::KvTables,
    residency::{Blocks, MemoryUse},
};

impl<S: Blocks, P: KvPool> Memory<S, P> {
    /// Room that the keeper gives, beside what is here.
    pub(super) fn remote_room(&self) -> Bytes {
        let over = self.blocks.steps().hand_over().copied().filter(|_| self.keeper.is_some());
        let left = |over: &HandOver| over.pages.saturating_sub(self.kv.tables.all_remote());
        over.map_or(Bytes::ZERO, |over| over.page * u64::from(left(&over)))
    }

    /// What memory is used for before a pass with which `kv` is here.
    pub(super) fn memory_use(&mut self, kv: Bytes) -> Result<MemoryUse, EngineError> {
        let here = kv + self.buffers();
        let remote = self.sizes.page * u64::from(self.kv.tables.all_remote());
        let mut used = MemoryUse { level: self.blocks.level(), here, remote, costs: Nanos(u64::MAX) };
        let steps = self.blocks.steps();
        let Some((over, there)) = steps.hand_over().copied().zip(self.keeper.as_mut()) else { return Ok(used) };
        let free = MemoryUse { costs: Nanos::ZERO, ..used };
        // Asked only where the answer may decide something.
        if remote.is_zero() && self.link.wants_probe() && self.policy.choose(steps, &free).remote {
            self.link.probed(probe(there, self.sizes)?);
        }
        used.costs = self.link.costs(over.costs);
        Ok(used)
    }

    /// Hands pages over until the others fit at `level`, or there is no room or no page for it.
    pub(super) fn hand_over(
        &mut self,
        level: usize,
        why: &str,
        with: impl Fn(&Self) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        let steps = self.blocks.steps();
        let Some(over) = steps.hand_over().copied().filter(|_| self.keeper.is_some()) else { return Ok(()) };
        // A step back holds a block and its buffer at once.
        let spare = steps
            .stream_steps()
            .get(level)
            .filter(|_| self.blocks.level() > level)
            .map_or(Bytes::ZERO, |step| step.grows);
        let taken = self.policy.short() + self.sizes.exchange + spare;
        let room = steps.room(level).saturating_sub(taken);
        let none_remote = self.kv.tables.all_remote() == 0;
        if none_remote && taken >= steps.room(level) {
            return Ok(());
        }
        if none_remote {
            // Where the pages that must stay leave no room for the buffers, blocks give way instead.
            let most = self.sizes.page * u64::from(self.kv.tables.all_full_here().min(over.pages));
            if with(self)?.saturating_sub(most) > room {
                return Ok(());
            }
        }
        let mut pages = 0_u64;
        while self.kv.tables.all_remote() < over.pages && with(self)? > room {
            let Some((slot, number, page)) = self.kv.tables.next_to_go() else { break };
            let there = self.keeper.as_mut().ok_or_else(nobody)?;
            there.keeper.store(slot, number, self.kv.pool.page(page).ok_or_else(nobody)?)?;
            if let Some(idle) = self.kv.tables.went(slot) {
                self.kv.pool.give_back(idle);
            }
            pages += 1;
        }
        if pages > 0 {
            self.figures.handed_over += pages;
            let to = self.keeper.as_ref().map_or("", |there| there.keeper.name());
            let (kv, costs) = (self.kv_bytes(), self.link.costs(over.costs));
            let (all, micros) = (self.kv.tables.all_remote(), began.elapsed().as_micros() as u64);
            tracing::info!(to, pages, all, why, %kv, costs = %costs, micros, "KV pages are kept on another device from now on");
        }
        self.publish();
        Ok(())
    }

    /// Brings a page back, if it fits.
    pub(super) fn bring_back(
        &mut self,
        why: &str,
        with: impl Fn(&Self) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        self.blocks.stay();
        self.blocks.fit_stream()?;
        let grows = self.kv.tables.bytes_with_next().saturating_sub(self.kv.tables.bytes());
        // With the last page the buffers go as well; until it is here they are in use.
        let needed = with(self)? + grows + self.sizes.exchange + self.policy.short();
        if needed <= self.blocks.steps().room(self.blocks.level()) {
            self.bring_back_next(why)?;
        }
        self.publish();
        Ok(())
    }

    /// Brings every page back, with as many blocks streamed as that takes: what the buffers for questions take is then free.
    pub(super) fn bring_all_back(&mut self, kv: Bytes, why: &str) -> Result<(), EngineError> {
        let total = kv + self.sizes.page * u64::from(self.kv.tables.all_remote()) + self.policy.short();
        let steps = self.blocks.steps();
        let level = steps.least(total).unwrap_or(steps.stream_steps().len()).max(self.blocks.level());
        if let Some(there) = &mut self.keeper {
            there.rest();
        }
        self.take_steps(level, kv, why)?;
        while self.kv.tables.all_remote() > 0 {
            self.bring_back_next(why)?;
        }
        self.publish();
        Ok(())
    }

    /// Brings pages of one sequence back until no more than `most` of them are remote, with as many blocks streamed as that takes.
    fn bring_back_of(&mut self, slot: u32, most: u32, why: &str) -> Result<(), EngineError> {
        let coming = self.kv.tables.remote(slot).saturating_sub(most);
        if coming == 0 {
            return Ok(());
        }
        let needed = self.kv_bytes() + self.sizes.page * u64::from(coming) + self.buffers();
        if !self.policy.fits(self.blocks.steps(), needed) {
            return self.refused(needed);
        }
        let steps = self.blocks.steps();
        let level =
            steps.least(needed + self.policy.short()).unwrap_or(steps.stream_steps().len()).max(self.blocks.level());
        self.blocks.stay();
        self.take_steps(level, needed, why)?;
        while self.kv.tables.remote(slot) > most {
            self.bring_back_page(self.kv.tables.next_to_come_of(slot), why)?;
        }
        self.publish();
        Ok(())
    }

    fn bring_back_next(&mut self, why: &str) -> Result<(), EngineError> {
        self.bring_back_page(self.kv.tables.next_to_come(), why)
    }

    /// Brings back the page that page tables name, as its sequence's slot, its number there, and the place in the pool that it gets.
    fn bring_back_page(&mut self, next: Option<(u32, u32, u32)>, why: &str) -> Result<(), EngineError> {
        let (slot, number, page) = next.ok_or_else(nobody)?;
        let there = self.keeper.as_mut().ok_or_else(nobody)?;
        there.keeper.take_back(slot, number, self.kv.pool.page(page).ok_or_else(nobody)?)?;
        self.kv.tables.came(slot);
        self.figures.brought_back += 1;
        let left = self.kv.tables.all_remote();
        let from = self.keeper.as_ref().map_or("", |there| there.keeper.name());
        tracing::info!(from, slot, page = number, left, why, kv = %self.kv_bytes(), "a KV page is kept here again");
        if left == 0 {
            self.none_remote();
        }
        Ok(())
    }

    /// A pass comes. Rows below what a slot holds forget the rest of it. A sequence that begins anew needs no page of the one before it,
    /// and none of those may go elsewhere now; rows are never written into a page that is remote: it comes back.
    pub(super) fn cut_back(&mut self, segment: usize, rows: &[BatchRows]) -> Result<(), EngineError> {
        // Later segments go on with what the first began.
        if segment != self.kv.tables.first_segment() {
            return Ok(());
        }
        self.link.tick();
        if rows.iter().any(|part| self.kv.tables.cuts(segment, part)) {
            self.kv.tables.check_all(segment, rows)?;
            let mut idle = Vec::new();
            for part in rows {
                // Asked one by one: a part that follows another of its slot cuts nothing.
                if !self.kv.tables.cuts(segment, part) {
                    continue;
                }
                if part.start == 0 {
                    self.release_remote(part.slot);
                    self.kv.tables.begin_anew(part.slot, segment, |range| idle.push(range));
                } else {
                    self.bring_back_of(part.slot, KvTables::whole_before(part.start), "the sequence is cut back")?;
                    self.kv.tables.cut_back(segment, part, |range| idle.push(range));
                }
            }
            self.give_back(idle);
        }
        Ok(())
    }

    /// Has the keeper forget a sequence.
    pub(super) fn release_remote(&mut self, slot: u32) {
        if self.kv.tables.remote(slot) == 0 {
            return;
        }
        if let Some(there) = &mut self.keeper
            && let Err(error) = there.keeper.release(slot)
        {
            // Whoever cannot be reached ends the ring's epoch, and everything that is kept with it.
            tracing::debug!(%error, "remote pages could not be released");
        }
        if self.kv.tables.all_remote() == self.kv.tables.remote(slot) {
            self.none_remote();
        }
    }

    fn none_remote(&mut self) {
        if let Some(there) = &mut self.keeper {
            there.rest();
            let probed = self.link.has_measured().then(|| probe(there, self.sizes).ok());
            self.link.all_back(probed.flatten());
        }
    }

    /// Notes how long the questions of a pass took.
    pub(super) fn note_questions(&mut self) {
        if let Some(there) = &mut self.keeper {
            let asked = there.take_asked();
            let took = Nanos(u64::try_from(asked.took.as_nanos()).unwrap_or(u64::MAX));
            self.figures.remote_waited = self.figures.remote_waited + took;
            if asked.questions > 0 && asked.single_rows {
                let pass = asked.took.as_nanos() * u128::from(self.sizes.questions) / u128::from(asked.questions);
                self.link.passed(Nanos(u64::try_from(pass).unwrap_or(u64::MAX)));
            }
        }
    }
}

/// How long the questions of a pass take that are about nothing: of a row that is drawn from and one of a prompt each, as the plan
/// counts them.
fn probe(there: &mut RemotePages, sizes: Sizes) -> Result<Nanos, KeeperError> {
    let Sizes { questions, heads, head_dim, .. } = sizes;
    let floats = [heads * head_dim, attention_state_floats(heads, head_dim)];
    let [question, answer] = floats.map(|floats| 2 * floats * size_of::<f32>());
    let took = there.keeper.probe(question, answer)?.saturating_mul(questions);
    Ok(Nanos(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)))
}
