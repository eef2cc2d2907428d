//! `[[dns]]` with `provider = "route53"`: the zone at Amazon, and whose credentials change it.

use super::problem::Refusal;
use super::reader::Table;
use super::settings::{AwsLogin, AwsRole, Route53};
use super::{MemberRole, defaults, dns, keys, secret_source, syntax};

/// Keys that not every provider has.
pub(super) const KEYS: [&str; 10] = [
    "zone_id",
    "endpoint",
    "region",
    "profile",
    "role_arn",
    "external_id",
    "access_key_id",
    "secret_access_key_file",
    "secret_access_key_env",
    "secret_access_key",
];

/// A mistake that is reported already.
struct Reported;

/// How the zone is reached; the witness moves nothing and needs no secret.
pub(super) fn access(table: &Table<'_>, member: MemberRole) -> Option<Route53> {
    let zone_id = optional(table, "zone_id", zone_id);
    let endpoint = optional(table, "endpoint", endpoint);
    let region = optional(table, "region", region);
    let role = role(table);
    let login = login(table, member);
    match member {
        MemberRole::Agent => Some(Route53 {
            zone_id: zone_id.ok()?,
            endpoint: endpoint.ok()?,
            region: region
                .ok()?
                .unwrap_or_else(|| defaults::ROUTE53_REGION.to_owned()),
            login: login.ok()?,
            role: role.ok()?,
        }),
        MemberRole::Witness => None,
    }
}

fn optional<'r>(
    table: &Table<'r>,
    key: &'static str,
    parse: fn(&'r str) -> Result<String, Refusal>,
) -> Result<Option<String>, Reported> {
    match table.has(key) {
        true => table.parsed(key, parse).map(Some).ok_or(Reported),
        false => Ok(None),
    }
}

fn role(table: &Table<'_>) -> Result<Option<AwsRole>, Reported> {
    let arn = optional(table, "role_arn", role_arn);
    let external_id = optional(table, "external_id", |text| Ok(text.to_owned()));
    match (arn?, external_id?) {
        (Some(arn), external_id) => Ok(Some(AwsRole { arn, external_id })),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let refusal = Refusal::new("has no meaning without role_arn");
            table.error("external_id", refusal);
            Err(Reported)
        }
    }
}

fn login(table: &Table<'_>, member: MemberRole) -> Result<AwsLogin, Reported> {
    let id = optional(table, "access_key_id", access_key_id);
    let profile = optional(table, "profile", |text| Ok(text.to_owned()));
    let secret_keys = keys::DNS_ACCESS_KEY;
    if !table.has("access_key_id") {
        let sources = [secret_keys.file, secret_keys.env, secret_keys.inline];
        let mut named = sources.into_iter().filter(|key| table.has(key));
        if let Some(secret) = named.next() {
            table.error(secret, Refusal::new("has no meaning without access_key_id"));
            return Err(Reported);
        }
        return Ok(profile?.map_or(AwsLogin::Chain, AwsLogin::Profile));
    }
    if table.has("profile") {
        let refusal = Refusal::new("access_key_id is given as well");
        table.error("profile", refusal.hint("name one source of credentials"));
        return Err(Reported);
    }
    let secret = match member {
        MemberRole::Agent => secret_source::require(table, &secret_keys).ok_or(Reported),
        MemberRole::Witness => Err(Reported),
    };
    match (id?, secret?) {
        (Some(id), secret) => Ok(AwsLogin::Key { id, secret }),
        (None, _) => Err(Reported),
    }
}

/// Answers of the API call it `/hostedzone/Z…`.
fn zone_id(text: &str) -> Result<String, Refusal> {
    dns::zone_id(text.strip_prefix("/hostedzone/").unwrap_or(text))
}

/// A request that somebody changes on the way would move something else.
fn endpoint(text: &str) -> Result<String, Refusal> {
    let url = syntax::url(text)?;
    if url.https || syntax::is_loopback(&url.host) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(Refusal::new("anybody on the way could read along").hint("use https"))
    }
}

/// Source: AWS General Reference, "Regions and endpoints".
fn region(text: &str) -> Result<String, Refusal> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |text: &str| text.starts_with('-') || text.ends_with('-');
    if (3..=64).contains(&text.len()) && text.chars().all(allowed) && !ends(text) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new("not a region of AWS").hint("e.g. \"us-east-1\""))
    }
}

/// Source: IAM User Guide, "IAM identifiers".
fn role_arn(text: &str) -> Result<String, Refusal> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let role = match parts.as_slice() {
        ["arn", partition, "iam", "", account, name] => {
            partition.starts_with("aws")
                && account.len() == 12
                && account.chars().all(|c| c.is_ascii_digit())
                && name.strip_prefix("role/").is_some_and(|it| !it.is_empty())
        }
        _ => false,
    };
    if role && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        let hint = "e.g. \"arn:aws:iam::123456789012:role/agent-dns\"";
        Err(Refusal::new("not the ARN of a role").hint(hint))
    }
}

/// Source: IAM API Reference, `AccessKey`. The text is never repeated: it may be the secret.
fn access_key_id(text: &str) -> Result<String, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if (16..=128).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        let hint = "the id, like \"AKIAIOSFODNN7EXAMPLE\", not the secret";
        Err(Refusal::new("not the id of an access key").hint(hint))
    }
}
