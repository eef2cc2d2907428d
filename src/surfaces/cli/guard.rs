//! `agent guard`: the process that the agent starts beside itself. Not for people.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure};
use crate::runtime::guard::process::{self, GuardOptions};
use crate::runtime::guard::start;
use crate::runtime::guard::watchdog::{SYSFS, WatchdogOptions};

/// Fence the own node when the lease runs out. Started by the agent.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The agent's state directory.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Bound on a fence, in milliseconds.
    #[arg(long, value_name = "MS")]
    fence_budget_ms: u64,
    /// The watchdog device to use.
    #[arg(long, value_name = "DEVICE")]
    watchdog: Option<PathBuf>,
    /// Where the kernel describes watchdog devices.
    #[arg(long, value_name = "DIR", default_value = SYSFS)]
    watchdog_sysfs: PathBuf,
    /// The longest timeout of the device that fits the lease, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    watchdog_timeout_max_ms: u64,
}

/// Runs without an async runtime, and says nothing on standard output.
pub(super) fn run(arguments: &Arguments, settings: &[std::ffi::OsString]) -> Result<Exit, Failure> {
    let watchdog = arguments.watchdog.clone().map(|device| WatchdogOptions {
        device,
        sysfs: arguments.watchdog_sysfs.clone(),
        timeout_max: Duration::from_millis(arguments.watchdog_timeout_max_ms),
    });
    let options = GuardOptions {
        data_dir: arguments.data_dir.clone(),
        state_dir: arguments.state_dir.clone(),
        fence_budget: Duration::from_millis(arguments.fence_budget_ms),
        watchdog,
        settings: start::settings(settings),
    };
    match process::run(&options) {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            anyhow::Error::new(error).context("the guard cannot work"),
        )),
    }
}
