//! Rows become logits, and logits tokens.

use std::sync::Arc;

use lime_plan::Block;

use super::{Engine, runner::on_backend};
use crate::{
    activation::Activation,
    engine_error::EngineError,
    sampling::{Sampled, Sampler, Sampling},
};
use lime_model::ModelError;

impl Engine {
    /// Logits of the rows with these indices, one row of the vocabulary's size each. The activation has been through every layer.
    ///
    /// # Errors
    /// A row that there is not, or no head on this device.
    pub fn logits(&mut self, rows: &[usize], activation: &Activation) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::with_capacity(rows.len() * self.limits.vocabulary);
        self.logits_by(self.limits.most_rows, rows, activation, |place, row| {
            logits.extend_from_slice(row);
            Ok::<_, EngineError>(place + 1)
        })?;
        Ok(logits)
    }

    /// The sum of the states of these rows behind the last norm, each number of them rounded to a multiple of 2^-32 before: exact, so that it does
    /// not matter in which order rows come, nor in how many passes. The activation has been through every layer.
    ///
    /// # Errors
    /// A row that there is not, or no head on this device.
    pub fn pooled(&mut self, rows: &[usize], activation: &Activation) -> Result<Vec<i64>, EngineError> {
        self.output.ok_or(EngineError::NotHere { block: Block::Head })?;
        self.check_activation(activation.rows, activation)?;
        if let Some(row) = rows.iter().copied().find(|row| *row >= activation.rows) {
            return Err(EngineError::Row { row, rows: activation.rows });
        }
        let mut sums = vec![0i64; activation.columns];
        for rows in rows.chunks(self.limits.most_logits.max(1)) {
            let states =
                on_backend!(&mut self.runner, it => it.layers.states(&mut it.memory.blocks, rows, activation))?;
            for row in states.data.chunks_exact(states.columns) {
                for (sum, state) in sums.iter_mut().zip(row) {
                    *sum = sum.saturating_add(fixed_point(*state));
                }
            }
        }
        Ok(sums)
    }

    /// [`Engine::logits`], no more rows at once than the plan has memory for: `take` gets a row's place in `rows` and its logits, and says which place
    /// it wants next, above that one. What it passes over is not computed where that can be helped. The head is read once.
    ///
    /// # Errors
    /// A row that there is not, no head on this device, or what `take` fails with.
    pub fn each_logits<E: From<EngineError>>(
        &mut self,
        rows: &[usize],
        activation: &Activation,
        take: impl FnMut(usize, &mut [f32]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.logits_by(self.limits.most_logits, rows, activation, take)
    }

    fn logits_by<E: From<EngineError>>(
        &mut self,
        at_once: usize,
        rows: &[usize],
        activation: &Activation,
        take: impl FnMut(usize, &mut [f32]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let output = self.output.ok_or(EngineError::NotHere { block: Block::Head })?;
        self.check_activation(activation.rows, activation)?;
        if let Some(row) = rows.iter().copied().find(|row| *row >= activation.rows) {
            return Err(EngineError::Row { row, rows: activation.rows }.into());
        }
        on_backend!(&mut self.runner, it => it.layers.logits(&mut it.memory.blocks, output, (rows, at_once), activation, take))
    }

    /// What draws tokens from rows of logits.
    pub fn sampler(&self) -> Sampler {
        Sampler::new(Arc::clone(&self.kernels))
    }

    /// Draws a token from one row of logits.
    ///
    /// # Errors
    /// Parameters out of range, or logits that no token can be drawn from.
    pub fn sample(&self, logits: &mut [f32], sampling: &Sampling) -> Result<Sampled, ModelError> {
        crate::sampling::sample(&self.kernels, logits, sampling)
    }
}

/// A number in units of 2^-32. What is no number is none; what is beyond the range is its greatest.
fn fixed_point(number: f32) -> i64 {
    // Exact: a power of two times what 24 bits hold.
    (f64::from(number) * 4_294_967_296.0).round_ties_even() as i64
}
