//! `lime pull` and `lime store` on the bundled model.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use common::{Running, failure, lime, wish};

const MODEL: &str = "tests/fixtures/models/bard-2m";

fn ok(args: &[&str]) -> String {
    let output = lime(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every block's file in a store.
fn blocks(store: &str) -> Vec<PathBuf> {
    let models = fs::read_dir(format!("{store}/models")).unwrap().flatten();
    let files = models.flat_map(|model| fs::read_dir(model.path().join("blocks")).unwrap().flatten());
    files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
        .collect()
}

#[test]
fn a_model_is_pulled_listed_checked_repaired_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let said = ok(&["pull", MODEL, "--store", store]);
    assert!(said.contains("bard-2m: 26 blocks whole (26 made, 0 there before)"), "{said}");
    let said = ok(&["pull", MODEL, "--store", store]);
    assert!(said.contains("(0 made, 26 there before)"), "{said}");
    let listed = ok(&["store", "ls", "--store", store]);
    assert!(listed.contains("26 of 26") && listed.contains("ok"), "{listed}");
    let said = ok(&["store", "verify", "--store", store]);
    assert!(said.contains("26 blocks and") && said.contains("files read, every bit"), "{said}");

    let victim = blocks(store).into_iter().find(|path| path.ends_with("mlp-0003.safetensors")).unwrap();
    let file = fs::File::options().read(true).write(true).open(victim).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 50_000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 50_000).unwrap();
    let fault = failure(&["store", "verify", "--store", store]);
    assert!(fault.contains("block mlp(3)") && fault.contains("1 is damaged") && fault.contains("--repair"), "{fault}");
    assert!(ok(&["store", "verify", "--repair", "--store", store]).contains("1 damaged and made again"));
    assert!(ok(&["store", "verify", "--store", store]).contains("every bit"));

    assert!(ok(&["store", "prune", "bard-2m", "--dry-run", "--store", store]).contains("would remove bard-2m-"));
    assert_eq!(blocks(store).len(), 26);
    assert!(ok(&["store", "prune", "bard-2m", "--store", store]).contains("removed bard-2m-"));
    assert_eq!(blocks(store).len(), 0);
    assert!(failure(&["store", "prune", "bard-2m", "--store", store]).contains("no model \"bard-2m\""));
}

/// Whoever opens the model would speak another language.
#[test]
fn a_tokenizer_that_was_changed_in_the_store_is_found_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    ok(&["pull", MODEL, "--store", store]);
    let model = fs::read_dir(folder.path().join("models")).unwrap().next().unwrap().unwrap().path();
    let tokenizer = model.join("card/tokenizer.json");
    let whole = fs::read_to_string(&tokenizer).unwrap();
    let json: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let vocabulary: Vec<_> = json["model"]["vocab"].as_object().unwrap().iter().take(40).collect();
    let ((one, first), (two, second)) = (vocabulary[20], vocabulary[30]);
    let mut swapped = json.clone();
    swapped["model"]["vocab"][one] = second.clone();
    swapped["model"]["vocab"][two] = first.clone();
    assert_ne!(json, swapped);
    for damage in [swapped.to_string(), whole[..100].to_owned()] {
        fs::write(&tokenizer, &damage).unwrap();
        let fault = failure(&["store", "verify", "--store", store]);
        assert!(fault.contains("file tokenizer.json") && fault.contains("1 is damaged"), "{fault}");
        let said = ok(&["store", "verify", "--repair", "--store", store]);
        assert!(said.contains("1 damaged and made again"), "{said}");
        assert_eq!(fs::read_to_string(&tokenizer).unwrap(), whole);
        for verify in [&[][..], &["--verify"]] {
            fs::write(&tokenizer, &damage).unwrap();
            let said = ok(&[&["pull", MODEL, "--store", store], verify].concat());
            assert!(said.contains("file tokenizer.json") && said.contains("fetched again"), "{said}");
            assert_eq!(fs::read_to_string(&tokenizer).unwrap(), whole);
        }
    }
}

#[test]
fn looking_at_a_store_that_is_not_there_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    let store = none.to_str().unwrap();
    let said = ok(&["store", "ls", "--store", store]);
    assert!(said.contains("no weight store") && said.contains(store) && said.contains("lime pull"), "{said}");
    for command in [&["store", "verify"][..], &["store", "prune", "--all"]] {
        assert!(failure(&[command, &["--store", store]].concat()).contains("no weight store"));
    }
    let fault = failure(&["profile", "--store", store]);
    assert!(fault.contains("none: looking at the folder failed") && !fault.contains("peer"), "{fault}");
    assert!(!none.exists());
}

#[test]
fn a_store_that_cannot_be_written_to_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let store = file.join("store");
    let fault = failure(&["pull", MODEL, "--store", store.to_str().unwrap()]);
    assert!(fault.contains("file/store") && fault.contains("LIME_STORE"), "{fault}");
    let begun = Instant::now();
    let wish = wish(folder.path(), &[1600, 1600]);
    let up = Running::start_with(&["up", "--port", "0", "-f", &wish], &[("LIME_STORE", store.as_path())]);
    assert_eq!(up.end().0, Some(1));
    // It took a minute of tries, and the variable was not named.
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
}

#[test]
fn one_device_pulls_its_own_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let (store, plan) = (folder.path().join("store"), folder.path().join("plan.json"));
    let (store, plan) = (store.to_str().unwrap(), plan.to_str().unwrap());
    let json = ok(&["plan", "-f", "manifests/bard.yaml", "-o", "json"]);
    let parsed: lime_plan::Plan = serde_json::from_str(&json).unwrap();
    fs::write(plan, json).unwrap();
    let device = &parsed.devices[1];
    ok(&["pull", MODEL, "--store", store, "--plan", plan, "--device", &device.name]);
    assert_eq!(blocks(store).len(), device.blocks.len());
    let fault = failure(&["pull", MODEL, "--store", store, "--plan", plan, "--device", "nobody"]);
    assert!(fault.contains("no device \"nobody\"") && fault.contains(&device.name), "{fault}");
    let other = "tests/fixtures/models/tiny-llama3-bf16";
    let fault = failure(&["pull", other, "--store", store, "--plan", plan, "--device", &device.name]);
    assert!(fault.contains("are not those of tiny-llama3-bf16"), "{fault}");
}

#[test]
fn what_cannot_be_pulled_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    assert!(failure(&["pull", "no/model", "--store", store]).contains("config.json is not in no/model"));
    assert!(failure(&["pull", "s3://bucket/model", "--store", store]).contains("hf://ORG/NAME"));
    assert!(
        failure(&["pull", MODEL, "--revision", "v1", "--store", store]).contains("only hf:// sources have revisions")
    );
    let help = String::from_utf8(lime(&["pull", "--help"]).stdout).unwrap();
    assert!(help.contains("--device a") && help.contains("HF_ENDPOINT"), "{help}");
}
