//! Pages that stay when their sequence ends, on every device of a ring of fakes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Ring, card, generate, next, plan, rows};
use lime_ring::{
    DriverError, RingDriver,
    proto::{FailureKind, KeepPages, Pass, RestoredPage, Rows},
};
use lime_worker::fake::FakeLoader;

fn prompt() -> Vec<u32> {
    (0..140).map(|at| at * 7 % 97).collect()
}

fn keep(slot: u32, pages: &[u64]) -> Vec<KeepPages> {
    vec![KeepPages { slot, pages: pages.to_vec(), ..KeepPages::default() }]
}

/// The rest of the prompt, behind two kept pages, and the token that it gives.
async fn behind(driver: &mut RingDriver, slot: u32, pages: &[u64], pass: Pass) -> Result<u32, FailureKind> {
    let rest = Rows { prefix: pages.to_vec(), ..rows(slot, 128, 12, Some(0)) };
    driver.send(Pass { rows: vec![rest], tokens: prompt()[128..].to_vec(), ..pass }).await.unwrap();
    let result = next(driver).await;
    let token = result.tokens.first().map(|token| token.token);
    token.ok_or_else(|| result.failure_kind())
}

#[tokio::test]
async fn every_device_begins_behind_what_it_has_kept() {
    for (devices, segments, head) in [(1, 1, 0), (1, 3, 0), (2, 2, 0), (3, 2, 2), (5, 3, 4)] {
        let ring = Ring::of_fakes(&plan(card(15, 8, 97), devices, segments, head), &FakeLoader::default()).await;
        let mut driver = ring.configure(1).await;
        let expected = generate(&mut driver, 0, &prompt(), 50, 1).await[0];
        // Kept before the slot is released, in one pass.
        let pass = Pass { keep: keep(0, &[1, 2]), release: vec![0], ..Pass::default() };
        assert_eq!(behind(&mut driver, 3, &[1, 2], pass).await, Ok(expected), "{devices} devices, {segments} segments");
        assert_eq!(behind(&mut driver, 0, &[1, 2], Pass::default()).await, Ok(expected));

        // What is forgotten is not gone on from; the ring is none the worse for it, nor is a slot that has the pages.
        let pass = Pass { forget: vec![2], ..Pass::default() };
        assert_eq!(behind(&mut driver, 4, &[1, 2], pass).await, Err(FailureKind::Forgotten));
        driver.submit(vec![rows(3, 140, 1, Some(1))], vec![expected], vec![]).await.unwrap();
        assert_eq!(next(&mut driver).await.failure, "");
        assert_eq!(generate(&mut driver, 4, &prompt(), 50, 1).await, [expected]);
        drop(driver);

        // With the epoch all is forgotten that has no name.
        let mut driver = ring.configure(2).await;
        assert_eq!(behind(&mut driver, 1, &[1, 2], Pass::default()).await, Err(FailureKind::Forgotten));
        generate(&mut driver, 0, &prompt(), 50, 1).await;
        let names = [[7; 32], [8; 32]].map(|name| name.to_vec());
        let named = vec![KeepPages { pages: vec![1, 2], names: names.to_vec(), ..KeepPages::default() }];
        driver.send(Pass { keep: named, release: vec![0], ..Pass::default() }).await.unwrap();
        next(&mut driver).await;
        drop(driver);
        let mut driver = ring.configure(3).await;
        for told in driver.take_restorable() {
            let mut found: Vec<Vec<u8>> = told.names.iter().map(|name| name.as_bytes().to_vec()).collect();
            found.sort();
            assert_eq!(found, names, "each device says so");
        }
        let pages = [(5, &names[0]), (6, &names[1]), (7, &vec![9; 32])];
        let restore = pages.map(|(page, name)| RestoredPage { page, name: name.clone() }).to_vec();
        driver.send(Pass { restore, ..Pass::default() }).await.unwrap();
        assert_eq!(next(&mut driver).await.forgotten, [7], "what no device has is told");
        assert_eq!(behind(&mut driver, 1, &[5, 6], Pass::default()).await, Ok(expected));
        drop(driver);
        ring.stop().await;
    }
}

#[tokio::test]
async fn what_a_device_does_not_keep_is_told_once() {
    let ring =
        Ring::of_fakes(&plan(card(12, 8, 97), 3, 2, 1), &FakeLoader { keeps_nothing: true, ..FakeLoader::default() })
            .await;
    let mut driver = ring.configure(1).await;
    generate(&mut driver, 0, &prompt(), 128, 1).await;
    for (kept, told) in [(keep(0, &[5, 4]), vec![4, 5]), (vec![], vec![])] {
        driver.send(Pass { keep: kept, ..Pass::default() }).await.unwrap();
        let result = next(&mut driver).await;
        assert_eq!((result.failure.as_str(), result.forgotten), ("", told), "of three devices each");
    }
    drop(driver);
    ring.stop().await;
}

#[tokio::test]
async fn a_slot_on_its_way_does_not_begin_anew_behind_pages() {
    let ring = Ring::of_fakes(&plan(card(12, 8, 97), 2, 1, 0), &FakeLoader::default()).await;
    let mut driver = ring.configure(1).await;
    driver.submit(vec![rows(0, 0, 128, None)], prompt()[..128].to_vec(), vec![]).await.unwrap();
    let again = Rows { prefix: vec![1, 2], ..rows(0, 128, 12, Some(0)) };
    let sent = driver.send(Pass { rows: vec![again], tokens: prompt()[128..].to_vec(), ..Pass::default() }).await;
    assert!(matches!(sent, Err(DriverError::SlotBusy(0))), "{sent:?}");
    drop(driver);
    ring.stop().await;
}
