//! Which zone a record is in: the configured one, or the active one with the longest name that the
//! record's ends with. Source: Cloudflare API v4 reference, "List Zones".

use reqwest::Method;
use serde::Deserialize;

use super::api::{Api, Ask};
use crate::effects::dns::zone_ids::ZoneSlot;
use crate::effects::error::EffectError;
use crate::model::outcome::FailureKind;

/// A zone's name has two labels at least, and nobody nests them this deep.
const NAMES_MAX: usize = 10;

/// A zone: found while nothing moves, and kept.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) record: String,
    pub(super) configured: Option<String>,
    pub(super) slot: ZoneSlot,
}

#[derive(Debug, Deserialize)]
struct ApiZone {
    id: String,
    name: String,
    status: Option<String>,
}

impl Zone {
    /// Its id, where nobody need be asked for it.
    pub(super) fn known(&self) -> Option<String> {
        self.configured.clone().or_else(|| self.slot.get())
    }

    /// Its id.
    pub(super) async fn id(&self, api: &Api, what: &str) -> Result<String, EffectError> {
        match self.known() {
            Some(known) => Ok(known),
            None => self.found(api, what).await,
        }
    }

    /// Looks whether it is still the same: the record may be in a longer one by now.
    pub(super) async fn find_again(&self, api: &Api) -> Result<(), EffectError> {
        if self.configured.is_some() {
            return Ok(());
        }
        let found = self.found(api, "find its zone").await;
        if let Err(error) = &found {
            self.doubt(error);
        }
        found.map(drop)
    }

    /// True when it is a former life's, and the record may have left it.
    pub(super) fn is_kept(&self) -> bool {
        self.configured.is_none() && self.slot.is_kept()
    }

    pub(super) async fn found(&self, api: &Api, what: &str) -> Result<String, EffectError> {
        let finding = tokio::time::timeout(api.timeout, self.find(api, what));
        let id = finding.await.unwrap_or_else(|_| {
            let span = api.timeout.as_millis();
            Err(EffectError::retryable(format!(
                "dns {}: cannot {what} at cloudflare: its zone is not found within {span} ms",
                api.target
            )))
        })?;
        self.slot.set(&id);
        Ok(id)
    }

    /// True after a refusal: the zone may be another one, and is looked for anew.
    pub(super) fn doubt(&self, error: &EffectError) -> bool {
        let refused = error.kind == FailureKind::Permanent && self.configured.is_none();
        if refused {
            self.slot.forget();
        }
        refused
    }

    async fn find(&self, api: &Api, what: &str) -> Result<String, EffectError> {
        for name in names(&self.record) {
            // With every status: one that is not active yet must not hide as none.
            let request = api
                .request(Method::GET, &["zones"])
                .query(&[("name", name)]);
            let page = api.ask::<Vec<ApiZone>>(what, request, Ask::Look).await?;
            let mut zones = page.result.unwrap_or_default();
            zones.retain(|zone| {
                let active = zone.status.as_deref() == Some("active");
                zone.name.eq_ignore_ascii_case(name) && active
            });
            match <[ApiZone; 1]>::try_from(zones) {
                Ok([zone]) => return Ok(zone.id),
                Err(none) if none.is_empty() => {}
                Err(_) => {
                    return Err(EffectError::permanent(format!(
                        "dns {}: cannot {what} at cloudflare: there are several active zones {name}",
                        api.target
                    ))
                    .hint("say which one with zone_id"));
                }
            }
        }
        Err(EffectError::permanent(format!(
            "dns {}: cannot {what} at cloudflare: the token sees no active zone that {} is in",
            api.target, self.record
        ))
        .hint("give the token the permission Zone / Zone / Read too, or set zone_id"))
    }
}

/// The names that the zone may have, the longest first.
fn names(record: &str) -> impl Iterator<Item = &str> {
    let name = record.strip_prefix("*.").unwrap_or(record);
    let names: Vec<&str> = std::iter::successors(Some(name), |name| {
        name.split_once('.').map(|(_, rest)| rest)
    })
    .filter(|name| name.contains('.'))
    .collect();
    let skipped = names.len().saturating_sub(NAMES_MAX);
    names.into_iter().skip(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_from_the_longest_to_the_last_two_labels() {
        let all = |record| names(record).collect::<Vec<_>>();
        let expected = ["a.b.example.com", "b.example.com", "example.com"];
        assert_eq!(all("a.b.example.com"), expected);
        assert_eq!(all("*.example.com"), ["example.com"]);
        assert!(all("localhost").is_empty());
        let deep = format!("{}example.com", "a.".repeat(100));
        assert_eq!(all(&deep).len(), NAMES_MAX);
        assert_eq!(all(&deep).last(), Some(&"example.com"));
    }
}
