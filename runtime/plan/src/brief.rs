//! A model card short enough for a pod's termination message (4096 bytes), and the answer of an inspection in that form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    belief::{CardError, Limit},
    card::{BlockBytes, ModelCard},
    units::Bytes,
};

/// What an inspection found: a card, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Inspection {
    /// The model can be served.
    Card(Box<BriefCard>),
    /// It cannot.
    Refused {
        /// One word: ModelNotFound, ModelGated, UnsupportedArchitecture or SourceUnreachable.
        reason: String,
        /// A sentence.
        message: String,
    },
}

/// A [`ModelCard`] whose block sizes are run-length coded: `[count, size]`, sizes by index into a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BriefCard {
    /// The card without its layers' blocks.
    card: ModelCard,
    /// The sizes that occur.
    sizes: Vec<u64>,
    /// Runs of attention blocks.
    attention: Vec<(u64, usize)>,
    /// Runs of MLP blocks.
    mlp: Vec<(u64, usize)>,
    /// Runs of compact attention blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compact_attention: Vec<(u64, usize)>,
    /// Runs of compact MLP blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compact_mlp: Vec<(u64, usize)>,
    /// The commit that was looked up, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// A brief card that is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BriefError {
    /// Not the JSON that an inspection writes.
    #[error("an inspection's answer cannot be read: {0}")]
    Malformed(String),
    /// Runs that do not add up to the layers.
    #[error("the card names {found} {what} blocks for {layers} layers")]
    Runs {
        /// Which blocks.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        layers: u32,
    },
    /// A run that names a size outside the table.
    #[error("the card names a size that it does not hold")]
    Size,
    /// A card that no model has.
    #[error(transparent)]
    Card(#[from] CardError),
}

impl BriefCard {
    /// The brief form of `card`.
    pub fn new(card: &ModelCard, revision: Option<String>) -> Self {
        let mut table = BTreeMap::new();
        let mut sizes = Vec::new();
        let mut runs = |blocks: &[Bytes]| {
            let mut runs: Vec<(u64, usize)> = Vec::new();
            for bytes in blocks {
                let index = *table.entry(bytes.0).or_insert_with(|| {
                    sizes.push(bytes.0);
                    sizes.len() - 1
                });
                match runs.last_mut() {
                    Some((count, last)) if *last == index => *count += 1,
                    _ => runs.push((1, index)),
                }
            }
            runs
        };
        let (attention, mlp) = (runs(&card.blocks.attention), runs(&card.blocks.mlp));
        let compact = card.compact.as_ref();
        let compact_attention = compact.map(|blocks| runs(&blocks.attention)).unwrap_or_default();
        let compact_mlp = compact.map(|blocks| runs(&blocks.mlp)).unwrap_or_default();
        let blocks = BlockBytes { attention: Vec::new(), mlp: Vec::new(), ..card.blocks.clone() };
        let compact = card.compact.clone().map(|it| BlockBytes { attention: Vec::new(), mlp: Vec::new(), ..it });
        Self {
            card: ModelCard { blocks, compact, ..card.clone() },
            sizes,
            attention,
            mlp,
            compact_attention,
            compact_mlp,
            revision,
        }
    }

    /// The card in full.
    ///
    /// # Errors
    /// If the runs do not add up to the layers or name sizes that are not there, and on a card that no model has.
    pub fn card(&self) -> Result<ModelCard, BriefError> {
        let layers = self.card.layers;
        let full = |what: &'static str, runs: &[(u64, usize)]| {
            let found = runs.iter().fold(0_u64, |sum, (count, _)| sum.saturating_add(*count));
            if found != u64::from(layers) || found > Limit::LAYERS.most {
                return Err(BriefError::Runs { what, found, layers });
            }
            let mut blocks = Vec::with_capacity(found as usize);
            for (count, index) in runs {
                let size = *self.sizes.get(*index).ok_or(BriefError::Size)?;
                blocks.extend(std::iter::repeat_n(Bytes(size), *count as usize));
            }
            Ok::<_, BriefError>(blocks)
        };
        let blocks = BlockBytes {
            attention: full("attention", &self.attention)?,
            mlp: full("MLP", &self.mlp)?,
            ..self.card.blocks.clone()
        };
        let compact = |it: &BlockBytes| {
            Ok::<_, BriefError>(BlockBytes {
                attention: full("compact attention", &self.compact_attention)?,
                mlp: full("compact MLP", &self.compact_mlp)?,
                ..it.clone()
            })
        };
        let compact = self.card.compact.as_ref().map(compact).transpose()?;
        let card = ModelCard { blocks, compact, ..self.card.clone() };
        card.check()?;
        Ok(card)
    }
}

impl Inspection {
    /// One line of JSON.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_line`] wrote.
    ///
    /// # Errors
    /// On anything else.
    pub fn from_line(line: &str) -> Result<Self, BriefError> {
        serde_json::from_str(line.trim()).map_err(|error| BriefError::Malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, small_card};

    fn card(layers: u32) -> ModelCard {
        small_card(&mut Random::new(1), layers)
    }

    #[test]
    fn a_card_survives_and_fits_into_a_termination_message() {
        let mut large = card(126);
        for (index, bytes) in large.blocks.mlp.iter_mut().enumerate() {
            *bytes = Bytes(600_000_000 + (index as u64 % 2) * 4096);
        }
        for card in [card(1), card(32), large] {
            let brief = BriefCard::new(&card, Some("abc".into()));
            let line = Inspection::Card(Box::new(brief)).to_line();
            assert!(line.len() < 4096, "{}", line.len());
            let Ok(Inspection::Card(back)) = Inspection::from_line(&line) else { panic!("{line}") };
            assert_eq!(back.card(), Ok(card));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "{}", "null", "{\"card\":{}}", "[1,2]"] {
            assert!(Inspection::from_line(line).is_err(), "{line}");
        }
        let good = BriefCard::new(&card(4), None);
        let greedy = BriefCard { attention: vec![(u64::MAX, 0), (u64::MAX, 0)], ..good.clone() };
        assert!(matches!(greedy.card(), Err(BriefError::Runs { .. })));
        let lost = BriefCard { mlp: vec![(4, 9)], ..good };
        assert_eq!(lost.card(), Err(BriefError::Size));
    }
}
