//! Ready-made targets against the real servers: nginx, HAProxy and PgBouncer of the test's own,
//! and strict stand-ins of `systemctl`, `docker` and `kubectl`: no test can have the real ones.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "support of tests may fail loudly"
)]

mod change;
mod commands;
mod ended;
mod hanging;
mod haproxy;
mod killed;
mod nginx;
mod pgbouncer;
