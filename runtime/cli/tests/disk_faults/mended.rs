//! Stored blocks that are damaged, cut, gone or unreadable while a ring serves from them: made again from the model's source.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::{DEVICES, Serving, disk::Disk, stored, verify};

/// Flips a bit in the middle of a file, under whoever has it open.
fn flip(path: &Path) {
    let (mut byte, file) = ([0], File::options().read(true).write(true).open(path).unwrap());
    let middle = file.metadata().unwrap().len() / 2;
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], middle).unwrap();
    file.sync_all().unwrap();
}

/// Damage that comes after a block was compared with its digest: answers may be wrong for a while, and then it is found.
#[test]
fn a_bit_that_flips_while_serving_is_found_soon_and_at_a_start_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(folder.path()) else { return };
    let (mut serving, undisturbed) = Serving::with_answer(folder.path(), &DEVICES, &disk);
    let streamed = stored(folder.path(), &serving.streamed(&disk));
    flip(&streamed);
    let said = verify(folder.path()).unwrap_err();
    assert!(said.contains("mlp("), "{said}");
    // 64 tokens are the most, and an answer has nearly as many.
    let wrong =
        [(); 2].map(|()| serving.answer()).into_iter().filter(|answer| answer.as_ref() != Ok(&undisturbed)).count();
    println!("{wrong} answers were wrong or failed");
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
