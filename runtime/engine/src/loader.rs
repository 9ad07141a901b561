//! Reading tensors into memory: exact byte ranges, several readers at once, one after the other as the blocks lie.

use std::{
    collections::BTreeMap,
    fs::File,
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use lime_plan::Bytes;

use crate::{engine_error::EngineError, rate_limit::RateLimit};
use lime_model::TensorEntry;

/// One read. Large enough that a disk streams, small enough that progress is seen and readers share a tensor.
const REQUEST: usize = 4 << 20;
const READERS: usize = 4;
/// Readers where each also takes the digest of what it has read: the disk is to have as many requests as with [`READERS`].
pub(crate) const DIGESTING_READERS: usize = 2 * READERS;

/// How to read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadOptions {
    /// Reads no faster than this: one machine plays a slow disk.
    pub(crate) bytes_per_second: Option<u64>,
}

/// A tensor and the memory that it goes to, of exactly its size.
pub(crate) struct Piece<'a> {
    pub(crate) tensor: TensorEntry,
    pub(crate) into: &'a mut [u8],
}

/// Part of a tensor.
struct Request<'a> {
    tensor: usize,
    offset: u64,
    into: &'a mut [u8],
}

/// Reads every piece, and reports after every request how many bytes of how many are there.
///
/// # Errors
/// The first read that failed, by file, tensor and offset. Other readers stop at their next request.
pub(crate) fn load(
    pieces: Vec<Piece<'_>>,
    options: LoadOptions,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<(), EngineError> {
    let files = open(&pieces)?;
    let (mut tensors, mut requests) = (Vec::with_capacity(pieces.len()), Vec::new());
    for Piece { tensor, into } in pieces {
        let mut rest = into;
        for run in tensor.runs() {
            let (run_into, behind) = std::mem::take(&mut rest).split_at_mut(run.bytes as usize);
            rest = behind;
            let mut offset = run.from;
            for into in run_into.chunks_mut(REQUEST) {
                let length = into.len() as u64;
                requests.push(Request { tensor: tensors.len(), offset, into });
                offset += length;
            }
        }
        tensors.push(tensor);
    }

    let limit = options.bytes_per_second.map(RateLimit::new);
    in_parallel(
        READERS,
        requests,
        progress,
        |request| request.into.len(),
        |request| {
            if let Some(limit) = &limit {
                limit.wait(request.into.len() as u64);
            }
            let tensor = &tensors[request.tensor];
            read_exact(&files[&tensor.file], tensor, request.offset, request.into)
        },
    )
}

/// Has `readers` threads do all requests in order, and reports after each one how many bytes of how many are there.
///
/// # Errors
/// The first fault. Other readers stop at their next request.
pub(crate) fn in_parallel<R: Send>(
    readers: usize,
    requests: Vec<R>,
    progress: &mut dyn FnMut(Bytes, Bytes),
    size: impl Fn(&R) -> usize + Sync,
    read: impl Fn(R) -> Result<(), EngineError> + Sync,
) -> Result<(), EngineError> {
    let total = Bytes(requests.iter().map(|request| size(request) as u64).sum());
    let queue = Mutex::new(requests.into_iter());
    let stop = AtomicBool::new(false);
    let (report, reports) = mpsc::channel();
    let read_all = &|report: mpsc::Sender<Result<usize, EngineError>>| {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(request) = next().filter(|_| !stop.load(Ordering::Relaxed)) {
            let length = size(&request);
            let outcome = read(request);
            stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
            if report.send(outcome.map(|()| length)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for report in std::iter::repeat_n(report, readers) {
            scope.spawn(move || read_all(report));
        }
        let (mut loaded, mut outcome) = (Bytes::ZERO, Ok(()));
        progress(loaded, total);
        for read in reports {
            match read {
                Ok(length) => loaded += Bytes(length as u64),
                Err(fault) if outcome.is_ok() => outcome = Err(fault),
                Err(_) => {}
            }
            progress(loaded, total);
        }
        outcome
    })
}

fn open(pieces: &[Piece<'_>]) -> Result<BTreeMap<PathBuf, File>, EngineError> {
    let mut files = BTreeMap::new();
    for path in pieces.iter().map(|piece| &piece.tensor.file) {
        if !files.contains_key(path) {
            let file = File::open(path).map_err(|source| EngineError::Open { path: path.clone(), source })?;
            files.insert(path.clone(), file);
        }
    }
    Ok(files)
}

fn read_exact(file: &File, tensor: &TensorEntry, mut offset: u64, mut into: &mut [u8]) -> Result<(), EngineError> {
    while !into.is_empty() {
        match file.read_at(into, offset) {
            Ok(0) => {
                let (path, tensor) = (tensor.file.clone(), tensor.name.clone());
                return Err(EngineError::Truncated { path, tensor, offset });
            }
            Ok(count) => (into, offset) = (&mut into[count..], offset + count as u64),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                let (path, tensor) = (tensor.file.clone(), tensor.name.clone());
                return Err(EngineError::Read { path, tensor, offset, source });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        time::{Duration, Instant},
    };

    use lime_plan::Format;

    use super::*;
    use lime_model::{RowOrder, TensorRole};

    fn tensor(file: &Path, offset: u64, bytes: u64) -> TensorEntry {
        let (role, name) = (TensorRole::Q, "model.layers.0.self_attn.q_proj.weight".into());
        let (shape, order) = (vec![], RowOrder::Same);
        TensorEntry { role, name, file: file.to_owned(), offset, bytes, format: Format::F32, shape, order }
    }

    fn written(bytes: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (path, content) =
            (dir.path().join("weights"), (0..bytes).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>());
        fs::write(&path, &content).unwrap();
        (dir, path, content)
    }

    #[test]
    fn reads_ranges_in_pieces_and_reports_all_of_them() {
        let (_dir, path, content) = written(2 * REQUEST + 100);
        let (mut first, mut second) = (vec![0; 2 * REQUEST + 5], vec![0; 7]);
        let pieces = vec![
            Piece { tensor: tensor(&path, 10, first.len() as u64), into: &mut first },
            Piece { tensor: tensor(&path, 1, 7), into: &mut second },
        ];
        let mut seen = Vec::new();
        load(pieces, LoadOptions::default(), &mut |loaded, total| seen.push((loaded.0, total.0))).unwrap();
        assert_eq!(first, content[10..10 + first.len()]);
        assert_eq!(second, content[1..8]);
        let total = (first.len() + second.len()) as u64;
        assert_eq!(seen.last(), Some(&(total, total)));
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn a_short_file_names_tensor_and_offset() {
        let (_dir, path, _) = written(100);
        let mut into = vec![0; 60];
        let pieces = vec![Piece { tensor: tensor(&path, 50, 60), into: &mut into }];
        let fault = load(pieces, LoadOptions::default(), &mut |_, _| {}).unwrap_err().to_string();
        assert!(fault.contains("ends at offset 100") && fault.contains("q_proj.weight"), "{fault}");
        let pieces = vec![Piece { tensor: tensor(&path.with_extension("no"), 0, 60), into: &mut into }];
        let fault = load(pieces, LoadOptions::default(), &mut |_, _| {}).unwrap_err().to_string();
        assert!(fault.starts_with("cannot open") && fault.contains("weights.no"), "{fault}");
    }

    #[test]
    fn a_rate_is_kept() {
        let (_dir, path, _) = written(1 << 20);
        let mut into = vec![0; 1 << 20];
        let pieces = vec![Piece { tensor: tensor(&path, 0, 1 << 20), into: &mut into }];
        let started = Instant::now();
        load(pieces, LoadOptions { bytes_per_second: Some(10 << 20) }, &mut |_, _| {}).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(95));
    }
}
