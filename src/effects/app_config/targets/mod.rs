//! Ready-made targets: how a proxy, a pooler or an app that runs takes a changed file, and how it
//! is proved that it did.
//!
//! Owns: the moments of one change around the replacement of files. Must not: write those files, or
//! decide what they say. A target is a file and a variant of [`TargetSettings`].
//!
//! The order, which whoever replaces the files keeps: staged check → [`Target::before`] → rename →
//! check in place → [`Target::apply`] → [`Target::verify`] → [`Target::after`]. When anything after
//! the rename fails, the old file is put back, `apply` and `verify` run again, and `after` runs in
//! any case. Doing any of it twice is harmless.

pub mod compose;
pub mod haproxy;
pub mod haproxy_state;
pub mod kubectl;
pub mod nginx;
pub(super) mod nginx_reload;
pub mod pgbouncer;
mod pgbouncer_console;
pub mod pgbouncer_ini;
mod pgbouncer_note;
pub(super) mod process;
pub mod systemd;
pub mod systemd_env;

pub(super) use pgbouncer_note::pauses_but;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::off_thread;
use crate::config::settings::TargetSettings;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::{self, CommandSpec, Finished};
use crate::model::Moment;
use crate::model::outcome::FailureKind;

/// Between two looks at a process that is about to have the new file.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Larger files are no program's settings.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// When a target can tell a good file from a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The new file alone says it: before it replaces the old one.
    Staged,
    /// Only the whole of the program's settings says it: after the rename, before `apply`. A
    /// refusal means that the old file is put back, and the program never saw the new one.
    InPlace,
}

/// One change of one file, seen by the program that reads it. Made anew for every change.
///
/// Every call ends by its deadline. A change that is dropped half-way leaves nothing behind that
/// the next one's `before`, or [`Target::recover`] in the next life, does not put right.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// When [`Target::validate`] is to be called.
    fn check(&self) -> Check;

    /// Whether [`Target::recover`] has anything to do. A look at a file of the agent's own.
    ///
    /// # Errors
    /// When nobody can tell.
    async fn left_behind(&mut self) -> Result<bool, EffectError> {
        Ok(false)
    }

    /// Puts right what a change that was killed left behind; what that was, if anything.
    ///
    /// # Errors
    /// When the program cannot be asked; it is to be tried again.
    async fn recover(&mut self, _deadline: Moment) -> Result<Option<String>, EffectError> {
        Ok(None)
    }

    /// Makes the program ready for the change.
    ///
    /// # Errors
    /// When it cannot be; the file must not be replaced then.
    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError>;

    /// Asks the program whether it would take `files`: where those of [`Place::files`] are now, in
    /// the same order. What is doubtful but no fault comes back, for people.
    ///
    /// # Errors
    /// Permanent when it would not.
    async fn validate(
        &mut self,
        files: &[PathBuf],
        deadline: Moment,
    ) -> Result<Vec<String>, EffectError>;

    /// Makes the program read the file that now stands at its place.
    ///
    /// # Errors
    /// When it cannot be told, or says no.
    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError>;

    /// Asks the program that runs, not the file, until it has the new settings; what proved it.
    ///
    /// # Errors
    /// When it does not have them by the deadline.
    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError>;

    /// Why the program was not told, when [`Target::apply`] rightly told it nothing: it is stopped.
    fn stopped(&self) -> Option<String> {
        None
    }

    /// Whether the program ran right before the change, so that it is to run after it, with the old
    /// file or the new one. Known after [`Target::before`]; only of programs that a file can end.
    fn ran(&self) -> bool {
        false
    }

    /// An earlier attempt at this change saw it run: if it does not now, no person has stopped it.
    fn must_run(&mut self) {}

    /// Ends when the program was held up for as long as it may be, and goes on again although the
    /// change is not over. Never ends for a program that is not held up.
    async fn overstay(&mut self) {
        std::future::pending::<()>().await;
    }

    /// Lets the program go on, whatever came before.
    ///
    /// # Errors
    /// When it cannot be told; the next `before` or `recover` does it.
    async fn after(&mut self, _deadline: Moment) -> Result<(), EffectError> {
        Ok(())
    }
}

/// Where a change happens.
#[derive(Debug, Clone)]
pub struct Place {
    /// The app config's name, for texts.
    pub name: String,
    /// The files that change together.
    pub files: Vec<PathBuf>,
    /// A directory of the agent's own for this app config.
    pub dir: PathBuf,
}

/// The target of these settings, for one change.
#[must_use]
pub fn target_of(settings: &TargetSettings, place: Place) -> Box<dyn Target> {
    match settings.clone() {
        TargetSettings::Nginx(it) => Box::new(nginx::Nginx::new(it, place)),
        TargetSettings::Haproxy(it) => Box::new(haproxy::Haproxy::new(it, place)),
        TargetSettings::Pgbouncer(it) => Box::new(pgbouncer::Pgbouncer::new(it, place)),
        TargetSettings::Systemd(it) => Box::new(systemd::Systemd::new(it, place)),
        TargetSettings::Compose(it) => Box::new(compose::Compose::new(it, place)),
        TargetSettings::Kubectl(it) => Box::new(kubectl::Kubectl::new(it, place)),
    }
}

impl Place {
    /// Runs a program of the target by `deadline`; a bad exit code is an error that may pass.
    async fn run(&self, command: CommandSpec, deadline: Moment) -> Result<Finished, EffectError> {
        let (command, finished) = self.finish(command, deadline).await?;
        if finished.success() {
            return Ok(finished);
        }
        let what = self.says(format!("{command} failed: {}", finished.complaint()));
        Err(EffectError::retryable(what).hint("run the command by hand to see why"))
    }

    /// Runs a check of a file by `deadline`; a bad exit code means that the file is refused.
    async fn checked(
        &self,
        command: CommandSpec,
        deadline: Moment,
        hint: &str,
    ) -> Result<Finished, EffectError> {
        let (command, finished) = self.finish(command, deadline).await?;
        if finished.success() {
            return Ok(finished);
        }
        let cause = finished.stderr.lines().find(|line| {
            let marks = ["[emerg]", "[ALERT]"];
            marks.iter().any(|mark| line.contains(mark))
        });
        let why = cause.map_or_else(|| finished.complaint(), str::to_owned);
        let what = format!("the new file is refused by {command}: {why}");
        Err(EffectError::permanent(self.says(what)).hint(hint))
    }

    /// Runs a program to its end. One that ran out of time is killed and counts as failed, not as
    /// unknown: everything that is run here may be run twice, and leaving it out is worse.
    async fn finish(
        &self,
        command: CommandSpec,
        deadline: Moment,
    ) -> Result<(CommandSpec, Finished), EffectError> {
        let command = command.within(boottime().until(deadline));
        match exec::run(&command).await {
            Ok(finished) => Ok((command, finished)),
            Err(mut error) => {
                error.what = self.says(error.what);
                if error.kind == FailureKind::OutcomeUnknown {
                    error.kind = FailureKind::Retryable;
                }
                Err(error)
            }
        }
    }

    /// A text about this app config.
    fn says(&self, what: impl fmt::Display) -> String {
        format!("app config {}: {what}", self.name)
    }

    /// What `read` finds in each of the files.
    async fn read_all<T>(
        &self,
        files: &[PathBuf],
        read: impl Fn(&str, &Path) -> Result<T, EffectError>,
    ) -> Result<Vec<T>, EffectError> {
        let mut found = Vec::with_capacity(files.len());
        for path in files {
            found.push(read(&self.read(path).await?, path)?);
        }
        Ok(found)
    }

    /// Looks at files and processes where that may block: neither a lease nor a fence waits for it.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, EffectError> + Send + 'static,
    ) -> Result<T, EffectError> {
        let place = self.clone();
        off_thread(&self.name, move || work(&place)).await
    }

    /// The same, for one file.
    async fn on_file<T: Send + 'static>(
        &self,
        what: &'static str,
        path: PathBuf,
        work: impl FnOnce(&PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Result<T, EffectError> {
        let work = move |place: &Self| {
            work(&path).map_err(|error| {
                let what = place.says(format!("cannot {what} {}", path.display()));
                EffectError::retryable(what).caused_by(error)
            })
        };
        self.apart(work).await
    }

    /// The whole of a small text file.
    async fn read(&self, path: &Path) -> Result<String, EffectError> {
        let read = |path: &PathBuf| {
            let mut text = String::new();
            let mut bounded = File::open(path)?.take(FILE_BYTES_MAX + 1);
            bounded.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = self.on_file("read", path.to_owned(), read).await?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let what = format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
            return Err(EffectError::permanent(self.says(what)));
        }
        Ok(text)
    }
}

/// Whether there is time for another look; waits for it if so.
async fn time_to_look(deadline: Moment) -> bool {
    let left = boottime().until(deadline);
    if left.is_zero() {
        return false;
    }
    tokio::time::sleep(LOOK_EVERY.min(left)).await;
    true
}
