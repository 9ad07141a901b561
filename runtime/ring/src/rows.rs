//! Rows of a pass, and the type of their activations, as messages carry them and as the contract has them.

use lime_plan::{BatchRows, Dtype, KeptRows};

use crate::proto;

impl proto::Rows {
    /// Whether the head has anything to do for them.
    pub const fn asks_head(&self) -> bool {
        self.sample.is_some() || self.scoring.is_some() || self.pooled > 0
    }

    /// The positions, without what is drawn from them.
    pub const fn batch_rows(&self) -> BatchRows {
        BatchRows { slot: self.slot, start: self.start, count: self.count }
    }
}

impl From<KeptRows> for proto::KeptRows {
    fn from(KeptRows { slot, pages, count }: KeptRows) -> Self {
        Self { slot, pages, count }
    }
}

impl From<proto::KeptRows> for KeptRows {
    fn from(proto::KeptRows { slot, pages, count }: proto::KeptRows) -> Self {
        Self { slot, pages, count }
    }
}

impl From<Dtype> for proto::ActivationType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
        }
    }
}
