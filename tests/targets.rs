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

mod support;

#[path = "targets/change.rs"]
mod change;
#[path = "targets/commands.rs"]
mod commands;
#[path = "targets/ended.rs"]
mod ended;
#[path = "targets/hanging.rs"]
mod hanging;
#[path = "targets/haproxy.rs"]
mod haproxy;
#[path = "targets/killed.rs"]
mod killed;
#[path = "targets/nginx.rs"]
mod nginx;
#[path = "targets/pgbouncer.rs"]
mod pgbouncer;
