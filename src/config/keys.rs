//! Every key that `agent.toml` may have. The reader refuses all others, and `agent.toml.example`
//! must show each of these.

pub(super) use super::dns_keys::{DNS, DNS_CHECK, DNS_EDGE_CHECK};
mod followers;

pub(super) use self::followers::{
    APP_CONFIG, APP_CONFIG_COMPOSE, APP_CONFIG_FILE, APP_CONFIG_HAPROXY, APP_CONFIG_KUBECTL,
    APP_CONFIG_NGINX, APP_CONFIG_PGBOUNCER, APP_CONFIG_SET, APP_CONFIG_SYSTEMD, UPSTREAM,
    UPSTREAM_HAPROXY, UPSTREAM_HTTP, UPSTREAM_MEMBER, UPSTREAM_NGINX,
};

/// A table and the keys it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its path, e.g. `sites.<site>.database`; empty for the top of the file.
    pub path: &'static str,
    /// Its keys, those of its own tables included.
    pub keys: &'static [&'static str],
}

pub(super) const ROOT: Section = Section {
    path: "",
    keys: &[
        "cluster",
        "site",
        "mode",
        "state_dir",
        "socket",
        "peer",
        "lease",
        "sites",
        "witness",
        "database",
        "failover",
        "self_check",
        "probe",
        "trip",
        "upstream",
        "app_config",
        "dns",
        "dns_check",
        "notify",
        "objectives",
        "guard",
    ],
};

pub(super) const PEER: Section = Section {
    path: "peer",
    keys: &["secret_file", "secret_env", "secret", "insecure", "tls"],
};

pub(super) const PEER_TLS: Section = Section {
    path: "peer.tls",
    keys: &["cert", "key", "ca"],
};

pub(super) const LEASE: Section = Section {
    path: "lease",
    keys: &[
        "store",
        "ttl",
        "renew_every",
        "request_timeout",
        "fence_budget",
        "etcd",
    ],
};

pub(super) const ETCD: Section = Section {
    path: "lease.etcd",
    keys: &[
        "endpoints",
        "prefix",
        "ca",
        "cert",
        "key",
        "user",
        "password_file",
        "password_env",
        "password",
    ],
};

pub(super) const SITE: Section = Section {
    path: "sites.<site>",
    keys: &["address", "listen", "routing", "database"],
};

pub(super) const NODE: Section = Section {
    path: "sites.<site>.database",
    keys: &["host", "port", "data_dir", "bin_dir", "os_user", "control"],
};

pub(super) const CONTROL: Section = Section {
    path: "sites.<site>.database.control",
    keys: &[
        "kind", "unit", "start", "stop", "promote", "status", "fence", "fenced", "timeout",
    ],
};

pub(super) const WITNESS: Section = Section {
    path: "witness",
    keys: &["address"],
};

pub(super) const DATABASE: Section = Section {
    path: "database",
    keys: &[
        "user",
        "password_file",
        "password_env",
        "password",
        "dbname",
        "tls",
        "ca",
        "interval",
        "timeout",
        "fast_interval",
        "fall",
        "rise",
        "fresh_interval",
        "heartbeat_table",
    ],
};

pub(super) const FAILOVER: Section = Section {
    path: "failover",
    keys: &[
        "lag_max",
        "block",
        "max_automatic",
        "window",
        "stop_grace",
        "promote_timeout",
        "start_timeout",
        "restart_budget",
    ],
};

pub(super) const SELF_CHECK: Section = Section {
    path: "self_check",
    keys: &["targets", "interval", "timeout", "late_max"],
};

pub(super) const PROBE: Section = Section {
    path: "probe",
    keys: &[
        "name",
        "kind",
        "sites",
        "url",
        "address",
        "method",
        "headers",
        "body",
        "status",
        "body_contains",
        "latency_max",
        "ca",
        "interval",
        "timeout",
        "fast_interval",
        "fall",
        "rise",
    ],
};

pub(super) const TRIP: Section = Section {
    path: "trip",
    keys: &["name", "probes", "at_least", "down_for"],
};

pub(super) const NOTIFY: Section = Section {
    path: "notify",
    keys: &["name", "kind", "url_file", "url_env", "url", "timeout"],
};

pub(super) const OBJECTIVES: Section = Section {
    path: "objectives",
    keys: &["rto", "rpo"],
};

pub(super) const GUARD: Section = Section {
    path: "guard",
    keys: &["watchdog", "watchdog_device"],
};

/// Every section, in the order of the example file.
pub const ALL: [Section; 34] = [
    ROOT,
    PEER,
    PEER_TLS,
    LEASE,
    ETCD,
    SITE,
    NODE,
    CONTROL,
    WITNESS,
    DATABASE,
    FAILOVER,
    SELF_CHECK,
    PROBE,
    TRIP,
    UPSTREAM,
    UPSTREAM_MEMBER,
    UPSTREAM_HTTP,
    UPSTREAM_NGINX,
    UPSTREAM_HAPROXY,
    APP_CONFIG,
    APP_CONFIG_FILE,
    APP_CONFIG_SET,
    APP_CONFIG_NGINX,
    APP_CONFIG_HAPROXY,
    APP_CONFIG_PGBOUNCER,
    APP_CONFIG_SYSTEMD,
    APP_CONFIG_COMPOSE,
    APP_CONFIG_KUBECTL,
    DNS,
    DNS_EDGE_CHECK,
    DNS_CHECK,
    NOTIFY,
    OBJECTIVES,
    GUARD,
];

/// The three places where one secret may come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretKeys {
    pub(super) file: &'static str,
    pub(super) env: &'static str,
    pub(super) inline: &'static str,
}

pub(super) const PEER_SECRET: SecretKeys = SecretKeys {
    file: "secret_file",
    env: "secret_env",
    inline: "secret",
};

pub(super) const DATABASE_PASSWORD: SecretKeys = SecretKeys {
    file: "password_file",
    env: "password_env",
    inline: "password",
};

pub(super) const PGBOUNCER_PASSWORD: SecretKeys = SecretKeys {
    file: "password_file",
    env: "password_env",
    inline: "password",
};

pub(super) const ETCD_PASSWORD: SecretKeys = SecretKeys {
    file: "password_file",
    env: "password_env",
    inline: "password",
};

pub(super) const DNS_TOKEN: SecretKeys = SecretKeys {
    file: "token_file",
    env: "token_env",
    inline: "token",
};

pub(super) const DNS_KEY: SecretKeys = SecretKeys {
    file: "key_file",
    env: "key_env",
    inline: "key",
};

pub(super) const DNS_ACCESS_KEY: SecretKeys = SecretKeys {
    file: "secret_access_key_file",
    env: "secret_access_key_env",
    inline: "secret_access_key",
};

pub(super) const NOTIFY_URL: SecretKeys = SecretKeys {
    file: "url_file",
    env: "url_env",
    inline: "url",
};
