//! Printing: text for people with colours where they are wanted, JSON for programs.
//!
//! Colours appear on a terminal only, and never when `NO_COLOR` is set: `anstream` removes them.

use std::fmt::Display;
use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::exit::{Exit, Failure};

/// Headings and names.
pub(super) const BOLD: Style = Style::new().bold();
/// What matters less.
pub(super) const DIM: Style = Style::new().dimmed();
/// All is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Works, but.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// Does not work.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();

/// A text in a style.
pub(super) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints text as it is.
pub(super) fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    told(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints one line.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, error))?;
    line(text)
}

/// Prints a value as JSON that people can read, too.
pub(super) fn json_pretty(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Failed, error))?;
    line(text)
}

/// Prints why there is no result, as the JSON object that programs wait for. That nobody reads it
/// changes nothing: the exit code says it, too.
pub(super) fn json_error(value: &impl Serialize) {
    drop(json(value));
}

/// Prints bytes that are no text of ours: completions, man pages.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    told(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Tells people something that is no result. That nobody reads it is no failure.
pub(super) fn note(text: impl Display) {
    writeln!(anstream::stderr(), "{text}").ok();
}

fn told(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::nobody_reads()),
        Err(error) => {
            let error = anyhow::Error::new(error).context("cannot write to standard output");
            Err(Failure::new(Exit::Failed, error))
        }
    }
}
