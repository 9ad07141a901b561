//! How many passes of prompts are on their way at once: one rule for the gateway, which sends them, and the planner,
//! which counts.

use crate::{placement::Residency, plan_draft::PlanDraft};

/// Most chunks of a prompt that travel together where the plan chooses that.
pub const MOST_PROMPT_PASSES: u32 = 8;

/// How many chunks of prompts travel together where blocks are read from disk in several visits, whatever comes between
/// them: they meet each block in the same visit, so that it is read once for all of them. `None` where chunks follow
/// each other freely, as many as there are devices.
///
/// With one micro-batch the chunks of one prompt may travel so: those that draw nothing are followed by the next, and
/// workers keep for it what they have read. Whether that pays is the plan's choice, since all that streams in a visit
/// must be in the buffer at once.
pub const fn prompt_passes(streams: bool, segments: u32, micro_batches: u32) -> Option<u32> {
    // Passes that overtake each other's visits would read blocks twice.
    if streams && segments > 1 { Some(micro_batches) } else { None }
}

impl PlanDraft {
    /// Whether any block is read from disk in every pass.
    pub fn streams(&self) -> bool {
        let mut placed = self.devices.iter().flat_map(|device| &device.blocks);
        placed.any(|placed| placed.residency == Residency::Streamed)
    }

    /// See [`prompt_passes`].
    pub fn prompt_passes(&self) -> Option<u32> {
        let chosen = self.outlook.as_ref().map_or(1, |outlook| outlook.prompt_passes.clamp(1, MOST_PROMPT_PASSES));
        let groups = self.micro_batches();
        prompt_passes(self.streams(), self.segments, groups).map(|passes| if groups > 1 { passes } else { chosen })
    }

    /// Whether a pass that draws no token is followed by the next chunk of its prompt, which meets the same blocks in
    /// the same visits.
    pub fn chunks_travel_together(&self) -> bool {
        self.micro_batches() == 1 && self.prompt_passes().is_some_and(|passes| passes > 1)
    }
}
