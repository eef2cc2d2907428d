//! Files that are rendered as a whole, and the ready-made targets of groups of app servers.

use super::{EXAMPLE, agent, example_dir};

/// What is wrong with the example once this stands at its end: the first problem.
fn first_problem(text: &str) -> Option<String> {
    let dir = example_dir();
    let loaded = agent(&format!("{EXAMPLE}\n{text}"), dir.path());
    let problems = loaded.err()?;
    let first = problems.0.first()?;
    Some(format!("{}: {}", first.key, first.what))
}

fn check(cases: &[(String, Option<&str>)]) {
    for (text, told) in cases {
        let found = first_problem(text);
        let same = match (&found, told) {
            (Some(found), Some(told)) => found.starts_with(told),
            (found, told) => found.is_none() && told.is_none(),
        };
        assert!(same, "{found:?} for {told:?} of {text}");
    }
}

#[test]
fn file_is_rendered_or_edited_and_never_its_own_template() {
    let app = |keys: &str| format!("[[app_config]]\nname = \"two\"\npath = \"/a/x\"\n{keys}");
    check(&[
        (app("template = \"/a/x.j2\"\n"), None),
        (app("template = \"x.j2\"\nformat = \"toml\"\n"), None),
        (
            app("template = \"/a/x.j2\"\nset = [{ key = \"A\", url = true }]\n"),
            Some("app_config[two].set: template is given as well"),
        ),
        (
            app("template = \"/a/x\"\n"),
            Some("app_config[two].template: the file would be its own template"),
        ),
        (app(""), Some("app_config[two].set: missing")),
        (
            "[[app_config]]\nname = \"two\"\ntemplate = \"/a/x.j2\"\n[[app_config.file]]\n\
             path = \"/a/x\"\ntemplate = \"/a/x.j2\"\n"
                .to_owned(),
            Some("app_config[two].template: file is given as well"),
        ),
    ]);
}

#[test]
fn ready_made_target_of_a_group_is_that_of_its_proxy_and_reads_its_file() {
    let group = |format: &str, keys: &str| {
        format!(
            "[[upstream]]\nname = \"two\"\nformat = \"{format}\"\npath = \"/a/two.cfg\"\n\
             members = [{{ address = \"10.0.0.1:80\" }}]\n{keys}"
        )
    };
    let haproxy = "[upstream.haproxy]\nconfig = [\"/a/main.cfg\", \"/a/two.cfg\"]\n";
    check(&[
        (group("nginx", "[upstream.nginx]\n"), None),
        (group("haproxy", haproxy), None),
        (
            group("nginx", haproxy),
            Some("upstream[two].haproxy: the file's format is \"nginx\""),
        ),
        (
            group("haproxy", "[upstream.haproxy]\n"),
            Some("upstream[two].path: the files of haproxy.config do not have this one"),
        ),
        (
            group("nginx", "reload = [\"true\"]\n[upstream.nginx]\n"),
            Some("upstream[two].reload: a ready-made target does this itself"),
        ),
        (
            group("nginx", "[upstream.pgbouncer]\n"),
            Some("upstream[two].pgbouncer: unknown key"),
        ),
    ]);
}
