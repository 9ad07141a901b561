//! One sequence: what it needs to survive, and how far the ring is with it.

use std::{collections::HashMap, sync::Arc};

use lime_grammar::{GrammarError, Matcher};
use lime_plan::{KV_PAGE_TOKENS, TokenSet};
use lime_ring::{
    MOST_DRAFTS,
    proto::{Pooled, Rows, Scoring, Token},
};
use lime_trace::TraceContext;

use super::{
    Carried, Limits,
    prefixes::{KeyId, Place, Prefixes},
};
use crate::{
    sampling::{SamplingParams, allow},
    speculation::{Drafter, Drafting, Guesses},
};

/// Names a sequence for as long as the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// A sequence as a request asks for it.
#[derive(Clone, Debug)]
pub struct NewSequence {
    /// Its name.
    pub id: SequenceId,
    /// Tokens to go on from; at least one.
    pub prompt: Arc<[u32]>,
    /// Most tokens to draw; at least one. Prompt and answer fit the context.
    pub max_tokens: u32,
    /// How to draw them.
    pub sampling: SamplingParams,
    /// Tokens that end the answer.
    pub end_tokens: Arc<[u32]>,
    /// The request's span, where it is traced.
    pub trace: Option<TraceContext>,
    /// What the answer is expected to be like, if anything.
    pub prediction: Arc<[u32]>,
    /// The API key for which it is computed, where there are keys.
    pub key: Option<KeyId>,
    /// The grammar of its answer, if it has one.
    pub matcher: Option<Matcher>,
    /// So many alternatives are told of each token of the prompt, and how likely it was; `None`: nothing is.
    pub scoring: Option<u32>,
    /// Which of the prompt's states are added up; `None`: none are.
    pub pooling: Option<Pooling>,
}

/// Which rows of a prompt an embedding is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// All of them.
    Mean,
    /// The last.
    #[default]
    Last,
}

/// Why a sequence came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer.
    Stop,
    /// The wish's number of tokens is reached.
    Length,
    /// The answer is whole by its grammar: nothing can follow.
    Whole,
}

/// Rings die of other things than requests; only a sequence that loses several without a token between them is tried alone.
const LOSSES_BEFORE_SUSPICION: u32 = 3;
/// How likely a token is that a grammar leaves no choice about: a model may write it in other pieces.
const FORCED: f64 = 0.9;
/// Every device makes a span of a pass that is traced: of a long answer some passes tell enough.
const TRACED_EVERY: usize = 16;

/// A sequence, waiting or under way.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: SequenceId,
    /// Its KV slot; of no meaning while it waits for one.
    pub(super) slot: u32,
    /// Prompt and answer so far: all that a replay needs.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    max_tokens: u32,
    sampling: SamplingParams,
    end_tokens: Arc<[u32]>,
    trace: Option<TraceContext>,
    /// Where its tokens are guessed ahead.
    drafting: Option<Drafting>,
    counts: HashMap<u32, u32>,
    /// How far its answer is in its grammar.
    matcher: Option<Matcher>,
    /// What became wrong with it.
    misfit: Option<GrammarError>,
    /// Tokens that its grammar leaves no choice about, most likely: they are what is guessed now.
    forced: Vec<u32>,
    /// How many alternatives are wanted of each token of the prompt.
    scoring: Option<u32>,
    /// How likely those tokens were, from the second on, as far as that has come.
    scores: Vec<Token>,
    pooling: Option<Pooling>,
    /// The sum of the states of rows that are back, in units of 2^-32.
    sums: Vec<i64>,
    /// Positions that are on their way or in the KV cache.
    scheduled: usize,
    /// Positions that are in the KV cache of every device.
    landed: usize,
    key: Option<KeyId>,
    /// Its pages among those that are kept.
    pub(super) place: Place,
    /// It begins from its start, whatever is kept: pages that it began behind were not there.
    plain: bool,
    /// Tokens of its prompt that were there when it began.
    cached: Option<u32>,
    /// Passes on their way with rows of this sequence.
    pub(super) in_flight: u32,
    /// It begins anew once its passes are back: what they bring is of no use.
    pub(super) settling: bool,
    /// Nobody wants the answer any more.
    pub(super) cancelled: bool,
    /// When it last had a prefill chunk; the longest wait goes first.
    pub(super) served: u64,
    /// Passes that failed since its last token.
    pub(super) failures: u32,
    /// Rings that were lost under it since its last token.
    pub(super) losses: u32,
}

impl Sequence {
    pub(super) fn new(wish: NewSequence, source: Option<Box<dyn Drafter>>) -> Self {
        debug_assert!(!wish.prompt.is_empty() && wish.max_tokens > 0, "checked at admission");
        let mut tokens = Vec::with_capacity(wish.prompt.len() + 64);
        tokens.extend_from_slice(&wish.prompt);
        // The prompt's tokens are known, and none of them was drawn.
        let known = if wish.sampling.counts_prompt() { wish.prompt.as_ref() } else { &[] };
        let counts = known.iter().map(|token| (*token, 0)).collect();
        Self {
            id: wish.id,
            slot: u32::MAX,
            prompt_tokens: wish.prompt.len(),
            tokens,
            max_tokens: wish.max_tokens,
            sampling: wish.sampling,
            end_tokens: wish.end_tokens,
            trace: wish.trace,
            drafting: source.map(Drafting::new),
            counts,
            matcher: wish.matcher,
            misfit: None,
            forced: Vec::new(),
            scoring: wish.scoring,
            scores: Vec::new(),
            pooling: wish.pooling,
            sums: Vec::new(),
            scheduled: 0,
            landed: 0,
            key: wish.key,
            place: Place::default(),
            plain: false,
            cached: None,
            in_flight: 0,
            settling: false,
            cancelled: false,
            served: 0,
            failures: 0,
            losses: 0,
        }
    }

    /// Gives it a slot.
    pub(super) fn place(&mut self, slot: u32, now: u64) {
        self.slot = slot;
        self.served = now;
    }

    /// Tokens of prompt and answer so far.
    pub(super) fn length(&self) -> usize {
        self.tokens.len()
    }

    /// Rows that no pass carries yet.
    pub(super) fn remaining(&self) -> usize {
        self.tokens.len() - self.scheduled
    }

    /// Whether the next row draws the next token of an answer that is under way.
    pub(super) fn decoding(&self) -> bool {
        self.scheduled > 0 && self.scheduled + 1 >= self.tokens.len() && self.generated() > 0
    }

    /// Whether a decode row can go out now.
    pub(super) fn ready_to_decode(&self) -> bool {
        self.decoding() && self.remaining() == 1 && self.in_flight == 0 && !self.cancelled && !self.settling
    }

    /// Whether a prefill chunk can go out now.
    pub(super) fn ready_to_prefill(&self) -> bool {
        !self.decoding() && self.remaining() > 0 && !self.cancelled && !self.settling
    }

    /// Whether it may be in trouble that it causes itself.
    pub(super) fn suspect(&self) -> bool {
        self.failures > 0 || self.losses >= LOSSES_BEFORE_SUSPICION
    }

    /// What it may guess of the tokens after its next one; nothing where it may be in trouble that it causes itself, or where draws after the
    /// next one would be others.
    pub(super) fn guess(&mut self, room: usize, limits: &Limits) -> Guesses {
        let alone = self.suspect() || !self.sampling.takes_guesses(self.generated() as u64);
        // A token for each guess and one more: within what is asked for, and within the context.
        let asked = (self.max_tokens as usize).saturating_sub(self.generated() + 1);
        let context = (limits.context as usize).saturating_sub(self.tokens.len() + 1);
        let Some(drafting) = self.drafting.as_mut().filter(|_| !alone) else { return Guesses::default() };
        self.forced = self.matcher.as_mut().map(Matcher::likely).unwrap_or_default();
        self.forced.truncate(room.min(asked).min(context).min(MOST_DRAFTS));
        if !self.forced.is_empty() {
            return Guesses { chances: vec![FORCED; self.forced.len()] };
        }
        drafting.guess(&self.tokens, room.min(asked).min(context), limits.vocabulary)
    }

    /// Takes up to `most` rows into a pass, and where the last of them draws a token, rows for its first `guesses` guesses.
    pub(super) fn take_rows(
        &mut self,
        most: usize,
        guesses: usize,
        prefixes: &mut Prefixes,
        tokens: &mut Vec<u32>,
    ) -> (Rows, Carried) {
        let prefix = if self.scheduled == 0 { self.begin(prefixes) } else { Vec::new() };
        let count = self.remaining().min(most);
        let start = self.scheduled;
        tokens.extend_from_slice(&self.tokens[start..start + count]);
        self.scheduled += count;
        self.in_flight += 1;
        if let Some(drafting) = &mut self.drafting {
            // With each chunk of the prompt, so that no long one is learnt at once.
            drafting.catch_up(&self.tokens, self.scheduled);
        }
        let draws = self.remaining() == 0;
        let sample = draws.then(|| self.sampling.on_wire(self.generated() as u64, &self.counts));
        let most = if draws { guesses } else { 0 };
        let forced = std::mem::take(&mut self.forced);
        let guesses = match &self.drafting {
            _ if !forced.is_empty() => &forced[..most.min(forced.len())],
            Some(drafting) => drafting.first(most),
            None => &[],
        };
        let (guesses, ahead) = ahead(self.matcher.as_mut(), guesses, &mut self.misfit);
        tokens.extend_from_slice(guesses);
        let mut drafts = self.sampling.drafts_on_wire(guesses, &self.counts);
        let mut sample = sample;
        if let (Some(matcher), Some(sample)) = (&self.matcher, &mut sample) {
            allow(sample, &mut drafts, matcher.allowed(), &ahead);
        }
        let sure = count;
        let (slot, start, count) = (self.slot, start as u32, (count + drafts.len()) as u32);
        let (end, begins_behind) = (start + count, !prefix.is_empty());
        let scoring = self.scoring(start as usize, sure);
        let scored = scoring.as_ref().map_or(0, |scoring| scoring.next.len() as u32);
        let pooled = match self.pooling {
            Some(Pooling::Mean) => sure as u32,
            Some(Pooling::Last) => draws.into(),
            None => 0,
        };
        let guesses = guesses.to_vec();
        let carried = Carried { slot, start, end, begins_behind, draws, scored, pools: pooled > 0, guesses };
        (Rows { slot, start, count, sample, trace: self.trace(), drafts, prefix, scoring, pooled }, carried)
    }

    /// A pass brought these tokens, of which all but the last were guessed: their rows are in the KV cache already. Those that follow are
    /// forgotten with the next rows.
    pub(super) fn drew(&mut self, tokens: &[u32]) {
        self.scheduled += tokens.len().saturating_sub(1);
        if let Some(drafting) = &mut self.drafting {
            drafting.drawn(tokens);
        }
    }

    /// Whether what is kept of its beginning is of no use.
    fn needs_every_row(&self) -> bool {
        self.scoring.is_some() || self.pooling == Some(Pooling::Mean)
    }

    /// What is asked of `count` rows from position `start` on about the tokens of the prompt behind them.
    fn scoring(&self, start: usize, count: usize) -> Option<Scoring> {
        let top_logprobs = self.scoring?;
        let next = self.tokens[..self.prompt_tokens].get(start + 1..)?;
        // Of a prompt that is computed again, what was told already is not asked again.
        let wanted = start + count > self.scores.len() && !next.is_empty();
        wanted.then(|| Scoring { next: next[..count.min(next.len())].to_vec(), top_logprobs })
    }

    /// How likely the tokens behind the rows from position `start` on were.
    pub(super) fn scored(&mut self, start: u32, scores: Vec<Token>) {
        let known = self.scores.len().saturating_sub(start as usize);
        self.scores.extend(scores.into_iter().skip(known));
    }

    /// A pass brought a sum of states.
    pub(super) fn pooled(&mut self, brought: Option<&Pooled>) {
        let Some(brought) = brought else { return };
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_le_bytes);
        let brought: Vec<i64> = brought.sums.chunks_exact(8).map(number).collect();
        self.sums.resize(brought.len(), 0);
        self.sums.iter_mut().zip(brought).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// The sum of the prompt's states: with the first token of the answer, and not again.
    pub(super) fn take_pooled(&mut self) -> Vec<i64> {
        if self.pooling.take().is_some() { std::mem::take(&mut self.sums) } else { Vec::new() }
    }

    /// How likely the prompt's tokens were: with the first of the answer, and not again.
    pub(super) fn take_scores(&mut self) -> Vec<Token> {
        if self.scoring.take().is_some() { std::mem::take(&mut self.scores) } else { Vec::new() }
    }

    /// Whether it is yet to begin, and may begin behind what others computed.
    pub(super) fn may_restore(&self) -> bool {
        self.scheduled == 0
            && self.in_flight == 0
            && !self.plain
            && !self.needs_every_row()
            && !self.suspect()
            && !self.cancelled
            && !self.settling
    }

    /// Whether pages behind those at hand can be brought back for it, and it does not wait for some.
    pub(super) fn wants_pages(&self, prefixes: &Prefixes) -> bool {
        !prefixes.awaits(&self.place) && prefixes.can_restore(self.key, &self.tokens)
    }

    /// Has them brought back, as long as there is room beside `own` pages that sequences have for themselves.
    pub(super) fn restore(&mut self, own: u64, prefixes: &mut Prefixes) {
        prefixes.restore(self.key, &self.tokens, own, &mut self.place);
    }

    /// Begins behind what is kept of it; gives those pages.
    fn begin(&mut self, prefixes: &mut Prefixes) -> Vec<u64> {
        // Whoever may be in trouble that it causes itself has nothing to do with others.
        let plain = self.plain || self.suspect() || self.needs_every_row();
        let behind = if plain { Vec::new() } else { prefixes.begin(self.key, &self.tokens, &mut self.place) };
        self.scheduled = behind.len() * KV_PAGE_TOKENS as usize;
        self.landed = self.scheduled;
        self.cached.get_or_insert(self.scheduled.min(self.prompt_tokens) as u32);
        behind
    }

    /// What it was to begin behind was not there. Once is enough: from now on it begins from its start.
    pub(super) fn begin_plainly(&mut self) {
        self.plain = true;
        if self.generated() == 0 {
            self.cached = None;
        }
    }

    /// Rows up to position `end` are in every device's KV cache: others may begin behind them.
    pub(super) fn landed(&mut self, end: u32, prefixes: &mut Prefixes) {
        // The last token's row is still to come, or nobody wants it.
        self.landed = self.landed.max((end as usize).min(self.tokens.len() - 1));
        prefixes.learn(self.key, &self.tokens, self.landed, self.slot, &mut self.place);
    }

    /// Its slot, or what that holds of it, is given up.
    pub(super) fn leave(&mut self, prefixes: &mut Prefixes) {
        prefixes.leave(&mut self.place);
    }

    /// KV pages that its slot has for itself.
    pub(super) fn own_pages(&self) -> usize {
        self.scheduled.div_ceil(KV_PAGE_TOKENS as usize).saturating_sub(self.place.shared())
    }

    /// Whether it is better to wait until `before`, which came earlier, has computed pages that both begin with.
    pub(super) fn waits_for(&self, before: &Self, prefixes: &Prefixes) -> bool {
        let begins = self.scheduled == 0 && !self.plain && !self.suspect() && !self.needs_every_row();
        if !begins || before.cancelled || !prefixes.is_on() || !prefixes.may_share(self.key, before.key) {
            return false;
        }
        let page = KV_PAGE_TOKENS as usize;
        let pages = self.tokens[..self.tokens.len() - 1].chunks_exact(page).zip(before.tokens.chunks_exact(page));
        let common = pages.take_while(|(own, theirs)| own == theirs).count();
        before.landed < common * page && prefixes.known(self.key, &self.tokens) < common
    }

    /// Tokens of its prompt that were not computed for it.
    pub(super) fn cached(&self) -> u32 {
        self.cached.unwrap_or_default()
    }

    /// Appends a token of the answer; says whether it was the last.
    pub(super) fn push(&mut self, token: u32) -> Option<Finish> {
        self.tokens.push(token);
        self.failures = 0;
        self.losses = 0;
        if self.sampling.counts_tokens() {
            *self.counts.entry(token).or_default() += 1;
        }
        if self.end_tokens.contains(&token) {
            return Some(Finish::Stop);
        }
        if let Some(matcher) = &mut self.matcher {
            match matcher.advance(token) {
                Ok(()) if matcher.is_over() => return Some(Finish::Whole),
                Ok(()) => {}
                Err(fault) => self.misfit = Some(fault),
            }
        }
        if self.generated() >= self.max_tokens as usize { Some(Finish::Length) } else { None }
    }

    /// What became wrong with its grammar, if anything: it cannot go on.
    pub(super) fn take_misfit(&mut self) -> Option<GrammarError> {
        self.misfit.take()
    }

    /// Begins anew from prompt and answer so far: the ring has forgotten everything.
    pub(super) fn rewind(&mut self) {
        self.sums.clear();
        (self.scheduled, self.landed) = (0, 0);
        self.place = Place::default();
        self.in_flight = 0;
        self.settling = false;
    }

    /// The same while the ring goes on: passes that are on their way come back first.
    pub(super) fn settle(&mut self, prefixes: &mut Prefixes) {
        self.sums.clear();
        (self.scheduled, self.landed) = (0, 0);
        self.leave(prefixes);
        self.settling = self.in_flight > 0;
    }

    /// A pass with rows of it is back.
    pub(super) fn land(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.settling &= self.in_flight > 0;
    }

    /// Rows that were taken into a pass did not go out: they begin at `start` again.
    pub(super) fn take_back(&mut self, start: u32, begins_behind: bool, prefixes: &mut Prefixes) {
        self.scheduled = start as usize;
        self.in_flight = self.in_flight.saturating_sub(1);
        if begins_behind || start == 0 {
            (self.scheduled, self.landed) = (0, 0);
            self.leave(prefixes);
        }
    }

    /// What a pass carries of its request's trace: those of the prompt, and one for every so many tokens of the answer.
    fn trace(&self) -> Vec<u8> {
        let told = self.trace.filter(|_| self.generated().is_multiple_of(TRACED_EVERY));
        told.map_or_else(Vec::new, |context| context.to_wire().to_vec())
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }
}

/// Of `guesses` those that the grammar has a place for, and what may be drawn after each.
fn ahead<'a>(
    matcher: Option<&mut Matcher>,
    guesses: &'a [u32],
    misfit: &mut Option<GrammarError>,
) -> (&'a [u32], Vec<TokenSet>) {
    let Some(matcher) = matcher.filter(|_| !guesses.is_empty()) else { return (guesses, Vec::new()) };
    match matcher.ahead(guesses) {
        Ok(sets) => (&guesses[..sets.len()], sets),
        Err(fault) => {
            // What comes back from this pass is its last token.
            *misfit = Some(fault);
            (&[], Vec::new())
        }
    }
}
