//! Attention over pages on another device: the question, and its answer as the kernels take it.

use std::time::{Duration, Instant};

use lime_kernels::{AttentionArgs, AttentionBefore, attention_state_floats};

use lime_plan::KeptRows;

use crate::{
    batch::Batch,
    engine_error::EngineError,
    keeper::{KeeperError, PageKeeper},
};

/// The keeper, and what its answers are put together in. The buffers come with the first question and go with the last page:
/// the plan counts them in what handing pages over frees.
pub(crate) struct RemotePages {
    pub(crate) keeper: Box<dyn PageKeeper>,
    parts: Vec<KeptRows>,
    /// For each row of the batch how many of its pages are remote.
    counts: Vec<u32>,
    queries: Vec<f32>,
    state: Vec<f32>,
    asked: Asked,
}

/// Questions since they were last counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) questions: u32,
    pub(crate) took: Duration,
    /// Whether each of them was about one row of each sequence.
    pub(crate) single_rows: bool,
}

impl RemotePages {
    pub(crate) fn new(keeper: Box<dyn PageKeeper>) -> Self {
        let (parts, counts) = (Vec::new(), Vec::new());
        Self { keeper, parts, counts, queries: Vec::new(), state: Vec::new(), asked: Asked::default() }
    }

    /// Questions since this was last called.
    pub(crate) fn take_asked(&mut self) -> Asked {
        std::mem::take(&mut self.asked)
    }

    /// Gives the buffers back.
    pub(crate) fn rest(&mut self) {
        (self.queries, self.state) = (Vec::new(), Vec::new());
    }

    /// Where the rows of a batch stand after the pages that are remote.
    pub(super) fn ask(
        &mut self,
        layer: usize,
        batch: &Batch<'_>,
        args: &AttentionArgs<'_>,
    ) -> Result<AttentionBefore<'_>, EngineError> {
        let head_dim = args.layout.head_dim;
        let (query, stand) = (args.heads * head_dim, attention_state_floats(args.heads, head_dim));
        self.parts.clear();
        self.counts.clear();
        self.queries.clear();
        let apart = batch.remote.contains(&0);
        for (part, &pages) in batch.parts.iter().zip(&batch.remote) {
            let row = self.counts.len();
            self.counts.resize(row + part.count as usize, pages);
            if pages > 0 {
                self.parts.push(KeptRows { slot: part.slot, pages, count: part.count });
                if apart {
                    self.queries.extend_from_slice(&args.q[row * query..self.counts.len() * query]);
                }
            }
        }
        let queries = if apart { &self.queries } else { args.q };
        let asked = queries.len() / query.max(1);
        self.state.resize(self.counts.len() * stand, 0.0);
        let began = Instant::now();
        self.keeper.attend(layer as u32, &self.parts, queries, &mut self.state[..asked * stand])?;
        let single_rows = self.parts.iter().all(|part| part.count == 1);
        self.asked = Asked {
            questions: self.asked.questions + 1,
            took: self.asked.took + began.elapsed(),
            single_rows: single_rows && (self.asked.questions == 0 || self.asked.single_rows),
        };
        if apart {
            // Answers lie one after the other; each goes to its row, the last first.
            let mut from = asked;
            for (row, _) in self.counts.iter().enumerate().rev().filter(|(_, pages)| **pages > 0) {
                from -= 1;
                self.state.copy_within(from * stand..(from + 1) * stand, row * stand);
            }
        }
        Ok(AttentionBefore { pages: &self.counts, state: &self.state })
    }
}

/// Pages are remote, and nobody keeps them: that cannot be.
pub(crate) const fn nobody() -> KeeperError {
    KeeperError::Nobody
}
