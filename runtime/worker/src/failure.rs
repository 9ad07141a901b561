//! What may be done about a fault of a device, with what belongs to it: the wire's [`FailureKind`] as types.

use lime_plan::Block;
use lime_ring::proto::FailureKind;

/// What may be done about a pass or a load that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// A fault of the device of which nothing more is known: another try may do better.
    #[default]
    Unspecified,
    /// What a sequence asks for can be done on no try.
    Refused {
        /// Its KV slot, where one is to blame.
        slot: Option<u32>,
    },
    /// Weights are not what they should be: they are compared and mended, then tried again.
    Damaged {
        /// The block, where it is known here.
        block: Option<Block>,
    },
    /// Logits that are no numbers.
    NotFinite,
    /// Memory that is not there at the moment.
    NoRoom,
    /// The weights do not fit on the device's disk.
    DiskFull,
    /// The weights' source does not give them.
    Source,
    /// A page is not kept that a sequence was to begin behind.
    Forgotten,
}

impl Failure {
    /// As the wire carries it; which block is damaged stays with the device that mends it, and in the sentence.
    pub const fn kind(self) -> FailureKind {
        match self {
            Self::Unspecified => FailureKind::Unspecified,
            Self::Refused { .. } => FailureKind::Refused,
            Self::Damaged { .. } => FailureKind::Damaged,
            Self::NotFinite => FailureKind::NotFinite,
            Self::NoRoom => FailureKind::NoRoom,
            Self::DiskFull => FailureKind::DiskFull,
            Self::Source => FailureKind::Source,
            Self::Forgotten => FailureKind::Forgotten,
        }
    }

    /// The KV slot that is to blame, where one is.
    pub const fn refused_slot(self) -> Option<u32> {
        match self {
            Self::Refused { slot } => slot,
            _ => None,
        }
    }

    /// What another device told of.
    pub(crate) const fn told(kind: FailureKind, refused_slot: Option<u32>) -> Self {
        match kind {
            FailureKind::Unspecified => Self::Unspecified,
            FailureKind::Refused => Self::Refused { slot: refused_slot },
            FailureKind::Damaged => Self::Damaged { block: None },
            FailureKind::NotFinite => Self::NotFinite,
            FailureKind::NoRoom => Self::NoRoom,
            FailureKind::DiskFull => Self::DiskFull,
            FailureKind::Source => Self::Source,
            FailureKind::Forgotten => Self::Forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_wire_with_the_slot_that_is_to_blame() {
        for failure in [
            Failure::Unspecified,
            Failure::Refused { slot: None },
            Failure::Refused { slot: Some(3) },
            Failure::Damaged { block: None },
            Failure::NotFinite,
            Failure::NoRoom,
            Failure::DiskFull,
            Failure::Source,
            Failure::Forgotten,
        ] {
            assert_eq!(Failure::told(failure.kind(), failure.refused_slot()), failure);
        }
        assert_eq!(Failure::told(FailureKind::NoRoom, Some(3)), Failure::NoRoom, "only a refusal blames a sequence");
    }
}
