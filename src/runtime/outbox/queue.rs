//! The outbox's queue: what waits for whom, in which order, and what is given up. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::alert::Alert;

/// Alerts that wait at most. More than this in one incident is noise.
pub const QUEUE_MAX: usize = 256;
/// Older alerts mislead: the incident is over or somebody has looked.
pub const EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// What became of alerts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxCounts {
    /// Waiting now, for one receiver at least.
    pub queued: usize,
    /// Deliveries that were accepted.
    pub delivered: u64,
    /// Alerts given up because the queue was full.
    pub dropped: u64,
    /// Alerts given up because of their age.
    pub expired: u64,
    /// Deliveries given up because the receiver refused them.
    pub refused: u64,
}

/// An alert and who has not got it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) alert: Alert,
    /// Notifier → attempts so far.
    pub(super) waiting: BTreeMap<String, u32>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In order of arrival.
    entries: VecDeque<Entry>,
    counts: OutboxCounts,
}

impl Queue {
    /// Takes an alert in. In a full queue the oldest of the least urgent makes room, which may be
    /// the new one itself.
    pub(super) fn push(&mut self, entry: Entry) {
        let known = self.entries.iter().any(|other| other.key == entry.key);
        if known || entry.waiting.is_empty() {
            return;
        }
        self.entries.push_back(entry);
        if self.entries.len() <= QUEUE_MAX {
            return;
        }
        self.counts.dropped += 1;
        // The first of equals is the oldest.
        let least = self.entries.iter().enumerate();
        if let Some((index, _)) = least.min_by_key(|(_, entry)| entry.alert.level) {
            self.entries.remove(index);
        }
    }

    /// What to deliver next to this notifier: the least tried, among those the most urgent, among
    /// those the oldest. So one alert that a receiver chokes on does not hold up the others.
    pub(super) fn next_for(&mut self, notifier: &str, now: Timestamp) -> Option<(String, Alert)> {
        self.expire(now);
        self.entries
            .iter()
            .filter_map(|entry| Some((entry.waiting.get(notifier)?, entry)))
            .min_by_key(|(attempts, entry)| (**attempts, std::cmp::Reverse(entry.alert.level)))
            .map(|(_, entry)| (entry.key.clone(), entry.alert.clone()))
    }

    pub(super) fn delivered(&mut self, key: &str, notifier: &str) {
        if self.done(key, notifier) {
            self.counts.delivered += 1;
        }
    }

    pub(super) fn refused(&mut self, key: &str, notifier: &str) {
        if self.done(key, notifier) {
            self.counts.refused += 1;
        }
    }

    pub(super) fn failed(&mut self, key: &str, notifier: &str) {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key);
        if let Some(attempts) = entry.and_then(|entry| entry.waiting.get_mut(notifier)) {
            *attempts = attempts.saturating_add(1);
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn counts(&self) -> OutboxCounts {
        OutboxCounts {
            queued: self.entries.len(),
            ..self.counts
        }
    }

    fn done(&mut self, key: &str, notifier: &str) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key);
        // It may have been dropped while it was on its way.
        let Some(entry) = entry else { return true };
        let was_waiting = entry.waiting.remove(notifier).is_some();
        self.entries.retain(|entry| !entry.waiting.is_empty());
        was_waiting
    }

    fn expire(&mut self, now: Timestamp) {
        let age_max = i64::try_from(EXPIRY.as_millis()).unwrap_or(i64::MAX);
        let before = self.entries.len();
        self.entries
            .retain(|entry| now.0.saturating_sub(entry.alert.at.0) < age_max);
        self.counts.expired += (before - self.entries.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterName;
    use crate::model::alert::AlertLevel;

    fn entry(n: usize, level: AlertLevel) -> Entry {
        Entry {
            key: format!("k{n}"),
            alert: Alert {
                cluster: ClusterName::new("shop"),
                site: None,
                event: format!("e{n}"),
                level,
                summary: String::new(),
                details: Vec::new(),
                epoch: None,
                plan: None,
                at: Timestamp(1000),
            },
            waiting: BTreeMap::from([("chat".to_owned(), 0), ("pager".to_owned(), 0)]),
        }
    }

    fn next(queue: &mut Queue, notifier: &str) -> Option<String> {
        queue
            .next_for(notifier, Timestamp(2000))
            .map(|(key, _)| key)
    }

    #[test]
    fn full_queue_drops_the_oldest_of_the_least_urgent() {
        let mut queue = Queue::default();
        queue.push(entry(0, AlertLevel::Warn));
        queue.push(entry(1, AlertLevel::Info));
        for n in 2..=QUEUE_MAX {
            queue.push(entry(n, AlertLevel::Warn));
        }
        assert!(!queue.entries().any(|entry| entry.key == "k1"));
        queue.push(entry(900, AlertLevel::Page));
        assert!(!queue.entries().any(|entry| entry.key == "k0"));
        queue.push(entry(901, AlertLevel::Info));
        assert!(!queue.entries().any(|entry| entry.key == "k901"));
        let counts = queue.counts();
        assert_eq!((counts.queued, counts.dropped), (QUEUE_MAX, 3));
    }

    #[test]
    fn urgent_ones_go_first_and_failed_ones_to_the_end() {
        let mut queue = Queue::default();
        for (n, level) in [
            (1, AlertLevel::Info),
            (2, AlertLevel::Page),
            (3, AlertLevel::Page),
        ] {
            queue.push(entry(n, level));
        }
        assert_eq!(next(&mut queue, "chat").as_deref(), Some("k2"));
        queue.failed("k2", "chat");
        assert_eq!(next(&mut queue, "chat").as_deref(), Some("k3"));
        queue.delivered("k3", "chat");
        assert_eq!(next(&mut queue, "chat").as_deref(), Some("k1"));
        assert_eq!(next(&mut queue, "pager").as_deref(), Some("k2"));
    }

    #[test]
    fn alert_leaves_when_every_receiver_is_done() {
        let mut queue = Queue::default();
        queue.push(entry(1, AlertLevel::Warn));
        queue.push(entry(1, AlertLevel::Warn));
        queue.delivered("k1", "chat");
        assert_eq!(queue.counts().queued, 1);
        queue.refused("k1", "pager");
        let counts = queue.counts();
        assert_eq!((counts.queued, counts.delivered, counts.refused), (0, 1, 1));
        assert_eq!(next(&mut queue, "chat"), None);
    }

    #[test]
    fn old_alerts_expire() {
        let mut queue = Queue::default();
        queue.push(entry(1, AlertLevel::Page));
        let day = 24 * 3600 * 1000;
        assert!(queue.next_for("chat", Timestamp(999 + day)).is_some());
        assert!(queue.next_for("chat", Timestamp(1000 + day)).is_none());
        assert_eq!(queue.counts().expired, 1);
    }
}
