//! `lime` with a GGUF file: it is looked at, answers from three devices as from one, in memory and streamed, and stays in the store.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[allow(dead_code, reason = "the model's own tests use all of it")]
#[path = "../../model/tests/formats/made.rs"]
mod made;
#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../store/tests/common/server.rs"]
mod server;

use std::{fs, path::PathBuf};

use common::{Running, client, command, lime, signal, wish_from};

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
    // Most of it is Q8_0; what has too few columns for that is f16, norms are f32.
    let lines = said.lines().filter(|line| line.contains(" % "));
    let formats: Vec<&str> = lines.map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(formats, ["Q8_0", "f16", "f32"], "{said}");
}

#[test]
fn a_quantization_of_a_hub_is_inspected_and_pulled() {
    let folder = tempfile::tempdir().unwrap();
    let (models, store) = (folder.path().join("models"), folder.path().join("store"));
    fs::create_dir_all(models.join("m-GGUF")).unwrap();
    fs::write(models.join("m-GGUF/m-Q8_0.gguf"), made::Made::llama().bytes()).unwrap();
    let server = server::Server::start(models);
    let run = |args: &[&str]| {
        let out = command(args).env("HF_ENDPOINT", server.url()).env("LIME_STORE", &store).output().unwrap();
        let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (out.status.success(), said)
    };
    let plain = format!("{}/plain/m-GGUF/m-Q8_0.gguf", server.url());
    for source in ["hf://lime/m-GGUF:Q8_0", "hf://lime/m-GGUF/m-Q8_0.gguf", &plain] {
        let (good, said) = run(&["inspect", source]);
        assert!(good && said.contains("m-Q8_0") && said.contains("2 "), "{said}");
        let (good, said) = run(&["pull", source]);
        assert!(good && said.contains("6 made"), "{said}");
        let (good, said) = run(&["pull", "--verify", source]);
        assert!(good && said.contains("0 made, 6 there before"), "{said}");
    }
    let (good, said) = run(&["store", "verify"]);
    assert!(good, "{said}");
    // What is not there is answered with what is, to people and to the operator.
    let log = folder.path().join("log");
    for source in ["hf://lime/m-GGUF", "hf://lime/m-GGUF:Q4_K_M"] {
        let (good, said) = run(&["inspect", source, "--termination-log", log.to_str().unwrap()]);
        assert!(!good && said.contains("Q8_0 ("), "{said}");
        let told = fs::read_to_string(&log).unwrap();
        assert!(told.contains("ModelNotFound") && told.contains("Q8_0 ("), "{told}");
        let (good, said) = run(&["pull", source]);
        assert!(!good && said.contains("Q8_0 ("), "{said}");
    }
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

#[test]
fn a_streamed_answer_of_a_file_goes_on_when_a_worker_is_killed() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let file = wish_from(folder.path(), &format!("file://{}", model.display()), "Raw", &[2200, 2200, 2200]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("encoding: Raw", "encoding: Raw, policy: Always")).unwrap();
    let mut up = Running::start_with(&["up", "-v", "--port", "0", "-f", &file], &[("LIME_STORE", &store)]);
    let address = client::address(&up.wait_for("serving bard at"));
    let workers = client::workers(&up.heard);
    let undisturbed = client::stream(&address, 120, &mut |_| {}).unwrap();
    assert!(undisturbed.len() > 100, "{undisturbed:?}");
    let mut kill = |count| {
        if count == 7 {
            signal(workers[1], "KILL");
        }
    };
    assert_eq!(client::stream(&address, 120, &mut kill).unwrap(), undisturbed);
    up.wait_for("the ring is back");
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn what_is_wrong_with_texts_of_a_file_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let good = made::Made::llama();
    let template = |text: &str| good.with(|made| made.set_text("tokenizer.chat_template", text));
    for (made, says) in [
        (template("{% for message in messages %}"), "chat template: does not compile"),
        (good.without("tokenizer.ggml.tokens"), "tokenizer.ggml.tokens"),
        (good.with(|made| made.set_text("tokenizer.ggml.model", "gpt2")), "tokenizer.ggml.pre"),
        (
            good.with(|made| {
                made.set_text("tokenizer.ggml.model", "gpt2");
                made.set_text("tokenizer.ggml.pre", "llama-bpe");
            }),
            "tokenizer.ggml.merges",
        ),
    ] {
        fs::write(&path, made.bytes()).unwrap();
        let said = common::failure(&["inspect", path.to_str().unwrap()]);
        assert!(said.contains(says), "{says}: {said}");
    }
}

#[test]
fn another_quantization_is_a_way_out_of_too_little_memory() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models/stories-GGUF");
    fs::create_dir_all(&models).unwrap();
    for (from, to) in [("F32", "F32"), ("Q8_0", "Q8_0"), ("Q4_0", "Q4_0")] {
        fs::copy(model.with_file_name(format!("stories260k-{from}.gguf")), models.join(format!("s-{to}.gguf")))
            .unwrap();
    }
    let server = server::Server::start(folder.path().join("models"));
    let file = wish_from(folder.path(), "hf://lime/stories-GGUF:F32", "Raw", &[1300]);
    let text = fs::read_to_string(&file).unwrap().replace("encoding: Raw", "encoding: Raw, policy: Never");
    fs::write(&file, text).unwrap();
    let local = model.display().to_string();
    for (other, says) in [
        (":Q4_0", "stories-Q4_0 (Q4_0, "),
        ("hf://lime/stories-GGUF:Q8_0", "stories-Q8_0 (Q8_0, "),
        (&local, "stories260k-Q8_0 (Q8_0, "),
    ] {
        let mut plan = command(&["plan", "-f", &file, "--or-model", other]);
        let out =
            plan.env("HF_ENDPOINT", server.url()).env("LIME_STORE", folder.path().join("store")).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(says), "{other}: {said}");
    }
}
