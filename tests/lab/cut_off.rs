//! A site that is cut off while its clients go on: the last commit there comes before the first
//! commit elsewhere, every time.

use std::time::Duration;

use failover_agent::effects::clock::boottime;

use super::faults::named;
use super::judge;
use super::lab::{Lab, SOON};
use super::oracle::{Commit, Oracle};
use super::place::Place;
use super::round::TTL;
use super::support::wait_until;
use super::wires::Host;

/// A session that commits as often as a millisecond allows.
const PACE: Duration = Duration::from_millis(1);
/// Commits on the new primary before the comparison.
const ENOUGH: usize = 50;

/// What one cut led to.
#[derive(Debug)]
pub struct Cut {
    /// From the cut to the last commit of the old primary.
    pub last_old: Duration,
    /// From the cut to the first commit of the new one.
    pub first_new: Duration,
    pub overlap: Duration,
    pub old_commits: usize,
}

/// Cuts fra off under load and waits until ams has taken over.
pub async fn once(lab: &Lab) -> Cut {
    let mut place = Place::start(lab, TTL, &[]).await;
    let oracle = Oracle::start(lab, PACE).await;
    let on = |node| of(&oracle.commits(), node).len();
    wait_until("fra commits", SOON, || async { on(Host::Fra) > 200 }).await;
    let cut = boottime();
    place.breaks(0, &named("cut-off", &[Host::Fra], Duration::ZERO));
    wait_until("ams commits", SOON, || async { on(Host::Ams) > ENOUGH }).await;
    // The cut is still there: whoever could write at fra would go on.
    let commits = oracle.commits();
    let (old, new) = (of(&commits, Host::Fra), of(&commits, Host::Ams));
    let last_old = old.iter().map(|commit| commit.at).max().expect("commits");
    let first_new = new.iter().map(|commit| commit.at).min().expect("commits");
    Cut {
        last_old: last_old.since(cut),
        first_new: first_new.since(cut),
        overlap: judge::overlap(&commits),
        old_commits: old.len(),
    }
}

fn of(commits: &[Commit], node: Host) -> Vec<Commit> {
    let of_node = commits.iter().filter(|commit| commit.node == node);
    of_node.copied().collect()
}
