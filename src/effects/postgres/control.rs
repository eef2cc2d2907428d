//! Starts, stops, fences and looks at the own node, in the way its site has configured.
//!
//! Owns: the three ways of [`Control`]. Must not: decide whether any of it is allowed now; the
//! caller holds the lease and has journalled the step (S8, S11).
//! Start reading at [`NodeControl`].

use std::path::Path;
use std::time::Duration;

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::control_file::{LastState, last_state, system_id};
use super::fence::{FenceReport, fence_off_thread, is_fenced, stop_cleanly};
use super::process::Instance;
use super::start::{LocalServer, Starter, off_thread};
use crate::config::settings::{Control, ControlCommands, Node};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::{CommandSpec, Finished, run};
use crate::effects::permit::Permit;
use crate::model::observation::ProcessSeen;
use crate::model::{Epoch, Moment, SiteName, SystemId};

/// Bound on one look at a local node, which hangs only with a broken disk.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a fence waits for systemd to take note that the unit shall stay down.
const SYSTEMD_NOTE_MAX: Duration = Duration::from_millis(300);

/// Between two runs of a command that asks whether something has come true.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Bound on one connection attempt while a node starts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The exit code of a status command that says "not running". Source: LSB, init script actions.
const NOT_RUNNING: i32 = 3;

/// Whether a node runs, as far as its control can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeProcess {
    /// Its postmaster lives (it may hang or be stopped by a signal).
    Running,
    /// Nothing of it runs.
    Stopped,
    /// It cannot be known, or is neither: e.g. backends without a postmaster.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// The control of this site's node.
#[derive(Debug, Clone)]
pub struct NodeControl {
    site: SiteName,
    node: Node,
    instance: Instance,
}

impl NodeControl {
    /// Controls this site's node. Looks at its data directory once, so that it can be fenced even
    /// when its disk is gone later.
    #[must_use]
    pub fn new(site: SiteName, node: Node) -> Self {
        let instance = Instance::new(node.data_dir.clone());
        if !matches!(node.control, Control::Commands(_)) {
            // It may not exist yet; every later call looks again.
            drop(instance.identify());
        }
        Self {
            site,
            node,
            instance,
        }
    }

    /// The same, with what a former life kept of the node's directory.
    #[must_use]
    pub fn remembering(mut self, state_dir: &Path) -> Self {
        if !matches!(self.node.control, Control::Commands(_)) {
            self.instance = Instance::remembered(self.node.data_dir.clone(), state_dir);
            drop(self.instance.identify());
        }
        self
    }

    /// The processes of the node, where they are on this host; `None` for one behind commands.
    #[must_use]
    pub fn instance(&self) -> Option<&Instance> {
        match &self.node.control {
            Control::Local | Control::Systemd { .. } => Some(&self.instance),
            Control::Commands(_) => None,
        }
    }

    /// Whether the node runs.
    pub async fn status(&self) -> NodeProcess {
        let seen = match &self.node.control {
            Control::Local | Control::Systemd { .. } => self.local_status().await,
            Control::Commands(commands) => {
                let spec = self.command(&commands.status, commands.timeout, Epoch::NONE);
                match spec {
                    Ok(spec) => run(&spec).await.map(|ended| status_of(&spec, &ended)),
                    Err(error) => Err(error),
                }
            }
        };
        seen.unwrap_or_else(|error| NodeProcess::Unknown { why: error.what })
    }

    async fn local_status(&self) -> Result<NodeProcess, EffectError> {
        let instance = self.instance.clone();
        off_thread(LOOK_TIMEOUT, move || {
            Ok(match instance.look() {
                ProcessSeen::Running { .. } | ProcessSeen::Stopped { .. } => NodeProcess::Running,
                ProcessSeen::Gone if is_fenced(&instance)? => NodeProcess::Stopped,
                ProcessSeen::Gone => NodeProcess::Unknown {
                    why: "backends are left without a postmaster".into(),
                },
                ProcessSeen::Unknown { why } => NodeProcess::Unknown { why },
            })
        })
        .await
    }

    /// Whether the node may be taking writes, by the processes and the control file on this host.
    /// What cannot be told counts as yes; a node behind commands is not looked at and counts as no,
    /// and so does one of another database cluster than `expected`, which is not ours to judge.
    pub async fn may_be_writing(&self, expected: Option<SystemId>) -> bool {
        let Some(instance) = self.instance().cloned() else {
            return false;
        };
        let look = off_thread(LOOK_TIMEOUT, move || {
            if is_fenced(&instance)? {
                return Ok(false);
            }
            // The control file of a copy at the path says nothing of a server that works elsewhere.
            instance.in_place()?;
            let found = system_id(instance.data_dir())?;
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                tracing::error!(%found, %expected, "the own node is of another cluster");
                return Ok(false);
            }
            Ok(last_state(instance.data_dir())? == LastState::Primary)
        });
        look.await.unwrap_or(true)
    }

    /// Starts the node as primary and waits until it accepts connections. For a local node this
    /// removes what would make it a standby; a start command has to see to that itself.
    ///
    /// # Errors
    ///
    /// Permanent if it cannot be started as configured or already runs as a standby, Retryable if
    /// the `permit` is over or it did not come up, `OutcomeUnknown` if it is not ready in time.
    pub async fn start_as_primary(
        &self,
        epoch: Epoch,
        permit: &dyn Permit,
        timeout: Duration,
    ) -> Result<(), EffectError> {
        let server = LocalServer {
            node: &self.node,
            instance: &self.instance,
        };
        match &self.node.control {
            Control::Local => {
                let starter = Starter::PgCtl;
                server.start_as_primary(starter, permit, timeout).await
            }
            Control::Systemd { unit } => {
                let starter = Starter::Unit(unit);
                server.start_as_primary(starter, permit, timeout).await
            }
            Control::Commands(commands) => {
                let deadline = boottime() + timeout;
                let spec = self.command(&commands.start, commands.timeout.min(timeout), epoch)?;
                permit.still_held()?;
                must_succeed(&spec).await?;
                self.wait_accepting(deadline).await
            }
        }
    }

    /// Starts the node as a standby and waits until it accepts connections. A start command starts
    /// whatever it finds, so the `permit` is asked as for a primary.
    ///
    /// # Errors
    ///
    /// As [`start_as_primary`](Self::start_as_primary).
    pub async fn start_as_standby(
        &self,
        epoch: Epoch,
        permit: &dyn Permit,
        timeout: Duration,
    ) -> Result<(), EffectError> {
        let server = LocalServer {
            node: &self.node,
            instance: &self.instance,
        };
        match &self.node.control {
            Control::Local => server.start_as_standby(Starter::PgCtl, timeout).await,
            Control::Systemd { unit } => {
                server.start_as_standby(Starter::Unit(unit), timeout).await
            }
            Control::Commands(_) => self.start_as_primary(epoch, permit, timeout).await,
        }
    }

    /// Stops the node cleanly. No fence: nothing proves what it did if this fails, and nothing
    /// keeps it from being started again.
    ///
    /// # Errors
    ///
    /// `OutcomeUnknown` if it is not down after `grace`; it goes on shutting down then.
    pub async fn stop(&self, epoch: Epoch, grace: Duration) -> Result<(), EffectError> {
        match &self.node.control {
            Control::Local => {}
            Control::Systemd { unit } => {
                must_succeed(&systemctl(grace).args(["stop", unit])).await?;
            }
            Control::Commands(commands) => {
                let spec = self.command(&commands.stop, commands.timeout.min(grace), epoch)?;
                must_succeed(&spec).await?;
                return match self.status().await {
                    NodeProcess::Stopped => Ok(()),
                    other @ (NodeProcess::Running | NodeProcess::Unknown { .. }) => {
                        Err(EffectError::unknown(format!(
                            "{spec} succeeded, but the status command says {other:?}"
                        )))
                    }
                };
            }
        }
        let instance = self.instance.clone();
        let stopped = off_thread(grace + LOOK_TIMEOUT, move || stop_cleanly(&instance, grace));
        if stopped.await? {
            return Ok(());
        }
        let data_dir = self.node.data_dir.display();
        Err(
            EffectError::unknown(format!("{data_dir} is still shutting down after {grace:?}"))
                .hint("fence it if it must be down now"),
        )
    }

    /// Makes sure that the node cannot commit (S3): cleanly within `grace` if that is not zero,
    /// then by force within `budget`.
    ///
    /// # Errors
    ///
    /// Permanent if it cannot be fenced as configured, `OutcomeUnknown` if it may still commit.
    pub async fn fence(
        &self,
        epoch: Epoch,
        grace: Duration,
        budget: Duration,
    ) -> Result<FenceReport, EffectError> {
        match &self.node.control {
            Control::Local => fence_off_thread(self.instance.clone(), grace, budget).await,
            Control::Systemd { unit } => self.fence_unit(unit, grace, budget).await,
            Control::Commands(commands) => {
                self.fence_by_commands(commands, epoch, grace, budget).await
            }
        }
    }

    /// systemd is told too, or `Restart=` would bring back what is being killed. It is not needed
    /// for the fence and must not delay it: a node that it starts meanwhile is a standby, and is
    /// killed as well.
    async fn fence_unit(
        &self,
        unit: &str,
        grace: Duration,
        budget: Duration,
    ) -> Result<FenceReport, EffectError> {
        let spec = systemctl(SYSTEMD_NOTE_MAX).args(["stop", "--no-block", unit]);
        let fence = fence_off_thread(self.instance.clone(), grace, budget);
        let (told, report) = tokio::join!(must_succeed(&spec), fence);
        let mut report = report?;
        if let Err(error) = told {
            let problem = format!("systemd may start it again: {}", error.what);
            report.problem = Some(match report.problem {
                Some(first) => format!("{first}; {problem}"),
                None => problem,
            });
        }
        Ok(report)
    }

    async fn fence_by_commands(
        &self,
        commands: &ControlCommands,
        epoch: Epoch,
        grace: Duration,
        budget: Duration,
    ) -> Result<FenceReport, EffectError> {
        let began = boottime();
        let (Some(fence), Some(_)) = (&commands.fence, &commands.fenced) else {
            return Err(no_fence(&self.site));
        };
        let clean = !grace.is_zero() && self.stop(epoch, grace).await.is_ok();
        let deadline = boottime() + budget;
        let spec = self.command(fence, commands.timeout.min(budget), epoch)?;
        // The proof counts, not what the command says of itself.
        let mut failure = must_succeed(&spec).await.err();
        loop {
            match self.is_fenced_before(epoch, deadline).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
            if boottime() >= deadline {
                let what = format!(
                    "site {} is not proved to be fenced within {budget:?}",
                    self.site
                );
                let error = EffectError::unknown(what)
                    .hint("look at what the fence and fenced commands say");
                return Err(match failure {
                    Some(cause) => error.caused_by(cause),
                    None => error,
                });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(FenceReport {
            took: boottime().since(began),
            was_running: true,
            forced: !clean,
            killed: 0,
            problem: failure.map(|error| error.what),
        })
    }

    /// Whether the node is proved unable to commit.
    ///
    /// # Errors
    ///
    /// Permanent if that cannot be proved as configured, `OutcomeUnknown` if the proof hangs.
    pub async fn is_fenced(&self, epoch: Epoch) -> Result<bool, EffectError> {
        self.is_fenced_before(epoch, boottime() + Duration::MAX)
            .await
    }

    async fn is_fenced_before(&self, epoch: Epoch, deadline: Moment) -> Result<bool, EffectError> {
        let Control::Commands(commands) = &self.node.control else {
            let instance = self.instance.clone();
            return off_thread(LOOK_TIMEOUT, move || is_fenced(&instance)).await;
        };
        let fenced = commands
            .fenced
            .as_ref()
            .ok_or_else(|| no_fence(&self.site))?;
        // The last look gets some time even when the budget is used up.
        let timeout = boottime()
            .until(deadline)
            .max(ASK_EVERY)
            .min(commands.timeout);
        Ok(run(&self.command(fenced, timeout, epoch)?).await?.success())
    }

    /// The command that promotes this node; `None`: promote it by SQL.
    ///
    /// # Errors
    ///
    /// Permanent if the configured command is empty.
    pub fn promote_command(&self, epoch: Epoch) -> Result<Option<CommandSpec>, EffectError> {
        let Control::Commands(commands) = &self.node.control else {
            return Ok(None);
        };
        let promote = commands.promote.as_ref();
        promote
            .map(|words| self.command(words, commands.timeout, epoch))
            .transpose()
    }

    /// Fills `{site}`, `{epoch}` and their like into a configured command.
    fn command(
        &self,
        words: &[String],
        timeout: Duration,
        epoch: Epoch,
    ) -> Result<CommandSpec, EffectError> {
        let fill = |word: &String| {
            word.replace("{host}", &self.node.host)
                .replace("{port}", &self.node.port.to_string())
                .replace("{data_dir}", &self.node.data_dir.to_string_lossy())
                .replace("{site}", self.site.as_str())
                .replace("{epoch}", &epoch.to_string())
        };
        let (program, args) = words.split_first().ok_or_else(|| {
            EffectError::permanent(format!("an empty control command for site {}", self.site))
                .hint("name a program and its arguments")
        })?;
        Ok(CommandSpec::new(fill(program), timeout).args(args.iter().map(fill)))
    }

    async fn wait_accepting(&self, deadline: Moment) -> Result<(), EffectError> {
        loop {
            let Err(why) = accepts_connections(&self.node).await else {
                return Ok(());
            };
            if boottime() >= deadline {
                let Node { host, port, .. } = &self.node;
                let what = format!("{host}:{port} accepts no connections in time: {why}");
                return Err(EffectError::unknown(what)
                    .hint("crash recovery may take longer: see the server's log"));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// Whether a server answers a login at all, like `pg_isready`; being refused is an answer, too.
async fn accepts_connections(node: &Node) -> Result<(), String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&node.host)
        .port(node.port)
        .user("agent")
        .dbname("postgres");
    let attempt = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls));
    let Ok(result) = attempt.await else {
        return Err(format!("no answer within {CONNECT_TIMEOUT:?}"));
    };
    let Err(error) = result else {
        return Ok(());
    };
    let not_yet = [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
    ];
    match error.code() {
        Some(code) if not_yet.contains(code) => Err(error.to_string()),
        Some(_) => Ok(()),
        // It asked for a password that nobody gave us; a network error has a cause.
        None if is_io_error(&error) => Err(error.to_string()),
        None => Ok(()),
    }
}

fn is_io_error(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
        || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}

fn systemctl(timeout: Duration) -> CommandSpec {
    CommandSpec::new("systemctl", timeout)
}

async fn must_succeed(spec: &CommandSpec) -> Result<(), EffectError> {
    let ended = run(spec).await?;
    if ended.success() {
        return Ok(());
    }
    Err(EffectError::retryable(format!(
        "{spec} failed: {}",
        ended.complaint()
    )))
}

fn status_of(spec: &CommandSpec, ended: &Finished) -> NodeProcess {
    match ended.status.code() {
        Some(0) => NodeProcess::Running,
        Some(NOT_RUNNING) => NodeProcess::Stopped,
        Some(_) | None => NodeProcess::Unknown {
            why: format!("{spec}: {}", ended.complaint()),
        },
    }
}

fn no_fence(site: &SiteName) -> EffectError {
    EffectError::permanent(format!("site {site} has no fence and fenced commands"))
        .hint("configure both, or move this site by hand")
}
