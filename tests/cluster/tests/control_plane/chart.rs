//! The chart, with the real Helm: install, upgrade, rollback, uninstall, and what each account may do then.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use lime_cluster_tests::{Kubectl, repository};

use crate::deployment;

const RELEASE: &str = "lime-test";
const NAMESPACE: &str = "lime-test-chart";

fn helm(arguments: &[&str]) -> Output {
    helm_in(NAMESPACE, arguments)
}

fn helm_in(namespace: &str, arguments: &[&str]) -> Output {
    let chart = repository().join("charts/lime").display().to_string();
    let arguments = arguments.iter().map(|argument| if *argument == "CHART" { chart.as_str() } else { argument });
    Command::new("helm").args(arguments).args(["--namespace", namespace]).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    done_in(NAMESPACE, arguments)
}

fn done_in(namespace: &str, arguments: &[&str]) -> String {
    let output = helm_in(namespace, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "helm {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the chart makes, but the pods of its test.
pub(crate) fn helm_template(namespace: &str, arguments: &[&str]) -> String {
    done_in(namespace, &[&["template", RELEASE, "CHART", "--skip-tests"], arguments].concat())
}

/// Each value that people set has the effect that it says.
#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn values_reach_what_they_are_for() {
    let has = |arguments: &[&str], wanted: &[&str], unwanted: &[&str]| {
        // The definitions know every word.
        let text = helm_template(NAMESPACE, &[&["--set", "crds.enabled=false"], arguments].concat());
        wanted.iter().for_each(|words| assert!(text.contains(words), "{arguments:?}: {words:?} is not in\n{text}"));
        unwanted.iter().for_each(|words| assert!(!text.contains(words), "{arguments:?}: {words:?} is in\n{text}"));
    };
    has(&[], &["runAsUser: 65532", "--pod-user=65532"], &["PodMonitor", "ServiceMonitor", "priorityClassName"]);
    has(&["--set", "podUser=namespace"], &["--pod-user=namespace"], &["runAsUser", "fsGroup"]);
    has(&["--api-versions", "security.openshift.io/v1"], &["--pod-user=namespace"], &["runAsUser", "fsGroup"]);
    has(&["--set", "imagePullSecrets={a,b}"], &["--image-pull-secret=a", "--image-pull-secret=b", "- name: a"], &[]);
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = format!("image.digest={digest}");
    has(&["--set", &image], &[&format!("--image=lime@{digest}"), &format!("image: lime@{digest}")], &["lime:0"]);
    has(&["--set", "rbac.create=false"], &["kind: ServiceAccount"], &["kind: ClusterRole", "RoleBinding"]);
    has(&["--set", "rbac.aggregateClusterRoles=false"], &["kind: ClusterRole"], &["aggregate-to"]);
    has(
        &["--set", "operator.serviceAccount.create=false,operator.serviceAccount.name=mine"],
        &["name: mine"],
        &["kind: ServiceAccount\nmetadata:\n  name: lime-test-operator"],
    );
    let both = helm(&[
        "template",
        RELEASE,
        "CHART",
        "--set",
        "metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true",
    ]);
    let said = String::from_utf8_lossy(&both.stderr).into_owned();
    assert!(!both.status.success() && said.contains("enable one of them"), "{said}");
    let everything = repository().join("charts/lime/ci/everything-values.yaml").display().to_string();
    let text = helm_template(NAMESPACE, &["--values", &everything]);
    let objects = text.matches("\nkind: ").count();
    assert!(objects > 20, "{text}");
    // In every object, and in the templates of pods.
    assert!(text.matches("team: edge").count() >= objects - 2, "commonLabels: {text}");
    assert!(text.matches("example.com/owner: edge").count() >= objects - 2, "commonAnnotations: {text}");
    for extra in ["lime-test-extra", "lime-test-text", "who: 'lime-test-chart'"] {
        assert!(text.contains(extra) || text.contains(&extra.replace('\'', "")), "{extra} is not in {text}");
    }
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
    roles_of_kubernetes_include_limes_kinds(&cluster);
    an_upgrade_brings_the_definitions_up_to_date(&cluster);
    an_operator_of_some_namespaces_reads_no_secret_elsewhere(&cluster);
    a_newer_chart_brings_new_fields(&cluster);

    let kept = deployment("kept", "{model: {source: 'hf://org/name'}}");
    cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &kept).unwrap();
    done(&["uninstall", RELEASE]);
    cluster.run(&["-n", NAMESPACE, "get", "limedeployment", "kept"]).expect("uninstalling keeps LimeDeployments");
    let left =
        cluster.run(&["get", "clusterroles,clusterrolebindings,validatingadmissionpolicies", "-o", "name"]).unwrap();
    assert!(!left.contains("/lime-test-"), "left behind: {left}");
}

/// Who has Kubernetes' own roles in a namespace may do there with LIME's kinds what the roles say.
fn roles_of_kubernetes_include_limes_kinds(cluster: &Kubectl) {
    for role in ["view", "edit", "admin"] {
        let (name, who) = (format!("lime-test-{role}"), format!("lime-test-user-{role}"));
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={who}"));
        cluster.run(&["-n", NAMESPACE, "create", "rolebinding", &name, &role, &user]).unwrap();
    }
    let may = |who: &str, verb: &str, resource: &str| {
        let who = format!("--as=lime-test-user-{who}");
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={subresource}");
        let arguments = ["-n", NAMESPACE, "auth", "can-i", verb, resource, &subresource, &who];
        // can-i fails where the answer is no.
        cluster.answer(&arguments, "").unwrap().stdout.trim() == "yes"
    };
    // The controller that puts roles together takes a moment.
    let patience = std::time::Duration::from_secs(30);
    let ready = || Ok(may("admin", "get", "limeplans").then_some(()));
    cluster.eventually("the roles are put together", patience, ready).unwrap();
    for (who, verb, resource, expected) in [
        ("view", "list", "limedeployments", true),
        ("view", "watch", "limeplans", true),
        ("view", "patch", "limedeployments", false),
        ("edit", "create", "limedeployments", true),
        ("edit", "patch", "limedeployments/scale", true),
        ("edit", "delete", "limeplans", false),
        ("edit", "patch", "limedeployments/status", false),
        ("admin", "deletecollection", "limedeployments", true),
        ("nobody", "get", "limedeployments", false),
    ] {
        assert_eq!(may(who, verb, resource), expected, "{who} {verb} {resource}");
    }
}

/// Whatever a definition was, after an upgrade it is the chart's: where somebody else has changed it, once Helm was told to.
fn an_upgrade_brings_the_definitions_up_to_date(cluster: &Kubectl) {
    const KIND: &str = "limedeployments.lime.dev";
    let version = || cluster.get(&["crd", KIND]).unwrap()["spec"]["versions"][0].clone();
    let before = version();
    // As another version had it: a field that is no more, and other words. Tests beside this one see neither.
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let older = format!(
        r#"[{{"op": "add", "path": "{schema}/properties/old", "value": {{"type": "string", "description": "old"}}}},
            {{"op": "replace", "path": "{schema}/description", "value": "old"}}]"#
    );
    cluster.run(&["patch", "crd", KIND, "--type=json", "-p", &older]).unwrap();
    let upgrade = ["upgrade", RELEASE, "CHART", "--set", "operator.replicas=1"];
    let refused = helm(&upgrade);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("conflict") && said.contains(KIND), "{said}");
    done(&[&upgrade[..], &["--force-conflicts"]].concat());
    assert_eq!(version(), before);
}

/// A later version knows one field more: after the upgrade it is explained, taken and kept, and what was there before is there.
fn a_newer_chart_brings_new_fields(cluster: &Kubectl) {
    const FIELD: &str = "limedeployment.spec.endpoint.brandNew";
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("lime");
    let copied = Command::new("cp").arg("-r").arg(repository().join("charts/lime")).arg(&newer).status().unwrap();
    assert!(copied.success());
    let definitions = newer.join("crds-source/lime.dev.yaml");
    let text = std::fs::read_to_string(&definitions).unwrap();
    let known = text.lines().find(|line| line.trim() == "drainSeconds:").unwrap();
    let indent = &known[..known.len() - known.trim_start().len()];
    let field = format!("{indent}brandNew: {{ type: string, description: What a later version brings. }}");
    // The whole line: a default names the field too.
    let known = format!("\n{known}\n");
    assert_eq!(text.matches(&known).count(), 1, "{known:?}");
    std::fs::write(&definitions, text.replacen(&known, &format!("\n{field}{known}"), 1)).unwrap();

    let before = deployment("before", "{model: {source: 'hf://org/name'}}");
    cluster.run_with(&["-n", NAMESPACE, "apply", "-f", "-"], &before).unwrap();
    let with_it = deployment("with-it", "{model: {source: 'hf://org/name'}, endpoint: {brandNew: yes-it-is}}");
    let refused = cluster.answer(&["-n", NAMESPACE, "apply", "-f", "-"], &with_it).unwrap();
    assert!(!refused.ok && refused.stderr.contains("brandNew"), "{}", refused.stderr);
    let newer = newer.display().to_string();
    // This cluster's definitions were first put there by kubectl, whose fields Helm only takes when it is told to.
    done(&["upgrade", RELEASE, &newer, "--force-conflicts"]);
    let patience = std::time::Duration::from_secs(30);
    let explained = || Ok(cluster.answer(&["explain", FIELD], "")?.stdout.contains("a later version").then_some(()));
    cluster.eventually("the new field is explained", patience, explained).unwrap();
    cluster.run_with(&["-n", NAMESPACE, "apply", "-f", "-"], &with_it).unwrap();
    let kept = cluster.get(&["-n", NAMESPACE, "limedeployment", "with-it"]).unwrap();
    assert_eq!(kept["spec"]["endpoint"]["brandNew"], "yes-it-is");
    cluster.run(&["-n", NAMESPACE, "get", "limedeployment", "before"]).unwrap();
    cluster.run(&["-n", NAMESPACE, "delete", "limedeployment", "before", "with-it"]).unwrap();
    done(&["upgrade", RELEASE, "CHART", "--force-conflicts"]);
}

/// `kubectl auth can-i --list`, without what every account may do, is the table in the chart's README.
fn accounts_may_do_what_the_chart_documents(cluster: &Kubectl) {
    let readme = std::fs::read_to_string(repository().join("charts/lime/README.md")).unwrap();
    let everyone = may(cluster, "default", NAMESPACE);
    for account in ["operator", "agent"] {
        let found: BTreeSet<String> =
            may(cluster, &format!("lime-test-{account}"), NAMESPACE).difference(&everyone).cloned().collect();
        assert_eq!(
            found,
            documented(&readme, account),
            "what the {account}'s account may do is not what charts/lime/README.md says"
        );
    }
}

/// The rows of an account in the chart's README.
fn documented(readme: &str, account: &str) -> BTreeSet<String> {
    let rows = readme.lines().filter_map(|line| line.strip_prefix(&format!("| {account} | "))?.strip_suffix(" |"));
    rows.map(str::to_owned).collect()
}

/// With `watchNamespaces`, the table holds in those namespaces, and elsewhere what concerns nodes is left of it.
fn an_operator_of_some_namespaces_reads_no_secret_elsewhere(cluster: &Kubectl) {
    let (watched, other) =
        (cluster.namespace("lime-test-watched").unwrap(), cluster.namespace("lime-test-other").unwrap());
    done(&["upgrade", RELEASE, "CHART", "--set", "watchNamespaces={lime-test-watched}"]);
    let readme = std::fs::read_to_string(repository().join("charts/lime/README.md")).unwrap();
    let of = |namespace: &str| -> BTreeSet<String> {
        let everyone = may(cluster, "default", namespace);
        may(cluster, "lime-test-operator", namespace).difference(&everyone).cloned().collect()
    };
    let everywhere: BTreeSet<String> = [
        "leases.coordination.k8s.io | lime-operator | get",
        "limenodeprofiles.lime.dev | any | get list watch",
        "limenodeprofiles.lime.dev/status | any | patch",
        "nodes | any | get list watch",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(of(other.name()), everywhere);
    let leases = |row: &String| row.starts_with("leases");
    let without_leases = |rows: BTreeSet<String>| rows.into_iter().filter(|row| !leases(row)).collect::<BTreeSet<_>>();
    assert_eq!(without_leases(of(watched.name())), without_leases(documented(&readme, "operator")));
    assert!(!of(NAMESPACE).iter().any(|row| row.starts_with("secrets")), "{:?}", of(NAMESPACE));
    done(&["rollback", RELEASE, "1"]);
}

/// What a service account may do in a namespace, a line each: resource, names, verbs.
fn may(cluster: &Kubectl, account: &str, namespace: &str) -> BTreeSet<String> {
    let who = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let listed = cluster.run(&["auth", "can-i", "--list", "--no-headers", "-n", namespace, &who]).unwrap();
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
