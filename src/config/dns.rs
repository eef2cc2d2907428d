//! `[[dns]]`: the records that follow the primary, and how each provider is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;
use toml::de::DeValue;

use super::problem::{Refusal, quoted};
use super::reader::{Spot, Table, type_of};
use super::secret::Secret;
use super::settings::{DnsAccess, DnsRecord, TsigAlgorithm};
use super::sites::Sites;
use super::{MemberRole, defaults, dns_edge, keys, route53, secret_source, syntax, validate};
use crate::model::SiteName;

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);

/// The port of DNS. Source: RFC 1035, 4.2.
const DNS_PORT: u16 = 53;

/// A kind of `effects::dns`, and how its part of the table is read.
struct Provider {
    name: &'static str,
    /// Keys that not every kind has.
    keys: &'static [&'static str],
    read: fn(&Table<'_>, Option<&str>, MemberRole) -> Option<DnsAccess>,
}

const KINDS: [&str; 4] = ["A", "AAAA", "CNAME", "TXT"];
/// Values of one name: far more than a resolver would use.
const VALUES_MAX: usize = 20;
/// One text in quotes; longer ones are kept in pieces, which nothing here needs.
const TEXT_CHARS_MAX: usize = 255;

const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "cloudflare",
        keys: &[
            "zone_id",
            "token_file",
            "token_env",
            "token",
            "api_url",
            "proxied",
            "edge_check",
        ],
        read: cloudflare,
    },
    Provider {
        name: "rfc2136",
        keys: &[
            "server",
            "zone",
            "key_name",
            "key_algorithm",
            "key_file",
            "key_env",
            "key",
        ],
        read: rfc2136,
    },
    Provider {
        name: "route53",
        keys: &route53::KEYS,
        read: |table, _, role| route53::access(table, role).map(DnsAccess::Route53),
    },
];

/// The DNS records that could be read; the witness moves none.
pub(super) fn records(root: &Table<'_>, sites: &Sites, role: MemberRole) -> Vec<DnsRecord> {
    let tables = root.tables("dns", &keys::DNS);
    validate::names_differ(&tables);
    let mut records: BTreeMap<(String, &str, Vec<String>), Spot> = BTreeMap::new();
    let mut read = Vec::new();
    for table in &tables {
        let record = table.parsed("record", syntax::dns_name);
        let kind = match table.has("type") {
            true => table.choice("type", &KINDS),
            false => Some(defaults::DNS_TYPE),
        };
        if let (Some(record), Some(kind)) = (&record, kind) {
            let spot = table.spot("record");
            if let Some(first) = records.insert((record.clone(), kind, place(table)), spot) {
                let line = first.line.unwrap_or_default();
                let what = format!("line {line} already moves the {kind} record {record}");
                table.error("record", Refusal::new(what));
            }
        }
        read.extend(dns_record(table, record, kind, (sites, role)));
    }
    read
}

/// Where a record is kept: one name may be kept at several places, each moved by itself.
fn place(table: &Table<'_>) -> Vec<String> {
    let keys = ["provider", "api_url", "zone_id", "server", "zone"];
    let texts = keys.map(|key| table.value(key).and_then(DeValue::as_str));
    let texts = texts.map(|text| text.unwrap_or_default().to_ascii_lowercase());
    texts.to_vec()
}

fn dns_record(
    table: &Table<'_>,
    record: Option<String>,
    kind: Option<&str>,
    (sites, role): (&Sites, MemberRole),
) -> Option<DnsRecord> {
    let known = PROVIDERS.map(|provider| provider.name);
    table.need("name", "how reports call it");
    table.need("provider", known.join(" or ").as_str());
    table.need("record", "the full name, e.g. \"shop.example.com\"");
    table.need("content", "what the record contains for each site");
    let name = table.parsed("name", syntax::name);
    let named = table.choice("provider", &known);
    let timeout = table.duration("timeout", &TIMEOUT);
    let contents = kind.and_then(|kind| contents(table, record.as_deref(), kind, sites));
    // All mistakes are told at once, also when the provider's name is one of them.
    let seems = |it: &&Provider| it.keys.iter().any(|key| table.has(key));
    let provider = match named {
        Some(name) => PROVIDERS.iter().find(|it| it.name == name),
        None => PROVIDERS.iter().find(seems),
    }?;
    if named.is_some() {
        let why = format!("has no meaning with provider = {}", quoted(provider.name));
        let keys = PROVIDERS.iter().flat_map(|it| it.keys).copied();
        let mut others: Vec<_> = keys.filter(|key| !provider.keys.contains(key)).collect();
        // Two of the others may share one.
        others.sort_unstable();
        others.dedup();
        table.refuse_keys(&others, &why);
    }
    let access = (provider.read)(table, record.as_deref(), role);
    named?;
    Some(DnsRecord {
        name: name?,
        record: record?,
        kind: kind?.to_owned(),
        access: access?,
        timeout: timeout.unwrap_or(defaults::DNS_TIMEOUT),
        contents: contents?,
    })
}

pub(super) fn is_below(name: &str, zone: &str) -> bool {
    name == zone || name.strip_suffix(zone).is_some_and(|it| it.ends_with('.'))
}

fn cloudflare(table: &Table<'_>, record: Option<&str>, role: MemberRole) -> Option<DnsAccess> {
    let zone_id = table.parsed("zone_id", zone_id);
    let api_url = table.parsed("api_url", api_url);
    let proxy = dns_edge::proxy(table, record);
    let token = match role {
        MemberRole::Agent => secret_source::require(table, &keys::DNS_TOKEN)?,
        MemberRole::Witness => return None,
    };
    Some(DnsAccess::Cloudflare {
        zone_id,
        token,
        api_url,
        proxy,
    })
}

/// It becomes part of a request's path.
pub(super) fn zone_id(text: &str) -> Result<String, Refusal> {
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

fn rfc2136(table: &Table<'_>, record: Option<&str>, role: MemberRole) -> Option<DnsAccess> {
    table.need("server", "the zone's primary server, as ip:port");
    table.need("zone", "the zone's name, e.g. \"example.com\"");
    table.need("key_name", "what the server calls the TSIG key");
    let server = table.parsed("server", server);
    let zone = table.parsed("zone", syntax::dns_name);
    if let (Some(zone), Some(record)) = (&zone, record)
        && !is_below(record, zone)
    {
        table.error("record", Refusal::new(format!("not in the zone {zone}")));
    }
    let key_name = table.parsed("key_name", syntax::dns_name);
    let names = TsigAlgorithm::ALL.map(TsigAlgorithm::name);
    let algorithm = match table.has("key_algorithm") {
        true => table.choice("key_algorithm", &names).and_then(|name| {
            let mut all = TsigAlgorithm::ALL.into_iter();
            all.find(|it| it.name() == name)
        }),
        false => Some(defaults::DNS_KEY_ALGORITHM),
    };
    let key = match role {
        MemberRole::Agent => key(table)?,
        MemberRole::Witness => return None,
    };
    Some(DnsAccess::Rfc2136 {
        server: server?,
        zone: zone?,
        key_name: key_name?,
        algorithm: algorithm?,
        key,
    })
}

/// What moves names must not wait for names, and neither must what looks at them.
pub(super) fn server(text: &str) -> Result<SocketAddr, Refusal> {
    let bare = text
        .parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, DNS_PORT));
    match text.parse::<SocketAddr>().or(bare) {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) | Err(_) => Err(
            Refusal::new(format!("not an address: {}", quoted(text))).hint(
                "an IP address, with a port if it is not 53: \"192.0.2.53\", \"[2001:db8::53]:53\"",
            ),
        ),
    }
}

/// As the server's own tools print it: base64.
fn key(table: &Table<'_>) -> Option<Secret> {
    let secret = secret_source::require(table, &keys::DNS_KEY)?;
    match STANDARD.decode(secret.reveal().trim()) {
        Ok(bytes) if !bytes.is_empty() => Some(secret),
        Ok(_) | Err(_) => {
            let named = secret_source::named(table, &keys::DNS_KEY);
            let refusal = Refusal::new("the key is not base64");
            table.error(
                named,
                refusal.hint("the value of `secret` that tsig-keygen prints"),
            );
            None
        }
    }
}

/// What the records contain for each site, in the order of the sites.
fn contents(
    table: &Table<'_>,
    record: Option<&str>,
    kind: &str,
    sites: &Sites,
) -> Option<[Vec<String>; 2]> {
    let mut contents: BTreeMap<SiteName, Vec<String>> = BTreeMap::new();
    let named = table.named("content")?;
    for (name, spot, value) in &named {
        let Some(site) = sites.known(name) else {
            table.reader.error(spot, sites.unknown(name));
            continue;
        };
        match values(value, record, kind) {
            Ok(values) => {
                contents.insert(site, values);
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
    let contents: [Vec<String>; 2] = contents.into_values().collect::<Vec<_>>().try_into().ok()?;
    let [first, second] = contents
        .each_ref()
        .map(|it| it.iter().collect::<BTreeSet<_>>());
    if first == second {
        let refusal = Refusal::new("the same for both sites: nothing would ever move");
        table.warning("content", refusal);
    }
    Some(contents)
}

/// One text, or a list of them.
fn values(value: &DeValue<'_>, record: Option<&str>, kind: &str) -> Result<Vec<String>, Refusal> {
    let list = value.as_array();
    if list.is_some_and(|list| list.is_empty() || list.len() > VALUES_MAX) {
        let what = format!("a name has 1 to {VALUES_MAX} values");
        return Err(Refusal::new(what).hint("an empty list would remove it"));
    }
    if kind == "CNAME" && list.is_some_and(|list| list.len() > 1) {
        let refusal = Refusal::new("a name has one CNAME");
        return Err(refusal.hint("one text in quotes"));
    }
    let each: Vec<&DeValue<'_>> = match list {
        Some(list) => list.iter().map(Spanned::get_ref).collect(),
        None => vec![value],
    };
    let mut values: Vec<String> = Vec::new();
    for value in each {
        let Some(text) = value.as_str() else {
            let what = format!("expected a text in quotes, found {}", type_of(value));
            return Err(Refusal::new(what).hint("or a list of texts, for several values"));
        };
        let content = match kind {
            "TXT" => record_text(text)?,
            _ => syntax::record_content(kind, text)?,
        };
        if kind == "CNAME" && Some(content.as_str()) == record {
            return Err(Refusal::new("the record would point to itself"));
        }
        if values.contains(&content) {
            return Err(Refusal::new(format!("{} stands here twice", quoted(text))));
        }
        values.push(content);
    }
    Ok(values)
}

/// What people write into a TXT record, without the quotes of zone files.
fn record_text(text: &str) -> Result<String, Refusal> {
    let fits = (1..=TEXT_CHARS_MAX).contains(&text.len());
    if fits && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        Ok(text.to_owned())
    } else {
        let what =
            format!("not a text of 1 to {TEXT_CHARS_MAX} characters that every server takes");
        Err(Refusal::new(what).hint("ASCII, in one line"))
    }
}
