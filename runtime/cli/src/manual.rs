//! `lime completions` and `lime man`: the command line, for shells and for `man`.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;

/// Writes the completions of `shell` to `output`.
pub(crate) fn completions(shell: Shell, output: &mut impl io::Write) -> anyhow::Result<()> {
    // In memory first: clap_complete panics where it cannot write, as to a reader that has gone away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lime", &mut script);
    match output.write_all(&script) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the completions cannot be written"),
    }
}

/// Writes a page for the program and for each of its commands to `folder`.
pub(crate) fn man(folder: &Path) -> anyhow::Result<()> {
    let fault = || format!("the manual cannot be written to {}", folder.display());
    fs::create_dir_all(folder).with_context(fault)?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).with_context(fault)
}
