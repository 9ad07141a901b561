//! KV pages on another device: handed over and brought back between passes, asked about in passes.

use std::time::Instant;

use lime_kernels::attention_state_floats;
use lime_plan::{Bytes, Ladder, Nanos};

use super::{Engine, Runner};
use crate::{BatchRows, EngineError, KeeperError, PageKeeper, backend::Elsewhere, kv::KvTables, residency::Standing};

impl Engine {
    /// The device that keeps KV pages for this one from now on, for the plan's step that hands pages over. No sequence has pages
    /// elsewhere: [`Engine::reset`] comes before.
    pub fn set_keeper(&mut self, keeper: Option<Box<dyn PageKeeper>>) {
        if let Runner::Exact(layers) = &mut self.runner {
            let planned = layers.blocks.ladder().hand_over().is_some();
            layers.backend.set_keeper(keeper.filter(|_| planned));
            self.link = Default::default();
        }
        self.publish();
    }

    /// Room that the keeper gives, beside what is here.
    pub(super) fn room_elsewhere(&self, ladder: &Ladder) -> Bytes {
        match &self.runner {
            Runner::Exact(layers) if layers.backend.has_keeper() => {
                let left = |over: &lime_plan::HandOver| over.pages.saturating_sub(self.kv.all_elsewhere());
                ladder.hand_over().map_or(Bytes::ZERO, |over| over.page * u64::from(left(over)))
            }
            _ => Bytes::ZERO,
        }
    }

    /// Buffers that are in use because pages are elsewhere.
    pub(super) fn buffers(&self) -> Bytes {
        if self.kv.all_elsewhere() > 0 { self.exchange } else { Bytes::ZERO }
    }

    /// Where the device stands before a pass with which `kv` is here.
    pub(super) fn standing(&mut self, kv: Bytes) -> Result<Standing, EngineError> {
        let here = kv + self.buffers();
        let elsewhere = self.page * u64::from(self.kv.all_elsewhere());
        let Runner::Exact(layers) = &mut self.runner else {
            return Ok(Standing { level: 0, here, elsewhere, costs: Nanos::ZERO });
        };
        let (blocks, backend) = (&layers.blocks, &mut layers.backend);
        let mut stand = Standing { level: blocks.level(), here, elsewhere, costs: Nanos(u64::MAX) };
        let (heads, head_dim) = backend.heads();
        let Some((over, there)) = blocks.ladder().hand_over().zip(backend.elsewhere()) else { return Ok(stand) };
        let free = Standing { costs: Nanos::ZERO, ..stand };
        // Asked only where the answer may decide something.
        if elsewhere.is_zero() && self.link.wants_probe() && self.room.way(blocks.ladder(), &free).elsewhere {
            self.link.probed(probe(there, (heads, head_dim), self.questions)?);
        }
        stand.costs = self.link.costs(over.costs);
        Ok(stand)
    }

    /// Hands pages over until the others fit at `level`, or there is no room or no page for it.
    pub(super) fn hand_over(
        &mut self,
        level: usize,
        why: &str,
        with: impl Fn(&KvTables) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
        let (ladder, backend) = (layers.blocks.ladder(), &mut layers.backend);
        let Some(over) = ladder.hand_over().filter(|_| backend.has_keeper()) else { return Ok(()) };
        // A step back holds a block and its buffer at once.
        let spare =
            ladder.rungs().get(level).filter(|_| layers.blocks.level() > level).map_or(Bytes::ZERO, |rung| rung.grows);
        let taken = self.room.short() + self.exchange + spare;
        let room = ladder.room(level).saturating_sub(taken);
        if taken >= ladder.room(level) && self.kv.all_elsewhere() == 0 {
            return Ok(());
        }
        if self.kv.all_elsewhere() == 0 {
            // Where the pages that must stay leave no room for the buffers, blocks give way instead.
            let most = self.page * u64::from(self.kv.all_full_here().min(over.pages));
            if with(&self.kv)?.saturating_sub(most) > room {
                return Ok(());
            }
        }
        let mut pages = 0_u64;
        while self.kv.all_elsewhere() < over.pages && with(&self.kv)? > room {
            let Some((slot, number, page)) = self.kv.next_to_go() else { break };
            backend.hand_over(slot, number, page)?;
            if let Some(idle) = self.kv.went(slot) {
                backend.give_back(idle);
            }
            pages += 1;
        }
        if pages > 0 {
            self.figures.handed_over += pages;
            let to = backend.elsewhere().map_or("", |there| there.keeper.name());
            let (kv, costs) = (self.kv.bytes(), self.link.costs(over.costs));
            let (all, micros) = (self.kv.all_elsewhere(), began.elapsed().as_micros() as u64);
            tracing::info!(to, pages, all, why, %kv, costs = %costs, micros, "KV pages are kept on another device from now on");
        }
        self.publish();
        Ok(())
    }

    /// Brings a page back, if it fits.
    pub(super) fn bring_back(
        &mut self,
        why: &str,
        with: impl Fn(&KvTables) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
        layers.blocks.stay();
        layers.blocks.fit_stream()?;
        let grows = self.kv.bytes_with_next().saturating_sub(self.kv.bytes());
        // With the last page the buffers go as well; until it is here they are in use.
        let needed = with(&self.kv)? + grows + self.exchange + self.room.short();
        if needed <= layers.blocks.ladder().room(layers.blocks.level()) {
            self.bring_back_next(why)?;
        }
        self.publish();
        Ok(())
    }

    /// Brings every page back, with as many blocks streamed as that takes: what the buffers for questions take is then free.
    pub(super) fn bring_all_back(&mut self, kv: Bytes, why: &str) -> Result<(), EngineError> {
        let total = kv + self.page * u64::from(self.kv.all_elsewhere()) + self.room.short();
        let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
        let ladder = layers.blocks.ladder();
        let level = ladder.least(total).unwrap_or(ladder.rungs().len()).max(layers.blocks.level());
        if let Some(there) = layers.backend.elsewhere() {
            there.rest();
        }
        self.climb(level, kv, why)?;
        while self.kv.all_elsewhere() > 0 {
            self.bring_back_next(why)?;
        }
        self.publish();
        Ok(())
    }

    fn bring_back_next(&mut self, why: &str) -> Result<(), EngineError> {
        let Runner::Exact(layers) = &mut self.runner else { return Ok(()) };
        let Some((slot, number, page)) = self.kv.next_to_come() else { return Ok(()) };
        layers.backend.take_back(slot, number, page)?;
        self.kv.came(slot);
        self.figures.brought_back += 1;
        let left = self.kv.all_elsewhere();
        let from = layers.backend.elsewhere().map_or("", |there| there.keeper.name());
        tracing::info!(from, slot, page = number, left, why, kv = %self.kv.bytes(), "a KV page is kept here again");
        if left == 0 {
            self.none_elsewhere();
        }
        Ok(())
    }

    /// A pass comes. A sequence that begins anew needs no page of the one before it, and none of those may go elsewhere now.
    pub(super) fn begin_anew(&mut self, segment: usize, rows: &[BatchRows]) -> Result<(), EngineError> {
        // Later segments go on with what the first began.
        if segment != self.kv.first_segment() {
            return Ok(());
        }
        self.link.tick();
        if rows.iter().any(|part| part.start == 0) {
            self.kv.check_all(segment, rows)?;
            let mut idle = Vec::new();
            for part in rows.iter().filter(|part| part.start == 0) {
                self.release_elsewhere(part.slot);
                self.kv.begin_anew(part.slot, segment, |range| idle.push(range));
            }
            self.give_back(idle);
        }
        Ok(())
    }

    /// Has the keeper forget a sequence.
    pub(super) fn release_elsewhere(&mut self, slot: u32) {
        if self.kv.elsewhere(slot) == 0 {
            return;
        }
        if let Runner::Exact(layers) = &mut self.runner
            && let Some(there) = layers.backend.elsewhere()
            && let Err(error) = there.keeper.release(slot)
        {
            // Whoever cannot be reached ends the ring's epoch, and everything that is kept with it.
            tracing::debug!(%error, "pages elsewhere could not be released");
        }
        if self.kv.all_elsewhere() == self.kv.elsewhere(slot) {
            self.none_elsewhere();
        }
    }

    fn none_elsewhere(&mut self) {
        let Runner::Exact(layers) = &mut self.runner else { return };
        let heads = layers.backend.heads();
        if let Some(there) = layers.backend.elsewhere() {
            there.rest();
            let probed = self.link.has_measured().then(|| probe(there, heads, self.questions).ok());
            self.link.all_back(probed.flatten());
        }
    }

    /// Notes how long the questions of a pass took.
    pub(super) fn note_questions(&mut self) {
        if let Runner::Exact(layers) = &mut self.runner
            && let Some(there) = layers.backend.elsewhere()
        {
            let asked = there.take_asked();
            let took = Nanos(u64::try_from(asked.took.as_nanos()).unwrap_or(u64::MAX));
            self.figures.elsewhere_waited = self.figures.elsewhere_waited + took;
            if asked.questions > 0 && asked.single_rows {
                let pass = asked.took.as_nanos() * u128::from(self.questions) / u128::from(asked.questions);
                self.link.passed(Nanos(u64::try_from(pass).unwrap_or(u64::MAX)));
            }
        }
    }
}

/// How long the questions of a pass take that are about nothing: of a row that is drawn from and one of a prompt each, as the plan
/// counts them.
fn probe(there: &mut Elsewhere, (heads, head_dim): (usize, usize), questions: u32) -> Result<Nanos, KeeperError> {
    let floats = [heads * head_dim, attention_state_floats(heads, head_dim)];
    let [question, answer] = floats.map(|floats| 2 * floats * size_of::<f32>());
    let took = there.keeper.probe(question, answer)?.saturating_mul(questions);
    Ok(Nanos(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)))
}
