//! Pages that are kept for sequences to come. They have only room that nobody else needs: before a step is taken, a page goes elsewhere or a
//! pass is refused they go, the least recently used first, and while a step is in force none is kept. Those that have a name are written to
//! the device's disk, where there is one for them, and come back from there.

use std::collections::{HashSet, VecDeque};

use lime_plan::{BatchRows, Bytes, PageName};

use super::Memory;
use crate::{backend::KvPool, engine_error::EngineError, page_disk::PageDisk, residency::Blocks};

/// The pages of a device beyond its memory, and those that are still to go there.
#[derive(Default)]
pub(super) struct Spill {
    disk: Option<Box<dyn PageDisk>>,
    /// With the page before each, in the order in which they were kept.
    waiting: VecDeque<(PageName, Option<PageName>)>,
}

impl Spill {
    /// Memory that copies take which are on their way to the disk.
    pub(super) fn copies(&self) -> Bytes {
        self.disk.as_ref().map_or(Bytes::ZERO, |disk| disk.copies())
    }
}

impl<S: Blocks, P: KvPool> Memory<S, P> {
    /// The disk on which pages that have a name are kept from now on.
    pub(crate) fn set_page_disk(&mut self, disk: Option<Box<dyn PageDisk>>) {
        self.spill = Spill { disk: disk.filter(|_| self.kv.pool.is_paged()), ..Spill::default() };
    }

    /// Keeps pages of `slot` from number `first` on, when it is released and others begin behind them, under `ids`, and beyond this epoch
    /// under `names`. Those that cannot be kept are told by [`Memory::take_forgotten`].
    pub(crate) fn keep(&mut self, slot: u32, first: u32, ids: &[u64], names: &[PageName]) {
        let room = self.kv.pool.is_paged() && !self.is_tight(self.kv_bytes());
        if !room {
            self.forgotten.extend(ids);
            return;
        }
        let mut idle = Vec::new();
        let refused = self.kv.tables.keep(slot, first, ids, names, |range| idle.push(range));
        self.give_back(idle);
        self.forgotten.extend(refused);
        let Some(disk) = self.spill.disk.as_mut().filter(|_| !names.is_empty()) else { return };
        let all = self.kv.tables.names_of(slot);
        disk.used(&all);
        for (number, name) in all.iter().enumerate().filter(|(_, name)| names.contains(name)) {
            let behind = number.checked_sub(1).map(|before| all[before]);
            self.spill.waiting.push_back((*name, behind));
        }
        self.spill();
    }

    /// Has pages written that wait for it, as many as the disk takes now; whether some are left.
    pub(crate) fn spill(&mut self) -> bool {
        while let Some((name, behind)) = self.spill.waiting.front().copied() {
            // A copy takes room, and only what nobody needs.
            let needed = self.kv_bytes() + self.sizes.page;
            let fits = !self.is_tight(needed);
            let Some(disk) = &mut self.spill.disk else { break };
            let page = self.kv.tables.page_named(&name).filter(|_| !disk.has(&name));
            if let Some(page) = page.and_then(|page| self.kv.pool.page(page))
                && !(fits && disk.write(name, behind, page))
            {
                return fits;
            }
            self.spill.waiting.pop_front();
        }
        false
    }

    /// Gives pages that were kept under a name, in an epoch before or on the disk, a number, so that sequences begin behind them; they are of
    /// one sequence, in its order. Those that are not there, or have no room, are told by [`Memory::take_forgotten`].
    pub(crate) fn restore(&mut self, pages: &[(u64, PageName)]) {
        // Where no layer is, nothing is held, and nothing is missed.
        if !self.kv.tables.holds_layers() {
            return;
        }
        self.kv.tables.begin_restoring();
        for (id, name) in pages {
            if !(self.kv.tables.claim(*id, name) || self.read_back(*id, name)) {
                self.forgotten.push(*id);
            }
        }
        if let Some(disk) = &mut self.spill.disk {
            disk.used(&pages.iter().map(|(_, name)| *name).collect::<Vec<_>>());
        }
        self.publish();
    }

    fn read_back(&mut self, id: u64, name: &PageName) -> bool {
        if !self.spill.disk.as_ref().is_some_and(|disk| disk.has(name)) {
            return false;
        }
        // What is left of epochs before goes first; what this one has numbered stays.
        while self.is_tight(self.kv_bytes() + self.sizes.page) || !self.kv.tables.has_room_for_one() {
            if !self.kv.tables.first_is_unnumbered() {
                return false;
            }
            let idle = self.kv.tables.forget_first().and_then(|gone| gone.idle);
            self.give_back(idle.into_iter().collect());
        }
        let Some(page) = self.kv.tables.take_to_fill(id, name) else { return false };
        let disk = self.spill.disk.as_mut().zip(self.kv.pool.page(page));
        if disk.is_some_and(|(disk, bytes)| disk.read(name, bytes)) {
            self.kv.tables.filled(page, id, *name);
            return true;
        }
        let idle = self.kv.tables.not_filled(page);
        self.give_back(idle.into_iter().collect());
        false
    }

    /// Names of pages that can be restored, in memory or on the disk, the one that goes last first, and how many the disk has room for.
    pub(crate) fn named_pages(&self) -> (Vec<PageName>, usize) {
        let mut names = self.kv.tables.names();
        let Some(disk) = &self.spill.disk else { return (names, 0) };
        let here: HashSet<PageName> = names.iter().copied().collect();
        names.extend(disk.names().into_iter().filter(|name| !here.contains(name)));
        (names, disk.room())
    }

    /// Nothing that was computed before is believed any more.
    pub(crate) fn forget_named(&mut self) {
        let mut idle = Vec::new();
        self.kv.tables.forget_all(|range| idle.push(range));
        self.spill.waiting.clear();
        if let Some(disk) = &mut self.spill.disk {
            disk.settle();
            disk.clear();
        }
        self.give_back(idle);
    }

    /// Keeps these pages no more.
    pub(crate) fn forget(&mut self, ids: &[u64]) {
        let idle = ids.iter().filter_map(|id| self.kv.tables.forget(*id)).collect();
        self.give_back(idle);
    }

    /// Begins the sequence of `slot` anew behind the pages kept under `ids`.
    ///
    /// # Errors
    /// Where one of them is not kept here.
    pub(crate) fn begin_behind(&mut self, slot: u32, ids: &[u64]) -> Result<(), EngineError> {
        self.release_remote(slot);
        let mut idle = Vec::new();
        let begun = self.kv.tables.begin_behind(slot, ids, |range| idle.push(range));
        self.give_back(idle);
        if let Some(disk) = self.spill.disk.as_mut().filter(|_| begun.is_ok()) {
            disk.used(&self.kv.tables.names_of(slot));
        }
        begun
    }

    /// Pages that were to be kept and are not, or not any more, since this was asked last.
    pub(crate) fn take_forgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgotten)
    }

    /// Lets kept pages go until `rows` have pages, and what `with` says fits, without a step.
    pub(super) fn forget_before_steps(
        &mut self,
        rows: &[BatchRows],
        with: impl Fn(&Self) -> Result<Bytes, EngineError>,
    ) -> Result<(), EngineError> {
        let mut idle = Vec::new();
        while !self.kv.tables.has_free(rows) || self.is_tight(with(self)?) {
            let copies = self.spill.copies();
            if let Some(disk) = self.spill.disk.as_mut().filter(|_| !copies.is_zero()) {
                // They are written within milliseconds, where a step would take seconds to be undone.
                disk.settle();
                continue;
            }
            let Some(gone) = self.kv.tables.forget_first() else { break };
            idle.extend(gone.idle);
            self.forgotten.extend(gone.id);
        }
        if !idle.is_empty() {
            self.give_back(idle);
        }
        Ok(())
    }

    /// Whether a KV cache of `kv` needs room that somebody else has, or has it.
    fn is_tight(&self, kv: Bytes) -> bool {
        let fixed = self.kv.pool.fixed();
        let level = self.blocks.level();
        level > 0
            || self.kv.tables.all_remote() > 0
            || (fixed.is_zero() && kv + self.policy.short() > self.blocks.steps().room(0))
    }
}
