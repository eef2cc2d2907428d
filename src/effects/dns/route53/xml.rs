//! What Route 53 reads and writes: record sets, batches of changes, zones, refusals. Pure.
//!
//! Source: Amazon Route 53 API Reference, API version 2013-04-01, and its schema, which fixes the
//! order of elements.

use quick_xml::de;
use quick_xml::escape::escape;
use serde::Deserialize;

/// Of every request and answer.
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";
/// The longest comment of a batch. Source: API Reference, `ChangeBatch`.
const BATCH_COMMENT_CHARS_MAX: usize = 256;
/// The longest text between two quotes. Source: Developer Guide, "TXT record type".
const TEXT_BYTES_MAX: usize = 255;

/// Everything that is kept under one name and type, as Route 53 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordSet {
    /// As Route 53 spells it: final dot, `\052` for the asterisk. Sent back as it came.
    pub(super) spelt: String,
    pub(super) kind: String,
    /// Told apart from other sets of the name and type by a routing policy.
    pub(super) set_identifier: Option<String>,
    pub(super) ttl: Option<u32>,
    /// In the form of a zone file: texts stand in quotes.
    pub(super) values: Vec<String>,
    /// The target, where it has no values of its own.
    pub(super) alias: Option<String>,
    pub(super) health_check: Option<String>,
}

impl RecordSet {
    /// Lower case, without escapes and without the final dot.
    pub(super) fn name(&self) -> String {
        let name = String::from_utf8_lossy(&unescaped(&self.spelt)).to_ascii_lowercase();
        name.trim_end_matches('.').to_owned()
    }
}

/// A page of a zone's record sets.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) sets: Vec<RecordSet>,
    /// There are more behind it.
    pub(super) truncated: bool,
}

/// A hosted zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) id: String,
    /// Lower case, without the final dot.
    pub(super) name: String,
    /// Only seen from inside somebody's network.
    pub(super) private: bool,
}

/// Where a change is on its way to the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangeInfo {
    pub(super) id: String,
    /// Every server of Route 53 has it.
    pub(super) in_sync: bool,
}

/// Why Route 53 refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) messages: Vec<String>,
}

/// What to do with a record set. Source: API Reference, `Change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Fails where there is one.
    Create,
    /// Fails where it is not exactly so.
    Delete,
    /// Whatever is there is replaced.
    Upsert,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Delete => "DELETE",
            Self::Upsert => "UPSERT",
        }
    }
}

/// Changes that are all made or none.
pub(super) fn change_batch(comment: &str, changes: &[(Action, RecordSet)]) -> String {
    let comment: String = comment.chars().take(BATCH_COMMENT_CHARS_MAX).collect();
    let changes: String = changes
        .iter()
        .map(|(action, set)| {
            let action = action.word();
            format!("<Change><Action>{action}</Action>{}</Change>", written(set))
        })
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\"><ChangeBatch>{}\
         <Changes>{changes}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
        element("Comment", &comment)
    )
}

fn written(set: &RecordSet) -> String {
    let optional = |name: &str, value: Option<&str>| {
        value.map(|value| element(name, value)).unwrap_or_default()
    };
    let values: String = set
        .values
        .iter()
        .map(|value| {
            format!(
                "<ResourceRecord>{}</ResourceRecord>",
                element("Value", value)
            )
        })
        .collect();
    let ttl = set.ttl.map(|ttl| ttl.to_string());
    format!(
        "<ResourceRecordSet>{}{}{}{}<ResourceRecords>{values}</ResourceRecords>{}\
         </ResourceRecordSet>",
        element("Name", &set.spelt),
        element("Type", &set.kind),
        optional("SetIdentifier", set.set_identifier.as_deref()),
        optional("TTL", ttl.as_deref()),
        optional("HealthCheckId", set.health_check.as_deref()),
    )
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// `None` when it is not what the API documents; so are the others.
pub(super) fn page(body: &[u8]) -> Option<Page> {
    let page: PageXml = read(body)?;
    let sets = page.sets.sets.into_iter().map(|set| RecordSet {
        spelt: set.name,
        kind: set.kind,
        set_identifier: set.set_identifier,
        ttl: set.ttl,
        values: set.values.values.into_iter().map(|it| it.value).collect(),
        alias: set.alias.map(|alias| alias.dns_name),
        health_check: set.health_check_id,
    });
    Some(Page {
        sets: sets.collect(),
        truncated: page.is_truncated,
    })
}

pub(super) fn zones(body: &[u8]) -> Option<Vec<Zone>> {
    let zones: ZonesXml = read(body)?;
    let zones = zones.zones.zones.into_iter().map(|zone| Zone {
        id: bare_id(&zone.id).to_owned(),
        name: zone.name.trim_end_matches('.').to_ascii_lowercase(),
        private: zone.config.is_some_and(|config| config.private_zone),
    });
    Some(zones.collect())
}

pub(super) fn change_info(body: &[u8]) -> Option<ChangeInfo> {
    let change: ChangeXml = read(body)?;
    Some(ChangeInfo {
        id: bare_id(&change.info.id).to_owned(),
        in_sync: change.info.status == "INSYNC",
    })
}

/// Refusals have two forms: one with a code, and one for batches, whose root is the code.
/// Source: API Reference, `ChangeResourceRecordSets`, "InvalidChangeBatch" example.
pub(super) fn refusal(body: &[u8]) -> Option<Refusal> {
    let refusal: RefusalXml = read(body)?;
    match (refusal.error, refusal.messages, refusal.message) {
        (Some(error), _, _) => Some(Refusal {
            code: error.code,
            messages: vec![error.message],
        }),
        (None, Some(messages), _) => Some(Refusal {
            code: super::api::INVALID_BATCH.to_owned(),
            messages: messages.messages,
        }),
        (None, None, Some(message)) => Some(Refusal {
            code: String::new(),
            messages: vec![message],
        }),
        (None, None, None) => None,
    }
}

/// `/hostedzone/Z1` and `/change/C1` are what answers call `Z1` and `C1`.
fn bare_id(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    de::from_str(std::str::from_utf8(body).ok()?).ok()
}

/// A text as the value of a TXT record. Source: Developer Guide, "TXT record type".
pub(super) fn quoted(text: &str) -> String {
    let parts = text.as_bytes().chunks(TEXT_BYTES_MAX).map(|part| {
        let escaped: String = part
            .iter()
            .map(|byte| match byte {
                b'"' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\{byte:03o}"),
            })
            .collect();
        format!("\"{escaped}\"")
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        return "\"\"".to_owned();
    }
    parts.join(" ")
}

/// What [`quoted`] says, also where somebody else wrote it.
pub(super) fn unquoted(value: &str) -> String {
    let mut inside = false;
    let mut escaped = false;
    let kept: String = value
        .chars()
        .filter(|c| {
            let quote = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            inside ^= quote;
            // Between two texts of one value stand spaces.
            !quote && (inside || *c != ' ')
        })
        .collect();
    String::from_utf8_lossy(&unescaped(&kept)).into_owned()
}

/// `\052` is a byte in octal digits; before anything else a backslash only makes it itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        let (byte, taken) = match (octal, first, after.first()) {
            (Some(byte), _, _) => (byte, 4),
            (None, b'\\', Some(next)) => (*next, 2),
            (None, _, _) => (*first, 1),
        };
        bytes.push(byte);
        rest = rest.get(taken..).unwrap_or_default();
    }
    bytes
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PageXml {
    #[serde(rename = "ResourceRecordSets")]
    sets: SetsXml,
    is_truncated: bool,
}

#[derive(Deserialize)]
struct SetsXml {
    #[serde(rename = "ResourceRecordSet", default)]
    sets: Vec<SetXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetXml {
    name: String,
    #[serde(rename = "Type")]
    kind: String,
    set_identifier: Option<String>,
    #[serde(rename = "TTL")]
    ttl: Option<u32>,
    #[serde(rename = "ResourceRecords", default)]
    values: ValuesXml,
    #[serde(rename = "AliasTarget")]
    alias: Option<AliasXml>,
    health_check_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct ValuesXml {
    #[serde(rename = "ResourceRecord", default)]
    values: Vec<ValueXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ValueXml {
    value: String,
}

#[derive(Deserialize)]
struct AliasXml {
    #[serde(rename = "DNSName")]
    dns_name: String,
}

#[derive(Deserialize)]
struct ZonesXml {
    #[serde(rename = "HostedZones")]
    zones: ZoneListXml,
}

#[derive(Deserialize)]
struct ZoneListXml {
    #[serde(rename = "HostedZone", default)]
    zones: Vec<ZoneXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ZoneXml {
    id: String,
    name: String,
    config: Option<ZoneConfigXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ZoneConfigXml {
    #[serde(default)]
    private_zone: bool,
}

#[derive(Deserialize)]
struct ChangeXml {
    #[serde(rename = "ChangeInfo")]
    info: ChangeInfoXml,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeInfoXml {
    id: String,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RefusalXml {
    error: Option<ErrorXml>,
    messages: Option<MessagesXml>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorXml {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct MessagesXml {
    #[serde(rename = "Message", default)]
    messages: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spelt: &str, values: &[&str]) -> RecordSet {
        RecordSet {
            spelt: spelt.to_owned(),
            kind: "A".to_owned(),
            set_identifier: None,
            ttl: Some(60),
            values: values.iter().map(|&it| it.to_owned()).collect(),
            alias: None,
            health_check: Some("h&1".to_owned()),
        }
    }

    #[test]
    fn batch_keeps_the_order_of_the_schema_and_escapes_what_people_wrote() {
        let batch = change_batch(
            "move <it>",
            &[
                (Action::Delete, set("a.example.com.", &["192.0.2.1"])),
                (Action::Create, set("a.example.com.", &["192.0.2.2"])),
            ],
        );
        let one = |action: &str, value: &str| {
            format!(
                "<Change><Action>{action}</Action><ResourceRecordSet><Name>a.example.com.</Name>\
                 <Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>{value}</Value>\
                 </ResourceRecord></ResourceRecords><HealthCheckId>h&amp;1</HealthCheckId>\
                 </ResourceRecordSet></Change>"
            )
        };
        let (delete, create) = (one("DELETE", "192.0.2.1"), one("CREATE", "192.0.2.2"));
        let changes = format!("<Changes>{delete}{create}</Changes>");
        assert!(batch.contains(&changes), "{batch}");
        assert!(
            batch.contains("<Comment>move &lt;it&gt;</Comment>"),
            "{batch}"
        );
    }

    #[test]
    fn listed_sets_keep_everything_that_a_later_delete_must_repeat() {
        let listed = br#"<?xml version="1.0"?>
<ListResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/">
 <ResourceRecordSets>
  <ResourceRecordSet><Name>\052.Example.com.</Name><Type>A</Type><TTL>60</TTL>
   <ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord>
    <ResourceRecord><Value>192.0.2.2</Value></ResourceRecord></ResourceRecords>
   <HealthCheckId>h&amp;1</HealthCheckId></ResourceRecordSet>
  <ResourceRecordSet><Name>b.example.com.</Name><Type>AAAA</Type><SetIdentifier>w</SetIdentifier>
   <Weight>3</Weight><AliasTarget><HostedZoneId>Z2</HostedZoneId><DNSName>lb.example.net.</DNSName>
   <EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget></ResourceRecordSet>
 </ResourceRecordSets>
 <IsTruncated>true</IsTruncated><MaxItems>2</MaxItems><NextRecordName>c.</NextRecordName>
</ListResourceRecordSetsResponse>"#;
        let listed = page(listed).unwrap();
        assert!(listed.truncated);
        let [first, second] = <[RecordSet; 2]>::try_from(listed.sets).unwrap();
        assert_eq!(
            first,
            set("\\052.Example.com.", &["192.0.2.1", "192.0.2.2"])
        );
        assert_eq!(first.name(), "*.example.com");
        assert_eq!(second.alias.as_deref(), Some("lb.example.net."));
        assert_eq!(second.set_identifier.as_deref(), Some("w"));
        let empty = b"<L><ResourceRecordSets/><IsTruncated>false</IsTruncated></L>";
        assert!(page(empty).unwrap().sets.is_empty());
        for broken in [&b""[..], b"<html>login</html>", b"<L>", b"\xff"] {
            assert!(page(broken).is_none());
        }
    }

    #[test]
    fn both_forms_of_a_refusal_are_understood() {
        let plain = b"<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>Throttling</Code>\
            <Message>Rate exceeded</Message></Error><RequestId>r</RequestId></ErrorResponse>";
        let expected = Refusal {
            code: "Throttling".to_owned(),
            messages: vec!["Rate exceeded".to_owned()],
        };
        assert_eq!(refusal(plain), Some(expected));
        let batch = b"<?xml version=\"1.0\"?><InvalidChangeBatch xmlns=\"x\"><Messages>\
            <Message>first</Message><Message>second</Message></Messages><RequestId>r</RequestId>\
            </InvalidChangeBatch>";
        let expected = Refusal {
            code: "InvalidChangeBatch".to_owned(),
            messages: vec!["first".to_owned(), "second".to_owned()],
        };
        assert_eq!(refusal(batch), Some(expected));
        assert_eq!(refusal(b"<html><body>502</body></html>"), None);
    }

    #[test]
    fn zones_and_changes_lose_the_path_before_their_ids() {
        let zones = zones(
            b"<L><HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>Example.com.</Name><Config>\
              <PrivateZone>true</PrivateZone></Config></HostedZone></HostedZones></L>",
        );
        let zone = Zone {
            id: "Z1".to_owned(),
            name: "example.com".to_owned(),
            private: true,
        };
        assert_eq!(zones, Some(vec![zone]));
        let change = change_info(
            b"<R><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo></R>",
        );
        let pending = ChangeInfo {
            id: "C1".to_owned(),
            in_sync: false,
        };
        assert_eq!(change, Some(pending));
    }

    #[test]
    fn texts_come_back_as_they_were_written() {
        for text in [
            "agent epoch=3 site=ams",
            "say \"no\" \\ and \\052; … ä",
            "",
            &"long and longer ".repeat(40),
        ] {
            let value = quoted(text);
            assert!(value.is_ascii());
            assert_eq!(unquoted(&value), text);
        }
        assert_eq!(unquoted("\"two\" \" parts\""), "two parts");
        assert!(quoted(&"x".repeat(256)).ends_with("x\" \"x\""));
    }
}
