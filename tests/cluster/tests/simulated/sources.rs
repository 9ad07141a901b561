//! Bad sources: `lime inspect` runs as the inspection's pod would run it, against a server of ours, and the conditions say why.

use std::{fs, path::Path};

use lime_cluster_tests::repository;

use crate::{PATIENCE, Stage, condition, hub::Server, made::Made, operator::Operator};

const MODEL: &str = "tests/fixtures/models/bard-2m";

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn each_bad_source_has_its_reason_in_the_conditions() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let (hub, web) = (Server::start(folder.path().to_owned()), Server::start(folder.path().to_owned()));
    hub.want_token("right");
    let stage = Stage::with_hub(3, 60, hub.url());
    let _operator = Operator::start();
    let namespace = stage.cluster.namespace("lime-test-sources").unwrap();
    let scope = ["-n", namespace.name()];
    for token in ["right", "wrong"] {
        let value = format!("--from-literal=token={token}");
        stage.cluster.run(&[&scope[..], &["create", "secret", "generic", token, &value]].concat()).unwrap();
    }
    let with = |source: &str, token: &str| format!("source: '{source}', tokenSecretRef: {{name: {token}, key: token}}");
    let plain = |name: &str| format!("source: '{}/plain/{name}'", web.url());
    let cases = [
        ("good", with("hf://lime/good", "right"), "True", "Accepted", "12 layers"),
        ("web", plain("good"), "True", "Accepted", "12 layers"),
        ("no-secret", with("hf://lime/good", "none"), "False", "TokenMissing", "Secret \"none\""),
        ("no-token", "source: 'hf://lime/good'".into(), "False", "TokenMissing", "HF_TOKEN"),
        ("wrong-token", with("hf://lime/good", "wrong"), "False", "ModelGated", "401"),
        ("missing", with("hf://lime/nothing", "right"), "False", "ModelNotFound", "config.json"),
        ("web-missing", plain("nothing"), "False", "ModelNotFound", "config.json"),
        (
            "revision",
            format!("{}, revision: none", with("hf://lime/good", "right")),
            "False",
            "ModelNotFound",
            "config.json",
        ),
        ("gguf", with("hf://lime/m-GGUF:Q8_0", "right"), "True", "Accepted", "2 layers"),
        ("web-gguf", plain("m-GGUF/m-Q8_0.gguf"), "True", "Accepted", "2 layers"),
        ("no-quant", with("hf://lime/m-GGUF", "right"), "False", "ModelNotFound", "Q8_0 ("),
        ("other-quant", with("hf://lime/m-GGUF:Q4_K_M", "right"), "False", "ModelNotFound", "Q8_0 ("),
        ("strange", with("hf://lime/strange", "right"), "False", "UnsupportedArchitecture", "strange"),
        ("web-strange", plain("strange"), "False", "UnsupportedArchitecture", "strange"),
    ];
    let objects: Vec<String> = cases.iter().map(|(name, model, ..)| deployment(name, model)).collect();
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &objects.join("\n---\n")).unwrap();
    for (name, _, truth, reason, words) in &cases {
        let mut last = String::new();
        let told = stage.cluster.eventually("its reason is told", PATIENCE, || {
            let one = stage.cluster.get(&[&scope[..], &["limed", name]].concat())?;
            let found = condition(&one, "Accepted");
            last = format!("{found:?}");
            // Ready repeats the deepest cause.
            let repeated = *truth == "True" || condition(&one, "Ready").1 == *reason;
            Ok((found.0 == *truth && found.1 == *reason && found.2.contains(words) && repeated).then_some(()))
        });
        told.unwrap_or_else(|error| panic!("{error}: {name} says {last}"));
        println!("{name}: {last}");
    }
}

fn deployment(name: &str, model: &str) -> String {
    format!(
        "{{apiVersion: lime.dev/v1alpha1, kind: LimeDeployment, metadata: {{name: {name}}}, spec: {{model: {{{model}}}, nodes: \
         {{memoryReserve: '0'}}, transport: {{security: Plaintext}}}}}}"
    )
}

/// The bundled model, the same under a family's name that nobody knows, and a repository of GGUF files.
fn models(folder: &Path) {
    for name in ["good", "strange"] {
        fs::create_dir(folder.join(name)).unwrap();
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            fs::copy(repository().join(MODEL).join(file), folder.join(name).join(file)).unwrap();
        }
    }
    fs::create_dir(folder.join("m-GGUF")).unwrap();
    fs::write(folder.join("m-GGUF/m-Q8_0.gguf"), Made::llama().bytes()).unwrap();
    let config = fs::read_to_string(folder.join("strange/config.json")).unwrap();
    let config = config.replace("LlamaForCausalLM", "StrangeForCausalLM").replace("\"llama\"", "\"strange\"");
    fs::write(folder.join("strange/config.json"), config).unwrap();
}
