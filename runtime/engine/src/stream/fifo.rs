//! Which streamed block lies where in the buffer, what is read next and what may be overwritten: bookkeeping without I/O.
//!
//! The buffer is a first-in, first-out queue of bytes. Blocks enter it in the cyclic order in which passes meet them and
//! leave it in the same order; a block enters piece by piece, each as soon as its bytes fit behind those that are still needed.
//! Nothing is lost to fragmentation, because a range may run over the buffer's end. The planner's model of the buffer is this one,
//! but for blocks that enter whole: it promises no more than is kept.

use std::collections::VecDeque;

use lime_plan::{Block, Bytes};

/// A block that passes through the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streamed {
    pub(crate) block: Block,
    /// Its size in the buffer.
    pub(crate) bytes: u64,
    /// The visit of a pass in which it is met.
    pub(crate) segment: u32,
}

/// Names one passage of one block through the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage(u64);

/// A read to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) passage: Passage,
    /// Which block, as its place in the order.
    pub(crate) index: usize,
    /// From where in the block.
    pub(crate) from: u64,
    pub(crate) bytes: u64,
    /// To where in the buffer.
    pub(crate) to: u64,
}

/// The answer to a wish for a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted<F> {
    /// It is there, from this place in the buffer on; to be given back with [`Fifo::give_back`].
    Here { passage: Passage, at: u64, bytes: u64 },
    /// It is being read, or will be as soon as there is room.
    Coming,
    /// It could not be read. Asking again reads again.
    Failed(F),
    /// It can never come: what the caller itself holds leaves no room for it.
    Stuck,
    /// It is not in the order.
    Unknown,
}

/// One passage.
#[derive(Debug)]
struct Entry<F> {
    index: usize,
    /// Bytes that entered the buffer before it, ever.
    start: u64,
    bytes: u64,
    /// Bytes for which reads were handed out, and for which they came back.
    asked: u64,
    arrived: u64,
    uses: u32,
    holders: u32,
    /// Of each read, as they are told; taken when they are compared.
    digests: Vec<u128>,
    /// Nobody will ask for it any more.
    over: bool,
    /// A pass that follows the last user at once will use it too.
    kept: bool,
    /// A pass has come to it and waits.
    awaited: bool,
    fault: Option<F>,
}

impl<F> Entry<F> {
    const fn in_flight(&self) -> bool {
        self.asked > self.arrived
    }

    const fn may_leave(&self) -> bool {
        self.over && self.holders == 0 && !self.in_flight()
    }
}

/// The buffer's state.
#[derive(Debug)]
pub(crate) struct Fifo<F> {
    order: Vec<Streamed>,
    /// Which of them stream now; the others are passed over.
    streams: Vec<bool>,
    capacity: u64,
    /// Most bytes of one read.
    request: u64,
    /// So many micro-batches meet a block before it may leave.
    uses: u32,
    entries: VecDeque<Entry<F>>,
    /// The number of the front entry.
    first: u64,
    /// Bytes that ever entered.
    entered: u64,
    /// The place in the order that enters next.
    next: usize,
    /// The place in the order for which a pass waits.
    awaited: Option<usize>,
    /// Whether the pass that asks is followed at once by one that meets the same blocks in the same visits.
    followed: bool,
    /// Bytes that were read and that no pass used.
    wasted: u64,
}

impl<F> Fifo<F> {
    /// A buffer of `capacity` bytes, in which each block is used `uses` times and read in pieces of `request` bytes.
    ///
    /// # Panics
    /// When a block is larger than the buffer.
    pub(crate) fn new(order: Vec<Streamed>, capacity: u64, request: u64, uses: u32) -> Self {
        assert!(order.iter().all(|streamed| streamed.bytes <= capacity), "a block is larger than its buffer");
        let (request, uses) = (request.max(1), uses.max(1));
        let entries = VecDeque::with_capacity(order.len() + 1);
        let streams = vec![true; order.len()];
        Self {
            order,
            streams,
            capacity,
            request,
            uses,
            entries,
            first: 0,
            entered: 0,
            next: 0,
            awaited: None,
            followed: false,
            wasted: 0,
        }
    }

    /// Whether `block` streams from now on. One that begins to is read where it stands in the order: what was read for after it
    /// gives way. One that ceases to is read no more.
    pub(crate) fn set_streams(&mut self, block: Block, streams: bool) {
        let Some(index) = self.order.iter().position(|streamed| streamed.block == block) else { return };
        if self.streams[index] == streams {
            return;
        }
        self.streams[index] = streams;
        if streams {
            self.make_way(index);
        } else {
            self.entries.iter_mut().filter(|entry| entry.index == index).for_each(|entry| entry.over = true);
        }
        self.leave();
    }

    /// Gives up what is in the queue behind the place of `index`, which enters next.
    fn make_way(&mut self, index: usize) {
        let length = self.order.len();
        let ahead = |from: usize, to: usize| (to + length - from - 1) % length;
        let mut live: Vec<usize> = Vec::with_capacity(self.entries.len() + 1);
        live.extend((0..self.entries.len()).filter(|&place| !self.entries[place].over));
        for (nth, &place) in live.iter().enumerate() {
            let behind = live.get(nth + 1).map_or(self.next, |&place| self.entries[place].index);
            if ahead(self.entries[place].index, index) < ahead(self.entries[place].index, behind) {
                self.entries.iter_mut().skip(place + 1).for_each(|entry| entry.over = true);
                self.next = index;
                return;
            }
        }
    }

    /// The place in the order that enters next; `None` where nothing streams.
    fn upcoming(&self) -> Option<usize> {
        let length = self.order.len();
        (0..length).map(|ahead| (self.next + ahead) % length).find(|&index| self.streams[index])
    }

    /// The next read that there is room for.
    pub(crate) fn next_read(&mut self) -> Option<Request> {
        let unread = |entry: &Entry<F>| !entry.over && entry.fault.is_none() && entry.asked < entry.bytes;
        let place = match self.entries.iter().position(unread) {
            Some(place) => place,
            None => self.admit()?,
        };
        let (capacity, first, end) = (self.capacity, self.first, self.oldest() + self.capacity);
        let entry = &mut self.entries[place];
        let bytes = (entry.bytes - entry.asked).min(self.request);
        if entry.start + entry.asked + bytes > end {
            return None;
        }
        let (from, to) = (entry.asked, (entry.start + entry.asked) % capacity);
        entry.asked += bytes;
        Some(Request { passage: Passage(first + place as u64), index: entry.index, from, bytes, to })
    }

    /// Lets the next block of the order in, where there is room for its first read; gives its place in the queue.
    fn admit(&mut self) -> Option<usize> {
        let index = self.upcoming()?;
        let Streamed { bytes, .. } = self.order[index];
        if !self.has_room(bytes.min(self.request)) {
            return None;
        }
        self.entries.push_back(Entry {
            index,
            start: self.entered,
            bytes,
            asked: 0,
            arrived: 0,
            uses: 0,
            holders: 0,
            digests: Vec::new(),
            over: false,
            kept: false,
            awaited: self.awaited == Some(index),
            fault: None,
        });
        self.entered += bytes;
        self.next = (index + 1) % self.order.len();
        Some(self.entries.len() - 1)
    }

    /// Where what is still needed begins, counted from the first byte that ever entered.
    fn oldest(&self) -> u64 {
        self.entries.front().map_or(self.entered, |entry| entry.start)
    }

    /// Whether so many bytes more fit behind all that has entered.
    fn has_room(&self, bytes: u64) -> bool {
        self.entered + bytes <= self.oldest() + self.capacity
    }

    /// Notes the digest of what a read gave. It is told before [`Fifo::read_done`] is.
    pub(crate) fn note_digest(&mut self, request: Request, digest: u128) {
        let place = (request.from / self.request) as usize;
        let Some(entry) = self.entry(request.passage) else { return };
        if entry.digests.len() <= place {
            entry.digests.resize(place + 1, 0);
        }
        entry.digests[place] = digest;
    }

    /// The digests of a passage's reads, in order, to be compared before anybody computes with its bytes; nothing where that was
    /// done, or none were told.
    pub(crate) fn take_digests(&mut self, passage: Passage) -> Vec<u128> {
        self.entry(passage).map(|entry| std::mem::take(&mut entry.digests)).unwrap_or_default()
    }

    /// Gives up all that was read: whoever asks next has it read anew. Nobody waits for a block.
    pub(crate) fn give_up(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.over = true);
        self.leave();
    }

    /// Notes that a read is over.
    pub(crate) fn read_done(&mut self, request: Request, outcome: Result<(), F>) {
        if let Some(entry) = self.entry(request.passage) {
            entry.arrived += request.bytes;
            if let Err(fault) = outcome {
                entry.fault.get_or_insert(fault);
            }
        }
        self.leave();
    }

    /// Says whether the pass that asks from now on is followed at once by one that meets the same blocks in the same visits: what it
    /// uses stays for that one.
    pub(crate) fn set_followed(&mut self, followed: bool) {
        self.followed = followed;
    }

    /// Asks for `block`. What lies before it in the order and was not asked for is skipped; a block that is not on its way
    /// is read next, and so is one that was read ahead in vain: that the disk was away then says nothing of now.
    pub(crate) fn want(&mut self, block: Block) -> Wanted<F> {
        let Some(index) = self.order.iter().position(|streamed| streamed.block == block) else {
            return Wanted::Unknown;
        };
        if !self.streams[index] {
            return Wanted::Unknown;
        }
        let place = self.entries.iter().position(|entry| !entry.over && entry.index == index);
        let wanted = match place {
            Some(place) => self.at_hand(place),
            None => self.fetch(index),
        };
        self.awaited = matches!(wanted, Wanted::Coming).then_some(index);
        wanted
    }

    /// The block is in the queue.
    fn at_hand(&mut self, place: usize) -> Wanted<F> {
        let Entry { index, uses, .. } = self.entries[place];
        self.pass_over(place, self.order[index].segment, uses);
        let (first, most, followed) = (self.first, self.uses, self.followed);
        let entry = &mut self.entries[place];
        if let Some(fault) = entry.fault.take() {
            entry.over = true;
            let awaited = entry.awaited;
            self.leave();
            return if awaited { Wanted::Failed(fault) } else { self.fetch(index) };
        }
        if entry.arrived < entry.bytes {
            let end = entry.start + entry.bytes;
            entry.awaited = true;
            self.leave();
            return self.clear_until(end);
        }
        // A second holder at the same time belongs to the same use.
        entry.uses += u32::from(entry.holders == 0);
        debug_assert!(entry.uses <= most || entry.kept || followed, "a block was kept longer than anybody needed it");
        entry.kept = followed;
        entry.holders += 1;
        let (passage, at) = (Passage(first + place as u64), entry.start % self.capacity);
        let bytes = entry.bytes;
        self.leave();
        Wanted::Here { passage, at, bytes }
    }

    /// The block is not in the queue: it must be the next to enter.
    fn fetch(&mut self, index: usize) -> Wanted<F> {
        let Streamed { segment, bytes, .. } = self.order[index];
        let ahead = self.entries.len();
        if Some(index) == self.upcoming() {
            self.pass_over(ahead, segment, 0);
        } else {
            self.entries.iter_mut().for_each(|entry| entry.over = true);
            self.next = index;
        }
        self.leave();
        self.clear_until(self.entered + bytes)
    }

    /// Sees to it that a block which ends there will fit: blocks before it that are kept for further micro-batches give way when
    /// nothing else helps.
    fn clear_until(&mut self, end: u64) -> Wanted<F> {
        while end > self.oldest() + self.capacity {
            let kept = |entry: &&mut Entry<F>| !entry.over && entry.start + entry.bytes < end;
            let Some(kept) = self.entries.iter_mut().find(kept) else { break };
            kept.over = true;
            self.leave();
        }
        let fits = end <= self.oldest() + self.capacity;
        if fits || self.entries.iter().any(Entry::in_flight) { Wanted::Coming } else { Wanted::Stuck }
    }

    /// Gives up what lies before `place`, unless micro-batches to come still meet it in the same visit.
    fn pass_over(&mut self, place: usize, segment: u32, uses: u32) {
        let order = &self.order;
        for entry in self.entries.iter_mut().take(place) {
            entry.over |= order[entry.index].segment != segment || entry.uses <= uses;
        }
    }

    /// Notes that the bytes of a passage are of no use; gives the block's place in the order. It is still to be given back.
    pub(crate) fn spoil(&mut self, passage: Passage) -> Option<usize> {
        let entry = self.entry(passage)?;
        entry.over = true;
        Some(entry.index)
    }

    /// Gives back what [`Fifo::want`] gave.
    pub(crate) fn give_back(&mut self, passage: Passage) {
        let most = self.uses;
        if let Some(entry) = self.entry(passage) {
            entry.holders = entry.holders.saturating_sub(1);
            entry.over |= entry.uses >= most && !entry.kept && entry.holders == 0;
        }
        self.leave();
    }

    /// Bytes read in vain since the beginning.
    pub(crate) const fn wasted(&self) -> u64 {
        self.wasted
    }

    fn entry(&mut self, passage: Passage) -> Option<&mut Entry<F>> {
        let place = passage.0.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
    }

    /// Takes what is done with from the front, and from the end what was read too early: its bytes are free.
    fn leave(&mut self) {
        let unused = |gone: &Entry<F>| if gone.uses == 0 { gone.arrived } else { 0 };
        while self.entries.front().is_some_and(Entry::may_leave) {
            if let Some(gone) = self.entries.pop_front() {
                self.first += 1;
                self.wasted += unused(&gone);
            }
        }
        while self.entries.back().is_some_and(Entry::may_leave) {
            if let Some(gone) = self.entries.pop_back() {
                self.entered = gone.start;
                self.wasted += unused(&gone);
            }
        }
    }
}

/// Whether blocks of these sizes need a buffer in which ranges may run over the end, and how many of `budget` bytes they can use:
/// equal blocks fill whole slots, and no slot runs over the end.
pub(crate) fn buffer_size(sizes: &[u64], budget: Bytes) -> (u64, bool) {
    let sum: u64 = sizes.iter().sum();
    let usable = budget.0.min(sum);
    match sizes.first() {
        Some(&size) if size > 0 && sizes.iter().all(|other| *other == size) => (usable / size * size, false),
        _ => (usable / lime_model::BLOCK_ALIGNMENT * lime_model::BLOCK_ALIGNMENT, true),
    }
}

#[cfg(test)]
mod tests;
