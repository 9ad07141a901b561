//! This program, to be started again for a part of the work.

use std::path::PathBuf;

use anyhow::Context as _;

/// Where this program is.
pub(crate) fn this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("the path of this program cannot be found")?;
    // Its file may have been replaced by a newer one since; the one that runs is still there.
    Ok(if program.exists() { program } else { "/proc/self/exe".into() })
}
