//! Rendered files that see the healthy app servers, and follow them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::{self, MemberRole};
use failover_agent::effects::app_config::{
    Observed, follow, following_upstreams, generations, look, restore, try_templates,
};
use failover_agent::model::Epoch;
use failover_agent::model::outcome::FailureKind;
use failover_agent::runtime::app_templates;

use super::template::{TEMPLATE, rendered};
use super::{World, shell};
use crate::support::wait_until;

/// The follower waits for the lock for ten seconds.
const PATIENT: Duration = Duration::from_secs(8);

/// A world whose template lists the members of a group that the proxy's file serves.
pub(crate) fn with_upstream(template: &str) -> World {
    let mut world = rendered(template);
    let proxy = world.dir.path().join("proxy.conf");
    let settings = format!(
        r#"
[peer]
secret = "a secret of enough bytes"
[sites.fra]
address = "127.0.0.1:7401"
database = {{ data_dir = "/srv/fra" }}
[sites.ams]
address = "127.0.0.1:7402"
database = {{ port = 5433, data_dir = "/srv/ams" }}
[[upstream]]
name = "shop-app"
format = "nginx"
path = "{}"
members = [
  {{ address = "10.0.0.1:80" }}, {{ address = "[::1]:81" }},
  {{ address = "10.0.0.3:80", backup = true }},
]
[[upstream]]
name = "elsewhere"
site = "ams"
format = "nginx"
path = "/nowhere"
members = [{{ address = "10.1.0.1:80" }}]
"#,
        proxy.display()
    );
    let file = Path::new("agent.toml");
    let loaded = config::parse(&settings, file, Some("fra"), MemberRole::Agent, &|_| None);
    let config = loaded.unwrap().config;
    let own = config.own_site().unwrap();
    world.surroundings = Arc::new(app_templates::surroundings(&config, own));
    world
}

pub(crate) const MEMBERS: &str = "{% for it in upstreams['shop-app'] %}\n\
                       {{ it.name }} {{ it.host }} {{ it.port }}{{ ' spare' if it.backup }}\n\
                       {% endfor %}\n";

#[tokio::test]
async fn healthy_upstreams_are_those_to_which_the_proxys_file_sends_requests() {
    let world = with_upstream(MEMBERS);
    let all = "10.0.0.1:80 10.0.0.1 80\n[::1]:81 ::1 81\n10.0.0.3:80 10.0.0.3 80 spare\n";
    // The proxy has no file yet: nobody is known to be down.
    world.moves_to("fra", "db1", 1).await.unwrap();
    assert_eq!(world.text(), all);
    assert_eq!(
        following_upstreams(&world.target).await.unwrap(),
        [world.path()]
    );

    let proxy = world.dir.path().join("proxy.conf");
    let block = "# agent: upstream shop-app begins\nupstream shop-app {\nserver 10.0.0.1:80 down;\n\
                 server [::1]:81;\nserver 10.0.0.3:80 backup;\n}\n\
                 # agent: upstream shop-app ends\n";
    fs::write(&proxy, block).unwrap();
    assert!(matches!(
        world.observe("db1", 1).await.unwrap(),
        Observed::Needed { .. }
    ));
    world.moves_to("fra", "db1", 1).await.unwrap();
    let left = all.split_once('\n').unwrap().1;
    assert_eq!(world.text(), left);
}

#[tokio::test]
async fn proxys_file_that_says_nothing_of_the_members_hides_nobody_and_holds_up_no_change() {
    let world = with_upstream("{{ primary.host }} {{ upstreams['shop-app'][0].host }}\n");
    let proxy = world.dir.path().join("proxy.conf");
    let block = |servers: &str| {
        let (begin, end) = (
            "# agent: upstream shop-app begins",
            "# agent: upstream shop-app ends",
        );
        format!("{begin}\nupstream shop-app {{\n{servers}\n}}\n{end}\n")
    };
    let says = [
        // The members of the settings before these.
        block("server 10.9.9.1:80;\nserver 10.9.9.2:80;"),
        block("server 10.0.0.1:80 down;"),
        // Not ours to read.
        "server { }\n".to_owned(),
        "# agent: upstream shop-app begins\n".to_owned(),
    ];
    for (epoch, says) in (1..).zip(says) {
        fs::write(&proxy, &says).unwrap();
        let host = format!("db{epoch}");
        world.moves_to("fra", &host, epoch).await.unwrap();
        assert_eq!(world.text(), format!("{host} 10.0.0.1\n"), "{says}");
    }
    // Who is named and takes requests is enough.
    fs::write(&proxy, block("server [::1]:81;")).unwrap();
    world.moves_to("fra", "db", 9).await.unwrap();
    assert_eq!(world.text(), "db ::1\n");
}

/// Whether the agent would render the files by itself now.
async fn would_follow(world: &World, epoch: u64) -> bool {
    let following = following_upstreams(&world.target).await.unwrap();
    let looked = look(&world.change("db1", epoch)).await.unwrap();
    looked.only_upstreams(&following)
}

/// What another hand left is kept, though an upstream's rendering is due.
async fn left_alone(world: &World, epoch: u64, text: &str) {
    let followed = follow(&world.change("db1", epoch)).await.unwrap();
    assert!(!followed.changed, "{followed:?}");
    assert!(followed.note.contains("another hand"), "{followed:?}");
    assert_eq!(world.text(), text);
}

#[tokio::test]
async fn files_follow_upstreams_by_themselves_only_as_the_agent_left_them() {
    let mut world = with_upstream(MEMBERS);
    let env = world.dir.path().join("app.env");
    fs::write(&env, super::BEFORE).unwrap();
    world.target.files.push(super::file(env));
    sends_to(&world, "server 10.0.0.1:80;");
    assert!(!would_follow(&world, 1).await, "never written");
    world.moves_to("fra", "db1", 1).await.unwrap();
    assert!(!would_follow(&world, 1).await, "nothing differs");
    sends_to(&world, "server [::1]:81;");
    assert!(would_follow(&world, 1).await);
    assert!(!would_follow(&world, 2).await, "a plan brings a new epoch");

    // Another file of the app is to name another primary.
    let following = following_upstreams(&world.target).await.unwrap();
    let looked = look(&world.change("db7", 1)).await.unwrap();
    assert!(looked.ours && !looked.only_upstreams(&following));
    // Somebody edited the very file.
    let text = world.text();
    fs::write(world.path(), format!("{text}by hand\n")).unwrap();
    assert!(!would_follow(&world, 1).await);
    left_alone(&world, 1, &format!("{text}by hand\n")).await;
    fs::write(world.path(), &text).unwrap();
    left_alone(&world, 2, &text).await;
    let followed = follow(&world.change("db1", 1)).await.unwrap();
    assert!(followed.changed, "{followed:?}");
    assert_eq!(world.text(), "[::1]:81 ::1 81\n");

    // Somebody chose an older version, until the next change that a plan or a person wants.
    world.moves_to("fra", "db1", 1).await.unwrap();
    let newest = generations(&world.target, &world.state).await.unwrap();
    let newest = newest.last().unwrap().number;
    restore(&world.target, newest, Epoch(1), &world.state)
        .await
        .unwrap();
    assert!(!would_follow(&world, 1).await, "restored");
    // Whoever had looked before that, and waited for its turn, leaves it alone, too.
    let restored = world.text();
    left_alone(&world, 1, &restored).await;
    world.moves_to("fra", "db1", 1).await.unwrap();
    sends_to(&world, "server 10.0.0.3:80 backup;");
    assert!(would_follow(&world, 1).await);
    // A rendering that the app did not take is left alone.
    world.target.verify = shell(&format!("! grep -q 10.0.0.3 '{}'", world.path().display()));
    world.target.verify_timeout = Duration::from_millis(300);
    world.moves_to("fra", "db1", 1).await.unwrap_err();
    assert!(!would_follow(&world, 1).await, "failed a moment ago");
    sends_to(&world, "server 10.0.0.1:80;");
    assert!(
        would_follow(&world, 1).await,
        "another text is tried at once"
    );
}

/// What the agent's proxy file says of the group.
fn sends_to(world: &World, members: &str) {
    let text = format!(
        "# agent: upstream shop-app begins\nupstream shop-app {{\n{members}\n}}\n\
         # agent: upstream shop-app ends\n"
    );
    fs::write(world.dir.path().join("proxy.conf"), text).unwrap();
}

#[tokio::test]
async fn reload_of_a_follower_that_failed_is_tried_again() {
    let mut world = with_upstream(MEMBERS);
    sends_to(&world, "server 10.0.0.1:80;");
    world.moves_to("fra", "db1", 1).await.unwrap();
    let told = world.dir.path().join("told");
    fs::create_dir(&told).unwrap();
    world.target.reload = shell(&format!("rmdir '{}'", told.display()));
    fs::remove_dir(&told).unwrap();
    sends_to(&world, "server [::1]:81;");
    follow(&world.change("db1", 1)).await.unwrap_err();
    assert_eq!(
        world.text(),
        "[::1]:81 ::1 81\n",
        "no proof: the file stays"
    );
    assert!(would_follow(&world, 1).await, "the app does not know it");

    fs::create_dir(&told).unwrap();
    follow(&world.change("db1", 1)).await.unwrap();
    assert!(!told.exists(), "the app was told");
    assert!(!would_follow(&world, 1).await, "nothing is left to do");
}

/// How often this process has the target's lock open.
fn lock_opened(lock: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let paths = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    paths.filter(|path| path == lock).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_that_comes_while_a_follower_waits_for_its_turn_is_seen() {
    let world = with_upstream(MEMBERS);
    sends_to(&world, "server 10.0.0.1:80;");
    world.moves_to("fra", "db1", 1).await.unwrap();
    sends_to(&world, "server [::1]:81;");
    let target = world.state.join("app_config").join(&world.target.name);
    let lock = fs::canonicalize(target.join("lock")).unwrap();
    let held = fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    let change = world.change("db1", 1);
    let by_hand = async {
        wait_until("the follower waits for its turn", PATIENT, async || {
            lock_opened(&lock) == 2
        })
        .await;
        fs::write(world.path(), "by hand\n").unwrap();
        drop(held);
    };
    let (followed, ()) = tokio::join!(follow(&change), by_hand);
    let followed = followed.unwrap();
    assert!(followed.note.contains("another hand"), "{followed:?}");
    assert_eq!(world.text(), "by hand\n");
}

#[tokio::test]
async fn groups_of_the_other_site_are_not_there_and_whoever_names_none_reads_none() {
    let world = with_upstream("{{ upstreams.elsewhere[0].host }}\n");
    let failure = world.moves_to("fra", "db1", 1).await.unwrap_err();
    assert!(failure.what.contains("line 1"), "{failure}");
    fs::write(world.template(), TEMPLATE).unwrap();
    fs::write(world.dir.path().join("proxy.conf"), "not ours\n").unwrap();
    world.moves_to("fra", "127.0.0.1", 1).await.unwrap();
    assert!(following_upstreams(&world.target).await.unwrap().is_empty());
}

#[tokio::test]
async fn template_that_is_being_written_anew_empties_no_file() {
    let world = rendered(TEMPLATE);
    world.moves_to("fra", "db1", 1).await.unwrap();
    let before = world.text();
    for cut in ["", "\n", "  \n\t\n", "{% if false %}\na\n{% endif %}\n"] {
        fs::write(world.template(), cut).unwrap();
        let failure = world.moves_to("ams", "db2", 2).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
        assert!(failure.what.contains("empty"), "{failure}");
        assert_eq!(world.text(), before);
        let tried = try_templates(&world.target, &world.surroundings).await;
        assert_eq!(tried.unwrap().len(), 1, "the trial finds it, too: {cut:?}");
    }
}
