//! Rings of real engines on the bundled model: the golden text, and the same bits for every split.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::PathBuf;

use common::{Ring, anywhere, config, generate, next, plan, rows, topology};
use lime_model::ModelFolder;
use lime_plan::{ModelCard, Plan};
use lime_ring::{RingDriver, Transport, proto::Sampling, status};
use lime_worker::{WorkerConfig, start};

fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/bard-2m")
}

fn bard() -> ModelCard {
    ModelFolder::open(model()).unwrap().card("bard-2m")
}

async fn ring(plan: &Plan, threads: usize) -> Ring {
    let mut workers = Vec::new();
    for device in &plan.devices {
        let config = WorkerConfig { model: model().into(), threads, ..config(&device.name) };
        workers.push(start(config, anywhere()).await.unwrap());
    }
    Ring { topology: topology(plan, &workers), workers }
}

struct Golden {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
}

fn golden() -> Golden {
    let text = std::fs::read_to_string(model().join("golden.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |name: &str| {
        let ids = json["cases"][0][name].as_array().unwrap();
        ids.iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    Golden { prompt: ids("prompt_ids"), greedy: ids("greedy_ids") }
}

/// Logits of the last prompt row, then tokens drawn with a fixed seed.
async fn fingerprint(driver: &mut RingDriver, prompt: &[u32]) -> (Vec<u8>, Vec<u32>) {
    let sampling = |draw| Sampling {
        temperature: 0.8,
        top_p: 0.95,
        seed: 7,
        draw,
        return_logits: draw == 0,
        ..Sampling::default()
    };
    let mut first = rows(0, 0, prompt.len() as u32, None);
    first.sample = Some(sampling(0));
    driver.submit(vec![first], prompt.to_vec(), vec![]).await.unwrap();
    let result = next(driver).await;
    assert_eq!(result.failure, "");
    let logits = result.tokens[0].logits.to_vec();
    let mut tokens = vec![result.tokens[0].token];
    for draw in 1..12 {
        let mut row = rows(0, prompt.len() as u32 + draw - 1, 1, None);
        row.sample = Some(sampling(u64::from(draw)));
        let last = tokens[tokens.len() - 1];
        driver.submit(vec![row], vec![last], vec![]).await.unwrap();
        tokens.push(next(driver).await.tokens[0].token);
    }
    (logits, tokens)
}

#[tokio::test]
async fn the_golden_text_comes_out_of_a_ring() {
    let golden = golden();
    let ring = ring(&plan(bard(), 3, 2, 2), 1).await;
    let mut driver = ring.configure(1).await;
    let count = golden.greedy.len();
    let tokens = generate(&mut driver, 0, &golden.prompt, 3, count).await;
    assert_eq!(tokens, golden.greedy);
    // A second sequence in another slot, after a release of the first.
    driver.submit(vec![], vec![], vec![0]).await.unwrap();
    next(&mut driver).await;
    let tokens = generate(&mut driver, 5, &golden.prompt, 100, 8).await;
    assert_eq!(tokens, golden.greedy[..8]);

    let status = status(&Transport::Plaintext, &ring.topology.peers[1]).await.unwrap();
    assert_eq!((status.phase.as_str(), status.threads), ("ready", 1));
    assert!(status.memory().pinned_bytes > 0 && status.memory().kv_bytes > 0 && status.work().compute_micros > 0);
    assert!(["avx512", "avx2", "neon", "scalar"].contains(&status.kernels.as_str()));
    ring.stop().await;
}

#[tokio::test]
async fn every_split_gives_the_same_bits() {
    let golden = golden();
    let mut reference = None;
    for (devices, segments, head, threads) in
        [(1, 1, 0, 1), (1, 4, 0, 2), (2, 1, 1, 2), (2, 3, 0, 1), (3, 4, 1, 1), (5, 2, 4, 1), (5, 4, 0, 1)]
    {
        let ring = ring(&plan(bard(), devices, segments, head), threads).await;
        let mut driver = ring.configure(1).await;
        let found = fingerprint(&mut driver, &golden.prompt).await;
        assert_eq!(found.0.len(), 1024 * 4);
        let reference = reference.get_or_insert_with(|| found.clone());
        assert!(*reference == found, "{devices} devices, {segments} segments, head {head}");
        drop(driver);
        ring.stop().await;
    }
}

#[tokio::test]
async fn a_missing_model_is_told_by_its_folder() {
    let plan = plan(bard(), 1, 1, 0);
    let missing = WorkerConfig { model: PathBuf::from("nowhere/at-all").into(), ..config("a") };
    let worker = start(missing, anywhere()).await.unwrap();
    let topology = topology(&plan, std::slice::from_ref(&worker));
    let configured = RingDriver::configure(&topology, 1, common::PATIENCE, |_, _| {}).await;
    let error = configured.unwrap_err().to_string();
    assert!(error.contains("nowhere/at-all"), "{error}");
    worker.stop().await.unwrap();

    let unknown = WorkerConfig { isa: Some("sse9".into()), ..config("a") };
    let error = start(unknown, anywhere()).await.unwrap_err().to_string();
    assert!(error.contains("sse9") && error.contains("scalar"), "{error}");
}
