//! One pass as a graph of events: who waits for whom, within a pass and from one pass to the next.
//!
//! Every device has three resources that work at once, each in a fixed order: compute, the loader (its disk) and its link. An
//! event's end is its duration after the latest of its dependencies, so time is a max-plus recurrence: nothing slower
//! can make anything earlier, and more of any resource never hurts.

mod spare;

use crate::cost::{Costs, RowCosts, Unit, micro_batch_rows};
use crate::layout::{Layout, Stretch, range};
use lime_plan::Fleet;

use spare::Device;
pub(crate) use spare::Spare;

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// Computes units that are in memory.
    Compute,
    /// Reads a unit from disk.
    Load,
    /// Sends an activation to the successor.
    Send,
    /// Hands on at once what needs no work here.
    Relay,
}

/// An event of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// Position in the ring.
    pub(crate) at: usize,
    pub(crate) duration: i64,
    edge: u32,
}

/// A dependency: `from` must have ended `delay` ago, `passes` passes earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dependency {
    pub(crate) from: u32,
    pub(crate) delay: i64,
    pub(crate) passes: i64,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// The events of one pass in an order in which dependencies of the same pass come first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) events: Vec<Event>,
    dependencies: Vec<Dependency>,
    /// The last event of each micro-batch: its tokens are known.
    pub(crate) ends: Vec<u32>,
    /// Loads that an idle ring has already done when a request comes.
    pub(crate) ahead: Vec<u32>,
}

impl Schedule {
    /// The dependencies of event `index`.
    pub(crate) fn dependencies(&self, index: usize) -> impl Iterator<Item = Dependency> {
        let mut edge = self.events[index].edge;
        std::iter::from_fn(move || {
            let dependency = *self.dependencies.get(edge as usize)?;
            edge = dependency.next;
            Some(dependency)
        })
    }

    fn event(&mut self, kind: EventKind, at: usize, duration: u64) -> u32 {
        let duration = i64::try_from(duration).unwrap_or(i64::MAX >> 16);
        self.events.push(Event { kind, at, duration, edge: NONE });
        (self.events.len() - 1) as u32
    }

    fn after(&mut self, event: u32, from: u32, delay: i64, passes: i64) {
        let next = self.events[event as usize].edge;
        self.dependencies.push(Dependency { from, delay, passes, next });
        self.events[event as usize].edge = (self.dependencies.len() - 1) as u32;
    }
}

/// Whether the next pass of a micro-batch waits for its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// Decoding: the next row is the token just drawn.
    Token,
    /// Prefill: the next chunk is known.
    None,
}

#[cfg(test)]
thread_local! {
    /// Events of all schedules that this thread has built: what a search takes on any machine.
    pub(crate) static SIMULATED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

struct Builder<'a> {
    schedule: Schedule,
    costs: &'a Costs,
    fleet: &'a Fleet,
    layout: &'a Layout,
    tables: Vec<&'a RowCosts>,
    /// By position; there may be more of them than there are shares.
    devices: Vec<Device>,
    /// Where each micro-batch's activation is: the event that it left and the delay since.
    arrivals: Vec<(u32, i64)>,
    entries: Vec<u32>,
}

impl Schedule {
    /// The schedule of a candidate, or `None` where its buffers are too small for it to make progress.
    pub(crate) fn build(
        costs: &Costs,
        fleet: &Fleet,
        layout: &Layout,
        sequences: u32,
        feedback: Feedback,
        spare: &mut Spare,
    ) -> Option<Self> {
        let tables = micro_batch_rows(sequences, layout.micro_batches).map(|rows| costs.rows(rows)).collect();
        let mut builder = Builder::new(costs, fleet, layout, tables, spare);
        builder.fill_loaders();
        if !builder.buffers_suffice() {
            return builder.give_up(spare);
        }
        builder.reserve();
        builder.layers();
        builder.head();
        builder.wrap(feedback);
        Some(builder.finish(spare))
    }

    /// The schedule of one device of a candidate with one micro-batch, as if nobody else ever waited for a disk: between its
    /// visits pass `gaps`, the last of them until the next pass.
    pub(crate) fn alone(
        costs: &Costs,
        fleet: &Fleet,
        layout: &Layout,
        sequences: u32,
        (at, stretches, gaps): (usize, &[Stretch], &[u64]),
        spare: &mut Spare,
    ) -> Option<Self> {
        let mut builder = Builder::new(costs, fleet, layout, vec![costs.rows(sequences)], spare);
        for stretch in stretches {
            builder.note_loads(at, stretch.to, stretch.segment);
        }
        if !builder.buffers_suffice() {
            return builder.give_up(spare);
        }
        let mut gap = gaps.iter().map(|&gap| i64::try_from(gap).unwrap_or(i64::MAX >> 16));
        for stretch in stretches {
            builder.visit(at, 0, (stretch.from, stretch.to));
            builder.arrivals[0].1 = gap.next().unwrap_or(0);
        }
        let (end, back) = builder.arrivals[0];
        builder.schedule.ends.push(end);
        builder.wrap(Feedback::None);
        let entry = builder.entries[0];
        builder.schedule.after(entry, end, back, 1);
        Some(builder.finish(spare))
    }

    fn clear(&mut self) {
        self.events.clear();
        self.dependencies.clear();
        self.ends.clear();
        self.ahead.clear();
    }
}

impl<'a> Builder<'a> {
    fn new(
        costs: &'a Costs,
        fleet: &'a Fleet,
        layout: &'a Layout,
        tables: Vec<&'a RowCosts>,
        spare: &mut Spare,
    ) -> Self {
        let (schedule, devices) = spare.take(layout.shares.len());
        let (arrivals, entries) = (vec![(NONE, 0); tables.len()], vec![NONE; tables.len()]);
        Self { schedule, costs, fleet, layout, tables, devices, arrivals, entries }
    }

    fn finish(self, spare: &mut Spare) -> Schedule {
        #[cfg(test)]
        SIMULATED.with(|events| events.set(events.get() + self.schedule.events.len() as u64));
        spare.take_back_devices(self.devices);
        self.schedule
    }

    fn give_up(self, spare: &mut Spare) -> Option<Schedule> {
        spare.take_back_devices(self.devices);
        spare.take_back(self.schedule);
        None
    }
}

impl Builder<'_> {
    /// Notes what each loader reads.
    fn fill_loaders(&mut self) {
        let layout = self.layout;
        if layout.shares.iter().all(|share| share.streamed.is_empty()) {
            return;
        }
        for (segment, at, _, end) in layout.visits() {
            self.note_loads(at, end, segment);
        }
        self.note_loads(layout.head, Unit::head(self.costs.layers).0 + 1, layout.segments);
        let noted = self.devices.iter().take(layout.shares.len()).map(|device| device.loader.bytes.len());
        debug_assert!(
            noted.eq(layout.shares.iter().map(|share| share.streamed.len())),
            "only what a device has streams"
        );
    }

    /// Makes room for about as many events as there will be: a computation and a hop for each visit, and two for each load.
    fn reserve(&mut self) {
        let visits = (self.layout.segments as usize + 1) * self.layout.shares.len();
        let streamed: usize = self.layout.shares.iter().map(|share| share.streamed.len()).sum();
        let events = 2 * self.tables.len() * (visits + streamed) + streamed;
        self.schedule.events.reserve(events);
        self.schedule.dependencies.reserve(2 * events);
    }

    /// Notes the streamed units before index `to` that are not yet noted: those of `segment`.
    fn note_loads(&mut self, at: usize, to: u32, segment: u32) {
        let loader = &mut self.devices[at].loader;
        while let Some(&unit) = self.layout.shares[at].streamed.get(loader.bytes.len()).filter(|unit| unit.0 < to) {
            loader.bytes.push(self.costs.bytes[unit.index()]);
            loader.segments.push(segment);
        }
    }

    /// Whether each buffer holds what must be in memory at once.
    fn buffers_suffice(&self) -> bool {
        let layout = self.layout;
        for (share, Device { loader, .. }) in layout.shares.iter().zip(&self.devices) {
            let buffer = share.buffer;
            if loader.bytes.iter().any(|&bytes| bytes > buffer) {
                return false;
            }
            // With several micro-batches a unit stays until the last one has passed: a whole visit must fit.
            if self.tables.len() > 1 {
                let visit = |segment: u32| -> u64 {
                    let of = loader.bytes.iter().zip(&loader.segments);
                    of.filter(|(_, at)| **at == segment).map(|(bytes, _)| *bytes).sum()
                };
                if (0..=layout.segments).any(|segment| visit(segment) > buffer) {
                    return false;
                }
            }
        }
        true
    }

    fn layers(&mut self) {
        let layout = self.layout;
        for (segment, at, start, end) in layout.visits() {
            for micro_batch in 0..self.tables.len() {
                self.visit(at, micro_batch, range(segment, at, start, end));
                let finished = segment + 1 == layout.segments && at + 1 == layout.shares.len();
                if !(finished && layout.head == at) {
                    self.hop(at, micro_batch);
                }
            }
        }
    }

    /// One micro-batch on one device: pinned units in a row are one event, each streamed unit is one.
    fn visit(&mut self, at: usize, micro_batch: usize, (from, to): (u32, u32)) {
        let share = &self.layout.shares[at];
        let (mut arrived, delay) = self.arrivals[micro_batch];
        let mut delay = Some(delay);
        let mut from = from;
        let mut ordinal = self.devices[at].next_load;
        let table = self.tables[micro_batch];
        while let Some(&unit) = share.streamed.get(ordinal).filter(|unit| unit.0 < to) {
            let pinned = table.stretch(share.node, from, unit.0);
            if pinned > 0 {
                arrived = self.compute(at, micro_batch, pinned, arrived, delay.take());
            }
            if micro_batch == 0 {
                self.load(at, ordinal, unit);
            }
            let spent = table.compute[share.node][unit.index()];
            let event = self.compute(at, micro_batch, spent, arrived, delay.take());
            self.schedule.after(event, self.devices[at].loader.loads[ordinal], 0, 0);
            if micro_batch + 1 == self.tables.len() {
                self.devices[at].loader.releases.push(event);
            }
            ordinal += 1;
            arrived = event;
            from = unit.0 + 1;
        }
        let pinned = table.stretch(share.node, from, to);
        if pinned > 0 {
            arrived = self.compute(at, micro_batch, pinned, arrived, delay.take());
        }
        if let Some(delay) = delay {
            // Nothing to do here, or the very first event of a pass that has nothing before it.
            let event = self.schedule.event(EventKind::Relay, at, 0);
            self.arrive(event, micro_batch, arrived, delay);
            arrived = event;
        }
        if micro_batch + 1 == self.tables.len() {
            self.devices[at].next_load = ordinal;
        }
        self.arrivals[micro_batch] = (arrived, 0);
    }

    /// An event on `at`'s compute resource, after `arrived` and after everything that the device did before.
    fn compute(&mut self, at: usize, micro_batch: usize, spent: u64, arrived: u32, delay: Option<i64>) -> u32 {
        let event = self.schedule.event(EventKind::Compute, at, spent);
        match delay {
            Some(delay) => self.arrive(event, micro_batch, arrived, delay),
            None if self.devices[at].compute.is_none_or(|(_, last)| arrived != last) => {
                self.schedule.after(event, arrived, 0, 0);
            }
            None => {}
        }
        let used = &mut self.devices[at].compute;
        if let Some((_, last)) = *used {
            self.schedule.after(event, last, 0, 0);
        }
        *used = Some((used.map_or(event, |(first, _)| first), event));
        event
    }

    /// Ties an event to the activation that it works on; the first of a pass waits for the token before.
    fn arrive(&mut self, event: u32, micro_batch: usize, arrived: u32, delay: i64) {
        match arrived {
            NONE => self.entries[micro_batch] = event,
            arrived => self.schedule.after(event, arrived, delay, 0),
        }
    }

    fn load(&mut self, at: usize, ordinal: usize, unit: Unit) {
        let share = &self.layout.shares[at];
        let spent = self.costs.load[share.node][unit.index()];
        let event = self.schedule.event(EventKind::Load, at, spent);
        if let Some(&before) = self.devices[at].loader.loads.last() {
            self.schedule.after(event, before, 0, 0);
        }
        match self.devices[at].loader.predecessor(ordinal, share.buffer) {
            (earlier, 0) => {
                let release = self.devices[at].loader.releases[earlier];
                self.schedule.after(event, release, 0, 0);
            }
            // A release of the pass before: tied in `wrap`, when it is known.
            _ => self.schedule.ahead.push(event),
        }
        self.devices[at].loader.loads.push(event);
    }

    fn hop(&mut self, at: usize, micro_batch: usize) {
        let devices = self.layout.shares.len();
        if devices == 1 {
            return;
        }
        let (from, to) = (self.layout.shares[at].node, self.layout.shares[(at + 1) % devices].node);
        let link = self.fleet.link(from, to);
        let spent = self.tables[micro_batch].send[from][to];
        let event = self.schedule.event(EventKind::Send, at, spent);
        let (arrived, delay) = self.arrivals[micro_batch];
        self.schedule.after(event, arrived, delay, 0);
        let used = &mut self.devices[at].send;
        if let Some((_, last)) = *used {
            self.schedule.after(event, last, 0, 0);
        }
        *used = Some((used.map_or(event, |(first, _)| first), event));
        self.arrivals[micro_batch] = (event, link.latency.0.min(1 << 40) as i64);
    }

    fn head(&mut self) {
        let (devices, head) = (self.layout.shares.len(), self.layout.head);
        let unit = Unit::head(self.costs.layers).0;
        for micro_batch in 0..self.tables.len() {
            if head + 1 != devices {
                for at in 0..head {
                    self.hop(at, micro_batch);
                }
            }
            self.visit(head, micro_batch, (unit, unit + 1));
            let end = self.arrivals[micro_batch].0;
            self.schedule.ends.push(end);
        }
    }

    /// Ties the end of a pass to the beginning of the next.
    fn wrap(&mut self, feedback: Feedback) {
        for at in 0..self.layout.shares.len() {
            let Device { loader, compute, send, .. } = &self.devices[at];
            for (first, last) in [compute, send].into_iter().flatten() {
                self.schedule.after(*first, *last, 0, 1);
            }
            let Some((&first, &last)) = loader.loads.first().zip(loader.loads.last()) else { continue };
            self.schedule.after(first, last, 0, 1);
            for (ordinal, &load) in loader.loads.iter().enumerate() {
                if let (earlier, 1) = loader.predecessor(ordinal, self.layout.shares[at].buffer) {
                    self.schedule.after(load, loader.releases[earlier], 0, 1);
                }
            }
        }
        if feedback == Feedback::Token {
            let (from, to) = (self.layout.shares[self.layout.head].node, self.layout.shares[0].node);
            let back = self.fleet.link(from, to).latency.0.min(1 << 40) as i64;
            for micro_batch in 0..self.tables.len() {
                let end = self.schedule.ends[micro_batch];
                self.schedule.after(self.entries[micro_batch], end, back, 1);
            }
        }
    }
}
