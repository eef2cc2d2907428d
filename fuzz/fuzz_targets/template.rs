//! Any text as a template of a whole file: a text or an error, within bounds.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use failover_agent::effects::app_config::formats::template::{OUTPUT_MAX, render};
use failover_agent::model::template::{TemplateNode, TemplateUpstream, TemplateVars};
use failover_agent::model::{ClusterName, Epoch, SiteName};
use libfuzzer_sys::fuzz_target;

static VARS: LazyLock<TemplateVars> = LazyLock::new(|| {
    let node = |site: &str| TemplateNode {
        site: SiteName::new(site),
        host: format!("db.{site}"),
        port: 5432,
    };
    let server = TemplateUpstream {
        name: "a".to_owned(),
        host: "10.0.0.1".to_owned(),
        port: 80,
        backup: false,
    };
    TemplateVars {
        epoch: Epoch(7),
        cluster: ClusterName::new("shop"),
        site: SiteName::new("fra"),
        primary: node("fra"),
        standbys: vec![node("ams")],
        upstreams: BTreeMap::from([("web".to_owned(), vec![server])]),
    }
});

fuzz_target!(|source: &str| {
    if let Ok(text) = render(source, &VARS) {
        assert!(text.len() <= OUTPUT_MAX);
    }
});
