//! What the edge of a provider answers for a record that it proxies: its DNS answer does not change
//! when the record does, so only an answer through it shows which site it forwards to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SiteName;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "heard", rename_all = "snake_case")]
pub enum EdgeHeard {
    /// The wanted site answered through it.
    Wanted {
        /// Which.
        site: SiteName,
    },
    /// The other site answered: the edge does not have the change yet.
    OtherSite {
        /// Which.
        site: SiteName,
    },
    /// Neither site's marker came, or both did.
    Unmarked {
        /// In words.
        why: String,
    },
    /// The answer came out of somebody's memory, and says nothing of now.
    Remembered {
        /// By which header that shows.
        why: String,
    },
    /// The answer did not come through the edge: from here the name leads past it.
    PastEdge {
        /// Which header would have shown it.
        missing: String,
    },
    /// It answered with another status than 2xx.
    Status {
        /// Which.
        status: u16,
    },
    /// It did not answer.
    Silent {
        /// In words.
        why: String,
    },
}

impl fmt::Display for EdgeHeard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted { site } => write!(f, "site {site} answers"),
            Self::OtherSite { site } => write!(f, "site {site} still answers"),
            Self::Unmarked { why } => write!(f, "nobody can say which site answers: {why}"),
            Self::Remembered { why } => {
                write!(
                    f,
                    "a cache answers ({why}), so it is not known which site would"
                )
            }
            Self::PastEdge { missing } => {
                write!(
                    f,
                    "did not come through Cloudflare: it has no header {missing}"
                )
            }
            Self::Status { status } => write!(f, "it answers {status}"),
            Self::Silent { why } => write!(f, "silent: {why}"),
        }
    }
}

/// One look through the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeView {
    /// What was asked for, without its query.
    pub url: String,
    /// What came back.
    #[serde(flatten)]
    pub heard: EdgeHeard,
}

impl EdgeView {
    /// True when the wanted site answered.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(self.heard, EdgeHeard::Wanted { .. })
    }

    /// One line for people.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.heard {
            EdgeHeard::PastEdge { .. } => format!("the answer {}", self.heard),
            EdgeHeard::Wanted { .. }
            | EdgeHeard::OtherSite { .. }
            | EdgeHeard::Unmarked { .. }
            | EdgeHeard::Remembered { .. }
            | EdgeHeard::Status { .. }
            | EdgeHeard::Silent { .. } => format!("through the edge {}", self.heard),
        }
    }
}
