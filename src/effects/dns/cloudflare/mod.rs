//! Cloudflare's API v4, as far as moving records needs it: list by name, patch one, batch several.
//!
//! PATCH changes the given fields only; PUT would reset the others (proxied, tags) to defaults.
//! The look before a change stays, although the record's id would do: there is no
//! compare-and-swap, and only the look sees a newer epoch (S8). An id from an earlier look would
//! save that request and overwrite whatever was written since. What is known beforehand is the
//! zone, also after a restart.
//! Source: Cloudflare API v4 reference, "DNS Records for a Zone".

mod accounts;
mod api;
mod rate_limit;
mod token;
mod zone;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

pub(super) use self::accounts::Accounts;
use self::api::{Api, ApiRecord, Ask, Good};
use self::zone::Zone;
use super::common::Common;
use super::diff::{Edit, Patch};
use super::zone_ids::ZoneSlot;
use super::{DnsProvider, Opened, ProviderKind, Record, Tended, text};
use crate::config::settings::{DnsAccess, DnsRecord};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::outcome::FailureKind;

/// Records of one name are few; more than a page of them means that the filter was ignored.
const PER_PAGE: &str = "100";
/// A TTL of 1 means that Cloudflare decides. Source: Cloudflare API v4 reference, field `ttl`.
const TTL_AUTOMATIC: u32 = 1;
/// How often the token is looked at while nothing moves, however many records it is for.
const TEND_EVERY: Duration = Duration::from_secs(3600);
/// And while a record is refused.
const DOUBT_EVERY: Duration = Duration::from_secs(60);

/// This provider.
pub const PROVIDER: ProviderKind = ProviderKind {
    name: "cloudflare",
    summary: "Cloudflare, by an API token with the permission Zone / DNS / Edit",
    build,
};

fn build(settings: &DnsRecord, common: &Arc<Common>) -> Option<Opened> {
    let DnsAccess::Cloudflare {
        zone_id,
        token,
        api_url,
        ..
    } = &settings.access
    else {
        return None;
    };
    let open = || -> Opened {
        Ok(Box::new(Cloudflare {
            api: Api::open(settings, token, api_url.as_deref(), &common.cloudflare)?,
            zone: Zone {
                record: settings.record.clone(),
                configured: zone_id.clone(),
                slot: ZoneSlot::of(settings, common),
            },
            record: settings.record.clone(),
        }))
    };
    Some(open())
}

#[derive(Debug)]
struct Cloudflare {
    api: Api,
    zone: Zone,
    record: String,
}

#[async_trait]
impl DnsProvider for Cloudflare {
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError> {
        let what = format!("look {name} up");
        let (known, kept) = (self.zone.known(), self.zone.is_kept());
        let zone = self.zone.id(&self.api, &what).await?;
        let page = match self.page(&zone, name, &what).await {
            // A zone that was made anew has another id.
            Err(error) if self.zone.doubt(&error) && known.is_some() => {
                let anew = self.zone.id(&self.api, &what).await?;
                if anew == zone {
                    return Err(error);
                }
                self.page(&anew, name, &what).await?
            }
            Ok(page) if kept && page.result.as_ref().is_none_or(Vec::is_empty) => {
                let anew = self.zone.found(&self.api, &what).await?;
                match anew == zone {
                    true => page,
                    false => self.page(&anew, name, &what).await?,
                }
            }
            page => page?,
        };
        if page.pages > 1 {
            return Err(EffectError::permanent(format!(
                "dns {}: cannot {what} at cloudflare: it lists other names too",
                self.api.target
            ))
            .hint("the API ignores the filter by name; nothing was changed"));
        }
        let records = page.result.unwrap_or_default();
        Ok(records.into_iter().map(Record::from).collect())
    }

    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError> {
        let what = format!("change the records to {}", edit.contents.join(", "));
        let asked = boottime();
        let zone = self.zone.id(&self.api, &what).await?;
        // The time that is left counts from when it was said, not from when the zone is known (S8).
        let within = within.saturating_sub(boottime().since(asked));
        if within.is_zero() {
            return Err(EffectError::retryable(format!(
                "dns {}: no time was left to {what} once its zone was found",
                self.api.target
            )));
        }
        let (method, last, body) = match edit.patches.as_slice() {
            [one] if edit.posts.is_empty() && edit.deletes.is_empty() => {
                (Method::PATCH, one.seen.id.as_str(), patched(one))
            }
            _ => (Method::POST, "batch", batch(edit)),
        };
        let request = self
            .api
            .request(method, &["zones", &zone, "dns_records", last])
            .timeout(within.min(self.api.timeout))
            .json(&body);
        // Whether it took effect is read back by the caller, not believed here.
        let asked = self.api.ask::<IgnoredAny>(&what, request, Ask::Change);
        asked.await.map(drop)
    }

    /// Proves that the token is valid, finds the zone, and reads the record.
    async fn tend(&self) -> Result<Tended, EffectError> {
        let token = &self.api.account.token;
        let expires = token.good_until(&self.api, TEND_EVERY).await?;
        let proved = async {
            self.zone.find_again(&self.api).await?;
            self.records(&self.record).await
        };
        if let Err(error) = proved.await {
            // The token may have ended since it was asked for.
            if error.kind == FailureKind::Permanent
                && let Err(why) = token.good_until(&self.api, DOUBT_EVERY).await
                && why.kind == FailureKind::Permanent
            {
                return Err(why);
            }
            return Err(error);
        }
        Ok(Tended {
            again: TEND_EVERY,
            expires,
            proved: true,
        })
    }
}

impl Cloudflare {
    async fn page(
        &self,
        zone: &str,
        name: &str,
        what: &str,
    ) -> Result<Good<Vec<ApiRecord>>, EffectError> {
        let request = self
            .api
            .request(Method::GET, &["zones", zone, "dns_records"])
            // Without `type`: a CNAME in the way is seen. `name` without `.exact` is legacy.
            .query(&[("name.exact", name), ("per_page", PER_PAGE)]);
        self.api.ask(what, request, Ask::Look).await
    }
}

/// The fields that change. Others stay, also those that are not known here.
fn patched(patch: &Patch) -> Value {
    let content = written(&patch.seen.kind, &patch.content);
    json!({ "content": content, "comment": patch.comment })
}

/// All of an edit, in one transaction of the provider. Source: Cloudflare API v4 reference, batch
/// DNS records: deletes, patches, puts, posts, in this order; the first error undoes all.
fn batch(edit: &Edit) -> Value {
    let deletes: Vec<Value> = edit
        .deletes
        .iter()
        .map(|it| json!({ "id": it.id }))
        .collect();
    let patches: Vec<Value> = edit
        .patches
        .iter()
        .map(|patch| {
            let mut patched = patched(patch);
            if let Some(fields) = patched.as_object_mut() {
                fields.insert("id".to_owned(), json!(patch.seen.id));
            }
            patched
        })
        .collect();
    let posts: Vec<Value> = edit
        .posts
        .iter()
        .zip(edit.seen.iter().cycle())
        .map(|(content, like)| {
            json!({
                "name": like.name, "type": like.kind, "content": written(&like.kind, content),
                "ttl": like.ttl.unwrap_or(TTL_AUTOMATIC), "proxied": like.proxied,
                "comment": edit.comment,
            })
        })
        .collect();
    let mut batch = serde_json::Map::new();
    for (name, list) in [("deletes", deletes), ("patches", patches), ("posts", posts)] {
        if !list.is_empty() {
            batch.insert(name.to_owned(), Value::Array(list));
        }
    }
    Value::Object(batch)
}

/// As the API has it: texts in quotes. Source: Cloudflare docs, DNS record types, TXT.
fn written(kind: &str, content: &str) -> String {
    if kind == "TXT" {
        text::quoted(content)
    } else {
        content.to_owned()
    }
}
