//! `helm test`, as a person runs it after an install: the model in the image is served from the nodes, and an answer streams.

use std::process::Command;

/// Runs it for the release `lime` in `namespace`.
pub(crate) fn streams_an_answer(namespace: &str) {
    let arguments = ["test", "lime", "--namespace", namespace, "--logs", "--timeout", "300s"];
    let output = Command::new("helm").args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    // The prompt, and what the bundled model makes of it.
    assert!(said.contains("ROMEO:\nI will not bite thee,"), "{said}");
}
