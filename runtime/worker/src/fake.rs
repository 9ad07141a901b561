//! A deterministic stand-in for the engine: integer arithmetic whose result depends on every token, layer, position and
//! slot, so that a wrong route, order or slot shows. For tests of rings and of gateways; it loads no weights.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use lime_plan::{
    BatchRows, Block, Bytes as Size, DeviceIndex, KV_PAGE_TOKENS, LayerIndex, PageName, Plan, SegmentIndex,
};
use lime_ring::proto::{LogitBias, Token, TokenSet};

use crate::{
    compute::{Compute, ComputeError, Draw, Footprint, Loader, Mended, NamedPages, Scored},
    failure::Failure,
};

/// Values stay below this, exact in f32.
const MODULUS: u64 = 65_521;

/// How a fake behaves.
#[derive(Clone, Debug, Default)]
pub struct FakeLoader {
    /// Takes this long to load.
    pub load_time: Duration,
    /// How often it was asked to load, its clones included.
    pub loads: Arc<AtomicU32>,
    /// Refuses to load.
    pub load_failure: Option<String>,
    /// Takes this long for each layer.
    pub layer_time: Duration,
    /// Fails a pass that embeds this token.
    pub failing_token: Option<u32>,
    /// Panics when it embeds this token.
    pub panicking_token: Option<u32>,
    /// Hangs so long over a pass that embeds this token.
    pub hanging_token: Option<(u32, Duration)>,
    /// Blocks that are damaged, its clones' included: passes fail until they have been compared.
    pub damaged: Arc<AtomicU32>,
    /// How often it compared its blocks, its clones included.
    pub compared: Arc<AtomicU32>,
    /// Whether it keeps no page that it is asked to.
    pub keeps_nothing: bool,
}

impl Loader for FakeLoader {
    fn load(
        &mut self,
        plan: &Plan,
        device: DeviceIndex,
        progress: &mut dyn FnMut(Size, Size),
    ) -> Result<Box<dyn Compute>, ComputeError> {
        const STEPS: u32 = 20;
        self.loads.fetch_add(1, Ordering::Relaxed);
        let total = plan.devices[device.0 as usize].memory.pinned;
        for step in 0..STEPS {
            progress(Size(total.0 * u64::from(step) / u64::from(STEPS)), total);
            thread::sleep(self.load_time / STEPS);
        }
        progress(total, total);
        if let Some(failure) = &self.load_failure {
            return Err(ComputeError::new(failure.clone()));
        }
        Ok(Box::new(Fake {
            options: self.clone(),
            plan: plan.clone(),
            device,
            hidden: plan.model.hidden as usize,
            values: Vec::new(),
            kv: HashMap::new(),
            kept: HashMap::new(),
            named: HashMap::new(),
            left: HashMap::new(),
            forgotten: Vec::new(),
        }))
    }
}

/// A page of every layer here.
type Page = HashMap<LayerIndex, Vec<u64>>;

/// A fake engine: one value per row, and per layer and slot what was seen so far.
struct Fake {
    options: FakeLoader,
    plan: Plan,
    device: DeviceIndex,
    hidden: usize,
    values: Vec<u64>,
    kv: HashMap<(u32, LayerIndex), Vec<u64>>,
    /// By number, a page of every layer here.
    kept: HashMap<u64, Page>,
    /// Numbers of those that have a name, and what is left of epochs before.
    named: HashMap<PageName, u64>,
    left: HashMap<PageName, Page>,
    forgotten: Vec<u64>,
}

impl Fake {
    fn layer(&mut self, layer: LayerIndex, batch: &[BatchRows]) -> Result<(), ComputeError> {
        let mut row = 0;
        for rows in batch {
            let seen = self.kv.entry((rows.slot, layer)).or_default();
            if seen.len() < rows.start as usize {
                return Err(ComputeError::new(format!(
                    "slot {} holds {} positions, rows come from {}",
                    rows.slot,
                    seen.len(),
                    rows.start
                )));
            }
            seen.truncate(rows.start as usize);
            for value in &mut self.values[row..row + rows.count as usize] {
                seen.push(*value);
                let past = seen.iter().fold(7, |sum, value| (sum * 31 + value) % MODULUS);
                *value = (*value * 17 + past + u64::from(layer.0) + 1) % MODULUS;
            }
            row += rows.count as usize;
        }
        Ok(())
    }
}

/// One of the tokens that may be drawn.
fn one_of(allowed: &TokenSet, value: u64, vocabulary: u32) -> Result<u32, ComputeError> {
    let allowed = allowed.read(vocabulary).map_err(ComputeError::new)?;
    let token = allowed.iter().nth((value % u64::from(allowed.len())) as usize);
    token.ok_or_else(|| ComputeError::new("nothing may be drawn"))
}

impl Compute for Fake {
    fn embed(&mut self, tokens: &[u32]) -> Result<(), ComputeError> {
        if tokens.iter().any(|token| Some(*token) == self.options.failing_token) {
            return Err(ComputeError::new("this token fails"));
        }
        if tokens.iter().any(|token| Some(*token) == self.options.panicking_token) {
            std::panic::resume_unwind(Box::new("this token panics"));
        }
        if let Some((_, time)) = self.options.hanging_token.filter(|(token, _)| tokens.contains(token)) {
            thread::sleep(time);
        }
        if self.options.damaged.load(Ordering::Relaxed) > 0 {
            return Err(ComputeError::new("a block is damaged").because(Failure::Damaged { block: None }));
        }
        self.values = tokens.iter().map(|token| u64::from(*token) + 1).collect();
        Ok(())
    }

    fn receive(&mut self, rows: usize, wire: &Bytes) -> Result<(), ComputeError> {
        if wire.len() != rows * self.hidden * 4 {
            return Err(ComputeError::new("wrong length"));
        }
        let first = |row: &[u8]| f32::from_le_bytes([row[0], row[1], row[2], row[3]]) as u64;
        self.values = wire.chunks(self.hidden * 4).map(first).collect();
        Ok(())
    }

    fn forward(&mut self, segment: SegmentIndex, batch: &[BatchRows]) -> Result<(), ComputeError> {
        for block in self.plan.devices[self.device.0 as usize].range_in(segment).blocks() {
            // Of a layer that is cut, the attention's device does all.
            if let Block::Attention(layer) = block {
                thread::sleep(self.options.layer_time);
                self.layer(layer, batch)?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<Bytes, ComputeError> {
        let mut wire = vec![0; self.values.len() * self.hidden * 4];
        for (row, value) in wire.chunks_mut(self.hidden * 4).zip(&self.values) {
            row[..4].copy_from_slice(&(*value as f32).to_le_bytes());
        }
        Ok(Bytes::from(wire))
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Result<Vec<Token>, ComputeError> {
        let vocabulary = u64::from(self.plan.model.vocabulary);
        let mut tokens = Vec::with_capacity(draws.len());
        for draw in draws {
            for held in 0..draw.rows() {
                let sampling = draw.sampling_after(held);
                // Biases count: what they are must not depend on the way in which a token was drawn.
                let bias = |bias: &LogitBias| u64::from(bias.token) * u64::from(bias.value.to_bits() >> 8);
                let biases = sampling.bias.iter().map(bias).sum::<u64>();
                let value = self.values[draw.row + held] + sampling.seed + sampling.draw + biases;
                let token = match &sampling.allowed {
                    None => (value % vocabulary) as u32,
                    Some(allowed) => one_of(allowed, value, vocabulary as u32)?,
                };
                tokens.push(Token { slot: draw.slot, token, ..Token::default() });
                if !draw.holds(held, token) {
                    break;
                }
            }
        }
        Ok(tokens)
    }

    fn score(&mut self, scored: &[Scored<'_>]) -> Result<Vec<Token>, ComputeError> {
        let each = scored.iter().flat_map(|scored| {
            let values = &self.values[scored.row..];
            scored.scoring.next.iter().zip(values).map(|(token, value)| {
                let logprob = -((value + u64::from(*token)) as f32) / 1000.0;
                Token { slot: scored.slot, token: *token, logprob, ..Token::default() }
            })
        });
        Ok(each.collect())
    }

    fn pool(&mut self, rows: std::ops::Range<usize>) -> Result<Vec<i64>, ComputeError> {
        let sum: u64 = self.values[rows].iter().sum();
        Ok((0..self.hidden as i64).map(|column| sum as i64 + column).collect())
    }

    fn release(&mut self, slot: u32) {
        self.kv.retain(|(held, _), _| *held != slot);
    }

    fn keep(&mut self, slot: u32, first: u32, pages: &[u64], names: &[PageName]) {
        if self.options.keeps_nothing {
            self.forgotten.extend(pages);
            return;
        }
        for (number, id) in (first as usize..).zip(pages) {
            let range = number * KV_PAGE_TOKENS as usize..(number + 1) * KV_PAGE_TOKENS as usize;
            let layers = self.kv.iter().filter(|((held, _), _)| *held == slot);
            let page = layers.map(|((_, layer), seen)| (*layer, seen[range.clone()].to_vec()));
            self.kept.insert(*id, page.collect());
        }
        self.named.extend(names.iter().copied().zip(pages.iter().copied()));
    }

    fn restore(&mut self, pages: &[(u64, PageName)]) {
        for (id, name) in pages {
            match self.left.remove(name) {
                Some(page) => {
                    self.kept.insert(*id, page);
                    self.named.insert(*name, *id);
                }
                None => self.forgotten.push(*id),
            }
        }
    }

    fn named_pages(&self) -> NamedPages {
        NamedPages { names: self.left.keys().copied().collect(), disk_room: 0 }
    }

    fn forget_named(&mut self) {
        self.left.clear();
        self.named.clear();
    }

    fn forget(&mut self, pages: &[u64]) {
        self.kept.retain(|id, _| !pages.contains(id));
    }

    fn begin_behind(&mut self, slot: u32, pages: &[u64]) -> Result<(), ComputeError> {
        self.release(slot);
        for id in pages {
            let missing = || ComputeError::new(format!("page {id} is not kept")).because(Failure::Forgotten);
            for (layer, seen) in self.kept.get(id).ok_or_else(missing)? {
                self.kv.entry((slot, *layer)).or_default().extend(seen);
            }
        }
        Ok(())
    }

    fn take_forgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgotten)
    }

    fn reset(&mut self) {
        self.kv.clear();
        for (name, id) in std::mem::take(&mut self.named) {
            self.left.extend(self.kept.remove(&id).map(|page| (name, page)));
        }
        self.kept.clear();
    }

    fn verify(&mut self) -> Result<Mended, ComputeError> {
        self.options.compared.fetch_add(1, Ordering::Relaxed);
        Ok(Mended { compared: 1, mended: self.options.damaged.swap(0, Ordering::Relaxed) })
    }

    fn footprint(&self) -> Footprint {
        let memory = &self.plan.devices[self.device.0 as usize].memory;
        let (pinned, kv) = (memory.pinned, memory.kv);
        Footprint { pinned, kv, kernels: "fake".to_owned(), threads: 1, ..Footprint::default() }
    }
}
