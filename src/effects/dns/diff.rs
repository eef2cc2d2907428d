//! What to do about a name's records: current and wanted ones in, a change out. Pure.
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
    /// The records are as wanted, under this epoch.
    None,
    /// Change them so.
    Edit(Edit),
    /// There is no such record, and creating the first one is a person's decision.
    Missing,
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

/// What becomes of the records of one name and type: for providers that keep each value by itself,
/// and for those that keep the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// As they are now: one or more.
    pub seen: Vec<Record>,
    /// What they contain afterwards: these and no others.
    pub contents: Vec<String>,
    /// The comment of the whole set, for a provider that has one for it.
    pub comment: String,
    /// Records that stay, with another content or comment.
    pub patches: Vec<Patch>,
    /// Contents for which no record is left, each to be created like the first of `seen`, with
    /// `comment`.
    pub posts: Vec<String>,
    /// Records too many.
    pub deletes: Vec<Record>,
}

impl Edit {
    /// True when a content changes, not only a comment.
    #[must_use]
    pub fn moves(&self, kind: &str) -> bool {
        let moved = |patch: &Patch| !same_content(kind, &patch.seen.content, &patch.content);
        !self.posts.is_empty() || !self.deletes.is_empty() || self.patches.iter().any(moved)
    }
}

/// One record as it is, and as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// As it is now.
    pub seen: Record,
    /// The content that it gets.
    pub content: String,
    /// The comment that it gets.
    pub comment: String,
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
    let seen: Vec<Record> = named()
        .filter(|record| record.kind == wanted.kind)
        .cloned()
        .collect();
    let Some(first) = seen.first() else {
        // RFC 1034, 3.6.2: a CNAME excludes every other record of its name.
        let excludes = |r: &&Record| r.kind == "CNAME" || wanted.kind == "CNAME";
        return named()
            .find(excludes)
            .map_or(Change::Missing, |other| Change::Foreign {
                kind: other.kind.clone(),
            });
    };
    let newest = seen.iter().filter_map(|it| epoch_in(&it.comment)).max();
    if let Some(epoch) = newest.filter(|epoch| *epoch > wanted.epoch) {
        return Change::Newer { epoch };
    }
    let comment = comment_for(&first.comment, wanted);
    let (pairs, posts, deletes) = paired(&seen, wanted);
    let patches: Vec<Patch> = pairs
        .into_iter()
        .filter(|(seen, content)| {
            epoch_in(&seen.comment) != Some(wanted.epoch)
                || !same_content(&wanted.kind, &seen.content, content)
        })
        .map(|(seen, content)| Patch {
            comment: comment_for(&seen.comment, wanted),
            seen,
            content,
        })
        .collect();
    if patches.is_empty() && posts.is_empty() && deletes.is_empty() {
        return Change::None;
    }
    Change::Edit(Edit {
        seen,
        contents: wanted.contents.clone(),
        comment,
        patches,
        posts,
        deletes,
    })
}

/// Which record stays for which content, which contents have none, and which records are too many.
/// A record that is right already stays so; of the others, in order, each gets what is still
/// missing: a record that is changed is never gone in between.
fn paired(seen: &[Record], wanted: &Wanted) -> (Vec<(Record, String)>, Vec<String>, Vec<Record>) {
    let mut missing = wanted.contents.clone();
    let mut right: Vec<Option<String>> = Vec::new();
    for record in seen {
        let place = missing
            .iter()
            .position(|content| same_content(&wanted.kind, content, &record.content));
        right.push(place.map(|place| missing.remove(place)));
    }
    let mut missing = missing.into_iter();
    let (mut pairs, mut deletes) = (Vec::new(), Vec::new());
    for (record, right) in seen.iter().zip(right) {
        match right.or_else(|| missing.next()) {
            Some(content) => pairs.push((record.clone(), content)),
            None => deletes.push(record.clone()),
        }
    }
    (pairs, missing.collect(), deletes)
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
            contents: vec!["192.0.2.2".to_owned()],
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

    /// Several values, each with an id and a comment.
    fn several(records: &[(&str, &str, &str)]) -> Vec<Record> {
        let several = records.iter().map(|(id, content, comment)| Record {
            id: (*id).to_owned(),
            ..record("A", content, comment)
        });
        several.collect()
    }

    fn contents(contents: &[&str]) -> Wanted {
        Wanted {
            contents: contents.iter().map(|it| (*it).to_owned()).collect(),
            ..wanted()
        }
    }

    /// What is done to whom: `~id content`, `+content`, `-id`.
    fn done(change: Change) -> Vec<String> {
        let Change::Edit(edit) = change else {
            panic!("no edit: {change:?}");
        };
        let patches = edit.patches.iter();
        let mut done: Vec<String> = patches
            .map(|patch| format!("~{} {}", patch.seen.id, patch.content))
            .collect();
        done.extend(edit.posts.iter().map(|content| format!("+{content}")));
        done.extend(edit.deletes.iter().map(|record| format!("-{}", record.id)));
        done
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
            let seen = record("A", "192.0.2.1", present);
            let expected = Edit {
                seen: vec![seen.clone()],
                contents: wanted().contents,
                comment: comment.to_owned(),
                patches: vec![Patch {
                    seen,
                    content: "192.0.2.2".to_owned(),
                    comment: comment.to_owned(),
                }],
                posts: Vec::new(),
                deletes: Vec::new(),
            };
            assert!(expected.moves("A"));
            assert_eq!(diff_of("192.0.2.1", present), Change::Edit(expected));
        }
        let right = diff_of("192.0.2.2", "x; agent epoch=7 site=b");
        assert_eq!(right, Change::None);
        let Change::Edit(noted) = diff_of("192.0.2.2", "") else {
            panic!("the epoch is to be noted");
        };
        assert!(!noted.moves("A"));
    }

    #[test]
    fn several_values_are_paired_with_several_records() {
        const NOTED: &str = "agent epoch=7 site=b";
        let one = [("1", "192.0.2.1", "")];
        let two = [("1", "192.0.2.1", ""), ("2", "192.0.2.2", "")];
        for (seen, wanted, expected) in [
            (&one[..], &["192.0.2.8"][..], &["~1 192.0.2.8"][..]),
            (
                &one,
                &["192.0.2.8", "192.0.2.9"],
                &["~1 192.0.2.8", "+192.0.2.9"],
            ),
            (
                &two,
                &["192.0.2.8", "192.0.2.9"],
                &["~1 192.0.2.8", "~2 192.0.2.9"],
            ),
            (&two, &["192.0.2.8"], &["~1 192.0.2.8", "-2"]),
            // What is right stays, whatever the order, and is only marked.
            (
                &two,
                &["192.0.2.2", "192.0.2.9"],
                &["~1 192.0.2.9", "~2 192.0.2.2"],
            ),
            (&two, &["192.0.2.2"], &["~2 192.0.2.2", "-1"]),
            (
                &[("1", "192.0.2.1", NOTED), ("2", "192.0.2.3", NOTED)],
                &["192.0.2.2", "192.0.2.1"],
                &["~2 192.0.2.2"],
            ),
            // Twice the same: one is too many.
            (
                &[("1", "192.0.2.2", NOTED), ("2", "192.0.2.2", NOTED)],
                &["192.0.2.2"],
                &["-2"],
            ),
        ] {
            let change = diff(&several(seen), &contents(wanted));
            assert_eq!(done(change), expected, "{seen:?} to {wanted:?}");
        }
        let right = several(&[("1", "192.0.2.9", NOTED), ("2", "192.0.2.8", NOTED)]);
        let wanted = contents(&["192.0.2.8", "192.0.2.9"]);
        assert_eq!(diff(&right, &wanted), Change::None);
    }

    #[test]
    fn newer_epoch_is_left_alone_even_with_the_wanted_content() {
        for (comment, epoch) in [
            ("agent epoch=8 site=a", 8),
            ("note; agent epoch=9 site=a; agent epoch=3 site=b", 9),
            ("agent epoch=99999999999999999999999", u64::MAX),
        ] {
            let epoch = Epoch(epoch);
            let records = [record("A", "192.0.2.2", comment)];
            assert_eq!(diff(&records, &wanted()), Change::Newer { epoch });
            // One of several is enough.
            let records = several(&[("1", "192.0.2.1", ""), ("2", "192.0.2.7", comment)]);
            assert_eq!(diff(&records, &wanted()), Change::Newer { epoch });
        }
    }

    #[test]
    fn nothing_is_guessed_about_missing_and_foreign_records() {
        assert_eq!(diff(&[], &wanted()), Change::Missing);
        let mut elsewhere = record("A", "192.0.2.1", "");
        elsewhere.name = "ww.example.com".to_owned();
        assert_eq!(diff(&[elsewhere], &wanted()), Change::Missing);
        let ipv6 = [record("AAAA", "2001:db8::1", "")];
        assert_eq!(diff(&ipv6, &wanted()), Change::Missing);
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
