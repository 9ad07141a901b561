//! The seam between the ring and the arithmetic: what a worker asks of its engine. Tests put a deterministic fake here.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use lime_engine::{PageKeeper, ResidencyCounters, Shortage, StreamCounters};
use lime_plan::{BatchRows, Bytes as Size, DeviceIndex, PageName, Plan, SegmentIndex};
use lime_ring::proto::{Draft, LogitBias, Sampling, Scoring, Token};

pub use crate::disk_counters::PageDiskCounters;
use crate::failure::Failure;

/// Why a computation or a load failed: what may be done about it, a sentence for people, and the fault itself where it happened here.
#[derive(Clone, Debug, Default)]
pub struct ComputeError {
    /// What may be done about it.
    pub failure: Failure,
    /// What happened, every cause included.
    pub text: String,
    /// The fault itself.
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for ComputeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// By hand: a derived source would be the shared pointer, of which nobody can ask what fault it holds.
impl std::error::Error for ComputeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl ComputeError {
    /// A fault of this device, of which nothing more is known.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The same fault, of which is known what may be done about it.
    #[must_use]
    pub fn because(self, failure: Failure) -> Self {
        Self { failure, ..self }
    }

    /// The same fault, of which is said on which device it was.
    #[must_use]
    pub(crate) fn at(self, device: &str) -> Self {
        Self { text: format!("device {device:?}: {}", self.text), ..self }
    }

    /// What the sequence in KV slot `slot` asks for can be done on no try.
    pub fn refused(slot: u32, text: impl Into<String>) -> Self {
        Self::new(text).because(Failure::Refused { slot: Some(slot) })
    }

    /// A fault that another device told of.
    pub(crate) fn told(failure: Failure, text: String) -> Self {
        Self { failure, text, source: None }
    }

    /// Says why, with every cause.
    pub fn from_error(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let more = source.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = source.source();
        }
        Self { source: Some(Arc::new(error)), ..Self::new(text) }
    }
}

/// Tokens of one sequence to draw: one from `row`, and one from each row after it whose guess held.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// KV slot, for the answer.
    pub slot: u32,
    /// The first row of the batch whose logits are drawn from.
    pub row: usize,
    /// How, there.
    pub sampling: &'a Sampling,
    /// The guesses that the rows after it carry.
    pub drafts: &'a [Draft],
}

impl<'a> Draw<'a> {
    /// How many rows may be drawn from.
    pub const fn rows(&self) -> usize {
        1 + self.drafts.len()
    }

    /// How to draw from the row after `held` guesses that were right: as if each had come in a pass of its own.
    pub fn sampling_after(&self, held: usize) -> Cow<'a, Sampling> {
        if held == 0 {
            return Cow::Borrowed(self.sampling);
        }
        let mut sampling = Sampling { draw: self.sampling.draw.wrapping_add(held as u64), ..self.sampling.clone() };
        if let Some(allowed) = self.drafts[..held].iter().rev().find_map(|draft| draft.allowed.as_ref()) {
            sampling.allowed = Some(allowed.clone());
        }
        for Draft { token, bias, .. } in &self.drafts[..held] {
            if sampling.repetition_penalty != 0.0
                && let Err(place) = sampling.repeated.binary_search(token)
            {
                sampling.repeated.insert(place, *token);
            }
            let Some(value) = *bias else { continue };
            match sampling.bias.iter_mut().find(|bias| bias.token == *token) {
                Some(bias) => bias.value = value,
                None => sampling.bias.push(LogitBias { token: *token, value }),
            }
        }
        Cow::Owned(sampling)
    }

    /// Whether the guess after `held` others was right: it is the token that was drawn.
    pub fn holds(&self, held: usize, drawn: u32) -> bool {
        self.drafts.get(held).is_some_and(|draft| draft.token == drawn)
    }
}

/// Rows of one sequence whose logits are asked how likely the next tokens were.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// KV slot, for the answer.
    pub slot: u32,
    /// The first row of the batch that is asked.
    pub row: usize,
    /// What came after it and the rows that follow, and how many alternatives are wanted.
    pub scoring: &'a Scoring,
}

/// What a loaded engine takes and uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Weights that stay in memory.
    pub pinned: Size,
    /// The buffer through which other weights pass.
    pub prefetch: Size,
    /// KV cache.
    pub kv: Size,
    /// Buffers of the largest pass.
    pub activations: Size,
    /// The instruction set of the kernels.
    pub kernels: String,
    /// Threads that compute.
    pub threads: u32,
}

/// What comparing a device's blocks with their digests found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Blocks that were compared.
    pub compared: u32,
    /// Of them, blocks that were damaged and are whole again.
    pub mended: u32,
}

/// Pages that can be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedPages {
    /// Their names, the one that goes last first.
    pub names: Vec<PageName>,
    /// How many pages the disk has room for.
    pub disk_room: usize,
}

/// One device's part of a plan, ready to compute. It holds the activations of the batch at hand, so that they are not
/// copied between steps.
pub trait Compute {
    /// The batch at hand becomes the embedding of `tokens`.
    ///
    /// # Errors
    /// When a token is not in the vocabulary or the device holds no embedding.
    fn embed(&mut self, tokens: &[u32]) -> Result<(), ComputeError>;

    /// The batch at hand becomes `rows` rows from the wire.
    ///
    /// # Errors
    /// When the length is wrong.
    fn receive(&mut self, rows: usize, wire: &Bytes) -> Result<(), ComputeError>;

    /// Says whether the pass that is worked on is followed at once by one that meets the same blocks in the same visits.
    fn followed(&mut self, _followed: bool) {}

    /// Runs this device's layers of `segment` over the batch at hand.
    ///
    /// # Errors
    /// When positions do not follow what a slot holds, or memory or disk fail.
    fn forward(&mut self, segment: SegmentIndex, rows: &[BatchRows]) -> Result<(), ComputeError>;

    /// The batch at hand as the wire carries it.
    ///
    /// # Errors
    /// When memory fails.
    fn send(&mut self) -> Result<Bytes, ComputeError>;

    /// Applies the head to the rows asked for and draws from each, of each sequence up to the first guess that did not hold. Tokens come in
    /// the order of `draws`.
    ///
    /// # Errors
    /// When the device holds no head.
    fn draw(&mut self, draws: &[Draw<'_>]) -> Result<Vec<Token>, ComputeError>;

    /// Applies the head to the rows asked for and tells how likely the tokens after them were, in the order of `scored`.
    ///
    /// # Errors
    /// When the device holds no head.
    fn score(&mut self, scored: &[Scored<'_>]) -> Result<Vec<Token>, ComputeError>;

    /// The sum of the states of these rows of the batch behind the last norm, in units of 2^-32.
    ///
    /// # Errors
    /// When the device holds no head.
    fn pool(&mut self, rows: std::ops::Range<usize>) -> Result<Vec<i64>, ComputeError>;

    /// Forgets one slot.
    fn release(&mut self, slot: u32);

    /// Keeps full pages of a slot, from number `first` on, under `pages`, and beyond this epoch under `names`, where there are any. What it
    /// cannot keep, or not any longer, it tells with [`Compute::take_forgotten`].
    fn keep(&mut self, slot: u32, first: u32, pages: &[u64], names: &[PageName]);

    /// Keeps pages that were kept under these names under a number again. What is not there it tells with [`Compute::take_forgotten`].
    fn restore(&mut self, pages: &[(u64, PageName)]);

    /// What can be restored.
    fn named_pages(&self) -> NamedPages {
        NamedPages::default()
    }

    /// What is done with pages on the disk; it goes on counting.
    fn page_disk(&self) -> Arc<PageDiskCounters> {
        Arc::default()
    }

    /// Forgets all that could be restored: weights may have been others than they should be.
    fn forget_named(&mut self) {}

    /// Goes on with what can be done while no pass is there; whether some of it is left for a little later.
    fn spill(&mut self) -> bool {
        false
    }

    /// Keeps these pages no more.
    fn forget(&mut self, pages: &[u64]);

    /// Begins a slot anew behind kept pages.
    ///
    /// # Errors
    /// [`Failure::Forgotten`] where one of them is not kept.
    fn begin_behind(&mut self, slot: u32, pages: &[u64]) -> Result<(), ComputeError>;

    /// Pages that are not kept, or not any more, without anybody having said so since this was asked last.
    fn take_forgotten(&mut self) -> Vec<u64>;

    /// Forgets every slot, and every page that is kept.
    fn reset(&mut self);

    /// Compares every stored block that it uses with its digest, and mends what is not whole. Nothing is computed meanwhile.
    ///
    /// # Errors
    /// When a block is damaged and cannot be mended.
    fn verify(&mut self) -> Result<Mended, ComputeError> {
        Ok(Mended::default())
    }

    /// What it takes and uses.
    fn footprint(&self) -> Footprint;

    /// What streaming has done; nothing where nothing streams.
    fn streaming(&self) -> Arc<StreamCounters> {
        Arc::default()
    }

    /// What its memory holds at the moment; `None` where that never changes.
    fn residency(&self) -> Option<Arc<ResidencyCounters>> {
        None
    }

    /// The device that keeps KV pages for this one from now on, where the plan has one. Nothing is held in any slot.
    fn set_keeper(&mut self, keeper: Option<Box<dyn PageKeeper>>) {
        drop(keeper);
    }

    /// Leaves `shortage` of its budget to others from now on, as far as it can; `why` is for the log.
    ///
    /// # Errors
    /// When memory fails.
    fn press(&mut self, shortage: Shortage, why: &str) -> Result<(), ComputeError> {
        let _ = (shortage, why);
        Ok(())
    }
}

/// Loads a device's part of a plan. Called on the compute thread.
pub trait Loader: Send + 'static {
    /// Loads; `progress` hears of bytes loaded and bytes in all, and may unwind to cut the load short.
    ///
    /// # Errors
    /// When the model does not fit the plan or cannot be read.
    fn load(
        &mut self,
        plan: &Plan,
        device: DeviceIndex,
        progress: &mut dyn FnMut(Size, Size),
    ) -> Result<Box<dyn Compute>, ComputeError>;
}

#[cfg(test)]
mod tests {
    use lime_ring::proto::TokenSet;

    use super::*;

    #[test]
    fn each_guess_that_holds_counts_on_as_a_pass_of_its_own_would() {
        let bias = |token, value| LogitBias { token, value };
        // What comes over the wire may be any number.
        let sampling =
            Sampling { draw: u64::MAX, seed: 3, bias: vec![bias(1, 0.5), bias(2, 1.0)], ..Sampling::default() };
        let guess = |token, bias| Draft { token, bias, allowed: None };
        let drafts = [guess(2, Some(-0.5)), guess(7, Some(-1.0)), guess(9, None), guess(2, Some(-2.0))];
        let draw = Draw { slot: 0, row: 4, sampling: &sampling, drafts: &drafts };
        assert_eq!((draw.rows(), &*draw.sampling_after(0)), (5, &sampling));
        let after = draw.sampling_after(4);
        assert_eq!((after.draw, after.seed), (3, 3));
        assert_eq!(after.bias, [bias(1, 0.5), bias(2, -2.0), bias(7, -1.0)]);
        assert_eq!(draw.sampling_after(1).bias, [bias(1, 0.5), bias(2, -0.5)]);
        let only = |token| Some(TokenSet { gaps: vec![token], ..TokenSet::default() });
        let sampling = Sampling { allowed: only(1), ..sampling.clone() };
        let drafts = [None, only(2), None].map(|allowed| Draft { token: 4, bias: None, allowed });
        let of_tokens = Draw { sampling: &sampling, drafts: &drafts, ..draw };
        assert_eq!(
            [0, 1, 2, 3].map(|held| of_tokens.sampling_after(held).allowed.clone()),
            [only(1), only(1), only(2), only(2)]
        );
        assert!(draw.holds(1, 7) && !draw.holds(1, 2) && !draw.holds(4, 2), "behind the last guess there is none");
    }
}
