//! The limits of belief: the most that is believed of a number that came from elsewhere, be it in a config, a header, a card, a wish
//! or a plan. There is one set of them, so that what one part has read another does not refuse. Within them, sums and products of
//! the memory formula stay within 64 bits, and no list made from a number is longer than a machine can hold.

use thiserror::Error;

use crate::{
    card::ModelCard,
    dtype::Dtype,
    features::{Mixture, ModelFeatures},
    memory::{KV_PAGE_TOKENS, MemoryModel},
    serving_limits::ServingLimits,
    units::Bytes,
};

/// The most that is believed of one kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is counted.
    pub what: &'static str,
    /// The most that is believed.
    pub most: u64,
}

impl Limit {
    /// Layers of a model.
    pub const LAYERS: Self = Self::new("layers", 1 << 12);
    /// Width of the residual stream.
    pub const HIDDEN: Self = Self::new("columns of the residual stream", 1 << 20);
    /// Width of the feed-forward projections.
    pub const INTERMEDIATE: Self = Self::new("columns of an MLP", 1 << 20);
    /// Query heads.
    pub const HEADS: Self = Self::new("heads", 1 << 14);
    /// Key and value heads.
    pub const KV_HEADS: Self = Self::new("KV heads", 1 << 14);
    /// Width of one head.
    pub const HEAD_DIM: Self = Self::new("columns of a head", 1 << 13);
    /// Experts of a layer.
    pub const EXPERTS: Self = Self::new("experts of a layer", 1 << 10);
    /// Rows of the embedding.
    pub const VOCABULARY: Self = Self::new("tokens in the vocabulary", 1 << 24);
    /// Longest context that a model may say it was made for.
    pub const MODEL_CONTEXT: Self = Self::new("tokens of the model's context", 1 << 27);
    /// Longest sequence that may be asked for.
    pub const CONTEXT: Self = Self::new("tokens of context", 1 << 24);
    /// Requests worked on at once.
    pub const REQUESTS: Self = Self::new("request slots", 1 << 12);
    /// Rows of one prefill chunk.
    pub const PREFILL_ROWS: Self = Self::new("prefill rows", 1 << 16);
    /// Segments of a plan: none is without a layer.
    pub const SEGMENTS: Self = Self::new("segments", Self::LAYERS.most);
    /// Devices of a plan, and nodes of a fleet.
    pub const DEVICES: Self = Self::new("devices", 1 << 10);
    /// A model's blocks, all of them together.
    pub const WEIGHTS: Self = Self::new("bytes of weights", MOST_BYTES);
    /// The KV cache of every request at its longest.
    pub const KV: Self = Self::new("bytes of KV cache", MOST_BYTES);
    /// What one device is to hold.
    pub const DEVICE: Self = Self::new("bytes on one device", MOST_BYTES);

    const fn new(what: &'static str, most: u64) -> Self {
        Self { what, most }
    }

    /// Whether `found` is believed.
    ///
    /// # Errors
    /// When it is more than that.
    pub fn check(self, found: impl Into<u128>) -> Result<(), Unbelievable> {
        let (found, most) = (found.into(), u128::from(self.most));
        if found <= most { Ok(()) } else { Err(Unbelievable { what: self.what, found, most }) }
    }

    /// Whether sizes added up are believed.
    ///
    /// # Errors
    /// When they are more than that.
    pub(crate) fn check_sum<'a>(self, sizes: impl IntoIterator<Item = &'a Bytes>) -> Result<(), Unbelievable> {
        self.check(sizes.into_iter().map(|bytes| u128::from(bytes.0)).sum::<u128>())
    }
}

/// Far more than all memory and disks of a fleet.
const MOST_BYTES: u64 = 1 << 56;

/// A number that cannot be meant: further on, arithmetic would break on it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{found} {what}, at most {most} are believed")]
pub struct Unbelievable {
    /// What is counted.
    pub what: &'static str,
    /// What was found.
    pub found: u128,
    /// What is believed.
    pub most: u128,
}

/// A model card that no model has.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CardError {
    /// A count or size that is zero.
    #[error("{0} is zero")]
    Zero(&'static str),
    /// A list that does not match the number of layers.
    #[error("the card of {model} names {found} {what} blocks for {layers} layers")]
    Blocks {
        /// The model.
        model: String,
        /// Which list.
        what: &'static str,
        /// Entries of the list.
        found: usize,
        /// Layers.
        layers: u32,
    },
    /// A number beyond belief.
    #[error("the model has {0}")]
    Unbelievable(#[from] Unbelievable),
}

impl ModelCard {
    /// Checks a card against itself and against what is believed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), CardError> {
        let counts = [
            ("the model's number of layers", self.layers, Limit::LAYERS),
            ("the model's hidden size", self.hidden, Limit::HIDDEN),
            ("the model's feed-forward size", self.intermediate, Limit::INTERMEDIATE),
            ("the model's number of heads", self.heads, Limit::HEADS),
            ("the model's number of key and value heads", self.kv_heads, Limit::KV_HEADS),
            ("the model's head size", self.head_dim, Limit::HEAD_DIM),
            ("the model's vocabulary", self.vocabulary, Limit::VOCABULARY),
            ("the model's context", self.context, Limit::MODEL_CONTEXT),
        ];
        for (what, count, limit) in counts {
            if count == 0 {
                return Err(CardError::Zero(what));
            }
            limit.check(count)?;
        }
        self.check_features()?;
        for blocks in std::iter::once(&self.blocks).chain(&self.compact) {
            for (what, list) in [("attention", &blocks.attention), ("MLP", &blocks.mlp)] {
                if list.len() != self.layers as usize {
                    let (model, found) = (self.name.clone(), list.len());
                    return Err(CardError::Blocks { model, what, found, layers: self.layers });
                }
                if list.contains(&Bytes::ZERO) {
                    return Err(CardError::Zero("a block of the model"));
                }
            }
            let ends = [&blocks.embedding, &blocks.head, &blocks.head_beside_embedding];
            Limit::WEIGHTS.check_sum(ends.into_iter().chain(&blocks.attention).chain(&blocks.mlp))?;
        }
        Ok(())
    }
}

impl ModelCard {
    fn check_features(&self) -> Result<(), CardError> {
        let ModelFeatures { ropes, windows, capped_scores: _, mixture } = &self.features;
        Limit { what: "ways to rotate", most: self.layers.into() }.check(ropes.len() as u64)?;
        for width in ropes {
            Limit { what: "rotated columns of a head", most: self.head_dim.into() }.check(*width)?;
        }
        if !windows.is_empty() && windows.len() != self.layers as usize {
            let (model, found) = (self.name.clone(), windows.len());
            return Err(CardError::Blocks { model, what: "windows of attention", found, layers: self.layers });
        }
        if let Some(Mixture { experts, used, shared }) = *mixture {
            Limit::INTERMEDIATE.check(shared)?;
            if experts == 0 || used == 0 {
                return Err(CardError::Zero("the model's number of experts"));
            }
            Limit::EXPERTS.check(experts)?;
            Limit { what: "experts for each row", most: experts.into() }.check(used)?;
        }
        Ok(())
    }
}

impl ServingLimits {
    /// Checks what may be asked of `card` at once, which has been checked itself.
    ///
    /// # Errors
    /// The first number that is not believed.
    pub(crate) fn check(&self, card: &ModelCard, kv: Dtype, residual: Dtype) -> Result<(), Unbelievable> {
        Limit::CONTEXT.check(self.max_context_tokens)?;
        Limit::REQUESTS.check(self.max_concurrent_requests)?;
        Limit::PREFILL_ROWS.check(self.prefill_chunk_tokens)?;
        let memory = MemoryModel { card, serving: *self, kv, residual };
        let pages = u128::from(memory.pages_per_slot()) * u128::from(self.max_concurrent_requests);
        let page = u128::from(card.kv_bytes_per_token_per_layer(kv).0) * u128::from(KV_PAGE_TOKENS);
        Limit::KV.check(pages * page * u128::from(card.layers))
    }
}
