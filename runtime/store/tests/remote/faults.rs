//! Servers that do what they must not, or nothing.

use std::time::Duration;

use lime_plan::Block;
use lime_store::BlockState;

use crate::{
    common::{all_blocks, ensure, verified},
    fixtures, hub,
    server::{Fault, Strikes},
    store_of,
};

#[test]
fn passing_faults_are_lived_through_and_nothing_comes_twice() {
    let passing = [
        Fault::CutAfter(0),
        Fault::CutAfter(1000),
        Fault::CutAfter(70_000),
        Fault::Status(500, "", ""),
        Fault::Status(503, "", "0"),
        Fault::Status(429, "", "0"),
        Fault::Silent(Duration::from_secs(1)),
    ];
    for fault in passing {
        let server = fixtures();
        let (_root, store) = store_of(&server);
        let model = store.model(&hub("tiny-mistral-bf16")).unwrap();
        server.seen();
        server.next(Strikes::Weights, [fault.clone(), fault.clone()]);
        ensure(&model, &all_blocks(&model)).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        verified(&model, &all_blocks(&model));
        let sent: u64 = server.seen().iter().map(|seen| seen.sent).sum();
        let folder = lime_model::ModelFolder::open(crate::common::fixture("tiny-mistral-bf16")).unwrap();
        let tensors = all_blocks(&model).into_iter().flat_map(|block| folder.tensors(block).unwrap());
        assert_eq!(sent, tensors.map(|tensor| tensor.bytes).sum::<u64>(), "{fault:?}");
    }
}

#[test]
fn a_connection_that_is_cut_again_and_again_still_gets_there() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let model = store.model(&hub("bard-2m")).unwrap();
    // More cuts than tries: each attempt that got further starts the count anew.
    server.always(Strikes::Weights, Fault::CutAfter(60_000));
    ensure(&model, &[Block::Embedding, Block::Mlp(lime_plan::LayerIndex(0))]).unwrap();
    verified(&model, &all_blocks(&model));
}

#[test]
fn lasting_faults_are_named_and_a_rerun_finishes() {
    for (fault, says) in [
        (Fault::Status(401, "", ""), "HF_TOKEN"),
        (Fault::Status(401, "GatedRepo", ""), "gated"),
        (Fault::Status(403, "", ""), "does not let"),
        (Fault::Status(403, "GatedRepo", ""), "accept its terms"),
        (Fault::Status(404, "", ""), "is not there"),
        (Fault::Status(404, "RepoNotFound", ""), "no such model"),
        (Fault::Status(404, "RevisionNotFound", ""), "no such revision"),
        (Fault::Status(416, "", ""), "ends before"),
        (Fault::Status(418, "", ""), "not expected"),
        (Fault::Status(429, "", "0"), "fewer requests"),
        (Fault::Status(500, "", ""), "in trouble"),
        (Fault::CutAfter(0), "early"),
        (Fault::Shorter(1), "sends"),
        (Fault::Shifted(64), "asked for bytes"),
        (Fault::NoRanges, "whole files"),
        (Fault::OtherEtag, "has changed"),
        (Fault::OtherSize, "has changed"),
        (Fault::Loop, "redirects more than"),
        (Fault::Redirect("ftp://elsewhere".into()), "not followed"),
    ] {
        let server = fixtures();
        let (_root, store) = store_of(&server);
        let model = store.model(&hub("tiny-qwen3-bf16")).unwrap();
        server.always(Strikes::Weights, fault.clone());
        let error = ensure(&model, &all_blocks(&model)).expect_err(&format!("{fault:?}")).to_string();
        assert!(error.contains(says) && error.contains("model.safetensors"), "{fault:?}: {error}");
        let whole = |block: &Block| matches!(model.state(*block), BlockState::Whole(_));
        assert_eq!(all_blocks(&model).iter().filter(|block| whole(block)).count(), 0, "{fault:?}");
        server.heal();
        ensure(&model, &all_blocks(&model)).unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
        verified(&model, &all_blocks(&model));
    }
}

#[test]
fn faults_at_the_first_look_are_named_and_leave_nothing_behind() {
    for (fault, says) in [
        (Fault::Status(401, "RepoNotFound", ""), "no such model"),
        (Fault::Status(403, "GatedRepo", ""), "gated"),
        (Fault::Status(404, "", ""), "config.json is not in hf://lime/bard-2m"),
        (Fault::Status(404, "RevisionNotFound", ""), "--revision"),
        (Fault::Status(502, "", ""), "in trouble"),
        (Fault::Silent(Duration::from_secs(1)), "no answer"),
        (Fault::Loop, "redirects"),
    ] {
        let server = fixtures();
        let (_root, store) = store_of(&server);
        server.always(Strikes::Anything, fault.clone());
        let error = store.model(&hub("bard-2m")).expect_err(&format!("{fault:?}")).to_string();
        assert!(error.contains(says), "{fault:?}: {error}");
        assert_eq!(store.models().unwrap().len(), 0);
        assert_eq!(std::fs::read_dir(store.root().join("models")).unwrap().count(), 0, "{fault:?}");
        server.heal();
        store.model(&hub("bard-2m")).unwrap();
    }
}

#[test]
fn a_file_that_changes_between_two_pulls_is_noticed_and_its_blocks_never_mix() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let before = store.model(&hub("bard-2m")).unwrap();
    ensure(&before, &[Block::Embedding]).unwrap();
    server.change();
    let error = ensure(&before, &[Block::Head]).unwrap_err().to_string();
    assert!(error.contains("has changed") && error.contains("pull again"), "{error}");
    let after = store.model(&hub("bard-2m")).unwrap();
    assert_ne!(after.key(), before.key());
    assert_eq!(after.state(Block::Embedding), BlockState::Absent);
    ensure(&after, &all_blocks(&after)).unwrap();
}

#[test]
fn what_came_before_a_fault_is_not_fetched_again() {
    let server = fixtures();
    let (_root, store) = store_of(&server);
    let model = store.model(&hub("bard-2m")).unwrap();
    server.seen();
    // The first requests are answered, then nothing more.
    server.next(Strikes::Weights, std::iter::repeat_n(Fault::Slow(100 << 20), 6));
    server.always(Strikes::Weights, Fault::Status(403, "", ""));
    ensure(&model, &all_blocks(&model)).unwrap_err();
    let first: u64 = server.seen().iter().map(|seen| seen.sent).sum();
    server.heal();
    ensure(&model, &all_blocks(&model)).unwrap();
    let second: u64 = server.seen().iter().map(|seen| seen.sent).sum();
    let folder = lime_model::ModelFolder::open(crate::common::fixture("bard-2m")).unwrap();
    let all: u64 = std::fs::metadata(folder.tensors(Block::Embedding).unwrap()[0].file.clone()).unwrap().len();
    assert!(first > 0 && first + second <= all, "{first} and {second} of {all}");
    verified(&model, &all_blocks(&model));
}
