//! Which tensor of a model is stored how.

use std::collections::BTreeMap;

use lime_plan::{Block, Format};

use crate::tensor_role::TensorRole;

/// The format of every tensor of a model: most are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formats {
    usual: Format,
    /// In all layers alike.
    by_role: BTreeMap<TensorRole, Format>,
    by_tensor: BTreeMap<(Block, TensorRole), Format>,
}

impl Formats {
    /// All tensors in one format.
    pub const fn all(usual: Format) -> Self {
        Self { usual, by_role: BTreeMap::new(), by_tensor: BTreeMap::new() }
    }

    /// The format of most matrices.
    pub const fn usual(&self) -> Format {
        self.usual
    }

    /// The format of one tensor.
    pub fn of(&self, block: Block, role: TensorRole) -> Format {
        let alone = self.by_tensor.get(&(block, role)).or_else(|| self.by_role.get(&role));
        alone.copied().unwrap_or(self.usual)
    }

    /// Tensors of that role are stored so, in all layers.
    pub(crate) fn set_role(&mut self, role: TensorRole, format: Format) {
        self.by_role.insert(role, format);
    }

    /// One tensor is stored so.
    pub(crate) fn set(&mut self, block: Block, role: TensorRole, format: Format) {
        if self.of(block, role) != format {
            self.by_tensor.insert((block, role), format);
        }
    }
}
