//! Groups of app servers in `agent status`.

use super::super::output::{BAD, BOLD, DIM, GOOD, WARN, styled};
use super::push;
use crate::runtime::upstreams::UpstreamStatus;

/// A line for each group, and one for why its file is not what health calls for.
pub(super) fn lines(text: &mut String, groups: &[UpstreamStatus]) {
    if groups.is_empty() {
        return;
    }
    push(text, format_args!("\n{}\n", styled(BOLD, "upstreams")));
    for group in groups {
        let style = match (group.healthy, group.down) {
            (0, _) => BAD,
            (_, 0) => GOOD,
            (_, _) => WARN,
        };
        let healthy = format!("{} of {} healthy", group.healthy, group.total());
        let unknown = match group.unknown {
            0 => String::new(),
            unknown => format!(", {unknown} not known"),
        };
        let in_file = match group.in_file {
            Some(members) => format!(", {members} in the file"),
            None => ", nothing in the file".to_owned(),
        };
        let rendered = group.rendered.map_or_else(String::new, |at| {
            format!(", rendered {} times, last at {at}", group.renderings)
        });
        let name = &group.name;
        push(
            text,
            format_args!(
                "  {}  {name}{unknown}{in_file}{}\n",
                styled(style, healthy),
                styled(DIM, rendered)
            ),
        );
        if let Some(why) = &group.why_not {
            push(text, format_args!("    {}\n", styled(WARN, why)));
        }
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn group_shows_its_members_and_why_the_file_stays() {
        let group = UpstreamStatus {
            name: "shop".to_owned(),
            healthy: 1,
            down: 2,
            unknown: 1,
            in_file: Some(3),
            why_not: Some("too few".to_owned()),
            ..UpstreamStatus::default()
        };
        let mut text = String::new();
        lines(&mut text, &[group]);
        assert_eq!(
            strip_str(&text).to_string(),
            "\nupstreams\n  1 of 4 healthy  shop, 1 not known, 3 in the file\n    too few\n"
        );
    }
}
