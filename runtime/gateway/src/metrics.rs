//! Figures for Prometheus, in its text form.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{pace::Pace, status::ServedPlan};

/// Upper bounds of the time-to-first-token histogram, in seconds.
const FIRST_TOKEN: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
/// Upper bounds of the time-per-output-token histogram, in seconds.
const PER_TOKEN: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Every figure of a gateway. Atomics alone are touched on the way of a token.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    first_token: Histogram,
    per_token: Histogram,
    prompt_tokens: AtomicU64,
    answer_tokens: AtomicU64,
    waiting: AtomicU64,
    active: AtomicU64,
    epoch: AtomicU64,
    recoveries: AtomicU64,
    plans_taken: AtomicU64,
    passes: AtomicU64,
    rows: AtomicU64,
    cancelled: AtomicU64,
    connections: AtomicU64,
    pace: Pace,
}

impl Metrics {
    /// An answer's status line went out.
    pub(crate) fn request(&self, route: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_default() += 1;
    }

    /// The first token of an answer came this long after its admission.
    pub(crate) fn first_token(&self, after: Duration) {
        self.first_token.observe(after, &FIRST_TOKEN);
    }

    /// An answer of `tokens` tokens ended this long after its first one.
    pub(crate) fn answered(&self, tokens: u64, since_first: Duration) {
        self.answer_tokens.fetch_add(tokens, Ordering::Relaxed);
        // Without a token it was none.
        if tokens > 0 {
            self.pace.answered();
        }
        if let Some(gaps) = u32::try_from(tokens).ok().and_then(|tokens| tokens.checked_sub(1)).filter(|gaps| *gaps > 0)
        {
            self.per_token.observe(since_first / gaps, &PER_TOKEN);
        }
    }

    /// A prompt was taken up.
    pub(crate) fn prompt(&self, tokens: usize) {
        self.prompt_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// How many sequences wait and run.
    pub(crate) fn sequences(&self, waiting: usize, active: usize) {
        self.waiting.store(waiting as u64, Ordering::Relaxed);
        self.active.store(active as u64, Ordering::Relaxed);
        self.pace.sequences(waiting, active);
    }

    /// A client connected, until what is given is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// When a client whose `sequences` found the queue full should come again.
    pub(crate) fn appointment(&self, sequences: usize) -> Duration {
        self.pace.appointment(sequences)
    }

    /// Sequences that have a slot.
    pub(crate) fn busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) + self.active.load(Ordering::Relaxed) > 0
    }

    /// A ring serves.
    pub(crate) fn ring_up(&self, epoch: u64, again: bool) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.recoveries.fetch_add(u64::from(again), Ordering::Relaxed);
    }

    /// Another plan was taken up.
    pub(crate) fn plan_taken(&self) {
        self.plans_taken.fetch_add(1, Ordering::Relaxed);
    }

    /// A pass of `rows` rows was sent.
    pub(crate) fn pass(&self, rows: usize) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// A client left, or had enough, before its answer's end.
    pub(crate) fn cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it as text.
    pub(crate) fn render(&self, ready: bool, plan: &ServedPlan) -> String {
        let mut text = String::with_capacity(4096);
        self.render_requests(&mut text);
        self.first_token.render(
            &mut text,
            "lime_time_to_first_token_seconds",
            "From admission to the first token.",
            &FIRST_TOKEN,
        );
        let help = "Mean time between the tokens of an answer.";
        self.per_token.render(&mut text, "lime_time_per_output_token_seconds", help, &PER_TOKEN);
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        one("lime_prompt_tokens_total", "counter", "Tokens of the prompts taken up.", read(&self.prompt_tokens));
        one("lime_generated_tokens_total", "counter", "Tokens of the answers given.", read(&self.answer_tokens));
        one("lime_requests_cancelled_total", "counter", "Sequences ended before the model did.", read(&self.cancelled));
        one("lime_passes_total", "counter", "Passes sent round the ring.", read(&self.passes));
        one("lime_pass_rows_total", "counter", "Rows of the passes sent.", read(&self.rows));
        one(
            "lime_recoveries_total",
            "counter",
            "Times the ring came back, after a failure or by another plan.",
            read(&self.recoveries),
        );
        one("lime_plans_taken_total", "counter", "Plans taken up in place of others.", read(&self.plans_taken));
        one("lime_queue_depth", "gauge", "Sequences that wait for a slot.", read(&self.waiting));
        one("lime_active_sequences", "gauge", "Sequences that have a slot.", read(&self.active));
        one("lime_http_connections", "gauge", "Connections of clients.", read(&self.connections));
        one("lime_ring_epoch", "gauge", "The ring's epoch.", read(&self.epoch));
        one("lime_ready", "gauge", "1 while the ring serves.", u64::from(ready));
        let ServedPlan { name, generation, .. } = plan;
        let help = "# HELP lime_plan_info The plan in use.\n# TYPE lime_plan_info gauge";
        let _ = writeln!(text, "{help}\nlime_plan_info{{plan=\"{name}\",generation=\"{generation}\"}} 1");
        text
    }

    fn render_requests(&self, text: &mut String) {
        let name = "lime_http_requests_total";
        let _ = writeln!(text, "# HELP {name} Answers by route and status.\n# TYPE {name} counter");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), count) in requests.iter() {
            let _ = writeln!(text, "{name}{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
    }
}

/// A connection, as the figures know it.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; 12],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, value: Duration, bounds: &[f64; 12]) {
        if let Some(place) = bounds.iter().position(|bound| value.as_secs_f64() <= *bound) {
            self.buckets[place].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn render(&self, text: &mut String, name: &str, help: &str, bounds: &[f64; 12]) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in bounds.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative_and_complete() {
        let metrics = Metrics::default();
        metrics.request("/v1/models", 200);
        metrics.request("/v1/models", 200);
        metrics.first_token(Duration::from_millis(30));
        metrics.first_token(Duration::from_secs(1000));
        metrics.answered(11, Duration::from_secs(1));
        metrics.answered(1, Duration::ZERO);
        let plan = ServedPlan { name: "bard-12".into(), generation: 7, ..ServedPlan::default() };
        let text = metrics.render(true, &plan);
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
