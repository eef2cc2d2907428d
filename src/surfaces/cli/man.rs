//! `agent man`: manual pages, from the same text as `--help`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::exit::{Exit, Failure};
use super::output;

/// Print the manual page, or write one page for each command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Write agent.1 and a page for each command into this directory instead.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Shown<'a> {
    Page(String),
    WrittenInto(&'a Path),
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let command = super::command();
    let json = context.global.json;
    match &arguments.out {
        Some(directory) => {
            clap_mangen::generate_to(command, directory).with_context(|| {
                format!("cannot write manual pages into {}", directory.display())
            })?;
            if json {
                output::json_pretty(&Shown::WrittenInto(directory))?;
            }
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .context("cannot render the manual page")?;
            match json {
                true => {
                    let page = String::from_utf8_lossy(&page).into_owned();
                    output::json_pretty(&Shown::Page(page))?;
                }
                false => output::bytes(&page)?,
            }
        }
    }
    Ok(Exit::Fine)
}
