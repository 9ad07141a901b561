//! What remote pages cost at the moment: measured while they are asked about, probed before they go.

use std::collections::VecDeque;

use lime_plan::Nanos;

/// Passes whose times are kept. Their median counts: one that was held up moves nothing.
const PASSES: usize = 9;
/// So many must have been measured before they count more than the probe.
const ENOUGH: usize = 5;
/// Passes after which a probe is too old to decide by.
const STALE: u32 = 64;

/// Watches the link to the keeper.
#[derive(Debug, Default)]
pub(crate) struct LinkWatch {
    probed: Option<Nanos>,
    /// Passes since the probe.
    age: u32,
    passes: VecDeque<Nanos>,
    /// By how much passes took longer than a probe of the same moment: the keeper computes, too.
    beyond_probe: Nanos,
}

impl LinkWatch {
    /// By how much remote pages make a pass longer: as measured, as probed, or as planned.
    pub(crate) fn costs(&self, planned: Nanos) -> Nanos {
        match (self.measured(), self.probed) {
            (Some(measured), _) => measured,
            (None, Some(probed)) => probed + self.beyond_probe,
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

    /// Whether enough passes were measured: a probe of the same moment says what they had beyond it.
    pub(crate) fn has_measured(&self) -> bool {
        self.measured().is_some()
    }

    /// No page is remote any more, and a probe takes so long now, where there was one.
    pub(crate) fn all_back(&mut self, probe: Option<Nanos>) {
        if let Some(probe) = probe {
            if let Some(measured) = self.measured() {
                self.beyond_probe = Nanos(measured.0.saturating_sub(probe.0));
            }
            self.probed(probe);
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
        (0..ENOUGH).for_each(|_| watch.passed(ms(50)));
        watch.all_back(Some(ms(47)));
        assert_eq!(watch.costs(ms(1)), ms(50), "or pages would go again at once");
        (0..STALE).for_each(|_| watch.tick());
        assert!(watch.wants_probe());
        watch.probed(ms(2));
        assert_eq!(watch.costs(ms(1)), ms(5), "the link is fast again, the keeper as it was");
    }
}
