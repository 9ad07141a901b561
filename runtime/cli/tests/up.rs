//! `lime up` with the bundled model: it answers, it survives, and it leaves nothing behind.

mod common;

use common::{Running, alive, signal, wait_until_gone, wish};

/// Starts three devices at a free port, waits until they serve, and gives their process numbers.
fn serving(folder: &std::path::Path, more: &[&str]) -> (Running, Vec<u32>) {
    let file = wish(folder, &[3000, 3500, 4000]);
    let args = [&["up", "-v", "--port", "0", "-f", &file], more].concat();
    let mut up = Running::start(&args);
    up.wait_for("serving bard at");
    let workers = workers(&up.heard);
    assert_eq!(workers.len(), 3, "{}", up.heard);
    (up, workers)
}

/// The numbers in `worker NAME: process NUMBER at URI`.
fn workers(heard: &str) -> Vec<u32> {
    let lines = heard.lines().filter_map(|line| line.split_once(": process ").map(|(_, rest)| rest));
    lines.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn a_prompt_is_answered_once_and_everything_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[3000, 3500, 4000]);
    let args = ["up", "-v", "--port", "0", "-f", &file, "--prompt", "ROMEO:\n", "--max-tokens", "16", "--once"];
    let mut up = Running::start(&args);
    up.wait_for("no device could hold it alone");
    let mut heard = String::new();
    while workers(&heard).len() < 3 {
        heard.push_str(&up.wait_for(": process "));
    }
    let (code, answer) = up.end();
    assert_eq!(code, Some(0));
    // The bundled golden file's text for this prompt.
    assert!(answer.starts_with("ROMEO:\nI will not bite thee, and I'll bid thee boy."), "{answer:?}");
    wait_until_gone(&workers(&heard));
}

/// candle's arithmetic is asked for by an option or by the file, goes into the plan, and every worker follows it.
#[test]
fn a_prompt_is_answered_by_candles_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[3000, 3500, 4000]);
    let plan = ["plan", "-f", &file, "--arithmetic", "candle", "-o", "json"];
    let plan: serde_json::Value = serde_json::from_slice(&common::lime(&plan).stdout).unwrap();
    assert_eq!(plan["arithmetic"], "candle");
    let args = [
        "up",
        "--port",
        "0",
        "-f",
        &file,
        "--arithmetic",
        "candle",
        "--prompt",
        "ROMEO:\n",
        "--max-tokens",
        "16",
        "--once",
    ];
    let up = Running::start(&args);
    let (code, answer) = up.end();
    assert_eq!(code, Some(0));
    // Other sums than those of exact arithmetic, and by so little that this answer is the same.
    assert!(answer.starts_with("ROMEO:\nI will not bite thee, and I'll bid thee boy."), "{answer:?}");
}

#[test]
fn sigterm_stops_everything_with_exit_code_zero() {
    let folder = tempfile::tempdir().unwrap();
    let (up, workers) = serving(folder.path(), &[]);
    up.signal("TERM");
    assert_eq!(up.end().0, Some(0));
    wait_until_gone(&workers);
}

#[test]
fn nothing_outlives_a_parent_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (up, workers) = serving(folder.path(), &[]);
    assert!(workers.iter().all(|worker| alive(*worker)));
    up.signal("KILL");
    wait_until_gone(&workers);
}

#[test]
fn a_killed_worker_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut up, workers) = serving(folder.path(), &[]);
    signal(workers[1], "KILL");
    up.wait_for("starting it again");
    up.wait_for("the ring is back");
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn a_ring_with_mutual_tls_says_the_same_and_takes_its_certificates_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[3000, 3500, 4000]);
    let args =
        ["up", "-v", "--tls", "--port", "0", "-f", &file, "--prompt", "ROMEO:\n", "--max-tokens", "16", "--once"];
    let mut up = Running::start_with(&args, &[("TMPDIR", folder.path())]);
    let started = up.wait_for(": process ");
    assert!(started.contains("at https://127.0.0.1:"), "{started}");
    let (code, answer) = up.end();
    assert_eq!(code, Some(0));
    assert!(answer.starts_with("ROMEO:\nI will not bite thee, and I'll bid thee boy."), "{answer:?}");
    let left = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["wish.yaml"]);
}
