//! Pages that come back: asked for before a sequence begins, in passes of their own, so that it begins behind what is really there and
//! others' passes go on in between.

use std::time::Duration;

use super::{Flight, PassRequest, Scheduler, sequence::Sequence};

/// Pages that one pass asks for: few enough that passes with rows wait for their reads no longer than for a chunk of a prompt.
const AT_ONCE: usize = 16;
/// What a new measurement counts against those before it.
const NEW: f64 = 0.3;
/// Where reading has turned out dearer than computing, it is tried again after it was decided against so often.
const AGAIN: u32 = 32;

/// What it takes to bring pages back, as measured.
#[derive(Debug, Default)]
pub(super) struct Reads {
    seconds_per_page: Option<f64>,
    decided_against: u32,
}

impl Reads {
    /// So many pages took so long.
    fn note(&mut self, pages: usize, time: Duration) {
        let measured = time.as_secs_f64() / pages.max(1) as f64;
        let before = self.seconds_per_page.unwrap_or(measured);
        self.seconds_per_page = Some(before + NEW * (measured - before));
    }

    /// Whether bringing pages back is quicker than computing them in `computing` seconds each. As long as one of the two is not known it is.
    fn pay(&mut self, computing: Option<f64>) -> bool {
        let Some((reading, computing)) = self.seconds_per_page.zip(computing) else { return true };
        if reading <= computing {
            return true;
        }
        self.decided_against += 1;
        if self.decided_against >= AGAIN {
            *self = Self::default();
        }
        false
    }
}

impl Scheduler {
    /// Has pages of sequences that are to begin asked for, where that pays.
    pub(super) fn ask_for_pages(&mut self) {
        let begins = |sequence: &Sequence| sequence.may_restore();
        if !self.active.iter().any(begins) {
            return;
        }
        let own = self.active.iter().map(Sequence::own_pages).sum::<usize>() as u64;
        let computing = self.guessing.seconds_per_page(self.limits.chunk);
        for at in 0..self.active.len() {
            if !begins(&self.active[at]) || !self.active[at].wants_pages(&self.prefixes) || !self.reads.pay(computing) {
                continue;
            }
            self.active[at].restore(own, &mut self.prefixes);
        }
    }

    /// The next pass that asks for pages, if some are wanted.
    pub(super) fn restoring(&mut self) -> Option<PassRequest> {
        let restore = self.prefixes.take_restore(AT_ONCE);
        if restore.is_empty() {
            return None;
        }
        let (keep, forget) = self.prefixes.take_orders();
        let release = std::mem::take(&mut self.release);
        let mut flight = Flight { pass: self.passes + 1, ..Flight::default() };
        flight.restore = restore.iter().map(|page| page.page).collect();
        flight.release.clone_from(&release);
        flight.keep.clone_from(&keep);
        flight.forget.clone_from(&forget);
        self.passes += 1;
        self.flights.push_back(flight);
        Some(PassRequest { release, keep, forget, restore, ..PassRequest::default() })
    }

    /// The oldest pass on its way, which asked for pages, took so long.
    pub(super) fn restored_in(&mut self, time: Duration) {
        if let Some(flight) = self.flights.front() {
            self.reads.note(flight.restore.len(), time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quicker_is_done_and_what_was_slow_tried_again() {
        let mut reads = Reads::default();
        assert!(reads.pay(None) && reads.pay(Some(1e-9)), "nothing is known");
        reads.note(10, Duration::from_secs(1));
        assert!(reads.pay(None) && reads.pay(Some(0.2)) && !reads.pay(Some(0.05)));
        reads.note(10, Duration::from_millis(100));
        assert!(reads.pay(Some(0.08)), "{reads:?}");
        assert!((1..AGAIN).all(|_| !reads.pay(Some(0.01))) && reads.pay(Some(0.01)));
    }
}
