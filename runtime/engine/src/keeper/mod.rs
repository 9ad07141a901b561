//! KV pages on another device: what the one that asks needs of the one that keeps them, and how they are kept.
//!
//! The oldest pages of a sequence go. The keeper computes where a row's heads stand after them, and the asking device goes on
//! from there: the canonical order of attention is page after page, so no bit depends on where a page is.

mod pages;

use std::time::Duration;

use lime_plan::KeptRows;
use thiserror::Error;

pub(crate) use pages::scale;
pub use pages::{KeptCounters, KeptFigures, KeptPages};

/// Why remote pages could not be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeeperError {
    /// The device that keeps them cannot be reached any more.
    #[error("device {keeper:?} no longer answers")]
    Lost {
        /// The device.
        keeper: String,
    },
    /// An order that breaks a rule: nothing was done.
    #[error("{what}")]
    Refused {
        /// Which order, and why not.
        what: String,
    },
    /// All room that the plan lends is taken.
    #[error("page {page} of slot {slot}: all room that the plan lends is taken")]
    NoRoom {
        /// The sequence's KV slot.
        slot: u32,
        /// The page that has no place.
        page: u32,
    },
    /// The keeper answers what it was not asked.
    #[error("device {keeper:?} gave {found} bytes where {expected} were asked for")]
    Answer {
        /// The device.
        keeper: String,
        /// Bytes that came.
        found: usize,
        /// Bytes that were asked for.
        expected: usize,
    },
    /// Pages are remote, and there is nobody who keeps any.
    #[error("no device keeps pages for this one")]
    Nobody,
}

/// The device that keeps pages for this one. It does what it is asked in order.
pub trait PageKeeper: Send {
    /// Its name.
    fn name(&self) -> &str;

    /// Has page number `page` of the sequence in `slot` kept: the next after those that are.
    ///
    /// # Errors
    /// When the keeper cannot be reached, or has no room.
    fn store(&mut self, slot: u32, page: u32, bytes: &[u8]) -> Result<(), KeeperError>;

    /// Takes page number `page` of `slot` back, the last that is kept.
    ///
    /// # Errors
    /// When the keeper cannot be reached, or does not have it.
    fn take_back(&mut self, slot: u32, page: u32, into: &mut [u8]) -> Result<(), KeeperError>;

    /// Where each row's heads stand after the remote pages, in the device's layer at place `layer`.
    ///
    /// # Errors
    /// When the keeper cannot be reached, or does not have the pages.
    fn attend(&mut self, layer: u32, rows: &[KeptRows], queries: &[f32], state: &mut [f32]) -> Result<(), KeeperError>;

    /// Has a sequence's pages forgotten.
    ///
    /// # Errors
    /// When the keeper cannot be reached.
    fn release(&mut self, slot: u32) -> Result<(), KeeperError>;

    /// How long a question of `question` bytes with an answer of `answer` bytes takes when nothing is computed.
    ///
    /// # Errors
    /// When the keeper cannot be reached.
    fn probe(&mut self, question: usize, answer: usize) -> Result<Duration, KeeperError>;
}
