//! What the guard says, on a thread of its own: a journal or a disk that hangs must not hold up a
//! fence.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::protocol::{FenceWord, word_path};
use crate::effects::clock::wall;
use crate::effects::whole_file::write_private;

/// Lines that wait at most; what finds no room is not said.
const LINES_MAX: usize = 64;

/// The log file is begun anew beyond this.
const FILE_MAX: u64 = 256 * 1024;

enum Said {
    Line(String),
    Fenced(Box<FenceWord>),
}

/// Where the guard's threads leave what they have to say.
#[derive(Debug, Clone)]
pub(super) struct Log {
    lines: SyncSender<Said>,
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Said")
    }
}

impl Log {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there are no threads left.
    pub(super) fn start(state_dir: &Path) -> io::Result<Self> {
        let (lines, said) = sync_channel(LINES_MAX);
        let dir = state_dir.to_path_buf();
        std::thread::Builder::new()
            .name("guard-log".to_owned())
            .spawn(move || write(&dir, &said))?;
        Ok(Self { lines })
    }

    /// Says a line. Never waits.
    pub(super) fn say(&self, line: impl Into<String>) {
        // Full: whoever reads has hung for long, and the newest line is not the most telling.
        self.lines.try_send(Said::Line(line.into())).ok();
    }

    /// Leaves word of a fence for the agent. Never waits.
    pub(super) fn fenced(&self, word: FenceWord) {
        self.lines.try_send(Said::Fenced(Box::new(word))).ok();
    }
}

fn write(state_dir: &Path, said: &Receiver<Said>) {
    let file = state_dir.join("guard.log");
    while let Ok(said) = said.recv() {
        let text = match said {
            Said::Line(text) => text,
            Said::Fenced(word) => {
                let bytes = serde_json::to_vec(&word).unwrap_or_default();
                match write_private(&word_path(state_dir), &bytes) {
                    Ok(()) => continue,
                    Err(error) => format!("cannot leave word of the fence: {error}"),
                }
            }
        };
        // Standard error is the journal under systemd; it may be gone with the agent.
        writeln!(io::stderr(), "guard: {text}").ok();
        append(&file, &text).ok();
    }
}

fn append(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() > FILE_MAX {
        file.set_len(0)?;
    }
    writeln!(file, "{} [{}] {text}", wall(), std::process::id())
}
