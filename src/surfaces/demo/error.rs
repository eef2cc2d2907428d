//! Why the demo could not show what it should.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::effects::error::EffectError;

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no PostgreSQL on this host.
    #[error(
        "no PostgreSQL server programs found in {looked_in}: run `make setup`, or install \
         PostgreSQL and say where with --pg-bin"
    )]
    NoPostgres {
        /// Where they were looked for.
        looked_in: String,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else.
    #[error("PostgreSQL refuses to run as root: name another user with --pg-user")]
    NoUser(#[source] EffectError),
    /// There is no BIND that could serve the demo's name.
    #[error("cannot run BIND: {why}")]
    NoBind {
        /// Why.
        why: String,
    },
    /// A file could not be handled.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program could not be run.
    #[error("cannot prepare the demo")]
    Effect(#[from] EffectError),
    /// A PostgreSQL program failed.
    #[error("{program} failed: {complaint}")]
    Program {
        /// Which.
        program: String,
        /// What it said.
        complaint: String,
    },
    /// The demo's own settings are refused.
    #[error("the demo's settings are refused: {0}")]
    Settings(String),
    /// A node does not do what it should.
    #[error("cannot {what}")]
    Sql {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: tokio_postgres::Error,
    },
    /// An agent or the witness ended by itself.
    #[error("{name} ended by itself; it said:\n{said}")]
    Ended {
        /// Which.
        name: String,
        /// Its last words.
        said: String,
    },
    /// Something did not happen in time.
    #[error("waited {after:?} for {what}, in vain")]
    TooLate {
        /// What.
        what: String,
        /// How long.
        after: Duration,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted; everything was cleaned up")]
    Interrupted,
}

impl DemoError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_path_buf(),
            source,
        }
    }
}
