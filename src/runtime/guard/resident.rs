//! Makes the guard hard to stop by a host in trouble: out of memory, swapping, full of processes.

use std::fs;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, geteuid, getrlimit};

/// What was reached; what was not is said in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Residence {
    pub(super) locked: Result<(), String>,
    pub(super) spared: Result<(), String>,
}

/// Keeps all memory of this process in memory, what it will allocate included, and asks the kernel
/// to kill others first.
pub(super) fn settle() -> Residence {
    Residence {
        locked: lock(),
        // Source: proc_pid_oom_score_adj(5): -1000 is never chosen. Needs CAP_SYS_RESOURCE.
        spared: fs::write("/proc/self/oom_score_adj", "-1000")
            .map_err(|error| format!("cannot lower the OOM score: {error}")),
    }
}

/// Source: mlockall(2). With a bound on locked memory, a later allocation would fail and end this
/// process: then the memory is better left as it is.
fn lock() -> Result<(), String> {
    if getrlimit(Resource::Memlock).current.is_some() && !geteuid().is_root() {
        return Err("memory not locked: LimitMEMLOCK=infinity is needed".to_owned());
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|error| format!("memory not locked: {error}"))
}
