//! The operator's own figures.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The operator's own figures.
#[derive(Debug, Default)]
pub struct Metrics {
    reconciles: AtomicU64,
    reconcile_micros: AtomicU64,
    plans: AtomicU64,
    plan_micros: AtomicU64,
    replans: AtomicU64,
    writes: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// Whether a deployment serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// It is to serve.
    pub wanted: bool,
    /// It does.
    pub ready: bool,
}

impl Metrics {
    /// A visit ended.
    pub fn reconciled(&self, took: std::time::Duration) {
        self.reconciles.fetch_add(1, Relaxed);
        self.reconcile_micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    /// A decision was made; `planned` if it brought a plan.
    pub fn decided(&self, took: std::time::Duration, planned: bool, replanned: bool) {
        if planned {
            self.plans.fetch_add(1, Relaxed);
            self.plan_micros.fetch_add(took.as_micros() as u64, Relaxed);
        }
        self.replans.fetch_add(u64::from(replanned), Relaxed);
    }

    /// Something was written to the API server.
    pub fn wrote(&self, what: &'static str) {
        *self.writes.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    /// A visit failed.
    pub fn failed(&self, reason: &'static str) {
        *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// The text form that Prometheus reads. `profile_ages` are seconds since each node's last heartbeat; `deployments` says of each, by
    /// namespace and name, whether it is to serve and whether it does.
    pub fn render(
        &self,
        leader: bool,
        profile_ages: &BTreeMap<String, i64>,
        deployments: &BTreeMap<(String, String), Service>,
    ) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        };
        let seconds = |micros: &AtomicU64| micros.load(Relaxed) as f64 / 1e6;
        let pairs = [
            ("lime_operator_reconcile_seconds", "Duration of visits.", &self.reconciles, &self.reconcile_micros),
            (
                "lime_operator_plan_seconds",
                "Duration of decisions that brought a plan.",
                &self.plans,
                &self.plan_micros,
            ),
        ];
        for (name, help, count, sum) in pairs {
            head(&mut text, name, "summary", help);
            let _ = write!(text, "{name}_sum {}\n{name}_count {}\n", seconds(sum), count.load(Relaxed));
        }
        head(&mut text, "lime_operator_replans_total", "counter", "Plans that replaced another.");
        let _ = writeln!(text, "lime_operator_replans_total {}", self.replans.load(Relaxed));
        let maps = [
            ("lime_operator_api_writes_total", "kind", "Writes to the API server; flat in steady state.", &self.writes),
            ("lime_operator_reconcile_errors_total", "reason", "Visits that failed.", &self.errors),
        ];
        for (name, label, help, map) in maps {
            head(&mut text, name, "counter", help);
            for (key, value) in map.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = writeln!(text, "{name}{{{label}=\"{key}\"}} {value}");
            }
        }
        head(&mut text, "lime_operator_leader", "gauge", "1 on the replica that writes.");
        let _ = writeln!(text, "lime_operator_leader {}", u8::from(leader));
        head(&mut text, "lime_node_profile_age_seconds", "gauge", "Time since each node's last heartbeat.");
        for (node, age) in profile_ages {
            let _ = writeln!(text, "lime_node_profile_age_seconds{{node=\"{node}\"}} {age}");
        }
        let families = [
            ("lime_deployment_wanted", "1 for deployments that are to serve, 0 for those asleep."),
            ("lime_deployment_ready", "1 for deployments that answer requests."),
        ];
        for (index, (name, help)) in families.into_iter().enumerate() {
            head(&mut text, name, "gauge", help);
            for ((namespace, deployment), service) in deployments {
                let labels = format!("namespace=\"{namespace}\",deployment=\"{deployment}\"");
                let _ = writeln!(text, "{name}{{{labels}}} {}", u8::from([service.wanted, service.ready][index]));
            }
        }
        text
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
        let text = metrics.render(true, &BTreeMap::from([("a".into(), 7)]), &deployments);
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
