//! What is made from the command line itself: completions and manual pages.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
#[command(after_long_help = "Example:\n  lime completions bash > ~/.local/share/bash-completion/completions/lime")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
#[command(after_long_help = "Example:\n  lime man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder, which is made where it is not there
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
