//! Prose before a mark, of which the end may not be there yet.

use super::{AnswerPart, say, scan::overlap};

/// Tells the prose that `held` begins with and takes it off; gives whether `mark` is found, with which `held` begins then. Space before a
/// mark is no prose, and goes to `space`; what may be the beginning of a mark, and space at the end, is held on to.
pub(super) fn before(mark: &str, held: &mut String, space: &mut String, parts: &mut Vec<AnswerPart>) -> bool {
    let found = held.find(mark);
    let prose = found.unwrap_or(held.len() - overlap(held, mark));
    let certain = held[..prose].trim_end().len();
    say(&held[..certain], parts);
    *space = found.map(|place| held[certain..place].to_owned()).unwrap_or_default();
    held.drain(..found.unwrap_or(certain));
    found.is_some()
}
