//! The keeping side: pages of one asking device in the room that the plan reserves for them. Whatever it is asked is foreign.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lime_kernels::{
    AlignedBuf, AttentionArgs, AttentionBounds, AttentionRow, Isa, KV_PAGE_TOKENS, Kernels, KvLayout,
    attention_state_floats,
};
use lime_plan::{Bytes, DeviceIndex, DeviceSteps, KeptRows, Plan};

use super::KeeperError;
use crate::{
    engine_error::EngineError,
    kv::{Grains, pool},
};

/// What a device keeps for others, to be read while it changes.
#[derive(Debug, Default)]
pub struct KeptCounters {
    bytes: AtomicU64,
    pages: AtomicU64,
    questions: AtomicU64,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptFigures {
    /// Memory that others' pages take.
    pub bytes: Bytes,
    /// How many there are.
    pub pages: u64,
    /// Questions answered about them: one a layer and pass.
    pub questions: u64,
}

impl KeptCounters {
    /// The figures now.
    pub fn figures(&self) -> KeptFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeptFigures { bytes: Bytes(count(&self.bytes)), pages: count(&self.pages), questions: count(&self.questions) }
    }
}

/// KV pages that this device keeps for another one of the plan. Memory comes to them as they come.
pub struct KeptPages {
    kernels: Kernels,
    layout: KvLayout,
    heads: usize,
    slots: u32,
    most_rows: usize,
    storage: AlignedBuf,
    grains: Grains,
    /// Places that were used and are not; those from `fresh` to before `places` never were.
    free: BTreeSet<u32>,
    fresh: u32,
    places: u32,
    kept: BTreeMap<u32, Vec<u32>>,
    counters: Arc<KeptCounters>,
    /// What is counted there of these pages.
    counted: (Bytes, u64),
}

impl KeptPages {
    /// Room for what `asker` counts on in a plan that has been checked.
    ///
    /// # Errors
    /// When `asker` hands no pages to `keeper`, or there are no addresses for them.
    pub fn new(
        plan: &Plan,
        asker: DeviceIndex,
        keeper: DeviceIndex,
        kernels: (Isa, usize),
        counters: Arc<KeptCounters>,
    ) -> Result<Self, EngineError> {
        let device = plan.devices.get(asker.0 as usize);
        let device = device.ok_or(EngineError::Device { device: asker.0, devices: plan.devices.len() })?;
        let steps = DeviceSteps::of(plan, device)?;
        let over = steps.hand_over().filter(|over| over.to == keeper);
        let over = over.ok_or_else(|| {
            let what = format!("the plan lets device {:?} keep no pages here", device.name);
            EngineError::Keeper(KeeperError::Refused { what })
        })?;
        let card = &plan.model;
        let layout = KvLayout {
            ty: plan.kv,
            kv_heads: card.kv_heads as usize,
            head_dim: card.head_dim as usize,
            layers: device.attentions() as usize,
        };
        let bytes = layout.page_bytes() * over.pages as usize;
        Ok(Self {
            kernels: Kernels::new(kernels.0, kernels.1.max(1)),
            heads: card.heads as usize,
            slots: plan.serving.max_concurrent_requests,
            most_rows: plan.serving.max_rows() as usize,
            storage: pool(bytes)?,
            grains: Grains::new(layout.page_bytes(), over.pages as usize),
            free: BTreeSet::new(),
            fresh: 0,
            places: over.pages,
            kept: BTreeMap::new(),
            layout,
            counters,
            counted: (Bytes::ZERO, 0),
        })
    }

    /// Bytes of a page.
    pub const fn page_bytes(&self) -> usize {
        self.layout.page_bytes()
    }

    /// Bytes of the queries of `rows` rows.
    pub const fn query_bytes(&self, rows: usize) -> usize {
        rows * self.heads * self.layout.head_dim * size_of::<f32>()
    }

    /// Keeps page number `page` of `slot`.
    ///
    /// # Errors
    /// A page of another size or out of turn, or no room.
    pub fn store(&mut self, slot: u32, page: u32, bytes: &[u8]) -> Result<(), KeeperError> {
        let size = self.page_bytes();
        if bytes.len() != size {
            return refuse(format!("a page of {} bytes, they have {size}", bytes.len()));
        }
        if slot >= self.slots {
            return refuse(format!("a page of slot {slot}, the plan has {}", self.slots));
        }
        let held = self.kept.get(&slot).map_or(0, Vec::len);
        if held != page as usize {
            return refuse(format!("page {page} of slot {slot}, page {held} is next"));
        }
        let Some(place) = self.place() else {
            return Err(KeeperError::NoRoom { slot, page });
        };
        self.storage[place as usize * size..][..size].copy_from_slice(bytes);
        self.grains.take(place);
        self.kept.entry(slot).or_default().push(place);
        self.count();
        Ok(())
    }

    /// Gives page number `page` of `slot` back, the last that is kept.
    ///
    /// # Errors
    /// A page that is not the last.
    pub fn take_back<T>(&mut self, slot: u32, page: u32, with: impl FnOnce(&[u8]) -> T) -> Result<T, KeeperError> {
        let held = self.kept.get_mut(&slot).filter(|held| held.len() == page as usize + 1);
        let Some(place) = held.and_then(Vec::pop) else {
            return refuse(format!("page {page} of slot {slot} is not the last that is kept"));
        };
        let size = self.page_bytes();
        let taken = with(&self.storage[place as usize * size..][..size]);
        self.forget(place);
        self.count();
        Ok(taken)
    }

    /// Where each row's heads stand after the pages that are kept.
    ///
    /// # Errors
    /// Pages that are not here, rows or queries beyond the plan's.
    pub fn attend(&self, layer: u32, rows: &[KeptRows], queries: &[f32]) -> Result<Vec<f32>, KeeperError> {
        let total: u64 = rows.iter().map(|part| u64::from(part.count)).sum();
        if total == 0 || total > self.most_rows as u64 || layer as usize >= self.layout.layers {
            return refuse(format!("{total} rows in layer {layer} of {}", self.layout.layers));
        }
        let total = total as usize;
        if queries.len() != total * self.heads * self.layout.head_dim {
            return refuse(format!("{} queries of {total} rows", queries.len()));
        }
        let mut attended = Vec::with_capacity(total);
        for part in rows {
            let pages = self.kept.get(&part.slot).map_or(&[][..], Vec::as_slice);
            if part.pages == 0 || part.pages as usize != pages.len() {
                return refuse(format!("{} pages of slot {}, {} are kept", part.pages, part.slot, pages.len()));
            }
            let position = part.pages * KV_PAGE_TOKENS as u32 - 1;
            attended.extend((0..part.count).map(|_| AttentionRow { position, pages }));
        }
        let args = AttentionArgs {
            q: queries,
            heads: self.heads,
            layout: self.layout,
            layer: layer as usize,
            scale: scale(self.layout.head_dim),
            bounds: AttentionBounds::default(),
            storage: &self.storage,
            rows: &attended,
        };
        let mut state = vec![0.0; total * attention_state_floats(self.heads, self.layout.head_dim)];
        self.kernels.attention_state(&args, &mut state);
        self.counters.questions.fetch_add(1, Ordering::Relaxed);
        Ok(state)
    }

    /// Forgets a sequence.
    pub fn release(&mut self, slot: u32) {
        for place in self.kept.remove(&slot).unwrap_or_default() {
            self.forget(place);
        }
        self.count();
    }

    /// The lowest place that is free: pages lie together.
    fn place(&mut self) -> Option<u32> {
        self.free.pop_first().or_else(|| {
            let place = self.fresh;
            (place < self.places).then(|| {
                self.fresh += 1;
                place
            })
        })
    }

    fn forget(&mut self, place: u32) {
        self.free.insert(place);
        if let Some(idle) = self.grains.give_back(place) {
            self.storage.give_back(idle);
        }
    }

    /// Tells the counters what has changed: others count there as well.
    fn count(&mut self) {
        let now = (self.grains.in_use(), self.kept.values().map(Vec::len).sum::<usize>() as u64);
        let differ = |counter: &AtomicU64, now: u64, before: u64| {
            counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        };
        differ(&self.counters.bytes, now.0.0, self.counted.0.0);
        differ(&self.counters.pages, now.1, self.counted.1);
        self.counted = now;
    }
}

impl Drop for KeptPages {
    fn drop(&mut self) {
        self.kept.clear();
        self.grains = Grains::new(self.layout.page_bytes(), 0);
        self.count();
    }
}

/// The factor of attention's scores.
pub(crate) fn scale(head_dim: usize) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}

const fn refuse<T>(what: String) -> Result<T, KeeperError> {
    Err(KeeperError::Refused { what })
}
