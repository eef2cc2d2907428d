//! What the agents and the witness tell each other of themselves, several times a ttl.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::diagnosis::Diagnosis;
use super::observation::{DatabaseSeen, Target};
use super::plan::{PlanKind, StepKind};
use super::{Epoch, Member, SiteName, Timestamp};

/// One member's report of itself and of what it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Who reports.
    pub from: Member,
    /// The reporter's program version.
    pub version: String,
    /// The reporter's wall clock, shown when it is far off; nothing is decided by it (S2).
    pub clock: Timestamp,
    /// The highest epoch it knows.
    pub epoch: Epoch,
    /// True when it holds the lease and means to use it.
    pub active: bool,
    /// What it last saw of its own node; `None` for the witness or before the first probe.
    pub own_database: Option<DatabaseSeen>,
    /// What it last saw of the other sites' nodes.
    pub sees: Vec<Sighting>,
    /// Its diagnosis, most severe first.
    pub diagnoses: Vec<Diagnosis>,
    /// True when its site's apps are so broken that it must not become active.
    pub site_tripped: bool,
    /// True when it only observes: it never acts, and never fences.
    #[serde(default)]
    pub observes: bool,
    /// What it is doing right now.
    pub doing: Option<Progress>,
}

/// What one member last saw of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The node's site.
    pub site: SiteName,
    /// Through which connection.
    pub target: Target,
    /// What it saw.
    pub seen: DatabaseSeen,
    /// How long ago, when it was reported; `None` from members that do not say.
    #[serde(default)]
    pub age: Option<Duration>,
}

/// A running or just finished plan, for the people who watch from the other site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The plan's id.
    pub plan: super::PlanId,
    /// What it is for.
    pub kind: PlanKind,
    /// Each step as `--dry-run` prints it, with its state.
    pub steps: Vec<StepProgress>,
    /// How it ended, in words, once it did.
    pub ended: Option<String>,
    /// The epoch it runs under.
    pub epoch: Epoch,
    /// Why it was made, in words.
    pub cause: String,
    /// When it was begun.
    pub begun: Timestamp,
    /// Everything that decides who is primary is done; what is left converges.
    pub sequence_done: bool,
}

/// One step of a running plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// The step in words.
    pub step: String,
    /// Its kind.
    pub kind: StepKind,
    /// Where it stands.
    pub state: StepState,
    /// Milliseconds since it was first begun, up to its end; with the pauses between attempts.
    pub took_ms: u64,
    /// How often it (or its undo) was begun.
    #[serde(default)]
    pub attempt: u32,
    /// Milliseconds until the next attempt; only where one is to follow.
    #[serde(default)]
    pub retry_in_ms: Option<u64>,
    /// What it learned, or why it failed.
    pub note: String,
    /// When it first began, for people; `None` while it waits.
    pub started: Option<Timestamp>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// Being applied.
    Running,
    /// Applied and verified.
    Done,
    /// Failed, and will be tried again.
    Retrying,
    /// Failed for good.
    Failed,
    /// Undone.
    Undone,
}
