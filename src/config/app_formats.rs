//! The formats of app config files, and what a file's name says about its format.

use std::path::Path;

/// Every format that `effects::app_config` can edit.
pub const NAMES: [&str; 6] = ["dotenv", "ini", "json", "properties", "toml", "yaml"];

/// The format that a file's name promises. `*.conf` promises none: every program has its own.
#[must_use]
pub fn by_file_name(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
    match extension {
        "ini" => Some("ini"),
        "json" => Some("json"),
        "properties" => Some("properties"),
        "toml" => Some("toml"),
        "yaml" | "yml" => Some("yaml"),
        // /etc/default/shop
        "" | "env" => Some("dotenv"),
        // .env, .env.production, env.production, .envrc
        _ if stem.is_empty() && extension.starts_with("env") => Some("dotenv"),
        _ if name.starts_with(".env.") || name.starts_with("env.") => Some("dotenv"),
        _ => None,
    }
}
