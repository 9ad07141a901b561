//! What a schedule is built in: memory that is used again, for a search builds very many.

use super::Schedule;

/// Memory of schedules that are no longer needed, for the next ones.
#[derive(Default)]
pub(crate) struct Spare {
    schedule: Schedule,
    devices: Vec<Device>,
}

impl Spare {
    /// An empty schedule and at least so many devices of which nothing is noted.
    pub(super) fn take(&mut self, count: usize) -> (Schedule, Vec<Device>) {
        let Self { mut schedule, mut devices } = std::mem::take(self);
        schedule.clear();
        devices.iter_mut().for_each(Device::clear);
        let missing = count.saturating_sub(devices.len());
        devices.extend(std::iter::repeat_with(Device::default).take(missing));
        (schedule, devices)
    }

    pub(super) fn take_back_devices(&mut self, devices: Vec<Device>) {
        self.devices = devices;
    }

    /// Takes a schedule that nobody needs any more.
    pub(crate) fn take_back(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }
}

/// One device while a schedule is built.
#[derive(Default)]
pub(super) struct Device {
    pub(super) loader: Loader,
    pub(super) next_load: usize,
    /// The first and the last event of each resource so far.
    pub(super) compute: Option<(u32, u32)>,
    pub(super) send: Option<(u32, u32)>,
}

impl Device {
    fn clear(&mut self) {
        self.loader.clear();
        (self.next_load, self.compute, self.send) = (0, None, None);
    }
}

/// The loader of one device while a schedule is built.
#[derive(Default)]
pub(super) struct Loader {
    /// Bytes of each streamed unit, in cyclic order.
    pub(super) bytes: Vec<u64>,
    pub(super) segments: Vec<u32>,
    pub(super) loads: Vec<u32>,
    pub(super) releases: Vec<u32>,
}

impl Loader {
    fn clear(&mut self) {
        self.bytes.clear();
        self.segments.clear();
        self.loads.clear();
        self.releases.clear();
    }

    /// The latest unit that must have left the buffer before unit `index` may be read into it, and whether that was in
    /// the pass before.
    pub(super) fn predecessor(&self, index: usize, buffer: u64) -> (usize, i64) {
        let count = self.bytes.len();
        let mut held = self.bytes[index];
        for back in 1..=count {
            let (earlier, passes) = if back <= index { (index - back, 0) } else { (index + count - back, 1) };
            held += self.bytes[earlier];
            if back == count || held > buffer {
                return (earlier, passes);
            }
        }
        (index, 1)
    }
}
