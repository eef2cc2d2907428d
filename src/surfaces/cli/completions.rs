//! `agent completions`: scripts that complete what is typed.

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use super::Context;
use super::exit::{Exit, Failure};
use super::output;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// For which shell.
    shell: Shell,
}

#[derive(Debug, Serialize)]
struct Script {
    shell: String,
    script: String,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "agent", &mut script);
    if context.global.json {
        return output::json_pretty(&Script {
            shell: arguments.shell.to_string(),
            script: String::from_utf8_lossy(&script).into_owned(),
        })
        .map(|()| Exit::Fine);
    }
    output::bytes(&script).map(|()| Exit::Fine)
}
