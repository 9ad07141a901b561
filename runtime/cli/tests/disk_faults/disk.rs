//! A disk that fails when it is told to: a shared object, made from `failing_disk.c` and preloaded into the workers, stands before
//! their reads of stored blocks.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
};

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// `EIO`.
    Refuse = 1,
    /// About half of it is read, whole pages.
    ShortByPages,
    /// About half of it is read, to the middle of a page.
    ShortByBytes,
    /// Nothing is, as behind the end of a file.
    EndEarly,
}

/// The disk of some workers.
pub(crate) struct Disk {
    library: PathBuf,
    orders: PathBuf,
}

impl Disk {
    /// A disk that is well so far; `None`, having said why, where it cannot be made.
    pub(crate) fn make(folder: &Path) -> Option<Self> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            println!("skipped: faults of the disk are made by a preloaded library, which takes Linux and glibc");
            return None;
        }
        let (library, orders) = (folder.join("failing_disk.so"), folder.join("disk"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk_faults/failing_disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(source);
        match compiler.arg("-ldl").output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(fault) if fault.kind() == ErrorKind::NotFound => {
                println!("skipped: there is no C compiler (cc), and faults of the disk are made in C");
                return None;
            }
            Err(fault) => panic!("cc: {fault}"),
        }
        fs::write(&orders, [0; 64]).unwrap();
        Some(Self { library, orders })
    }

    /// What the workers' environment needs.
    pub(crate) fn environment(&self) -> [(&str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("LIME_TEST_DISK", &self.orders)]
    }

    /// Disturbs the next `count` reads of files whose names hold `of`, or all until it [`recovers`](Self::recover).
    pub(crate) fn disturb(&self, how: Disturbance, count: Option<i32>, of: &str) {
        self.order(how as i32, count.unwrap_or(-1), of, 0);
    }

    /// Refuses every read of a file as it is now; another that takes its name is well.
    pub(crate) fn break_file(&self, path: &Path) {
        self.order(5, -1, "", fs::metadata(path).unwrap().ino());
    }

    fn order(&self, mode: i32, count: i32, of: &str, inode: u64) {
        self.recover();
        let mut name = [0; 44];
        name[..of.len()].copy_from_slice(of.as_bytes());
        let file = self.file();
        file.write_all_at(&inode.to_ne_bytes(), 56).unwrap();
        file.write_all_at(&name, 12).unwrap();
        file.write_all_at(&0_i32.to_ne_bytes(), 8).unwrap();
        file.write_all_at(&count.to_ne_bytes(), 4).unwrap();
        // Only now does anybody look at the rest.
        file.write_all_at(&mode.to_ne_bytes(), 0).unwrap();
    }

    /// Reads succeed again.
    pub(crate) fn recover(&self) {
        self.file().write_all_at(&0_i32.to_ne_bytes(), 0).unwrap();
    }

    /// So many reads were disturbed since the last order.
    pub(crate) fn disturbed(&self) -> i32 {
        let mut count = [0; 4];
        self.file().read_exact_at(&mut count, 8).unwrap();
        i32::from_ne_bytes(count)
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(&self.orders).unwrap()
    }
}
