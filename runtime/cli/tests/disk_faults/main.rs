//! Workers that stream their weights from a disk with faults, and workers that are killed while they do: `lime up` and its clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod killed;

use std::path::Path;

use common::{Running, client, wish};
use disk::Disk;

/// Tokens of an answer.
const TOKENS: u32 = 100;

/// Two workers of 1600 KiB for 4.6 MiB of weights: what is left over streams.
fn serving(folder: &Path, disk: Option<&Disk>) -> (Running, String, Vec<u32>) {
    let file = wish(folder, &[1600, 1600]);
    let store = folder.join("store");
    let mut environment = vec![("LIME_STORE", store.as_path())];
    environment.extend(disk.iter().flat_map(|disk| disk.environment()));
    let mut up = Running::start_with(&["up", "-v", "--port", "0", "-f", &file], &environment);
    let line = up.wait_for("serving bard at");
    let (address, workers) = (client::address(&line), client::workers(&up.heard));
    assert_eq!(workers.len(), 2, "{}", up.heard);
    (up, address, workers)
}

#[test]
fn reads_that_fail_for_a_moment_are_not_seen_in_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (up, address, _) = serving(folder.path(), Some(&disk));
    let undisturbed = client::stream(&address, TOKENS, &mut |_| {}).unwrap();
    for fault in ["error", "short"] {
        let text = client::stream(&address, TOKENS, &mut |count| {
            if count % 20 == 7 {
                disk.strikes(fault, 3);
            }
        });
        assert_eq!(text.unwrap(), undisturbed, "{fault}");
        assert_eq!(disk.left(), 0, "{fault}: blocks did not stream");
    }
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn a_disk_that_stays_broken_ends_the_answer_with_its_cause_and_serves_again_when_it_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (up, address, workers) = serving(folder.path(), Some(&disk));
    let undisturbed = client::stream(&address, TOKENS, &mut |_| {}).unwrap();
    let broken = client::stream(&address, TOKENS, &mut |count| {
        if count == 7 {
            disk.breaks();
        }
    });
    let told = broken.unwrap_err();
    // Block, file and cause.
    for words in ["device \"d", "(0) from", "/blocks/", "-0000.safetensors", "Input/output error"] {
        assert!(told.contains(words), "{told} without {words}");
    }
    let whole = client::stream(&address, TOKENS, &mut |_| {}).unwrap_err();
    assert!(whole.contains("Input/output error"), "{whole}");
    disk.heals();
    assert_eq!(client::stream(&address, TOKENS, &mut |_| {}).unwrap(), undisturbed);
    assert!(workers.iter().all(|worker| common::alive(*worker)), "a worker died of its disk");

    // One that is well again while the answer is tried anew: nothing is seen but a pause.
    let text = client::stream(&address, TOKENS, &mut |count| {
        if count == 7 {
            disk.breaks_for(std::time::Duration::from_millis(150));
        }
    });
    assert_eq!(text.unwrap(), undisturbed);
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}
