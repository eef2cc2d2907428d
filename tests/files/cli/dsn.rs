//! `agent dsn`.

use super::{Settings, printed, refused};

/// Needs neither secrets nor a site; a developer's copy of the file will do.
#[test]
fn dsn_names_both_nodes_and_asks_for_the_primary() {
    let sites = "[sites.fra]\naddress = \"[2001:db8::1]:7400\"\n\
                 [sites.fra.database]\ndata_dir = \"/srv/fra\"\n\
                 [sites.ams]\naddress = \"10.1.0.1:7400\"\n\
                 [sites.ams.database]\nhost = \"db.ams.example\"\nport = 6432\n\
                 data_dir = \"/srv/ams\"\n[peer]\nsecret_file = \"/not/mine/to/read\"\n";
    let settings = Settings::write(sites);
    let dsn = |more: &[&str]| {
        let words = ["dsn", "--config", settings.path()];
        let words: Vec<_> = words.iter().chain(more).copied().collect();
        printed(&words)
    };
    assert_eq!(
        dsn(&["--dbname", "shop 2", "--user", "o'neil@x"]),
        "postgresql://o%27neil%40x@db.ams.example:6432,[2001:db8::1]:5432/shop%202\
         ?target_session_attrs=read-write&connect_timeout=3\n"
    );
    assert_eq!(
        dsn(&[
            "--form",
            "keywords",
            "--user",
            "o'neil",
            "--read-only",
            "--connect-timeout",
            "5"
        ]),
        "host=db.ams.example,2001:db8::1 port=6432,5432 user='o\\'neil' \
         target_session_attrs=prefer-standby connect_timeout=5\n"
    );
    let broken = Settings::write(&sites.replace("6432", "66432"));
    let (code, complaint) = refused(&["dsn", "--config", broken.path()]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("sites.ams.database.port"), "{complaint}");
}
