//! `[app_config.nginx]` and its like: the program that reads the files of an app config.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Refusal, quoted};
use super::reader::Table;
use super::settings::{
    ComposeTarget, HaproxyTarget, KubectlTarget, NginxTarget, PauseExpired, PgbouncerTarget,
    ProxyFormat, SystemdTarget, TargetSettings,
};
use super::{MemberRole, defaults, keys, secret_source, syntax};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// A kind of `effects::app_config::targets`: its table's name and keys, and how it is read.
struct Kind(&'static str, &'static keys::Section, Read);

type Read = fn(&Table<'_>, MemberRole) -> Option<TargetSettings>;

/// What may read the files of an app.
const APPS: [Kind; 6] = [
    Kind("nginx", &keys::APP_CONFIG_NGINX, nginx),
    Kind("haproxy", &keys::APP_CONFIG_HAPROXY, haproxy),
    Kind("pgbouncer", &keys::APP_CONFIG_PGBOUNCER, pgbouncer),
    Kind("systemd", &keys::APP_CONFIG_SYSTEMD, systemd),
    Kind("compose", &keys::APP_CONFIG_COMPOSE, compose),
    Kind("kubectl", &keys::APP_CONFIG_KUBECTL, kubectl),
];

/// What may read the file of a group of app servers.
const PROXIES: [Kind; 2] = [
    Kind("nginx", &keys::UPSTREAM_NGINX, nginx),
    Kind("haproxy", &keys::UPSTREAM_HAPROXY, haproxy),
];

/// The ready-made target of an app config, if it names one that can be read.
pub(super) fn of_app(table: &Table<'_>, role: MemberRole) -> Option<TargetSettings> {
    read(table, &APPS, role)
}

/// The ready-made target of a group whose file is in this proxy's language, if it names one that
/// can be read. None has a secret, so it does not matter who reads.
pub(super) fn of_upstream(table: &Table<'_>, format: ProxyFormat) -> Option<TargetSettings> {
    let other = PROXIES.iter().filter(|kind| kind.0 != format.name());
    for Kind(name, ..) in other {
        let why = format!("the file's format is {}", quoted(format.name()));
        table.refuse_keys(&[name], &why);
    }
    read(table, &PROXIES, MemberRole::Agent)
}

fn read(table: &Table<'_>, kinds: &[Kind], role: MemberRole) -> Option<TargetSettings> {
    let mut read = None;
    let mut first: Option<&str> = None;
    for Kind(name, section, of_kind) in kinds {
        if !table.has(name) {
            continue;
        }
        if let Some(first) = first {
            let refusal = Refusal::new(format!("{first} is given as well"));
            table.error(name, refusal.hint("one program reads one app config"));
        }
        first = first.or(Some(name));
        let settings = table.table(name, section);
        read = settings.and_then(|settings| of_kind(&settings, role));
    }
    read
}

fn nginx(table: &Table<'_>, _: MemberRole) -> Option<TargetSettings> {
    let verify_url = table.parsed("verify_url", |text| {
        syntax::url(text).map(|_url| text.to_owned())
    });
    if !table.has("verify_url") {
        table.refuse_keys(&["verify_text"], "has no meaning without verify_url");
    }
    Some(TargetSettings::Nginx(NginxTarget {
        program: program(table, defaults::NGINX_PROGRAM)?,
        config: path(table, "config", defaults::NGINX_CONFIG)?,
        pid_file: path(table, "pid_file", defaults::NGINX_PID_FILE)?,
        error_log: path(table, "error_log", defaults::NGINX_ERROR_LOG)?,
        verify_url,
        verify_text: table.text("verify_text").map(str::to_owned),
    }))
}

fn haproxy(table: &Table<'_>, _: MemberRole) -> Option<TargetSettings> {
    let config = match table.has("config") {
        true => table.texts("config").map(|paths| {
            let paths = paths.into_iter();
            paths.map(|(path, _)| table.reader.path(path)).collect()
        }),
        false => Some(vec![PathBuf::from(defaults::HAPROXY_CONFIG)]),
    };
    Some(TargetSettings::Haproxy(HaproxyTarget {
        program: program(table, defaults::HAPROXY_PROGRAM)?,
        config: config?,
        socket: path(table, "socket", defaults::HAPROXY_SOCKET)?,
        pid_file: path(table, "pid_file", defaults::HAPROXY_PID_FILE)?,
        state_file: table.path("state_file"),
    }))
}

fn pgbouncer(table: &Table<'_>, role: MemberRole) -> Option<TargetSettings> {
    table.need("user", "one of PgBouncer's admin_users");
    table.need("databases", "which of its databases move, e.g. [\"app\"]");
    let address = match table.has("address") {
        true => table.parsed("address", console_address),
        false => Some(defaults::PGBOUNCER_ADDRESS.to_owned()),
    };
    let databases = table.texts("databases").map(|names| {
        for (name, spot) in &names {
            // It stands between double quotes in a command.
            if name.chars().any(|sign| sign == '"' || sign.is_control()) {
                table
                    .reader
                    .error(spot, Refusal::new("not a database's name"));
            }
        }
        let names: Vec<String> = names.into_iter().map(|(name, _)| name.to_owned()).collect();
        if names.is_empty() {
            table.error("databases", Refusal::new("must not be empty"));
        }
        names
    });
    let pause_timeout = table.duration("pause_timeout", &TIMEOUT);
    let close_timeout = table.duration("close_timeout", &TIMEOUT);
    let pause_expired = match table.choice("pause_expired", &["kill", "fail"]) {
        Some("fail") => PauseExpired::Fail,
        Some("kill") => PauseExpired::Kill,
        Some(_) | None => defaults::PGBOUNCER_PAUSE_EXPIRED,
    };
    let password = match role {
        MemberRole::Agent => secret_source::read(table, &keys::PGBOUNCER_PASSWORD),
        MemberRole::Witness => None,
    };
    Some(TargetSettings::Pgbouncer(PgbouncerTarget {
        address: address?,
        user: table.text("user")?.to_owned(),
        password,
        databases: databases?,
        pause_timeout: pause_timeout.unwrap_or(defaults::PGBOUNCER_PAUSE_TIMEOUT),
        pause_expired,
        close_timeout: close_timeout.unwrap_or(defaults::PGBOUNCER_CLOSE_TIMEOUT),
    }))
}

/// The password goes there: never over a network.
fn console_address(text: &str) -> Result<String, Refusal> {
    if text.starts_with('/') || syntax::host_port(text)?.is_loopback() {
        return Ok(text.to_owned());
    }
    Err(Refusal::new("the password would be sent in plain text")
        .hint("an address of this host, or the path of its unix socket"))
}

fn systemd(table: &Table<'_>, _: MemberRole) -> Option<TargetSettings> {
    table.need("unit", "e.g. \"shop.service\"");
    let environment_file = table.boolean("environment_file", false);
    let settle = table.duration("settle", &SETTLE);
    Some(TargetSettings::Systemd(SystemdTarget {
        program: program(table, defaults::SYSTEMCTL)?,
        unit: table.parsed("unit", word)?,
        environment_file,
        settle: settle.unwrap_or(defaults::SYSTEMD_SETTLE),
    }))
}

fn compose(table: &Table<'_>, _: MemberRole) -> Option<TargetSettings> {
    table.need("compose_file", "the compose file of the service");
    table.need("service", "what the compose file calls it");
    let compose_file = table.path("compose_file");
    let service = table.parsed("service", word);
    Some(TargetSettings::Compose(ComposeTarget {
        program: program(table, defaults::DOCKER)?,
        compose_file: compose_file?,
        service: service?,
    }))
}

fn kubectl(table: &Table<'_>, _: MemberRole) -> Option<TargetSettings> {
    table.need("namespace", "where both are");
    table.need("config_map", "what the workload reads");
    table.need("workload", "e.g. \"deployment/shop\"");
    let namespace = table.parsed("namespace", word);
    let config_map = table.parsed("config_map", word);
    let workload = table.parsed("workload", |text| match text.split_once('/') {
        Some((kind, name)) => word(kind).and(word(name)).map(|_| text.to_owned()),
        None => Err(Refusal::new("not a kind and a name").hint("e.g. \"deployment/shop\"")),
    });
    Some(TargetSettings::Kubectl(KubectlTarget {
        program: program(table, defaults::KUBECTL)?,
        kubeconfig: table.path("kubeconfig"),
        namespace: namespace?,
        config_map: config_map?,
        workload: workload?,
    }))
}

/// A program by its name, or by its full path.
fn program(table: &Table<'_>, default: &str) -> Option<PathBuf> {
    if !table.has("program") {
        return Some(default.into());
    }
    table.parsed("program", |text| {
        match text.starts_with('/') || !text.contains('/') {
            true => Ok(text.into()),
            false => Err(Refusal::new("neither a name nor a full path")),
        }
    })
}

fn path(table: &Table<'_>, key: &'static str, default: &str) -> Option<PathBuf> {
    match table.has(key) {
        true => table.path(key),
        false => Some(default.into()),
    }
}

/// It becomes an argument of a program: nothing that could be taken for an option.
fn word(text: &str) -> Result<String, Refusal> {
    let allowed = |sign: char| sign.is_ascii_alphanumeric() || "-_.@:\\".contains(sign);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new(format!("not a name: {}", quoted(text)))),
    }
}
