//! `agent.toml.example`: it names every key, and what it says of defaults is true.

use std::collections::BTreeSet;

use failover_agent::config::{MemberRole, keys, parse};

use super::{EXAMPLE, agent, example_dir, key_of, without_lines};

#[test]
fn example_names_every_key() {
    let mut shown: BTreeSet<(String, String)> = BTreeSet::new();
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            let path = header.trim_matches(['[', ']']);
            section = path.replace(".fra", ".<site>").replace(".ams", ".<site>");
            let (above, last) = section.rsplit_once('.').unwrap_or(("", &section));
            shown.insert((above.to_owned(), last.to_owned()));
        } else if let Some((key, _)) = key_of(line) {
            shown.insert((section.clone(), key.to_owned()));
            // Inline tables are sections of their own.
            for inner in line
                .split(['{', ','])
                .skip(1)
                .filter_map(|part| key_of(part.trim()))
            {
                shown.insert((format!("{section}.{key}"), inner.0.to_owned()));
            }
        } else if line.starts_with("  {") {
            for inner in line
                .split(['{', ','])
                .skip(1)
                .filter_map(|part| key_of(part.trim()))
            {
                shown.insert((format!("{section}.set"), inner.0.to_owned()));
            }
        }
    }
    for section in keys::ALL {
        for key in section.keys {
            let path = (section.path.to_owned(), (*key).to_owned());
            // [sites.fra] shows the key `sites` by its own header.
            let known = shown.contains(&path) || (section.path.is_empty() && *key == "sites");
            assert!(
                known,
                "agent.toml.example does not show {} in [{}]",
                key, section.path
            );
        }
    }
}

/// A line marked as a default can go without a change; every other line makes a difference.
#[test]
fn example_marks_exactly_the_defaults() {
    let dir = example_dir();
    let whole = format!("{:?}", agent(EXAMPLE, dir.path()).unwrap().config);
    let mut defaults = 0;
    for (index, line) in EXAMPLE.lines().enumerate() {
        let Some((key, false)) = key_of(line) else {
            continue;
        };
        let text = without_lines(|other, _| other == index);
        let same =
            agent(&text, dir.path()).is_ok_and(|loaded| format!("{:?}", loaded.config) == whole);
        let marked = line.contains("# default");
        assert_eq!(same, marked, "line {}: is {key} the default?", index + 1);
        defaults += usize::from(marked);
    }
    assert!(defaults > 30, "only {defaults} defaults are shown");
}

/// What is switched off would be accepted in place of what is on.
#[test]
fn example_lines_that_are_switched_off_are_valid() {
    let dir = example_dir();
    let env = |name: &str| match name {
        "AGENT_WEBHOOK" => Some("https://hooks.example.com/hunter2".to_owned()),
        "AGENT_PEER_SECRET"
        | "AGENT_ETCD_PASSWORD"
        | "AGENT_DATABASE_PASSWORD"
        | "AGENT_PGBOUNCER_PASSWORD"
        | "AGENT_TSIG_KEY"
        | "AGENT_AWS_SECRET"
        | "CLOUDFLARE_TOKEN" => Some("0123456789abcdef".to_owned()),
        _ => None,
    };
    let stem = |key: &str| {
        key.trim_end_matches("_file")
            .trim_end_matches("_env")
            .to_owned()
    };
    let lines: Vec<_> = EXAMPLE.lines().collect();
    let mut tried = 0;
    for (index, line) in lines.iter().enumerate() {
        let Some((key, true)) = key_of(line) else {
            continue;
        };
        let begin = (0..index)
            .rfind(|at| lines[*at].starts_with('['))
            .unwrap_or(0);
        let end = (index..lines.len()).find(|at| lines[*at].starts_with('['));
        let section = begin..end.unwrap_or(lines.len());
        let mut text = String::new();
        for (at, other) in lines.iter().enumerate() {
            let replaced = at != index
                && section.contains(&at)
                && key_of(other).is_some_and(|(other, off)| !off && stem(other) == stem(key));
            let no_body = line.contains("GET") && other.starts_with("body = ");
            if at == index {
                text.push_str(line.trim_start_matches('#'));
            } else if !replaced && !no_body {
                text.push_str(other);
            }
            text.push('\n');
        }
        let file = dir.path().join("agent.toml");
        let loaded = parse(&text, &file, None, MemberRole::Agent, &env);
        assert!(
            loaded.is_ok(),
            "line {}: {}",
            index + 1,
            loaded.unwrap_err()
        );
        tried += 1;
    }
    assert!(tried >= 10, "only {tried} lines are switched off");
}
