//! A rule that a spec breaks.

/// A rule that a spec breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as a path from the object's root.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}
