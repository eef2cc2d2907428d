//! How a record stands at its provider: looked at, never changed.

use super::diff::{Change, diff};
use super::{DnsProvider, Wanted};
use crate::effects::error::EffectError;
use crate::model::dns::{DnsKept, Drift};

/// Looks at the provider.
///
/// # Errors
/// When it cannot be asked or refuses; that the record differs is no error.
pub async fn standing(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<DnsKept, EffectError> {
    let records = provider.records(&wanted.name).await?;
    let named = |one: &str| {
        one.trim_end_matches('.')
            .eq_ignore_ascii_case(wanted.name.trim_end_matches('.'))
    };
    let ours = || {
        records
            .iter()
            .filter(|it| named(&it.name) && it.kind == wanted.kind)
    };
    let values: Vec<String> = ours().map(|record| record.content.clone()).collect();
    let drift = match diff(&records, wanted) {
        Change::None => None,
        Change::Edit(edit) => Some(match edit.moves(&wanted.kind) {
            true => Drift::Moved {
                values: values.clone(),
            },
            false => Drift::Unmarked,
        }),
        Change::Missing => Some(Drift::Unclear {
            why: "it does not exist".to_owned(),
        }),
        Change::Foreign { kind } => Some(Drift::Unclear {
            why: format!("the name is a {kind} record"),
        }),
        Change::Newer { epoch } => Some(Drift::Newer { epoch }),
    };
    Ok(DnsKept {
        ttl_s: ours().filter_map(|record| record.ttl).max(),
        proxied: ours().any(|record| record.proxied),
        values,
        drift,
    })
}
