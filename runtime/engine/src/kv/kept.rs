//! Pages that stay when their sequence ends, under numbers that whoever drives the ring gives them: a sequence that begins with the
//! same tokens begins behind them. They are full and never written again, and a slot has them as it has its own.
//!
//! A page that has a name stays also when the numbers end with their epoch: it is found again by its name.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use lime_kernels::KV_PAGE_TOKENS;
use lime_plan::{BatchRows, PageName};

use super::{KvTables, REMOTE, pages_for};
use crate::engine_error::EngineError;

/// What is kept, and in which order it goes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pages: HashMap<Entry, KeptPage>,
    by_id: HashMap<u64, Entry>,
    by_name: HashMap<PageName, Entry>,
    /// Names by pages of the pool.
    names: HashMap<u32, PageName>,
    /// The one that was used least recently first; of one sequence the last page, for without it the others are of use.
    order: BTreeSet<(u64, Reverse<Entry>)>,
    clock: u64,
    last: u64,
}

/// Pages in the order in which they were kept, those of a sequence in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Entry(u64);

#[derive(Clone, Copy, Debug)]
struct KeptPage {
    page: u32,
    used: u64,
    /// Its number; none where the epoch that gave it one is over.
    id: Option<u64>,
    name: Option<PageName>,
}

impl Kept {
    fn insert(&mut self, id: u64, name: Option<PageName>, page: u32) {
        self.last += 1;
        let (entry, used) = (Entry(self.last), self.clock);
        self.pages.insert(entry, KeptPage { page, used, id: Some(id), name });
        self.order.insert((used, Reverse(entry)));
        self.by_id.insert(id, entry);
        if let Some(name) = name {
            self.by_name.insert(name, entry);
            self.names.insert(page, name);
        }
    }

    fn remove(&mut self, entry: Entry) -> Option<KeptPage> {
        let kept = self.pages.remove(&entry)?;
        self.order.remove(&(kept.used, Reverse(entry)));
        if let Some(id) = kept.id {
            self.by_id.remove(&id);
        }
        if let Some(name) = kept.name {
            self.by_name.remove(&name);
            self.names.remove(&kept.page);
        }
        Some(kept)
    }

    fn has(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    fn page(&self, id: u64) -> Option<&KeptPage> {
        self.pages.get(self.by_id.get(&id)?)
    }

    fn touch(&mut self, id: u64) {
        let Some(entry) = self.by_id.get(&id).copied() else { return };
        if let Some(kept) = self.pages.get_mut(&entry) {
            self.order.remove(&(kept.used, Reverse(entry)));
            kept.used = self.clock;
            self.order.insert((kept.used, Reverse(entry)));
        }
    }
}

/// A page that is kept no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LetGo {
    /// Its number, where it had one.
    pub(crate) id: Option<u64>,
    /// The bytes of the pool that nobody uses any more.
    pub(crate) idle: Option<Range<usize>>,
}

impl KvTables {
    /// Keeps pages of `slot` from number `first` on under `ids`, and under `names` where there are any. Gives those ids for which there is no
    /// full page here that can be; `idle` as in [`KvTables::release`].
    pub(crate) fn keep(
        &mut self,
        slot: u32,
        first: u32,
        ids: &[u64],
        names: &[PageName],
        mut idle: impl FnMut(Range<usize>),
    ) -> Vec<u64> {
        self.kept.clock += 1;
        // Where no layer is, nothing is held, and nothing is missed.
        if self.visited.is_empty() {
            return Vec::new();
        }
        let mut refused = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            let (number, name) = (first as usize + place, names.get(place).copied());
            let held = self.slots.get(slot as usize);
            let full = held.filter(|held| number < self.full(held) as usize);
            let page = full.and_then(|held| held.pages.get(number).copied()).filter(|page| *page != REMOTE);
            // One of that name may be left of an epoch before. Where it has a number, too, this one goes by its number alone.
            let before = name.and_then(|name| self.kept.by_name.get(&name)).copied();
            let taken = before.is_some_and(|entry| self.kept.pages[&entry].id.is_some());
            match page.filter(|_| !self.kept.has(*id)) {
                Some(page) => {
                    self.users[page as usize] += 1;
                    if let Some(before) = before.filter(|_| !taken) {
                        self.drop_kept(before).idle.into_iter().for_each(&mut idle);
                    }
                    self.kept.insert(*id, name.filter(|_| !taken), page);
                }
                None => refused.push(*id),
            }
        }
        refused
    }

    /// Begins the sequence of `slot` anew behind the pages kept under `ids`; `idle` as in [`KvTables::release`].
    ///
    /// # Errors
    /// Where one of them is not kept here: the slot is empty then.
    pub(crate) fn begin_behind(
        &mut self,
        slot: u32,
        ids: &[u64],
        idle: impl FnMut(Range<usize>),
    ) -> Result<(), EngineError> {
        if slot >= self.slots() {
            return Err(EngineError::Slot { slot, slots: self.slots.len() });
        }
        let positions = ids.len() as u64 * KV_PAGE_TOKENS as u64;
        if positions >= u64::from(self.most_positions) {
            return Err(EngineError::ContextFull { slot, length: positions, most: self.most_positions });
        }
        if self.visited.is_empty() {
            self.slots[slot as usize].lengths.fill(positions as u32);
            return Ok(());
        }
        self.kept.clock += 1;
        let found: Result<Vec<u32>, u64> =
            ids.iter().map(|id| self.kept.page(*id).map(|kept| kept.page).ok_or(*id)).collect();
        // Taken before what the slot had is let go: it may be the same.
        for page in found.iter().flatten() {
            self.users[*page as usize] += 1;
        }
        ids.iter().for_each(|id| self.kept.touch(*id));
        self.release(slot, idle);
        let pages = found.map_err(|page| EngineError::NotKept { slot, page })?;
        let held = &mut self.slots[slot as usize];
        held.pages.extend(pages);
        held.lengths.fill(positions as u32);
        Ok(())
    }

    /// Keeps a page no more; the bytes of the pool that nobody uses any more. One that is not kept is none.
    pub(crate) fn forget(&mut self, id: u64) -> Option<Range<usize>> {
        let entry = self.kept.by_id.get(&id).copied()?;
        self.drop_kept(entry).idle
    }

    /// Keeps the page no more that goes before all others, if there is one.
    pub(crate) fn forget_first(&mut self) -> Option<LetGo> {
        let (_, Reverse(entry)) = self.kept.order.first().copied()?;
        Some(self.drop_kept(entry))
    }

    /// Keeps no page any more; `idle` as in [`KvTables::release`].
    pub(crate) fn forget_all(&mut self, mut idle: impl FnMut(Range<usize>)) {
        while let Some(gone) = self.forget_first() {
            gone.idle.into_iter().for_each(&mut idle);
        }
    }

    fn drop_kept(&mut self, entry: Entry) -> LetGo {
        let Some(KeptPage { page, id, .. }) = self.kept.remove(entry) else { return LetGo::default() };
        LetGo { id, idle: self.let_go(page) }
    }

    /// Whether the pool has the pages that `parts` need beside what is in use, kept or not.
    pub(crate) fn has_free(&self, parts: &[BatchRows]) -> bool {
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for part in parts {
            let end = ends.entry(part.slot).or_default();
            *end = part.end().max(*end);
        }
        let held = |slot: u32| self.slots.get(slot as usize).map_or(0, |held| held.pages.len());
        let missing = ends.into_iter().map(|(slot, end)| pages_for(end).saturating_sub(held(slot)));
        // Remote pages come back into the pool.
        missing.sum::<usize>() + self.all_remote() as usize <= self.free.len()
    }
}

/// Pages by their names.
impl KvTables {
    /// Gives the page of that name, left of an epoch before, a number. False where there is none without one.
    pub(crate) fn claim(&mut self, id: u64, name: &PageName) -> bool {
        let Some(entry) = self.kept.by_name.get(name).copied() else { return false };
        let free = self.kept.pages.get(&entry).is_some_and(|kept| kept.id.is_none()) && !self.kept.has(id);
        if free && let Some(kept) = self.kept.remove(entry) {
            self.kept.insert(id, kept.name, kept.page);
        }
        free
    }

    /// Whether layers are here.
    pub(crate) fn holds_layers(&self) -> bool {
        !self.visited.is_empty()
    }

    /// Whether the pool has a page that nobody has, beside room for remote ones.
    pub(crate) fn has_room_for_one(&self) -> bool {
        (self.all_remote() as usize) < self.free.len()
    }

    /// A page of the pool that nobody has, to be filled. `None` where there is none, or one that is kept has this number or this name.
    pub(crate) fn take_to_fill(&mut self, id: u64, name: &PageName) -> Option<u32> {
        let known = self.kept.has(id) || self.kept.by_name.contains_key(name);
        if known { None } else { self.take_free() }
    }

    /// The page of [`KvTables::take_to_fill`] is kept from now on.
    pub(crate) fn filled(&mut self, page: u32, id: u64, name: PageName) {
        self.kept.insert(id, Some(name), page);
    }

    /// It could not be filled: the bytes of the pool that nobody uses any more.
    pub(crate) fn not_filled(&mut self, page: u32) -> Option<Range<usize>> {
        self.let_go(page)
    }

    /// A new moment: pages that are filled from now on were used after all others.
    pub(crate) fn begin_restoring(&mut self) {
        self.kept.clock += 1;
    }

    /// The names of the pages of `slot`, in its order, up to the first without one.
    pub(crate) fn names_of(&self, slot: u32) -> Vec<PageName> {
        let Some(held) = self.slots.get(slot as usize) else { return Vec::new() };
        held.pages.iter().map_while(|page| self.kept.names.get(page).copied()).collect()
    }

    /// Where the page of that name is.
    pub(crate) fn page_named(&self, name: &PageName) -> Option<u32> {
        Some(self.kept.pages.get(self.kept.by_name.get(name)?)?.page)
    }

    /// Whether the page that goes before all others has no number.
    pub(crate) fn first_is_unnumbered(&self) -> bool {
        let first = self.kept.order.first().and_then(|(_, Reverse(entry))| self.kept.pages.get(entry));
        first.is_some_and(|kept| kept.id.is_none())
    }

    /// Every name, the one that goes last first.
    pub(crate) fn names(&self) -> Vec<PageName> {
        let name = |(_, Reverse(entry)): &(u64, Reverse<Entry>)| self.kept.pages.get(entry)?.name;
        self.kept.order.iter().rev().filter_map(name).collect()
    }

    /// The numbers end with their epoch: pages that have a name stay. `idle` as in [`KvTables::release`].
    pub(super) fn end_numbers(&mut self, mut idle: impl FnMut(Range<usize>)) {
        for entry in std::mem::take(&mut self.kept.by_id).into_values() {
            match self.kept.pages.get_mut(&entry) {
                Some(kept) if kept.name.is_some() => kept.id = None,
                _ => self.drop_kept(entry).idle.into_iter().for_each(&mut idle),
            }
        }
    }
}

#[cfg(test)]
mod tests;
