//! The messages of an update: names, contents, and their sections. Pure.
//!
//! Source: RFC 2136, 2.4 (prerequisites) and 2.5 (updates).

use std::str::FromStr as _;

use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::effects::dns::text::PIECE_BYTES_MAX;

/// A fully qualified name.
pub(super) fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The content of a record as the server takes it.
pub(super) fn rdata(kind: RecordType, content: &str) -> Option<RData> {
    if kind == RecordType::A {
        let ip = std::net::Ipv4Addr::from_str(content).ok()?;
        return Some(RData::A(A(ip)));
    }
    if kind == RecordType::AAAA {
        let ip = std::net::Ipv6Addr::from_str(content).ok()?;
        return Some(RData::AAAA(AAAA(ip)));
    }
    if kind == RecordType::TXT {
        return Some(text(content));
    }
    let name = name(content).filter(|_| kind == RecordType::CNAME)?;
    Some(RData::CNAME(CNAME(name)))
}

/// The content of a record as people write it.
pub(super) fn content(rdata: &RData) -> String {
    if let RData::TXT(txt) = rdata {
        return String::from_utf8_lossy(&txt.txt_data.concat()).into_owned();
    }
    // The final dot of a name; an address has none.
    rdata.to_string().trim_end_matches('.').to_owned()
}

/// A question to the server that has the zone.
pub(super) fn query(name: Name, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name, kind));
    message
}

/// An update without anything in it yet.
pub(super) fn update(zone: Name) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(zone, RecordType::SOA));
    message
}

/// The update happens only if this is all that is there of this type, or if nothing is.
pub(super) fn require(update: &mut Message, at: &Name, kind: RecordType, is: Vec<RData>) {
    if is.is_empty() {
        // 2.4.3: class NONE and no content.
        let mut nothing = Record::update0(at.clone(), 0, kind).into_record_of_rdata();
        nothing.dns_class = DNSClass::NONE;
        update.add_answer(nothing);
    }
    for rdata in is {
        // 2.4.2: every record of the set, with its class and a TTL of zero.
        update.add_answer(Record::from_rdata(at.clone(), 0, rdata));
    }
}

/// Removes whatever of this type is there (2.5.2), then adds these (2.5.1).
pub(super) fn replace(
    update: &mut Message,
    at: &Name,
    (kind, ttl): (RecordType, u32),
    by: Vec<RData>,
) {
    let mut all = Record::update0(at.clone(), 0, kind).into_record_of_rdata();
    all.dns_class = DNSClass::ANY;
    update.add_authority(all);
    for rdata in by {
        update.add_authority(Record::from_rdata(at.clone(), ttl, rdata));
    }
}

/// A text, in as many pieces as it takes.
pub(super) fn text(text: &str) -> RData {
    let texts = text.as_bytes().chunks(PIECE_BYTES_MAX).collect();
    RData::TXT(TXT::from_bytes(texts))
}

/// What a note says.
pub(super) fn note_text(set: &[RData]) -> String {
    let texts = set.iter().filter_map(|rdata| {
        let RData::TXT(txt) = rdata else { return None };
        Some(txt.txt_data.concat())
    });
    let bytes: Vec<u8> = texts.flatten().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
