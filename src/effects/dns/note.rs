//! Where the epoch of a record is kept whose provider has no comments: in a TXT record one label
//! below its name. A CNAME allows nothing beside it, and the TXT records of the name itself belong
//! to others. Pure.
//!
//! Records of one name but of several types share the note: whoever moves the one has the epoch for
//! the other, and a person allows one name more, not four. A wildcard and its parent share none:
//! they may belong to two clusters, whose epochs have nothing to do with each other.

/// Below a plain name.
const LABEL: &str = "_agent";
/// Below the parent of a wildcard. Below the wildcard itself nothing else could be told from what
/// the wildcard answers for. Source: RFC 4592, 2.2.
const LABEL_OF_WILDCARD: &str = "_agent-wildcard";
/// How a wildcard begins. Source: RFC 4592, 2.1.1.
const WILDCARD: &str = "*.";

/// For a note that is new: as long as the record itself lives at most, usually.
pub(super) const TTL: u32 = 60;

/// The name of a record's note, without the final dot.
pub(super) fn name(record: &str) -> String {
    match record.strip_prefix(WILDCARD) {
        Some(parent) => format!("{LABEL_OF_WILDCARD}.{parent}"),
        None => format!("{LABEL}.{record}"),
    }
}

/// True when what is changed now may be built upon: its note is as it was seen, or already says
/// what is about to be written, because a record of the same name was moved under the same epoch
/// meanwhile.
pub(super) fn may_follow(seen: &str, now: &str, written: &str) -> bool {
    now == seen || now == written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_and_its_parent_have_notes_of_their_own() {
        assert_eq!(name("example.com"), "_agent.example.com");
        assert_eq!(name("*.example.com"), "_agent-wildcard.example.com");
        assert_eq!(name("shop.example.com"), "_agent.shop.example.com");
    }

    #[test]
    fn only_what_would_be_written_anyway_is_followed() {
        assert!(may_follow("", "", "agent epoch=3 site=ams"));
        let written = "agent epoch=3 site=ams";
        assert!(may_follow("", written, written));
        assert!(!may_follow("", "agent epoch=4 site=fra", written));
        assert!(!may_follow("agent epoch=2 site=fra", "", written));
    }
}
