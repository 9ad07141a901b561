//! The way of an activation round the ring: a pure function of the plan.

use crate::{
    plan_draft::PlanDraft,
    units::{DeviceIndex, SegmentIndex},
};

/// What a device does with an activation that it has just received (or embedded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Run this device's blocks of the segment.
    Blocks(SegmentIndex),
    /// All layers are done: apply the head.
    Head,
    /// All layers are done, but the head is elsewhere: pass it on.
    Forward,
}

/// Where an activation goes when a device has run its blocks of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To the successor on the ring, which finds it in this segment (the number of segments means: awaiting the head).
    Successor(SegmentIndex),
    /// Nowhere: this device applies the head at once.
    HeadHere,
}

impl PlanDraft {
    /// What `device` does with an activation that arrives marked `segment`.
    pub fn stage(&self, device: DeviceIndex, segment: SegmentIndex) -> Stage {
        if segment.0 < self.segments {
            Stage::Blocks(segment)
        } else if device == self.head {
            Stage::Head
        } else {
            Stage::Forward
        }
    }

    /// Where an activation goes after `device` has handled it as `segment`.
    pub fn hop(&self, device: DeviceIndex, segment: SegmentIndex) -> Hop {
        let last = device.0 as usize + 1 == self.devices.len();
        let finished = segment.0 >= self.segments || (last && segment.0 + 1 == self.segments);
        if finished && device == self.head {
            return Hop::HeadHere;
        }
        let step = u32::from(last && segment.0 < self.segments);
        Hop::Successor(SegmentIndex(segment.0 + step))
    }

    /// The device after `device` on the ring.
    pub fn successor(&self, device: DeviceIndex) -> DeviceIndex {
        DeviceIndex((device.0 + 1) % self.devices.len().max(1) as u32)
    }
}
