//! Asks through the edge of a provider that proxies a record: one GET, whose answer must carry the
//! marker of the site that is primary. It is looked at and shown; nothing waits for it (S9).
//!
//! The connection is a new one each time, redirects are not followed, and neither an answer out of
//! a cache nor one that came past the edge proves anything: inside a site the name may lead to the
//! local origin (split-horizon DNS, `/etc/hosts`), which always answers for itself. Nothing is
//! added to the URL against caches: an app may refuse or store what it does not know. Let it answer
//! with `Cache-Control: no-store` instead.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{ACCEPT_ENCODING, AGE, CACHE_CONTROL, HeaderMap, USER_AGENT};

use super::apart::apart;
use crate::config::settings::EdgeCheck;
use crate::effects::http_client::{self, Beginning, NoAnswer};
use crate::model::SiteName;
use crate::model::edge::{EdgeHeard, EdgeView};

/// A marker further behind is not found.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What every answer through Cloudflare has, whoever made it. Source: Cloudflare docs, "Cloudflare
/// HTTP headers", response headers, CF-Ray.
const CF_RAY: &str = "cf-ray";
/// Where Cloudflare says whether its cache answered. Source: Cloudflare docs, "Cloudflare cache
/// responses".
const CF_CACHE_STATUS: &str = "cf-cache-status";
/// What it says when it did. Source: the same.
const CF_CACHED: &[&str] = &["HIT", "STALE", "UPDATING", "REVALIDATED"];

/// Asks, and never fails: whatever goes wrong is what was seen.
pub async fn look(
    check: &EdgeCheck,
    (wanted, other): (&SiteName, &SiteName),
    timeout: Duration,
) -> EdgeView {
    EdgeView {
        url: check.shown().to_owned(),
        heard: match ask(check, timeout).await {
            Ok(answer) => judge(check, (wanted, other), &answer),
            Err(why) => EdgeHeard::Silent { why },
        },
    }
}

async fn ask(check: &EdgeCheck, timeout: Duration) -> Result<Beginning, String> {
    let url = Url::parse(&check.url).map_err(|_| "its address is not a URL".to_owned())?;
    let to = url.clone();
    let client = apart(timeout, move || http_client::client(&to, timeout)).await;
    let client = client.ok_or("the certificate authorities are not read in time")?;
    let client = client.map_err(|error| error.to_string())?;
    let request = client
        .get(url)
        .header(CACHE_CONTROL, "no-cache")
        .header(ACCEPT_ENCODING, "identity")
        .header(
            USER_AGENT,
            concat!("failover-agent/", env!("CARGO_PKG_VERSION")),
        );
    let bytes_max = match check.header {
        Some(_) => 0,
        None => BODY_BYTES_MAX,
    };
    let answer = http_client::send_for_beginning(request, bytes_max).await;
    answer.map_err(|error| match error {
        NoAnswer::NotSent(_) => "no connection".to_owned(),
        NoAnswer::Sent(_) | NoAnswer::TooLong => {
            format!("no whole answer within {} ms", timeout.as_millis())
        }
    })
}

fn judge(
    check: &EdgeCheck,
    (wanted, other): (&SiteName, &SiteName),
    answer: &Beginning,
) -> EdgeHeard {
    // Cloudflare is the only provider that has an edge.
    if !answer.headers.contains_key(CF_RAY) {
        let missing = CF_RAY.to_owned();
        return EdgeHeard::PastEdge { missing };
    }
    if !answer.status.is_success() {
        let status = answer.status.as_u16();
        return EdgeHeard::Status { status };
    }
    if let Some(why) = remembered(&answer.headers) {
        return EdgeHeard::Remembered { why };
    }
    let text = String::from_utf8_lossy(&answer.body);
    let says = |site: &SiteName| {
        let marker = check.marker(site);
        match &check.header {
            Some(name) => answer
                .headers
                .get_all(name)
                .iter()
                .any(|value| value.as_bytes().trim_ascii() == marker.as_bytes()),
            None => has_word(&text, &marker),
        }
    };
    let place = match &check.header {
        Some(name) => format!("the header {name}"),
        None => "the body".to_owned(),
    };
    let unmarked = |what: &str| EdgeHeard::Unmarked {
        why: format!("{place} names {what}"),
    };
    match (says(wanted), says(other)) {
        (true, false) => EdgeHeard::Wanted {
            site: wanted.clone(),
        },
        (false, true) => EdgeHeard::OtherSite {
            site: other.clone(),
        },
        (true, true) => unmarked("both sites"),
        (false, false) => unmarked("neither site"),
    }
}

/// How an answer shows that a cache gave it.
fn remembered(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // RFC 9111, 5.1: with an age it was not made for this request. Some say 0 of what was.
    let age = text(AGE.as_str()).and_then(|age| age.trim().parse::<u64>().ok());
    if let Some(age) = age.filter(|age| *age > 0) {
        return Some(format!("age {age} s"));
    }
    let status = text(CF_CACHE_STATUS).filter(|status| CF_CACHED.contains(status))?;
    Some(format!("{CF_CACHE_STATUS} {status}"))
}

/// True when the marker stands in the text by itself: `ams` is not in `teams`.
fn has_word(text: &str, marker: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    text.match_indices(marker).any(|(at, _)| {
        let before = text.get(..at).and_then(|it| it.chars().next_back());
        let after = text.get(at + marker.len()..);
        let after = after.and_then(|it| it.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn heard(
        header: Option<&str>,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> EdgeHeard {
        let check = EdgeCheck {
            url: "https://shop.example.com/".to_owned(),
            header: header.map(str::to_owned),
            expect: "{site}".to_owned(),
        };
        let headers = headers.iter().chain(&[RAY]).map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let answer = Beginning {
            status: StatusCode::OK,
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        };
        let (wanted, other) = (SiteName::new("ams"), SiteName::new("fra"));
        judge(&check, (&wanted, &other), &answer)
    }

    /// Source: the example in Cloudflare's docs.
    const RAY: (&str, &str) = ("cf-ray", "230b030023ae2822-SJC");

    fn is_wanted(heard: &EdgeHeard) -> bool {
        matches!(heard, EdgeHeard::Wanted { .. })
    }

    #[test]
    fn marker_counts_only_by_itself_and_alone() {
        for (body, wanted) in [
            ("ams", true),
            ("{\"site\":\"ams\"}", true),
            ("our teams", false),
            ("ams-2", false),
            ("fra, ams", false),
            ("", false),
        ] {
            assert_eq!(is_wanted(&heard(None, &[], body)), wanted, "{body}");
        }
        let site = Some("x-site");
        assert!(is_wanted(&heard(site, &[("x-site", " ams ")], "fra")));
        assert!(!is_wanted(&heard(site, &[("x-site", "ams, fra")], "ams")));
        let other = heard(site, &[("x-site", "fra")], "");
        assert!(matches!(other, EdgeHeard::OtherSite { .. }), "{other}");
    }

    #[test]
    fn cached_answer_proves_nothing() {
        for (name, value, cached) in [
            ("age", "0", false),
            ("age", "1", true),
            ("cf-cache-status", "HIT", true),
            ("cf-cache-status", "DYNAMIC", false),
            ("cf-cache-status", "MISS", false),
        ] {
            let heard = heard(Some("x-site"), &[("x-site", "ams"), (name, value)], "");
            let seen = matches!(heard, EdgeHeard::Remembered { .. });
            assert_eq!(
                (seen, is_wanted(&heard)),
                (cached, !cached),
                "{name}: {value}"
            );
        }
    }
}
