//! What to do about a DNS record: current records and the wanted one in, a change out. Pure.
//!
//! Also owns the epoch in a record's comment (S8), because it decides by it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Record, Wanted};
use crate::model::Epoch;

/// How the agent's part of a comment begins. It stands first, so that nobody's cut removes it.
const MARK: &str = "agent epoch=";
/// What separates the agent's part from a person's.
const SEPARATOR: &str = "; ";
/// The longest comment on every plan. Source: Cloudflare docs, DNS record attributes: 100
/// characters on Free, 500 on paid plans.
pub const COMMENT_CHARS_MAX: usize = 100;
/// The longest comment where the present one proves that the plan allows more than
/// [`COMMENT_CHARS_MAX`].
const COMMENT_CHARS_MAX_PAID: usize = 500;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record is as wanted, under this epoch.
    None,
    /// Change this record.
    Patch {
        /// As it is now.
        seen: Record,
        /// The new comment.
        comment: String,
    },
    /// There is no such record, and creating one is a person's decision.
    Missing,
    /// Several records share name and type: nobody can say which one should move.
    Ambiguous {
        /// How many.
        n: usize,
    },
    /// The name is a record of another type, which excludes ours.
    Foreign {
        /// Of which type.
        kind: String,
    },
    /// A newer epoch was here: whoever asks is no longer active.
    Newer {
        /// Which.
        epoch: Epoch,
    },
}

/// What turns `current` into `wanted`. Records of other names are ignored, so that a provider that
/// does not filter does no harm.
#[must_use]
pub fn diff(current: &[Record], wanted: &Wanted) -> Change {
    let named = || {
        current
            .iter()
            .filter(|record| same_name(&record.name, &wanted.name))
    };
    let ours: Vec<&Record> = named().filter(|r| r.kind == wanted.kind).collect();
    let record = match ours.as_slice() {
        [one] => *one,
        [] => {
            // RFC 1034, 3.6.2: a CNAME excludes every other record of its name.
            let excludes = |r: &&Record| r.kind == "CNAME" || wanted.kind == "CNAME";
            return named()
                .find(excludes)
                .map_or(Change::Missing, |other| Change::Foreign {
                    kind: other.kind.clone(),
                });
        }
        several => return Change::Ambiguous { n: several.len() },
    };
    let noted = epoch_in(&record.comment);
    if let Some(epoch) = noted.filter(|epoch| *epoch > wanted.epoch) {
        return Change::Newer { epoch };
    }
    let right = same_content(&wanted.kind, &record.content, &wanted.content);
    if right && noted == Some(wanted.epoch) {
        return Change::None;
    }
    Change::Patch {
        seen: record.clone(),
        comment: comment_for(&record.comment, wanted),
    }
}

/// The highest epoch that a comment names.
#[must_use]
pub fn epoch_in(comment: &str) -> Option<Epoch> {
    comment
        .split(MARK)
        .skip(1)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            // Too many digits: higher than anything of ours, so nobody overwrites it.
            (!digits.is_empty()).then(|| Epoch(digits.parse().unwrap_or(u64::MAX)))
        })
        .max()
}

/// The agent's part for this epoch, then what people wrote, cut to what the plan allows.
fn comment_for(present: &str, wanted: &Wanted) -> String {
    let without_marks = remove_marks(present);
    let theirs: Vec<&str> = without_marks
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    let mut comment = format!("{MARK}{} site={}", wanted.epoch, wanted.site);
    if !theirs.is_empty() {
        comment.push_str(SEPARATOR);
        comment.push_str(&theirs.join(SEPARATOR));
    }
    let allowed = if present.chars().count() > COMMENT_CHARS_MAX {
        COMMENT_CHARS_MAX_PAID
    } else {
        COMMENT_CHARS_MAX
    };
    if comment.chars().count() <= allowed {
        return comment;
    }
    let mut cut: String = comment.chars().take(allowed.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// What people wrote: everything but `agent epoch=<number> site=<name>`.
fn remove_marks(comment: &str) -> String {
    let mut pieces = comment.split(MARK);
    let mut theirs = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        let mut rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        if let Some(site) = rest.strip_prefix(" site=") {
            rest = site.trim_start_matches(|c: char| !c.is_whitespace() && c != ';');
        }
        theirs.push_str(rest);
    }
    theirs
}

fn same_name(one: &str, other: &str) -> bool {
    one.trim_end_matches('.')
        .eq_ignore_ascii_case(other.trim_end_matches('.'))
}

/// True when both texts mean the same, e.g. two spellings of one IPv6 address.
#[must_use]
pub fn same_content(kind: &str, one: &str, other: &str) -> bool {
    fn parsed<T: std::str::FromStr + PartialEq>(one: &str, other: &str) -> bool {
        one.parse::<T>()
            .is_ok_and(|one| other.parse::<T>().is_ok_and(|other| one == other))
    }
    one == other
        || match kind {
            "A" => parsed::<Ipv4Addr>(one, other),
            "AAAA" => parsed::<Ipv6Addr>(one, other),
            "CNAME" => same_name(one, other),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SiteName;

    fn wanted() -> Wanted {
        Wanted {
            name: "www.example.com".to_owned(),
            kind: "A".to_owned(),
            content: "192.0.2.2".to_owned(),
            epoch: Epoch(7),
            site: SiteName::new("b"),
        }
    }

    fn record(kind: &str, content: &str, comment: &str) -> Record {
        Record {
            id: "1".to_owned(),
            name: "WWW.example.com.".to_owned(),
            kind: kind.to_owned(),
            content: content.to_owned(),
            comment: comment.to_owned(),
            ttl: Some(60),
            proxied: false,
        }
    }

    /// Of the old content with this comment, to a new comment.
    fn patch(present: &str, comment: &str) -> Change {
        Change::Patch {
            seen: record("A", "192.0.2.1", present),
            comment: comment.to_owned(),
        }
    }

    #[test]
    fn record_is_changed_unless_it_is_right_under_this_epoch() {
        let diff_of = |content, comment| diff(&[record("A", content, comment)], &wanted());
        for (present, comment) in [
            ("", "agent epoch=7 site=b"),
            (
                "agent epoch=6 site=a; web; do not touch",
                "agent epoch=7 site=b; web; do not touch",
            ),
            (
                "see wiki agent epoch=6 site=a before; x",
                "agent epoch=7 site=b; see wiki  before; x",
            ),
            // Changed by hand.
            ("agent epoch=7 site=b", "agent epoch=7 site=b"),
        ] {
            let expected = patch(present, comment);
            assert_eq!(diff_of("192.0.2.1", present), expected);
        }
        let right = diff_of("192.0.2.2", "x; agent epoch=7 site=b");
        assert_eq!(right, Change::None);
        let not_noted = diff_of("192.0.2.2", "");
        assert!(matches!(not_noted, Change::Patch { .. }));
    }

    #[test]
    fn newer_epoch_is_left_alone_even_with_the_wanted_content() {
        for (comment, epoch) in [
            ("agent epoch=8 site=a", 8),
            ("note; agent epoch=9 site=a; agent epoch=3 site=b", 9),
            ("agent epoch=99999999999999999999999", u64::MAX),
        ] {
            let records = [record("A", "192.0.2.2", comment)];
            let epoch = Epoch(epoch);
            assert_eq!(diff(&records, &wanted()), Change::Newer { epoch });
        }
    }

    #[test]
    fn nothing_is_guessed_about_missing_several_and_foreign_records() {
        assert_eq!(diff(&[], &wanted()), Change::Missing);
        let mut elsewhere = record("A", "192.0.2.1", "");
        elsewhere.name = "ww.example.com".to_owned();
        assert_eq!(diff(&[elsewhere], &wanted()), Change::Missing);
        let ipv6 = [record("AAAA", "2001:db8::1", "")];
        assert_eq!(diff(&ipv6, &wanted()), Change::Missing);
        let two = [
            record("A", "192.0.2.1", ""),
            record("AAAA", "2001:db8::1", ""),
            record("A", "192.0.2.2", ""),
        ];
        assert_eq!(diff(&two, &wanted()), Change::Ambiguous { n: 2 });
        let cname = [record("CNAME", "app.example.net", "")];
        let kind = "CNAME".to_owned();
        assert_eq!(diff(&cname, &wanted()), Change::Foreign { kind });
    }

    #[test]
    fn comment_is_cut_to_what_the_plan_allows() {
        let comment = |present: &str| comment_for(present, &wanted());
        let short = comment(&"ä".repeat(COMMENT_CHARS_MAX));
        assert_eq!(short.chars().count(), COMMENT_CHARS_MAX);
        assert!(short.starts_with("agent epoch=7 site=b; ää") && short.ends_with("ä…"));
        let paid = "p".repeat(COMMENT_CHARS_MAX + 1);
        assert_eq!(comment(&paid), format!("agent epoch=7 site=b; {paid}"));
        assert_eq!(epoch_in(&short), Some(Epoch(7)));
    }

    #[test]
    fn two_spellings_of_one_content_are_the_same() {
        assert!(same_content("AAAA", "2001:db8::1", "2001:0DB8:0:0::1"));
        assert!(same_content("CNAME", "App.example.net.", "app.example.net"));
        assert!(!same_content("A", "192.0.2.1", "192.0.2.2"));
    }
}
