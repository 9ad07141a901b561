//! What a model computes beyond a plain transformer, as far as memory and time depend on it.

use serde::{Deserialize, Serialize};

/// What is unlike a plain transformer, whose every layer looks back to the start, rotates as the others do and has one MLP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelFeatures {
    /// Elements of a head that are rotated, for each way in which layers rotate: each has a table of sines and cosines of its own. Empty
    /// where there is one way, of whole heads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ropes: Vec<u32>,
    /// The attention window of each layer in positions, 0 where it looks back to the start. Empty where all do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<u32>,
    /// Whether scores are bent under a bound.
    #[serde(skip_serializing_if = "is_false")]
    pub capped_scores: bool,
    /// Experts among which each row chooses, in every layer; none where a layer has one MLP for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixture: Option<Mixture>,
}

/// The experts of a layer, each an MLP as wide as the card says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixture {
    /// How many there are.
    pub experts: u32,
    /// How many of them a row goes through.
    pub used: u32,
    /// Width of one more that every row goes through; 0 where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared: u32,
}

impl ModelFeatures {
    /// Whether nothing is unlike a plain transformer.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a row's scores depend on keys and queries alone, so that a device which knows nothing else may compute them.
    pub fn attends_plainly(&self) -> bool {
        !self.capped_scores && self.windows.iter().all(|window| *window == 0)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        block::Block,
        testing,
        units::{Bytes, LayerIndex},
    };

    #[test]
    fn a_mixture_reads_what_its_rows_choose() {
        let mut card = testing::small_card(&mut testing::Random::new(1), 2);
        let (mlp, attention) = (Block::Mlp(LayerIndex(1)), Block::Attention(LayerIndex(1)));
        assert_eq!(card.bytes_read(mlp, 1), card.block_bytes(mlp));
        card.features.mixture = Some(Mixture { experts: 8, used: 2, shared: 0 });
        let all = card.block_bytes(mlp);
        assert_eq!(card.bytes_read(mlp, 1), Bytes(all.0.div_ceil(4)));
        let read: Vec<Bytes> = [1, 2, 8, 100].map(|rows| card.bytes_read(mlp, rows)).into();
        assert!(read.is_sorted() && read[3] <= all && read[3].0 * 1000 > all.0 * 999, "{read:?}");
        assert_eq!(card.bytes_read(attention, 1), card.block_bytes(attention));
        // As wide as all experts together: half of the block is read by every row.
        card.features.mixture = Some(Mixture { experts: 8, used: 2, shared: 8 * card.intermediate });
        assert_eq!(card.bytes_read(mlp, 1), Bytes((all.0 as f64 * 0.625).ceil() as u64));
    }

    #[test]
    fn a_window_ends_what_is_seen() {
        let mut card = testing::small_card(&mut testing::Random::new(1), 2);
        assert_eq!(card.seen(LayerIndex(1), 900), 900);
        card.features.windows = vec![0, 512];
        assert_eq!([0, 1].map(|layer| card.seen(LayerIndex(layer), 900)), [900, 512]);
        assert_eq!(card.seen(LayerIndex(1), 100), 100);
        assert!(!card.features.attends_plainly());
    }

    #[test]
    fn cards_of_plain_models_say_nothing_of_it() {
        let card = testing::small_card(&mut testing::Random::new(1), 2);
        let text = serde_json::to_string(&card).unwrap();
        assert!(!text.contains("features"), "{text}");
        let mut other = card;
        other.features.mixture = Some(Mixture { experts: 8, used: 2, shared: 0 });
        let read: crate::card::ModelCard = serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap();
        assert_eq!(read, other);
        other.features.mixture = Some(Mixture { experts: 8, used: 9, shared: 0 });
        assert!(other.check().unwrap_err().to_string().contains("experts for each row"));
        other.features = ModelFeatures { windows: vec![1; 3], ..ModelFeatures::default() };
        assert!(other.check().unwrap_err().to_string().contains("windows of attention"));
    }
}
