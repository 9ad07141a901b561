//! How a device makes room at the moment: blocks that stream, or remote pages. Chosen by a pure function of its steps and of what the link costs.

use crate::{device_steps::DeviceSteps, outlook::Nanos, units::Bytes};

/// How a device makes room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepsInForce {
    /// How many of the blocks that steps name stream.
    pub level: usize,
    /// Whether KV pages are handed over.
    pub remote: bool,
}

impl DeviceSteps {
    /// The steps for a KV cache of `needed` in all, on a device that goes `now`. `costs` is by how much remote pages make a pass
    /// longer, as the link is at the moment. Of the two ways that fit, the one with the shorter pass; while pages are remote, they
    /// stay as long as they are not dearer than the other way by a quarter, so that a link that wavers does not move them to and fro.
    pub fn choose(&self, needed: Bytes, now: StepsInForce, costs: Nanos) -> StepsInForce {
        let most = self.stream_steps().len();
        let here = self.least(needed);
        let helped = self.hand_over().map(|over| self.least(needed.saturating_sub(over.frees)).unwrap_or(most));
        match (here, helped) {
            (here, None) => StepsInForce { level: here.unwrap_or(most), remote: false },
            (None, Some(level)) => StepsInForce { level, remote: true },
            (Some(here), Some(helped)) => {
                let worth = self.time(here).0.saturating_sub(self.time(helped).0);
                let most_worth = if now.remote { worth.saturating_add(worth / 4) } else { worth };
                let remote = helped < here && costs.0 < most_worth;
                StepsInForce { level: if remote { helped } else { here }, remote }
            }
        }
    }
}
