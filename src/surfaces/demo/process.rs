//! A program of the demo that runs for a while: an agent or the witness.
//!
//! Its output goes into a file. Dropping it kills it at once, as `kill -9` would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::DemoError;
use crate::effects::exec::{self, CommandSpec};
use crate::runtime::tasks::spawn_named;

/// No demo runs longer, not even one that is left running on purpose.
const RUNS_AT_MOST: Duration = Duration::from_secs(7 * 86_400);

/// How much of its output is shown when it ended against expectation.
const LAST_WORDS_LINES: usize = 12;

/// A running program.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    log: PathBuf,
    task: JoinHandle<()>,
}

impl Process {
    /// Starts this very program with other arguments.
    pub(super) fn start(name: &str, arguments: &[&str], log: &Path) -> Result<Self, DemoError> {
        let program = std::env::current_exe()
            .map_err(|error| DemoError::io("find the running program", Path::new("/"), error))?;
        Self::start_program(name, &program, arguments, log)
    }

    /// Starts another program.
    pub(super) fn start_program(
        name: &str,
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Self, DemoError> {
        // The shell only joins the output to a file, then becomes the program.
        let spec = CommandSpec::new("/bin/sh", RUNS_AT_MOST)
            .args(["-c", "exec \"$0\" \"$@\" >>\"$DEMO_LOG\" 2>&1"])
            .arg(program)
            .args(arguments)
            .env("DEMO_LOG", log)
            .env("NO_COLOR", "1");
        let task = spawn_named(format!("demo process {name}"), async move {
            if let Err(error) = exec::run(&spec).await {
                tracing::debug!(%error, "a process of the demo could not be run");
            }
        });
        Ok(Self {
            name: name.to_owned(),
            log: log.to_path_buf(),
            task,
        })
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(super) async fn kill(mut self) {
        self.task.abort();
        // Aborted, which is what was asked for.
        (&mut self.task).await.ok();
    }

    /// An error if it has ended by itself.
    pub(super) fn must_run(&self) -> Result<(), DemoError> {
        if !self.task.is_finished() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        let last = lines.len().saturating_sub(LAST_WORDS_LINES);
        Err(DemoError::Ended {
            name: self.name.clone(),
            said: lines.get(last..).unwrap_or_default().join("\n"),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}
