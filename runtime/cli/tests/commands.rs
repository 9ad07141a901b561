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
    let plan: lime_plan::Plan = serde_json::from_slice(&output.stdout).unwrap();
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
    let card: lime_plan::ModelCard = serde_json::from_slice(&json).unwrap();
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
    let json = lime(&["plan", "-f", "manifests/bard.yaml", "-o", "json"]).stdout;
    let plan: lime_plan::Plan = serde_json::from_slice(&json).unwrap();
    let mut broken = plan.clone().into_draft();
    broken.segments = 0;
    fs::write(&file, serde_json::to_vec(&broken).unwrap()).unwrap();
    assert!(run().contains("the plan has no segments"));
    fs::write(&file, json).unwrap();
    let other = plan.devices.iter().find(|device| device.name != "ada").unwrap();
    assert!(run().contains(&format!("no --worker for device {:?}", other.name)));
    assert!(root().join("manifests/bard.yaml").exists());
}

#[test]
fn a_fleet_elsewhere_is_planned_explained_drawn_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let wish = wish(folder.path(), &[8192]);
    let picture = folder.path().join("plan.svg");
    let nodes = folder.path().join("fleet.yaml");
    let node = |name: &str, memory: &str| {
        format!(
            "- {{ name: {name}, memory: {memory}, overhead: 0, memoryBandwidth: 5 GB/s, throughput: 20 GFLOP/s, diskBandwidth: 200 MB/s }}"
        )
    };
    let links = "links: { default: { bandwidth: 100 Mbit/s, latency: 1 ms } }";
    fs::write(&nodes, format!("nodes:\n{}\n{}\n{links}\n", node("ada", "3 MiB"), node("bea", "4 MiB"))).unwrap();
    let (nodes, picture) = (nodes.to_str().unwrap(), picture.to_str().unwrap());
    let args = ["plan", "-f", &wish, "--profiles", nodes, "--explain", "--compare", "--timeline", picture];
    let output = lime(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for words in ["Predicted:", "What binds:", "Where the time goes", "Lower bound", "EdgeShard", "1.00x"] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
    assert!(fs::read_to_string(picture).unwrap().starts_with("<svg"));
    let both = lime(&["plan", "-f", &wish, "--profiles", nodes, "--compare", "-o", "json"]).stdout;
    let both: serde_json::Value = serde_json::from_slice(&both).unwrap();
    assert_eq!(both["comparison"].as_array().map(Vec::len), Some(6));
    assert!(both["plan"]["outlook"]["prediction"]["timePerToken"].as_u64() > Some(0));
}

#[test]
fn a_model_without_weights_is_planned_from_its_config() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(model().join("config.json"), folder.path().join("config.json")).unwrap();
    let wish = wish(folder.path(), &[8192]);
    let output = lime(&["plan", "-f", &wish, "--model", folder.path().to_str().unwrap(), "-o", "json"]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && notes.contains("holds no weights"), "{notes}");
    lime_plan::Plan::from_json(&output.stdout).unwrap();
}

#[test]
fn the_offload_policy_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[8192, 8192]);
    let sound = fs::read_to_string(&file).unwrap();
    let streams = |policy: &str| {
        fs::write(&file, sound.replace("encoding: Raw", &format!("encoding: Raw, policy: {policy}"))).unwrap();
        let plan: lime_plan::Plan = serde_json::from_slice(&lime(&["plan", "-f", &file, "-o", "json"]).stdout).unwrap();
        plan.devices.iter().filter(|device| device.memory.prefetch.0 > 0).count()
    };
    assert_eq!((streams("Never"), streams("Auto"), streams("Always")), (0, 0, 2));
}

#[test]
fn a_machine_is_measured() {
    let profile = lime(&["profile", "--name", "here", "--threads", "1", "-o", "json"]);
    assert!(profile.status.success(), "{}", String::from_utf8_lossy(&profile.stderr));
    let read: serde_json::Value = serde_json::from_slice(&profile.stdout).unwrap();
    assert_eq!((&read["node"]["name"], &read["node"]["diskBandwidth"]), (&"here".into(), &"none".into()));
    assert!(read["node"]["memoryBandwidth"].as_u64() > Some(1_000_000));
    assert!(failure(&["profile", "--peer", "bea"]).contains("bea=http://10.0.0.2:7000"));
    assert!(failure(&["profile", "--peer", "bea=http://127.0.0.1:9"]).contains("no link to http://127.0.0.1:9"));
    assert!(failure(&["profile", "--dtype", "int8"]).contains("bf16, f16 or f32"));
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let model = model();
    let worker = failure(&["worker", "--name", "a", "--model", model.to_str().unwrap(), "--tls", "no/certificates"]);
    assert!(worker.contains("--tls") && worker.contains("no/certificates/ca.crt"), "{worker}");
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    fs::write(&plan, lime(&["plan", "-f", "manifests/bard.yaml", "-o", "json"]).stdout).unwrap();
    let plan = plan.to_str().unwrap();
    let gateway =
        |more: &[&str]| failure(&[&["gateway", "--plan", plan, "--model", model.to_str().unwrap()][..], more].concat());
    let secured = gateway(&["--worker", "ada=https://10.0.0.1:7000"]);
    assert!(secured.contains("must begin with http:// without --tls"), "{secured}");
    let missing = gateway(&["--worker", "ada=https://10.0.0.1:7000", "--tls", "no/certificates"]);
    assert!(missing.contains("no/certificates/ca.crt"), "{missing}");
}
