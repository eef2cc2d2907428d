//! The guards of the demo's agents: processes of their own that outlive agents on purpose, and must
//! not outlive the demo.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Kills every guard that serves this state directory. Its agent must be gone, or it starts
/// another.
pub(super) fn kill(state_dir: &Path) {
    let wanted = state_dir.to_string_lossy();
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split('\0');
        let guards = words.nth(1) == Some("guard") && words.any(|word| word == wanted);
        if let Some(pid) = Pid::from_raw(pid).filter(|_| guards) {
            // One that is gone meanwhile is what was wanted.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}
