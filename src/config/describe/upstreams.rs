//! Groups of app servers in plain words.

use super::super::settings::Upstream;
use super::super::units::show_duration;
use super::apps::taken;
use super::{asks, push, thresholds};

/// What happens to a group's members, and by whom it is seen.
pub(super) fn upstream(group: &Upstream) -> String {
    let place = match &group.site {
        Some(site) => format!("at {site}"),
        None => "at both sites".to_owned(),
    };
    let (file, count) = (&group.file, group.members.len());
    let what = match file.servers_only {
        true => "as lines".to_owned(),
        false => format!("as {}", file.block),
    };
    let asks = group.members.first().map_or_else(String::new, |first| {
        asks(&group.probe_of(first)).replacen(&first.address, "each", 1)
    });
    let mut text = format!(
        "Keeps the healthy ones of the {count} members of {} in {} {place}, {what} for {}: looks \
         every {} {asks}. {} Takes none out when fewer than {} would be healthy, changes at most {} \
         at once, and waits until it has been quiet for {}",
        group.name,
        file.path.display(),
        file.format.name(),
        show_duration(group.timing.interval),
        thresholds(&group.timing),
        group.min_healthy,
        group.change_max,
        show_duration(group.settle),
    );
    taken(&mut text, &file.target);
    if let Some(trip) = group.trip {
        let down_for = show_duration(trip.down_for);
        push(
            &mut text,
            format_args!(
                " Fails the whole site over when fewer than {} are healthy for {down_for}.",
                trip.below
            ),
        );
    }
    text
}
