//! Layer counts by formula: for a target time the most layers that each device can take, then the cheapest layers under those
//! caps, then bisection on the target. Good to a few per cent; simulation refines it.

use crate::cost::Unit;

use super::problem::{Problem, hops, signed};

/// Nothing that takes longer is worth estimating: nine years.
const LONGEST: u64 = 1 << 58;

/// A ring whose layers are not yet dealt out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// Nodes in ring order.
    pub(crate) order: Vec<usize>,
    /// Position of the head.
    pub(crate) head: usize,
    pub(crate) segments: u32,
    pub(crate) micro_batches: u32,
}

/// What the formula says of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Its measure: see [`super::request::Request::measure`].
    pub(crate) time: u64,
    /// Layers per position.
    pub(crate) layers: Vec<u32>,
}

/// One device as the formula sees it.
struct Station {
    /// Time of one layer on the way of a token.
    layer: u64,
    /// Time of one layer for a chunk of a prompt, and the share of all prompts' in one pass.
    chunk_layer: u64,
    chunk_share: u64,
    /// Time of embedding, head and hops for a chunk.
    chunk_fixed: u64,
    /// Time of one layer for all micro-batches.
    busy_layer: u64,
    /// Time of embedding and head for all micro-batches.
    busy_fixed: u64,
    /// Room with no layers, and what each layer adds and takes.
    room: i64,
    per_layer: i64,
    /// Layers that it can have without streaming.
    pinned: i64,
    /// Layers that it can have when every request is at its longest.
    most: u32,
    /// Streamable bytes beside layers.
    disk: Option<u64>,
    /// The same per 2^30 nanoseconds, so that bytes read in a time need no division.
    disk_fixed: u64,
}

impl Station {
    /// Bytes that the disk reads in so many nanoseconds.
    fn read_in(&self, nanos: u64) -> i64 {
        let read = (u128::from(nanos) * u128::from(self.disk_fixed)) >> 30;
        signed(u64::try_from(read).unwrap_or(u64::MAX).min(1 << 60))
    }
}

struct Stations<'p, 'a> {
    problem: &'p Problem<'a>,
    stations: Vec<Station>,
    segments: i64,
    batched: bool,
    /// Time that does not depend on who has which layers.
    fixed: u64,
    /// The same for a chunk of a prompt.
    chunk_fixed: u64,
    cheapest_first: Vec<usize>,
    /// Whether those are also in the order of what a layer takes of a pass.
    fastest_first: bool,
}

impl<'p, 'a> Stations<'p, 'a> {
    fn new(problem: &'p Problem<'a>, ring: &Ring) -> Self {
        let batches = problem.batches(ring.micro_batches);
        let most = batches[0].0;
        let micro_batches = ring.micro_batches.clamp(1, problem.sequences.max(1));
        let last = ring.order.len() - 1;
        let head = Unit::head(problem.card.layers);
        let request = &problem.request;
        let chunk = request.costs().rows(request.rows());
        let (mut fixed, mut chunk_fixed) = (0, 0);
        let mut stations = Vec::with_capacity(ring.order.len());
        for (at, &node) in ring.order.iter().enumerate() {
            let (is_first, is_head) = (at == 0, at == ring.head);
            let of = |unit: Unit| most.compute[node][unit.index()];
            let extra = if is_first { of(Unit::EMBEDDING) } else { 0 } + if is_head { of(head) } else { 0 };
            fixed += extra;
            let of_chunk = |unit: Unit| chunk.compute[node][unit.index()];
            let mut chunk_extra =
                if is_first { of_chunk(Unit::EMBEDDING) } else { 0 } + if is_head { of_chunk(head) } else { 0 };
            let mut sends = 0;
            if last > 0 {
                let next = ring.order[(at + 1) % ring.order.len()];
                let hops = hops(ring.order.len(), ring.head, ring.segments, at);
                fixed += hops * (most.send[node][next] + problem.fleet.link(node, next).latency.0);
                sends = hops * (chunk.send[node][next] + problem.fleet.link(node, next).latency.0);
            }
            chunk_fixed += chunk_extra + sends;
            chunk_extra = chunk_extra.max(sends);
            let layer_bytes = signed(problem.attention_bytes + problem.mlp_bytes);
            let kv = problem.room(node, 0, is_first, is_head) - problem.room(node, 1, is_first, is_head);
            let head_bytes = if is_head { signed(problem.head_bytes(is_first)) } else { 0 };
            let (room, per_layer) = (problem.room(node, 0, is_first, is_head) - head_bytes, layer_bytes + kv);
            stations.push(Station {
                pinned: (room / per_layer.max(1)).clamp(0, i64::from(problem.card.layers)),
                layer: most.layer[node],
                chunk_layer: chunk.layer[node],
                chunk_share: request.share(chunk.layer[node]),
                chunk_fixed: chunk_extra,
                busy_layer: batches.iter().map(|(table, count)| count * table.layer[node]).sum(),
                busy_fixed: extra * u64::from(micro_batches),
                room,
                per_layer,
                most: problem.most_layers(node, is_first, is_head),
                disk: problem.fleet.nodes()[node].disk_bandwidth,
                disk_fixed: problem.fleet.nodes()[node].disk_bandwidth.map_or(0, per_two_to_the_30),
            });
        }
        if last > 0 {
            fixed += problem.fleet.link(ring.order[ring.head], ring.order[0]).latency.0;
        }
        let mut cheapest_first: Vec<usize> = (0..stations.len()).collect();
        cheapest_first.sort_by_key(|&at| stations[at].layer + stations[at].chunk_share);
        let batched = micro_batches > 1;
        let fastest_first = cheapest_first.is_sorted_by_key(|&at| stations[at].layer);
        Self {
            problem,
            stations,
            segments: i64::from(ring.segments),
            batched,
            fixed,
            chunk_fixed,
            cheapest_first,
            fastest_first,
        }
    }

    /// Whether the device at `at` can have `layers` layers in a pass of `time` without making anybody wait.
    fn keeps_up(&self, at: usize, layers: u32, time: u64) -> bool {
        let station = &self.stations[at];
        if layers > station.most || station.busy_fixed + u64::from(layers) * station.busy_layer > time {
            return false;
        }
        let deficit = i64::from(layers) * station.per_layer - station.room;
        if deficit <= 0 {
            return true;
        }
        if station.disk.is_none() {
            return false;
        }
        // A device with fewer layers than there are segments is visited less often.
        let visits = self.segments.min(i64::from(layers));
        // What a visit consumes must have been read ahead, less what is read while the device computes.
        let during = if self.batched { 0 } else { station.read_in(u64::from(layers) * station.layer) / visits };
        let most = station.read_in(time);
        let sizes = [signed(self.problem.attention_bytes), signed(self.problem.mlp_bytes)];
        sets_to_stream(sizes, i64::from(layers)).any(|way| way.suffices(deficit, visits, during, most))
    }

    /// Layers with which a device keeps up in any case, and more than which it never does.
    fn bracket(&self, at: usize, time: u64) -> (u32, u32) {
        let station = &self.stations[at];
        let all = i64::from(self.problem.card.layers);
        let busy = signed(time.saturating_sub(station.busy_fixed) / station.busy_layer.max(1));
        let pinned = station.pinned;
        let streamed = match station.disk {
            Some(_) => (station.room.saturating_add(station.read_in(time)) / station.per_layer.max(1)).clamp(0, all),
            None => pinned,
        };
        (pinned.min(busy) as u32, streamed.min(busy) as u32)
    }

    /// The most layers with which a device keeps up.
    fn cap(&self, at: usize, time: u64) -> u32 {
        let (mut low, mut high) = self.bracket(at, time);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.keeps_up(at, middle, time) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// The measure of these layers where a pass takes `pass`.
    fn measure(&self, pass: u64, layers: &[u32]) -> u64 {
        let (mut chain, mut busiest, mut streams) = (self.chunk_fixed, 0, false);
        for (station, &layers) in self.stations.iter().zip(layers) {
            let time = u64::from(layers) * station.chunk_layer;
            chain += time;
            busiest = busiest.max(time).max(station.chunk_fixed);
            streams |= i64::from(layers) * station.per_layer > station.room;
        }
        let (prompts, first) = self.problem.request.guess(chain, busiest, streams && self.segments > 1);
        self.problem.request.measure(pass, prompts, first)
    }

    /// Whether all layers could be dealt in a pass of `time` if every device kept up with as many as it might: much less work than to
    /// deal them.
    fn may_deal(&self, time: u64) -> bool {
        let (mut left, mut spent) = (self.problem.card.layers, self.fixed);
        for &at in &self.cheapest_first {
            let layers = self.bracket(at, time).1.min(left);
            left -= layers;
            spent += u64::from(layers) * self.stations[at].layer;
            if left == 0 {
                break;
            }
        }
        left == 0 && (spent <= time || !self.fastest_first)
    }

    /// The cheapest deal of all layers in a pass of `time`; `None` where there is none.
    fn deal(&self, time: u64) -> Option<Vec<u32>> {
        if !self.may_deal(time) {
            return None;
        }
        let mut left = self.problem.card.layers;
        let mut layers = vec![0; self.stations.len()];
        let mut spent = self.fixed;
        for &at in &self.cheapest_first {
            layers[at] = self.cap(at, time).min(left);
            left -= layers[at];
            spent += u64::from(layers[at]) * self.stations[at].layer;
            if spent > time {
                return None;
            }
            if left == 0 {
                return Some(layers);
            }
        }
        None
    }
}

/// The least time that the formula believes possible on a ring, and the layers for it; `None` where that is not below `limit`.
pub(crate) fn estimate(problem: &Problem<'_>, ring: &Ring, limit: u64) -> Option<Estimate> {
    let stations = Stations::new(problem, ring);
    let below = limit;
    let (prompts, first) = problem.request.floor(stations.chunk_fixed, 0);
    let limit = problem.request.pass_below(below, prompts, first);
    if stations.fixed >= limit {
        return None;
    }
    stations.deal(limit.min(LONGEST) - 1)?;
    // The same steps whatever the limit, so that a ring is dealt alike whoever asks.
    let mut high = LONGEST - 1;
    while high / 4 >= limit {
        high /= 4;
    }
    let mut layers = stations.deal(high)?;
    let mut low = stations.fixed;
    // Down from afar by factors, then by halves: a part in a thousand is finer than the formula deserves.
    while high / 4 > low {
        match stations.deal(high / 4) {
            Some(found) => (high, layers) = (high / 4, found),
            None => low = high / 4,
        }
    }
    while high.saturating_sub(low) > high / 1024 + 1 {
        let middle = low + (high - low) / 2;
        match stations.deal(middle) {
            Some(found) => (high, layers) = (middle, found),
            None => low = middle,
        }
    }
    let time = stations.measure(high, &layers);
    (high < limit && time < below).then_some(Estimate { time, layers })
}

/// Layers dealt one by one where they delay the token least, waiting for the disk counted in full: what a single segment
/// or a hopeless fleet needs. Without `may_stream`, everything must stay in memory.
pub(crate) fn deal_by_delay(problem: &Problem<'_>, ring: &Ring, may_stream: bool) -> Option<Estimate> {
    let stations = Stations::new(problem, ring);
    let delay = |at: usize, layers: u32| -> Option<u64> {
        let station = &stations.stations[at];
        if layers > station.most {
            return None;
        }
        let compute = u64::from(layers) * station.layer;
        let deficit = i64::from(layers) * station.per_layer - station.room;
        if deficit <= 0 {
            return Some(compute);
        }
        if !may_stream {
            return None;
        }
        let (attention, mlp) = (signed(problem.attention_bytes), signed(problem.mlp_bytes));
        let block = if deficit + attention <= i64::from(layers) * attention { attention } else { attention.max(mlp) };
        let streamable = i64::from(layers) * signed(problem.attention_bytes + problem.mlp_bytes);
        let fits = deficit + block <= streamable;
        let reading = crate::cost::nanos(deficit as u64, station.disk?);
        fits.then_some(compute.max(reading))
    };
    // Where prompts pass slowly counts as well.
    let share = |at: usize, layers: u32| u64::from(layers) * stations.stations[at].chunk_share;
    let cost = |at: usize, layers: u32| delay(at, layers).map(|time| time + share(at, layers));
    let mut layers = vec![0_u32; ring.order.len()];
    let mut spent: Vec<u64> = vec![0; ring.order.len()];
    // What one layer more would add on each device.
    let mut more: Vec<Option<u64>> = (0..ring.order.len()).map(|at| cost(at, 1)).collect();
    for _ in 0..problem.card.layers {
        let (added, at) = more.iter().enumerate().filter_map(|(at, added)| Some(((*added)?, at))).min()?;
        layers[at] += 1;
        spent[at] += added;
        more[at] = cost(at, layers[at] + 1).map(|time| time.saturating_sub(spent[at]));
    }
    let pass = layers.iter().enumerate().map(|(at, &layers)| spent[at] - share(at, layers)).sum::<u64>();
    let time = stations.measure(stations.fixed + pass, &layers);
    Some(Estimate { time, layers })
}

fn per_two_to_the_30(per_second: u64) -> u64 {
    u64::try_from((u128::from(per_second) << 30) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Blocks to stream: some in any case, and as many of one size as it takes.
struct StreamedSet {
    /// Bytes that stream in any case, and the largest block of them.
    always: i64,
    largest: i64,
    /// Size of the others, and how many there are.
    each: i64,
    count: i64,
}

/// Attention only, MLPs only, all attention and some MLPs.
fn sets_to_stream([attention, mlp]: [i64; 2], layers: i64) -> impl Iterator<Item = StreamedSet> {
    let only = |each: i64| StreamedSet { always: 0, largest: each, each, count: layers };
    let both = StreamedSet { always: layers * attention, largest: attention.max(mlp), each: mlp, count: layers };
    [only(attention), only(mlp), both].into_iter()
}

impl StreamedSet {
    /// Whether some number of blocks frees `deficit` bytes and a buffer that makes nobody wait, within `most` bytes a pass.
    fn suffices(&self, deficit: i64, visits: i64, during: i64, most: i64) -> bool {
        let enough = |count: i64| {
            let streamed = self.always + count * self.each;
            let buffer = streamed - deficit;
            let visit = (self.always + visits - 1) / visits + (count + visits - 1) / visits * self.each;
            let ahead = if visits == 1 { deficit <= during } else { visit - during <= buffer };
            (buffer >= self.largest && ahead, streamed <= most)
        };
        let least = ((deficit + self.largest - self.always).max(0) + self.each - 1) / self.each;
        // More blocks free more than their share of a visit takes, so a few steps decide.
        for count in least..=(least + 3).min(self.count) {
            match enough(count) {
                (_, false) => return false,
                (true, true) => return true,
                (false, true) => {}
            }
        }
        if least + 3 >= self.count || visits == 1 {
            return false;
        }
        // Beyond a few steps: the count at which a visit's share fits by proportion, then one more for whole blocks.
        let wanted = (deficit - during).max(0) * visits / (visits - 1).max(1) - self.always;
        let count = (wanted.max(0) + self.each - 1) / self.each;
        (count..=(count + 2).min(self.count)).any(|count| enough(count) == (true, true))
    }
}
