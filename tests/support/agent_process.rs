//! An agent as a process of its own, to be frozen and killed.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait_until;

/// Bound on an end in order.
const STOP_MAX: Duration = Duration::from_secs(20);

/// `agent run`.
#[derive(Debug)]
pub struct AgentProcess {
    child: Child,
}

impl AgentProcess {
    /// Starts the agent of a site; what it logs is appended to `log`.
    pub fn run(settings: &Path, site: &str, log: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log);
        let child = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["run", "--site", site, "--config"])
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn();
        Self {
            child: child.expect("the agent can be started"),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill can be run").success());
    }

    /// Stops it in order, as systemd would, and waits for its end.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        wait_until("the agent ends", STOP_MAX, || {
            let ended = self.child.try_wait().expect("it can be waited for");
            async move { ended.is_some() }
        })
        .await;
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
