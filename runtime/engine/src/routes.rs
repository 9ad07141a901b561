//! Which experts the rows of a pass go through, and with which weights.
//!
//! A row's experts and their order follow from its own scores alone: the same on every plan and in every company.

use lime_kernels::{sigmoid, softmax};
use lime_model::{ExpertWeights, MixtureSpec};

/// A row on its way through an expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) expert: u16,
    pub(crate) row: u32,
    /// What the expert's result is multiplied with.
    pub(crate) weight: f32,
}

/// The ways of all rows of a pass, by experts in ascending order, then by rows: what each row comes to is added up in that order.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    routes: Vec<Route>,
    /// Experts of a row by their scores.
    ranked: Vec<u16>,
    weights: Vec<f32>,
}

impl Routes {
    /// Chooses for every row of `scores`, `rows x experts`: the greatest scores, of equal ones those with the lowest numbers.
    pub(crate) fn choose(&mut self, scores: &[f32], mixture: MixtureSpec) {
        let MixtureSpec { experts, used, weights, shared: _ } = mixture;
        self.routes.clear();
        for (row, scores) in (0..).zip(scores.chunks_exact(experts)) {
            self.ranked.clear();
            self.ranked.extend(0..experts as u16);
            let best = |one: &u16, other: &u16| {
                scores[usize::from(*other)].total_cmp(&scores[usize::from(*one)]).then(one.cmp(other))
            };
            if used < experts {
                self.ranked.select_nth_unstable_by(used, best);
                self.ranked.truncate(used);
            }
            self.ranked.sort_unstable();
            self.weigh(scores, weights);
            let chosen = self.ranked.iter().zip(&self.weights);
            self.routes.extend(chosen.map(|(expert, weight)| Route { expert: *expert, row, weight: *weight }));
        }
        self.routes.sort_unstable_by_key(|route| (route.expert, route.row));
    }

    /// The weights of the experts that were chosen, in their order.
    fn weigh(&mut self, scores: &[f32], weights: ExpertWeights) {
        self.weights.clear();
        match weights {
            ExpertWeights::OfUsed => {
                self.weights.extend(self.ranked.iter().map(|expert| scores[usize::from(*expert)]));
                softmax(&mut self.weights);
            }
            ExpertWeights::OfAll | ExpertWeights::OfAllToOne => {
                self.weights.extend_from_slice(scores);
                softmax(&mut self.weights);
                for (place, expert) in self.ranked.iter().enumerate() {
                    // Experts ascend: none is overwritten before it is read.
                    self.weights[place] = self.weights[usize::from(*expert)];
                }
                self.weights.truncate(self.ranked.len());
            }
        }
        if weights == ExpertWeights::OfAllToOne {
            let sum: f32 = self.weights.iter().sum();
            self.weights.iter_mut().for_each(|weight| *weight /= sum);
        }
    }

    /// Every row goes through the one expert of all, with the weight that its score comes to.
    pub(crate) fn weigh_shared(&mut self, scores: &[f32]) {
        self.routes.clear();
        let weights = scores.iter().map(|score| sigmoid(*score));
        self.routes.extend((0..).zip(weights).map(|(row, weight)| Route { expert: 0, row, weight }));
    }

    /// Every one of `rows` rows goes through it as it is.
    pub(crate) fn share(&mut self, rows: usize) {
        self.routes.clear();
        self.routes.extend((0..rows as u32).map(|row| Route { expert: 0, row, weight: 1.0 }));
    }

    /// All ways, in order.
    pub(crate) fn all(&self) -> &[Route] {
        &self.routes
    }

    /// The rows of each expert that has any, in order.
    pub(crate) fn by_expert(&self) -> impl Iterator<Item = &[Route]> {
        self.routes.chunk_by(|one, other| one.expert == other.expert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(scores: &[f32], experts: usize, used: usize, weights: ExpertWeights) -> Vec<(u16, u32, f32)> {
        let mut routes = Routes::default();
        routes.choose(scores, MixtureSpec { experts, used, weights, shared: None });
        routes.routes.iter().map(|route| (route.expert, route.row, route.weight)).collect()
    }

    #[test]
    fn the_greatest_scores_count_and_of_equal_ones_the_lowest_numbers() {
        let scores = [1.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.0];
        let found: Vec<(u16, u32)> =
            routes(&scores, 5, 2, ExpertWeights::OfUsed).iter().map(|(expert, row, _)| (*expert, *row)).collect();
        assert_eq!(found, [(0, 1), (1, 0), (1, 1), (2, 0)]);
    }

    #[test]
    fn weights_are_shares_of_all_or_of_those_in_use() {
        let scores = [4.0f32.ln(), 0.0, 2.0f32.ln(), 0.0];
        let of = |weights| routes(&scores, 4, 2, weights).into_iter().map(|(.., weight)| weight).collect::<Vec<f32>>();
        let near = |found: Vec<f32>, expected: [f32; 2]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(of(ExpertWeights::OfAll), [0.5, 0.25]));
        assert!(near(of(ExpertWeights::OfAllToOne), [2.0 / 3.0, 1.0 / 3.0]));
        assert!(near(of(ExpertWeights::OfUsed), [2.0 / 3.0, 1.0 / 3.0]));
    }

    #[test]
    fn all_experts_may_be_used() {
        assert_eq!(routes(&[1.0, 0.0], 2, 2, ExpertWeights::OfAll).len(), 2);
    }
}
