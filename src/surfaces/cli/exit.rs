//! Exit codes, and the errors that lead to them.

use std::process::ExitCode;

use serde::Serialize;

use super::output::{self, BAD, styled};
use crate::config::{Problem, Problems, Severity};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, and all is well.
    Fine,
    /// Failed.
    Failed,
    /// Wrong usage, or a mistake in the settings.
    Usage,
    /// Refused, because it would not be safe.
    Refused,
    /// The agent cannot be reached.
    Unreachable,
    /// Done or serving, but something is degraded.
    Degraded,
    /// It is not known whether it was begun.
    Unknown,
}

/// The same for `--help` and man pages.
pub(super) const CODES: &str = "\
Exit codes:
  0  done, and all is well
  1  failed
  2  wrong usage, or a mistake in the settings
  3  refused, because it would not be safe
  4  the agent cannot be reached
  5  done or serving, but something is degraded
  6  not known: it may have begun; see agent status";

impl Exit {
    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::Degraded => 5,
            Self::Unknown => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command did not do what was asked, and with which code it ends.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What to tell, unless it was told already.
    pub error: Option<anyhow::Error>,
}

impl Failure {
    pub(super) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: Some(error.into()),
        }
    }

    pub(super) fn text(exit: Exit, text: impl Into<String>) -> Self {
        Self::new(exit, anyhow::Error::msg(text.into()))
    }

    /// Whoever read our output has gone away: there is nobody to tell anything.
    pub(super) fn nobody_reads() -> Self {
        Self {
            exit: Exit::Fine,
            error: None,
        }
    }

    /// Tells why, unless it was told already: a line for people, or one JSON object for programs.
    pub fn tell(&self, json: bool) {
        let Some(error) = &self.error else {
            return;
        };
        let text = format!("{error:#}");
        match json {
            true => output::json_error(&Told {
                error: &text,
                exit: self.exit.number(),
                problems: error
                    .downcast_ref::<Problems>()
                    .map(|problems| problems.0.iter().map(ProblemShown::from).collect()),
            }),
            false => output::note(format_args!("{} {text}", styled(BAD, "agent:"))),
        }
    }

    /// The same for what clap complains about. Help and versions are no failures.
    pub fn tell_usage(error: &clap::Error, json: bool) {
        if !json || !error.use_stderr() {
            // Clap knows where each is printed. That nobody reads it is no failure.
            error.print().ok();
            return;
        }
        output::json_error(&Told {
            error: error.render().to_string().trim(),
            exit: Exit::Usage.number(),
            problems: None,
        });
    }
}

/// A failure as `--json` tells it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    error: &'a str,
    exit: u8,
    /// The mistakes of a settings file, one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<ProblemShown>>,
}

/// A mistake in the settings as `--json` tells it.
#[derive(Debug, Serialize)]
pub(super) struct ProblemShown {
    severity: &'static str,
    file: String,
    line: Option<usize>,
    key: String,
    what: String,
    hint: Option<String>,
}

impl From<&Problem> for ProblemShown {
    fn from(problem: &Problem) -> Self {
        Self {
            severity: match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            file: problem.file.clone(),
            line: problem.line,
            key: problem.key.clone(),
            what: problem.what.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}
