//! `agent completions`: scripts that complete what is typed.

use clap::Args;
use clap_complete::Shell;

use super::exit::{Exit, Failure};
use super::output;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// For which shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "agent", &mut script);
    output::bytes(&script).map(|()| Exit::Fine)
}
