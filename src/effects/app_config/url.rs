//! Replaces host and port inside a URL value, and nothing else.
//!
//! Pure and textual on purpose: a URL library would decode and encode again, and so change a
//! password's percent-encoding. What different clients read differently is refused, never guessed.
//! No error carries any part of the value: connection URLs hold passwords.

use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

/// Why host and port cannot be replaced. Never contains the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The value has no `scheme://`.
    #[error("the value is not a URL of the form scheme://host")]
    NotAUrl,
    /// There is no host to replace.
    #[error("the URL names no host")]
    NoHost,
    /// Clients disagree about where the user part ends.
    #[error("the URL's user part is ambiguous; percent-encode @ and / in user name and password")]
    AmbiguousUser,
    /// The host part cannot be read.
    #[error("the URL's host part cannot be read as host or host:port")]
    UnreadableHost,
    /// A query parameter overrides the host, so that changing the host would change nothing.
    /// Source: PostgreSQL manual 34.1.1.2: query parameters may repeat host and port.
    #[error("the URL's query parameter {0} overrides host or port; remove it")]
    OverriddenByQuery(&'static str),
    /// The new host is no host name and no address.
    #[error("the new host is neither a host name nor an IP address")]
    BadNewHost,
}

/// `value` with its host and port replaced; a list of hosts collapses to the new one, because
/// every node in such a list is one of ours.
///
/// # Errors
/// When the value is not a URL that every client reads the same way.
pub fn replace_authority(value: &str, host: &str, port: u16) -> Result<String, UrlError> {
    let parts = split(value)?;
    let host = printed_host(host)?;
    Ok(format!(
        "{}{}{host}:{port}{}",
        parts.scheme, parts.user, parts.rest
    ))
}

/// True when `host` can stand in a URL's authority (or, for addresses, can be bracketed to).
#[must_use]
pub fn is_host(host: &str) -> bool {
    printed_host(host).is_ok()
}

struct Parts<'a> {
    /// Up to and with `://`.
    scheme: &'a str,
    /// Up to and with `@`; empty if there is none.
    user: &'a str,
    /// From the first `/`, `?` or `#` on.
    rest: &'a str,
}

fn split(value: &str) -> Result<Parts<'_>, UrlError> {
    let colon = value.find("://").ok_or(UrlError::NotAUrl)?;
    let (scheme, after) = value.split_at(colon + 3);
    if !is_scheme(scheme.trim_end_matches("://")) {
        return Err(UrlError::NotAUrl);
    }
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let (user, hosts) = match authority.split_once('@') {
        // libpq ends the user part at the first @, WHATWG at the last.
        Some((_, hosts)) if hosts.contains('@') => return Err(UrlError::AmbiguousUser),
        Some((user, hosts)) => (authority.get(..=user.len()).unwrap_or(""), hosts),
        None => ("", authority),
    };
    // "scheme://user:12/34@host": what ended the host may be part of a password; libpq looks for the
    // @ behind it, too.
    if user.is_empty() && rest.contains('@') {
        return Err(UrlError::AmbiguousUser);
    }
    // "${NAME}" is fine in a user part; "${NAME:-a@b}" was cut in the middle.
    if user.matches('{').count() != user.matches('}').count() {
        return Err(UrlError::AmbiguousUser);
    }
    if hosts.is_empty() {
        return Err(UrlError::NoHost);
    }
    if !hosts.split(',').all(is_host_and_port) {
        return Err(UrlError::UnreadableHost);
    }
    refuse_override(rest)?;
    Ok(Parts { scheme, user, rest })
}

fn is_scheme(scheme: &str) -> bool {
    // With a colon inside for "jdbc:postgresql://".
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | ':'))
}

fn is_host_and_port(text: &str) -> bool {
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((address, port)) = bracketed.split_once(']') else {
            return false;
        };
        let address = address.split('%').next().unwrap_or("");
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    // % for a unix socket's percent-encoded directory.
    let readable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '%');
    !host.is_empty() && host.chars().all(readable) && (port.is_empty() || is_port(port))
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.parse::<u16>().is_ok()
}

fn refuse_override(rest: &str) -> Result<(), UrlError> {
    let Some((_, query)) = rest.split_once('?') else {
        return Ok(());
    };
    let query = query.split('#').next().unwrap_or("");
    for parameter in query.split('&') {
        let name = parameter.split('=').next().unwrap_or("");
        // libpq decodes names too.
        let name = percent_decode_str(name).decode_utf8_lossy();
        for overriding in ["host", "hostaddr", "port"] {
            if name.eq_ignore_ascii_case(overriding) {
                return Err(UrlError::OverriddenByQuery(overriding));
            }
        }
    }
    Ok(())
}

fn printed_host(host: &str) -> Result<String, UrlError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{bare}]"));
    }
    let readable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bare.len() != host.len() || host.is_empty() || !host.chars().all(readable) {
        return Err(UrlError::BadNewHost);
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_change_and_nothing_else() {
        for (from, to) in [
            ("postgres://db1/app", "postgres://db2:5433/app"),
            ("postgres://db1", "postgres://db2:5433"),
            ("postgres://db1:5432", "postgres://db2:5433"),
            (
                "postgres://app:p%40ss%2Fw%3Ard@db1:5432/app?sslmode=require&x=%20#f",
                "postgres://app:p%40ss%2Fw%3Ard@db2:5433/app?sslmode=require&x=%20#f",
            ),
            ("postgres://u@[fd00::1]:5432/a", "postgres://u@db2:5433/a"),
            ("postgres://u@[fd00::1]/a", "postgres://u@db2:5433/a"),
            (
                "postgres://u:p@h1:1,h2:2/a?target_session_attrs=any",
                "postgres://u:p@db2:5433/a?target_session_attrs=any",
            ),
            (
                "postgresql+asyncpg://u:p@h/a",
                "postgresql+asyncpg://u:p@db2:5433/a",
            ),
            ("jdbc:postgresql://h:5432/a", "jdbc:postgresql://db2:5433/a"),
            (
                "postgres://u:${DB_PASSWORD}@h/a",
                "postgres://u:${DB_PASSWORD}@db2:5433/a",
            ),
            ("postgres://u:@h:/a", "postgres://u:@db2:5433/a"),
            (
                "postgresql://u:p@a:1,[fd00::1]:2,b/d?x=%2C",
                "postgresql://u:p@db2:5433/d?x=%2C",
            ),
            (
                "postgresql://%2Frun%2Fpostgresql/a",
                "postgresql://db2:5433/a",
            ),
            (
                "jdbc:postgresql://a:1,b:2/d?user=u&password=p%26",
                "jdbc:postgresql://db2:5433/d?user=u&password=p%26",
            ),
        ] {
            assert_eq!(
                replace_authority(from, "db2", 5433).as_deref(),
                Ok(to),
                "{from}"
            );
        }
    }

    #[test]
    fn ipv6_host_gets_brackets_once() {
        for host in ["fd00::2", "[fd00::2]"] {
            assert_eq!(
                replace_authority("postgres://u:p@h/a", host, 5432).unwrap(),
                "postgres://u:p@[fd00::2]:5432/a"
            );
        }
    }

    #[test]
    fn what_clients_read_differently_is_refused() {
        for (value, error) in [
            ("db1:5432", UrlError::NotAUrl),
            ("://db1", UrlError::NotAUrl),
            ("host=db1 options=a://b", UrlError::NotAUrl),
            ("postgres:///app", UrlError::NoHost),
            ("postgres://u:p@/app", UrlError::NoHost),
            ("postgres://u:p@ss@db1/app", UrlError::AmbiguousUser),
            ("postgres://12:3/4@db1/app", UrlError::AmbiguousUser),
            ("postgres://app:12#secret@db1/app", UrlError::AmbiguousUser),
            ("postgres://app:12?secret@db1/app", UrlError::AmbiguousUser),
            ("postgres://app:#secret@db1/app", UrlError::AmbiguousUser),
            ("postgres://u:${P:-a@b}/app", UrlError::AmbiguousUser),
            ("postgres://${DB_HOST}:5432/app", UrlError::UnreadableHost),
            ("postgres://u:p@db1:port/app", UrlError::UnreadableHost),
            ("postgres://u:p@[fd00::1/app", UrlError::UnreadableHost),
            ("postgres://u:p@fd00::1/app", UrlError::UnreadableHost),
            ("postgres://db1,/app", UrlError::UnreadableHost),
            (
                "postgres://x/app?a=1&host=db1",
                UrlError::OverriddenByQuery("host"),
            ),
            (
                "postgres://x/app?PORT=1",
                UrlError::OverriddenByQuery("port"),
            ),
            (
                "postgres://x/app?%68ostaddr=1",
                UrlError::OverriddenByQuery("hostaddr"),
            ),
            ("postgresql:///app?host=/run/postgresql", UrlError::NoHost),
        ] {
            assert_eq!(replace_authority(value, "db2", 1), Err(error), "{value}");
        }
    }

    #[test]
    fn new_host_that_is_no_host_is_refused() {
        for host in [
            "",
            "a b",
            "a/b",
            "u@h",
            "h:1",
            "[h]",
            "fe80::1%eth0",
            "a,b",
            "ü",
        ] {
            assert_eq!(
                replace_authority("postgres://h/a", host, 1),
                Err(UrlError::BadNewHost),
                "{host}"
            );
        }
    }
}
