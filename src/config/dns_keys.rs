//! The keys of `[[dns]]` and `[dns_check]`, as [`super::keys`] has those of everything else.

use super::keys::Section;

pub(super) const DNS: Section = Section {
    path: "dns",
    keys: &[
        "name",
        "provider",
        "record",
        "type",
        "zone_id",
        "token_file",
        "token_env",
        "token",
        "api_url",
        "proxied",
        "edge_check",
        "server",
        "zone",
        "key_name",
        "key_algorithm",
        "key_file",
        "key_env",
        "key",
        "endpoint",
        "region",
        "profile",
        "role_arn",
        "external_id",
        "access_key_id",
        "secret_access_key_file",
        "secret_access_key_env",
        "secret_access_key",
        "timeout",
        "content",
    ],
};

pub(super) const DNS_EDGE_CHECK: Section = Section {
    path: "dns.edge_check",
    keys: &["url", "header", "expect"],
};

pub(super) const DNS_CHECK: Section = Section {
    path: "dns_check",
    keys: &["authoritative", "resolvers", "timeout", "drift_every"],
};
