//! What a plan allows on its ring: the numbers against which every message is checked.

use crate::proto::ActivationType;

/// The numbers of a plan that bound its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Segments of the plan.
    pub segments: u32,
    /// KV slots.
    pub slots: u32,
    /// Most rows of a pass.
    pub max_rows: u32,
    /// Longest sequence in tokens.
    pub context: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Rows of the embedding and of the output matrix.
    pub vocabulary: u32,
    /// What the wire carries.
    pub activation: ActivationType,
}

/// Fields, tags and lengths besides the large ones.
const SMALL: usize = 64 << 10;
/// A `Rows` with its sampling, the biases apart.
const ROWS: usize = 256;
/// A `LogitBias`, or a `TokenLogprob`, with tags and lengths.
const PER_TOKEN: usize = 16;

impl FrameLimits {
    /// Bytes of the activations of `rows` rows.
    pub const fn activation_bytes(&self, rows: u64) -> u64 {
        let element = match self.activation {
            ActivationType::Bf16 | ActivationType::F16 => 2,
            ActivationType::F32 => 4,
            ActivationType::Unspecified => 0,
        };
        rows * self.hidden as u64 * element
    }

    /// Longest `Pass` on the wire.
    pub fn pass_message_bytes(&self) -> usize {
        let bias = (self.vocabulary as usize).saturating_mul(PER_TOKEN);
        let rows = (self.slots as usize).saturating_mul(bias.saturating_add(ROWS));
        rows.saturating_add(PER_TOKEN * self.max_rows as usize).saturating_add(SMALL)
    }

    /// Longest `Frame` on the wire.
    pub fn frame_message_bytes(&self) -> usize {
        let activations = usize::try_from(self.activation_bytes(self.max_rows.into()));
        self.pass_message_bytes().saturating_add(activations.unwrap_or(usize::MAX))
    }

    /// Longest `PassResult` on the wire: every slot returns its logits and all of their probabilities.
    pub fn result_message_bytes(&self) -> usize {
        let token = (self.vocabulary as usize).saturating_mul(4 + PER_TOKEN).saturating_add(ROWS);
        (self.slots as usize).saturating_mul(token).saturating_add(SMALL)
    }
}
