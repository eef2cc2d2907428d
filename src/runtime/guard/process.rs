//! The guard's life: makes itself hard to stop, then listens in one thread and watches in another.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::setsid;

use super::log::Log;
use super::resident;
use super::server::Server;
use super::watch::{Shared, Watcher};
use super::watchdog::WatchdogOptions;
use crate::effects::postgres::fence::is_fenced;
use crate::effects::postgres::process::Instance;

/// Its threads call nothing that needs more; all of it is locked into memory.
const STACK: usize = 512 * 1024;

/// What a guard is told at its start; no secret among it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardOptions {
    /// `PGDATA` of the node.
    pub data_dir: PathBuf,
    /// The agent's.
    pub state_dir: PathBuf,
    /// Bound on a fence.
    pub fence_budget: Duration,
    /// The watchdog device, if one is to be used.
    pub watchdog: Option<WatchdogOptions>,
    /// All of this as one text, to be compared.
    pub settings: String,
}

/// Runs the guard until it is replaced, or nothing is left to guard. The agent is at the other
/// end of standard input.
///
/// # Errors
/// What it needs cannot be had: then it guards nothing.
pub fn run(options: &GuardOptions) -> io::Result<()> {
    // Out of the agent's session and process group: what is sent to those must not end it. It
    // fails for the leader of a group, which has its own already.
    setsid().ok();
    std::env::set_current_dir("/")?;
    let residence = resident::settle();
    let log = Log::start(&options.state_dir)?;
    for problem in [&residence.locked, &residence.spared] {
        if let Err(problem) = problem {
            log.say(problem.clone());
        }
    }
    let instance = Instance::remembered(&options.data_dir, &options.state_dir);
    // Remembers the directory, and has every page that a look at `/proc` needs in memory.
    if let Err(error) = is_fenced(&instance) {
        log.say(format!("cannot look at the node yet: {error}"));
    }
    let watchdog = options.watchdog.clone();
    let shared = Shared::new(residence.locked.is_ok(), watchdog.is_some(), log.clone())?;
    let shared = Arc::new(shared);
    let budget = options.fence_budget;
    let watcher = Watcher::new(Arc::clone(&shared), instance, budget, watchdog)?;
    let watching = std::thread::Builder::new()
        .name("guard-watch".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let watch = std::panic::AssertUnwindSafe(|| watcher.run());
            // A guard that only listens would be worse than none, which the agent replaces.
            if std::panic::catch_unwind(watch).is_err() {
                std::process::abort();
            }
        })?;
    let first = agent_at_stdin();
    let settings = options.settings.clone();
    let mut server = Server::new(Arc::clone(&shared), &options.state_dir, settings, first)?;
    let why = server.run();
    shared
        .stopping
        .store(true, std::sync::atomic::Ordering::Release);
    shared.wake();
    // A fence that is called for comes first, and the watchdog is let go.
    watching.join().ok();
    log.say(format!("ends: {why}"));
    Ok(())
}

/// The connection on standard input; none when a person has started the guard.
fn agent_at_stdin() -> Option<UnixStream> {
    let stream = UnixStream::from(rustix::io::dup(rustix::stdio::stdin()).ok()?);
    stream.peer_addr().is_ok().then_some(stream)
}
