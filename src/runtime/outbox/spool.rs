//! The outbox's spool: undelivered alerts on disk, one JSON line each, replaced as a whole.
//!
//! Best effort by design: a full disk must not stop deliveries, only the memory of them.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::queue::Entry;
use crate::effects::whole_file;

/// More than a full queue of alerts of the greatest size.
const SPOOL_BYTES_MAX: u64 = 32 << 20;

#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    /// So that a full disk is told once and not after every change.
    broken: AtomicBool,
}

impl Spool {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("outbox").join("spool.jsonl"),
            broken: AtomicBool::new(false),
        }
    }

    /// What an earlier run left; lines that cannot be read are left out.
    pub(super) fn load(&self) -> Vec<Entry> {
        let mut text = String::new();
        let read = File::open(&self.path)
            .and_then(|file| file.take(SPOOL_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "undelivered alerts of the last run cannot be read");
                return Vec::new();
            }
        }
        let lines = text.lines().count();
        let entries: Vec<Entry> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if entries.len() < lines {
            let lost = lines - entries.len();
            tracing::warn!(lost, "undelivered alerts of the last run were damaged");
        }
        entries
    }

    /// Replaces the spool, off the async threads.
    pub(super) async fn write(&self, entries: Vec<Entry>) {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &entries)).await;
        match written {
            Ok(Ok(())) => self.broken.store(false, Ordering::Relaxed),
            Ok(Err(error)) => {
                if !self.broken.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "alerts cannot be kept on disk; a restart loses them");
                }
            }
            // The runtime is going down.
            Err(_) => {}
        }
    }
}

fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(whole_file::directory_of(path))?;
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    whole_file::write_private(path, &text)
}
