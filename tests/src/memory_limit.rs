//! Hard memory limits for processes: a control group of its own, page cache counted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// A control group with a hard limit. Its processes must have ended when it is dropped.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    unified: bool,
}

impl MemoryLimit {
    /// A group that may use `bytes`.
    ///
    /// # Errors
    /// Where control groups are not there or not ours to make (not root, a container that hides them).
    pub fn new(bytes: u64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lime-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").is_file();
        let folder = if unified { root.join(name) } else { root.join("memory").join(name) };
        fs::create_dir(&folder)?;
        let this = Self { folder, unified };
        fs::write(this.folder.join(if unified { "memory.max" } else { "memory.limit_in_bytes" }), bytes.to_string())?;
        if unified {
            // Without swap there is nothing to forbid.
            let _ = fs::write(this.folder.join("memory.swap.max"), "0");
        }
        Ok(this)
    }

    /// A command that runs `program` in the group from its first instruction on.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.folder.join("cgroup.procs")).arg(program);
        command
    }

    /// Changes the limit.
    ///
    /// # Errors
    /// When the group uses more and cannot give it up.
    pub fn set(&self, bytes: u64) -> io::Result<()> {
        let file = if self.unified { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.folder.join(file), bytes.to_string())
    }

    /// Sets the limit above which the group is asked to use less, without being killed.
    ///
    /// # Errors
    /// When the system does not take it.
    pub fn set_soft(&self, bytes: u64) -> io::Result<()> {
        let file = if self.unified { "memory.high" } else { "memory.soft_limit_in_bytes" };
        fs::write(self.folder.join(file), bytes.to_string())
    }

    /// The most that the group ever used.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn peak(&self) -> io::Result<u64> {
        let file = if self.unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.folder.join(file))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A process that still runs keeps it; nothing else is lost.
        let _ = fs::remove_dir(&self.folder);
    }
}
