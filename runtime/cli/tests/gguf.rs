//! `lime` with a GGUF file: it is looked at, answers from three devices as from one, in memory and streamed, and stays in the store.

mod common;

use std::{fs, path::PathBuf};

use common::{Running, command, lime, wish_from};

/// What llama.cpp and the reference say after this prompt.
const PROMPT: &str = "Once upon a time";
const ANSWER: &str = ", there was a little girl named Lily. She loved to play outside in the park.";

/// A quantized model; says so where this checkout has none beside it.
fn model() -> Option<PathBuf> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/stories260k/gguf/stories260k-Q8_0.gguf");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn a_file_is_inspected() {
    let Some(model) = model() else { return };
    let out = lime(&["inspect", model.to_str().unwrap()]);
    assert!(out.status.success(), "{out:?}");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("Q8_0"), "{said}");
    let remarks = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(remarks.contains("the weights are stored as Q8_0") && remarks.contains("f16"), "{remarks}");
}

#[test]
fn a_file_serves_in_memory_and_streamed() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for (policy, kib) in [("Never", [3000, 3000, 3000]), ("Always", [2200, 2200, 2200])] {
        let file = wish_from(folder.path(), &format!("file://{}", model.display()), "Raw", &kib);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("encoding: Raw", &format!("encoding: Raw, policy: {policy}"))).unwrap();
        let args = ["up", "-v", "--port", "0", "-f", &file, "--prompt", PROMPT, "--max-tokens", "32", "--once"];
        let up = Running::start_with(&args, &[("LIME_STORE", &store)]);
        let (code, answer) = up.end();
        assert_eq!(code, Some(0), "{policy}");
        assert!(answer.starts_with(&format!("{PROMPT}{ANSWER}")), "{policy}: {answer:?}");
    }
    let verified = command(&["store", "verify"]).env("LIME_STORE", &store).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}
