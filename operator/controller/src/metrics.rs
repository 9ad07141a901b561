//! The operator's own figures.

use std::{collections::BTreeMap, time::Duration};

use lime_metrics::{Figure, Samples};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of how long visits and decisions take, in seconds.
const DURATIONS: [f64; 10] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// The operator's own figures.
#[derive(Debug)]
pub struct Metrics {
    reconciles: Histogram,
    plans: Histogram,
    replans: Counter,
    writes: Family<Written, Counter>,
    errors: Family<Failed, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    reason: &'static str,
}

/// Whether a deployment serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// It is to serve.
    pub wanted: bool,
    /// It does.
    pub ready: bool,
}

const OF_DEPLOYMENTS: [Figure<Service>; 2] = [
    Figure::gauge("lime_deployment_wanted", "1 for deployments that are to serve, 0 for those asleep", |service| {
        Some(f64::from(u8::from(service.wanted)))
    }),
    Figure::gauge("lime_deployment_ready", "1 for deployments that answer requests", |service| {
        Some(f64::from(u8::from(service.ready)))
    }),
];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Histogram::new(DURATIONS),
            plans: Histogram::new(DURATIONS),
            replans: Counter::default(),
            writes: Family::default(),
            errors: Family::default(),
        }
    }
}

impl Metrics {
    /// A visit ended.
    pub fn reconciled(&self, took: Duration) {
        self.reconciles.observe(took.as_secs_f64());
    }

    /// A decision was made; `planned` if it brought a plan.
    pub fn decided(&self, took: Duration, planned: bool, replanned: bool) {
        if planned {
            self.plans.observe(took.as_secs_f64());
        }
        self.replans.inc_by(u64::from(replanned));
    }

    /// Something was written to the API server.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&Written { kind }).inc();
    }

    /// A visit failed.
    pub fn failed(&self, reason: &'static str) {
        self.errors.get_or_create(&Failed { reason }).inc();
    }

    /// Puts all of it into `registry`. `profile_ages` are seconds since each node's last heartbeat; `deployments` says of each, by
    /// namespace and name, whether it is to serve and whether it does.
    pub fn register(
        &self,
        registry: &mut Registry,
        leader: bool,
        profile_ages: &BTreeMap<String, i64>,
        deployments: &BTreeMap<(String, String), Service>,
    ) {
        let on = registry;
        on.register("lime_operator_reconcile_seconds", "Duration of visits", self.reconciles.clone());
        on.register("lime_operator_plan_seconds", "Duration of decisions that brought a plan", self.plans.clone());
        on.register("lime_operator_replans", "Plans that replaced another", self.replans.clone());
        let help = "Writes to the API server; flat in steady state";
        on.register("lime_operator_api_writes", help, self.writes.clone());
        on.register("lime_operator_reconcile_errors", "Visits that failed", self.errors.clone());
        let leads: Vec<([(&str, &str); 0], f64)> = vec![([], f64::from(u8::from(leader)))];
        on.register_collector(Box::new(Samples::gauge("lime_operator_leader", "1 on the replica that writes", leads)));
        let ages = profile_ages.iter().map(|(node, age)| ([("node", node.clone())], *age as f64)).collect();
        let help = "Time since each node's last heartbeat";
        on.register_collector(Box::new(Samples::gauge("lime_node_profile_age_seconds", help, ages)));
        for figure in &OF_DEPLOYMENTS {
            let labelled = deployments.iter().map(|((namespace, deployment), service)| {
                ([("namespace", namespace.clone()), ("deployment", deployment.clone())], service)
            });
            on.register_collector(Box::new(figure.over(labelled)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_rendered() {
        let metrics = Metrics::default();
        metrics.reconciled(std::time::Duration::from_millis(1500));
        metrics.wrote("status");
        metrics.wrote("status");
        metrics.failed("api");
        let asleep = Service::default();
        let deployments = BTreeMap::from([
            (("llm".into(), "m".into()), Service { wanted: true, ready: false }),
            (("llm".into(), "n".into()), asleep),
        ]);
        let mut registry = Registry::default();
        metrics.register(&mut registry, true, &BTreeMap::from([("a".into(), 7)]), &deployments);
        let text = lime_metrics::text(&registry);
        for line in [
            "lime_operator_reconcile_seconds_sum 1.5",
            "lime_operator_reconcile_seconds_count 1",
            "lime_operator_api_writes_total{kind=\"status\"} 2",
            "lime_operator_reconcile_errors_total{reason=\"api\"} 1",
            "lime_operator_leader 1",
            "lime_node_profile_age_seconds{node=\"a\"} 7",
            "lime_deployment_wanted{namespace=\"llm\",deployment=\"m\"} 1",
            "lime_deployment_ready{namespace=\"llm\",deployment=\"m\"} 0",
            "lime_deployment_wanted{namespace=\"llm\",deployment=\"n\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
