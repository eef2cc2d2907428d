//! Starts a local server as primary, by `pg_ctl` or by systemd, and waits until it accepts
//! connections.
//!
//! Must not: decide that the node may be primary. Whoever calls this holds the lease (S10).
//! Start reading at [`LocalServer::start_as_primary`].
//!
//! Source: PostgreSQL manual, `pg_ctl`; 20.5.4 (`standby.signal`, `recovery.signal`);
//! `src/include/utils/pidfile.h` (`ready` in `postmaster.pid`).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::geteuid;

use super::fence::{is_fenced, write_signal_file};
use super::installation::{bin_dir, config_file_elsewhere, server_user, server_version};
use super::process::{DirId, Instance, PidFile};
use crate::config::settings::Node;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::{CommandSpec, run};
use crate::effects::permit::Permit;
use crate::model::Moment;

/// Both make a start something else than that of a primary.
const SIGNAL_FILES: [&str; 2] = ["standby.signal", "recovery.signal"];

/// What the server says before its own logging is set up, and afterwards if it has none.
const LOG_FILE: &str = "log/agent-start.log";

/// A log file of this size is moved aside at the next start.
const LOG_SIZE_MAX: u64 = 10 * 1024 * 1024;

/// How much of the end of the log is searched for the reason of a failed start.
const LOG_TAIL: u64 = 4 * 1024;

/// Between two looks at `postmaster.pid`.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bound on one look at files and `/proc`, which hangs only with a broken disk.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// How a local server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter<'a> {
    /// By `pg_ctl`.
    PgCtl,
    /// By this systemd unit.
    Unit(&'a str),
}

/// The server of a node on this host.
#[derive(Debug, Clone, Copy)]
pub struct LocalServer<'a> {
    /// Its settings.
    pub node: &'a Node,
    /// Its processes.
    pub instance: &'a Instance,
}

impl LocalServer<'_> {
    /// Starts it as primary, if the `permit` says so right before; does nothing if it already runs
    /// as one.
    ///
    /// # Errors
    ///
    /// Permanent if it cannot be started as configured or runs as a standby, Retryable if it did
    /// not come up, `OutcomeUnknown` if it is not ready after `timeout`.
    pub async fn start_as_primary(
        &self,
        starter: Starter<'_>,
        permit: &dyn Permit,
        timeout: Duration,
    ) -> Result<(), EffectError> {
        let deadline = boottime() + timeout;
        permit.still_held()?;
        let instance = self.instance.clone();
        let waiting = Arc::new(());
        let waiter = Arc::downgrade(&waiting);
        let check = off_thread(LOOK_TIMEOUT, move || check_before(&instance, &waiter)).await?;
        let removed = match check {
            Before::Runs => return self.wait_ready(deadline).await,
            Before::Down { removed } => removed,
        };
        let mut given_up = removed.then(|| GivenUp(Some(self.instance.clone())));
        let spec = self.starting(starter, deadline).await;
        let started = match spec.and_then(|spec| permit.still_held().map(|_| spec)) {
            Ok(spec) => self.run_and_wait(&spec, starter, deadline).await,
            Err(error) => Err(error),
        };
        if started.is_err() && removed {
            // Nothing else may start as primary what this could not (S10).
            let instance = self.instance.clone();
            off_thread(LOOK_TIMEOUT, move || forbid_primary_if_down(&instance)).await?;
        }
        if let Some(given_up) = &mut given_up {
            given_up.0 = None;
        }
        drop(waiting);
        started
    }

    /// Starts it as a standby, whatever it was when it died; does nothing if it runs.
    ///
    /// # Errors
    ///
    /// As [`start_as_primary`](Self::start_as_primary); Retryable while processes of an earlier run
    /// are left.
    pub async fn start_as_standby(
        &self,
        starter: Starter<'_>,
        timeout: Duration,
    ) -> Result<(), EffectError> {
        let deadline = boottime() + timeout;
        let instance = self.instance.clone();
        let runs = off_thread(LOOK_TIMEOUT, move || {
            if instance.postmaster()?.is_some() {
                return Ok(true);
            }
            if !is_fenced(&instance)? {
                let shown = instance.data_dir().display();
                let what = format!("processes of an earlier run still work in {shown}");
                return Err(EffectError::retryable(what));
            }
            instance.in_place()?;
            remove_dead_lock_files(instance.data_dir())?;
            let path = instance.data_dir().join("standby.signal");
            let written =
                write_signal_file(&path, instance.identify()?).and_then(|file| file.sync_all());
            written.map_err(|error| {
                EffectError::retryable(format!("cannot write {}", path.display())).caused_by(error)
            })?;
            Ok(false)
        })
        .await?;
        if runs {
            return self.wait_ready(deadline).await;
        }
        let spec = self.starting(starter, deadline).await?;
        self.run_and_wait(&spec, starter, deadline).await
    }

    async fn starting(
        &self,
        starter: Starter<'_>,
        deadline: Moment,
    ) -> Result<CommandSpec, EffectError> {
        let left = boottime().until(deadline);
        let unit = match starter {
            Starter::PgCtl => return self.pg_ctl_start(left).await,
            Starter::Unit(unit) => unit,
        };
        Ok(CommandSpec::new("systemctl", left).args(["start", unit]))
    }

    async fn pg_ctl_start(&self, timeout: Duration) -> Result<CommandSpec, EffectError> {
        let id = self.instance.identify()?;
        let data_dir = self.instance.data_dir();
        let user = server_user(self.node, &id)?;
        let version = server_version(data_dir)?;
        let pg_ctl = bin_dir(self.node, version).await?.join("pg_ctl");
        let log = prepare_log(data_dir, &id).map_err(|error| {
            let what = format!("cannot prepare {LOG_FILE} in {}", data_dir.display());
            EffectError::retryable(what).caused_by(error)
        })?;
        let mut spec = CommandSpec::new(pg_ctl, timeout)
            .args(["start", "-s", "-w", "-t"])
            .arg(timeout.as_secs().max(1).to_string())
            .arg("-D")
            .arg(data_dir)
            .arg("-l")
            .arg(log)
            .user(user);
        if let Some(file) = config_file_elsewhere(data_dir, version)? {
            spec = spec.arg("-o").arg(format!("-c config_file='{file}'"));
        }
        Ok(spec)
    }

    async fn run_and_wait(
        &self,
        spec: &CommandSpec,
        starter: Starter<'_>,
        deadline: Moment,
    ) -> Result<(), EffectError> {
        // `pg_ctl` looks ten times a second, which is too rarely for a failover.
        let ended = tokio::select! {
            ready = self.wait_ready(deadline) => return ready,
            ended = run(spec) => ended?,
        };
        if ended.success() {
            return self.wait_ready(deadline).await;
        }
        let mut what = format!("{spec} failed: {}", ended.complaint());
        let data_dir = self.instance.data_dir();
        let hint = match starter {
            Starter::PgCtl => {
                let log = data_dir.join(LOG_FILE);
                if let Some(reason) = reason_in_log(&log) {
                    what = format!("{what}: {reason}");
                }
                format!("see {}", log.display())
            }
            Starter::Unit(unit) => format!("see journalctl -u {unit}"),
        };
        Err(EffectError::retryable(what).hint(hint))
    }

    /// Waits until the server says in `postmaster.pid` that it accepts connections.
    async fn wait_ready(&self, deadline: Moment) -> Result<(), EffectError> {
        loop {
            let instance = self.instance.clone();
            if off_thread(LOOK_TIMEOUT, move || is_ready(&instance)).await? {
                return Ok(());
            }
            if boottime() >= deadline {
                let data_dir = self.instance.data_dir().display();
                return Err(
                    EffectError::unknown(format!("{data_dir} is not ready in time"))
                        .hint("crash recovery may take longer: see the server's log"),
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Runs blocking work that a broken disk may hold up for ever.
pub(super) async fn off_thread<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> Result<T, EffectError> + Send + 'static,
) -> Result<T, EffectError> {
    match tokio::time::timeout(within, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(EffectError::unknown("the work was cut short").caused_by(error)),
        Err(_) => Err(
            EffectError::unknown(format!("the disk did not answer within {within:?}"))
                .hint("look for I/O errors in the kernel's log"),
        ),
    }
}

/// A start that was given up on its way, because its plan was: what allowed the node to be a
/// primary is taken back, since the fence that follows the plan's end may already be over (S10).
struct GivenUp(Option<Instance>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(instance) = self.0.take() {
            std::thread::spawn(move || {
                if let Err(error) = forbid_primary_if_down(&instance) {
                    tracing::error!(%error, "a start was given up");
                }
            });
        }
    }
}

enum Before {
    Runs,
    Down { removed: bool },
}

/// Looks whether it may be started, and takes away what would make it a standby.
///
/// Runs on a thread of its own, which a bad disk may hold up until long after the start was given
/// up and the node was fenced: then `waiter` is gone, and nothing may be taken away any more (S10).
fn check_before(instance: &Instance, waiter: &Weak<()>) -> Result<Before, EffectError> {
    let data_dir = instance.data_dir();
    let shown = data_dir.display();
    let signals: Vec<_> = SIGNAL_FILES.map(|name| data_dir.join(name)).into();
    let signals: Vec<_> = signals.into_iter().filter(|path| path.exists()).collect();
    if let Some(process) = instance.postmaster()? {
        if let Some(signal) = signals.first() {
            let what = format!("{shown} already runs as a standby (process {process})");
            return Err(EffectError::permanent(what).hint(format!(
                "promote it, or stop it first; found {}",
                signal.display()
            )));
        }
        return Ok(Before::Runs);
    }
    if !is_fenced(instance)? {
        let what = format!("processes of an earlier run still work in {shown}");
        return Err(EffectError::permanent(what).hint("fence the node first"));
    }
    instance.in_place()?;
    let given_up = || EffectError::retryable(format!("the start of {shown} was given up"));
    if waiter.strong_count() == 0 {
        return Err(given_up());
    }
    remove_dead_lock_files(data_dir)?;
    for path in &signals {
        fs::remove_file(path).map_err(|error| cannot_remove(path, error))?;
    }
    if let Err(error) = File::open(data_dir).and_then(|dir| dir.sync_all()) {
        return Err(EffectError::retryable(format!("cannot sync {shown}")).caused_by(error));
    }
    if waiter.strong_count() == 0 && !signals.is_empty() {
        forbid_primary_if_down(instance)?;
        return Err(given_up());
    }
    Ok(Before::Down {
        removed: !signals.is_empty(),
    })
}

/// PostgreSQL takes a lock file for that of a living server as long as any process has its number,
/// even a dead one that init has not reaped yet. The caller has proved that none of this instance
/// lives. Source: `src/backend/utils/init/miscinit.c`, `CreateLockFile`.
fn remove_dead_lock_files(data_dir: &Path) -> Result<(), EffectError> {
    let Ok(Some(file)) = PidFile::read(data_dir) else {
        return Ok(());
    };
    if !Path::new(&format!("/proc/{}", file.pid)).exists() {
        return Ok(());
    }
    // The socket's lock file may by now be that of another server on the same port.
    let is_ours = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .next()
            .and_then(|line| line.trim().parse().ok())
            == Some(file.pid)
    };
    let socket_lock = file.socket_lock.filter(is_ours);
    for path in socket_lock
        .into_iter()
        .chain([data_dir.join("postmaster.pid")])
    {
        fs::remove_file(&path).map_err(|error| cannot_remove(&path, error))?;
    }
    Ok(())
}

fn cannot_remove(path: &Path, error: io::Error) -> EffectError {
    EffectError::retryable(format!("cannot remove {}", path.display())).caused_by(error)
}

fn forbid_primary_if_down(instance: &Instance) -> Result<(), EffectError> {
    if !is_fenced(instance)? {
        return Ok(());
    }
    let path = instance.data_dir().join("standby.signal");
    let written = write_signal_file(&path, instance.identify()?).and_then(|file| file.sync_all());
    written.map_err(|error| {
        EffectError::permanent(format!(
            "cannot write {} after a failed start",
            path.display()
        ))
        .hint("until that file exists, the node may be started as a second primary")
        .caused_by(error)
    })
}

fn is_ready(instance: &Instance) -> Result<bool, EffectError> {
    let Ok(Some(file)) = PidFile::read(instance.data_dir()) else {
        return Ok(false);
    };
    let ready = file.status.as_deref() == Some("ready");
    Ok(ready && instance.process(file.pid)?.is_some())
}

/// Makes the log's directory, and moves a big old log aside.
fn prepare_log(data_dir: &Path, id: &DirId) -> io::Result<PathBuf> {
    let log = data_dir.join(LOG_FILE);
    let dir = data_dir.join("log");
    match DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) if geteuid().as_raw() != id.uid => lchown(&dir, Some(id.uid), Some(id.gid))?,
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if fs::symlink_metadata(&log).is_ok_and(|metadata| metadata.len() > LOG_SIZE_MAX) {
        fs::rename(&log, log.with_extension("log.1"))?;
    }
    Ok(log)
}

/// The most telling late line of the log.
fn reason_in_log(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Some failures are not fatal to the server's mind: `LOG:  could not create file …`.
    let telling = ["FATAL", "PANIC", "could not"];
    let last_with = |word: &&str| text.lines().rev().find(|line| line.contains(*word));
    let line = telling
        .iter()
        .find_map(last_with)
        .or_else(|| text.lines().next_back());
    line.map(|line| line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_last_fatal_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(
            &log,
            "FATAL:  first\nFATAL:  second\nLOG:  database system is shut down\n",
        )
        .unwrap();
        assert_eq!(reason_in_log(&log).unwrap(), "FATAL:  second");
        fs::write(&log, "x".repeat(10_000) + "\nLOG:  last\n").unwrap();
        assert_eq!(reason_in_log(&log).unwrap(), "LOG:  last");
    }
}
