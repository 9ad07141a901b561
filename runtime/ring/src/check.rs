//! Checks of what arrives. Messages are foreign bytes: a wrong one is an error that says what is wrong, never a panic.

use std::collections::BTreeSet;

use lime_plan::{Dtype, KV_PAGE_TOKENS, PageName};
use thiserror::Error;

use crate::{
    limits::{FrameLimits, MOST_DRAFTS, MOST_SCORED},
    proto::{Frame, KeepPages, Pass, RestoredPage, Rows, Sampling, Scoring},
};

/// Bytes that name the trace of a request and its span there.
const TRACE: usize = 24;
/// Bytes of a page's name.
const NAME: usize = PageName::BYTES;

/// A message that breaks a rule of the wire.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FrameError {
    /// Of another generation of the ring.
    #[error("the message is of epoch {found}, this ring is at epoch {current}")]
    Epoch {
        /// The message's epoch.
        found: u64,
        /// The epoch in force.
        current: u64,
    },
    /// A pass without a number.
    #[error("passes are numbered from 1")]
    Unnumbered,
    /// A segment that the plan does not have.
    #[error("segment {found} of a plan with {segments} segments")]
    Segment {
        /// The segment named.
        found: u32,
        /// Segments of the plan.
        segments: u32,
    },
    /// A slot that the plan does not have.
    #[error("KV slot {found} of a plan with {slots} slots")]
    Slot {
        /// The slot named.
        found: u32,
        /// Slots of the plan.
        slots: u32,
    },
    /// One slot twice in a pass.
    #[error("KV slot {0} twice in one pass")]
    SlotTwice(u32),
    /// A sequence without rows.
    #[error("KV slot {0} comes with no rows")]
    NoRows(u32),
    /// Kept pages that do not end where the rows begin.
    #[error("KV slot {slot}: rows from position {start} behind {pages} kept pages")]
    Prefix {
        /// The slot.
        slot: u32,
        /// Position of the first row.
        start: u32,
        /// Pages before it.
        pages: usize,
    },
    /// More pages named than the KV cache has.
    #[error("{found} pages named, the KV cache has {max}")]
    Pages {
        /// Pages of the message.
        found: u64,
        /// Those of all slots at their longest.
        max: u64,
    },
    /// Names that are none, or not as many as pages.
    #[error("{found} names of {pages} pages: there is one of 32 bytes for each, or none")]
    Names {
        /// Names that came.
        found: usize,
        /// Pages that they are of.
        pages: usize,
    },
    /// No trace's name.
    #[error("KV slot {slot}: {found} bytes that name a trace, of which there are {TRACE} or none")]
    Trace {
        /// The slot.
        slot: u32,
        /// Bytes that came.
        found: usize,
    },
    /// Positions over the context.
    #[error("KV slot {slot}: rows up to position {end} of a context of {context} tokens")]
    Context {
        /// The slot.
        slot: u32,
        /// One past its last position.
        end: u64,
        /// The plan's context.
        context: u32,
    },
    /// More rows than the plan's buffers hold.
    #[error("{found} rows in a pass, the plan allows {max}")]
    TooManyRows {
        /// Rows of the message.
        found: u64,
        /// What the plan allows.
        max: u32,
    },
    /// Tokens and rows differ in number.
    #[error("{tokens} tokens for {rows} rows")]
    Tokens {
        /// Tokens of the pass.
        tokens: usize,
        /// Its rows.
        rows: u64,
    },
    /// A token that the model does not have.
    #[error("KV slot {slot}: token {found} of a vocabulary of {vocabulary}")]
    Token {
        /// The slot.
        slot: u32,
        /// The token named.
        found: u32,
        /// Tokens of the model.
        vocabulary: u32,
    },
    /// Sampling fields that cannot be followed.
    #[error("KV slot {slot}: {what}")]
    Sampling {
        /// The slot.
        slot: u32,
        /// The field and its fault.
        what: &'static str,
    },
    /// Guesses that do not go with their rows. A gateway that guesses wrongly in this way is at fault, and no request.
    #[error("KV slot {slot}: {found} drafts for {rows} rows: {what}")]
    Drafts {
        /// The slot.
        slot: u32,
        /// Guesses that came.
        found: usize,
        /// Rows that came.
        rows: u32,
        /// The rule that is broken.
        what: &'static str,
    },
    /// Activations in another dtype than the plan's.
    #[error("activations of type {found}, the plan carries {expected}")]
    ActivationType {
        /// The type's number.
        found: i32,
        /// The plan's type.
        expected: Dtype,
    },
    /// Activations of another width than the model's.
    #[error("activations of {found} columns, the model has {hidden}")]
    Columns {
        /// Columns of the message.
        found: u32,
        /// Width of the residual stream.
        hidden: u32,
    },
    /// Activations cut short or too long.
    #[error("{found} bytes of activations where {rows} rows take {expected}")]
    Length {
        /// Bytes that came.
        found: usize,
        /// Rows of the message.
        rows: u64,
        /// Bytes that these take.
        expected: u64,
    },
}

impl FrameError {
    /// The KV slot of the sequence that asks for what no try can give it, where that is what is wrong. All else is the sender's
    /// fault and no request's.
    pub const fn refused_slot(&self) -> Option<u32> {
        match self {
            Self::Token { slot, .. } | Self::Context { slot, .. } | Self::Sampling { slot, .. } => Some(*slot),
            Self::Epoch { .. }
            | Self::Unnumbered
            | Self::Segment { .. }
            | Self::Slot { .. }
            | Self::SlotTwice(_)
            | Self::NoRows(_)
            | Self::Trace { .. }
            | Self::Prefix { .. }
            | Self::Pages { .. }
            | Self::Names { .. }
            | Self::TooManyRows { .. }
            | Self::Tokens { .. }
            | Self::Drafts { .. }
            | Self::ActivationType { .. }
            | Self::Columns { .. }
            | Self::Length { .. } => None,
        }
    }
}

impl FrameLimits {
    /// Checks a pass from the gateway; gives its number of rows.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_pass(&self, pass: &Pass) -> Result<u32, FrameError> {
        if pass.pass == 0 {
            return Err(FrameError::Unnumbered);
        }
        let rows = self.check_rows(&pass.rows)?;
        self.check_release(&pass.release)?;
        self.check_kept(&pass.keep, &pass.forget, &pass.restore)?;
        if pass.tokens.len() as u64 != u64::from(rows) {
            return Err(FrameError::Tokens { tokens: pass.tokens.len(), rows: rows.into() });
        }
        let mut tokens = pass.tokens.iter();
        for of_slot in &pass.rows {
            let Rows { slot, count, drafts, .. } = of_slot;
            let sure = (*count as usize).saturating_sub(drafts.len());
            let mut own = tokens.by_ref().take(*count as usize);
            if let Some(found) = own.by_ref().take(sure).find(|token| **token >= self.vocabulary) {
                return Err(FrameError::Token { slot: *slot, found: *found, vocabulary: self.vocabulary });
            }
            if !own.eq(drafts.iter().map(|draft| &draft.token)) {
                return Err(drafts_fault(of_slot, "they are not the tokens of the last rows"));
            }
        }
        Ok(rows)
    }

    /// Checks a frame from the predecessor; gives its number of rows. A frame with a failure carries no activations.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_frame(&self, frame: &Frame) -> Result<u32, FrameError> {
        if frame.pass == 0 {
            return Err(FrameError::Unnumbered);
        }
        if frame.segment > self.segments {
            return Err(FrameError::Segment { found: frame.segment, segments: self.segments });
        }
        let rows = self.check_rows(&frame.rows)?;
        self.check_release(&frame.release)?;
        self.check_kept(&frame.keep, &frame.forget, &frame.restore)?;
        let (found, most) = (frame.forgotten.len(), self.most_forgotten());
        if found > most {
            return Err(FrameError::Pages { found: found as u64, max: most as u64 });
        }
        if frame.failure.is_empty() {
            self.check_activations(frame, rows)?;
        } else if !frame.activations.is_empty() {
            let found = frame.activations.len();
            return Err(FrameError::Length { found, rows: rows.into(), expected: 0 });
        }
        Ok(rows)
    }

    fn check_activations(&self, frame: &Frame, rows: u32) -> Result<(), FrameError> {
        if frame.activation_type != self.activation_type() as i32 {
            let (found, expected) = (frame.activation_type, self.residual);
            return Err(FrameError::ActivationType { found, expected });
        }
        if frame.columns != self.hidden {
            return Err(FrameError::Columns { found: frame.columns, hidden: self.hidden });
        }
        let expected = self.activation_bytes(rows.into());
        if frame.activations.len() as u64 != expected {
            let found = frame.activations.len();
            return Err(FrameError::Length { found, rows: rows.into(), expected });
        }
        Ok(())
    }

    fn check_rows(&self, rows: &[Rows]) -> Result<u32, FrameError> {
        let mut slots = BTreeSet::new();
        let mut total = 0u64;
        for of_slot in rows {
            self.check_slot(of_slot.slot)?;
            if !slots.insert(of_slot.slot) {
                return Err(FrameError::SlotTwice(of_slot.slot));
            }
            if of_slot.count == 0 {
                return Err(FrameError::NoRows(of_slot.slot));
            }
            let behind = of_slot.prefix.len() as u64 * u64::from(KV_PAGE_TOKENS);
            if !of_slot.prefix.is_empty() && behind != u64::from(of_slot.start) {
                let (slot, start, pages) = (of_slot.slot, of_slot.start, of_slot.prefix.len());
                return Err(FrameError::Prefix { slot, start, pages });
            }
            if !matches!(of_slot.trace.len(), 0 | TRACE) {
                return Err(FrameError::Trace { slot: of_slot.slot, found: of_slot.trace.len() });
            }
            let end = of_slot.batch_rows().end();
            if end > u64::from(self.context) {
                let (slot, context) = (of_slot.slot, self.context);
                return Err(FrameError::Context { slot, end, context });
            }
            if let Some(sampling) = &of_slot.sample {
                self.check_sampling(of_slot.slot, sampling)?;
            }
            self.check_drafts(of_slot)?;
            if let Some(scoring) = &of_slot.scoring {
                self.check_scoring(of_slot, scoring)?;
            }
            let sure = of_slot.count.saturating_sub(of_slot.drafts.len() as u32);
            if of_slot.pooled > sure {
                return Err(FrameError::Sampling { slot: of_slot.slot, what: "only rows that are sure are pooled" });
            }
            total += u64::from(of_slot.count);
        }
        match u32::try_from(total) {
            Ok(rows) if rows <= self.max_rows => Ok(rows),
            _ => Err(FrameError::TooManyRows { found: total, max: self.max_rows }),
        }
    }

    fn check_drafts(&self, rows: &Rows) -> Result<(), FrameError> {
        let fault = |what| Err(drafts_fault(rows, what));
        let drafts = &rows.drafts;
        if drafts.is_empty() {
            return Ok(());
        }
        if rows.sample.is_none() {
            return fault("nothing is drawn");
        }
        if drafts.len() >= rows.count as usize {
            return fault("the first row to draw from is no guess");
        }
        if drafts.len() > MOST_DRAFTS {
            return fault("a sequence may have 31 in a pass");
        }
        if drafts.iter().any(|draft| draft.token >= self.vocabulary) {
            return fault("one is no token of the model");
        }
        if drafts.iter().filter_map(|draft| draft.bias).any(|bias| !bias.is_finite()) {
            return fault("a bias is not a finite number");
        }
        let free = rows.sample.as_ref().is_some_and(|sample| sample.allowed.is_none());
        if free && drafts.iter().any(|draft| draft.allowed.is_some()) {
            return fault("what may be drawn is said behind the first draw only");
        }
        drafts
            .iter()
            .filter_map(|draft| draft.allowed.as_ref())
            .try_for_each(|allowed| allowed.read(self.vocabulary).map(drop).or_else(fault))
    }

    fn check_scoring(&self, rows: &Rows, scoring: &Scoring) -> Result<(), FrameError> {
        let slot = rows.slot;
        let sure = (rows.count as usize).saturating_sub(rows.drafts.len());
        if scoring.next.is_empty() || scoring.next.len() > sure {
            return Err(FrameError::Sampling { slot, what: "what is scored must follow rows that are sure" });
        }
        if scoring.top_logprobs > MOST_SCORED.min(self.vocabulary) {
            return Err(FrameError::Sampling {
                slot,
                what: "more alternatives of a token that is scored than are told",
            });
        }
        match scoring.next.iter().find(|token| **token >= self.vocabulary) {
            Some(found) => Err(FrameError::Token { slot, found: *found, vocabulary: self.vocabulary }),
            None => Ok(()),
        }
    }

    fn check_sampling(&self, slot: u32, sampling: &Sampling) -> Result<(), FrameError> {
        let fault = |what| Err(FrameError::Sampling { slot, what });
        if !(sampling.temperature.is_finite() && sampling.temperature >= 0.0) {
            return fault("the temperature must be a number from 0");
        }
        if !(0.0..=1.0).contains(&sampling.top_p) {
            return fault("top_p must be from 0 to 1");
        }
        if !(0.0..=1.0).contains(&sampling.min_p) {
            return fault("min_p must be from 0 to 1");
        }
        if !(sampling.repetition_penalty.is_finite() && sampling.repetition_penalty >= 0.0) {
            return fault("the repetition penalty must be a number from 0");
        }
        // Ascending: so there are no more of them than tokens.
        if !sampling.repeated.is_sorted_by(|one, next| one < next) {
            return fault("repeated tokens must be ascending");
        }
        if let Some(found) = sampling.repeated.last().copied().filter(|last| *last >= self.vocabulary) {
            return Err(FrameError::Token { slot, found, vocabulary: self.vocabulary });
        }
        if sampling.top_logprobs > self.vocabulary {
            return fault("more top_logprobs than the vocabulary has tokens");
        }
        if let Some(Err(what)) = sampling.allowed.as_ref().map(|allowed| allowed.read(self.vocabulary)) {
            return fault(what);
        }
        if sampling.bias.len() > self.vocabulary as usize {
            return fault("more biases than the vocabulary has tokens");
        }
        for bias in &sampling.bias {
            if bias.token >= self.vocabulary {
                let (found, vocabulary) = (bias.token, self.vocabulary);
                return Err(FrameError::Token { slot, found, vocabulary });
            }
            if !bias.value.is_finite() {
                return fault("a logit bias is not a finite number");
            }
        }
        Ok(())
    }

    fn check_release(&self, release: &[u32]) -> Result<(), FrameError> {
        release.iter().try_for_each(|slot| self.check_slot(*slot))
    }

    /// No more pages are named than there are: each is named once.
    fn check_kept(&self, keep: &[KeepPages], forget: &[u64], restore: &[RestoredPage]) -> Result<(), FrameError> {
        let max = self.pages();
        for pages in keep {
            self.check_slot(pages.slot)?;
            let end = u64::from(pages.first) + pages.pages.len() as u64;
            if end > u64::from(self.pages_per_slot()) {
                return Err(FrameError::Pages { found: end, max: self.pages_per_slot().into() });
            }
            let named = pages.names.len() == pages.pages.len() && pages.names.iter().all(|name| name.len() == NAME);
            if !(pages.names.is_empty() || named) {
                return Err(FrameError::Names { found: pages.names.len(), pages: pages.pages.len() });
            }
        }
        let kept: u64 = keep.iter().map(|pages| pages.pages.len() as u64).sum();
        let found = kept.max(forget.len() as u64).max(restore.len() as u64);
        if restore.iter().any(|page| page.name.len() != NAME) {
            return Err(FrameError::Names { found: 0, pages: restore.len() });
        }
        if found > max { Err(FrameError::Pages { found, max }) } else { Ok(()) }
    }

    const fn check_slot(&self, slot: u32) -> Result<(), FrameError> {
        if slot < self.slots { Ok(()) } else { Err(FrameError::Slot { found: slot, slots: self.slots }) }
    }
}

const fn drafts_fault(rows: &Rows, what: &'static str) -> FrameError {
    FrameError::Drafts { slot: rows.slot, found: rows.drafts.len(), rows: rows.count, what }
}

#[cfg(test)]
mod tests;
