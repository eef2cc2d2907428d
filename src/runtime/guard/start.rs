//! The guard's place in the agent: with what it is started, and by whom it is fed.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::link::{GuardLink, GuardSeen};
use super::protocol::Term;
use crate::config::settings::{Config, Control, Node, Site, WatchdogMode};
use crate::decision::lease::LeaseRules;
use crate::model::event::Event;
use crate::runtime::fence_time::FenceTime;
use crate::runtime::lease_keeper::Held;
use crate::runtime::members::lease_rules;
use crate::runtime::tasks::spawn_named;

/// What the guard hears of.
#[derive(Debug)]
pub struct Feed {
    /// What the keeper holds.
    pub held: watch::Receiver<Held>,
    /// Whether the own node may be taking writes.
    pub armed: watch::Receiver<bool>,
    /// Where news of it go.
    pub events: mpsc::Sender<Event>,
    /// Where its fences are counted.
    pub fence_time: FenceTime,
    /// Where it is told for which lease the guard is armed.
    confirmed: watch::Sender<Option<Term>>,
    /// Where that is seen.
    pub seen: Confirmed,
}

/// The lease for which the guard has confirmed that it is armed; `None`: there is no guard.
pub type Confirmed = Option<watch::Receiver<Option<Term>>>;

impl Feed {
    /// A feed from these.
    #[must_use]
    pub fn new(
        site: &Site,
        held: &watch::Receiver<Held>,
        armed: &watch::Receiver<bool>,
        events: &mpsc::Sender<Event>,
        fence_time: &FenceTime,
    ) -> Self {
        let (confirmed, seen) = watch::channel(None);
        Self {
            fence_time: fence_time.clone(),
            held: held.clone(),
            armed: armed.clone(),
            events: events.clone(),
            confirmed,
            seen: has_guard(site).then_some(seen),
        }
    }
}

/// Whether the site's node has a guard: not one that is controlled by commands, whose fence is not
/// this host's.
fn has_guard(site: &Site) -> bool {
    match site.node.control {
        Control::Local | Control::Systemd { .. } => true,
        Control::Commands(_) => false,
    }
}

/// Keeps a guard at work (S4), and waits for the first one, or for why there is none: the loop
/// hears of that before anything else.
///
/// Returns how it is; `None` for a node that has none.
pub async fn start(
    config: &Config,
    site: &Site,
    program: &Path,
    feed: Feed,
    stop: &CancellationToken,
) -> Option<watch::Receiver<GuardSeen>> {
    if !has_guard(site) {
        return None;
    }
    let args = arguments(config, &site.node, &lease_rules(config));
    let (seen, mut shown) = watch::channel(GuardSeen::Starting);
    let link = GuardLink {
        program: program.to_path_buf(),
        args,
        state_dir: config.state_dir.clone(),
        watchdog: config.guard.watchdog,
        held: feed.held,
        armed: feed.armed,
        events: feed.events,
        fence_time: feed.fence_time,
        confirmed: feed.confirmed,
        seen,
    };
    spawn_named("guard link", link.run(stop.clone()));
    // It only ends without an answer when the agent is stopped meanwhile.
    drop(shown.wait_for(|seen| *seen != GuardSeen::Starting).await);
    Some(shown)
}

/// What the guard is started with.
#[must_use]
fn arguments(config: &Config, node: &Node, rules: &LeaseRules) -> Vec<OsString> {
    let millis = |span: Duration| span.as_millis().to_string();
    let mut args: Vec<OsString> = vec!["guard".into(), "--data-dir".into()];
    args.push(node.data_dir.clone().into());
    args.push("--state-dir".into());
    args.push(config.state_dir.clone().into());
    args.push("--fence-budget-ms".into());
    args.push(millis(rules.fence_budget).into());
    if config.guard.watchdog != WatchdogMode::Off {
        let span = rules.holder_span();
        let spare = rules.request_timeout + rules.renew_every;
        args.push("--watchdog".into());
        args.push(config.guard.watchdog_device.clone().into());
        args.push("--watchdog-timeout-max-ms".into());
        args.push(millis(span.saturating_sub(spare)).into());
    }
    args
}

/// The same as one text, by which agent and guard see whether they mean the same.
#[must_use]
pub fn settings(args: &[OsString]) -> String {
    let words: Vec<_> = args.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
