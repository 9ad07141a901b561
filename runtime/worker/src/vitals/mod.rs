//! Whether the compute thread gets on. A thread that hangs in a read, a lock or a driver holds up the ring and cannot say so itself:
//! whoever asks for the worker's health looks at what the thread has done since the last time.

mod watch;

use std::{
    fs,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use watch::{Reading, Watch};

/// What the compute thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// A pass.
    Pass,
    /// Loading and comparing. A server that is away for minutes holds it up, and to start the worker anew would not bring it back.
    TakingUp,
    /// Leaving memory to others.
    Pressed,
}

impl Doing {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "at a pass",
            Self::TakingUp => "taking a plan up",
            Self::Pressed => "leaving memory to others",
        }
    }

    /// How much longer than a pass it may stand still.
    const fn patience(self) -> u32 {
        match self {
            Self::Pass | Self::Pressed => 1,
            Self::TakingUp => 10,
        }
    }
}

/// The compute thread as seen from outside.
#[derive(Debug)]
pub(crate) struct Vitals {
    origin: Instant,
    /// So long without a move in a pass, and it will not come out of it.
    stuck_after: Duration,
    beats: AtomicU64,
    doing: Mutex<Option<(Doing, Duration)>>,
    /// Where the system shows the thread, once it runs.
    thread: OnceLock<String>,
    watch: Mutex<Watch>,
}

impl Vitals {
    pub(crate) fn new(stuck_after: Duration) -> Self {
        Self {
            origin: Instant::now(),
            stuck_after,
            beats: AtomicU64::new(0),
            doing: Mutex::default(),
            thread: OnceLock::new(),
            watch: Mutex::default(),
        }
    }

    /// Told by the compute thread itself, before all else.
    pub(crate) fn this_is_the_thread(&self) {
        if let Ok(path) = fs::read_link("/proc/thread-self") {
            let _ = self.thread.set(format!("/proc/{}/stat", path.display()));
        }
    }

    /// Runs `work`, which is to get on.
    pub(crate) fn during<T>(&self, what: Doing, work: impl FnOnce() -> T) -> T {
        self.set(Some((what, self.origin.elapsed())));
        self.beat();
        let done = work();
        self.set(None);
        done
    }

    /// A step is done.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// What the thread is stuck in, if it is.
    pub(crate) fn stuck(&self) -> Option<String> {
        let doing = *self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = Reading { beats: self.beats.load(Ordering::Relaxed), ticks: self.ticks(), read: bytes_read() };
        let now = self.origin.elapsed();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let still = watch.look(now, reading, doing.map(|(_, since)| since));
        let (what, since) = doing.filter(|(what, _)| still >= self.stuck_after.saturating_mul(what.patience()))?;
        let (what, seconds) = (what.name(), now.saturating_sub(since).as_secs());
        Some(format!("{what} since {seconds} s, and nothing has moved for {} s", still.as_secs()))
    }

    fn set(&self, doing: Option<(Doing, Duration)>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    fn ticks(&self) -> u64 {
        let stat = self.thread.get().and_then(|path| fs::read_to_string(path).ok());
        stat.and_then(|stat| ticks(&stat)).unwrap_or_default()
    }
}

/// User and system time in a `stat` of /proc. The name, which comes second, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// What this process has had from disks, past the page cache too.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "77 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0 4 0 5";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("77 (a) S 1 2"), None);
        assert_eq!(ticks(""), None);
    }

    /// A thread that is at `work` while it is looked at again and again; what it was found to be stuck in.
    fn seen(what: Doing, stuck_after: Duration, work: impl FnOnce() + Send + 'static) -> Option<String> {
        let vitals = Arc::new(Vitals::new(stuck_after));
        let told = Arc::clone(&vitals);
        let thread = thread::spawn(move || {
            told.this_is_the_thread();
            told.during(what, work);
        });
        let mut found = None;
        while !thread.is_finished() {
            found = found.or(vitals.stuck());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(vitals.stuck(), None, "it has nothing to do any more");
        found
    }

    #[test]
    fn a_thread_that_computes_gets_on_and_one_that_sleeps_does_not() {
        let long = Duration::from_secs(3);
        let asleep = seen(Doing::Pass, long / 6, move || thread::sleep(long));
        assert!(asleep.as_ref().is_some_and(|found| found.starts_with("at a pass since")), "{asleep:?}");
        assert_eq!(seen(Doing::TakingUp, long / 6, move || thread::sleep(long)), None, "a load may wait for longer");
        let begun = Instant::now();
        assert_eq!(seen(Doing::Pass, long / 2, move || while begun.elapsed() < long {}), None);
    }
}
