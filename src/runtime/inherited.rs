//! Word from the agent's previous life: by when it would have had to fence.
//!
//! An agent that is stopped in order (an upgrade, say) releases nothing and fences nothing, and
//! the node goes on under the running grant. The next life must not let it go on longer than the
//! previous one would have: it reads the deadline from here. The file need not survive a power
//! cut (so it is not flushed): after a reboot the boot id differs, and a node that runs without a
//! lease is given no more time than one round of asking.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decision::state::Inherited;
use crate::model::Moment;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    /// `/proc/sys/kernel/random/boot_id`: moments compare within one boot only.
    boot: String,
    /// The deadline on `CLOCK_BOOTTIME`, in nanoseconds.
    fence_at_nanos: u64,
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("fence-deadline.json")
}

/// Source: proc_sys_kernel(5), `random/boot_id`.
fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Leaves the deadline for the next life. Called at each renewal.
///
/// # Errors
/// When the file cannot be written; the next life then assumes the least.
pub fn leave(state_dir: &Path, fence_at: Moment) -> io::Result<()> {
    let nanos = u64::try_from(fence_at.since_boot().as_nanos()).unwrap_or(u64::MAX);
    let word = Word {
        boot: boot_id()?,
        fence_at_nanos: nanos,
    };
    let fresh = state_dir.join("fence-deadline.new");
    fs::write(&fresh, serde_json::to_vec(&word)?)?;
    fs::rename(fresh, path(state_dir))
}

/// What the previous life left. `was_member`: this cluster has had a lease before.
#[must_use]
pub fn read(state_dir: &Path, was_member: bool) -> Inherited {
    let word = fs::read(path(state_dir))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Word>(&bytes).ok());
    match (word, boot_id()) {
        (Some(word), Ok(boot)) if word.boot == boot => {
            Inherited::FenceAt(Moment::from_boot(Duration::from_nanos(word.fence_at_nanos)))
        }
        // Whoever has left a deadline was active, even if its vote is lost.
        (Some(_), _) => Inherited::NoDeadline,
        (None, _) if was_member => Inherited::NoDeadline,
        (None, _) => Inherited::NeverActive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_this_boot_is_inherited() {
        let dir = tempfile::tempdir().unwrap();
        let at = Moment::from_boot(Duration::from_millis(123_456));
        leave(dir.path(), at).unwrap();
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
        };
        fs::write(path(dir.path()), serde_json::to_vec(&word).unwrap()).unwrap();
        assert_eq!(read(dir.path(), true), Inherited::NoDeadline);
    }

    #[test]
    fn first_life_inherits_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), false), Inherited::NeverActive);
        assert_eq!(read(dir.path(), true), Inherited::NoDeadline);
    }
}
