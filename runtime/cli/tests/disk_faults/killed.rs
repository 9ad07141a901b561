//! kill -9 at any moment of loading and serving while weights stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    DEVICES, Serving, TOKENS,
    client::{self, workers},
    common::{Running, signal, wish_with},
    verify,
};

/// A kill every so often, at moments that have nothing to do with tokens: between the two lies all of a restart, so that kills strike
/// loading too.
const PAUSES: [u64; 12] = [310, 90, 470, 20, 230, 640, 140, 350, 60, 520, 180, 410];

#[test]
fn kill_9_at_any_moment_and_every_answer_is_whole_and_the_store_sound() {
    let folder = tempfile::tempdir().unwrap();
    let Serving { mut up, address, workers } = Serving::start(folder.path(), &DEVICES, None);
    let undisturbed = client::stream(&address, TOKENS, &mut |_| {}).unwrap();
    let (events, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let asking = thread::spawn({
        let (events, enough) = (events.clone(), enough.clone());
        move || {
            let mut answers = 0;
            while !enough.load(Ordering::Relaxed) {
                let text = client::stream(&address, TOKENS, &mut |_| {
                    events.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(text.unwrap(), undisturbed, "after {answers} answers");
                answers += 1;
            }
            answers
        }
    });
    let mut kills = 0;
    for (turn, pause) in PAUSES.into_iter().enumerate() {
        thread::sleep(Duration::from_millis(pause));
        // Whoever is there now, started a moment ago or long since; in every third turn both.
        let there = children(up.child.id());
        let victims = there.iter().skip(turn % 2).take(if turn % 3 == 2 { 2 } else { 1 });
        for victim in victims {
            signal(*victim, "KILL");
            kills += 1;
        }
        if turn % 3 == 2 {
            // A request that loses ring after ring without a token between them is given up, and rightly.
            let before = events.load(Ordering::Relaxed);
            let patience = Instant::now() + Duration::from_secs(60);
            while events.load(Ordering::Relaxed) == before && !asking.is_finished() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    enough.store(true, Ordering::Relaxed);
    let answers = asking.join().unwrap();
    println!("{kills} kills, {answers} answers");
    assert!(kills >= 6, "{kills} kills");
    up.wait_for("the ring is back");
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
    assert!(!workers.into_iter().any(crate::common::alive));
    assert_eq!(verify(folder.path()), Ok(()));
}

/// Kills while blocks are made and loaded: the ring comes up in the end, by blocks that are whole.
#[test]
fn workers_killed_while_they_start_start_again() {
    let folder = tempfile::tempdir().unwrap();
    // A disk that takes a second for what is kept, so that there is a middle of it.
    let file = wish_with(folder.path(), &DEVICES, ", disk: { bandwidth: 1MB }");
    let store = folder.path().join("store");
    let mut up = Running::start_with(&["up", "-v", "--port", "0", "-f", &file], &[("LIME_STORE", store.as_path())]);
    let mut victims: Vec<u32> = DEVICES.iter().map(|_| workers(&up.wait_for(": process "))[0]).collect();
    for (turn, pause) in [40, 230, 90, 410].into_iter().enumerate() {
        thread::sleep(Duration::from_millis(pause));
        signal(victims[turn % 2], "KILL");
        victims[turn % 2] = workers(&up.wait_for(": process "))[0];
        assert!(!up.heard.contains("serving bard at"), "it was ready before kill {turn}: slow its disk down");
    }
    let line = up.wait_for("serving bard at");
    let begin = client::stream(&client::address(&line), 16, &mut |_| {}).unwrap();
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
    assert_eq!(verify(folder.path()), Ok(()));
    let serving = Serving::start(folder.path(), &DEVICES, None);
    assert_eq!(serving.answer().unwrap()[..begin.len()], begin);
    serving.end();
}

/// The processes that `parent` has started and that live.
fn children(parent: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let mut found: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>()).collect();
    found.retain(|child| crate::common::alive(*child));
    found.sort_unstable();
    found
}
