//! `agent dsn`: how clients that know libpq's multi-host strings find the primary without anything
//! between.
//!
//! Source: PostgreSQL manual 34.1.1 (connection strings), 34.1.2 (`target_session_attrs`,
//! `connect_timeout`: for each host on its own).

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::{Context, output, settings};

/// Host and port of both.
type Nodes = [(String, u16); 2];

/// Print a connection string that finds the primary by itself, for libpq and what is made of it.
///
/// It names the nodes of both sites, and asks for the one that takes writes. Drivers that are not
/// made of libpq do not know every key: see the manual of yours.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The database.
    #[arg(long, value_name = "NAME")]
    dbname: Option<String>,
    /// The app's user. Its password belongs elsewhere, into ~/.pgpass for example.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// For reading: prefer the standby, take the primary if there is none.
    #[arg(long)]
    read_only: bool,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Form::Uri)]
    form: Form,
    /// Seconds for each host; a silent one would hold a client up for minutes. At least 2.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = seconds())]
    connect_timeout: u16,
}

/// Source: PostgreSQL manual 34.1.2, `connect_timeout`: 1 counts as 2.
fn seconds() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(2..=600)
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// postgresql://…
    Uri,
    /// host=… port=…
    Keywords,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let nodes = settings::nodes(context)?;
    let dsn = match arguments.form {
        Form::Uri => uri(&nodes, arguments),
        Form::Keywords => keywords(&nodes, arguments),
    };
    match context.global.json {
        true => output::json(&json!({ "dsn": dsn }))?,
        false => output::line(dsn)?,
    }
    Ok(Exit::Fine)
}

fn wanted(arguments: &Arguments) -> &'static str {
    match arguments.read_only {
        true => "prefer-standby",
        false => "read-write",
    }
}

/// What RFC 3986, 2.3 calls unreserved stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn uri(nodes: &Nodes, arguments: &Arguments) -> String {
    let hosts = nodes
        .each_ref()
        .map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
    let encode = |text| utf8_percent_encode(text, ENCODED);
    let mut uri = "postgresql://".to_owned();
    if let Some(user) = &arguments.user {
        append(&mut uri, format_args!("{}@", encode(user)));
    }
    append(&mut uri, format_args!("{}/", hosts.join(",")));
    if let Some(dbname) = &arguments.dbname {
        append(&mut uri, format_args!("{}", encode(dbname)));
    }
    let (wanted, timeout) = (wanted(arguments), arguments.connect_timeout);
    append(
        &mut uri,
        format_args!("?target_session_attrs={wanted}&connect_timeout={timeout}"),
    );
    uri
}

fn keywords(nodes: &Nodes, arguments: &Arguments) -> String {
    let hosts = nodes.each_ref().map(|(host, _)| host.as_str());
    let ports = nodes.each_ref().map(|(_, port)| port.to_string());
    let mut text = format!("host={} port={}", hosts.join(","), ports.join(","));
    for (key, value) in [("dbname", &arguments.dbname), ("user", &arguments.user)] {
        if let Some(value) = value {
            append(&mut text, format_args!(" {key}={}", quoted(value)));
        }
    }
    let (wanted, timeout) = (wanted(arguments), arguments.connect_timeout);
    append(
        &mut text,
        format_args!(" target_session_attrs={wanted} connect_timeout={timeout}"),
    );
    text
}

fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Writing to a string does not fail.
fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(more);
    debug_assert!(written.is_ok());
}
