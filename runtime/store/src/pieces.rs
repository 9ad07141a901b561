//! From where in the source's files to where in a block the bytes go.

use lime_model::{ModelError, ModelFolder};

use crate::part::Part;

/// The unit that is hashed on arrival and remembered in the journal: what a cut costs at most, for each connection.
const PIECE: u64 = 4 << 20;
/// The most that one request asks for.
const SPAN: u64 = 64 << 20;

/// Bytes that lie together in a file of the source and in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The file's name at the source.
    pub(crate) file: String,
    /// Offset in that file.
    pub(crate) from: u64,
    /// Offset in the block.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

/// Pieces whose bytes lie one after the other in one file: one read or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadSpan {
    pub(crate) pieces: Vec<Piece>,
}

impl ReadSpan {
    pub(crate) fn file(&self) -> &str {
        self.pieces.first().map_or("", |piece| &piece.file)
    }

    pub(crate) fn from(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.from)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    fn takes(&self, next: &Piece) -> bool {
        self.file() == next.file && self.from() + self.bytes() == next.from && self.bytes() + next.bytes <= SPAN
    }
}

/// The pieces of `part`, in the order in which they lie in it.
pub(crate) fn pieces(folder: &ModelFolder, part: Part) -> Result<Vec<Piece>, ModelError> {
    // What a compact block is made from is fetched as it is.
    let layout = match part {
        Part::Compact(block) => Part::Whole(block).layout(folder.config()),
        Part::Whole(_) | Part::HeadNorm => part.layout(folder.config()),
    };
    let mut pieces = Vec::new();
    for (entry, tensor) in layout.entries.iter().zip(folder.tensors(part.block())?) {
        debug_assert_eq!((entry.role, entry.bytes), (tensor.role, tensor.bytes), "a tensor fills its place");
        let file = tensor.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for run in tensor.runs() {
            let cuts = (0..run.bytes).step_by(PIECE as usize);
            pieces.extend(cuts.map(|cut| Piece {
                file: file.clone(),
                from: run.from + cut,
                at: entry.offset + run.at + cut,
                bytes: PIECE.min(run.bytes - cut),
            }));
        }
    }
    Ok(pieces)
}

/// Joins what lies together at the source, whatever its order in the block.
pub(crate) fn spans(mut pieces: Vec<Piece>) -> Vec<ReadSpan> {
    pieces.sort_by(|one, other| (&one.file, one.from).cmp(&(&other.file, other.from)));
    let mut spans: Vec<ReadSpan> = Vec::new();
    for piece in pieces {
        match spans.last_mut().filter(|span| span.takes(&piece)) {
            Some(span) => span.pieces.push(piece),
            None => spans.push(ReadSpan { pieces: vec![piece] }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(file: &str, from: u64, at: u64, bytes: u64) -> Piece {
        Piece { file: file.into(), from, at, bytes }
    }

    #[test]
    fn what_lies_together_at_the_source_is_one_span() {
        let found = spans(vec![
            piece("b", 100, 0, 50),
            piece("a", 300, 64, 20),
            piece("a", 100, 128, 200),
            piece("a", 400, 384, 10),
        ]);
        let ranges: Vec<_> = found.iter().map(|span| (span.file(), span.from(), span.bytes())).collect();
        assert_eq!(ranges, [("a", 100, 220), ("a", 400, 10), ("b", 100, 50)]);
    }

    #[test]
    fn a_span_ends_where_a_request_would_grow_too_long() {
        let pieces = (0..40).map(|index| piece("a", index * PIECE, index * PIECE, PIECE)).collect();
        let sizes: Vec<u64> = spans(pieces).iter().map(ReadSpan::bytes).collect();
        assert_eq!(sizes, [SPAN, SPAN, 8 * PIECE]);
    }
}
