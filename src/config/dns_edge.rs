//! `proxied` and `edge_check` of `[[dns]]`: what is said of a provider that stands between clients
//! and a site, and how it is seen which site it forwards to.

use super::dns::is_below;
use super::problem::{Refusal, quoted};
use super::reader::Table;
use super::settings::{EdgeCheck, Proxy};
use super::{defaults, keys, syntax};

/// A marker is a word or two.
const EXPECT_CHARS_MAX: usize = 200;

/// Reads both; a mistake that is reported leaves its part out.
pub(super) fn proxy(table: &Table<'_>, record: Option<&str>) -> Proxy {
    let proxied = table
        .has("proxied")
        .then(|| table.boolean("proxied", false));
    let edge_check = table
        .table("edge_check", &keys::DNS_EDGE_CHECK)
        .and_then(|table| edge_check(&table, record));
    match (proxied, table.has("edge_check")) {
        (Some(false), true) => {
            let refusal = Refusal::new("has no meaning with proxied = false");
            table.error(
                "edge_check",
                refusal.hint("what is not proxied is seen by asking DNS: see [dns_check]"),
            );
        }
        (Some(true), false) => {
            let refusal = Refusal::new("nobody sees from outside whether a move of it worked");
            let hint = "edge_check = { url = \"https://…\", header = \"x-site\" }";
            table.warning("proxied", refusal.hint(hint));
        }
        (Some(_) | None, _) => {}
    }
    Proxy {
        proxied,
        edge_check,
    }
}

fn edge_check(table: &Table<'_>, record: Option<&str>) -> Option<EdgeCheck> {
    table.need("url", "what the app answers with its site's marker");
    let url = table.parsed("url", |text| {
        let url = syntax::url(text)?;
        leads_through(&url.host, record)?;
        Ok((text.to_owned(), url.https))
    });
    if let Some((_, false)) = url {
        let refusal = Refusal::new("in plain text, anybody on the way can answer");
        table.warning(
            "url",
            refusal.hint("https shows that it is this name that answers"),
        );
    }
    let header = match table.has("header") {
        true => Some(table.parsed("header", header)?),
        false => None,
    };
    let expect = match table.has("expect") {
        true => table.parsed("expect", expect),
        false => Some(defaults::EDGE_EXPECT.to_owned()),
    };
    Some(EdgeCheck {
        url: url?.0,
        header,
        expect: expect?,
    })
}

/// Another name may be forwarded elsewhere, or not at all: its answer says nothing of this record.
fn leads_through(host: &str, record: Option<&str>) -> Result<(), Refusal> {
    let Some(record) = record else {
        return Ok(());
    };
    let host = host.to_ascii_lowercase();
    let (fits, hint) = match record.strip_prefix("*.") {
        Some(parent) => (
            host != parent && is_below(&host, parent),
            format!("a name below {parent}, such as https://www.{parent}/"),
        ),
        None => (host == record, format!("https://{record}/")),
    };
    match fits {
        true => Ok(()),
        false => Err(Refusal::new("its host is not the record's name").hint(hint)),
    }
}

fn header(text: &str) -> Result<String, Refusal> {
    if syntax::is_header_name(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        let what = format!("not the name of a header: {}", quoted(text));
        Err(Refusal::new(what).hint("e.g. \"x-site\""))
    }
}

/// Both sites' markers must differ.
fn expect(text: &str) -> Result<String, Refusal> {
    let hint = "e.g. \"{site}\", the site's name, or \"served by {site}\"";
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.len() > EXPECT_CHARS_MAX || !text.chars().all(plain) {
        let what = format!("not a marker of at most {EXPECT_CHARS_MAX} characters");
        return Err(Refusal::new(what).hint("ASCII, in one line"));
    }
    syntax::only_variables(text, &["site"])?;
    if syntax::variables(text).is_empty() {
        return Err(Refusal::new("both sites would answer the same").hint(hint));
    }
    Ok(text.to_owned())
}
