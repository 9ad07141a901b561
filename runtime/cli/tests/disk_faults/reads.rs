//! Reads that fail, give too little or never end well: seldom, for a while, until the disk is repaired.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::{
    DEVICES, Serving, common,
    disk::{Disk, Disturbance},
    stored, verify,
};

#[test]
fn reads_that_fail_now_and_then_are_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    // A read is tried four times: three that fail in a row are the most that none may notice.
    for (how, reads, tried_again) in [
        (Disturbance::Refuse, 3, true),
        (Disturbance::ShortByPages, 100, false),
        (Disturbance::ShortByBytes, 3, true),
        (Disturbance::EndEarly, 3, true),
    ] {
        let (before, mut disturbed) = (serving.figure("lime_worker_read_retries_total"), 0);
        let answer = serving.answer_while(&mut |event| {
            if event % 12 == 5 {
                disturbed += disk.disturbed();
                disk.disturb(how, Some(reads), "");
            }
        });
        disturbed += disk.disturbed();
        disk.recover();
        assert_eq!(answer.as_ref(), Ok(&undisturbed), "{how:?}");
        assert!(disturbed > reads, "{how:?}: {disturbed} reads were disturbed");
        let retries = serving.figure("lime_worker_read_retries_total") - before;
        assert_eq!(retries > 0.0, tried_again, "{how:?}: {retries} reads were tried again");
    }
    assert_eq!(serving.figure("lime_recoveries_total"), 0.0, "no pass has failed");
    serving.end();
}

#[test]
fn a_disk_that_stays_away_fails_requests_by_name_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    for (how, cause) in [(Disturbance::Refuse, "Input/output error"), (Disturbance::ShortByBytes, "a read of")] {
        // In the middle of an answer, and before one.
        for moment in [7, 0] {
            if moment == 0 {
                disk.disturb(how, None, "");
            }
            let begun = Instant::now();
            let failed = serving.answer_while(&mut |event| {
                if event == moment {
                    disk.disturb(how, None, "");
                }
            });
            let failed = failed.expect_err("no disk, no answer");
            let words = ["was tried again and again", "device", "cannot read", "/blocks/", ".safetensors", cause];
            assert!(words.iter().all(|word| failed.contains(word)), "{how:?}: {failed}");
            assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?} to say so", begun.elapsed());
        }
        assert!(serving.workers.iter().all(|worker| common::alive(*worker)), "a worker died of its disk");
        assert!(serving.page("/health").starts_with("HTTP/1.1 200"));
        disk.recover();
        assert_eq!(serving.answer().as_ref(), Ok(&undisturbed), "well again after {how:?}");
    }
    serving.end();
    // What could not be read was not given up either.
    assert_eq!(verify(folder.path()), Ok(()));
}

/// Blocks that were read ahead in vain must not be held against the request that comes to them when the disk is well again.
#[test]
fn an_answer_outlives_a_lapse_of_every_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (serving, undisturbed) = Serving::with_answer(folder.path(), &[1000, 1000, 1000, 1200], &disk);
    for lapse in [150, 130, 200] {
        let answer = serving.answer_while(&mut |event| {
            if event == 7 {
                disk.disturb(Disturbance::Refuse, None, "");
                // A read gives up after 105 ms and four tries.
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(lapse) || disk.disturbed() < 4 {
                    assert!(begun.elapsed() < Duration::from_secs(20), "nobody reads");
                    thread::sleep(Duration::from_millis(1));
                }
                disk.recover();
            }
        });
        println!("{lapse} ms: {} reads were refused", disk.disturbed());
        assert_eq!(answer.as_ref(), Ok(&undisturbed), "{lapse} ms");
    }
    println!("{} recoveries", serving.figure("lime_recoveries_total"));
    serving.end();
}

/// At the start reads fail as well: of headers, of what is kept in memory, of what is streamed first.
#[test]
fn a_start_is_patient_with_its_disk_and_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    serving.end();
    let files = || -> Vec<_> {
        let files = fs::read_dir(stored(folder.path(), "mlp-0001").parent().unwrap()).unwrap();
        let blocks = files
            .map(|file| file.unwrap())
            .filter(|file| file.path().extension().is_some_and(|it| it == "safetensors"));
        let mut dated: Vec<_> =
            blocks.map(|file| (file.path(), file.metadata().unwrap().modified().unwrap())).collect();
        dated.sort();
        dated
    };
    let before = files();
    disk.disturb(Disturbance::Refuse, Some(3), "");
    let serving = Serving::start(folder.path(), &DEVICES, Some(&disk));
    assert_eq!(disk.disturbed(), 3);
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
    serving.end();
    assert!(files() == before, "blocks that could be read the second time were made again");

    // Longer than all tries together: the ring comes up when the disk does.
    disk.disturb(Disturbance::Refuse, None, "");
    let serving = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(2));
            disk.recover();
        });
        Serving::start(folder.path(), &DEVICES, Some(&disk))
    });
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
    serving.end();
    assert_eq!(verify(folder.path()), Ok(()));
}
