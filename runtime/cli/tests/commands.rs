//! Commands that end by themselves: what they print, and how they fail.

mod common;

use std::{fs, net::TcpListener};

use common::{failure, lime, model, root, wish};

#[test]
fn help_teaches_and_the_version_is_known() {
    let help = String::from_utf8(lime(&["up", "--help"]).stdout).unwrap();
    for words in ["Examples:", "kind: LocalFleet", "--dry-run", "Ctrl-C"] {
        assert!(help.contains(words), "{words:?} is missing in\n{help}");
    }
    let version = String::from_utf8(lime(&["--version"]).stdout).unwrap();
    assert_eq!(version.trim(), concat!("lime ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_shipped_fleet_is_planned_so_that_nobody_holds_the_model() {
    let output = lime(&["plan", "-f", "manifests/bard.yaml", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: lime_planner::Plan = serde_json::from_slice(&output.stdout).unwrap();
    plan.validate().unwrap();
    assert_eq!((plan.devices.len(), plan.segments), (3, 2));
    let weights = plan.model.weight_bytes();
    assert!(plan.devices.iter().all(|device| device.memory.budget < weights), "{weights}");
    let table = lime(&["up", "-f", "manifests/bard.yaml", "--dry-run"]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("no device could hold it alone"));
}

#[test]
fn a_plan_is_the_same_every_time() {
    let plan = || lime(&["plan", "-f", "manifests/bard.yaml", "--segments", "3", "-o", "json"]).stdout;
    let first = plan();
    assert!(!first.is_empty());
    assert_eq!(first, plan());
}

#[test]
fn a_model_is_inspected() {
    let model = model();
    let table = String::from_utf8(lime(&["inspect", model.to_str().unwrap()]).stdout).unwrap();
    for words in ["llama", "bf16", "512 tokens", "shares the embedding's matrix"] {
        assert!(table.contains(words), "{words:?} is missing in\n{table}");
    }
    let json = lime(&["inspect", model.to_str().unwrap(), "-o", "json"]).stdout;
    let card: lime_planner::ModelCard = serde_json::from_slice(&json).unwrap();
    assert_eq!((card.layers, card.parameters), (12, 2_346_112));
}

#[test]
fn what_is_not_there_is_named() {
    assert!(failure(&["up", "-f", "no.yaml"]).contains("no.yaml: there is no such file"));
    assert!(failure(&["inspect", "no/model"]).contains("no/model"));
    let away = failure(&["chat", "--url", "http://127.0.0.1:9"]);
    assert!(away.contains("no server answers at http://127.0.0.1:9") && away.contains("lime up"), "{away}");
}

#[test]
fn a_broken_model_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(model().join(name), folder.path().join(name)).unwrap();
    }
    let file = wish(folder.path(), &[8192]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(model().to_str().unwrap(), ".")).unwrap();
    let missing = failure(&["up", "-f", &file]);
    assert!(missing.contains("safetensors"), "{missing}");
    let weights = fs::read(model().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    let truncated = failure(&["up", "-f", &file]);
    assert!(truncated.contains("model.safetensors"), "{truncated}");
}

#[test]
fn a_budget_that_fits_nothing_says_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let error = failure(&["up", "-f", &wish(folder.path(), &[100, 200])]);
    for words in ["does not hold the model", "more on", "what would fit"] {
        assert!(error.contains(words), "{words:?} is missing in {error}");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_running() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = failure(&["up", "-f", &wish(folder.path(), &[8192]), "--port", &port]);
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--port"), "{error}");
}

#[test]
fn a_gateway_wants_a_sound_plan_and_every_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let run = || failure(&["gateway", "--plan", file.to_str().unwrap(), "--model", "m", "--worker", "ada=http://a:1"]);
    assert!(run().contains("cannot be read"));
    fs::write(&file, "{}").unwrap();
    assert!(run().contains("is no plan"));
    fs::write(&file, lime(&["plan", "-f", "manifests/bard.yaml", "-o", "json"]).stdout).unwrap();
    assert!(run().contains("no --worker for device \"bea\""));
    assert!(root().join("manifests/bard.yaml").exists());
}
