//! Host and port inside a URL, compared with what tokio-postgres reads.

use failover_agent::effects::app_config::url::replace_authority;
use proptest::prelude::*;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::fuzzed;

/// User and password with everything that needs no escape there, with escapes, and with what a
/// shell puts in; up to and with the `@`.
fn user() -> impl Strategy<Value = String> {
    let name = "([a-z0-9._~!$&'()*+;=-]|%[0-9A-F]{2}){0,6}";
    let password = "([a-z0-9._~!$&'()*+,;=:-]|%[0-9A-F]{2}){0,8}";
    prop_oneof![
        Just(String::new()),
        name.prop_map(|name| format!("{name}@")),
        (name, password).prop_map(|(name, password)| format!("{name}:{password}@")),
        "[a-z]{1,4}:\\$\\{[A-Z_]{1,6}\\}@",
    ]
}

/// One to three hosts, some with ports.
fn hosts() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z][a-z0-9.-]{0,8}",
        "[A-Z_]{1,5}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
        "\\[fd00::[0-9a-f]{1,4}\\]",
        "\\[fe80::[0-9a-f]{1,4}%25eth0\\]",
        "%2F[a-z]{1,5}%2F[a-z]{1,5}",
    ];
    let port = prop_oneof![Just(String::new()), ":[0-9]{0,4}"];
    let one = (host, port).prop_map(|(host, port)| host + &port);
    prop::collection::vec(one, 1..4).prop_map(|hosts| hosts.join(","))
}

fn part(text: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), text]
}

/// Path, query and fragment; no letters of which `host` or `port` could be made.
fn rest() -> impl Strategy<Value = String> {
    let path = part("/[a-m0-9%._~-]{0,8}");
    let query = part("\\?[a-m0-9=&%.~/?:,-]{0,12}");
    let fragment = part("#[a-m0-9/?:,%]{0,6}");
    (path, query, fragment).prop_map(|(path, query, fragment)| path + &query + &fragment)
}

/// A new host, as it is given and as it must be written.
fn new_host() -> impl Strategy<Value = (String, String)> {
    let same = |host: String| (host.clone(), host);
    let pair = |given: &str, written: &str| Just((given.to_owned(), written.to_owned()));
    prop_oneof![
        "[a-z][a-z0-9._-]{0,8}".prop_map(same),
        "10\\.0\\.0\\.[0-9]{1,2}".prop_map(same),
        pair("fd00::2", "[fd00::2]"),
        pair("[fd00::2]", "[fd00::2]"),
    ]
}

/// What somebody else's reader takes a URL for, without host and port.
fn all_but_the_host(read: &Config) -> [Option<String>; 4] {
    [
        read.get_user().map(str::to_owned),
        read.get_password()
            .map(|password| String::from_utf8_lossy(password).into_owned()),
        read.get_dbname().map(str::to_owned),
        read.get_application_name().map(str::to_owned),
    ]
}

fn read(text: &str) -> Result<Config, tokio_postgres::Error> {
    text.parse()
}

#[test]
fn the_other_reader_sees_what_the_property_compares() {
    let url = "postgres://u%40:p%2Fw@[fd00::1],db1:6432/d%20b?application_name=x";
    let expected = ["u@", "p/w", "d b", "x"].map(|text| Some(text.to_owned()));
    assert_eq!(all_but_the_host(&read(url).unwrap()), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_host_and_port_and_no_other_byte(
        scheme in "postgres|postgresql|postgresql\\+asyncpg|jdbc:postgresql|mysql",
        user in user(),
        hosts in hosts(),
        mut rest in rest(),
        at in any::<bool>(),
        (host, written) in new_host(),
        port in 1..=u16::MAX,
    ) {
        // Without a user part, an @ behind the host may end one.
        if at && !user.is_empty() && !rest.is_empty() {
            rest.push('@');
        }
        let before = format!("{scheme}://{user}{hosts}{rest}");
        let expected = format!("{scheme}://{user}{written}:{port}{rest}");
        let after = replace_authority(&before, &host, port);
        prop_assert_eq!(after.as_deref(), Ok(expected.as_str()), "{}", &before);
        let again = replace_authority(&expected, &host, port);
        prop_assert_eq!(again.as_deref(), Ok(expected.as_str()));
        fuzzed::url::run(before.as_bytes());
        // The other reader knows no fragments, and takes one for a part of the port.
        let readable = scheme.starts_with("postgres") && !rest.starts_with('#');
        if let (true, Ok(old)) = (readable, read(&before)) {
            let new = read(&expected).unwrap();
            prop_assert_eq!(all_but_the_host(&new), all_but_the_host(&old));
            let bare = written.trim_matches(['[', ']']).to_owned();
            prop_assert_eq!(new.get_hosts(), [Host::Tcp(bare)]);
            prop_assert_eq!(new.get_ports(), [port]);
        }
    }

    #[test]
    fn what_only_looks_like_a_url_is_edited_in_one_place_or_refused(
        text in "(postgres|jdbc:postgresql|[a-z:]{0,4})://[a-h0-9:@/?#\\[\\],.%={}$-]{0,24}",
    ) {
        fuzzed::url::run(text.as_bytes());
    }
}
