//! The own postmaster, watched through its pidfd: its death is news at once, not at the next probe.
//!
//! Reads of the disk happen aside, with a bound: the disk may be what is broken.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use super::outlet::Outlet;
use crate::effects::clock::boottime;
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::effects::postgres::process::{Instance, PidFile, Process};
use crate::effects::postgres::watch::PostmasterWatch;
use crate::model::Moment;
use crate::model::observation::{Observation, ProcessSeen, Seen, Target};

/// How often a living postmaster is looked at for being stopped, and a dead one for being back.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often what is seen is told again although it did not change, so that it does not go stale.
const REPEAT_EVERY: Duration = Duration::from_secs(1);

/// How often, while no postmaster is seen by its pid file, all processes are searched for one.
const SEARCH_EVERY: Duration = Duration::from_secs(2);

/// After this a read of the data directory counts as hanging.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// How long the news of a death waits for a look at the data directory, which may explain it. A
/// disk that answers needs a few microseconds.
const EXPLAIN_MAX: Duration = Duration::from_millis(20);

/// Watches the own postmaster for ever and tells the decision loop about it.
#[derive(Debug)]
pub struct ProcessProbe {
    instance: Instance,
    outlet: Outlet,
    /// For what its death makes worth a look at once, see [`ProcessProbe::explain`].
    directory: Outlet,
    /// Looks at the own database that a death or a new postmaster makes urgent.
    urgent: Vec<Arc<Notify>>,
    told: Option<(ProcessSeen, Moment)>,
}

impl ProcessProbe {
    /// Prepares to watch `instance`; each of `urgent` is notified when its postmaster dies or
    /// appears. How its directory was at a death goes to `directory`, before the death itself.
    #[must_use]
    pub fn new(
        instance: Instance,
        outlet: Outlet,
        directory: Outlet,
        urgent: Vec<Arc<Notify>>,
    ) -> Self {
        Self {
            instance,
            outlet,
            directory,
            urgent,
            told: None,
        }
    }

    /// Watches until dropped.
    pub async fn run(mut self) {
        loop {
            match self.find().await {
                Ok(Some(watch)) => {
                    self.tell(ProcessSeen::Running { pid: watch.pid() });
                    self.hurry();
                    self.follow(&watch).await;
                }
                Ok(None) => {
                    self.tell(ProcessSeen::Gone);
                    self.until_back().await;
                }
                Err(error) => {
                    self.tell(ProcessSeen::Unknown { why: error.what });
                    tokio::time::sleep(REPEAT_EVERY).await;
                }
            }
        }
    }

    async fn find(&mut self) -> Result<Option<PostmasterWatch>, EffectError> {
        let instance = self.instance.clone();
        self.aside(move || PostmasterWatch::open(&instance))
            .await
            .unwrap_or_else(|| Err(EffectError::retryable("the watch was stopped")))
    }

    /// Comes back when the postmaster is dead.
    async fn follow(&mut self, watch: &PostmasterWatch) {
        let pid = watch.pid();
        loop {
            match before(boottime() + LOOK_EVERY, watch.died()).await {
                None => {
                    let state = Process::read(pid);
                    let seen = match state {
                        Some(process) if process.is_stopped() => ProcessSeen::Stopped { pid },
                        // Dead this very moment: the next round sees it through the pidfd.
                        Some(_) | None => ProcessSeen::Running { pid },
                    };
                    self.tell(seen);
                }
                Some(Ok(())) => {
                    self.explain().await;
                    self.tell(ProcessSeen::Gone);
                    self.hurry();
                    return;
                }
                Some(Err(error)) => {
                    self.tell(ProcessSeen::Unknown { why: error.what });
                    tokio::time::sleep(LOOK_EVERY).await;
                    return;
                }
            }
        }
    }

    /// A server whose disk has failed says so and dies. Who acts on the death is to know why, and
    /// does so at once: so this is looked at first.
    async fn explain(&self) {
        let (began, instance) = (boottime(), self.instance.clone());
        let looking = spawn_blocking(move || instance.look_at_directory());
        if let Some(Ok(seen)) = before(began + EXPLAIN_MAX, looking).await {
            let at = boottime();
            self.directory.put(Observation {
                target: Target::OwnDirectory,
                at,
                took: at.since(began),
                seen: Seen::Directory(seen),
            });
        }
    }

    /// Comes back when there may be a postmaster again. Its pid file is cheap to look at; walking
    /// through all processes finds also one that lost its pid file.
    async fn until_back(&mut self) {
        let search_at = boottime() + SEARCH_EVERY;
        while boottime() < search_at {
            tokio::time::sleep(LOOK_EVERY).await;
            let data_dir = self.instance.data_dir().to_path_buf();
            let named = self
                .aside(move || PidFile::read(&data_dir).ok().flatten())
                .await
                .flatten();
            if named.is_some_and(|file| Process::read(file.pid).is_some()) {
                return;
            }
            self.tell(ProcessSeen::Gone);
        }
    }

    /// Runs `read` where it may block; says so when it hangs, and goes on waiting for it, so that
    /// hanging reads do not pile up. `None` when the runtime is going down.
    async fn aside<T: Send + 'static>(
        &mut self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let mut reading: JoinHandle<T> = spawn_blocking(read);
        loop {
            if let Some(result) = before(boottime() + DISK_PATIENCE, &mut reading).await {
                return result.ok();
            }
            // A death that was seen is not made uncertain by a disk that hangs.
            let seen = match &self.told {
                Some((ProcessSeen::Gone, _)) => ProcessSeen::Gone,
                Some(_) | None => ProcessSeen::Unknown {
                    why: format!("reading {} hangs", self.instance.data_dir().display()),
                },
            };
            self.tell(seen);
        }
    }

    fn hurry(&self) {
        for look in &self.urgent {
            look.notify_one();
        }
    }

    /// Tells what is new, and what is not new once in a while.
    fn tell(&mut self, seen: ProcessSeen) {
        let now = boottime();
        let told_lately = self
            .told
            .as_ref()
            .is_some_and(|(last, at)| *last == seen && now.since(*at) < REPEAT_EVERY);
        if told_lately {
            return;
        }
        self.outlet.put(Observation {
            target: Target::OwnProcess,
            at: now,
            took: Duration::ZERO,
            seen: Seen::Process(seen.clone()),
        });
        self.told = Some((seen, now));
    }
}
