//! What systemd would receive, on a real notification socket.
//!
//! The environment of a running process cannot be changed safely, so the sender is this very
//! program, started again with systemd's variables.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "test code: a failure is the answer"
)]

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use failover_agent::effects::systemd::Systemd;

/// Says everything once. Run by itself it shows that outside systemd nothing is needed.
#[test]
fn everything_can_be_said_without_systemd() {
    let systemd = Systemd::detect();
    let under_systemd = std::env::var("NOTIFY_SOCKET").is_ok();
    let expected = under_systemd.then(|| Duration::from_millis(1500));
    assert_eq!(systemd.watchdog_interval(), expected);
    systemd.ready("standby, lease\nheld by paris");
    systemd.alive();
    systemd.status("active");
    systemd.stopping("told to stop");
}

fn run(with_socket: &std::path::Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "systemd::everything_can_be_said_without_systemd"])
        .env("NOTIFY_SOCKET", with_socket)
        .env("WATCHDOG_USEC", "3000000")
        .env_remove("WATCHDOG_PID")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    text
}

#[test]
fn systemd_receives_every_state_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    run(&path);
    let mut buffer = [0; 1024];
    let received: Vec<String> = (0..4)
        .map(|_| {
            let length = socket.recv(&mut buffer).unwrap();
            let message = buffer.get(..length).unwrap();
            String::from_utf8(message.to_vec()).unwrap()
        })
        .collect();
    assert_eq!(
        received,
        [
            "READY=1\nSTATUS=standby, lease held by paris\n",
            "WATCHDOG=1\n",
            "STATUS=active\n",
            "STOPPING=1\nSTATUS=told to stop\n",
        ]
    );
}

#[test]
fn systemd_that_is_gone_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(&dir.path().join("nobody"));
}
