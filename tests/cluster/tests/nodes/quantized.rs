//! Quantized weights: a GGUF file of a hub, asked for by its quantization, becomes tokens on two nodes.

use std::fs;
use std::path::PathBuf;

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::deployed::{Deployed, NAMESPACE, text};
use crate::disk::Disks;
use crate::fetched::Stores;
use crate::hub::Server;

/// The repository on the hub, and its only file.
pub(crate) const REPOSITORY: (&str, &str) = ("stories-GGUF", "stories-Q8_0.gguf");
/// What llama.cpp says after the prompt, as runtime/cli/tests/gguf.rs holds it.
const PROMPT: &str = "Once upon a time";
const ANSWER: &str = ", there was a little girl named Lily. She loved to play outside in the park.";

/// The model, where this checkout has its reference files beside it.
pub(crate) fn file() -> Option<PathBuf> {
    let file = repository().join("../shared/models/stories260k/gguf/stories260k-Q8_0.gguf");
    file.is_file().then_some(file)
}

/// The speeds of formats that agents measured are in the profiles, and the file is served.
pub(crate) fn is_served(cluster: &Kubectl, hub: &Server) {
    let Some(file) = file() else {
        return println!("skipped: quantized weights on nodes: ../shared/models/stories260k/gguf is not there");
    };
    let profiles = cluster.get(&["limenodeprofiles"]).unwrap();
    for profile in profiles["items"].as_array().unwrap() {
        let formats = profile["status"]["formats"].as_array().cloned().unwrap_or_default();
        let measured = |format: &Value| format["format"] == "Q8_0" && format["memoryBandwidthBytesPerSecond"].is_i64();
        assert!(formats.iter().any(measured), "no speed of Q8_0: {profile:#}");
    }
    let disks = Disks::full(cluster);
    disks.make_room();
    let stores = Stores::new(cluster, "quantized");
    let wish = json!({
        "apiVersion": "lime.dev/v1alpha1", "kind": "LimeDeployment", "metadata": {"name": "stories"},
        "spec": {
            "model": {"source": format!("hf://lime/{}:q8_0", REPOSITORY.0), "servedName": "stories"},
            "serving": {"maxContextTokens": 256, "maxConcurrentRequests": 1, "prefillChunkTokens": 64},
            "nodes": {"memoryReserve": "0", "minCount": 2},
            "offload": {"policy": "Never"},
        },
    });
    cluster.run_with(&["-n", NAMESPACE, "apply", "-f", "-"], &wish.to_string()).unwrap();
    let stories = Deployed { cluster, namespace: NAMESPACE, name: "stories" };
    stories.served(None);
    let shards = stories.shard_nodes();
    assert!(shards.len() >= 2, "{shards:?}");
    let question = json!({"model": "stories", "prompt": PROMPT, "max_tokens": 32, "temperature": 0});
    let answer = stories.ask(&question);
    let said = text(&answer).as_str().unwrap_or_default();
    assert!(said.starts_with(ANSWER), "{answer}");
    println!("{shards:?} said from Q8_0: {said}");
    // Whoever opens the file looks at its beginning, where so small a file has a fifth of itself; what comes from behind that are tensors.
    let seen = hub.peek();
    let parts = seen.iter().filter(|seen| seen.path.ends_with(REPOSITORY.1));
    let (looks, tensors): (Vec<_>, Vec<_>) =
        parts.partition(|seen| seen.range.as_ref().is_none_or(|range| range.start == 0));
    let bytes = |of: &[&_]| of.iter().map(|seen: &&crate::hub::Seen| seen.sent).sum::<u64>();
    let whole = fs::metadata(file).unwrap().len();
    println!(
        "{} bytes of tensors were fetched of a file of {whole}, {} by {} looks at its beginning",
        bytes(&tensors),
        bytes(&looks),
        looks.len()
    );
    // Embedding and head are one matrix here, which may be needed at both ends.
    assert!(bytes(&tensors) < whole * 3 / 2, "devices fetch their own tensors alone");
    stories.leaves_nothing();
    drop(stores);
}
