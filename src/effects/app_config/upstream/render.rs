//! A group's lines in a proxy's language, and back. Pure.
//!
//! A member that takes no requests stays in the file, marked as such: so hashes over the members
//! stay what they are, and a person sees that it is not forgotten.
//!
//! Sources: nginx, `ngx_http_upstream_module` (`server`, `zone`); HAProxy configuration manual, 4.2
//! `server`, 5.2 (`backup`, `check`, `disabled`, `maxconn`, `weight`).

use std::collections::BTreeMap;

use crate::config::settings::{ProxyFormat, Upstream, UpstreamMember};
use crate::effects::app_config::block::Block;
use crate::model::upstream::Place;

/// nginx keeps a group's state in memory that its workers share: measured, 1,000 servers need less
/// than 512k. The smallest that nginx takes is eight pages.
const ZONE_KB_MIN: usize = 64;
const ZONE_KB_PER_MEMBER: usize = 1;

/// The block of a group whose members are in these places, in the order of the settings.
#[must_use]
pub fn render(upstream: &Upstream, places: &[Place]) -> Block {
    let file = &upstream.file;
    let members = upstream.members.iter().zip(places);
    let servers = members.map(|(member, place)| server(file.format, member, *place));
    let lines = match (file.format, file.servers_only) {
        (ProxyFormat::Nginx | ProxyFormat::Haproxy, true) => servers.collect(),
        (ProxyFormat::Nginx, false) => {
            let zone = ZONE_KB_MIN + upstream.members.len() * ZONE_KB_PER_MEMBER;
            let first = [
                format!("upstream {} {{", file.block),
                format!("    zone {} {zone}k;", file.block),
            ];
            let servers = servers.map(|line| format!("    {line}"));
            let all = first.into_iter().chain(servers);
            all.chain(["}".to_owned()]).collect()
        }
        (ProxyFormat::Haproxy, false) => {
            let servers = servers.map(|line| format!("    {line}"));
            let first = std::iter::once(format!("backend {}", file.block));
            first.chain(servers).collect()
        }
    };
    Block {
        name: upstream.name.clone(),
        lines,
    }
}

fn server(format: ProxyFormat, member: &UpstreamMember, place: Place) -> String {
    let UpstreamMember {
        address,
        backup,
        weight,
        connections_max,
    } = member;
    let (assign, connections, out) = match format {
        ProxyFormat::Nginx => ('=', "max_conns", OUT_NGINX),
        ProxyFormat::Haproxy => (' ', "maxconn", OUT_HAPROXY),
    };
    let mut line = match format {
        ProxyFormat::Nginx => format!("server {address}"),
        // HAProxy's own checks go on between two looks of the agent, and when it does not run.
        ProxyFormat::Haproxy => format!("server {} {address} check", server_name(address)),
    };
    if let Some(weight) = weight {
        line.push_str(&format!(" weight{assign}{weight}"));
    }
    if let Some(most) = connections_max {
        line.push_str(&format!(" {connections}{assign}{most}"));
    }
    if *backup {
        line.push_str(" backup");
    }
    if place == Place::Out {
        line.push(' ');
        line.push_str(out);
    }
    if format == ProxyFormat::Nginx {
        line.push(';');
    }
    line
}

const OUT_NGINX: &str = "down";
const OUT_HAPROXY: &str = "disabled";

/// Source: HAProxy configuration manual, 2.2: letters, digits, `-`, `_`, `.` and `:`.
fn server_name(address: &str) -> String {
    address.replace(['[', ']'], "")
}

/// Where the lines of a block have each member; one that they do not name takes no requests.
#[must_use]
pub fn places(upstream: &Upstream, lines: &[String]) -> Vec<Place> {
    let (position, out) = match upstream.file.format {
        ProxyFormat::Nginx => (1, OUT_NGINX),
        ProxyFormat::Haproxy => (2, OUT_HAPROXY),
    };
    let servers = lines.iter().filter_map(|line| {
        let line = line.trim().trim_end_matches(';');
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = *words
            .get(position)
            .filter(|_| words.first() == Some(&"server"))?;
        let place = if words.contains(&out) {
            Place::Out
        } else {
            Place::In
        };
        Some((address, place))
    });
    let servers: BTreeMap<&str, Place> = servers.collect();
    let place = |member: &UpstreamMember| servers.get(member.address.as_str()).copied();
    let members = upstream.members.iter();
    members
        .map(|member| place(member).unwrap_or(Place::Out))
        .collect()
}
