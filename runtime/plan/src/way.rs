//! Which way a device makes room: blocks that stream, or pages elsewhere. A pure function of its ladder and of what the link costs.

use crate::{Bytes, Ladder, Nanos};

/// How a device makes room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Blocks of the ladder that stream.
    pub level: usize,
    /// Whether KV pages are handed over.
    pub elsewhere: bool,
}

impl Ladder {
    /// The way for a KV cache of `needed` in all, on a device that goes `now`. `costs` is by how much pages elsewhere make a pass
    /// longer, as the link is at the moment. Of the two ways that fit, the one with the shorter pass; while pages are elsewhere, they
    /// stay as long as they are not dearer than the other way by a quarter, so that a link that wavers does not move them to and fro.
    pub fn way(&self, needed: Bytes, now: Way, costs: Nanos) -> Way {
        let most = self.rungs().len();
        let here = self.least(needed);
        let helped = self.hand_over().map(|over| self.least(needed.saturating_sub(over.frees)).unwrap_or(most));
        match (here, helped) {
            (here, None) => Way { level: here.unwrap_or(most), elsewhere: false },
            (None, Some(level)) => Way { level, elsewhere: true },
            (Some(here), Some(helped)) => {
                let worth = self.time(here).0.saturating_sub(self.time(helped).0);
                let most_worth = if now.elsewhere { worth.saturating_add(worth / 4) } else { worth };
                let elsewhere = helped < here && costs.0 < most_worth;
                Way { level: if elsewhere { helped } else { here }, elsewhere }
            }
        }
    }
}
