//! What the ring keeps of sequences, and what it may forget: this book is the only one that decides, workers do as it says. Pure.
//!
//! A page of a KV cache depends on its tokens and all before them, and on nothing else that can change while a gateway runs. So pages are
//! the nodes of a tree whose edges are pages of tokens: a sequence that goes down it begins behind what it finds. In the tree tokens are
//! compared as they are. Beyond it, what devices have left of epochs before or on their disks is found by its name, which stands for all
//! tokens up to its end, and hung into the tree again as soon as devices have it at hand.

mod coming;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use lime_plan::{KV_PAGE_TOKENS, PageName};
use lime_ring::proto::{KeepPages, RestoredPage};

use super::stored::{Roots, Stored};

/// Tokens of a page.
const PAGE: usize = KV_PAGE_TOKENS as usize;

/// Whether what was computed for the beginning of a sequence is kept for others that begin so, and for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixCache {
    /// Nothing is kept.
    Off,
    /// What was computed for one API key serves that key alone: how soon an answer comes tells nobody what others asked.
    #[default]
    PerKey,
    /// It serves all keys.
    Shared,
}

/// Names an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub usize);

/// What happened to kept pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixCounts {
    /// Pages behind which sequences began, each as often as one did.
    pub reused: u64,
    /// Pages that were kept.
    pub kept: u64,
    /// Pages that came back from epochs before, or from disks.
    pub restored: u64,
    /// Pages that were to come back and that a device did not have.
    pub missed: u64,
    /// Pages that are kept no more: their room was needed, or the ring began anew.
    pub dropped: u64,
}

/// Where a sequence stands in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tip {
    #[default]
    Root,
    Page(u64),
}

/// A sequence's part in the tree.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Pages of it that the tree has seen, and the last of them there.
    seen: usize,
    tip: Tip,
    /// Pages in the tree that the sequence's slot has, too.
    held: Vec<u64>,
}

impl Place {
    /// Pages that count with the tree.
    pub(super) fn shared(&self) -> usize {
        self.held.len()
    }
}

#[derive(Debug)]
struct Node {
    tokens: Arc<[u32]>,
    parent: Tip,
    children: HashMap<Arc<[u32]>, u64>,
    owner: Option<KeyId>,
    /// Sequences that have it in their slots.
    users: u32,
    used: u64,
    name: Option<PageName>,
    /// Devices have been asked for it, and have not answered.
    coming: bool,
}

/// The book of kept pages.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    cache: PrefixCache,
    /// Pages that every device has room for without taking a step, in use or kept.
    room: u64,
    pages: HashMap<u64, Node>,
    roots: HashMap<Option<KeyId>, HashMap<Arc<[u32]>, u64>>,
    /// Pages that nobody has and nothing hangs on, the one that was used least recently first.
    idle: BTreeSet<(u64, u64)>,
    last: u64,
    clock: u64,
    /// What the next pass is to say.
    keep: Vec<KeepPages>,
    forget: Vec<u64>,
    restore: Vec<RestoredPage>,
    counts: PrefixCounts,
    /// How pages are named; where nothing is, they have no names.
    names: Option<Roots>,
    stored: Stored,
}

impl Prefixes {
    pub(super) fn new(cache: PrefixCache, room: u64) -> Self {
        Self { cache, room, ..Self::default() }
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        self.cache != PrefixCache::Off && self.room > 0
    }

    /// Whether two sequences may share pages.
    pub(super) fn may_share(&self, one: Option<KeyId>, other: Option<KeyId>) -> bool {
        self.owner(one) == self.owner(other)
    }

    fn owner(&self, key: Option<KeyId>) -> Option<KeyId> {
        key.filter(|_| self.cache == PrefixCache::PerKey)
    }

    /// How many pages of `tokens` are kept. At least one row is always left to be computed.
    pub(super) fn known(&self, key: Option<KeyId>, tokens: &[u32]) -> usize {
        self.path(key, tokens).count()
    }

    fn path<'a>(&'a self, key: Option<KeyId>, tokens: &'a [u32]) -> impl Iterator<Item = u64> + 'a {
        let mut children = self.roots.get(&self.owner(key)).filter(|_| self.is_on());
        let most = tokens.len().saturating_sub(1) / PAGE;
        tokens.chunks_exact(PAGE).take(most).map_while(move |page| {
            let id = *children?.get(page)?;
            let node = self.pages.get(&id).filter(|node| !node.coming)?;
            children = Some(&node.children);
            Some(id)
        })
    }

    fn children(&self, tip: Tip, owner: Option<KeyId>) -> Option<&HashMap<Arc<[u32]>, u64>> {
        match tip {
            Tip::Root => self.roots.get(&owner),
            Tip::Page(parent) => self.pages.get(&parent).map(|node| &node.children),
        }
    }

    /// A sequence begins: the pages that it begins behind.
    pub(super) fn begin(&mut self, key: Option<KeyId>, tokens: &[u32], place: &mut Place) -> Vec<u64> {
        self.leave(place);
        self.clock += 1;
        let path: Vec<u64> = self.path(key, tokens).collect();
        for id in &path {
            self.hold(*id);
        }
        self.counts.reused += path.len() as u64;
        *place =
            Place { seen: path.len(), tip: path.last().map_or(Tip::Root, |id| Tip::Page(*id)), held: path.clone() };
        path
    }

    /// The first `landed` positions of a sequence in `slot` are in every device's KV cache: full pages of them are kept from now on.
    pub(super) fn learn(&mut self, key: Option<KeyId>, tokens: &[u32], landed: usize, slot: u32, place: &mut Place) {
        if !self.is_on() {
            return;
        }
        let owner = self.owner(key);
        self.clock += 1;
        for number in place.seen..landed.min(tokens.len()) / PAGE {
            let Some(page) = tokens.get(number * PAGE..(number + 1) * PAGE) else { return };
            if let Tip::Page(parent) = place.tip
                && !self.pages.contains_key(&parent)
            {
                // It is forgotten: what comes behind it can be found by nobody.
                return;
            }
            let children = self.children(place.tip, owner);
            let id = match children.and_then(|children| children.get(page)).copied() {
                // Somebody else computed the same: this sequence's own page goes with its slot.
                Some(id) => id,
                None => self.add(owner, page, number as u32, slot, place),
            };
            (place.seen, place.tip) = (number + 1, Tip::Page(id));
        }
    }

    fn add(&mut self, owner: Option<KeyId>, page: &[u32], number: u32, slot: u32, place: &mut Place) -> u64 {
        let before = match place.tip {
            Tip::Root => self.names.as_ref().and_then(|names| names.of(owner.map(|KeyId(number)| number))),
            Tip::Page(parent) => self.pages.get(&parent).and_then(|node| node.name),
        };
        let name = before.map(|before| before.followed_by(page));
        let id = self.hang(owner, place.tip, page, name, false);
        place.held.push(id);
        self.counts.kept += 1;
        if let Some(name) = name {
            self.stored.add(name);
        }
        let follows = |keep: &&mut KeepPages| {
            let named = keep.names.is_empty() != name.is_some();
            keep.slot == slot && named && keep.first + keep.pages.len() as u32 == number
        };
        match self.keep.last_mut().filter(follows) {
            Some(keep) => {
                keep.pages.push(id);
                keep.names.extend(name.map(|name| name.as_bytes().to_vec()));
            }
            None => {
                let names = name.into_iter().map(|name| name.as_bytes().to_vec()).collect();
                self.keep.push(KeepPages { slot, first: number, pages: vec![id], names });
            }
        }
        id
    }

    /// Hangs a page into the tree, for a sequence that has it.
    fn hang(&mut self, owner: Option<KeyId>, parent: Tip, page: &[u32], name: Option<PageName>, coming: bool) -> u64 {
        self.last += 1;
        let (id, tokens) = (self.last, Arc::<[u32]>::from(page));
        let (children, used) = (HashMap::new(), self.clock);
        let node = Node { tokens: tokens.clone(), parent, children, owner, users: 0, used, name, coming };
        self.pages.insert(id, node);
        match parent {
            Tip::Root => {
                self.roots.entry(owner).or_default().insert(tokens, id);
            }
            Tip::Page(parent) => {
                if let Some(node) = self.pages.get_mut(&parent) {
                    node.children.insert(tokens, id);
                }
                self.set_idle(parent);
            }
        }
        self.hold(id);
        id
    }

    fn hold(&mut self, id: u64) {
        let clock = self.clock;
        self.change(id, |node| {
            node.users += 1;
            node.used = clock;
        });
    }

    /// Changes what decides whether a page may go.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.pages.get_mut(&id) else { return };
        self.idle.remove(&(node.used, id));
        change(node);
        self.set_idle(id);
    }

    fn set_idle(&mut self, id: u64) {
        let Some(node) = self.pages.get(&id) else { return };
        if node.users == 0 && node.children.is_empty() {
            self.idle.insert((node.used, id));
        } else {
            self.idle.remove(&(node.used, id));
        }
    }

    /// A sequence has its slot no more, or begins anew in it.
    pub(super) fn leave(&mut self, place: &mut Place) {
        for id in std::mem::take(place).held {
            self.change(id, |node| node.users = node.users.saturating_sub(1));
        }
    }

    /// Has pages forgotten until those that are left and `own` that sequences have for themselves are no more than there is room for. What
    /// sequences have stays: it would free nothing.
    pub(super) fn make_room(&mut self, own: u64) {
        while self.pages.len() as u64 + own > self.room
            && let Some((_, id)) = self.idle.first().copied()
        {
            self.remove(id);
            self.forget.push(id);
        }
    }

    /// Devices keep these no more, or never did.
    pub(super) fn forgotten<'a>(&mut self, ids: &[u64], places: impl Iterator<Item = &'a mut Place>) {
        let mut gone: BTreeSet<u64> = ids.iter().copied().filter(|id| self.pages.contains_key(id)).collect();
        if gone.is_empty() {
            return;
        }
        let mut behind: Vec<u64> = gone.iter().copied().collect();
        while let Some(id) = behind.pop() {
            let children = self.pages.get(&id).into_iter().flat_map(|node| node.children.values().copied());
            behind.extend(children.filter(|child| gone.insert(*child)));
        }
        // From the leaves up: numbers rise from parents to children.
        for id in gone.iter().rev() {
            if let Some(name) = self.pages.get(id).filter(|node| node.coming).and_then(|node| node.name) {
                self.stored.remove(&name);
            }
            self.remove(*id);
        }
        for place in places {
            place.held.retain(|id| !gone.contains(id));
        }
        // The other devices, and what hangs on them.
        self.forget.extend(gone);
    }

    fn remove(&mut self, id: u64) {
        let Some(node) = self.pages.remove(&id) else { return };
        self.idle.remove(&(node.used, id));
        self.restore.retain(|page| page.page != id);
        self.counts.dropped += 1;
        match node.parent {
            Tip::Root => {
                if let Some(roots) = self.roots.get_mut(&node.owner) {
                    roots.remove(&node.tokens);
                    if roots.is_empty() {
                        self.roots.remove(&node.owner);
                    }
                }
            }
            Tip::Page(parent) => {
                if let Some(node_before) = self.pages.get_mut(&parent) {
                    node_before.children.remove(&node.tokens);
                }
                self.set_idle(parent);
            }
        }
    }

    /// The ring begins anew and knows nothing; it has room for `room` pages. Whoever has a place in the tree has none any more.
    pub(super) fn clear(&mut self, room: u64) {
        self.counts.dropped += self.pages.len() as u64;
        let (cache, last, clock, counts, names) = (self.cache, self.last, self.clock, self.counts, self.names.take());
        *self = Self { cache, room, last, clock, counts, names, ..Self::default() };
    }

    /// What the next pass is to say: pages to be kept, and pages that may go.
    pub(super) fn take_orders(&mut self) -> (Vec<KeepPages>, Vec<u64>) {
        (std::mem::take(&mut self.keep), std::mem::take(&mut self.forget))
    }

    /// What a pass was to say that was not sent.
    pub(super) fn put_back(&mut self, keep: Vec<KeepPages>, forget: Vec<u64>) {
        self.keep.splice(0..0, keep);
        self.forget.splice(0..0, forget);
    }

    /// Pages that are kept.
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// What happened since this was asked last.
    pub(super) fn take_counts(&mut self) -> PrefixCounts {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests;
