//! A pool of threads for short parallel loops.
//!
//! The caller works too. Between loops a worker spins for some tens of microseconds, then yields, then parks, so
//! that a token's loops follow each other without system calls and an idle process takes no CPU. A worker that
//! comes late (preempted by a sibling process, say) is not waited for: it finds the loop closed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a worker spins before it yields.
const SPIN: Duration = Duration::from_micros(50);
/// How long it spins and yields before it parks.
const PATIENCE: Duration = Duration::from_micros(200);
/// Spins between two looks at the clock.
const SPINS_PER_LOOK: u32 = 64;

/// `Shared::state`: the loop's number above these bits, `OPEN`, and the count of workers inside below.
const INSIDE: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const EPOCH: u64 = 1 << 17;

/// The loop body of the running loop, with its lifetime erased.
#[derive(Clone, Copy)]
struct Body(*const (dyn Fn(usize) + Sync));

// SAFETY: the body is `Sync`, and `Pool::run` keeps it alive while any worker is inside.
unsafe impl Send for Body {}

struct Shared {
    state: AtomicU64,
    body: Mutex<Option<Body>>,
    next: AtomicUsize,
    tasks: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    parked: Vec<AtomicBool>,
}

/// A fixed set of threads, of which the caller of [`Pool::run`] is one.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads (at least one: the caller), so `threads - 1` are started. Where the system
    /// refuses a thread the pool is smaller.
    pub fn new(threads: usize) -> Self {
        let helpers = threads.clamp(1, INSIDE as usize) - 1;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            body: Mutex::new(None),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            parked: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers = (0..helpers)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("kernels-{index}")).spawn(move || shared.work(index)).ok()
            })
            .collect();
        Self { shared, workers, busy: Mutex::new(()) }
    }

    /// Threads that take part, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(0)` to `body(tasks - 1)`, each once, in any order and on any of the threads, and returns when
    /// all are done. A call from inside a body, or while another thread runs a loop, works alone.
    ///
    /// # Panics
    /// With the first panic of a body, once all threads have left the loop.
    pub fn run(&self, tasks: usize, body: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(body);
            return;
        }
        let Ok(_busy) = self.busy.try_lock() else {
            (0..tasks).for_each(body);
            return;
        };
        self.open(tasks, &body);
        self.shared.drain(&body);
        self.close();
        let panic = lock(&self.shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn open(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; `close` waits until no worker can use the body any more.
        let body = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(body) };
        *lock(&shared.body) = Some(Body(body));
        shared.next.store(0, Ordering::Relaxed);
        shared.tasks.store(tasks, Ordering::Relaxed);
        let epoch = shared.state.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        shared.state.store((epoch + EPOCH) | OPEN, Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&shared.parked).take(tasks - 1) {
            if parked.load(Ordering::SeqCst) && parked.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    /// Lets no more workers in and waits for those inside.
    fn close(&self) {
        let shared = &*self.shared;
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut patience = Patience::new();
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            patience.wait();
        }
        *lock(&shared.body) = None;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panics are caught and handed to the caller of `run`, so there is nothing to learn here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn work(&self, index: usize) {
        let mut seen = 0;
        let mut patience = Patience::new();
        while !self.stop.load(Ordering::SeqCst) {
            if let Some(epoch) = self.enter(seen) {
                seen = epoch;
                let body = *lock(&self.body);
                if let Some(Body(body)) = body {
                    // SAFETY: this worker is counted as inside, so `run` has not returned.
                    self.drain(unsafe { &*body });
                }
                self.state.fetch_sub(1, Ordering::AcqRel);
                patience = Patience::new();
            } else if patience.is_spent() {
                self.park(index, seen);
                patience = Patience::new();
            } else {
                patience.wait();
            }
        }
    }

    /// Counts the worker as inside if a loop is open that it has not seen.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut state = self.state.load(Ordering::Acquire);
        while state & OPEN != 0 && state & !(OPEN | INSIDE) != seen {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(state & !(OPEN | INSIDE)),
                Err(now) => state = now,
            }
        }
        None
    }

    fn park(&self, index: usize, seen: u64) {
        self.parked[index].store(true, Ordering::SeqCst);
        // Look again: a loop opened before the store above would not have unparked this worker.
        let state = self.state.load(Ordering::SeqCst);
        let news = state & OPEN != 0 && state & !(OPEN | INSIDE) != seen;
        if !news && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked[index].store(false, Ordering::SeqCst);
    }

    /// Takes tasks until none is left. The first panic is kept and ends the loop early.
    fn drain(&self, body: &(dyn Fn(usize) + Sync)) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                body(task);
            }
        }));
        if let Err(panic) = outcome {
            self.next.store(tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }
}

/// Waiting that grows more considerate: spin, then yield.
struct Patience {
    since: Instant,
    waited: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { since: Instant::now(), waited: Duration::ZERO }
    }

    fn wait(&mut self) {
        if self.waited < SPIN {
            for _ in 0..SPINS_PER_LOOK {
                std::hint::spin_loop();
            }
        } else {
            thread::yield_now();
        }
        self.waited = self.since.elapsed();
    }

    fn is_spent(&self) -> bool {
        self.waited >= PATIENCE
    }
}

/// Nothing that these mutexes guard can be left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
