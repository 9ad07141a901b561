//! Stored blocks that are damaged, cut, gone or unreadable while a ring serves from them: made again from the model's source.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::{DEVICES, Serving, common, disk::Disk, stored, verify};

/// Flips a bit in the middle of a file, under whoever has it open.
fn flip(path: &Path) {
    let (mut byte, file) = ([0], File::options().read(true).write(true).open(path).unwrap());
    let middle = file.metadata().unwrap().len() / 2;
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], middle).unwrap();
    file.sync_all().unwrap();
}

/// Overwrites the data of blocks under whoever has them open: as numbers most of it is huge or none. All at once, as far as that goes.
fn randomize(paths: &[PathBuf]) {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u8
    };
    let files: Vec<File> = paths.iter().map(|path| File::options().write(true).open(path).unwrap()).collect();
    let sizes: Vec<usize> = files.iter().map(|file| file.metadata().unwrap().len() as usize - 4096).collect();
    let noise: Vec<u8> = (0..sizes.iter().copied().max().unwrap_or(0)).map(|_| next()).collect();
    for (file, size) in files.iter().zip(sizes) {
        file.write_all_at(&noise[..size], 4096).unwrap();
    }
}

/// Every block's file.
fn all_blocks(folder: &Path) -> Vec<PathBuf> {
    let blocks = stored(folder, "mlp-0001");
    let files = fs::read_dir(blocks.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "safetensors")).collect()
}

#[test]
fn no_answer_is_lost_or_wrong_whatever_becomes_of_blocks_between_or_within_answers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (mut serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    let one = stored(folder.path(), &serving.streamed(&disk));
    let all = all_blocks(folder.path());
    let cut = |path: &PathBuf| File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
    let damages: [(&str, &dyn Fn()); 5] = [
        ("a bit flips", &|| flip(&one)),
        ("a block is rubbish", &|| randomize(std::slice::from_ref(&one))),
        ("every block is rubbish", &|| randomize(&all)),
        ("every block is cut short", &|| all.iter().for_each(cut)),
        ("every block is gone", &|| all.iter().for_each(|path| drop(fs::remove_file(path)))),
    ];
    // All of it between two reads: what is damaged while blocks are compared is found by the pass after.
    let workers = serving.workers.clone();
    let at_once = |damage: &dyn Fn()| {
        workers.iter().for_each(|worker| common::signal(*worker, "STOP"));
        damage();
        workers.iter().for_each(|worker| common::signal(*worker, "CONT"));
    };
    for (what, damage) in damages {
        for moment in [0, 20] {
            if moment == 0 {
                at_once(damage);
            }
            let answer = serving.answer_while(&mut |event| {
                if event == moment {
                    at_once(damage);
                }
            });
            assert_eq!(answer.as_ref(), Ok(&undisturbed), "{what}, at event {moment}: {}", serving.up.listen());
        }
    }
    serving.end();
}

/// Damage that comes after a block was compared with its digest: it is compared again before it is used again.
#[test]
fn a_bit_that_flips_while_serving_is_found_at_once_and_so_at_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (mut serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    let streamed = stored(folder.path(), &serving.streamed(&disk));
    flip(&streamed);
    let said = verify(folder.path()).unwrap_err();
    assert!(said.contains("mlp("), "{said}");
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
    assert!(serving.up.listen().contains("a bit has flipped"), "{}", serving.up.heard);
    assert_eq!(verify(folder.path()), Ok(()));
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));

    flip(&streamed);
    let heard = serving.up.listen().len();
    serving.restart_workers();
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
    let heard = &serving.up.listen()[heard..];
    assert!(heard.contains("a bit has flipped"), "{heard}");
    assert_eq!(verify(folder.path()), Ok(()));
    serving.end();
}

#[test]
fn files_that_are_cut_or_gone_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (mut serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    let path = stored(folder.path(), &serving.streamed(&disk));
    let length = fs::metadata(&path).unwrap().len();
    for cut in [length - 4096, 4096, 0] {
        File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
        assert_eq!(serving.answer().as_ref(), Ok(&undisturbed), "{}", serving.up.listen());
        assert_eq!(verify(folder.path()), Ok(()));
    }
    // A file that is gone is read for as long as it is open; whoever starts anew makes it again.
    fs::remove_file(&path).unwrap();
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
    serving.restart_workers();
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
    assert!(path.exists());
    assert_eq!(verify(folder.path()), Ok(()));
    serving.end();
}

/// A sector that cannot be read stays so until it is written: its block is made anew beside it.
#[test]
fn a_file_that_can_never_be_read_again_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    disk.break_file(&stored(folder.path(), &serving.streamed(&disk)));
    assert_eq!(serving.answer().as_ref(), Ok(&undisturbed), "{} reads were refused", disk.disturbed());
    assert!(disk.disturbed() > 0);
    serving.end();

    // The same at a start, of one that is kept in memory.
    let kept = ["attention-0001", "attention-0004"].map(|stem| stored(folder.path(), stem));
    for file in kept {
        disk.break_file(&file);
        let serving = Serving::start(folder.path(), &DEVICES, Some(&disk));
        assert!(disk.disturbed() > 0);
        assert_eq!(serving.answer().as_ref(), Ok(&undisturbed));
        serving.end();
    }
    disk.recover();
    assert_eq!(verify(folder.path()), Ok(()));
}
