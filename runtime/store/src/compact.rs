//! Making a compact block from a raw one.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use lime_kernels::{CompactError, Compactor};
use lime_model::LayoutEntry;
use lime_plan::{Block, Format};

use crate::{
    digest::PieceHasher,
    disk::{self, Filling},
    error::StoreError,
    header,
    make::{Made, Maker, TRIES, Written, read_back},
    names::{Names, remove},
    part::Part,
    state::header_bytes,
    verify::verify,
};

/// Rows are taken together up to about so many bytes.
const BATCH: usize = 4 << 20;

impl Maker<'_> {
    /// Makes `block` compact from its raw part, which is made first where it is not there, and then goes again. The caller holds the
    /// lock of the compact part.
    pub(crate) fn compact(&self, block: Block, names: &Names) -> Result<Made, StoreError> {
        let (raw, part) = (Part::Whole(block), Part::Compact(block));
        let raw_path = self.model.names(raw).whole;
        let there = self.model.is_whole(raw);
        if there {
            // Damage would get a digest of its own.
            if let Some((_, state)) = verify(self.model, &[raw], &|_, _| {})?.pop() {
                let reason = state.fault().unwrap_or_default();
                tracing::warn!(file = %raw_path.display(), reason, "damaged: made again");
                remove(&raw_path)?;
            }
        }
        if self.make(raw, true)? == Made::Stopped {
            return Ok(Made::Stopped);
        }
        let config = self.model.folder().config();
        let (from, to) = (raw.layout(config), part.layout(config));
        let raw_start = header_bytes(self.model.key(), raw, &from);
        let start = header_bytes(self.model.key(), part, &to);
        let source = File::open(&raw_path).map_err(StoreError::io("open", &raw_path))?;
        for _ in 0..TRIES {
            // Of a half-made one nothing is known.
            remove(&names.part)?;
            let mut file = Filling::open(&names.part, start + to.bytes)?;
            let mut written = Vec::new();
            for (old, new) in from.entries.iter().zip(&to.entries) {
                let mut put = |at: u64, bytes: &[u8]| -> Result<(), StoreError> {
                    let mut hasher = PieceHasher::new();
                    hasher.update(bytes);
                    written.push(Written::new(new.offset + at, bytes.len() as u64, Some(hasher.finish())));
                    file.write(bytes, start + new.offset + at)
                };
                transform(&source, raw_start, old, new, &mut put).map_err(|fault| match fault {
                    Fault::Read(source) => StoreError::io("read", &raw_path)(source),
                    Fault::Write(error) => error,
                    Fault::Refused(fault) => {
                        let name = new.role.file_name(block);
                        let reason = format!("{name} cannot be made compact: {fault}");
                        StoreError::Damaged { path: raw_path.clone(), reason }
                    }
                })?;
            }
            file.flush()?;
            disk::forget(&source, 0, 0);
            written.sort_by_key(Written::at);
            let (digest, wrong) = read_back(&names.part, start, to.bytes, &written)?;
            if wrong.is_empty() {
                file.write(&header::header(self.model.key(), part, &to, digest), 0)?;
                file.finish()?;
                names.publish()?;
                if !there {
                    remove(&raw_path)?;
                }
                return Ok(Made::Now);
            }
            tracing::warn!(file = %names.part.display(), "not on the disk as it was written: made again");
        }
        Err(StoreError::Disk { path: names.part.clone(), times: TRIES })
    }
}

/// Takes bytes, and where in a tensor they go.
type Put<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), StoreError>;

enum Fault {
    Read(io::Error),
    Write(StoreError),
    Refused(String),
}

/// Brings one tensor over; `put` takes bytes and where in the tensor they go.
fn transform(source: &File, start: u64, old: &LayoutEntry, new: &LayoutEntry, put: Put<'_>) -> Result<(), Fault> {
    let shape = match (new.format, new.shape.as_slice()) {
        (Format::CompactBf16, &[rows, columns]) => Some((rows, columns)),
        _ => None,
    };
    let row_bytes = shape.map_or(1, |(rows, _)| old.bytes as usize / rows);
    let step = (BATCH / row_bytes).max(1) * row_bytes;
    let compactor = shape.map(|(rows, columns)| Compactor::new(rows, columns)).transpose();
    let mut compactor = compactor.map_err(|fault| Fault::Refused(fault.to_string()))?;
    let mut failed = None;
    let mut sink = |at: u64, bytes: &[u8]| {
        put(at, bytes).map_err(|error| {
            failed = Some(error);
            io::Error::other("not written")
        })
    };
    let mut outcome = Ok(());
    let mut memory = vec![0; step.min(old.bytes as usize)];
    for at in (0..old.bytes).step_by(step) {
        let chunk = &mut memory[..step.min((old.bytes - at) as usize)];
        source.read_exact_at(chunk, start + old.offset + at).map_err(Fault::Read)?;
        outcome = match &mut compactor {
            Some(compactor) => compactor.push_rows(chunk, &mut sink),
            None => sink(at, chunk).map_err(CompactError::from),
        };
        if outcome.is_err() {
            break;
        }
    }
    if let (Some(compactor), Ok(())) = (compactor, &outcome) {
        outcome = compactor.finish(&mut sink);
    }
    match (outcome, failed) {
        (_, Some(error)) => Err(Fault::Write(error)),
        (Err(error), None) => Err(Fault::Refused(error.to_string())),
        (Ok(()), None) => Ok(()),
    }
}
