//! A disk with faults: a library in front of libc that fails reads of stored blocks when it is told to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::common::root;

/// A disk that has faults on demand; all of a test's workers have the same.
pub(crate) struct Disk {
    library: PathBuf,
    /// What is to happen, as files: see `failing_disk.c`.
    orders: PathBuf,
}

impl Disk {
    /// `None` where it cannot be made, which is said.
    pub(crate) fn make(folder: &Path) -> Option<Self> {
        let disk = Self { library: folder.join("failing_disk.so"), orders: folder.join("orders") };
        fs::create_dir(&disk.orders).unwrap();
        let source = root().join("runtime/cli/tests/disk_faults/failing_disk.c");
        let made =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&disk.library).arg(source).arg("-ldl").output();
        match made {
            Ok(made) if made.status.success() => Some(disk),
            Ok(made) => panic!("{}", String::from_utf8_lossy(&made.stderr)),
            Err(fault) => {
                println!("skipped: cc cannot be run: {fault}");
                None
            }
        }
    }

    pub(crate) fn environment(&self) -> [(&str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("LIME_TEST_DISK", &self.orders)]
    }

    /// The next `count` reads fail (`error`) or give less (`short`).
    pub(crate) fn strikes(&self, fault: &str, count: usize) {
        for number in 0..count {
            fs::write(self.orders.join(format!("{fault}-{number}")), "").unwrap();
        }
    }

    /// Strikes that met no read.
    pub(crate) fn left(&self) -> usize {
        fs::read_dir(&self.orders).unwrap().count()
    }

    /// From now on every read fails.
    pub(crate) fn breaks(&self) {
        fs::write(self.orders.join("broken"), "").unwrap();
    }

    /// The same for a while.
    pub(crate) fn breaks_for(&self, time: Duration) {
        self.breaks();
        let broken = self.orders.join("broken");
        std::thread::spawn(move || {
            std::thread::sleep(time);
            fs::remove_file(broken)
        });
    }

    pub(crate) fn heals(&self) {
        fs::remove_file(self.orders.join("broken")).unwrap();
    }
}
