//! What people are told. Data only: whom and how is the business of notifiers.

use serde::{Deserialize, Serialize};

use super::{ClusterName, Epoch, PlanId, SiteName, Timestamp};

/// The longest text of a line in an alert, in characters.
pub const LINE_CHARS_MAX: usize = 400;
/// The most lines of details.
pub const DETAILS_MAX: usize = 20;

/// How urgent an alert is, the least urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertLevel {
    /// For the record.
    Info,
    /// Somebody should look in working hours.
    Warn,
    /// Wake somebody up.
    Page,
}

/// One message for people. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Who says it; `None`: the witness.
    pub site: Option<SiteName>,
    /// What happened, as a word for machines, e.g. `failover_done`.
    pub event: String,
    /// How urgent.
    #[serde(rename = "severity")]
    pub level: AlertLevel,
    /// One line.
    pub summary: String,
    /// More lines.
    pub details: Vec<String>,
    /// The epoch it is about.
    pub epoch: Option<Epoch>,
    /// The plan it is about.
    pub plan: Option<PlanId>,
    /// When it happened.
    pub at: Timestamp,
}

impl Alert {
    /// The alert with every text cut to its bound.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        shorten(&mut self.event);
        shorten(&mut self.summary);
        self.details.truncate(DETAILS_MAX);
        self.details.iter_mut().for_each(shorten);
        self
    }
}

fn shorten(line: &mut String) {
    if let Some((end, _)) = line.char_indices().nth(LINE_CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let alert = Alert {
            cluster: ClusterName::new("shop"),
            site: None,
            event: "e".to_owned(),
            level: AlertLevel::Page,
            summary: "ä".repeat(LINE_CHARS_MAX + 1),
            details: vec!["d".repeat(LINE_CHARS_MAX); DETAILS_MAX + 1],
            epoch: None,
            plan: None,
            at: Timestamp(0),
        };
        let short = alert.clone().shortened();
        assert_eq!(short.summary, "ä".repeat(LINE_CHARS_MAX) + "…");
        assert_eq!(short.details, alert.details[..DETAILS_MAX]);
        assert_eq!(short.clone().shortened().details, short.details);
    }

    #[test]
    fn levels_order_by_urgency() {
        assert!(AlertLevel::Info < AlertLevel::Warn && AlertLevel::Warn < AlertLevel::Page);
    }
}
