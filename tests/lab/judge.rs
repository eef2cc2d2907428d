//! What the oracle saw → what it means. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover_agent::model::Moment;

use super::oracle::Commit;
use super::wires::Host;

/// From the first to the last acknowledgement of a node on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub node: Host,
    pub timeline: u32,
    pub first: Moment,
    pub last: Moment,
    pub count: usize,
}

/// The spans, in the order of their first commit.
pub fn spans(commits: &[Commit]) -> Vec<Span> {
    let mut spans: BTreeMap<(Host, u32), Span> = BTreeMap::new();
    for commit in commits {
        let span = spans.entry((commit.node, commit.timeline)).or_insert(Span {
            node: commit.node,
            timeline: commit.timeline,
            first: commit.at,
            last: commit.at,
            count: 0,
        });
        span.first = span.first.min(commit.at);
        span.last = span.last.max(commit.at);
        span.count += 1;
    }
    let mut spans: Vec<_> = spans.into_values().collect();
    spans.sort_by_key(|span| span.first);
    spans
}

/// The longest time in which two nodes acknowledged commits.
///
/// Each term of a node has its own timeline, so a node that is primary again is another span.
pub fn overlap(commits: &[Commit]) -> Duration {
    let spans = spans(commits);
    let mut longest = Duration::ZERO;
    for (index, one) in spans.iter().enumerate() {
        for other in spans.iter().skip(index + 1) {
            if one.node != other.node {
                let (first, last) = (one.first.max(other.first), one.last.min(other.last));
                longest = longest.max(last.since(first));
            }
        }
    }
    longest
}

/// Timelines on which both nodes acknowledged commits: whenever that was, they have diverged.
pub fn shared_timelines(commits: &[Commit]) -> BTreeSet<u32> {
    let spans = spans(commits);
    let shared = spans.iter().filter(|one| {
        let same = |other: &&Span| other.timeline == one.timeline && other.node != one.node;
        spans.iter().any(|other| same(&other))
    });
    shared.map(|span| span.timeline).collect()
}

/// The longest time without an acknowledgement that ended after the fault.
pub fn gap(commits: &[Commit], fault: Moment, end: Moment) -> Duration {
    let mut moments: Vec<_> = commits.iter().map(|commit| commit.at).collect();
    moments.push(end);
    moments.sort();
    let pairs = moments.iter().zip(moments.iter().skip(1));
    let pauses = pairs.filter(|(_, later)| **later > fault);
    let longest = pauses.map(|(earlier, later)| later.since(*earlier)).max();
    longest.unwrap_or_default()
}

/// Replication is asynchronous: what was acknowledged in the last instant of a node that was killed
/// may not have left it, and nothing fetches it from its disk (yet). Older commits were sent.
pub const TAIL: Duration = Duration::from_millis(100);

/// What of it was acknowledged before the last instant of its node.
pub fn older_than_tail(lost: &[Commit], commits: &[Commit]) -> usize {
    let last = |node| {
        let of_node = commits.iter().filter(|commit| commit.node == node);
        of_node.map(|commit| commit.at).max().unwrap_or_default()
    };
    let old = |commit: &&Commit| last(commit.node).since(commit.at) > TAIL;
    lost.iter().filter(old).count()
}

/// Acknowledged commits that the final primary does not have.
pub fn lost(commits: &[Commit], there: &BTreeSet<i64>) -> Vec<Commit> {
    let missing = commits.iter().filter(|commit| !there.contains(&commit.row));
    missing.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(millis))
    }

    fn commit(node: Host, timeline: u32, millis: u64) -> Commit {
        Commit {
            node,
            timeline,
            row: i64::try_from(millis).unwrap(),
            begun: at(millis - 1),
            at: at(millis),
        }
    }

    #[test]
    fn two_nodes_one_after_the_other_do_not_overlap() {
        let commits = [
            commit(Host::Fra, 1, 10),
            commit(Host::Fra, 1, 90),
            commit(Host::Ams, 2, 100),
            commit(Host::Ams, 2, 200),
            commit(Host::Fra, 3, 300),
        ];
        assert_eq!(overlap(&commits), Duration::ZERO);
        assert!(shared_timelines(&commits).is_empty());
    }

    #[test]
    fn a_late_commit_of_the_old_node_is_an_overlap() {
        let commits = [
            commit(Host::Fra, 1, 10),
            commit(Host::Ams, 2, 100),
            commit(Host::Ams, 2, 200),
            commit(Host::Fra, 1, 130),
        ];
        assert_eq!(overlap(&commits), Duration::from_millis(30));
    }

    #[test]
    fn two_nodes_on_one_timeline_are_found_without_an_overlap() {
        let commits = [commit(Host::Fra, 1, 10), commit(Host::Ams, 1, 100)];
        assert_eq!(overlap(&commits), Duration::ZERO);
        assert_eq!(shared_timelines(&commits), BTreeSet::from([1]));
    }

    #[test]
    fn the_gap_is_the_longest_that_ends_after_the_fault() {
        let commits = [
            commit(Host::Fra, 1, 10),
            commit(Host::Fra, 1, 900),
            commit(Host::Fra, 1, 990),
            commit(Host::Ams, 2, 1300),
        ];
        assert_eq!(
            gap(&commits, at(1000), at(1310)),
            Duration::from_millis(310)
        );
        assert_eq!(
            gap(&commits[..3], at(1000), at(4990)),
            Duration::from_secs(4)
        );
    }

    #[test]
    fn what_is_lost_before_the_last_instant_of_a_node_counts() {
        let commits = [
            commit(Host::Fra, 1, 10),
            commit(Host::Fra, 1, 950),
            commit(Host::Fra, 1, 1000),
            commit(Host::Ams, 2, 2000),
        ];
        assert_eq!(older_than_tail(&commits[1..3], &commits), 0);
        assert_eq!(older_than_tail(&commits[0..3], &commits), 1);
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost() {
        let commits = [commit(Host::Fra, 1, 10), commit(Host::Fra, 1, 20)];
        assert_eq!(lost(&commits, &BTreeSet::from([10])), [commits[1]]);
        assert_eq!(lost(&commits, &BTreeSet::from([10, 20])), []);
    }
}
