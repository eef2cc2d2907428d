//! What agent and guard say to each other: lines of JSON on a unix socket in the state directory.
//!
//! The guard speaks first: its [`Greeting`] says which protocol it speaks. Greeting and
//! [`Request::Stop`] keep their form for ever, so that an agent of any version can replace a guard
//! of any other: it starts its own, hands the deadline over, and stops the old one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Epoch, Moment};

/// The protocol of this version. A guard that speaks another is replaced.
pub const PROTOCOL: u32 = 1;

/// No line is longer.
pub const LINE_MAX: usize = 4096;

/// What the guard says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`PROTOCOL`] of the guard.
    pub protocol: u32,
    /// The guard's process.
    pub pid: u32,
    /// The program's version, for people.
    pub version: String,
    /// What it was started with: one that was started with something else is replaced.
    pub settings: String,
}

/// What the agent asks; each is answered by one [`Answer`] of the same number, but for `Stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The lease of this epoch is held until this moment.
    Push {
        /// Matches the answer.
        number: u64,
        /// What is held, and until when.
        term: Term,
        /// Whether the node may be taking writes.
        armed: bool,
    },
    /// The node takes no writes: nothing is to be fenced until the next push.
    Disarm {
        /// Matches the answer.
        number: u64,
    },
    /// How are you?
    Look {
        /// Matches the answer.
        number: u64,
    },
    /// Another guard has taken over: end.
    Stop,
}

/// A lease and when the fence must begin unless it is renewed, on `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The epoch that is held.
    pub epoch: Epoch,
    /// When the fence begins.
    pub fence_at: Moment,
}

/// What the guard did with a request, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's.
    pub number: u64,
    /// What it did.
    pub verdict: Verdict,
    /// How it is afterwards.
    pub state: GuardState,
}

/// What the guard did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It counts from now on.
    Taken,
    /// The deadline had passed already when it came.
    Late,
    /// A fence is under way: ask again.
    Fencing,
    /// A higher epoch is known.
    Stale,
}

/// How the guard is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardState {
    /// What it counts.
    pub term: Option<Term>,
    /// Whether it would fence at the deadline.
    pub armed: bool,
    /// How many fences it has ended; each leaves word in [`word_path`].
    pub fences: u64,
    /// Its memory cannot be swapped out.
    pub resident: bool,
    /// The watchdog device.
    pub watchdog: WatchdogSeen,
}

/// The watchdog device, as the guard has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchdogSeen {
    /// Not configured.
    Off,
    /// It can be used, and is not needed now.
    Ready,
    /// It resets this host unless the guard feeds it.
    Running,
    /// It cannot be used.
    Unusable {
        /// Why not.
        why: String,
    },
}

/// The guard's socket.
#[must_use]
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("guard.sock")
}

/// The lock of the one guard.
#[must_use]
pub fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join("guard.lock")
}

/// Word of the last fence, for the agent to journal.
#[must_use]
pub fn word_path(state_dir: &Path) -> PathBuf {
    state_dir.join("guard-fenced.json")
}

/// A value as one line.
///
/// # Errors
/// Never for the types here.
pub fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Word of a fence at the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceWord {
    /// The epoch that ran out.
    pub epoch: Epoch,
    /// When it ended, on the wall clock.
    pub at: crate::model::Timestamp,
    /// From the deadline to the proof.
    pub after_deadline: std::time::Duration,
    /// How long the fence itself took.
    pub took: std::time::Duration,
    /// How many processes were killed by SIGKILL.
    pub killed: usize,
    /// What is wrong with `standby.signal`.
    pub problem: Option<String>,
}
