//! KV pages on this device's disk: a thread of its own writes what the engine hands it, one page after the other. A disk that is full or
//! fails takes none for a while; whatever is not there is computed again.

use std::{
    collections::HashSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lime_engine::PageDisk;
use lime_plan::{Block, Bytes, DevicePlan, MemoryModel, PageName, Plan, TokenBasis};
use lime_store::{KvPageSet, KvPages, StoreError, StoredModel};

use crate::{compute::ComputeError, disk_counters::PageDiskCounters};

/// Copies of pages that wait to be written.
const COPIES: usize = 2;
/// A disk that could not write is let alone for so long.
const PAUSE: Duration = Duration::from_secs(30);
/// What the bits of KV entries depend on beside the plan: raised with every change that moves a rounding.
const ARITHMETIC: u32 = 1;

/// The pages of a device in the store.
pub(crate) struct StoredPages {
    writing: Arc<Writing>,
    /// `None` once it is to end.
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

struct Job {
    name: PageName,
    behind: Option<PageName>,
    page: Box<[u8]>,
}

/// What both threads see.
struct Writing {
    pages: KvPages,
    counters: Arc<PageDiskCounters>,
    copies: Mutex<Copies>,
    written: Condvar,
    /// Nobody prunes a model whose pages are in use.
    _model: Arc<StoredModel>,
}

#[derive(Default)]
struct Copies {
    names: HashSet<PageName>,
    bytes: u64,
    /// It could not write at that moment.
    failed: Option<Instant>,
}

impl StoredPages {
    /// The pages of `device` beside the weights of `model`. `None` where another process has them.
    ///
    /// # Errors
    /// When the store's folder cannot be used.
    pub(crate) fn open(
        model: Arc<StoredModel>,
        plan: &Plan,
        device: &DevicePlan,
        limit: Bytes,
        counters: Arc<PageDiskCounters>,
    ) -> Result<Option<Self>, ComputeError> {
        let page_bytes = MemoryModel::of(plan).page_bytes(device.attentions()).0;
        let cut = cut(plan, device).map_err(ComputeError::from_error)?;
        let set = KvPageSet { device: &device.name, cut, page_bytes: page_bytes as usize, limit };
        let Some(pages) = KvPages::open(&model, &set).map_err(ComputeError::from_error)? else { return Ok(None) };
        counters.limit.store(limit.0, Ordering::Relaxed);
        let (copies, written) = (Mutex::default(), Condvar::new());
        let writing = Arc::new(Writing { pages, counters, copies, written, _model: model });
        writing.tell();
        let (jobs, taken) = sync_channel(COPIES);
        let shared = writing.clone();
        let writer = thread::Builder::new().name("lime-pages".to_owned()).spawn(move || shared.run(&taken));
        let writer = writer.map_err(ComputeError::from_error)?;
        Ok(Some(Self { writing, jobs: Some(jobs), writer: Some(writer) }))
    }
}

/// Names what a device's pages consist of: they are of no use to one with other layers.
fn cut(plan: &Plan, device: &DevicePlan) -> Result<PageName, serde_json::Error> {
    // In the order in which a page has them.
    let layers = (0..plan.segments).flat_map(|segment| device.range_in(lime_plan::SegmentIndex(segment)).blocks());
    let layers = layers.filter_map(|block| match block {
        Block::Attention(layer) => Some(layer.0),
        Block::Embedding | Block::Mlp(_) | Block::Head => None,
    });
    let build = env!("CARGO_PKG_VERSION").bytes().map(u32::from);
    let parts: Vec<u32> = [ARITHMETIC].into_iter().chain(build).chain([u32::MAX]).chain(layers).collect();
    Ok(PageName::root(&TokenBasis::of(plan), None)?.followed_by(&parts))
}

impl Writing {
    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let (pages, bytes) = self.pages.taken();
        self.counters.pages.store(pages as u64, Ordering::Relaxed);
        self.counters.bytes.store(bytes.0, Ordering::Relaxed);
    }

    fn run(&self, jobs: &Receiver<Job>) {
        for Job { name, behind, page } in jobs {
            let written = self.pages.write(name, behind, &page);
            match &written {
                Ok(()) => PageDiskCounters::count(&self.counters.written),
                Err(error) => {
                    PageDiskCounters::count(&self.counters.failed);
                    tracing::warn!(%error, "a KV page could not be written to the disk: what is not there is computed again");
                }
            }
            self.tell();
            let bytes = page.len() as u64;
            drop(page);
            let mut copies = self.copies();
            copies.names.remove(&name);
            copies.bytes -= bytes;
            copies.failed = written.err().map(|_| Instant::now());
            drop(copies);
            self.written.notify_all();
        }
    }
}

impl PageDisk for StoredPages {
    fn has(&self, name: &PageName) -> bool {
        self.writing.pages.has(name) || self.writing.copies().names.contains(name)
    }

    fn write(&mut self, name: PageName, behind: Option<PageName>, page: &[u8]) -> bool {
        let Some(jobs) = &self.jobs else { return true };
        let mut copies = self.writing.copies();
        if copies.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            PageDiskCounters::count(&self.writing.counters.failed);
            return true;
        }
        if copies.names.len() >= COPIES {
            return false;
        }
        // There is room for every copy that is counted: this does not wait.
        if jobs.try_send(Job { name, behind, page: page.into() }).is_ok() {
            copies.names.insert(name);
            copies.bytes += page.len() as u64;
        }
        true
    }

    fn read(&mut self, name: &PageName, page: &mut [u8]) -> bool {
        if self.writing.copies().names.contains(name) {
            self.settle();
        }
        let counters = &self.writing.counters;
        match self.writing.pages.read(name, page) {
            Ok(found) => {
                counters.read.fetch_add(u64::from(found), Ordering::Relaxed);
                found
            }
            Err(error) => {
                let counter =
                    if matches!(error, StoreError::Damaged { .. }) { &counters.damaged } else { &counters.failed };
                PageDiskCounters::count(counter);
                tracing::warn!(%error, "a KV page on the disk is of no use");
                self.writing.tell();
                false
            }
        }
    }

    fn used(&mut self, names: &[PageName]) {
        self.writing.pages.used(names);
    }

    fn copies(&self) -> Bytes {
        Bytes(self.writing.copies().bytes)
    }

    fn settle(&mut self) {
        const LOOK: Duration = Duration::from_millis(50);
        let mut copies = self.writing.copies();
        while copies.bytes > 0 {
            // A writer that has panicked, which was reported there, writes nothing any more.
            if self.writer.as_ref().is_none_or(JoinHandle::is_finished) {
                *copies = Copies::default();
                return;
            }
            copies = self.writing.written.wait_timeout(copies, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn names(&self) -> Vec<PageName> {
        self.writing.pages.names()
    }

    fn room(&self) -> usize {
        self.writing.pages.room()
    }

    fn clear(&mut self) {
        if let Err(error) = self.writing.pages.clear() {
            tracing::warn!(%error, "KV pages could not be removed from the disk");
        }
        self.writing.tell();
    }
}

impl Drop for StoredPages {
    fn drop(&mut self) {
        // What was handed over is written: the folder is free then for who comes next.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A panic has been reported where it happened.
            let _ = writer.join();
        }
    }
}
