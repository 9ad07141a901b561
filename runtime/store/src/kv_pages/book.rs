//! Which pages there are, and which of them go first. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use lime_plan::{Bytes, PageName};

use super::MOST_KV_PAGES;

/// A page that goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Own(PageName),
    /// Of another cut.
    Other(PathBuf),
}

/// When a page was used. Of those of one time the last of their sequence goes first, for without it the others are of use.
type Place = (u64, Reverse<u64>);

/// Files whose times lie no further apart are of one sequence, as far as anybody can tell.
const TOGETHER: Duration = Duration::from_secs(1);

/// What is on the disk.
#[derive(Debug)]
pub(super) struct Book {
    limit: u64,
    file_bytes: u64,
    pages: HashMap<PageName, Place>,
    order: BTreeSet<(Place, PageName)>,
    /// Pages of other cuts, the one that goes first in front.
    others: VecDeque<(PathBuf, u64)>,
    bytes: u64,
    clock: u64,
}

impl Book {
    /// Of pages that are there from before, each with when it was used: own ones, and those of other cuts with their bytes.
    pub(super) fn new(
        limit: Bytes,
        file_bytes: u64,
        mut own: Vec<(SystemTime, PageName)>,
        mut others: Vec<(SystemTime, PathBuf, u64)>,
    ) -> Self {
        own.sort_unstable();
        others.sort_unstable();
        let bytes = others.iter().map(|(_, _, bytes)| bytes).sum();
        let others = others.into_iter().map(|(_, path, bytes)| (path, bytes)).collect();
        let (pages, order) = (HashMap::with_capacity(own.len()), BTreeSet::new());
        let mut this = Self { limit: limit.0, file_bytes, pages, order, others, bytes, clock: 0 };
        let mut before = None::<SystemTime>;
        for (number, (used, name)) in own.into_iter().enumerate() {
            let apart = before.and_then(|before| used.duration_since(before).ok());
            if apart.is_none_or(|apart| apart > TOGETHER) {
                this.clock += 1;
            }
            this.insert(name, (this.clock, Reverse(number as u64)));
            before = Some(used);
        }
        this
    }

    fn insert(&mut self, name: PageName, place: Place) {
        match self.pages.insert(name, place) {
            Some(before) => {
                self.order.remove(&(before, name));
            }
            None => self.bytes += self.file_bytes,
        }
        self.order.insert((place, name));
    }

    pub(super) fn has(&self, name: &PageName) -> bool {
        self.pages.contains_key(name)
    }

    /// The one that goes last first.
    pub(super) fn names(&self) -> Vec<PageName> {
        self.order.iter().rev().map(|(_, name)| *name).collect()
    }

    pub(super) fn room(&self) -> usize {
        let pages = self.limit.checked_div(self.file_bytes).unwrap_or(0);
        usize::try_from(pages).unwrap_or(usize::MAX).min(MOST_KV_PAGES)
    }

    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    pub(super) const fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }

    /// A page is there from now on, the next one of its sequence after `behind`.
    pub(super) fn add(&mut self, name: PageName, behind: Option<PageName>) {
        let place = match behind.and_then(|behind| self.pages.get(&behind)) {
            Some((clock, Reverse(number))) => (*clock, Reverse(number + 1)),
            None => {
                self.clock += 1;
                (self.clock, Reverse(0))
            }
        };
        self.insert(name, place);
    }

    /// These, of one sequence in its order, are of use again.
    pub(super) fn used(&mut self, names: &[PageName]) {
        self.clock += 1;
        for (number, name) in names.iter().enumerate() {
            if self.has(name) {
                self.insert(*name, (self.clock, Reverse(number as u64)));
            }
        }
    }

    pub(super) fn remove(&mut self, name: &PageName) {
        if let Some(place) = self.pages.remove(name) {
            self.order.remove(&(place, *name));
            self.bytes -= self.file_bytes;
        }
    }

    /// The page that goes first where `more` are to come; it is none of the book's any more.
    pub(super) fn next_to_go(&mut self, more: u64) -> Option<Gone> {
        let wanted = self.bytes.saturating_add(more.saturating_mul(self.file_bytes));
        let count = self.pages.len() as u64 + more;
        if wanted <= self.limit && count <= self.room() as u64 {
            return None;
        }
        if wanted > self.limit
            && let Some((path, bytes)) = self.others.pop_front()
        {
            self.bytes -= bytes;
            return Some(Gone::Other(path));
        }
        let (_, name) = self.order.first().copied()?;
        self.remove(&name);
        Some(Gone::Own(name))
    }

    /// Everything goes.
    pub(super) fn take_all(&mut self) -> Vec<Gone> {
        let own = std::mem::take(&mut self.pages).into_keys().map(Gone::Own);
        let gone = own.chain(self.others.drain(..).map(|(path, _)| Gone::Other(path))).collect();
        self.order.clear();
        self.bytes = 0;
        gone
    }
}
