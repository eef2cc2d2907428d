//! What `agent ack`, `agent pause` and `agent resume` say over the socket.

use serde::{Deserialize, Serialize};

use crate::model::SiteName;
use crate::model::brakes::{Brake, Braked, TEXT_CHARS_MAX};
use crate::model::event::{Answer, Wish};
use crate::runtime::http_server::Caller;

/// Where the brakes are changed.
pub const PATH: &str = "/v1/brakes";

/// A wish to change the brakes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrakeQuestion {
    /// How.
    pub change: Brake,
    /// Who says to be asking; the user that really asked is added.
    #[serde(default)]
    pub by: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl BrakeQuestion {
    /// As a wish of the process that asked, at this site.
    #[must_use]
    pub fn into_wish(self, caller: Option<Caller>, site: &SiteName) -> Wish {
        let name = self.by.as_deref().map_or("somebody", str::trim);
        let name = shortened(name);
        let user = match caller {
            Some(Caller::Process { uid, .. }) => format!(" (uid {uid})"),
            Some(Caller::Address(_)) | None => String::new(),
        };
        let brake = match self.change {
            Brake::Pause {
                length,
                reason,
                guard_off,
            } => Brake::Pause {
                length,
                guard_off,
                reason: reason
                    .map(|reason| shortened(reason.trim()))
                    .filter(|reason| !reason.is_empty()),
            },
            other @ (Brake::Ack | Brake::Resume) => other,
        };
        Wish::Brake {
            brake,
            by: format!("{name}{user} at {site}"),
            dry_run: self.dry_run,
        }
    }
}

/// It is kept in the record and travels with every renewal.
fn shortened(text: &str) -> String {
    let plain = text.chars().filter(|sign| !sign.is_control());
    plain.take(TEXT_CHARS_MAX).collect()
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum BrakeAnswer {
    /// The brakes are so, and a majority of voters keeps it.
    Done(Box<Braked>),
    /// A dry run: they would be so.
    WouldDo(Box<Braked>),
    /// Refused.
    Refused {
        /// Each a sentence.
        reasons: Vec<String>,
    },
}

impl From<Answer> for BrakeAnswer {
    fn from(answer: Answer) -> Self {
        let reasons = match answer {
            Answer::Braked(braked) if braked.dry_run => return Self::WouldDo(braked),
            Answer::Braked(braked) => return Self::Done(braked),
            Answer::Refused { reasons } => reasons,
            Answer::MayHaveBegun { at, why } => {
                vec![format!(
                    "site {at} may have done it, see `agent status` there: {why}"
                )]
            }
            Answer::Started { .. }
            | Answer::AskingForLease
            | Answer::PassedOn { .. }
            | Answer::Noted
            | Answer::FilesMayChange { .. }
            | Answer::WouldDo { .. } => vec!["the other site did something else".to_owned()],
        };
        Self::Refused { reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_named_with_the_user_that_really_asked_and_in_bounds() {
        let question = BrakeQuestion {
            change: Brake::Pause {
                length: None,
                reason: Some(format!("up\ngrade{}", "x".repeat(500))),
                guard_off: false,
            },
            by: Some("ada".to_owned()),
            dry_run: false,
        };
        let caller = Caller::Process {
            uid: 7,
            pid: Some(1),
        };
        let wish = question.into_wish(Some(caller), &SiteName::new("fra"));
        let Wish::Brake { brake, by, .. } = wish else {
            panic!("{wish:?}");
        };
        assert_eq!(by, "ada (uid 7) at fra");
        let Brake::Pause { reason, .. } = brake else {
            panic!("{brake:?}");
        };
        let reason = reason.unwrap();
        assert!(reason.starts_with("upgrade"));
        assert_eq!(reason.chars().count(), TEXT_CHARS_MAX);
    }
}
