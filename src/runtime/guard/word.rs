//! Word of fences that the guard ended, taken to the journal: also of those without an agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use super::protocol::{FenceWord, word_path};
use crate::model::event::Event;
use crate::runtime::fence_time::FenceTime;

/// A disk that hangs must not hold up the pushes.
const DISK_WAIT: Duration = Duration::from_millis(100);

/// After a fence the file follows when the guard's log gets to it: so many looks wait for it.
const LOOKS: u32 = 3;

/// Looks for word.
#[derive(Debug)]
pub(super) struct Words {
    path: PathBuf,
    fence_time: FenceTime,
    fences: Option<u64>,
    looks: u32,
}

impl Words {
    pub(super) fn new(state_dir: &Path, fence_time: &FenceTime) -> Self {
        Self {
            fence_time: fence_time.clone(),
            path: word_path(state_dir),
            fences: None,
            looks: 0,
        }
    }

    /// Looks if there may be word; tells it, and takes it away once it was told.
    pub(super) async fn look(&mut self, fences: u64, events: &mpsc::Sender<Event>) {
        if self.fences.replace(fences) != Some(fences) {
            self.looks = LOOKS;
        }
        let Some(left) = self.looks.checked_sub(1) else {
            return;
        };
        self.looks = left;
        let (path, events) = (self.path.clone(), events.clone());
        let fence_time = self.fence_time.clone();
        let work = tokio::task::spawn_blocking(move || {
            let bytes = fs::read(&path).ok()?;
            let word: FenceWord = serde_json::from_slice(&bytes).ok()?;
            let event = Event::GuardFenced {
                epoch: word.epoch,
                at: word.at,
                took: word.took,
            };
            events.try_send(event).ok()?;
            fence_time.measured(word.took);
            fs::remove_file(&path).ok()
        });
        tokio::time::timeout(DISK_WAIT, work).await.ok();
    }
}
