//! `UpdateDns`: one record names the new site, and the provider says so itself.

use super::{Attempt, Tools, noted};
use crate::effects::dns::{self, Wanted};
use crate::effects::error::EffectError;
use crate::model::event::Learned;

pub(super) async fn apply(
    tools: &Tools,
    target: &str,
    content: &str,
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
        content: content.to_owned(),
        epoch: attempt.epoch,
        site: tools.site.clone(),
    };
    let applied = dns::apply(found.provider.as_ref(), &wanted, attempt.permit).await?;
    dns::verify(found.provider.as_ref(), &wanted).await?;
    Ok(noted(applied.note))
}
