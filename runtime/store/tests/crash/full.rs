//! Disks that are full, or become so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lime_store::{BlockState, EnsureOptions, Store, StoreError};

use crate::common::{all_blocks, ensure, source, verified};

/// A disk of `mebibytes`, or `None`, said aloud, where this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "lime-test"]).arg(folder.path()).output();
        if mount.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: no small disk can be mounted here (needs root): {mount:?}");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn what_cannot_fit_is_refused_before_anything_is_fetched() {
    let Some(disk) = SmallDisk::mount(3) else { return };
    let store = Store::open(disk.path()).unwrap();
    let model = store.model(&source("bard-2m")).unwrap();
    let fault = ensure(&model, &all_blocks(&model)).unwrap_err();
    let StoreError::NoSpace { wanted, free, short, .. } = &fault else { panic!("{fault}") };
    assert!(wanted > free && *short == *wanted - *free, "{fault}");
    assert!(fault.to_string().contains("MiB free"), "{fault}");
    assert!(all_blocks(&model).into_iter().all(|block| model.state(block) == BlockState::Absent));
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_named_and_a_rerun_goes_on() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let store = Store::open(disk.path()).unwrap();
    let model = store.model(&source("bard-2m")).unwrap();
    let hog: PathBuf = disk.path().join("hog");
    let mut filled = false;
    let options = EnsureOptions { connections: 1, ..EnsureOptions::default() };
    let fault = model
        .ensure(&all_blocks(&model), options, &mut |progress| {
            if progress.blocks == 2 && !filled {
                filled = true;
                // As large as it gets.
                let _ = fs::write(&hog, vec![1; 8 << 20]);
            }
        })
        .unwrap_err();
    assert!(matches!(fault, StoreError::NoSpace { .. }), "{fault}");
    assert!(fault.to_string().contains(disk.path().to_str().unwrap()), "{fault}");
    verified(&model, &all_blocks(&model));
    fs::remove_file(&hog).unwrap();
    let ensured = ensure(&model, &all_blocks(&model)).unwrap();
    assert_eq!(ensured.there, 2);
    verified(&model, &all_blocks(&model));
}
