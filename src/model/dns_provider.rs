//! Whether a record could be moved now, as far as its provider and its credentials go.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A record's provider, as it was last tended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsProviderStatus {
    /// The record's name in `agent.toml`.
    pub name: String,
    /// The provider's kind.
    pub provider: String,
    /// When it last took the credentials.
    pub verified_at: Option<Timestamp>,
    /// Until when they are good; `None`: they have no end, or none that the provider tells.
    pub expires_at: Option<Timestamp>,
    /// Why the record could not be moved now.
    pub trouble: Option<DnsTrouble>,
}

/// Why a record could not be moved now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsTrouble {
    /// In words, with what to do.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// True when trying again does not help: a person must.
    pub refused: bool,
}

impl DnsProviderStatus {
    /// One line for people, without the name.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = self.provider.clone();
        match (&self.trouble, self.verified_at) {
            (Some(trouble), _) => {
                let how = match trouble.refused {
                    true => "CANNOT BE USED",
                    false => "no use right now",
                };
                words.push_str(&format!(", {how} since {}: {}", trouble.since, trouble.why));
            }
            (None, None) => words.push_str(", not asked yet"),
            (None, Some(_)) => {}
        }
        if let Some(at) = self.verified_at {
            words.push_str(&format!(", verified at {at}"));
        }
        if let Some(at) = self.expires_at {
            words.push_str(&format!(", good until {at}"));
        }
        words
    }
}
