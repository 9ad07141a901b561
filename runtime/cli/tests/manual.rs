//! Completions and the manual's pages cover the whole command line.

mod common;

use std::{collections::BTreeSet, fs};

use common::lime;

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = lime(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["up", "chat", "completions", "allow-origin", "api-key-file"] {
            assert!(output.status.success() && script.contains(word), "{shell} misses {word}");
        }
    }
}

#[test]
fn every_command_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man");
    assert!(lime(&["man", pages.to_str().unwrap()]).status.success());
    let found: BTreeSet<String> =
        fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for page in ["lime.1", "lime-up.1", "lime-chat.1", "lime-store-prune.1", "lime-man.1"] {
        assert!(found.contains(page), "{page} is not among {found:?}");
    }
    let up = fs::read_to_string(pages.join("lime-up.1")).unwrap();
    assert!(up.contains("allow\\-origin") && up.contains("lime up \\-f manifests/bard.yaml"), "{up}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(common::failure(&["man", file.to_str().unwrap()]).contains("cannot be written"));
}
