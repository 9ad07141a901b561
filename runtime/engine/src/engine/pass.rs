//! Passes: tokens become rows, rows go through layers.

use lime_plan::{BatchRows, SegmentIndex};

use super::{Engine, Limits, runner::on_backend};
use crate::{activation::Activation, engine_error::EngineError, residency::Blocks as _};

impl Engine {
    /// The embeddings of `tokens`, one row each.
    ///
    /// # Errors
    /// A token beyond the vocabulary, too many of them, or no embedding on this device.
    pub fn embed(&mut self, tokens: &[u32]) -> Result<Activation, EngineError> {
        let Limits { vocabulary, .. } = self.limits;
        self.check_rows(tokens.len())?;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
            return Err(EngineError::Token { token, vocabulary });
        }
        on_backend!(&mut self.runner, it => it.layers.embed(&mut it.memory.blocks, tokens))
    }

    /// Runs this device's layers of `segment` over the rows of a pass, in place.
    ///
    /// # Errors
    /// Rows that do not continue their sequences or do not fit the plan's limits or the activation. Sequences stay as they were.
    pub fn forward(
        &mut self,
        segment: SegmentIndex,
        rows: &[BatchRows],
        activation: &mut Activation,
    ) -> Result<(), EngineError> {
        let index = segment.0 as usize;
        if index >= self.parts.len() {
            return Err(EngineError::Segment { segment: segment.0, segments: self.parts.len() as u32 });
        }
        let total = rows.iter().map(|part| part.count as usize).sum();
        self.check_rows(total)?;
        self.check_activation(total, activation)?;
        let (parts, entries) = (&self.parts[index], self.entries);
        on_backend!(&mut self.runner, it => it.forward(index, parts, rows, activation, entries))
    }

    /// Says whether the pass of the next calls of [`Engine::forward`] is followed at once by one that meets the same blocks in the
    /// same visits: what is read from disk for it stays in memory for that one.
    pub fn followed(&mut self, followed: bool) {
        on_backend!(&mut self.runner, it => it.memory.blocks.set_followed(followed));
    }

    const fn check_rows(&self, rows: usize) -> Result<(), EngineError> {
        let most = self.limits.most_rows;
        if rows == 0 || rows > most { Err(EngineError::Rows { rows, most }) } else { Ok(()) }
    }

    pub(super) const fn check_activation(
        &self,
        expected_rows: usize,
        activation: &Activation,
    ) -> Result<(), EngineError> {
        let Activation { rows, columns, .. } = *activation;
        let expected_columns = self.limits.hidden;
        if rows == expected_rows && columns == expected_columns {
            return Ok(());
        }
        Err(EngineError::Activation { rows, columns, expected_rows, expected_columns })
    }
}
