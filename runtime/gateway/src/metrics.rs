//! Figures for Prometheus.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lime_metrics::Samples;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    retry_after::RetryAfter,
    schedule::{Guessed, PrefixCounts},
    status::ServedPlan,
};

/// Upper bounds of the time-to-first-token histogram, in seconds.
const FIRST_TOKEN: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
/// Upper bounds of the time-per-output-token histogram, in seconds.
const PER_TOKEN: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Every figure of a gateway. Atomics alone are touched on the way of a token.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    first_token: Histogram,
    per_token: Histogram,
    prompt_tokens: Counter,
    answer_tokens: Counter,
    /// As they are drawn: what the counter above gains when an answer ends.
    drawn: AtomicU64,
    waiting: Gauge,
    active: Gauge,
    epoch: Gauge,
    recoveries: Counter,
    plans_taken: Counter,
    passes: Counter,
    rows: Counter,
    drafted: Family<Source, Counter>,
    accepted: Family<Source, Counter>,
    cancelled: Counter,
    kept_pages: Gauge,
    pages_reused: Counter,
    pages_kept: Counter,
    pages_dropped: Counter,
    pages_restored: Counter,
    pages_missed: Counter,
    connections: Gauge,
    retry_after: RetryAfter,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

/// Where a guess came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

/// The text of the request itself.
const LOOKUP: Source = Source { source: "lookup" };

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            first_token: Histogram::new(FIRST_TOKEN),
            per_token: Histogram::new(PER_TOKEN),
            prompt_tokens: Counter::default(),
            answer_tokens: Counter::default(),
            drawn: AtomicU64::default(),
            waiting: Gauge::default(),
            active: Gauge::default(),
            epoch: Gauge::default(),
            recoveries: Counter::default(),
            plans_taken: Counter::default(),
            passes: Counter::default(),
            rows: Counter::default(),
            drafted: Family::default(),
            accepted: Family::default(),
            cancelled: Counter::default(),
            kept_pages: Gauge::default(),
            pages_reused: Counter::default(),
            pages_kept: Counter::default(),
            pages_dropped: Counter::default(),
            pages_restored: Counter::default(),
            pages_missed: Counter::default(),
            connections: Gauge::default(),
            retry_after: RetryAfter::default(),
        }
    }
}

impl Metrics {
    /// An answer's status line went out.
    pub(crate) fn request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&Answered { route, status }).inc();
    }

    /// The first token of an answer came this long after its admission.
    pub(crate) fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    /// An answer of `tokens` tokens ended this long after its first one.
    pub(crate) fn answered(&self, tokens: u64, since_first: Duration) {
        self.answer_tokens.inc_by(tokens);
        // Without a token it was none.
        if tokens > 0 {
            self.retry_after.answered();
        }
        if let Some(gaps) = u32::try_from(tokens).ok().and_then(|tokens| tokens.checked_sub(1)).filter(|gaps| *gaps > 0)
        {
            self.per_token.observe((since_first / gaps).as_secs_f64());
        }
    }

    /// So many tokens came out of the ring.
    pub(crate) fn drawn(&self, tokens: u64) {
        self.drawn.fetch_add(tokens, Ordering::Relaxed);
    }

    /// What goes on, for a page that is looked at: sequences that wait, those that have a slot, and tokens drawn so far.
    pub(crate) fn at_present(&self) -> (u64, u64, u64) {
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        (count(&self.waiting), count(&self.active), self.drawn.load(Ordering::Relaxed))
    }

    /// A prompt was taken up.
    pub(crate) fn prompt(&self, tokens: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
    }

    /// How many sequences wait and run.
    pub(crate) fn sequences(&self, waiting: usize, active: usize) {
        self.waiting.set(waiting as i64);
        self.active.set(active as i64);
        self.retry_after.sequences(waiting, active);
    }

    /// A client connected, until what is given is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.inc();
        Connected(self.clone())
    }

    /// When a client whose `sequences` found the queue full should come again.
    pub(crate) fn wait_for_room(&self, sequences: usize) -> Duration {
        self.retry_after.wait_for_room(sequences)
    }

    /// Sequences that wait or have a slot.
    pub(crate) fn under_way(&self) -> u64 {
        u64::try_from(self.waiting.get() + self.active.get()).unwrap_or_default()
    }

    /// A ring serves.
    pub(crate) fn ring_up(&self, epoch: u64, again: bool) {
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        self.recoveries.inc_by(u64::from(again));
    }

    /// Another plan was taken up.
    pub(crate) fn plan_taken(&self) {
        self.plans_taken.inc();
    }

    /// A pass of `rows` rows was sent.
    pub(crate) fn pass(&self, rows: usize) {
        self.passes.inc();
        self.rows.inc_by(rows as u64);
    }

    /// Guesses came back.
    pub(crate) fn guessed(&self, guessed: Guessed) {
        if guessed != Guessed::default() {
            self.drafted.get_or_create(&LOOKUP).inc_by(guessed.held + guessed.wrong);
            self.accepted.get_or_create(&LOOKUP).inc_by(guessed.held);
        }
    }

    /// So many KV pages are kept for others, and this happened to them.
    pub(crate) fn prefixes(&self, pages: usize, counts: PrefixCounts) {
        self.kept_pages.set(i64::try_from(pages).unwrap_or(i64::MAX));
        self.pages_reused.inc_by(counts.reused);
        self.pages_kept.inc_by(counts.kept);
        self.pages_dropped.inc_by(counts.dropped);
        self.pages_restored.inc_by(counts.restored);
        self.pages_missed.inc_by(counts.missed);
    }

    /// A client left, or had enough, before its answer's end.
    pub(crate) fn cancelled(&self) {
        self.cancelled.inc();
    }

    /// Puts all of it into `registry`: the one place that says what a figure is called and what it means. `_total` is added to the
    /// name of what is counted, and a full stop to each sentence.
    pub(crate) fn register(&self, registry: &mut Registry, ready: bool, plan: &ServedPlan) {
        let on = registry;
        on.register("lime_http_requests", "Answers by route and status", self.requests.clone());
        on.register("lime_time_to_first_token_seconds", "From admission to the first token", self.first_token.clone());
        let help = "Mean time between the tokens of an answer";
        on.register("lime_time_per_output_token_seconds", help, self.per_token.clone());
        on.register("lime_prompt_tokens", "Tokens of the prompts taken up", self.prompt_tokens.clone());
        on.register("lime_generated_tokens", "Tokens of the answers given", self.answer_tokens.clone());
        on.register("lime_requests_cancelled", "Sequences ended before the model did", self.cancelled.clone());
        on.register("lime_passes", "Passes sent round the ring", self.passes.clone());
        on.register("lime_pass_rows", "Rows of the passes sent", self.rows.clone());
        let help = "Tokens guessed ahead whose rows came back, by where the guess came from";
        on.register("lime_speculation_drafted_tokens", help, self.drafted.clone());
        let help = "Tokens guessed ahead that were drawn: none of them took a pass of its own";
        on.register("lime_speculation_accepted_tokens", help, self.accepted.clone());
        let help = "KV pages (64 tokens) that are kept for prompts that begin alike";
        on.register("lime_prefix_pages", help, self.kept_pages.clone());
        let help = "KV pages that were there when a sequence began, and not computed";
        on.register("lime_prefix_pages_reused", help, self.pages_reused.clone());
        on.register("lime_prefix_pages_kept", "KV pages that were kept", self.pages_kept.clone());
        let help = "KV pages that were kept and gave way, or were lost with the ring";
        on.register("lime_prefix_pages_dropped", help, self.pages_dropped.clone());
        let help = "KV pages that came back when the ring had begun anew, or from disks";
        on.register("lime_prefix_pages_restored", help, self.pages_restored.clone());
        let help = "KV pages that were to come back, were not there any more on a device, and were computed again";
        on.register("lime_prefix_pages_missed", help, self.pages_missed.clone());
        let help = "Times the ring came back, after a failure or by another plan";
        on.register("lime_recoveries", help, self.recoveries.clone());
        on.register("lime_plans_taken", "Plans taken up in place of others", self.plans_taken.clone());
        on.register("lime_queue_depth", "Sequences that wait for a slot", self.waiting.clone());
        on.register("lime_active_sequences", "Sequences that have a slot", self.active.clone());
        on.register("lime_http_connections", "Connections of clients", self.connections.clone());
        on.register("lime_ring_epoch", "The ring's epoch", self.epoch.clone());
        let state = [([("plan", plan.name.clone()), ("generation", plan.generation.to_string())], 1.0)];
        on.register_collector(Box::new(Samples::gauge("lime_plan_info", "The plan in use", state.into())));
        let serves = Gauge::<i64>::default();
        serves.set(ready.into());
        on.register("lime_ready", "1 while the ring serves", serves);
    }
}

/// A connection, as the figures know it.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::default();
        metrics.request("/v1/models", 200);
        metrics.request("/v1/models", 200);
        metrics.first_token(Duration::from_millis(30));
        metrics.first_token(Duration::from_secs(1000));
        metrics.answered(11, Duration::from_secs(1));
        metrics.answered(1, Duration::ZERO);
        let plan = ServedPlan { name: "bard-12".into(), generation: 7, ..ServedPlan::default() };
        let mut registry = Registry::default();
        metrics.register(&mut registry, true, &plan);
        let text = lime_metrics::text(&registry);
        for line in [
            "lime_http_requests_total{route=\"/v1/models\",status=\"200\"} 2",
            "lime_time_to_first_token_seconds_bucket{le=\"0.025\"} 0",
            "lime_time_to_first_token_seconds_bucket{le=\"0.05\"} 1",
            "lime_time_to_first_token_seconds_bucket{le=\"+Inf\"} 2",
            "lime_time_per_output_token_seconds_bucket{le=\"0.1\"} 1",
            "lime_time_per_output_token_seconds_count 1",
            "lime_generated_tokens_total 12",
            "lime_ready 1",
            "lime_plan_info{plan=\"bard-12\",generation=\"7\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
