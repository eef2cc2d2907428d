//! The guards of a test's agents: processes of their own that outlive agents, and must not outlive
//! tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every living guard of a state directory.
pub fn of(state_dir: &Path) -> Vec<u32> {
    let wanted = state_dir.to_string_lossy();
    let entries = fs::read_dir("/proc").expect("/proc can be listed");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = text.split('\0');
        words.nth(1) == Some("guard") && words.any(|word| word == wanted)
    })
    .collect()
}

/// Sends a signal to every guard of a state directory.
pub fn signal(state_dir: &Path, name: &str) {
    let pids = of(state_dir).into_iter().map(|pid| pid.to_string());
    let pids: Vec<_> = pids.collect();
    if !pids.is_empty() {
        drop(
            Command::new("kill")
                .args(["-s", name])
                .args(pids)
                .stderr(Stdio::null())
                .status(),
        );
    }
}

/// Kills every guard of a state directory.
pub fn kill(state_dir: &Path) {
    signal(state_dir, "KILL");
}
