//! `agent man`: manual pages, from the same text as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::exit::{Exit, Failure};
use super::output;

/// Print the manual page, or write one page for each command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Write agent.1 and a page for each command into this directory instead.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let command = super::command();
    match &arguments.out {
        Some(directory) => clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write manual pages into {}", directory.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .context("cannot render the manual page")?;
            output::bytes(&page)?;
        }
    }
    Ok(Exit::Fine)
}
