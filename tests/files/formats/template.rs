//! Rendering whole files from templates.

use std::collections::BTreeMap;

use failover_agent::effects::app_config::formats::template::{
    OUTPUT_MAX, SOURCE_MAX, TemplateError, render,
};
use failover_agent::model::template::{TemplateNode, TemplateUpstream, TemplateVars};
use failover_agent::model::{ClusterName, Epoch, SiteName};
use proptest::prelude::*;

fn vars() -> TemplateVars {
    let node = |site: &str, host: &str| TemplateNode {
        site: SiteName::new(site),
        host: host.to_owned(),
        port: 5432,
    };
    let upstream = |name: &str, backup| TemplateUpstream {
        name: name.to_owned(),
        host: format!("{name}.example"),
        port: 8080,
        backup,
    };
    TemplateVars {
        epoch: Epoch(7),
        cluster: ClusterName::new("shop"),
        site: SiteName::new("fra"),
        primary: node("ams", "db2"),
        standbys: vec![node("fra", "db1")],
        upstreams: BTreeMap::from([
            (
                "web".to_owned(),
                vec![upstream("one", false), upstream("two", true)],
            ),
            ("none".to_owned(), Vec::new()),
        ]),
    }
}

#[test]
fn template_sees_primary_standbys_upstreams_and_epoch() {
    let source = "\
# managed-by-agent epoch={{ epoch }} {{ cluster }} {{ site }}
upstream web {
  {% for server in upstreams.web %}
  server {{ server.host }}:{{ server.port }}{% if server.backup %} backup{% endif %};
  {% endfor %}
}
primary = {{ primary.host }}:{{ primary.port }} at {{ primary.site | upper }}
standbys = {% for node in standbys %}<{{ node.host }}>{% endfor %}.
{% if upstreams.none %}
not here
{% endif %}
local = {{ 'no' if primary.site != site }} {{ upstreams.web | length }}
";
    let text = "\
# managed-by-agent epoch=7 shop fra
upstream web {
  server one.example:8080;
  server two.example:8080 backup;
}
primary = db2:5432 at AMS
standbys = <db1>.
local = no 2
";
    assert_eq!(render(source, &vars()).as_deref(), Ok(text));
    assert_eq!(render("no end", &vars()).as_deref(), Ok("no end"));
}

#[test]
fn name_that_is_not_there_is_an_error() {
    for source in [
        "{{ primry.host }}",
        "{{ primary.hots }}",
        "{{ standbys[1].host }}",
        "{% for x in upstreams.wbe %}{% endfor %}",
        "{% if epohc %}{% endif %}",
        "{{ primary.hots | upper }}",
    ] {
        let result = render(&format!("\n{source}"), &vars());
        assert_eq!(
            result,
            Err(TemplateError::Undefined { line: 2 }),
            "{source}"
        );
    }
}

#[test]
fn what_is_no_template_is_an_error_with_its_line() {
    for source in [
        "{{",
        "{% if %}",
        "{% include 'x' %}",
        "{% macro a() %}{% endmacro %}",
    ] {
        let result = render(&format!("\n\n{source}"), &vars());
        assert!(
            matches!(result, Err(TemplateError::Syntax { line: 3, .. })),
            "{source} {result:?}"
        );
    }
    for source in [
        "{{ epoch | indent(99999999999) }}",
        "{{ 1 // 0 }}",
        "{{ primary.nope() }}",
    ] {
        let result = render(source, &vars());
        let failed = |error: &TemplateError| {
            matches!(
                error,
                TemplateError::Failed { line: 1, .. }
                    | TemplateError::Syntax { line: 1, .. }
                    | TemplateError::Undefined { line: 1 }
            )
        };
        assert!(result.as_ref().is_err_and(failed), "{source} {result:?}");
    }
}

#[test]
fn template_is_bounded_in_size_and_time() {
    let long = " ".repeat(SOURCE_MAX + 1);
    assert_eq!(render(&long, &vars()), Err(TemplateError::SourceTooLarge));
    let looped = |inside: &str| {
        let list = "1,".repeat(100);
        let four = format!("{{% for x in [{list}] %}}").repeat(4);
        format!("{four}{inside}{}", "{% endfor %}".repeat(4))
    };
    let result = render(&looped(""), &vars());
    assert!(
        matches!(result, Err(TemplateError::TooLong { .. })),
        "{result:?}"
    );
    let text = "x".repeat(OUTPUT_MAX / 1000);
    let result = render(&looped(&text), &vars());
    assert_eq!(result, Err(TemplateError::OutputTooLarge));
    let nested = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(render(&format!("{{{{ {nested} }}}}"), &vars()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_text_never_panics(source in "([{}%# a-z.|()\\[\\]\"0-9]|\\{\\{|\\}\\}|\\{%|%\\}|epoch|for ){0,40}") {
        drop(render(&source, &vars()));
    }
}
