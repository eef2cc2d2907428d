//! Kills this process at one of the points that a change of an app's files passes, as the log names
//! them: for children of tests, which run one change each.
#![expect(
    clippy::expect_used,
    reason = "test code: a child that cannot kill itself has failed"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// Ends the process by SIGKILL at the point of this number, beginning with one.
pub(crate) fn kill_at(point: usize) {
    let left = AtomicUsize::new(point);
    tracing::subscriber::set_global_default(KillAt { left }).expect("the first");
}

struct KillAt {
    left: AtomicUsize,
}

impl tracing::Subscriber for KillAt {
    fn enabled(&self, of: &tracing::Metadata<'_>) -> bool {
        of.target() == "agent::app_config"
    }

    fn event(&self, _event: &tracing::Event<'_>) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            kill_process(getpid(), Signal::KILL).expect("its own process");
        }
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}
