//! A writer that is killed at any moment leaves the old file or the new one.
#![expect(
    clippy::disallowed_methods,
    reason = "the test runs itself as a child process in order to kill it"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use failover_agent::effects::app_config::apply;
use failover_agent::model::Epoch;

use crate::{BEFORE, World, both, moved_to};

const KILLED_CHILD: &str = "AGENT_TEST_APP_CONFIG_DIR";

/// Runs itself as a child that moves the file back and forth, and kills that child at different
/// moments: the file must always be one of the two, whole.
#[test]
fn killed_at_any_moment_the_file_is_old_or_new() {
    if let Ok(dir) = std::env::var(KILLED_CHILD) {
        move_back_and_forth(Path::new(&dir));
        return;
    }
    let world = World::new(BEFORE);
    let padding = "X=0123456789\n".repeat(2_000);
    fs::write(&world.target.path, format!("{BEFORE}{padding}")).unwrap();
    for round in 0..25_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::killed_at_any_moment_the_file_is_old_or_new",
            ])
            .env(KILLED_CHILD, world.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = world.dir.path().join("begun");
        for attempt in 0.. {
            if begun.exists() {
                break;
            }
            let ended = child.try_wait().unwrap().is_some();
            assert!(!ended && attempt < 20_000, "the child did not begin");
            // bounded: 20,000 attempts, some 20 seconds.
            std::thread::sleep(Duration::from_millis(1));
        }
        // bounded: not waiting for anything, only killing at another moment each time.
        std::thread::sleep(Duration::from_micros(round * 2_500));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&begun).unwrap();
        let text = world.text();
        let whole = ["db1", "db2"].map(|host| format!("{}{padding}", moved_to(host)));
        assert!(
            whole.contains(&text),
            "round {round}: {} bytes, neither the old nor the new file",
            text.len()
        );
    }
}

fn move_back_and_forth(dir: &Path) {
    let world = World::new(BEFORE);
    let mut target = world.target.clone();
    target.path = dir.join("app.env");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let move_to = async |host: &str| {
        apply(&target, &both(host), Epoch(1), &dir.join("state"))
            .await
            .unwrap();
    };
    runtime.block_on(async {
        move_to("db2").await;
        fs::write(dir.join("begun"), b"").unwrap();
        loop {
            for host in ["db1", "db2"] {
                move_to(host).await;
            }
        }
    });
}
