//! The contract of every kind of endpoint probe, and settings that must be refused.

use std::path::Path;

use failover_agent::config::settings::ProbeKindSettings;
use failover_agent::config::{self, MemberRole};
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::effects::probes::{PROBE_KINDS, build};

use crate::support::endpoint::{http, probe, tcp};

#[test]
fn settings_that_cannot_work_are_refused_without_repeating_credentials() {
    let resolver = Resolver::from_system();
    let mut secret_header = http("http://127.0.0.1/");
    secret_header.headers = vec![("X-Key".to_owned(), "s3cret\n".to_owned())];
    let mut no_authorities = http("https://127.0.0.1/");
    no_authorities.ca = Some("/nonexistent/ca.pem".into());
    let settings = [
        tcp("no-port"),
        ProbeKindSettings::Http(Box::new(http("ftp://127.0.0.1/"))),
        ProbeKindSettings::Http(Box::new(http("/only/a/path"))),
        ProbeKindSettings::Http(Box::new(http("http://user:s3cret@127.0.0.1/"))),
        ProbeKindSettings::Http(Box::new(secret_header)),
        ProbeKindSettings::Http(Box::new(no_authorities)),
    ];
    for kind in settings {
        let Err(error) = build(&probe(kind), &resolver) else {
            panic!("these settings cannot work");
        };
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// A complete `agent.toml` around the sections in `extra`.
fn settings_with(extra: &str) -> String {
    format!(
        r#"
[peer]
secret = "a secret of enough bytes"
[sites.fra]
address = "127.0.0.1:7401"
database = {{ data_dir = "/srv/fra" }}
[sites.old]
address = "127.0.0.1:7402"
database = {{ port = 5433, data_dir = "/srv/old" }}

{extra}"#
    )
}

#[test]
fn every_probe_kind_keeps_its_contract() {
    let resolver = Resolver::from_system();
    for kind in PROBE_KINDS {
        let name = kind.name;
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'));
        let text = settings_with(kind.example);
        let file = Path::new("agent.toml");
        let loaded = config::parse(&text, file, Some("fra"), MemberRole::Agent, &|_| None);
        let probes = loaded.expect("an example works as it stands").config.probes;
        assert_eq!(probes.len(), 1, "{name}");
        // Built by its own kind, and by nobody else's.
        for other in PROBE_KINDS {
            let built = (other.build)(&probes[0], &resolver);
            assert_eq!(built.is_some(), other.name == name, "{name}");
        }
    }
    let mut names: Vec<_> = PROBE_KINDS.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PROBE_KINDS.len());
}
