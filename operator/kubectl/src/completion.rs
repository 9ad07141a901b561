//! Completions, as scripts for shells.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;

/// Prints the script.
pub(crate) fn print(shell: Shell) -> anyhow::Result<()> {
    Ok(lime_tables::print(&script(shell))?)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    // The file that is completed, whatever name people call it by.
    let mut command = Cli::command().bin_name("kubectl-lime");
    clap_complete::generate(shell, &mut command, "kubectl-lime", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_hears_of_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for word in ["kubectl-lime", "timeline", "diagnose", "kubeconfig"] {
                assert!(script.contains(word), "{word} is missing for {shell}");
            }
        }
    }
}
