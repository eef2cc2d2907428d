//! Word from the agent's previous life: by when it would have had to fence.
//!
//! An agent that is stopped in order (an upgrade, say) releases nothing and fences nothing, and
//! the node goes on under the running grant. The next life must not let it go on longer than the
//! previous one would have: it reads the deadline from here. The file need not survive a power
//! cut (so it is not flushed): after a reboot the boot id differs, and a node that runs without a
//! lease is given no more time than one round of asking.
//!
//! The same file is the lease's word for the gate (S10, `runtime::gate`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decision::state::Inherited;
use crate::effects::clock::boot_id;
use crate::model::{Epoch, Moment};
use crate::runtime::lease_keeper::Held;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    /// `/proc/sys/kernel/random/boot_id`: moments compare within one boot only.
    boot: String,
    /// The deadline on `CLOCK_BOOTTIME`, in nanoseconds.
    fence_at_nanos: u64,
    /// The epoch that it belongs to.
    #[serde(default)]
    epoch: Epoch,
    /// False once the lease was lost or released.
    #[serde(default)]
    held: bool,
}

/// Two writers of this process must not meet in the fresh file.
static WRITING: Mutex<()> = Mutex::new(());

/// The lease's word, as it stands in the state directory now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseWord {
    /// There is none.
    Nothing,
    /// It is of another boot of this host.
    OtherBoot {
        /// The epoch that was held.
        epoch: Epoch,
    },
    /// The lease was held until a moment of this boot.
    Until {
        /// The epoch.
        epoch: Epoch,
        /// The deadline.
        fence_at: Moment,
        /// False once it was lost or released.
        held: bool,
    },
}

/// Reads the lease's word.
///
/// # Errors
/// When there is a file that cannot be read or understood.
pub fn word(state_dir: &Path) -> io::Result<LeaseWord> {
    let bytes = match fs::read(path(state_dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LeaseWord::Nothing),
        Err(error) => return Err(error),
    };
    let word: Word = serde_json::from_slice(&bytes)?;
    let epoch = word.epoch;
    if word.boot != boot_id()? {
        return Ok(LeaseWord::OtherBoot { epoch });
    }
    Ok(LeaseWord::Until {
        epoch,
        fence_at: Moment::from_boot(Duration::from_nanos(word.fence_at_nanos)),
        held: word.held,
    })
}

/// The epoch of the lease's word, when there is one that can be read.
#[must_use]
pub fn epoch(state_dir: &Path) -> Option<Epoch> {
    match word(state_dir) {
        Ok(LeaseWord::OtherBoot { epoch } | LeaseWord::Until { epoch, .. }) => Some(epoch),
        Ok(LeaseWord::Nothing) | Err(_) => None,
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("fence-deadline.json")
}

/// Leaves the deadline for the next life: what is `newest` once its turn has come. Called at each
/// renewal.
///
/// # Errors
/// When the file cannot be written; the next life then assumes the least.
pub fn leave(state_dir: &Path, newest: impl FnOnce() -> Held) -> io::Result<()> {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let held = newest();
    let (epoch, fence_at) = held.unwrap_or_default();
    let nanos = u64::try_from(fence_at.since_boot().as_nanos()).unwrap_or(u64::MAX);
    let word = Word {
        boot: boot_id()?,
        fence_at_nanos: nanos,
        epoch,
        held: held.is_some(),
    };
    let fresh = state_dir.join("fence-deadline.new");
    fs::write(&fresh, serde_json::to_vec(&word)?)?;
    fs::rename(fresh, path(state_dir))
}

/// What the previous life left. `was_member`: this cluster has had a lease before.
#[must_use]
pub fn read(state_dir: &Path, was_member: bool) -> Inherited {
    match word(state_dir) {
        Ok(LeaseWord::Until { fence_at, .. }) => Inherited::FenceAt(fence_at),
        Ok(LeaseWord::Nothing) if !was_member => Inherited::NeverActive,
        // Whoever has left a deadline was active, even if its vote is lost or the file is torn.
        Ok(LeaseWord::Nothing | LeaseWord::OtherBoot { .. }) | Err(_) => Inherited::NoDeadline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_whoever_left_a_torn_deadline_was_active() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), false), Inherited::NeverActive);
        fs::write(path(dir.path()), b"{\"boot\"").unwrap();
        assert_eq!(read(dir.path(), false), Inherited::NoDeadline);
    }

    #[test]
    fn a_deadline_of_this_boot_is_inherited() {
        let dir = tempfile::tempdir().unwrap();
        let at = Moment::from_boot(Duration::from_millis(123_456));
        leave(dir.path(), || Some((Epoch(3), at))).unwrap();
        assert_eq!(read(dir.path(), true), Inherited::FenceAt(at));
        assert_eq!(
            read(dir.path(), false),
            Inherited::FenceAt(at),
            "the vote was lost"
        );
    }

    #[test]
    fn s10_a_deadline_of_another_boot_gives_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let word = Word {
            boot: "another".to_owned(),
            fence_at_nanos: u64::MAX,
            epoch: Epoch(3),
            held: true,
        };
        fs::write(path(dir.path()), serde_json::to_vec(&word).unwrap()).unwrap();
        assert_eq!(read(dir.path(), true), Inherited::NoDeadline);
        let said = super::word(dir.path()).unwrap();
        assert_eq!(said, LeaseWord::OtherBoot { epoch: Epoch(3) });
    }

    #[test]
    fn s10_word_of_a_lost_lease_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(word(dir.path()).unwrap(), LeaseWord::Nothing);
        leave(dir.path(), || None).unwrap();
        let said = word(dir.path()).unwrap();
        assert!(matches!(said, LeaseWord::Until { held: false, .. }));
        // What an older version left says nothing of a lease that is held.
        let old = format!(r#"{{"boot":"{}","fence_at_nanos":9}}"#, boot_id().unwrap());
        fs::write(path(dir.path()), old).unwrap();
        let said = word(dir.path()).unwrap();
        assert!(matches!(said, LeaseWord::Until { held: false, .. }));
    }

    #[test]
    fn first_life_inherits_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), false), Inherited::NeverActive);
        assert_eq!(read(dir.path(), true), Inherited::NoDeadline);
    }
}
