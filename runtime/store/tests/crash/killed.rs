//! A process that is killed at any moment leaves nothing wrong behind, and the next one goes on from there.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use lime_model::{BlockLayout, ModelFolder};
use lime_plan::Block;
use lime_store::{BlockState, RemoteOptions, Source, Store};

use crate::{
    common::{all_blocks, ensure, expected, fixture, stored, verified},
    server::{Fault, Server, Strikes},
};

const ROOT: &str = "LIME_TEST_STORE";
const ENDPOINT: &str = "LIME_TEST_ENDPOINT";

fn pull(root: &str, endpoint: &str) {
    let store = Store::open(root).unwrap().with_remote(RemoteOptions::at(endpoint));
    let model = store.model(&"hf://lime/bard-2m".parse().unwrap()).unwrap();
    ensure(&model, &all_blocks(&model)).unwrap();
}

/// What is killed: the test below runs this one in a process of its own.
#[test]
#[ignore = "runs in a process of its own"]
fn child() {
    if let (Ok(root), Ok(endpoint)) = (env::var(ROOT), env::var(ENDPOINT)) {
        pull(&root, &endpoint);
    }
}

#[test]
fn kill_9_at_any_moment_of_a_pull_and_the_rerun_finishes_from_where_it_was() {
    let server = Server::start(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models"));
    server.always(Strikes::Weights, Fault::Slow(2 << 20));
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let original = ModelFolder::open(fixture("bard-2m")).unwrap();
    let source: Source = "hf://lime/bard-2m".parse().unwrap();
    for round in 0..14_u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed::child", "--ignored"])
            .envs([(ROOT, root), (ENDPOINT, server.url())])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // From before the first request to well into the blocks, never twice the same.
        thread::sleep(Duration::from_millis(20 + (round * 73) % 260));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(root).unwrap();
        let Some(model) = store.find(&source).unwrap() else { continue };
        // Whatever has its name is whole and right.
        for block in all_blocks(&model) {
            let layout = BlockLayout::of(original.config(), block);
            if block != Block::Head && matches!(model.state(block), BlockState::Whole(_)) {
                assert!(stored(&model, block, &layout) == expected(&original, block, &layout), "{block}");
            }
        }
        verified(&model, &all_blocks(&model));
    }
    server.heal();
    pull(root, server.url());
    let model = Store::open(root).unwrap().find(&source).unwrap().unwrap();
    verified(&model, &all_blocks(&model));
    assert!(all_blocks(&model).into_iter().all(|block| matches!(model.state(block), BlockState::Whole(_))));
    let pruned = Store::open(root).unwrap().prune(&|_| false, false).unwrap();
    assert_eq!(pruned.in_use, Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(folder.path().join("models")).unwrap().count(), 1, "leftovers are gone");
    let whole = std::fs::metadata(fixture("bard-2m").join("model.safetensors")).unwrap().len();
    let sent: u64 = server.seen().iter().filter(|seen| seen.range.is_some()).map(|seen| seen.sent).sum();
    println!("{sent} bytes sent for a file of {whole}, over 15 runs of which 14 were killed");
}
