//! Pages that come back into the tree: from memory that an epoch before left, and from disks.

use lime_plan::PageName;
use lime_ring::{Restorable, proto::RestoredPage};

use super::{KeyId, PAGE, Place, Prefixes, Tip};
use crate::schedule::stored::{Roots, Stored};

/// What is known of the beginning of a prompt, and what can be brought back behind it.
struct Beyond<P> {
    /// Pages at hand.
    known: Vec<u64>,
    /// Where they end.
    tip: Tip,
    /// Tokens and names of pages that can be brought back, in order.
    pages: P,
}

impl Prefixes {
    /// Gives pages names.
    pub(in crate::schedule) fn named(&mut self, names: Roots) {
        self.names = Some(names);
    }

    /// What the devices of a ring that is ready can restore.
    pub(in crate::schedule) fn found(&mut self, devices: &[Restorable]) {
        self.stored = Stored::of(devices);
    }

    /// Pages of `tokens` that can be brought back, behind those that are at hand.
    fn beyond<'t>(
        &self,
        key: Option<KeyId>,
        tokens: &'t [u32],
    ) -> Option<Beyond<impl Iterator<Item = (&'t [u32], PageName)>>> {
        let owner = self.owner(key);
        let root = self.names.as_ref().filter(|_| self.is_on())?.of(owner.map(|KeyId(number)| number))?;
        let known: Vec<u64> = self.path(key, tokens).collect();
        let (tip, mut name) = match known.last() {
            Some(id) => (Tip::Page(*id), self.pages.get(id)?.name?),
            None => (Tip::Root, root),
        };
        let most = tokens.len().saturating_sub(1) / PAGE;
        let mut pages = tokens.chunks_exact(PAGE).take(most).skip(known.len());
        // Somebody waits for the same: it is there soon.
        let asked = self
            .children(tip, owner)
            .is_some_and(|children| pages.clone().next().is_some_and(|page| children.contains_key(page)));
        let pages = std::iter::from_fn(move || {
            let page = pages.next()?;
            name = name.followed_by(page);
            self.stored.has(&name).then_some((page, name))
        });
        (!asked).then_some(Beyond { known, tip, pages })
    }

    /// Whether some can be brought back.
    pub(in crate::schedule) fn can_restore(&self, key: Option<KeyId>, tokens: &[u32]) -> bool {
        self.beyond(key, tokens).is_some_and(|mut beyond| beyond.pages.next().is_some())
    }

    /// Has them brought back for a sequence that is to begin, no more than leave room for `own` pages that sequences have for themselves.
    pub(in crate::schedule) fn restore(&mut self, key: Option<KeyId>, tokens: &[u32], own: u64, place: &mut Place) {
        let owner = self.owner(key);
        let Some(Beyond { known, mut tip, pages }) = self.beyond(key, tokens) else { return };
        let mut wanted: Vec<(&[u32], PageName)> = pages.collect();
        self.leave(place);
        self.clock += 1;
        known.iter().for_each(|id| self.hold(*id));
        place.held = known;
        self.make_room(own + wanted.len() as u64);
        let room = self.room.saturating_sub(own + self.pages.len() as u64);
        wanted.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        for (page, name) in &wanted {
            let id = self.hang(owner, tip, page, Some(*name), true);
            place.held.push(id);
            self.restore.push(RestoredPage { page: id, name: name.as_bytes().to_vec() });
            tip = Tip::Page(id);
        }
    }

    /// Whether devices have been asked for pages of a sequence, and have not answered.
    pub(in crate::schedule) fn awaits(&self, place: &Place) -> bool {
        place.held.iter().any(|id| self.pages.get(id).is_some_and(|node| node.coming))
    }

    /// Devices have answered for these pages: those that they do not have are forgotten already.
    pub(in crate::schedule) fn arrived(&mut self, ids: &[u64]) {
        for id in ids {
            match self.pages.get_mut(id) {
                Some(node) => {
                    node.coming = false;
                    self.counts.restored += 1;
                    if let Some(name) = &node.name {
                        self.stored.touch(name);
                    }
                }
                None => self.counts.missed += 1,
            }
        }
    }

    /// Up to `most` pages that devices are to be asked for.
    pub(in crate::schedule) fn take_restore(&mut self, most: usize) -> Vec<RestoredPage> {
        self.restore.drain(..most.min(self.restore.len())).collect()
    }
}
