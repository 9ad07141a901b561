//! What pages elsewhere cost at the moment: measured while they are asked about, probed before they go.

use std::collections::VecDeque;

use lime_planner::Nanos;

/// Passes whose times are kept. Their median counts: one that was held up moves nothing.
const PASSES: usize = 9;
/// So many must have been measured before they count more than the probe.
const ENOUGH: usize = 5;
/// Passes after which a probe is too old to decide by.
const STALE: u32 = 64;

/// Watches the link to the keeper.
#[derive(Debug)]
pub(crate) struct LinkWatch {
    probed: Option<Nanos>,
    /// Passes since the probe.
    age: u32,
    passes: VecDeque<Nanos>,
    /// By how much passes took longer than the probe had said, in percent: the keeper computes, too.
    beyond_probe: u64,
}

impl Default for LinkWatch {
    fn default() -> Self {
        Self { probed: None, age: 0, passes: VecDeque::with_capacity(PASSES + 1), beyond_probe: 100 }
    }
}

impl LinkWatch {
    /// By how much pages elsewhere make a pass longer: as measured, as probed, or as planned.
    pub(crate) fn costs(&self, planned: Nanos) -> Nanos {
        match (self.measured(), self.probed) {
            (Some(measured), _) => measured,
            (None, Some(probed)) => Nanos(probed.0.saturating_mul(self.beyond_probe) / 100),
            (None, None) => planned,
        }
    }

    /// Whether the link is to be probed before pages go.
    pub(crate) const fn wants_probe(&self) -> bool {
        self.probed.is_none() || self.age >= STALE
    }

    /// A probe took so long, for all questions of a pass.
    pub(crate) const fn probed(&mut self, costs: Nanos) {
        self.probed = Some(costs);
        self.age = 0;
    }

    /// A pass begins.
    pub(crate) const fn tick(&mut self) {
        self.age = self.age.saturating_add(1);
    }

    /// A pass with a row for each sequence waited so long for the keeper.
    pub(crate) fn passed(&mut self, costs: Nanos) {
        self.passes.push_back(costs);
        if self.passes.len() > PASSES {
            self.passes.pop_front();
        }
    }

    /// No page is elsewhere any more.
    pub(crate) fn all_back(&mut self) {
        if let (Some(measured), Some(probed)) = (self.measured(), self.probed) {
            let percent = measured.0.saturating_mul(100) / probed.0.max(1);
            self.beyond_probe = percent.clamp(100, 10_000);
        }
        self.passes.clear();
    }

    fn measured(&self) -> Option<Nanos> {
        let mut sorted: Vec<Nanos> = self.passes.iter().copied().collect();
        sorted.sort();
        (sorted.len() >= ENOUGH).then(|| sorted[sorted.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Nanos {
        Nanos(millis * 1_000_000)
    }

    #[test]
    fn what_is_measured_counts_more_than_a_probe_and_that_more_than_the_plan() {
        let mut watch = LinkWatch::default();
        assert!(watch.wants_probe());
        assert_eq!(watch.costs(ms(3)), ms(3));
        watch.probed(ms(5));
        assert!(!watch.wants_probe());
        assert_eq!(watch.costs(ms(3)), ms(5));
        (1..ENOUGH).for_each(|_| watch.passed(ms(8)));
        assert_eq!(watch.costs(ms(3)), ms(5), "too few");
        watch.passed(ms(8));
        assert_eq!(watch.costs(ms(3)), ms(8));
    }

    #[test]
    fn a_few_passes_that_are_held_up_move_nothing_and_a_slow_link_does() {
        let mut watch = LinkWatch::default();
        (0..PASSES).for_each(|_| watch.passed(ms(2)));
        (0..4).for_each(|_| watch.passed(ms(900)));
        assert_eq!(watch.costs(ms(1)), ms(2));
        watch.passed(ms(900));
        assert_eq!(watch.costs(ms(1)), ms(900));
    }

    #[test]
    fn what_a_probe_does_not_see_is_remembered() {
        let mut watch = LinkWatch::default();
        watch.probed(ms(2));
        (0..ENOUGH).for_each(|_| watch.passed(ms(5)));
        watch.all_back();
        (0..STALE).for_each(|_| watch.tick());
        assert!(watch.wants_probe());
        watch.probed(ms(2));
        assert_eq!(watch.costs(ms(1)), ms(5), "or pages would go and come back by turns");
        watch.probed(ms(1));
        assert_eq!(watch.costs(ms(1)), Nanos(2_500_000));
    }
}
