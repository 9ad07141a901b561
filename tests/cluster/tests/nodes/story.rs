//! What became of a deployment over time: every status that its operator wrote, and whether each was true.

use std::time::Instant;

use lime_cluster_tests::Watch;
use serde_json::Value;

use crate::deployed::{Condition, Deployed, condition};

/// Every status of a deployment since it began.
pub(crate) struct Story {
    watch: Watch,
    began: Instant,
}

impl Story {
    pub(crate) fn begin(of: &Deployed<'_>) -> Self {
        let watch = Watch::start(&["-n", of.namespace, "limedeployment", of.name]).unwrap();
        Self { watch, began: Instant::now() }
    }

    /// The states since `from`, which begin with the one that held then.
    fn since(&self, from: Instant) -> Vec<(Instant, Value)> {
        let seen = self.watch.seen();
        let first = seen.iter().rposition(|(at, _)| *at <= from).unwrap_or_default();
        seen[first..].to_vec()
    }

    /// The plans that were in force, each time that another came.
    pub(crate) fn plans(&self) -> Vec<String> {
        let plans = self.since(self.began);
        let mut plans: Vec<String> =
            plans.iter().filter_map(|(_, it)| it["status"]["currentPlan"].as_str().map(str::to_owned)).collect();
        plans.dedup();
        plans
    }

    /// What a condition said since `from`, a line for each change.
    pub(crate) fn tell(&self, from: Instant, kind: &str) -> String {
        let (mut text, mut last) = (String::new(), Condition::default());
        for (at, state) in self.since(from) {
            let now = condition(&state, kind);
            if now != last {
                let seconds = at.saturating_duration_since(from).as_secs_f64();
                text.push_str(&format!("  {seconds:.1} s: {kind} {} {}: {}\n", now.status, now.reason, now.message));
                last = now;
            }
        }
        text
    }

    /// Nothing happened since `from`: one plan, Ready throughout, and Degraded only where that was so.
    pub(crate) fn nothing_happened(&self, from: Instant, plan: &str) {
        for (at, state) in self.since(from) {
            let when = at.saturating_duration_since(self.began).as_secs();
            assert_eq!(state["status"]["currentPlan"], plan, "after {when} s: {:#}", state["status"]);
            assert_eq!(condition(&state, "Ready").status, "True", "after {when} s: {:#}", state["status"]);
            let degraded = condition(&state, "Degraded");
            assert!(degraded.status != "True" || is_slower(&state, &degraded), "after {when} s: {:#}", state["status"]);
        }
    }

    /// How often the status changed since `from`.
    pub(crate) fn changes(&self, from: Instant) -> usize {
        self.since(from).len() - 1
    }

    /// The first state since `from` in which a condition was so.
    pub(crate) fn first(&self, from: Instant, kind: &str, so: impl Fn(&Condition) -> bool) -> Option<Instant> {
        self.since(from).iter().find(|(_, state)| so(&condition(state, kind))).map(|(at, _)| *at)
    }
}

/// Whether the service is slower than predicted, where that is what is said: by the figures beside it.
fn is_slower(state: &Value, degraded: &Condition) -> bool {
    let figure = |which: &str| state["status"]["performance"][which]["timePerTokenMilliseconds"].as_i64();
    degraded.reason == "SlowerThanPredicted"
        && matches!((figure("measured"), figure("predicted")), (Some(measured), Some(predicted)) if measured > predicted)
}
