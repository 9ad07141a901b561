//! When a step is taken and when it is undone: a decision without I/O.

use lime_planner::{Bytes, Ladder};

/// Bytes of a device's budget that it should not use, because others need them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// What a hard limit takes away: the KV cache must not grow beyond what is left.
    pub hard: Bytes,
    /// What would be polite to leave: blocks make room, and no pass is refused for it.
    pub soft: Bytes,
}

/// What to do before a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Stay,
    /// Take steps until so many are in force.
    Climb(usize),
    /// Undo the last step.
    Descend,
}

/// Passes for which room must have been there before a step is undone: short answers in a row do not make a block come and go.
const CALM: u32 = 4;

/// Decides for one device.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) shortage: Shortage,
    calm: u32,
}

impl Room {
    /// What a device at level `now` does before a pass with which its KV cache takes `kv`; `page` is one page of it.
    pub(crate) fn decide(&mut self, ladder: &Ladder, now: usize, kv: Bytes, page: Bytes) -> Verdict {
        let needed = kv + self.shortage.hard.max(self.shortage.soft);
        // Two pages: a sequence that has just begun does not take back what the step gave.
        let wanted = ladder.level(needed, now, page + page);
        if wanted >= now {
            self.calm = 0;
            return if wanted > now { Verdict::Climb(wanted) } else { Verdict::Stay };
        }
        self.calm += 1;
        if self.calm < CALM {
            return Verdict::Stay;
        }
        Verdict::Descend
    }

    /// A step was undone: the next one waits for calm again.
    pub(crate) const fn undone(&mut self) {
        self.calm = 0;
    }

    /// Whether a KV cache of `kv` fits with every step taken.
    pub(crate) fn fits(&self, ladder: &Ladder, kv: Bytes) -> bool {
        kv + self.shortage.hard <= ladder.most()
    }
}
