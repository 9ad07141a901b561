//! `kubectl lime` against a real API server: plans and their reasons, the picture, and the support bundle with planted secrets.
//! (Conversations and figures need pods that run: `tests/nodes`.)

use std::process::{Command, Output};

use lime_cluster_tests::{Kubectl, repository};
use lime_plan::{Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile, Plan};
use serde_json::{Value, json};

use crate::deployment;

/// Everything that is planted begins so.
const PLANTED: &str = "s3cr3t";

fn plugin(arguments: &[&str]) -> Output {
    let binary = std::env::var("LIME_KUBECTL_BIN").expect("LIME_KUBECTL_BIN is not set: run make test-cluster");
    Command::new(binary).args(arguments).output().unwrap()
}

fn said(arguments: &[&str]) -> String {
    let output = plugin(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "kubectl lime {}: {complaint}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(arguments: &[&str]) -> String {
    let output = plugin(arguments);
    assert!(!output.status.success(), "kubectl lime {} succeeded", arguments.join(" "));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A plan for two nodes, as the operator writes it down.
fn plan() -> Plan {
    let card = std::fs::read_to_string(repository().join("tests/fixtures/cards/ten-layers.json")).unwrap();
    let card: ModelCard = serde_json::from_str(&card).unwrap();
    let node = |name: &str| NodeProfile {
        name: name.into(),
        memory: Bytes::mib(48),
        overhead: Bytes::ZERO,
        memory_bandwidth: 5_000_000_000,
        compact_bandwidth: None,
        throughput: 20_000_000_000,
        disk_bandwidth: Some(200_000_000),
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    };
    let link = Link { bandwidth: 12_500_000, latency: Nanos(1_000_000) };
    let fleet = Fleet::uniform(vec![node("lime-plugin-1"), node("lime-plugin-2")], link);
    lime_planner::plan(&card, &fleet, &Goal::sporadic(&card, 512)).unwrap()
}

fn apply(cluster: &Kubectl, namespace: &str, object: &Value) {
    cluster.run_with(&["-n", namespace, "apply", "--server-side", "-f", "-"], &object.to_string()).unwrap();
}

fn give_status(cluster: &Kubectl, namespace: &str, kind: &str, name: &str, status: &Value) {
    let patch = json!({ "status": status }).to_string();
    let arguments = ["-n", namespace, "patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch];
    cluster.run(&arguments).unwrap();
}

/// A deployment with a plan in force, and the profiles of its nodes.
fn set_up(cluster: &Kubectl, namespace: &str) {
    cluster
        .run_with(&["-n", namespace, "apply", "-f", "-"], &deployment("m", "{model: {source: 'hf://org/name'}}"))
        .unwrap();
    apply(
        cluster,
        namespace,
        &json!({
            "apiVersion": "lime.dev/v1alpha1", "kind": "LimePlan", "metadata": { "name": "m-12345678" },
            "spec": { "deployment": "m", "inputHash": "h", "feasible": true, "document": serde_json::to_string(&plan()).unwrap(),
                "rejectedNodes": [{ "node": "node-9", "reason": "ProfileStale", "message": "node-9: its agent has been silent" }] },
        }),
    );
    give_status(cluster, namespace, "limeplan", "m-12345678", &json!({ "state": "Active" }));
    give_status(
        cluster,
        namespace,
        "limedeployment",
        "m",
        &json!({
            "currentPlan": "m-12345678",
            "conditions": [{ "type": "Ready", "status": "False", "reason": "ShardCrashed", "message": "node-2: killed",
                "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        }),
    );
    for node in ["lime-plugin-1", "lime-plugin-2"] {
        let metadata = json!({ "name": node });
        apply(
            cluster,
            namespace,
            &json!({ "apiVersion": "lime.dev/v1alpha1", "kind": "LimeNodeProfile", "metadata": metadata, "spec": {} }),
        );
        give_status(
            cluster,
            namespace,
            "limenodeprofile",
            node,
            &json!({
                "memoryBandwidthBytesPerSecond": 5_000_000_000_i64, "matrixOperationsPerSecond": 20_000_000_000_i64,
                "disk": { "readBytesPerSecond": 200_000_000 },
            }),
        );
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn the_plugin_shows_explains_and_draws() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-plugin").unwrap();
    set_up(&cluster, namespace.name());
    let scope = ["-n", namespace.name()];
    let of = |command: &[&str]| said(&[command, &scope].concat());
    let shown = of(&["plan"]);
    assert!(shown.contains("m-12345678: in force") && shown.contains("lime-plugin-2"), "{shown}");
    let printed: Plan = serde_json::from_str(&of(&["plan", "m", "-o", "json"])).unwrap();
    assert_eq!(printed, plan());
    let explained = of(&["explain", "m"]);
    for words in ["node-2: killed", "Where the time goes", "its agent has been silent (ProfileStale)"] {
        assert!(explained.contains(words), "{words:?} is missing in\n{explained}");
    }
    let picture = of(&["timeline"]);
    assert!(picture.starts_with("<svg") && picture.contains("lime-plugin-1"), "{picture}");

    // Errors say what to do.
    let unknown = refused(&["plan", "nobody", "-n", namespace.name()]);
    assert!(unknown.contains("there is no LimeDeployment nobody"), "{unknown}");
    let empty = refused(&["plan", "-n", "default"]);
    assert!(empty.contains("namespace default has no LimeDeployment"), "{empty}");
    let context = refused(&["plan", "--context", "nowhere"]);
    assert!(context.contains("nowhere"), "{context}");
    let away = refused(&["chat", "m", "-n", namespace.name()]);
    assert!(away.contains("no gateway of m runs (ShardCrashed: node-2: killed)"), "{away}");
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn a_support_bundle_has_what_helps_and_no_secrets() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-diagnose").unwrap();
    set_up(&cluster, namespace.name());
    let labels = json!({ "lime.dev/deployment": "m", "lime.dev/component": "gateway" });
    let container = json!({
        "name": "gateway", "image": "lime:test", "args": ["gateway", "--token", "s3cr3t-1", "--listen=0.0.0.0:8000"],
        "env": [{ "name": "HF_TOKEN", "value": "s3cr3t-2" }, { "name": "HTTPS_PROXY", "value": "http://u:s3cr3t-3@proxy:3128" }],
    });
    apply(
        &cluster,
        namespace.name(),
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "m-gateway", "labels": labels,
                "annotations": { "note": "Authorization: Bearer s3cr3t-4" } },
            "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } } },
        }),
    );
    apply(
        &cluster,
        namespace.name(),
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "m-keys", "labels": labels }, "stringData": { "keys": "s3cr3t-5" },
        }),
    );
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle.tar.gz");
    let told = said(&["diagnose", "m", "-n", namespace.name(), "-o", archive.to_str().unwrap()]);
    assert!(told.contains("Secrets are left out"), "{told}");
    let unpacked = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(folder.path()).status().unwrap();
    assert!(unpacked.success());
    let files = files_below(folder.path());
    let whole: String =
        files.iter().filter(|(name, _)| name != "bundle.tar.gz").map(|(_, text)| text.as_str()).collect();
    assert!(!whole.contains(PLANTED), "a secret is in {:?}", files.iter().find(|(_, text)| text.contains(PLANTED)));
    for file in [
        "versions.txt",
        "limedeployments/m.yaml",
        "limeplans/m-12345678.yaml",
        "limenodeprofiles/lime-plugin-1.yaml",
        "deployments/m-gateway.yaml",
        "not-collected.txt",
    ] {
        assert!(
            files.iter().any(|(name, _)| name.ends_with(file)),
            "{file} is missing: {:?}",
            files.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
    }
    for kept in ["HF_TOKEN", "--listen=0.0.0.0:8000", "ShardCrashed", "kind: LimePlan"] {
        assert!(whole.contains(kept), "{kept} is gone");
    }
}

/// Every file below `folder` with its text.
fn files_below(folder: &std::path::Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.extend(files_below(&path).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)));
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            files.push((path.file_name().unwrap().to_string_lossy().into_owned(), text));
        }
    }
    files
}
