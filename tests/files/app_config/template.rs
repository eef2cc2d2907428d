//! Files that are rendered as a whole, by the same way into their place as all others.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use failover_agent::config::settings::{AppConfigFile, AppConfigTemplate};
use failover_agent::effects::app_config::{
    Observed, Surroundings, generations, look, restore, try_templates,
};
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::template::TemplateNode;
use failover_agent::model::{ClusterName, Epoch, SiteName};

use super::followed::{MEMBERS, with_upstream};
use super::{World, shell};

pub(crate) const TEMPLATE: &str = "\
[database]
write = {{ primary.host }}:{{ primary.port }}
{% for node in standbys %}
read = {{ node.host }}:{{ node.port }}
{% endfor %}
site = {{ site }} of {{ cluster }}
";

/// [`TEMPLATE`] once this one is the primary.
pub(crate) fn text(primary: &str, standby: &str) -> String {
    format!("[database]\nwrite = {primary}:5433\nread = {standby}:5433\nsite = fra of shop\n")
}

/// Two sites without app servers.
pub(crate) fn surroundings() -> Arc<Surroundings> {
    let node = |site: &str, host: &str| TemplateNode {
        site: SiteName::new(site),
        host: host.to_owned(),
        port: 5433,
    };
    Arc::new(Surroundings {
        cluster: ClusterName::new("shop"),
        site: SiteName::new("fra"),
        nodes: vec![node("fra", "db1"), node("ams", "db2")],
        upstreams: Vec::new(),
    })
}

/// A world whose one file is rendered from this.
pub(crate) fn rendered(template: &str) -> World {
    let mut world = World::new("made by hand\n");
    let path = world.dir.path().join("search.conf");
    let from = world.dir.path().join("search.conf.j2");
    fs::write(&path, "made by hand\n").unwrap();
    fs::write(&from, template).unwrap();
    world.target.files = vec![AppConfigFile {
        path,
        format: None,
        edits: Vec::new(),
        template: Some(AppConfigTemplate {
            path: from,
            key: "app_config.web.template".to_owned(),
            line: Some(7),
        }),
    }];
    world
}

impl World {
    pub(crate) fn template(&self) -> PathBuf {
        self.dir.path().join("search.conf.j2")
    }

    /// At the other site, with what its node is called.
    pub(crate) async fn moves_to(
        &self,
        site: &str,
        host: &str,
        epoch: u64,
    ) -> Result<String, Failure> {
        let mut change = self.change(host, epoch);
        change.primary.as_mut().unwrap().site = SiteName::new(site);
        let applied = failover_agent::effects::app_config::apply(&change).await;
        applied.map(|applied| applied.note).map_err(Failure::from)
    }
}

#[tokio::test]
async fn whole_file_follows_the_primary_and_is_not_written_again_when_it_is_right() {
    let mut world = rendered(TEMPLATE);
    world.reload_with("true");
    let looked = look(&world.change("db1", 1)).await.unwrap();
    assert_eq!(looked.files[0].1, ["lines 1 to 4"]);
    assert!(!looked.edited);
    world.moves_to("fra", "db1", 1).await.unwrap();
    assert_eq!(world.text(), text("db1", "db2"));
    assert_eq!(
        world.observe("db1", 1).await.unwrap(),
        Observed::AlreadyDone
    );
    let inode = fs::metadata(world.path()).unwrap().ino();
    // Neither again nor under a new epoch, which the text does not name.
    for epoch in [1, 2] {
        world.moves_to("fra", "db1", epoch).await.unwrap();
    }
    assert_eq!(fs::metadata(world.path()).unwrap().ino(), inode);
    assert_eq!(world.reloads(), 1);

    let note = world.moves_to("ams", "db2", 3).await.unwrap();
    assert!(note.contains("changed lines 2 to 3"), "{note}");
    assert_eq!(world.text(), text("db2", "db1"));
    assert_eq!(world.reloads(), 2);
    // S8: only the memory knows the epoch of this file.
    let stale = world.moves_to("fra", "db1", 2).await.unwrap_err();
    assert_eq!(stale.kind, FailureKind::Permanent);
    assert_eq!(world.text(), text("db2", "db1"));
}

#[tokio::test]
async fn s8_epoch_stands_on_top_where_the_format_is_named_and_a_lower_one_is_refused() {
    let mut world = rendered(TEMPLATE);
    world.target.files[0].format = Some("ini".to_owned());
    fs::write(world.path(), "").unwrap();
    world.reload_with("true");
    world.moves_to("fra", "db1", 4).await.unwrap();
    let first = format!("; managed-by-agent epoch=4\n{}", text("db1", "db2"));
    assert_eq!(world.text(), first);
    world.moves_to("fra", "db1", 5).await.unwrap();
    assert_eq!(world.text(), first.replace("epoch=4", "epoch=5"));
    assert_eq!(world.reloads(), 1, "a new epoch is no new value");
    fs::remove_dir_all(&world.state).unwrap();
    let stale = world.moves_to("ams", "db2", 4).await.unwrap_err();
    assert!(stale.what.contains("epoch 5"), "{stale}");
}

#[tokio::test]
async fn file_that_is_not_there_is_made_with_the_mode_of_its_template() {
    let world = rendered(TEMPLATE);
    fs::remove_file(world.path()).unwrap();
    fs::set_permissions(world.template(), fs::Permissions::from_mode(0o640)).unwrap();
    let looked = look(&world.change("db1", 1)).await.unwrap();
    assert!(matches!(looked.observed, Observed::Needed { .. }));
    assert!(!world.path().exists(), "to look changes nothing");
    world.moves_to("fra", "db1", 1).await.unwrap();
    assert_eq!(world.text(), text("db1", "db2"));
    let mode = fs::metadata(world.path()).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o640);
}

#[tokio::test]
async fn file_that_was_not_there_is_not_there_after_a_change_that_failed() {
    let mut world = rendered(TEMPLATE);
    fs::remove_file(world.path()).unwrap();
    fs::create_dir(&world.state).unwrap();
    // A directory in which a proxy or an app reads all there is.
    let listed = || fs::read_dir(world.dir.path()).unwrap().count();
    let before = listed();
    let path = world.path().display().to_string();
    // It is not there for whoever is asked before it takes its place.
    world.target.validate = shell(&format!("test ! -e '{path}' && false"));
    world.moves_to("fra", "db1", 1).await.unwrap_err();
    assert_eq!((world.path().exists(), listed()), (false, before));
    // It was there, and the app did not take it.
    world.target.validate = shell(&format!("test ! -e '{path}'"));
    world.target.verify = shell(&format!("grep -q 'write = db2' '{path}'"));
    world.target.verify_timeout = std::time::Duration::from_millis(300);
    let failure = world.moves_to("fra", "db1", 1).await.unwrap_err();
    assert!(
        failure.what.contains("the previous files are back"),
        "{failure}"
    );
    assert_eq!((world.path().exists(), listed()), (false, before));
    let looked = look(&world.change("db1", 1)).await.unwrap();
    assert!(looked.failed.is_some() && !looked.edited);
    world.moves_to("ams", "db2", 2).await.unwrap();
    assert_eq!(world.text(), text("db2", "db1"));
}

#[tokio::test]
async fn template_that_nobody_may_write_makes_a_file_like_itself() {
    let world = rendered(TEMPLATE);
    fs::remove_file(world.path()).unwrap();
    fs::set_permissions(world.template(), fs::Permissions::from_mode(0o444)).unwrap();
    world.moves_to("fra", "db1", 1).await.unwrap();
    assert_eq!(fs::metadata(world.path()).unwrap().mode() & 0o777, 0o444);
}

/// Breaks a template.
type Break<'a> = &'a dyn Fn();

#[tokio::test]
async fn template_that_cannot_be_rendered_keeps_the_file_and_says_where() {
    let world = rendered(TEMPLATE);
    world.moves_to("fra", "db1", 1).await.unwrap();
    let (before, absent) = (world.text(), world.dir.path().join("absent"));
    let template = world.template();
    let write = |text: &[u8]| fs::write(&template, text).unwrap();
    let breaks: [(Break<'_>, &str); 5] = [
        (&|| write(b"a\n{{ primary.hots }}\n"), "line 2"),
        (&|| write(b"a\nb\n{% if %}\n"), "line 3"),
        (&|| write(b"\xff\n"), "UTF-8"),
        (
            &|| write(b"{% for a in [1,2] * 9 %}{{ a }}{% endfor %}{{ nothing }}"),
            "line 1",
        ),
        (&|| fs::remove_file(&template).unwrap(), "search.conf.j2"),
    ];
    for (breaks, word) in breaks {
        breaks();
        let failure = world.moves_to("ams", "db2", 2).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
        assert!(failure.what.contains(word), "{word} in {failure}");
        assert!(failure.what.starts_with("app config web: "), "{failure}");
        assert_eq!(world.text(), before);
    }
    // Nothing is made for nothing.
    fs::rename(world.path(), &absent).unwrap();
    world.moves_to("ams", "db2", 2).await.unwrap_err();
    assert!(!world.path().exists());
    fs::rename(&absent, world.path()).unwrap();
    fs::write(&template, TEMPLATE).unwrap();
    world.moves_to("ams", "db2", 2).await.unwrap();
    assert_eq!(world.text(), text("db2", "db1"));
}

#[tokio::test]
async fn app_that_does_not_take_the_rendered_file_gets_the_previous_one_back() {
    let mut world = rendered(TEMPLATE);
    world.moves_to("fra", "db1", 1).await.unwrap();
    let script = format!("grep -q 'write = db1' '{}'", world.path().display());
    world.target.verify = shell(&script);
    world.target.verify_timeout = std::time::Duration::from_millis(300);
    let failure = world.moves_to("ams", "db2", 2).await.unwrap_err();
    assert!(failure.what.contains("the previous files are back"));
    assert_eq!(world.text(), text("db1", "db2"));
}

#[tokio::test]
async fn edit_by_hand_is_seen_and_an_older_version_comes_back() {
    let world = rendered(TEMPLATE);
    world.moves_to("fra", "db1", 1).await.unwrap();
    world.moves_to("ams", "db2", 2).await.unwrap();
    let edited = world.text().replace("site = fra", "site = here");
    fs::write(world.path(), edited).unwrap();
    let mut change = world.change("db2", 2);
    change.primary.as_mut().unwrap().site = SiteName::new("ams");
    let looked = look(&change).await.unwrap();
    assert!(looked.edited);
    assert_eq!(looked.files[0].1, ["line 4"]);
    let kept = generations(&world.target, &world.state).await.unwrap();
    let newest = kept.last().unwrap().number;
    let restored = restore(&world.target, newest, Epoch(3), &world.state).await;
    assert!(restored.unwrap().changed);
    assert_eq!(world.text(), text("db1", "db2"));
}

#[tokio::test]
async fn version_in_which_the_file_was_not_there_is_not_brought_back_as_an_empty_file() {
    let world = rendered(TEMPLATE);
    fs::remove_file(world.path()).unwrap();
    world.moves_to("fra", "db1", 1).await.unwrap();
    let before = world.text();
    let kept = generations(&world.target, &world.state).await.unwrap();
    let refused = restore(&world.target, kept[0].number, Epoch(1), &world.state).await;
    let failure = Failure::from(refused.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.what.contains("was not there"), "{failure}");
    assert!(failure.to_string().contains("by hand"), "{failure}");
    assert_eq!(world.text(), before);
}

#[tokio::test]
async fn trial_finds_what_only_one_of_the_sites_would_meet_and_writes_nothing() {
    let world = with_upstream(MEMBERS);
    let tried = async || {
        let tried = try_templates(&world.target, &world.surroundings).await;
        let found = tried.unwrap().into_iter();
        let found = found.map(|(template, error)| (template, Failure::from(error).to_string()));
        found.collect::<Vec<_>>()
    };
    assert!(tried().await.is_empty());
    let only_at_ams = "a\n{% if primary.site == 'ams' %}\n{{ primary.adress }}\n{% endif %}\n";
    fs::write(world.template(), only_at_ams).unwrap();
    let found = tried().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.line, Some(7));
    assert!(found[0].1.contains("line 3"), "{found:?}");
    assert_eq!(world.text(), "made by hand\n");
}

#[tokio::test]
async fn trial_finds_a_text_that_is_not_of_the_format_that_is_named() {
    let mut world = rendered("[section\n");
    world.target.files[0].format = Some("ini".to_owned());
    let tried = try_templates(&world.target, &world.surroundings).await;
    let why = Failure::from(tried.unwrap().remove(0).1).to_string();
    assert!(why.contains("is not ini"), "{why}");
}
