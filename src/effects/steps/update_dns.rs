//! `UpdateDns`: one name points at the new site, and the provider says so itself when it is looked
//! at once more after the change.

use super::{Attempt, Tools, noted};
use crate::effects::clock::boottime;
use crate::effects::dns::moved::Moved;
use crate::effects::dns::standing::standing;
use crate::effects::dns::{self, Wanted};
use crate::effects::error::EffectError;
use crate::model::event::Learned;

pub(super) async fn apply(
    tools: &Tools,
    target: &str,
    contents: &[String],
    attempt: Attempt<'_>,
) -> Result<Learned, EffectError> {
    let found = tools
        .dns
        .iter()
        .find(|record| record.name == target)
        .ok_or_else(|| {
            EffectError::permanent(format!(
                "DNS record {target} is not in the configuration any more"
            ))
        })?;
    let wanted = Wanted {
        name: found.record.clone(),
        kind: found.kind.clone(),
        contents: contents.to_vec(),
        epoch: attempt.epoch,
        site: tools.site.clone(),
    };
    let applied = dns::apply(found.provider.as_ref(), &wanted, attempt.permit).await?;
    let kept = standing(found.provider.as_ref(), &wanted).await?;
    if let Some(drift) = kept.drift {
        let (name, kind, to) = (&wanted.name, &wanted.kind, wanted.contents.join(", "));
        return Err(EffectError::retryable(format!(
            "dns record {name} {kind} should be {to} under epoch {}, and {drift}",
            wanted.epoch
        ))
        .hint("something else changes it too"));
    }
    found.moved.send_replace(Some(Moved {
        at: boottime(),
        epoch: wanted.epoch,
        wanted: wanted.contents,
        ttl_s: kept.ttl_s,
        proxied: kept.proxied,
    }));
    Ok(noted(applied.note))
}
