//! Ports for servers that are stopped and started again during a test.
//!
//! Such a port must stay the server's own while nobody listens on it. So it is taken from below
//! the range from which the kernel numbers outgoing connections (`ip_local_port_range`, ip(7)): a
//! client that keeps trying a dead server there ends up connected to itself, and the server cannot
//! come back. And it is kept from other tests by a lock that ends with this process.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below them are the well-known ports and those of services that the host may run.
const LOWEST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// Steps through the range without meeting a number twice, and far from the one before.
const STRIDE: u16 = 7_919;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A port on which nothing listens, and which no other test takes while this process lives.
pub fn free_port() -> u16 {
    let first = u32::from(LOWEST) + std::process::id() % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed)) * u32::from(STRIDE);
        let offset = (first - u32::from(LOWEST) + step) % u32::from(COUNT);
        let port = LOWEST + u16::try_from(offset).expect("less than COUNT");
        if reserve(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("every port from {LOWEST} on is taken");
}

/// Whether the port is this process's own now.
#[expect(
    clippy::mem_forget,
    reason = "the lock lasts as long as the process, which no owner of it does"
)]
fn reserve(port: u16) -> bool {
    let path = directory().join(port.to_string());
    let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let locked = file.try_lock().is_ok();
    if locked {
        std::mem::forget(file);
    }
    locked
}

fn directory() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("agent-test-ports-{user}"));
    fs::create_dir_all(&path).expect("a directory for the ports' locks can be made");
    path
}
