//! Making one block: fetch its pieces, read all of it back from the disk, compare, and only then give it its name.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use lime_plan::Bytes;

use crate::{
    digest::{BlockHasher, Digest, PieceHasher},
    disk::{self, DiskReader, Filling},
    error::StoreError,
    header,
    journal::Journal,
    model::StoredModel,
    names::Names,
    origin::Origin,
    part::Part,
    pieces::{Piece, ReadSpan, pieces, spans},
    progress::Meter,
    state::header_bytes,
};

/// How often a block is read back wrong before the disk is blamed.
pub(crate) const TRIES: u32 = 3;

/// What all blocks of one pull have in common.
pub(crate) struct Maker<'a> {
    pub(crate) model: &'a StoredModel,
    pub(crate) origin: &'a dyn Origin,
    pub(crate) meter: &'a Meter<'a>,
    /// Set when another block has failed: there is no use in going on.
    pub(crate) stop: &'a AtomicBool,
    /// Parts that are made although they look whole.
    pub(crate) anew: &'a BTreeSet<Part>,
}

/// How an attempt at a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was made.
    Now,
    /// Another process made it.
    Elsewhere,
    /// Another process is at it.
    Busy,
    /// The pull was stopped.
    Stopped,
}

impl Maker<'_> {
    /// Makes `part` unless it is whole and nothing speaks against it. Where another process is at it, waits for that one if `wait`.
    pub(crate) fn make(&self, part: Part, wait: bool) -> Result<Made, StoreError> {
        let names = self.model.names(part);
        let Some(_lock) = lock(&names.lock, wait)? else { return Ok(Made::Busy) };
        if !self.anew.contains(&part) && self.model.is_whole(part) {
            return Ok(Made::Elsewhere);
        }
        match part {
            Part::Compact(block) => self.compact(block, &names),
            Part::Whole(_) | Part::HeadNorm => self.fetch_all(part, &names),
        }
    }

    /// Makes a raw part from its source.
    fn fetch_all(&self, part: Part, names: &Names) -> Result<Made, StoreError> {
        let layout = part.layout(self.model.folder().config());
        let start = header_bytes(self.model.key(), part, &layout);
        let all = pieces(self.model.folder(), part)?;
        let mut file = Filling::open(&names.part, start + layout.bytes)?;
        let mut journal = Journal::open(names.journal.clone(), self.model.journal_title(part))?;
        for _ in 0..TRIES {
            let missing = all.iter().filter(|piece| journal.of(piece).is_none()).cloned().collect();
            for span in spans(missing) {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(Made::Stopped);
                }
                self.fetch(part, &span, start, &mut file, &mut journal)?;
            }
            file.flush()?;
            clear_gaps(&names.part, start, layout.bytes, &all)?;
            let written: Vec<_> =
                all.iter().map(|piece| Written::new(piece.at, piece.bytes, journal.of(piece))).collect();
            let (digest, wrong) = read_back(&names.part, start, layout.bytes, &written)?;
            if wrong.is_empty() {
                file.write(&header::header(self.model.key(), part, &layout, digest), 0)?;
                file.finish()?;
                names.publish()?;
                return Ok(Made::Now);
            }
            let bytes = all.iter().filter(|piece| wrong.contains(&piece.at)).map(|piece| piece.bytes).sum();
            tracing::warn!(file = %names.part.display(), bytes, "not on the disk as they were written: fetched again");
            journal.strike(&wrong)?;
            self.meter.step(|progress| progress.done = progress.done.saturating_sub(Bytes(bytes)));
        }
        Err(StoreError::Disk { path: names.part.clone(), times: TRIES })
    }

    fn fetch(
        &self,
        part: Part,
        span: &ReadSpan,
        start: u64,
        file: &mut Filling<'_>,
        journal: &mut Journal,
    ) -> Result<(), StoreError> {
        let name = span.file();
        let described = self.model.manifest().file(name).ok_or_else(|| StoreError::Damaged {
            path: self.model.path().to_owned(),
            reason: format!("its manifest does not know {name}: remove the folder and pull again"),
        })?;
        let (mut queue, mut filled, mut hasher) = (span.pieces.iter().peekable(), 0, PieceHasher::new());
        self.origin.read(described, span.from(), span.bytes(), &mut |mut bytes| {
            let length = bytes.len() as u64;
            while let Some(piece) = queue.peek().filter(|_| !bytes.is_empty()) {
                let (now, later) = bytes.split_at(bytes.len().min((piece.bytes - filled) as usize));
                file.write(now, start + piece.at + filled)?;
                hasher.update(now);
                filled += now.len() as u64;
                bytes = later;
                if filled == piece.bytes {
                    journal.note(piece, hasher.finish())?;
                    (filled, hasher) = (0, PieceHasher::new());
                    queue.next();
                }
            }
            self.meter.step(|progress| {
                (progress.block, progress.done) = (Some(part.block()), progress.done + Bytes(length));
            });
            Ok(())
        })
    }
}

/// Locks a block for this process until the answer is dropped or the process ends; `None` where another holds it.
pub(crate) fn lock(path: &Path, wait: bool) -> Result<Option<File>, StoreError> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(StoreError::writing("create", path))?;
    if wait {
        file.lock().map_err(StoreError::io("lock", path))?;
        return Ok(Some(file));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(fault)) => Err(StoreError::io("lock", path)(fault)),
    }
}

/// What was written to a block and must come back.
pub(crate) struct Written {
    /// Where in the block.
    at: u64,
    bytes: u64,
    /// `None` comes back wrong, whatever it is.
    digest: Option<Digest>,
}

impl Written {
    pub(crate) const fn new(at: u64, bytes: u64, digest: Option<Digest>) -> Self {
        Self { at, bytes, digest }
    }

    pub(crate) const fn at(&self) -> u64 {
        self.at
    }
}

/// Reads a block from the disk: its digest, and where what comes back is not what was written. `pieces` lie in order.
pub(crate) fn read_back(
    path: &Path,
    start: u64,
    bytes: u64,
    pieces: &[Written],
) -> Result<(Digest, Vec<u64>), StoreError> {
    let (mut all, mut at, mut wrong) = (BlockHasher::new(), 0, Vec::new());
    let (mut queue, mut hasher) = (pieces.iter().peekable(), PieceHasher::new());
    DiskReader::new().read(path, start, bytes, &mut |mut chunk| {
        all.update(chunk);
        while let Some(piece) = queue.peek().filter(|_| !chunk.is_empty()) {
            let skipped = (piece.at.saturating_sub(at) as usize).min(chunk.len());
            (at, chunk) = (at + skipped as u64, &chunk[skipped..]);
            let end = piece.at + piece.bytes;
            let (now, later) = chunk.split_at(chunk.len().min((end - at) as usize));
            hasher.update(now);
            (at, chunk) = (at + now.len() as u64, later);
            if at == end {
                if piece.digest != Some(hasher.finish()) {
                    wrong.push(piece.at);
                }
                hasher = PieceHasher::new();
                queue.next();
            }
        }
        at += chunk.len() as u64;
    })?;
    Ok((all.finish(), wrong))
}

/// Makes everything between pieces zero: a half-made file may hold anything.
fn clear_gaps(path: &Path, start: u64, bytes: u64, pieces: &[Piece]) -> Result<(), StoreError> {
    let fault = || StoreError::io("write", path);
    let file = File::options().write(true).open(path).map_err(fault())?;
    let ends = pieces.iter().map(|piece| piece.at + piece.bytes);
    let begins = pieces.iter().map(|piece| piece.at).skip(1).chain(std::iter::once(bytes));
    for (from, to) in ends.zip(begins).filter(|(from, to)| from < to) {
        file.write_all_at(&vec![0; (to - from) as usize], start + from).map_err(fault())?;
    }
    file.sync_data().map_err(fault())?;
    disk::forget(&file, 0, 0);
    Ok(())
}
