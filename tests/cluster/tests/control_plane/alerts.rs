//! The chart's alerts in a real Prometheus' own judge: each fires on what it is for, and on nothing beside that.

use std::collections::BTreeSet;
use std::process::Command;

use lime_cluster_tests::repository;

use crate::chart::helm_template;

/// The rules of a PrometheusRule, as Prometheus itself reads them.
fn rules() -> String {
    let shown = ["--set", "metrics.prometheusRule.enabled=true", "--show-only", "templates/rules.yaml"];
    let text = helm_template("lime-system", &shown);
    let spec = text.lines().skip_while(|line| *line != "spec:").skip(1);
    let dedented = spec.map(|line| line.strip_prefix("  ").unwrap_or(line));
    dedented.map(|line| format!("{line}\n")).collect()
}

/// The words after `key` in `text`.
fn named<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    let after = text.lines().filter_map(|line| line.split_once(key).map(|(_, name)| name));
    after.map(|name| name.split([',', ' ', '}']).next().unwrap_or_default()).collect()
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn every_alert_fires_on_what_it_is_for() {
    let cases = std::fs::read_to_string(repository().join("tests/cluster/alerts.yaml")).unwrap();
    let rules = rules();
    assert_eq!(named(&rules, "alert: "), named(&cases, "alertname: "), "each alert has a case");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    std::fs::write(folder.path().join("alerts.yaml"), cases).unwrap();
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]] {
        let judged = Command::new("promtool").args(arguments).current_dir(folder.path()).output();
        let judged = match judged {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!(
                    "skipped: promtool is not installed (Debian's package prometheus has it), so no alert was tried"
                );
                return;
            }
            judged => judged.unwrap(),
        };
        let said = format!("{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
        assert!(judged.status.success() && said.contains("SUCCESS"), "promtool {arguments:?}: {said}");
    }
}
