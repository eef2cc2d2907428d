//! A playground that is left running: nobody breaks it but the one who watches.

use std::time::Duration;

use super::Report;
use super::error::DemoError;
use super::measure;
use super::narration::Narration;
use super::playground::Playground;
use super::voice::{Verb, Voice};
use super::writer::Writer;
use crate::effects::clock::wall;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The playground stays up; somebody else breaks it.
pub(super) async fn play(
    playground: &Playground,
    voice: &Voice,
    writer: &Writer,
) -> Result<Option<Report>, DemoError> {
    let narration = Narration::start(&playground.sites, voice.clone());
    poking(playground, voice);
    let mut at = writer.last();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = playground.all_run() {
            narration.end().await;
            return Err(error);
        }
        let (Some(last), Some(now)) = (at, writer.last()) else {
            continue;
        };
        if last.node != now.node {
            let name = playground.sites.get(now.node).map_or("", |site| site.name);
            let gap = measure::unavailable(&writer.acks(), last.at).unwrap_or_default();
            let text = format!(
                "the client commits here now, after {} ms without a commit",
                gap.as_millis()
            );
            narration.tell(wall(), name, Verb::Writes, &text);
        }
        at = Some(now);
    }
}

/// How to break it.
fn poking(playground: &Playground, voice: &Voice) {
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.display();
    let [old, new] = &playground.sites;
    voice.line("\nThe playground is yours until Ctrl-C. Try, in another terminal:");
    for (what, command) in [
        (
            "look",
            format!("{program} status --config {}", old.settings_file.display()),
        ),
        (
            "read the journal",
            format!(
                "{program} journal --config {} -f",
                new.settings_file.display()
            ),
        ),
        (
            "move the primary by hand",
            format!(
                "{program} failover --config {}",
                old.settings_file.display()
            ),
        ),
        (
            "kill the primary",
            format!(
                "kill -9 $(head -1 {}/postmaster.pid)",
                old.node.data_dir.display()
            ),
        ),
        (
            "see an app's file",
            format!("cat {}", new.env_file.display()),
        ),
    ] {
        voice.line(&format!("  # {what}\n  {command}"));
    }
    voice.line("");
}
