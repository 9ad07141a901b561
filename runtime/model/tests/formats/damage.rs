//! Damage at random places, for every test of files that are read.

use proptest::prelude::*;

/// `original` with these bytes put into it, and cut off where it is not kept whole.
pub(crate) fn damaged(
    original: &[u8],
    edits: &[(prop::sample::Index, u8)],
    cut: &prop::sample::Index,
    keep: bool,
) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (place, value) in edits {
        let place = place.index(bytes.len());
        bytes[place] = *value;
    }
    if !keep {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// Where, and what.
pub(crate) type Edits = Vec<(prop::sample::Index, u8)>;

/// Up to five of them.
pub(crate) fn edits() -> impl Strategy<Value = Edits> {
    proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6)
}
