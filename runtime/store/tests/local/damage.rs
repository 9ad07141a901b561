//! Nothing damaged is ever trusted, and only it is made again.

use std::{fs, os::unix::fs::MetadataExt as _};

use lime_model::{BlockFiles as _, BlockLayout};
use lime_plan::{Block, LayerIndex};
use lime_store::{BlockState, EnsureOptions, Source, Store};

use crate::common::{all_blocks, ensure, file_of, flip, source, store, stored, verified};

const VICTIM: Block = Block::Attention(LayerIndex(1));

#[test]
fn a_flipped_bit_anywhere_is_found_and_that_block_alone_made_again() {
    let (_root, store) = store();
    let model = store.model(&source("tiny-llama3-bf16")).unwrap();
    let blocks = all_blocks(&model);
    ensure(&model, &blocks).unwrap();
    let path = file_of(&model, VICTIM);
    let (whole, size) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().len());
    let inodes = || -> Vec<u64> {
        let layout = |block: Block| model.locate(block, &BlockLayout::of(model.folder().config(), block)).ok();
        let files = blocks.iter().filter(|block| **block != VICTIM).filter_map(|block| layout(*block));
        files.map(|file| fs::metadata(file.path).unwrap().ino()).collect()
    };
    let before = inodes();
    // In the length, the metadata, the tensors' places, the padding of the header, and the data from end to end.
    for at in [0, 7, 12, 100, 400, 4000, 4096, 5000, size / 2, size - 1] {
        flip(&path, at);
        assert_eq!(model.verify(&blocks, &|_, _| {}).unwrap().len(), 1, "at {at}");
        let options = EnsureOptions { verify: &blocks, ..EnsureOptions::default() };
        let ensured = model.ensure(&blocks, options, &mut |_| {}).unwrap();
        assert_eq!(ensured.made, [VICTIM], "at {at}");
        assert_eq!(ensured.repaired.len(), 1, "at {at}");
        assert!(fs::read(&path).unwrap() == whole, "at {at}");
        assert_eq!(inodes(), before, "others were left alone");
    }
    verified(&model, &blocks);
}

#[test]
fn blocks_that_are_not_named_are_not_read() {
    let (_root, store) = store();
    let model = store.model(&source("tiny-llama3-bf16")).unwrap();
    let other = Block::Mlp(LayerIndex(1));
    ensure(&model, &[VICTIM, other]).unwrap();
    [VICTIM, other].iter().for_each(|block| flip(&file_of(&model, *block), 5000));
    let made_by = |verify: &[Block]| {
        let options = EnsureOptions { verify, ..EnsureOptions::default() };
        model.ensure(&[VICTIM, other], options, &mut |_| {}).unwrap().made
    };
    assert_eq!([made_by(&[]), made_by(&[VICTIM]), made_by(&[VICTIM])], [vec![], vec![VICTIM], vec![]]);
    assert_eq!(made_by(&[VICTIM, other]), [other]);
    verified(&model, &[VICTIM, other]);
}

#[test]
fn a_loader_that_read_a_flipped_bit_is_told() {
    let (_root, store) = store();
    let model = store.model(&source("tiny-llama3-bf16")).unwrap();
    ensure(&model, &[VICTIM]).unwrap();
    let layout = BlockLayout::of(model.folder().config(), VICTIM);
    flip(&file_of(&model, VICTIM), 9000);
    let bytes = stored(&model, VICTIM, &layout);
    let fault = model.check_bytes(VICTIM, &layout, &bytes).unwrap_err().to_string();
    assert!(fault.contains("attention(1)") && fault.contains("attention-0001.safetensors"), "{fault}");
    model.discard(VICTIM).unwrap();
    assert_eq!(ensure(&model, &[VICTIM]).unwrap().made, [VICTIM]);
    model.check_bytes(VICTIM, &layout, &stored(&model, VICTIM, &layout)).unwrap();
}

/// A disk may be well again before its source can be asked: what it does not give is not given up.
#[test]
fn what_cannot_be_read_is_made_anew_and_not_removed_before() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("source");
    fs::create_dir(&from).unwrap();
    for file in fs::read_dir(source("tiny-llama3-bf16").folder().unwrap()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), from.join(file.file_name())).unwrap();
    }
    let store = Store::open(root.path().join("store")).unwrap();
    let model = store.model(&Source::Folder(from.clone())).unwrap();
    ensure(&model, &[VICTIM]).unwrap();
    let path = file_of(&model, VICTIM);
    let whole = fs::read(&path).unwrap();
    // A name that leads to itself: opening it fails, and not for want of a file.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(model.state(VICTIM), BlockState::Unreadable(_)), "{:?}", model.state(VICTIM));
    assert_eq!(model.verify(&[VICTIM], &|_, _| {}).unwrap().len(), 1);
    model.discard(VICTIM).unwrap();
    let away = root.path().join("away");
    fs::rename(&from, &away).unwrap();
    ensure(&model, &[VICTIM]).unwrap_err();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "it was removed");

    fs::rename(&away, &from).unwrap();
    let ensured = ensure(&model, &[VICTIM]).unwrap();
    assert_eq!((ensured.made, ensured.repaired.len()), (vec![VICTIM], 1));
    assert!(fs::read(&path).unwrap() == whole);
    verified(&model, &[VICTIM]);
}

#[test]
fn a_block_cut_short_or_left_under_another_name_is_not_trusted() {
    let (_root, store) = store();
    let model = store.model(&source("bard-2m")).unwrap();
    let blocks = all_blocks(&model);
    ensure(&model, &blocks).unwrap();
    let path = file_of(&model, VICTIM);
    let bytes = fs::read(&path).unwrap();
    let other = fs::read(file_of(&model, Block::Attention(LayerIndex(0)))).unwrap();
    let wrong: [&[u8]; 5] =
        [b"", &bytes[..bytes.len() - 1], &bytes[..4096], &[bytes.as_slice(), &[0]].concat(), &other];
    for content in wrong {
        fs::write(&path, content).unwrap();
        assert!(matches!(model.state(VICTIM), BlockState::Damaged(_)), "{} bytes", content.len());
        assert!(model.locate(VICTIM, &BlockLayout::of(model.folder().config(), VICTIM)).is_err());
        assert_eq!(ensure(&model, &blocks).unwrap().made, [VICTIM]);
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn a_half_made_block_is_gone_on_with_and_what_is_wrong_in_it_fetched_again() {
    let (_root, store) = store();
    let model = store.model(&source("bard-2m")).unwrap();
    ensure(&model, &[VICTIM]).unwrap();
    let path = file_of(&model, VICTIM);
    let whole = fs::read(&path).unwrap();
    let (part, journal) = (path.with_extension("part"), path.with_extension("journal"));
    // As a power cut can leave it: everything noted, the data partly not there, and rubbish between the tensors.
    let title = format!("lime-journal-1 {} attention-0001 {}\n", model.key(), whole.len() - 4096);
    let layout = BlockLayout::of(model.folder().config(), VICTIM);
    let lines = layout.entries.iter().map(|entry| {
        let data = &whole[4096 + entry.offset as usize..][..entry.bytes as usize];
        format!("{} {} {}\n", entry.offset, entry.bytes, lime_store::Digest::of_chunk(data))
    });
    let noted = title + &lines.collect::<String>();
    let mut torn = whole.clone();
    torn[20_000..30_000].fill(0xAA);
    for content in [vec![], vec![0xFF; whole.len()], torn, whole.clone(), [whole.as_slice(), &[1; 5000]].concat()] {
        fs::remove_file(&path).unwrap();
        fs::write(&part, &content).unwrap();
        fs::write(&journal, &noted).unwrap();
        assert!(matches!(model.state(VICTIM), BlockState::Partial(_)));
        assert_eq!(ensure(&model, &[VICTIM]).unwrap().made, [VICTIM]);
        assert!(fs::read(&path).unwrap() == whole, "from {} bytes", content.len());
        assert!(!part.exists() && !journal.exists());
    }
}
