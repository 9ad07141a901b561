//! The machine that the agent runs on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lime_profiler::{ComputeEffort, DiskEffort, Dtype, Format};

use crate::figures::{Disk, Long, Probe, Speed};
use crate::memory::{Memory, parse_meminfo};

/// A tenth of the time with somebody waiting for the disk is as busy as half of the processor.
const WAITING: f64 = 5.0;

/// The real machine, seen through `/proc` and the weight store's file system.
#[derive(Debug)]
pub struct Local {
    proc: PathBuf,
    store: PathBuf,
    last: Option<Ticks>,
}

impl Local {
    /// The machine whose weight store lies in the folder.
    #[must_use]
    pub fn new(store: &Path) -> Self {
        Self { proc: PathBuf::from("/proc"), store: store.to_owned(), last: None }
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let path = self.proc.join(file);
        fs::read_to_string(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

impl Probe for Local {
    fn memory(&mut self) -> io::Result<Memory> {
        parse_meminfo(&self.read("meminfo")?).map_err(io::Error::other)
    }

    fn busy_share(&mut self) -> io::Result<f64> {
        let text = self.read("stat")?;
        let now = parse_ticks(&text).ok_or_else(|| io::Error::other("/proc/stat has no line of all processors"))?;
        let share = self.last.map_or(1.0, |last| now.busy_since(last));
        self.last = Some(now);
        // Who waits for the disk leaves the processor idle. Not every kernel tells.
        let waiting = self.read("pressure/io").ok().and_then(|text| parse_some_avg10(&text)).unwrap_or(0.0);
        Ok(share.max((waiting * WAITING).min(1.0)))
    }

    fn disk_space(&mut self) -> Disk {
        match file_system(&self.store) {
            Ok((total, free)) => Disk { total_bytes: Some(total), free_bytes: Some(free), ..Disk::default() },
            Err(error) => {
                let problem = format!("the weight store's folder {}: {error}", self.store.display());
                Disk { problem: Some(problem), ..Disk::default() }
            }
        }
    }

    fn cores(&self) -> u32 {
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
    }

    fn long(&self) -> Box<dyn FnOnce() -> Long + Send> {
        let (store, threads) = (self.store.clone(), self.cores() as usize);
        // Kernels of other floats read memory about as fast as those of bf16; quantized weights take other arithmetic.
        let quantized: Vec<Format> = Format::ALL.into_iter().filter(|format| format.is_quantized()).collect();
        let effort = ComputeEffort::SHORT.beyond_caches();
        Box::new(move || Long {
            compute: lime_profiler::compute(effort, Dtype::Bf16, &quantized, threads)
                .map(|found| Speed {
                    memory: found.memory_bandwidth,
                    compact: found.compact_bandwidth,
                    operations: found.throughput,
                    formats: found.formats,
                })
                .map_err(|error| error.to_string()),
            disk: lime_profiler::disk_of_folder(&store, DiskEffort::SMALL)
                .map(|found| found.bandwidth)
                .map_err(|error| error.to_string()),
        })
    }
}

/// Clock ticks since boot, of all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    #[allow(clippy::cast_precision_loss)]
    fn busy_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let idle = self.idle.saturating_sub(earlier.idle).min(all);
        if all == 0 { 1.0 } else { 1.0 - idle as f64 / all as f64 }
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn parse_ticks(text: &str) -> Option<Ticks> {
    let words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks = words.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    let all = ticks.iter().try_fold(0_u64, |sum, each| sum.checked_add(*each))?;
    Some(Ticks { idle: ticks.get(3)?.checked_add(*ticks.get(4)?)?, all })
}

/// The share of the last ten seconds in which some process waited, of a file of `/proc/pressure`.
fn parse_some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse::<f64>().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

/// The bytes of the file system under a folder: all, and those free to us.
fn file_system(folder: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers() {
        let folder = tempfile::tempdir().unwrap();
        let mut local = Local::new(folder.path());
        let memory = local.memory().unwrap();
        assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes > 1 << 20);
        assert!((0.0..=1.0).contains(&local.busy_share().unwrap()));
        let disk = local.disk_space();
        assert!(disk.free_bytes <= disk.total_bytes && disk.problem.is_none());
        assert!(local.cores() >= 1);
    }

    #[test]
    fn a_store_that_cannot_be_written_gives_no_speed_but_the_rest() {
        let measured = Local::new(Path::new("/no/such/folder")).long()();
        assert!(measured.disk.unwrap_err().contains("/no/such/folder"));
        let speed = measured.compute.unwrap();
        assert!(speed.memory > 0 && speed.compact > Some(0) && speed.operations > 0);
        for format in Format::ALL.into_iter().filter(|format| format.is_quantized()) {
            let found = speed.formats.get(&format);
            assert!(found.is_some_and(|speed| speed.memory_bandwidth > 0 && speed.throughput > 0), "{format}");
        }
    }

    #[test]
    fn who_waits_for_the_disk_makes_a_machine_busy() {
        let pressure = "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=3.00 avg60=0 avg300=0 total=1\n";
        assert_eq!(parse_some_avg10(pressure), Some(0.125));
        for nonsense in ["", "some", "some avg10=x", "some avg10=NaN", "some avg10=900", "full avg10=1"] {
            assert_eq!(parse_some_avg10(nonsense), None, "{nonsense:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pressure")).unwrap();
        std::fs::write(folder.path().join("pressure/io"), pressure).unwrap();
        let mut local = Local { proc: folder.path().to_owned(), ..Local::new(folder.path()) };
        let mut ticks = |idle: u64| {
            std::fs::write(folder.path().join("stat"), format!("cpu 0 0 0 {idle} 0 0 0 0\n")).unwrap();
            local.busy_share().unwrap()
        };
        ticks(0);
        assert!((ticks(100) - 0.625).abs() < 1e-9);
    }

    #[test]
    fn a_store_that_is_not_there_is_named() {
        let problem = Local::new(Path::new("/no/such/folder")).disk_space().problem.unwrap();
        assert!(problem.contains("/no/such/folder"), "{problem}");
    }

    #[test]
    fn ticks_are_read_and_garbage_is_not() {
        let before = parse_ticks("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1").unwrap();
        assert_eq!(before, Ticks { idle: 80, all: 100 });
        let after = parse_ticks("cpu  60 0 10 110 20 0 0 0 0 0").unwrap();
        assert!((after.busy_since(before) - 0.5).abs() < 1e-9);
        for text in ["", "cpu", "cpu x", "cpu  1 2 3", "cpu  18446744073709551615 1 1 1 1"] {
            assert_eq!(parse_ticks(text), None, "{text:?}");
        }
    }
}
