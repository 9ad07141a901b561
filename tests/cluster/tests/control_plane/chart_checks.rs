//! What others say of the chart and of the examples: the API server itself, kubeconform by the API server's own schemas, kube-score.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::chart::helm_template;

/// What kube-score wants and the chart does not do, with the reason.
const NOT_DONE: &[(&str, &str)] = &[
    ("--ignore-test=container-image-pull-policy", "a tag never moves, and small machines are not always on line"),
    ("--ignore-test=container-ephemeral-storage-request-and-limit", "pods write their log, which the kubelet bounds"),
    ("--ignore-container-cpu-limit", "a limit on processors slows what it does not protect; memory has its limits"),
];

fn told(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

/// kubeconform and kube-score, and definitions of others' kinds. `None` where they cannot be had, which is said.
fn tools() -> Option<PathBuf> {
    let (output, said) = told(&mut Command::new(repository().join("tests/cluster/lint/tools")));
    match output.status.code() {
        Some(0) => Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())),
        Some(3) => {
            println!("{}", said.trim());
            None
        }
        _ => panic!("tests/cluster/lint/tools: {said}"),
    }
}

/// The chart by default and with all that there is in it, a file each.
fn rendered(folder: &Path, namespace: &str) -> Vec<PathBuf> {
    let everything = repository().join("charts/lime/ci/everything-values.yaml").display().to_string();
    let pods = repository().join("charts/lime/ci/pod-monitors-values.yaml").display().to_string();
    let cases = [("plain", vec![]), ("everything", vec!["--values", &everything]), ("pods", vec!["--values", &pods])];
    let write = |(name, arguments): (&str, Vec<&str>)| {
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, helm_template(namespace, &arguments)).unwrap();
        file
    };
    cases.into_iter().map(write).collect()
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn helm_finds_nothing_to_say() {
    let chart = repository().join("charts/lime").display().to_string();
    for values in [None, Some("everything-values.yaml"), Some("pod-monitors-values.yaml")] {
        let mut command = Command::new("helm");
        command.args(["lint", "--strict", &chart]);
        if let Some(values) = values {
            command.args(["--values", &format!("{chart}/ci/{values}")]);
        }
        let (output, said) = told(&mut command);
        assert!(output.status.success(), "{values:?}: {said}");
    }
}

/// Every object of the chart and of the examples is one that the API server would take: others' kinds by their own definitions.
#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn the_api_server_and_kubeconform_take_every_object() {
    let Some(tools) = tools() else { return };
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-objects-of-chart").unwrap();
    let definitions = tools.join("definitions").display().to_string();
    cluster.run(&["apply", "--server-side", "-f", &definitions]).unwrap();
    cluster.run(&["wait", "--for=condition=Established", "--timeout=30s", "-f", &definitions]).unwrap();
    let folder = Folder::new("lime-kubeconform");
    let mut files = rendered(&folder.0, namespace.name());
    let chart = files.len();
    files.push(repository().join("manifests/kubernetes/exposed.yaml"));
    files.push(repository().join("manifests/edge.yaml"));
    let dry = |file: &Path, namespace: &str| {
        let file = file.display().to_string();
        // By the server's side, and without a quarrel about what other tests have installed of the cluster's own objects.
        let how = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
        cluster.answer(&[&how[..], &["-n", namespace, "-f", &file]].concat(), "")
    };
    for (index, file) in files.iter().enumerate() {
        let namespace = if index < chart { namespace.name() } else { "default" };
        // The API server publishes a new kind's schema a moment after it has taken it.
        let mut said = String::new();
        let taken = cluster.eventually("the objects are taken", std::time::Duration::from_secs(20), || {
            let answer = dry(file, namespace)?;
            said.clone_from(&answer.stderr);
            Ok(answer.ok.then_some(()))
        });
        taken.unwrap_or_else(|_| panic!("{}: {said}", file.display()));
    }
    let schemas = folder.0.join("schemas");
    let written = write_schemas(&cluster, &schemas);
    assert!(written > 50, "only {written} kinds have a schema");
    let location =
        format!("{}/{{{{.ResourceKind}}}}-{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}.json", schemas.display());
    let mut command = Command::new(tools.join("kubeconform"));
    command.args(["-strict", "-summary", "-schema-location", &location]);
    let (output, said) = told(command.args(&files));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Skipped: 0"), "{said}");
    println!("{}", said.trim());
}

/// Writes a JSON schema for every kind that the API server knows, strict: a field that it does not know is an error.
fn write_schemas(cluster: &Kubectl, folder: &Path) -> usize {
    std::fs::create_dir_all(folder).unwrap();
    let document = cluster.run(&["get", "--raw", "/openapi/v2"]).unwrap();
    let mut document: Value = serde_json::from_str(&document).unwrap();
    let definitions = document["definitions"].as_object_mut().unwrap();
    definitions.values_mut().for_each(strict);
    // Both are written as text or as a number.
    for name in ["api.resource.Quantity", "util.intstr.IntOrString"] {
        definitions[&format!("io.k8s.apimachinery.pkg.{name}")] = json!({ "type": ["string", "number"] });
    }
    let kinds: Vec<(String, Value)> = definitions
        .iter()
        .flat_map(|(name, schema)| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array().cloned().unwrap_or_default();
            kinds.into_iter().map(|kind| (name.clone(), kind))
        })
        .collect();
    std::fs::write(folder.join("all.json"), json!({ "definitions": definitions }).to_string()).unwrap();
    for (name, kind) in &kinds {
        let part = |field: &str| kind[field].as_str().unwrap_or_default().to_lowercase();
        // kubeconform takes the version of the core group, which has no name, for its name.
        let group = if part("group").is_empty() { part("version") } else { part("group") };
        let file = format!("{}-{group}-{}.json", part("kind"), part("version"));
        let schema = json!({ "$ref": format!("all.json#/definitions/{name}") });
        std::fs::write(folder.join(file), schema.to_string()).unwrap();
    }
    kinds.len()
}

fn strict(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        let open =
            object.contains_key("additionalProperties") || object.contains_key("x-kubernetes-preserve-unknown-fields");
        if object.contains_key("properties") && !open {
            object.insert("additionalProperties".into(), false.into());
        }
        if object.contains_key("x-kubernetes-int-or-string") {
            object.insert("type".into(), json!(["string", "integer"]));
        }
        // Formats are the API server's own, and patterns in its dialect.
        object.remove("format");
        for (key, below) in object.iter_mut() {
            match (key.as_str(), below) {
                ("properties", Value::Object(fields)) => fields.values_mut().for_each(strict),
                ("items" | "additionalProperties", below) => strict(below),
                _ => {}
            }
        }
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn kube_score_has_nothing_to_add() {
    let Some(tools) = tools() else { return };
    let folder = Folder::new("lime-kube-score");
    let mut command = Command::new(tools.join("kube-score"));
    command.args(["score", "--output-format", "ci", "--kubernetes-version", "v1.33"]);
    command.args(NOT_DONE.iter().map(|(flag, _reason)| flag));
    let (output, said) = told(command.args(rendered(&folder.0, "default")));
    // Warnings are advice: they are shown.
    let (faults, rest): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("[CRITICAL]"));
    assert!(output.status.success() && faults.is_empty() && rest.len() > 50, "{said}");
    rest.iter()
        .filter(|line| !line.starts_with("[OK]") && !line.starts_with("[SKIPPED]"))
        .for_each(|line| println!("{line}"));
}

/// A package's signature vouches for values that name the image by its digest.
#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn a_signed_package_names_its_image_by_digest() {
    if Command::new("gpg").arg("--version").output().is_err() {
        println!("skipped: gpg is not installed, and a package's signature is made with a key of its");
        return;
    }
    let folder = Folder::new("lime-package");
    let at = |name: &str| folder.0.join(name).display().to_string();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        let (output, said) = told(
            command
                .args(["--homedir", &at("."), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""])
                .args(arguments),
        );
        assert!(output.status.success(), "gpg {arguments:?}: {said}");
    };
    gpg(&["--quick-gen-key", "lime test <test@lime.invalid>", "rsa2048", "sign", "never"]);
    gpg(&["--output", &at("secret"), "--export-secret-keys"]);
    gpg(&["--output", &at("public"), "--export"]);
    // Its agent would outlive the test.
    let _ = Command::new("gpgconf").args(["--homedir", &at("."), "--kill", "gpg-agent"]).output();
    let digest = format!("sha256:{}", "1".repeat(64));
    let package = |digest: &str| {
        let script = repository().join("charts/lime/package.sh");
        told(Command::new(script).args([&at("."), digest, "lime test", &at("secret")]))
    };
    let (refused, said) = package("latest");
    assert!(!refused.status.success() && said.contains("is no digest"), "{said}");
    let (packed, said) = package(&digest);
    assert!(packed.status.success(), "{said}");
    let archive = at("lime-0.1.0.tgz");
    let (verified, said) = told(Command::new("helm").args(["verify", &archive, "--keyring", &at("public")]));
    assert!(verified.status.success() && said.contains("lime test"), "{said}");
    let (_, shown) = told(Command::new("helm").args(["template", "lime", &archive]));
    let images: Vec<&str> = shown.lines().filter(|line| line.trim_start().starts_with("image: ")).collect();
    assert!(images.len() >= 3 && images.iter().all(|line| line.ends_with(&format!("@{digest}"))), "{images:?}");
    assert!(shown.contains(&format!("--image=lime@{digest}")), "what the operator makes has the digest, too");
}
