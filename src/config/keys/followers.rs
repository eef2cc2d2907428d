//! The keys of what follows: the files of apps, and those of groups of app servers.

use super::Section;

pub(in crate::config) const UPSTREAM: Section = Section {
    path: "upstream",
    keys: &[
        "name",
        "site",
        "members",
        "http",
        "interval",
        "timeout",
        "fast_interval",
        "fall",
        "rise",
        "min_healthy",
        "max_change",
        "settle",
        "format",
        "path",
        "block",
        "render",
        "validate",
        "validate_timeout",
        "stage",
        "reload",
        "reload_timeout",
        "verify",
        "verify_timeout",
        "nginx",
        "haproxy",
        "trip_below",
        "down_for",
    ],
};

pub(in crate::config) const UPSTREAM_NGINX: Section = Section {
    path: "upstream.nginx",
    keys: NGINX,
};

pub(in crate::config) const UPSTREAM_HAPROXY: Section = Section {
    path: "upstream.haproxy",
    keys: HAPROXY,
};

/// How an nginx takes a changed file.
const NGINX: &[&str] = &[
    "program",
    "config",
    "pid_file",
    "error_log",
    "verify_url",
    "verify_text",
];

/// How a HAProxy takes a changed file.
const HAPROXY: &[&str] = &["program", "config", "socket", "pid_file", "state_file"];

pub(in crate::config) const UPSTREAM_MEMBER: Section = Section {
    path: "upstream.members",
    keys: &["address", "backup", "weight", "max_conns"],
};

pub(in crate::config) const UPSTREAM_HTTP: Section = Section {
    path: "upstream.http",
    keys: &[
        "url",
        "method",
        "headers",
        "body",
        "status",
        "body_contains",
        "latency_max",
        "ca",
    ],
};

pub(in crate::config) const APP_CONFIG: Section = Section {
    path: "app_config",
    keys: &[
        "name",
        "site",
        "path",
        "format",
        "set",
        "template",
        "file",
        "validate",
        "validate_timeout",
        "stage",
        "reload",
        "reload_timeout",
        "verify",
        "verify_timeout",
        "nginx",
        "haproxy",
        "pgbouncer",
        "systemd",
        "compose",
        "kubectl",
        "keep",
    ],
};

pub(in crate::config) const APP_CONFIG_NGINX: Section = Section {
    path: "app_config.nginx",
    keys: NGINX,
};

pub(in crate::config) const APP_CONFIG_HAPROXY: Section = Section {
    path: "app_config.haproxy",
    keys: HAPROXY,
};

pub(in crate::config) const APP_CONFIG_PGBOUNCER: Section = Section {
    path: "app_config.pgbouncer",
    keys: &[
        "address",
        "user",
        "password_file",
        "password_env",
        "password",
        "databases",
        "pause_timeout",
        "pause_expired",
        "close_timeout",
    ],
};

pub(in crate::config) const APP_CONFIG_SYSTEMD: Section = Section {
    path: "app_config.systemd",
    keys: &["program", "unit", "environment_file", "settle"],
};

pub(in crate::config) const APP_CONFIG_COMPOSE: Section = Section {
    path: "app_config.compose",
    keys: &["program", "compose_file", "service"],
};

pub(in crate::config) const APP_CONFIG_KUBECTL: Section = Section {
    path: "app_config.kubectl",
    keys: &[
        "program",
        "kubeconfig",
        "namespace",
        "config_map",
        "workload",
    ],
};

pub(in crate::config) const APP_CONFIG_FILE: Section = Section {
    path: "app_config.file",
    keys: &["path", "format", "set", "template"],
};

pub(in crate::config) const APP_CONFIG_SET: Section = Section {
    path: "app_config.set",
    keys: &["key", "field", "value", "url"],
};
