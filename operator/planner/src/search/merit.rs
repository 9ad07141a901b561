//! Which of several candidates that are about as fast a person would choose: the fastest at the longest context, then to the first
//! token, then the one that reads least.

use crate::cost::Unit;
use crate::layout::{Layout, Share};
use crate::online::{Stretched, stretched};

use super::evaluator::{Evaluated, Evaluator};
use super::problem::{Problem, signed};
use super::request::as_good_as;

/// What decides between candidates that are as good as each other in the expected case; less is better, the first field first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Merit {
    /// Nanoseconds per pass while every request is at its longest, blocks giving way to the KV cache where they must.
    pub(crate) longest: u64,
    /// Nanoseconds to the first token of the expected prompt.
    pub(crate) first_token: u64,
    /// Bytes read from disk in every pass.
    pub(crate) read: u64,
}

/// Tells candidates apart by [`Merit`].
pub(crate) struct Judge<'p, 'a> {
    problem: &'p Problem<'a>,
    /// The same with every request at its longest.
    pub(crate) longest: Problem<'a>,
}

impl<'p, 'a> Judge<'p, 'a> {
    pub(crate) fn new(problem: &'p Problem<'a>) -> Self {
        Self { problem, longest: problem.at_longest() }
    }

    /// The merit of a candidate, if its time at the longest context is no more than `limit`; `None` also where it cannot hold that.
    pub(crate) fn merit(&self, layout: &Layout, limit: u64, evaluator: &mut Evaluator) -> Option<Merit> {
        // Blocks that give way only delay: what is too late without them needs no steps.
        if self.longest.lower_bound(layout) > limit {
            return None;
        }
        let grown = self.grown(layout, evaluator)?;
        if grown != *layout && self.longest.lower_bound(&grown) > limit {
            return None;
        }
        let longest = evaluator.pass(&self.longest, &grown)?;
        if longest > limit {
            return None;
        }
        let first_token = self.problem.request.play(self.problem.fleet, layout, &mut evaluator.scratch)?.first;
        let streamed = layout.shares.iter().flat_map(|share| &share.streamed);
        let read = streamed.map(|unit| self.problem.costs.bytes[unit.index()]).sum();
        Some(Merit { longest, first_token, read })
    }

    /// The layout while every request is at its longest: with the steps taken that this needs.
    fn grown(&self, layout: &Layout, evaluator: &mut Evaluator) -> Option<Layout> {
        let mut grown = layout.clone();
        for at in 0..layout.shares.len() {
            let missing = self.missing(layout, at);
            if missing > 0 {
                let Stretched { share, frees } = stretched(self.problem, layout, at, missing as u64, evaluator);
                if signed(frees) < missing {
                    return None;
                }
                grown.shares[at] = share;
            }
        }
        Some(grown)
    }

    /// Bytes that the device at `at` lacks while every request is at its longest.
    fn missing(&self, layout: &Layout, at: usize) -> i64 {
        let problem = self.problem;
        let share: &Share = &layout.shares[at];
        let (first, head) = (at == 0, at == layout.head);
        let logits = Unit::head(problem.card.layers);
        let units = layout.units_of(at, problem.card.layers);
        let attentions = units.iter().filter(|unit| unit.is_attention(problem.card.layers)).count() as u32;
        let held: u64 = units
            .into_iter()
            .filter(|unit| *unit != Unit::EMBEDDING && share.streamed.binary_search(unit).is_err())
            .map(|unit| if unit == logits { problem.head_bytes(first) } else { problem.costs.bytes[unit.index()] })
            .sum();
        signed(held + share.buffer) - problem.room_at_worst(share.node, attentions, first, head)
    }

    /// Of `evaluated`, the fastest first, the index of the best: the one with most merit of those as good as the first that can hold the
    /// longest requests.
    pub(crate) fn best(&self, evaluated: &[Evaluated], evaluator: &mut Evaluator) -> Option<(usize, Merit)> {
        let of = |(index, one): (usize, &Evaluated), evaluator: &mut Evaluator| {
            Some((index, self.merit(&one.layout, u64::MAX, evaluator)?))
        };
        let mut best = evaluated.iter().enumerate().find_map(|one| of(one, evaluator))?;
        let near = as_good_as(evaluated[best.0].time);
        let close = evaluated.iter().enumerate().skip(best.0 + 1).take_while(|(_, one)| one.time <= near);
        let mut close: Vec<(u64, usize)> =
            close.map(|(index, one)| (self.longest.lower_bound(&one.layout), index)).collect();
        close.sort_unstable();
        for (bound, index) in close {
            if bound > best.1.longest || evaluator.spent() {
                break;
            }
            let Some(merit) = self.merit(&evaluated[index].layout, best.1.longest, evaluator) else { continue };
            let key = |index: usize, merit: Merit| (merit, evaluated[index].rank());
            if key(index, merit) < key(best.0, best.1) {
                best = (index, merit);
            }
        }
        Some(best)
    }
}
