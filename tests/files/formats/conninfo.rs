//! Fields of a connection string, compared with what tokio-postgres reads.

use failover_agent::effects::app_config::formats::conninfo::{ConninfoError, set};
use proptest::prelude::*;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::fuzzed;

const NAMES: [&str; 6] = [
    "user",
    "password",
    "dbname",
    "application_name",
    "host",
    "port",
];

/// How a field is written, and what it has unless it is host or port.
#[derive(Debug, Clone)]
struct Style {
    before: String,
    around: [String; 2],
    quoted: bool,
    value: String,
}

fn style() -> impl Strategy<Value = Style> {
    let blanks = "[ \t]{0,2}";
    let bare = "[a-zA-Z0-9é.,:/_%#;@-]{1,8}";
    let quoted = "[a-zA-Z0-9é.,:/_%#;@= \t-]{0,8}";
    let value = prop_oneof![
        bare.prop_map(|value| (false, value)),
        quoted.prop_map(|value| (true, value)),
    ];
    ("[ \t]{1,2}", blanks, blanks, value).prop_map(|(before, left, right, (quoted, value))| Style {
        before,
        around: [left, right],
        quoted,
        value,
    })
}

/// The fields in their order, with these values of host and port.
fn written(order: &[&str], styles: &[Style], host: &str, port: &str) -> String {
    let mut text = String::new();
    for (name, style) in order.iter().zip(styles) {
        let value = match *name {
            "host" => host,
            "port" => port,
            _ => &style.value,
        };
        let quote = if style.quoted { "'" } else { "" };
        let [left, right] = &style.around;
        text += &format!("{}{name}{left}={right}{quote}{value}{quote}", style.before);
    }
    text
}

/// One port for all hosts, or one for each.
fn hosts_and_ports() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let pairs = prop::collection::vec(("[a-z][a-z0-9.-]{0,6}", "[1-9][0-9]{0,3}"), 1..4);
    (pairs, any::<bool>()).prop_map(|(pairs, one_for_all)| {
        let (hosts, mut ports): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        if one_for_all {
            ports.truncate(1);
        }
        (hosts, ports)
    })
}

fn all_but_the_host(read: &Config) -> [Option<String>; 4] {
    [
        read.get_user().map(str::to_owned),
        read.get_password()
            .map(|password| String::from_utf8_lossy(password).into_owned()),
        read.get_dbname().map(str::to_owned),
        read.get_application_name().map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_its_fields_and_no_other_byte(
        order in Just(NAMES.to_vec()).prop_shuffle(),
        styles in prop::collection::vec(style(), NAMES.len()),
        (hosts, ports) in hosts_and_ports(),
        host in "[a-z0-9][a-z0-9.:_-]{0,8}",
        port in 1..=u16::MAX,
        end in "[ \t]{0,2}",
    ) {
        let (old_host, old_port) = (hosts.join(","), ports.join(","));
        let new_port = port.to_string();
        let with = |host: &str, port: &str| written(&order, &styles, host, port) + &end;
        let before = with(&old_host, &old_port);
        let after = with(&host, &new_port);
        let both = [("host", host.as_str()), ("port", new_port.as_str())];
        prop_assert_eq!(set(&before, &both), Ok(after.clone()), "{}", &before);
        prop_assert_eq!(set(&after, &both), Ok(after.clone()));
        let only_host = match ports.len() {
            1 => Ok(with(&host, &old_port)),
            _ => Err(ConninfoError::UnevenLists),
        };
        prop_assert_eq!(set(&before, &both[..1]), only_host);
        prop_assert_eq!(set(&before, &both[1..]), Ok(with(&old_host, &new_port)));
        fuzzed::conninfo::run(before.as_bytes());

        let old: Config = before.parse().unwrap();
        let new: Config = after.parse().unwrap();
        prop_assert_eq!(all_but_the_host(&new), all_but_the_host(&old));
        prop_assert_eq!(new.get_hosts(), [Host::Tcp(host)]);
        prop_assert_eq!(new.get_ports(), [port]);
    }

    #[test]
    fn what_only_looks_like_a_connection_string_is_edited_in_one_place_or_refused(
        text in "(host|port|hostaddr|=|'| |\\\\|,|[a-z0-9]{1,2}){0,16}",
    ) {
        fuzzed::conninfo::run(text.as_bytes());
    }
}
