//! What of a half-made block is there already: a line for each piece, appended when its bytes have been written.
//!
//! A line promises nothing: after a power cut the journal may be on the disk and the piece not. Each line carries the piece's
//! hash, and the block is read back and compared before it gets its name; a piece that differs is fetched again.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use crate::{digest::Digest, error::StoreError, pieces::Piece};

/// Longer than the journal of any block that this build reads.
const LIMIT: u64 = 64 << 20;

/// The journal of one half-made block.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    title: String,
    there: BTreeMap<u64, (u64, Digest)>,
}

impl Journal {
    /// Opens the journal, or begins it where there is none or it is of another block, as its first line, `title`, shows.
    pub(crate) fn open(path: PathBuf, title: String) -> Result<Self, StoreError> {
        let fault = |source| StoreError::io("open", &path)(source);
        let options = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = options.map_err(fault)?;
        let mut text = Vec::new();
        (&mut file).take(LIMIT).read_to_end(&mut text).map_err(fault)?;
        let (there, valid) = parse(&text, &title);
        // A torn last line goes, so that the next one begins at the start of a line.
        file.set_len(valid as u64).map_err(fault)?;
        let mut journal = Self { path, file, title, there };
        if valid == 0 {
            journal.append(&format!("{}\n", journal.title))?;
        }
        Ok(journal)
    }

    /// The hash of `piece`, where the journal says that it is there.
    pub(crate) fn of(&self, piece: &Piece) -> Option<Digest> {
        self.there.get(&piece.at).filter(|(bytes, _)| *bytes == piece.bytes).map(|(_, digest)| *digest)
    }

    /// Notes that `piece` has been written.
    pub(crate) fn note(&mut self, piece: &Piece, digest: Digest) -> Result<(), StoreError> {
        self.there.insert(piece.at, (piece.bytes, digest));
        self.append(&line(piece.at, piece.bytes, digest))
    }

    /// Strikes pieces out that turned out not to be there.
    pub(crate) fn strike(&mut self, wrong: &[u64]) -> Result<(), StoreError> {
        self.there.retain(|at, _| !wrong.contains(at));
        let lines = self.there.iter().map(|(at, (bytes, digest))| line(*at, *bytes, *digest));
        let text = std::iter::once(format!("{}\n", self.title)).chain(lines).collect::<String>();
        self.file.set_len(0).map_err(StoreError::io("write", &self.path))?;
        self.append(&text)
    }

    fn append(&mut self, text: &str) -> Result<(), StoreError> {
        self.file.write_all(text.as_bytes()).map_err(StoreError::io("write", &self.path))
    }
}

/// Bytes of the pieces that the journal at `path` says are there; for a first look, without a lock.
pub(crate) fn noted_bytes(path: &Path, title: &str) -> u64 {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut text));
    if read.is_err() { 0 } else { parse(&text, title).0.values().map(|(bytes, _)| bytes).sum() }
}

fn line(at: u64, bytes: u64, digest: Digest) -> String {
    format!("{at} {bytes} {digest}\n")
}

/// The pieces noted, and the length of what could be read; nothing where the first line is another.
fn parse(text: &[u8], title: &str) -> (BTreeMap<u64, (u64, Digest)>, usize) {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut there = BTreeMap::new();
    let Some(mut valid) = lines.next().filter(|line| *line == format!("{title}\n").as_bytes()).map(<[u8]>::len) else {
        return (there, 0);
    };
    for text in lines {
        let Some((at, piece)) = parse_line(text) else { break };
        there.insert(at, piece);
        valid += text.len();
    }
    (there, valid)
}

fn parse_line(text: &[u8]) -> Option<(u64, (u64, Digest))> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let mut words = text.split(' ');
    let (at, bytes, digest) = (words.next()?, words.next()?, words.next()?);
    Some((at.parse().ok()?, (bytes.parse().ok()?, digest.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn piece(at: u64) -> Piece {
        Piece { file: "model.safetensors".into(), from: at + 1000, at, bytes: 64 }
    }

    #[test]
    fn what_was_noted_is_known_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let digest = Digest::of_chunk(b"piece");
        let mut journal = Journal::open(path.clone(), "title".into()).unwrap();
        journal.note(&piece(0), digest).unwrap();
        journal.note(&piece(64), digest).unwrap();
        drop(journal);
        let text = fs::read(&path).unwrap();
        for cut in 0..=text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let mut journal = Journal::open(path.clone(), "title".into()).unwrap();
            assert!(journal.of(&piece(64)).is_none() || cut == text.len(), "cut at {cut}");
            journal.note(&piece(128), digest).unwrap();
            let again = Journal::open(path.clone(), "title".into()).unwrap();
            assert_eq!(again.of(&piece(128)), Some(digest), "cut at {cut}");
            assert_eq!(again.of(&piece(0)), journal.of(&piece(0)), "cut at {cut}");
        }
    }

    #[test]
    fn a_journal_of_another_block_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::open(path.clone(), "one".into()).unwrap().note(&piece(0), Digest::of_chunk(b"")).unwrap();
        assert_eq!(noted_bytes(&path, "one"), 64);
        assert_eq!(noted_bytes(&path, "other"), 0);
        assert!(Journal::open(path, "other".into()).unwrap().of(&piece(0)).is_none());
    }

    #[test]
    fn pieces_struck_out_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(path.clone(), "one".into()).unwrap();
        (0..4).for_each(|index| journal.note(&piece(index * 64), Digest::of_chunk(b"")).unwrap());
        journal.strike(&[0, 128]).unwrap();
        assert_eq!(noted_bytes(&path, "one"), 128);
    }
}
