use std::{os::unix::fs::FileExt as _, time::Duration};

use lime_plan::{
    Arithmetic, Dtype, ServingLimits, TokenBasis,
    testing::{self, DeviceBudget, PlanRequest, proportional},
};

use super::*;
use crate::store::Store;

const PAGE: usize = 5000;

fn name(number: u32) -> PageName {
    let plan = proportional(&PlanRequest {
        model: &testing::small_card(&mut testing::Random::new(1), 4),
        devices: &[DeviceBudget { name: "a".into(), memory: Bytes::gib(64) }],
        serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 16 },
        segments: 1,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv: Dtype::F32,
    });
    PageName::root(&TokenBasis::of(&plan.unwrap()), None).unwrap().followed_by(&[number])
}

fn page(number: u32) -> Vec<u8> {
    (0..PAGE as u32).map(|at| (at * 31 + number * 7 + 1) as u8).collect()
}

struct Disk {
    model: StoredModel,
    _folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m");
        let model = Store::open(folder.path()).unwrap().model(&path.parse().unwrap()).unwrap();
        Self { model, _folder: folder }
    }

    fn open_cut(&self, cut: u32, pages: u64) -> Option<KvPages> {
        let limit = Bytes(file::file_bytes(PAGE) * pages);
        KvPages::open(&self.model, &KvPageSet { device: "a/b", cut: name(cut), page_bytes: PAGE, limit }).unwrap()
    }

    fn open(&self, pages: u64) -> KvPages {
        self.open_cut(1000, pages).unwrap()
    }
}

/// What is read of a page, if it is.
fn read(pages: &KvPages, number: u32) -> Option<Vec<u8>> {
    let mut found = vec![0; PAGE];
    pages.read(&name(number), &mut found).unwrap().then_some(found)
}

#[test]
fn pages_outlive_the_process_that_wrote_them() {
    let disk = Disk::new();
    let pages = disk.open(10);
    (0..3).for_each(|number| pages.write(name(number), None, &page(number)).unwrap());
    pages.write(name(1), None, &page(1)).unwrap();
    assert!(disk.open_cut(1000, 10).is_none(), "one process has them");
    drop(pages);
    let pages = disk.open(10);
    assert_eq!((pages.taken().0, pages.names().len(), pages.room()), (3, 3, 10));
    assert!((0..3).all(|number| read(&pages, number) == Some(page(number))));
    assert_eq!(read(&pages, 3), None);
    pages.clear().unwrap();
    assert_eq!((read(&pages, 0), pages.taken()), (None, (0, Bytes::ZERO)));
    drop(pages);
    assert!(disk.open(10).names().is_empty());
}

#[test]
fn a_bit_that_flips_is_found_wherever_it_is() {
    let disk = Disk::new();
    for at in [0, 20, 45, 52, HEADER_END, HEADER_END + PAGE as u64 - 1] {
        let pages = disk.open(10);
        pages.write(name(1), None, &page(1)).unwrap();
        let path = pages.path(&name(1));
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        drop(file);
        let fault = pages.read(&name(1), &mut vec![0; PAGE]).unwrap_err();
        assert!(matches!(fault, StoreError::Damaged { .. }), "byte {at}: {fault}");
        assert!(!path.exists() && !pages.has(&name(1)), "it is removed, and can be written again");
    }
}

const HEADER_END: u64 = 4096;

#[test]
fn what_is_no_whole_page_is_removed_at_the_start_and_one_that_is_gone_is_missed_by_nobody() {
    let disk = Disk::new();
    let pages = disk.open(10);
    (0..4).for_each(|number| pages.write(name(number), None, &page(number)).unwrap());
    let [cut_short, unfinished, gone] = [0, 1, 2].map(|number| pages.path(&name(number)));
    drop(pages);
    File::options().write(true).open(&cut_short).unwrap().set_len(4100).unwrap();
    fs::rename(&unfinished, file::unfinished(&unfinished)).unwrap();
    fs::write(unfinished.with_file_name("notes.txt"), "mine").unwrap();
    let pages = disk.open(10);
    fs::remove_file(gone).unwrap();
    assert_eq!([0, 1, 3].map(|number| read(&pages, number).is_some()), [false, false, true]);
    let fault = pages.read(&name(2), &mut vec![0; PAGE]);
    assert!(matches!(fault, Err(StoreError::Io { .. })), "{fault:?}");
    assert_eq!(pages.names(), [name(3)]);
    assert_eq!(fs::read_dir(cut_short.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn the_limit_holds_and_what_was_used_least_recently_goes() {
    let disk = Disk::new();
    let pages = disk.open(3);
    pages.write(name(0), None, &page(0)).unwrap();
    (1..3).for_each(|number| pages.write(name(number), Some(name(number - 1)), &page(number)).unwrap());
    let has = || [0, 1, 2, 3, 4].map(|number| pages.has(&name(number)));
    pages.write(name(3), None, &page(3)).unwrap();
    assert_eq!(has(), [true, true, false, true, false], "a sequence goes from its end");
    pages.used(&[name(0), name(1)]);
    pages.write(name(4), None, &page(4)).unwrap();
    assert_eq!(has(), [true, true, false, false, true], "and what is of use stays");
    drop(pages);
    // By another cut there is nothing of use, and what is there goes first.
    let other = disk.open_cut(2000, 4).unwrap();
    assert_eq!((other.names().len(), other.taken().0), (0, 0));
    assert_eq!(other.taken().1, Bytes(3 * file::file_bytes(PAGE)));
    (10..13).for_each(|number| other.write(name(number), None, &page(number)).unwrap());
    assert_eq!(other.taken(), (3, Bytes(4 * file::file_bytes(PAGE))));
    drop(other);
    std::thread::sleep(Duration::from_millis(5));
    let pages = disk.open(2);
    assert!(pages.names().len() <= 1 && pages.taken().1 <= Bytes(2 * file::file_bytes(PAGE)));
    drop(pages);
    let nothing = disk.open(0);
    nothing.write(name(1), None, &page(1)).unwrap();
    assert_eq!((nothing.room(), nothing.taken()), (0, (0, Bytes::ZERO)));
}
