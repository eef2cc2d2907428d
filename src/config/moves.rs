//! `[[app_config]]` and `[[notify]]`: files that follow the primary, and who is told.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{Refusal, quoted};
use super::reader::Table;
use super::secret::Secret;
use super::settings::{
    AppConfig, AppConfigEdit, AppConfigFile, AppConfigTemplate, AppConfigValue, NotifierSettings,
    TargetSettings,
};
use super::sites::Sites;
use super::{MemberRole, app_formats, defaults, keys, secret_source, syntax, targets, validate};
use crate::model::SiteName;
use crate::model::key_path::KeyPath;

/// Kinds of `effects::notify`.
const NOTIFIERS: [&str; 1] = ["webhook"];

/// What values of app configs may name.
const VALUE_VARIABLES: [&str; 3] = ["host", "port", "site"];

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const RELOAD_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
const KEEP: RangeInclusive<u32> = 1..=1000;
/// One app has a handful; what is remembered of them must stay small.
const FILES_MAX: usize = 32;

/// The app configs that could be read.
pub(super) fn app_configs(root: &Table<'_>, sites: &Sites, role: MemberRole) -> Vec<AppConfig> {
    let tables = root.tables("app_config", &keys::APP_CONFIG);
    validate::names_differ(&tables);
    let mut read: Vec<AppConfig> = Vec::new();
    for table in &tables {
        let Some(app_config) = app_config(table, sites, role) else {
            continue;
        };
        // Two lists of edits for one file would undo each other.
        let same = read.iter().find(|other| {
            let overlap =
                other.site.is_none() || app_config.site.is_none() || other.site == app_config.site;
            let mut files = app_config.files.iter();
            overlap && files.any(|file| other.files.iter().any(|known| known.path == file.path))
        });
        if let Some(other) = same {
            let what = format!(
                "app config {} already rewrites this file",
                quoted(&other.name)
            );
            table.error(
                if table.has("path") { "path" } else { "file" },
                Refusal::new(what).hint("put all keys into one list"),
            );
        }
        read.push(app_config);
    }
    read
}

fn app_config(table: &Table<'_>, sites: &Sites, role: MemberRole) -> Option<AppConfig> {
    table.need("name", "how reports call it");
    let name = table.parsed("name", syntax::name);
    let site = table.parsed("site", |name| {
        sites.known(name).ok_or_else(|| sites.unknown(name))
    });
    let files = files(table);
    let keep = table.integer("keep", &KEEP);
    let keep = keep.unwrap_or(defaults::APP_CONFIG_KEEP);
    let target = targets::of_app(table, role);
    let variables = &VALUE_VARIABLES;
    taken(table, (name, site), files, variables, (keep, target))
}

/// How a change of files is checked, told and proved: the same keys wherever files are changed.
/// `verify` may name `variables`.
pub(super) fn taken(
    table: &Table<'_>,
    (name, site): (Option<String>, Option<SiteName>),
    files: Option<Vec<AppConfigFile>>,
    variables: &[&str],
    (keep, target): (u32, Option<TargetSettings>),
) -> Option<AppConfig> {
    let stage = stage(table, files.as_deref().unwrap_or_default());
    let staged: &[&str] = match table.has("stage") {
        true => &["staged", "staged_dir"],
        false => &["staged"],
    };
    let validate = table.command("validate", staged);
    let validate_timeout = table.duration("validate_timeout", &TIMEOUT);
    let reload = table.command("reload", &[]);
    let reload_timeout = table.duration("reload_timeout", &RELOAD_TIMEOUT);
    let verify = table.command("verify", variables);
    let verify_timeout = table.duration("verify_timeout", &TIMEOUT);
    refuse_without_commands(table, target.is_some());
    Some(AppConfig {
        name: name?,
        site,
        files: files?,
        validate,
        validate_timeout: validate_timeout.unwrap_or(defaults::APP_CONFIG_VALIDATE_TIMEOUT),
        stage,
        reload,
        reload_timeout: reload_timeout.unwrap_or(defaults::APP_CONFIG_RELOAD_TIMEOUT),
        verify,
        verify_timeout: verify_timeout.unwrap_or(defaults::APP_CONFIG_VERIFY_TIMEOUT),
        target,
        keep,
    })
}

/// What belongs to a command goes with it; the bounds hold for a ready-made target as well.
fn refuse_without_commands(table: &Table<'_>, ready_made: bool) {
    let belongs: [(&'static str, &[&'static str], &str); 3] = [
        (
            "validate",
            &["validate_timeout", "stage"],
            "has no meaning without validate",
        ),
        (
            "reload",
            &["reload_timeout"],
            "has no meaning without reload",
        ),
        (
            "verify",
            &["verify_timeout"],
            "has no meaning without verify",
        ),
    ];
    for (command, keys, why) in belongs {
        if ready_made {
            let refusal = "a ready-made target does this itself";
            table.refuse_keys(&[command], refusal);
        } else if !table.has(command) {
            table.refuse_keys(keys, why);
        }
    }
    if ready_made {
        table.refuse_keys(&["stage"], "has no meaning without validate");
    }
}

/// The one file of `path` and `set`, or the list of `file`.
fn files(table: &Table<'_>) -> Option<Vec<AppConfigFile>> {
    if !table.has("file") {
        return file(table).map(|file| vec![file]);
    }
    table.refuse_keys(
        &["path", "format", "set", "template"],
        "file is given as well: put it into a [[app_config.file]] of its own",
    );
    let tables = table.tables("file", &keys::APP_CONFIG_FILE);
    if tables.len() > FILES_MAX {
        let what = format!("at most {FILES_MAX} files change together");
        table.error("file", Refusal::new(what));
    }
    if tables.is_empty() && !table.reader.has_errors_in(&table.spot("file").key) {
        table.error("file", Refusal::new("must not be empty"));
    }
    let mut files: Vec<AppConfigFile> = Vec::new();
    for table in tables {
        let Some(file) = file(&table) else {
            continue;
        };
        if files.iter().any(|other| other.path == file.path) {
            let refusal = Refusal::new("already in this list");
            table.error("path", refusal.hint("put all keys into one list"));
        }
        files.push(file);
    }
    Some(files)
}

fn file(table: &Table<'_>) -> Option<AppConfigFile> {
    table.need("path", "the file to rewrite");
    let path = table.path("path");
    if table.has("template") {
        return rendered_file(table, path);
    }
    table.need(
        "set",
        "a list of { key = \"…\", value = \"{host}\" } or { key = \"…\", url = true }; or template = \
         \"…\" in its place",
    );
    let format = format(table, path.as_deref());
    let edits = edits(table);
    Some(AppConfigFile {
        path: path?,
        format,
        edits: edits?,
        template: None,
    })
}

/// A file that is a template's text. What the template says is looked at by those who render it:
/// an agent must also start when it is broken.
fn rendered_file(table: &Table<'_>, path: Option<PathBuf>) -> Option<AppConfigFile> {
    table.refuse_keys(
        &["set"],
        "template is given as well, and renders the whole file",
    );
    let template = table.path("template")?;
    let format = table.choice("format", &app_formats::NAMES);
    let path = path?;
    if template == path {
        let refusal = Refusal::new("the file would be its own template");
        table.error(
            "template",
            refusal.hint("keep the template in a file of its own"),
        );
    }
    let spot = table.spot("template");
    Some(AppConfigFile {
        path,
        format: format.map(str::to_owned),
        edits: Vec::new(),
        template: Some(AppConfigTemplate {
            path: template,
            key: spot.key,
            line: spot.line,
        }),
    })
}

/// The directory that is copied for `validate`: every file lies below it.
fn stage(table: &Table<'_>, files: &[AppConfigFile]) -> Option<PathBuf> {
    let stage = table.path("stage")?;
    for file in files {
        if !file.path.starts_with(&stage) {
            let what = format!("{} is not below it", file.path.display());
            let hint = "name a directory that contains every file of this app config";
            table.error("stage", Refusal::new(what).hint(hint));
        }
    }
    Some(stage)
}

/// The format if it is named; it must be unless the file's name promises one.
fn format(table: &Table<'_>, path: Option<&Path>) -> Option<String> {
    if table.has("format") {
        return table
            .choice("format", &app_formats::NAMES)
            .map(str::to_owned);
    }
    if path.is_some_and(|path| app_formats::by_file_name(path).is_none()) {
        let names = app_formats::NAMES.map(quoted).join(", ");
        let refusal = Refusal::new("the file's name does not tell its format");
        table.error("path", refusal.hint(format!("add format = one of {names}")));
    }
    None
}

fn edits(table: &Table<'_>) -> Option<Vec<AppConfigEdit>> {
    if !table.has("set") {
        return None;
    }
    let mut edits: Vec<AppConfigEdit> = Vec::new();
    let tables = table.tables("set", &keys::APP_CONFIG_SET);
    if tables.is_empty() && !table.reader.has_errors_in(&table.spot("set").key) {
        table.error("set", Refusal::new("must not be empty"));
    }
    for table in tables {
        let Some(edit) = edit(&table) else {
            continue;
        };
        if edits.iter().any(|other| collide(other, &edit)) {
            table.error("key", Refusal::new("already in this list"));
        }
        edits.push(edit);
    }
    Some(edits)
}

/// Two edits of one key, unless they change different fields of its connection string.
fn collide(one: &AppConfigEdit, other: &AppConfigEdit) -> bool {
    let different_fields = match (&one.value, &other.value) {
        (AppConfigValue::Field { name, .. }, AppConfigValue::Field { name: second, .. }) => {
            name != second
        }
        (AppConfigValue::Field { .. }, AppConfigValue::Text(_) | AppConfigValue::UrlAuthority)
        | (AppConfigValue::Text(_) | AppConfigValue::UrlAuthority, _) => false,
    };
    one.key == other.key && !different_fields
}

fn edit(table: &Table<'_>) -> Option<AppConfigEdit> {
    table.need("key", "the key in the app's file");
    let key = table.parsed("key", edit_key);
    let url = table.boolean("url", false);
    let field = table.parsed("field", field_name);
    if url {
        let refusal = || Refusal::new("url is given as well");
        for other in ["value", "field"] {
            if table.has(other) {
                let hint = "value replaces all of it or of a field, url only host and port";
                table.error(other, refusal().hint(hint));
            }
        }
    } else {
        table.need(
            "value",
            "a text with {host}, {port} or {site}; or url = true",
        );
    }
    let text = table.parsed("value", edit_value);
    let value = match (url, table.has("field")) {
        (true, _) => AppConfigValue::UrlAuthority,
        (false, false) => AppConfigValue::Text(text?),
        (false, true) => AppConfigValue::Field {
            name: field?,
            text: text?,
        },
    };
    Some(AppConfigEdit { key: key?, value })
}

/// No format has a key that is refused here: the step would fail, at the worst time.
fn edit_key(text: &str) -> Result<String, Refusal> {
    if text.contains('"') && KeyPath::parse(text).is_err() {
        return Err(Refusal::new("quotes stand around a whole part of a key")
            .hint("like this: servers[0].\"a.b\".host"));
    }
    let unquoted: String = text.split('"').step_by(2).collect();
    let never = |sign: char| sign.is_whitespace() || "=#'".contains(sign);
    if text.is_empty() || text.chars().any(char::is_control) || unquoted.chars().any(never) {
        return Err(Refusal::new("a key has no blanks, quotes, \"=\" or \"#\""));
    }
    Ok(text.to_owned())
}

/// A field of a connection string. Source: PostgreSQL manual 34.1.2, Parameter Key Words.
fn field_name(text: &str) -> Result<String, Refusal> {
    if text.ends_with("password") {
        return Err(Refusal::new(
            "a password, which would be written into the journal",
        ));
    }
    let plain = |sign: char| sign.is_ascii_lowercase() || sign == '_';
    match text.is_empty() || !text.chars().all(plain) {
        true => Err(Refusal::new(
            "not a field of a connection string, such as \"host\"",
        )),
        false => Ok(text.to_owned()),
    }
}

/// Values are written into plans and the journal, so they must not be secrets. Never repeats them.
fn edit_value(text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::new("a value has one line"));
    }
    syntax::only_variables(text, &VALUE_VARIABLES)?;
    let authority = text
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
        .unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let lower = text.to_ascii_lowercase();
    let named = ["password=", "passwd=", "pwd="];
    if user.contains(':') || named.iter().any(|name| lower.contains(name)) {
        return Err(
            Refusal::new("a password, which would be written into the journal")
                .hint("url = true leaves it where it is and changes host and port"),
        );
    }
    Ok(text.to_owned())
}

/// The notifiers that could be read; the witness tells nobody.
pub(super) fn notifiers(root: &Table<'_>, role: MemberRole) -> Vec<NotifierSettings> {
    let tables = root.tables("notify", &keys::NOTIFY);
    validate::names_differ(&tables);
    tables
        .iter()
        .filter_map(|table| notifier(table, role))
        .collect()
}

fn notifier(table: &Table<'_>, role: MemberRole) -> Option<NotifierSettings> {
    table.need("name", "how reports call it");
    table.need("kind", NOTIFIERS.join(" or ").as_str());
    let name = table.parsed("name", syntax::name);
    let kind = table.choice("kind", &NOTIFIERS);
    let timeout = table.duration("timeout", &TIMEOUT);
    let url = match role {
        MemberRole::Agent => webhook_url(table)?,
        MemberRole::Witness => return None,
    };
    Some(NotifierSettings {
        name: name?,
        kind: kind?.to_owned(),
        url,
        timeout: timeout.unwrap_or(defaults::NOTIFY_TIMEOUT),
    })
}

fn webhook_url(table: &Table<'_>) -> Option<Secret> {
    let secret = secret_source::require(table, &keys::NOTIFY_URL)?;
    let key = secret_source::named(table, &keys::NOTIFY_URL);
    match syntax::url(secret.reveal()) {
        Ok(url) => {
            if !url.https && !syntax::is_loopback(&url.host) {
                let refusal = Refusal::new("the URL and the messages go in plain text");
                table.warning(key, refusal.hint("use https"));
            }
            Some(secret)
        }
        Err(refusal) => {
            table.error(key, refusal);
            None
        }
    }
}
