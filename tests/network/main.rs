//! Everything that goes over a socket, except SQL: probes, the members' link, DNS, notifiers, the
//! operator's socket and that of systemd. The other end is a real server or the test's own.

#[path = "../support/mod.rs"]
mod support;

mod dns;
mod local_socket;
mod notify;
mod peer_link;
mod probe_kinds;
mod probe_tls;
mod probes;
mod systemd;
