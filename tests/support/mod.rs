//! What integration tests share: real servers, and waiting for a condition with a deadline.
//!
//! Every test program takes what it needs, so each of them leaves some of this unused.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test program uses another part of the support code"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "test support runs servers itself, and fails the test when it cannot"
)]

use std::time::{Duration, Instant};

pub mod agent_process;
pub mod agent_role;
pub mod cluster;
pub mod database;
pub mod disk;
pub mod endpoint;
pub mod etcd;
pub mod guards;
pub mod log;
pub mod members;
pub mod permit;
pub mod ports;
pub mod postgres;
pub mod processes;
pub mod programs;
pub mod relay;
pub mod timeline;
pub mod writer;

/// Between two looks of [`wait_until`].
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` holds; fails the test, naming `what`, after `within`.
pub async fn wait_until<F>(what: &str, within: Duration, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + within;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {within:?} for: {what}");
        // bounded: the assertion above fails after `within`
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// As [`wait_until`], for tests without an async runtime.
pub fn wait_until_blocking(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {within:?} for: {what}");
        // bounded: the assertion above fails after `within`
        std::thread::sleep(LOOK_EVERY);
    }
}
