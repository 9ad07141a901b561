//! The chart, with the real Helm: install, upgrade, rollback, uninstall, and what each account may do then.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use lime_cluster_tests::{Kubectl, repository};

use crate::deployment;

const RELEASE: &str = "lime-test";
const NAMESPACE: &str = "lime-test-chart";

fn helm(arguments: &[&str]) -> Output {
    let chart = repository().join("charts/lime").display().to_string();
    let arguments = arguments.iter().map(|argument| if *argument == "CHART" { chart.as_str() } else { argument });
    Command::new("helm").args(arguments).args(["--namespace", NAMESPACE]).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = helm(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "helm {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn the_chart_comes_changes_goes_back_and_leaves_the_kinds() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace(NAMESPACE).unwrap();
    cluster.run(&["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    let refused = helm(&["install", RELEASE, "CHART", "--set", "typo=1"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("typo"), "an unknown value is refused by name: {said}");

    // No nodes here: pods are made and wait.
    let notes = done(&["install", RELEASE, "CHART", "--take-ownership"]);
    assert!(notes.contains("kubectl get limenodeprofiles"), "{notes}");
    let replicas = || {
        let found = cluster.get(&["-n", NAMESPACE, "deployment", "lime-test-operator"]).unwrap();
        found["spec"]["replicas"].as_i64()
    };
    assert_eq!(replicas(), Some(2));
    done(&["upgrade", RELEASE, "CHART", "--set", "operator.replicas=3"]);
    assert_eq!(replicas(), Some(3));
    done(&["rollback", RELEASE, "1"]);
    assert_eq!(replicas(), Some(2));
    accounts_may_do_what_the_chart_documents(&cluster);

    let kept = deployment("kept", "{model: {source: 'hf://org/name'}}");
    cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &kept).unwrap();
    done(&["uninstall", RELEASE]);
    cluster.run(&["-n", NAMESPACE, "get", "limedeployment", "kept"]).expect("uninstalling keeps LimeDeployments");
    let left =
        cluster.run(&["get", "clusterroles,clusterrolebindings,validatingadmissionpolicies", "-o", "name"]).unwrap();
    assert!(!left.contains("/lime-test-"), "left behind: {left}");
}

/// `kubectl auth can-i --list`, without what every account may do, is the table in the chart's README.
fn accounts_may_do_what_the_chart_documents(cluster: &Kubectl) {
    let readme = std::fs::read_to_string(repository().join("charts/lime/README.md")).unwrap();
    let everyone = may(cluster, "default");
    for account in ["operator", "agent"] {
        let found: BTreeSet<String> =
            may(cluster, &format!("lime-test-{account}")).difference(&everyone).cloned().collect();
        let documented: BTreeSet<String> = readme
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("| {account} | "))?.strip_suffix(" |"))
            .map(str::to_owned)
            .collect();
        assert_eq!(found, documented, "what the {account}'s account may do is not what charts/lime/README.md says");
    }
}

/// What a service account may do, a line each: resource, names, verbs.
fn may(cluster: &Kubectl, account: &str) -> BTreeSet<String> {
    let who = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let listed = cluster.run(&["auth", "can-i", "--list", "--no-headers", "-n", NAMESPACE, &who]).unwrap();
    let line = |row: &str| {
        // Resource, then three lists in brackets: URLs that are no resources, names, verbs.
        let mut lists = row.split('[').skip(1).map(|list| list.split(']').next().unwrap_or_default());
        let resource = row.split_whitespace().next().unwrap_or_default();
        let (urls, names, verbs) = (lists.next()?, lists.next()?, lists.next()?);
        let resource = if resource.starts_with('[') { urls } else { resource };
        let mut verbs: Vec<&str> = verbs.split_whitespace().collect();
        verbs.sort_unstable();
        let names = if names.is_empty() { "any" } else { names };
        Some(format!("{resource} | {names} | {}", verbs.join(" ")))
    };
    listed.lines().filter_map(line).collect()
}
