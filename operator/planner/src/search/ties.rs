//! Small fleets, gone through once more: of all candidates that are as good as the fastest, the one with most merit.

use crate::layout::Layout;

use super::evaluator::{Evaluated, Evaluator};
use super::exhaustive::{Candidates, promising};
use super::floors::Floors;
use super::merit::{Judge, Merit};
use super::problem::Problem;
use super::request::{as_good_as, more_by};
use super::residency::{Choice, apply};

/// The search for the candidate with most merit.
struct Ties<'s, 'p, 'a> {
    problem: &'p Problem<'a>,
    judge: &'s Judge<'p, 'a>,
    /// Their measure must be less than this.
    limit: u64,
    best: Evaluated,
    merit: Merit,
}

/// The candidate with most merit of all that are as good as `least`, the time of the fastest; `best` is where to begin.
pub(crate) fn improve(
    problem: &Problem<'_>,
    judge: &Judge<'_, '_>,
    least: u64,
    (best, merit): (Evaluated, Merit),
    evaluator: &mut Evaluator,
) -> (Evaluated, Merit) {
    let mut ties = Ties { problem, judge, limit: more_by(as_good_as(least), 1), best, merit };
    let floors = Floors::new(&judge.longest);
    let mut candidates = Candidates::below(problem, ties.limit);
    // What none of them can beat at the longest context: beyond the best of them nothing need be looked at.
    candidates.retain_mut(|candidate| match candidate.bound_by(&floors) {
        Some(bound) if bound <= ties.merit.longest => {
            candidate.bound = bound;
            true
        }
        _ => false,
    });
    candidates.sort_by_key(|candidate| candidate.bound);
    for candidate in candidates {
        if candidate.bound > ties.merit.longest || evaluator.spent() {
            break;
        }
        let layout = candidate.layout();
        if ties.may_win(&layout)
            && let Some(all) = promising(problem, &layout, ties.limit, evaluator)
        {
            ties.descend(layout, &all, 0, evaluator);
        }
    }
    (ties.best, ties.merit)
}

impl Ties<'_, '_, '_> {
    fn may_win(&self, layout: &Layout) -> bool {
        self.problem.floor(layout) < self.limit && self.judge.longest.lower_bound(layout) <= self.merit.longest
    }

    /// Chooses for the device at `position` and all after it.
    fn descend(&mut self, layout: Layout, all: &[Vec<Choice>], position: usize, evaluator: &mut Evaluator) {
        if position == all.len() {
            return self.try_one(layout, evaluator);
        }
        for choice in &all[position] {
            if evaluator.spent() {
                return;
            }
            let mut tried = layout.clone();
            apply(&mut tried.shares[position], choice);
            if self.may_win(&tried) {
                self.descend(tried, all, position + 1, evaluator);
            }
        }
    }

    fn try_one(&mut self, layout: Layout, evaluator: &mut Evaluator) {
        // The longest context alone rules most of them out.
        if !evaluator.beats(&self.judge.longest, &layout, self.merit.longest.saturating_add(1))
            || !evaluator.beats(self.problem, &layout, self.problem.pass_below(&layout, self.limit))
        {
            return;
        }
        let Some(one) = evaluator.measure(self.problem, layout).filter(|one| one.time < self.limit) else { return };
        let Some(merit) = self.judge.merit(&one.layout, self.merit.longest, evaluator) else { return };
        if (merit, one.rank()) < (self.merit, self.best.rank()) {
            (self.merit, self.best) = (merit, one);
        }
    }
}
