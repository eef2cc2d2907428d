//! `[[app_config]]`, `[[dns]]` and `[[notify]]`: what follows the primary, and who is told.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::{Refusal, quoted};
use super::reader::{Spot, Table, type_of};
use super::secret::Secret;
use super::settings::{AppConfig, AppConfigEdit, AppConfigValue, DnsRecord, NotifierSettings};
use super::sites::Sites;
use super::{MemberRole, defaults, keys, secret_source, syntax, validate};
use crate::model::SiteName;

/// Kinds of `effects::dns`.
const DNS_PROVIDERS: [&str; 1] = ["cloudflare"];
/// Kinds of `effects::notify`.
const NOTIFIERS: [&str; 1] = ["webhook"];

/// What values of app configs may name.
const VALUE_VARIABLES: [&str; 3] = ["host", "port", "site"];

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const RELOAD_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
const KEEP: RangeInclusive<u32> = 1..=1000;

/// The app configs that could be read.
pub(super) fn app_configs(root: &Table<'_>, sites: &Sites) -> Vec<AppConfig> {
    let tables = root.tables("app_config", &keys::APP_CONFIG);
    validate::names_differ(&tables);
    let mut read: Vec<AppConfig> = Vec::new();
    for table in &tables {
        let Some(app_config) = app_config(table, sites) else {
            continue;
        };
        // Two lists of edits for one file would undo each other.
        let same = read.iter().find(|other| {
            let overlap =
                other.site.is_none() || app_config.site.is_none() || other.site == app_config.site;
            other.path == app_config.path && overlap
        });
        if let Some(other) = same {
            let what = format!(
                "app config {} already rewrites this file",
                quoted(&other.name)
            );
            table.error(
                "path",
                Refusal::new(what).hint("put all keys into one list"),
            );
        }
        read.push(app_config);
    }
    read
}

fn app_config(table: &Table<'_>, sites: &Sites) -> Option<AppConfig> {
    table.need("name", "how reports call it");
    table.need("path", "the file to rewrite");
    table.need(
        "set",
        "a list of { key = \"…\", value = \"{host}\" } or { key = \"…\", url = true }",
    );
    let name = table.parsed("name", syntax::name);
    let site = table.parsed("site", |name| {
        sites.known(name).ok_or_else(|| sites.unknown(name))
    });
    let path = table.path("path");
    let edits = edits(table);
    let reload = table.command("reload", &[]);
    let reload_timeout = table.duration("reload_timeout", &RELOAD_TIMEOUT);
    if !table.has("reload") {
        table.refuse_keys(&["reload_timeout"], "has no meaning without reload");
    }
    let keep = table.integer("keep", &KEEP);
    Some(AppConfig {
        name: name?,
        site,
        path: path?,
        edits: edits?,
        reload,
        reload_timeout: reload_timeout.unwrap_or(defaults::APP_CONFIG_RELOAD_TIMEOUT),
        keep: keep.unwrap_or(defaults::APP_CONFIG_KEEP),
    })
}

fn edits(table: &Table<'_>) -> Option<Vec<AppConfigEdit>> {
    if !table.has("set") {
        return None;
    }
    let mut edits: Vec<AppConfigEdit> = Vec::new();
    let tables = table.tables("set", &keys::APP_CONFIG_SET);
    if tables.is_empty() && !table.reader.has_errors_in(&table.spot("set").key) {
        table.error("set", Refusal::new("must not be empty"));
    }
    for table in tables {
        let Some(edit) = edit(&table) else {
            continue;
        };
        if edits.iter().any(|other| other.key == edit.key) {
            table.error("key", Refusal::new("already in this list"));
        }
        edits.push(edit);
    }
    Some(edits)
}

fn edit(table: &Table<'_>) -> Option<AppConfigEdit> {
    table.need("key", "the key in the app's file");
    let key = table.parsed("key", |text| {
        // No format has a key like this: the step would fail, at the worst time.
        let never =
            |sign: char| sign.is_whitespace() || sign.is_control() || "=#\"'".contains(sign);
        match text.is_empty() || text.chars().any(never) {
            true => Err(Refusal::new("a key has no blanks, quotes, \"=\" or \"#\"")),
            false => Ok(text.to_owned()),
        }
    });
    let url = table.boolean("url", false);
    let value = match (table.has("value"), url) {
        (true, true) => {
            let refusal = Refusal::new("url is given as well");
            table.error(
                "value",
                refusal.hint("value replaces all of it, url only host and port"),
            );
            None
        }
        (true, false) => table.parsed("value", edit_value).map(AppConfigValue::Text),
        (false, true) => Some(AppConfigValue::UrlAuthority),
        (false, false) => {
            table.need(
                "value",
                "a text with {host}, {port} or {site}; or url = true",
            );
            None
        }
    };
    Some(AppConfigEdit {
        key: key?,
        value: value?,
    })
}

/// Values are written into plans and the journal, so they must not be secrets. Never repeats them.
fn edit_value(text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::new("a value has one line"));
    }
    syntax::only_variables(text, &VALUE_VARIABLES)?;
    let authority = text
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
        .unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(':') {
        return Err(
            Refusal::new("a password, which would be written into the journal")
                .hint("url = true leaves it where it is and changes host and port"),
        );
    }
    Ok(text.to_owned())
}

/// The DNS records that could be read; the witness moves none.
pub(super) fn dns_records(root: &Table<'_>, sites: &Sites, role: MemberRole) -> Vec<DnsRecord> {
    let tables = root.tables("dns", &keys::DNS);
    validate::names_differ(&tables);
    let mut records: BTreeMap<(String, &str), Spot> = BTreeMap::new();
    let mut read = Vec::new();
    for table in &tables {
        let record = table.parsed("record", syntax::dns_name);
        let kind = match table.has("type") {
            true => table.choice("type", &["A", "AAAA", "CNAME"]),
            false => Some(defaults::DNS_TYPE),
        };
        if let (Some(record), Some(kind)) = (&record, kind) {
            let spot = table.spot("record");
            if let Some(first) = records.insert((record.clone(), kind), spot) {
                let line = first.line.unwrap_or_default();
                let what = format!("line {line} already moves the {kind} record {record}");
                table.error("record", Refusal::new(what));
            }
        }
        read.extend(dns_record(table, record, kind, (sites, role)));
    }
    read
}

fn dns_record(
    table: &Table<'_>,
    record: Option<String>,
    kind: Option<&str>,
    (sites, role): (&Sites, MemberRole),
) -> Option<DnsRecord> {
    table.need("name", "how reports call it");
    table.need("provider", DNS_PROVIDERS.join(" or ").as_str());
    table.need("record", "the full name, e.g. \"shop.example.com\"");
    table.need("zone_id", "the zone's id at the provider");
    table.need("content", "what the record contains for each site");
    let name = table.parsed("name", syntax::name);
    let provider = table.choice("provider", &DNS_PROVIDERS);
    let zone_id = table.parsed("zone_id", zone_id);
    let api_url = table.parsed("api_url", api_url);
    let timeout = table.duration("timeout", &TIMEOUT);
    let content = kind.and_then(|kind| content(table, record.as_deref(), kind, sites));
    let token = match role {
        MemberRole::Agent => secret_source::require(table, &keys::DNS_TOKEN)?,
        MemberRole::Witness => return None,
    };
    Some(DnsRecord {
        name: name?,
        provider: provider?.to_owned(),
        record: record?,
        kind: kind?.to_owned(),
        zone_id: zone_id?,
        token,
        api_url,
        timeout: timeout.unwrap_or(defaults::DNS_TIMEOUT),
        content: content?,
    })
}

/// It becomes part of a request's path.
fn zone_id(text: &str) -> Result<String, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.len() <= 64 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new("not a zone id").hint("the id that the provider shows, not the name"))
    }
}

/// The token goes there: never in plain text to another host.
fn api_url(text: &str) -> Result<String, Refusal> {
    let url = syntax::url(text)?;
    if url.https || syntax::is_loopback(&url.host) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(Refusal::new("the token would be sent in plain text").hint("use https"))
    }
}

/// What the record contains for each site, in the order of the sites.
fn content(
    table: &Table<'_>,
    record: Option<&str>,
    kind: &str,
    sites: &Sites,
) -> Option<[String; 2]> {
    let mut contents: BTreeMap<SiteName, String> = BTreeMap::new();
    let named = table.named("content")?;
    for (name, spot, value) in &named {
        let Some(site) = sites.known(name) else {
            table.reader.error(spot, sites.unknown(name));
            continue;
        };
        let Some(text) = value.as_str() else {
            let what = format!("expected a text in quotes, found {}", type_of(value));
            table.reader.error(spot, Refusal::new(what));
            continue;
        };
        match syntax::record_content(kind, text) {
            Ok(content) if kind == "CNAME" && Some(content.as_str()) == record => {
                table
                    .reader
                    .error(spot, Refusal::new("the record would point to itself"));
            }
            Ok(content) => {
                contents.insert(site, content);
            }
            Err(refusal) => table.reader.error(spot, refusal),
        }
    }
    // With more or fewer sites than two, that is the mistake to correct.
    let pair = sites.names.iter().filter(|_| sites.names.len() == 2);
    for (site, _) in pair {
        if !named.iter().any(|(name, ..)| *name == site.as_str()) {
            let what = format!("nothing for site {site}");
            table.error("content", Refusal::new(what));
        }
    }
    let contents: [String; 2] = contents.into_values().collect::<Vec<_>>().try_into().ok()?;
    let [first, second] = &contents;
    if first == second {
        let refusal = Refusal::new("the same for both sites: nothing would ever move");
        table.warning("content", refusal);
    }
    Some(contents)
}

/// The notifiers that could be read; the witness tells nobody.
pub(super) fn notifiers(root: &Table<'_>, role: MemberRole) -> Vec<NotifierSettings> {
    let tables = root.tables("notify", &keys::NOTIFY);
    validate::names_differ(&tables);
    tables
        .iter()
        .filter_map(|table| notifier(table, role))
        .collect()
}

fn notifier(table: &Table<'_>, role: MemberRole) -> Option<NotifierSettings> {
    table.need("name", "how reports call it");
    table.need("kind", NOTIFIERS.join(" or ").as_str());
    let name = table.parsed("name", syntax::name);
    let kind = table.choice("kind", &NOTIFIERS);
    let timeout = table.duration("timeout", &TIMEOUT);
    let url = match role {
        MemberRole::Agent => webhook_url(table)?,
        MemberRole::Witness => return None,
    };
    Some(NotifierSettings {
        name: name?,
        kind: kind?.to_owned(),
        url,
        timeout: timeout.unwrap_or(defaults::NOTIFY_TIMEOUT),
    })
}

fn webhook_url(table: &Table<'_>) -> Option<Secret> {
    let secret = secret_source::require(table, &keys::NOTIFY_URL)?;
    let key = secret_source::named(table, &keys::NOTIFY_URL);
    match syntax::url(secret.reveal()) {
        Ok(url) => {
            if !url.https && !syntax::is_loopback(&url.host) {
                let refusal = Refusal::new("the URL and the messages go in plain text");
                table.warning(key, refusal.hint("use https"));
            }
            Some(secret)
        }
        Err(refusal) => {
            table.error(key, refusal);
            None
        }
    }
}
