//! What a plan allows on its ring: the numbers against which every message is checked.

use lime_plan::{Dtype, KV_PAGE_TOKENS, MemoryModel, PageName, Plan};

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
    /// The residual stream's type, which the wire carries.
    pub residual: Dtype,
}

/// The numbers of a plan that bound what a device asks of the one that keeps KV pages for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// Bytes of the largest page of any device.
    pub page_bytes: u64,
    /// Most rows of a question.
    pub max_rows: u32,
    /// Query heads of a row.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
}

impl KeepLimits {
    /// The limits that `plan` sets on what devices ask about remote KV pages.
    pub fn of(plan: &Plan) -> Self {
        let memory = MemoryModel::of(plan);
        let pages = plan.devices.iter().map(|device| memory.page_bytes(device.attentions()).0);
        Self {
            page_bytes: pages.max().unwrap_or_default(),
            max_rows: plan.serving.max_rows(),
            heads: plan.model.heads,
            head_dim: plan.model.head_dim,
        }
    }

    /// Longest order or answer on the wire: a page, or where the heads of the largest pass stand.
    pub fn message_bytes(&self) -> usize {
        let rows = PER_TOKEN.saturating_mul(2).saturating_mul(self.max_rows as usize);
        self.answer_bytes().saturating_add(rows).saturating_add(SMALL)
    }

    /// Longest payload of an answer.
    pub fn answer_bytes(&self) -> usize {
        let heads = u64::from(self.max_rows).saturating_mul(u64::from(self.heads));
        let state = heads.saturating_mul(u64::from(self.head_dim) + 2).saturating_mul(4);
        usize::try_from(state.max(self.page_bytes)).unwrap_or(usize::MAX)
    }
}

/// Fields, tags and lengths besides the large ones.
const SMALL: usize = 64 << 10;
/// A `Rows` with its sampling, the biases apart.
const ROWS: usize = 256;
/// A `LogitBias`, a `Draft`, or a `TokenLogprob`, with tags and lengths.
const PER_TOKEN: usize = 16;
/// Tag and length of a field that is short.
const SMALL_FIELD: usize = 8;

/// Most alternatives that are told of a token that is scored.
pub const MOST_SCORED: u32 = 20;
/// Most guesses that one sequence may have in a pass.
pub const MOST_DRAFTS: usize = 31;

impl FrameLimits {
    /// The limits that `plan` sets on its messages.
    pub fn of(plan: &Plan) -> Self {
        Self {
            segments: plan.segments,
            slots: plan.serving.max_concurrent_requests,
            max_rows: plan.serving.max_rows(),
            context: plan.serving.max_context_tokens,
            hidden: plan.model.hidden,
            vocabulary: plan.model.vocabulary,
            residual: plan.residual,
        }
    }

    /// The residual stream's type as a frame names it.
    pub fn activation_type(&self) -> ActivationType {
        self.residual.into()
    }

    /// Bytes of the activations of `rows` rows.
    pub const fn activation_bytes(&self, rows: u64) -> u64 {
        rows * self.hidden as u64 * self.residual.size()
    }

    /// KV pages of a sequence at its longest.
    pub(crate) const fn pages_per_slot(&self) -> u32 {
        self.context.div_ceil(KV_PAGE_TOKENS)
    }

    /// KV pages of all slots at their longest.
    pub(crate) const fn pages(&self) -> u64 {
        self.slots as u64 * self.pages_per_slot() as u64
    }

    /// Longest `Pass` on the wire.
    pub fn pass_message_bytes(&self) -> usize {
        let bias = (self.vocabulary as usize).saturating_mul(PER_TOKEN);
        let rows = (self.slots as usize).saturating_mul(bias.saturating_add(ROWS));
        // A row's token, the one that is scored or guessed, and what may be drawn from it.
        let row = 3 * PER_TOKEN + self.vocabulary.div_ceil(u8::BITS) as usize + PER_TOKEN;
        let rows = rows.saturating_add(row.saturating_mul(self.max_rows as usize));
        // Kept pages that rows begin behind, that are to be kept, that may go, and that come again; two of them with their names.
        let page = 4 * PER_TOKEN + 2 * (PageName::BYTES + SMALL_FIELD);
        let pages = usize::try_from(self.pages()).unwrap_or(usize::MAX).saturating_mul(page);
        rows.saturating_add(pages).saturating_add(SMALL)
    }

    /// Longest `Frame` on the wire.
    pub fn frame_message_bytes(&self) -> usize {
        let activations = usize::try_from(self.activation_bytes(self.max_rows.into()));
        self.pass_message_bytes()
            .saturating_add(self.forgotten_bytes())
            .saturating_add(activations.unwrap_or(usize::MAX))
    }

    /// Longest `PassResult` on the wire: every row that may be drawn from returns its logits and all of their probabilities.
    pub fn result_message_bytes(&self) -> usize {
        let token = (self.vocabulary as usize).saturating_mul(4 + PER_TOKEN).saturating_add(ROWS);
        let draws = (self.slots as usize).saturating_mul(1 + MOST_DRAFTS).min(self.max_rows as usize);
        // And every row may tell of the token after it.
        let scores = (self.max_rows as usize).saturating_mul(MOST_SCORED as usize * PER_TOKEN + ROWS);
        draws
            .saturating_mul(token)
            .saturating_add(scores)
            .saturating_add((self.slots as usize).saturating_mul(8 * self.hidden as usize + ROWS))
            .saturating_add(self.forgotten_bytes())
            .saturating_add(SMALL)
    }

    /// Most kept pages of which a pass tells that they are forgotten: all that were kept, all that are to be, and all that were to come again.
    pub fn most_forgotten(&self) -> usize {
        usize::try_from(self.pages()).unwrap_or(usize::MAX).saturating_mul(3)
    }

    fn forgotten_bytes(&self) -> usize {
        self.most_forgotten().saturating_mul(PER_TOKEN)
    }
}
