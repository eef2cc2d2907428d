//! The agent's end: keeps one guard at work, and has it know what the agent knows.
//!
//! Fed by the keeper's `held` and the loop's `armed`. What the guard has confirmed is published:
//! nothing that may start writes begins before its lease is among that. A later deadline that the
//! guard has not taken yet is only an earlier fence. Start reading at [`GuardLink::run`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::connection::{self, Connection, SILENCE_MAX, Wanted, find, silent};
use super::protocol::{GuardState, Term, Verdict, WatchdogSeen};
use super::told::Told;
use super::{start, word};
use crate::config::settings::WatchdogMode;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::Moment;
use crate::model::event::Event;
use crate::runtime::fence_time::FenceTime;
use crate::runtime::inherited::{self, LeaseWord};
use crate::runtime::lease_keeper::Held;

/// How often the guard is asked how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two attempts to start a guard, and two to push into a fence that is under way.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The agent's end of the guard.
#[derive(Debug)]
pub struct GuardLink {
    /// The program to start as guard.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where it is found.
    pub state_dir: PathBuf,
    /// How much the watchdog device is needed.
    pub watchdog: WatchdogMode,
    /// What the keeper holds.
    pub held: watch::Receiver<Held>,
    /// Whether the own node may be taking writes.
    pub armed: watch::Receiver<bool>,
    /// News for the decision loop.
    pub events: mpsc::Sender<Event>,
    /// Where its fences are counted.
    pub fence_time: FenceTime,
    /// The lease for which the guard has confirmed that it is armed.
    pub confirmed: watch::Sender<Option<Term>>,
    /// How the guard is.
    pub seen: watch::Sender<GuardSeen>,
}

/// The guard, as the agent has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardSeen {
    /// Being found or started for the first time.
    Starting,
    /// There is none.
    Gone,
    /// It answers.
    AtWork(GuardState),
}

impl GuardSeen {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let state = match self {
            Self::Starting => return "being started".to_owned(),
            Self::Gone => return "none: only the agent itself would fence".to_owned(),
            Self::AtWork(state) => state,
        };
        let armed = if state.armed { "armed" } else { "not armed" };
        let resident = match state.resident {
            true => "",
            false => ", not locked into memory",
        };
        let watchdog = match &state.watchdog {
            WatchdogSeen::Off => "no watchdog".to_owned(),
            WatchdogSeen::Ready => "watchdog ready".to_owned(),
            WatchdogSeen::Running => "watchdog running".to_owned(),
            WatchdogSeen::Unusable { why } => format!("NO WATCHDOG: {why}"),
        };
        format!("at work, {armed}{resident}, {watchdog}")
    }
}

/// Why a connection is over.
enum Over {
    Stopped,
    Lost(String),
    /// It may be frozen, with a deadline that is about to pass: should it thaw then, it would fence
    /// a healthy node. So it is not asked once more.
    Silent(Connection),
}

impl GuardLink {
    /// Keeps a guard at work until stopped. Stopping leaves it alone: it goes on until the deadline
    /// that it knows, or until the next life of this agent finds it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told = Told::default();
        let mut lost_since: Option<Moment> = None;
        let mut frozen = None;
        loop {
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                connected = self.connect(&mut frozen) => connected,
            };
            let mut pause = RETRY_EVERY;
            let why = match connected {
                Ok(connection) => {
                    lost_since = None;
                    match self.serve(connection, &mut told, &stop).await {
                        Over::Stopped => return,
                        Over::Lost(why) => why,
                        Over::Silent(connection) => {
                            frozen = Some(connection);
                            pause = Duration::ZERO;
                            silent().to_string()
                        }
                    }
                }
                Err(error) => {
                    let since = *lost_since.get_or_insert_with(boottime);
                    // The first start has had its time, and so has the second one of another.
                    if boottime().since(since) + RETRY_EVERY >= SILENCE_MAX || told.never() {
                        told.gone(format!("cannot start it: {error}"));
                    }
                    error.to_string()
                }
            };
            lost_since.get_or_insert_with(boottime);
            self.confirmed.send_replace(None);
            self.seen.send_replace(GuardSeen::Gone);
            told.tell(&self.events);
            tracing::warn!(reason = %why, "no guard; starting one");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Finds the guard that is at work, or starts one. One that does not answer, or speaks or means
    /// something else, is stopped once the new one has its deadline; so is one that is known to be
    /// `frozen`, without being asked again.
    async fn connect(&self, frozen: &mut Option<Connection>) -> Result<Connection, EffectError> {
        let ours = start::settings(&self.args);
        let found = match frozen {
            Some(_) => None,
            None => match find(&self.state_dir).await {
                Some(connection) if connection.fits(&ours) => return Ok(connection),
                other => other,
            },
        };
        let mut new = connection::start(&self.program, &self.args).await?;
        let hangs = frozen.is_some();
        let Some(old) = frozen.take().or(found) else {
            return Ok(new);
        };
        // No gap: until the old one is gone both know a deadline that holds. A new life does not
        // hold the lease yet: the deadline that the last one left counts.
        match self.hand_deadline(&mut new).await {
            Ok(true) if hangs => old.kill(),
            // One that is in the middle of a fence ends it first, if it still can.
            Ok(_) => old.stop().await,
            Err(error) => {
                new.kill();
                *frozen = Some(old);
                return Err(error);
            }
        }
        Ok(new)
    }

    /// Tells a new guard what its predecessor knows; true if it has a deadline that lies ahead.
    async fn hand_deadline(&self, new: &mut Connection) -> Result<bool, EffectError> {
        let Some(wanted) = self.wanted().or_else(|| self.left_behind()) else {
            return Ok(false);
        };
        let answer = tokio::time::timeout(SILENCE_MAX, new.ask(0, wanted)).await;
        let answer = answer.unwrap_or_else(|_| Err(silent()))?;
        Ok(matches!(wanted, Wanted::Push(..)) && answer.verdict == Verdict::Taken)
    }

    /// The deadline of the life before this one, as long as it lies ahead.
    fn left_behind(&self) -> Option<Wanted> {
        match inherited::word(&self.state_dir) {
            Ok(LeaseWord::Until {
                epoch,
                fence_at,
                held: true,
            }) if fence_at > boottime() => Some(Wanted::Push(Term { epoch, fence_at }, true)),
            Ok(_) | Err(_) => None,
        }
    }

    /// What the guard should know now. A lease that is not held any more needs no word: its
    /// deadline stands until the node is known to take no writes.
    fn wanted(&self) -> Option<Wanted> {
        let armed = *self.armed.borrow();
        match *self.held.borrow() {
            Some((epoch, fence_at)) => Some(Wanted::Push(Term { epoch, fence_at }, armed)),
            None if armed => None,
            None => Some(Wanted::Disarm),
        }
    }

    async fn serve(
        &mut self,
        mut connection: Connection,
        told: &mut Told,
        stop: &CancellationToken,
    ) -> Over {
        let (mut number, mut known, mut look_at) = (0, None, boottime());
        let mut unfit = 0_u32;
        let mut words = word::Words::new(&self.state_dir, &self.fence_time);
        loop {
            let wanted = self.wanted().filter(|wanted| known != Some(*wanted));
            if wanted.is_some() || boottime() >= look_at {
                // Of what it is about to be told, it may know before it has said so.
                let earlier = match wanted {
                    Some(Wanted::Push(term, true)) => term.fence_at != Moment::NEVER,
                    Some(Wanted::Push(_, false) | Wanted::Disarm) => false,
                    None => true,
                };
                if !earlier {
                    self.confirmed.send_replace(None);
                }
                number += 1;
                let asked = async {
                    match wanted {
                        Some(wanted) => connection.ask(number, wanted).await,
                        None => connection.look(number).await,
                    }
                };
                let answer = tokio::select! {
                    () = stop.cancelled() => return Over::Stopped,
                    answer = tokio::time::timeout(SILENCE_MAX, asked) => answer,
                };
                let answer = match answer {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(error)) => return Over::Lost(error.to_string()),
                    Err(_) => return Over::Silent(connection),
                };
                look_at = boottime() + LOOK_EVERY;
                match (wanted, answer.verdict) {
                    (Some(_), Verdict::Fencing) => look_at = boottime() + RETRY_EVERY,
                    (Some(wanted), Verdict::Taken) => {
                        known = Some(wanted);
                        if let Wanted::Push(term, true) = wanted {
                            self.confirmed.send_replace(Some(term));
                        }
                    }
                    (Some(wanted), Verdict::Late | Verdict::Stale) => {
                        known = Some(wanted);
                        self.confirmed.send_replace(None);
                    }
                    (None, _) => {}
                }
                unfit = match self.unfit(&answer.state) {
                    Some(_) => unfit.saturating_add(1),
                    None => 0,
                };
                // Its predecessor may still be letting go of the device.
                if unfit != 1 || told.never() {
                    told.answered(self.unfit(&answer.state));
                }
                words.look(answer.state.fences, &self.events).await;
                self.seen.send_replace(GuardSeen::AtWork(answer.state));
            }
            told.tell(&self.events);
            tokio::select! {
                () = stop.cancelled() => return Over::Stopped,
                changed = self.held.changed() => if changed.is_err() { return Over::Stopped },
                changed = self.armed.changed() => if changed.is_err() { return Over::Stopped },
                over = connection.over() => return Over::Lost(over),
                () = tokio::time::sleep(boottime().until(look_at)) => {
                    // What a fence under way has refused is offered again.
                }
            }
        }
    }

    /// Why this guard is not fit for an active site.
    fn unfit(&self, state: &GuardState) -> Option<String> {
        match (&state.watchdog, self.watchdog) {
            (WatchdogSeen::Unusable { why }, WatchdogMode::Required) => {
                Some(format!("watchdog = \"required\", but {why}"))
            }
            (_, WatchdogMode::Off | WatchdogMode::Automatic | WatchdogMode::Required) => None,
        }
    }
}
