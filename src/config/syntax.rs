//! The small grammars inside values: names, addresses, URLs, records, identifiers, variables.
//! Pure; what a value may refer to elsewhere in the file is checked in `validate`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::problem::{Refusal, quoted};
use super::suggest;

/// Names end up in file names, metrics and DNS comments.
const NAME_MAX: usize = 63;

/// A site, probe, file or record, as this file names it.
pub(super) fn name(text: &str) -> Result<String, Refusal> {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins_well && text.len() <= NAME_MAX && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(
            Refusal::new(format!("not a name: {}", quoted(text))).hint(format!(
                "lowercase letters, digits, \"-\", \"_\" and \".\", at most {NAME_MAX}, \
             a letter or digit first"
            )),
        )
    }
}

/// `host:port`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    /// A name or an IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl HostPort {
    /// True when no packet to it leaves this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// The form that [`Config`](super::Config) keeps: lowercase, IPv6 in brackets.
impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads `10.0.0.1:7400`, `[2001:db8::1]:7400` or `fra.example.net:7400`.
pub(super) fn host_port(text: &str) -> Result<HostPort, Refusal> {
    let refuse = || {
        Refusal::new(format!("not an address: {}", quoted(text)))
            .hint("host:port, e.g. \"10.0.0.1:7400\" or \"[2001:db8::1]:7400\"")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| refuse())?.to_string(),
        None if host.contains(':') => return Err(refuse()),
        None => self::host(host).map_err(|_| refuse())?,
    };
    let port = port_number(port).ok_or_else(refuse)?;
    Ok(HostPort { host, port })
}

/// Where to bind: an IP address, because a name may move.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(
            Refusal::new(format!("not an address to bind: {}", quoted(text)))
                .hint("ip:port, e.g. \"0.0.0.0:7400\" or \"[::]:7400\""),
        ),
    }
}

/// 1 to 65535, digits only.
fn port_number(text: &str) -> Option<u16> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// A host name or an IP address, in lower case.
pub(super) fn host(text: &str) -> Result<String, Refusal> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let refuse = || Refusal::new(format!("not a host: {}", quoted(text)));
    // "10.0.0.300" would pass as a name, and then never resolve.
    let last = text.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.chars().all(|c| c.is_ascii_digit()) {
        return Err(refuse().hint("it looks like an IP address, but is none"));
    }
    dns_name(text).map_err(|_| refuse().hint("a host name or an IP address"))
}

/// True for `localhost` and loopback addresses.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A domain name: lower case, no final dot. Source: RFC 1035 2.3.4; `_` and `*` occur in practice.
pub(super) fn dns_name(text: &str) -> Result<String, Refusal> {
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(allowed)
    };
    let labels = lower.strip_prefix("*.").unwrap_or(&lower);
    if lower.len() <= 253 && labels.split('.').all(label) {
        Ok(lower)
    } else {
        Err(Refusal::new(format!("not a domain name: {}", quoted(text))))
    }
}

/// What a record of this type contains, checked.
pub(super) fn record_content(kind: &str, text: &str) -> Result<String, Refusal> {
    let refuse = |expected: &str| {
        Refusal::new(format!("not {expected}: {}", quoted(text)))
            .hint(format!("that is what a record of type {kind} contains"))
    };
    match kind {
        "A" => text
            .parse::<Ipv4Addr>()
            .map(|ip| ip.to_string())
            .map_err(|_| refuse("an IPv4 address")),
        "AAAA" => text
            .parse::<Ipv6Addr>()
            .map(|ip| ip.to_string())
            .map_err(|_| refuse("an IPv6 address")),
        _ if text.parse::<IpAddr>().is_ok() => Err(refuse("a domain name")),
        _ => dns_name(text).map_err(|_| refuse("a domain name")),
    }
}

/// The parts of a URL that rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) https: bool,
    pub(super) host: String,
}

/// Checks `http://` and `https://` URLs. Never repeats the text: URLs carry keys and passwords.
pub(super) fn url(text: &str) -> Result<Url, Refusal> {
    let refuse = |why: &str| {
        Refusal::new(format!("not a usable URL: {why}"))
            .hint("e.g. \"https://shop.example.com/health\"")
    };
    let (https, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (true, rest)
    } else if let Some(rest) = text.strip_prefix("http://") {
        (false, rest)
    } else {
        return Err(refuse("it does not begin with http:// or https://"));
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(refuse("it contains a space or a control character"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            Refusal::new("not a usable URL: it contains a user name or password")
                .hint("send it as a header instead"),
        );
    }
    let with_port = if authority
        .rsplit(']')
        .next()
        .unwrap_or_default()
        .contains(':')
    {
        authority.to_owned()
    } else {
        format!("{authority}:{}", if https { 443 } else { 80 })
    };
    let HostPort { host, .. } = host_port(&with_port).map_err(|_| refuse("its host or port"))?;
    Ok(Url { https, host })
}

/// A name that PostgreSQL takes without quotes, or nearly. Source: PostgreSQL manual 4.1.1.
pub(super) fn sql_name(text: &str) -> Result<String, Refusal> {
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    if begins_well && text.len() <= 63 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(format!("not a PostgreSQL name: {}", quoted(text))).hint(
            "letters, digits, \"_\", \"-\", \".\" and \"@\", at most 63, a letter or \"_\" first",
        ))
    }
}

/// `schema.table`, both plain identifiers that need no quotes.
pub(super) fn table_name(text: &str) -> Result<String, Refusal> {
    let plain = |part: &str| {
        let begins_well = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        begins_well && part.len() <= 63 && part.chars().all(allowed)
    };
    match text.split_once('.') {
        Some((schema, _)) if schema.starts_with("pg_") => Err(Refusal::new(
            "schemas that begin with pg_ belong to PostgreSQL",
        )),
        Some((schema, table)) if plain(schema) && plain(table) => Ok(text.to_owned()),
        _ => Err(Refusal::new(format!("not a table: {}", quoted(text)))
            .hint("schema.table of lowercase letters, digits and \"_\", e.g. \"agent.heartbeat\"")),
    }
}

/// An inclusive range of HTTP status codes: `"204"` or `"200-299"`.
pub(super) fn status_range(text: &str) -> Result<(u16, u16), Refusal> {
    let refuse = || {
        Refusal::new(format!("not a range of status codes: {}", quoted(text)))
            .hint("from 100 to 599, e.g. \"200-299\" or \"204\"")
    };
    let code = |text: &str| {
        let three = text.len() == 3 && text.chars().all(|c| c.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|code| three && (100..=599).contains(code))
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => Err(refuse()),
    }
}

/// A header's name. Source: RFC 9110 5.6.2, `token`.
pub(super) fn is_header_name(text: &str) -> bool {
    let symbol = |c: char| "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || symbol(c))
}

/// Every `{variable}` in a text. `${name}` and `{{name}}` are a shell's and a template's, and
/// stay as they are.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut before = "";
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('{') {
        let foreign = head.ends_with('$') || (head.is_empty() && before == "{");
        if let Some((name, _)) = tail.split_once('}') {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !foreign && begins_well && name.chars().all(word) {
                found.push(name);
            }
        }
        before = "{";
        rest = tail;
    }
    found
}

/// Refuses a text with a variable that nobody would replace.
pub(super) fn only_variables(text: &str, known: &[&str]) -> Result<(), Refusal> {
    match variables(text)
        .into_iter()
        .find(|name| !known.contains(name))
    {
        None => Ok(()),
        Some(name) => {
            let all: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
            let listed = || match all.is_empty() {
                true => "nothing is replaced here".to_owned(),
                false => format!("known: {}", all.join(", ")),
            };
            let hint = suggest::nearest(name, known.iter().copied())
                .map_or_else(listed, |near| format!("did you mean \"{{{near}}}\"?"));
            let what = format!("unknown variable {}", quoted(&format!("{{{name}}}")));
            Err(Refusal::new(what).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_kind_are_read() {
        for (text, host, shown) in [
            ("10.0.0.1:7400", "10.0.0.1", "10.0.0.1:7400"),
            ("[2001:DB8::1]:7400", "2001:db8::1", "[2001:db8::1]:7400"),
            ("Fra.Example.net:1", "fra.example.net", "fra.example.net:1"),
        ] {
            let parsed = host_port(text).unwrap();
            assert_eq!(
                (parsed.host.as_str(), parsed.to_string().as_str()),
                (host, shown)
            );
        }
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "::1:7400",
            "[::1]",
            "[a]:1",
            "10.0.0.300:1",
            "a b:1",
            "-a:1",
            "a..b:1",
        ] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1", "::2", "localhost.example.net", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let parsed = url("https://Shop.example.com/health?x=1").unwrap();
        assert_eq!(
            (parsed.https, parsed.host.as_str()),
            (true, "shop.example.com")
        );
        assert_eq!(url("http://[::1]:80/").unwrap().host, "::1");
        for text in [
            "ftp://a",
            "https://",
            "https://u:p@h/",
            "https://a b/",
            "http://a:x/",
            "http:///p",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refused_url_is_never_repeated() {
        let refusal = url("https://user:hunter2@host/").unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"));
        let refusal = url("hooks.example.com/hunter2").unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"));
    }

    #[test]
    fn record_content_fits_its_type() {
        assert!(record_content("A", "192.0.2.1").is_ok());
        assert!(record_content("A", "::1").is_err());
        assert!(record_content("AAAA", "192.0.2.1").is_err());
        assert_eq!(
            record_content("AAAA", "2001:DB8::1").unwrap(),
            "2001:db8::1"
        );
        assert_eq!(
            record_content("CNAME", "Fra.Example.com.").unwrap(),
            "fra.example.com"
        );
        assert!(record_content("CNAME", "192.0.2.1").is_err());
    }

    #[test]
    fn variables_are_found_and_foreign_ones_left_alone() {
        assert_eq!(variables("-h {host} -p {port}"), ["host", "port"]);
        assert_eq!(variables("{a}{b}"), ["a", "b"]);
        for text in [
            "${HOME}",
            "{{name}}",
            "{}",
            "{ host }",
            "{\"a\":1}",
            "{host",
            "{.State}",
        ] {
            assert_eq!(variables(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn status_ranges_stay_in_bounds() {
        assert_eq!(status_range("200-299"), Ok((200, 299)));
        assert_eq!(status_range("204"), Ok((204, 204)));
        for text in [
            "",
            "299-200",
            "99",
            "600",
            "200-",
            "2xx",
            "+20",
            "200-299-300",
        ] {
            assert!(status_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn table_is_a_pair_of_plain_identifiers() {
        assert!(table_name("agent.heartbeat").is_ok());
        for text in [
            "heartbeat",
            "a.b.c",
            "A.b",
            "a.b;drop",
            "a.\"b\"",
            "pg_catalog.x",
            ".b",
        ] {
            assert!(table_name(text).is_err(), "{text}");
        }
    }
}
