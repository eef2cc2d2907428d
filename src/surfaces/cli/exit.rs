//! Exit codes, and the errors that lead to them.

use std::process::ExitCode;

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
}

/// The same for `--help` and man pages.
pub(super) const CODES: &str = "\
Exit codes:
  0  done, and all is well
  1  failed
  2  wrong usage, or a mistake in the settings
  3  refused, because it would not be safe
  4  the agent cannot be reached
  5  done or serving, but something is degraded";

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

    /// One line, causes behind colons; `None` when everything was told already.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        self.error.as_ref().map(|error| format!("{error:#}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}
