//! What PgBouncer's file says of its databases. Pure.
//!
//! PgBouncer has no way to test a file, and its RELOAD answers "RELOAD" also when it stops reading
//! at a mistake: so the mistakes that make it stop are found here.
//!
//! Source: PgBouncer, config.md, "File format", "Section [databases]", "Include directive".

use std::collections::BTreeMap;

/// PostgreSQL's port. Source: config.md, `port`.
const PORT: &str = "5432";

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// As written; `None`: a unix socket of this host.
    pub host: Option<String>,
    /// As written.
    pub port: String,
}

/// Why PgBouncer would not read a file. Contains no value: connection strings hold passwords.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IniError {
    /// Neither section, setting, comment nor include.
    #[error("line {0} is no setting")]
    Line(usize),
    /// Not `key=value key=value`.
    #[error("the connection string on line {0} cannot be read")]
    Connection(usize),
    /// Which one counts is PgBouncer's secret.
    #[error("database {0} is there twice")]
    Twice(String),
}

/// The databases of a file. One without any section is taken for an included list of databases.
///
/// # Errors
/// When PgBouncer would stop reading.
pub fn databases(text: &str) -> Result<BTreeMap<String, Home>, IniError> {
    let begins_section = |line: &str| line.trim_start().starts_with('[');
    let mut in_databases = !text.lines().any(begins_section);
    let mut databases = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let name = section.strip_suffix(']').ok_or(IniError::Line(number))?;
            in_databases = name.trim() == "databases";
            continue;
        }
        if line.starts_with("%include ") {
            continue;
        }
        let (name, value) = setting(line).ok_or(IniError::Line(number))?;
        if !in_databases {
            continue;
        }
        let home = home(value).ok_or(IniError::Connection(number))?;
        if databases.insert(name.clone(), home).is_some() {
            return Err(IniError::Twice(name));
        }
    }
    Ok(databases)
}

/// `name = value`, the name in double quotes if it has to be.
fn setting(line: &str) -> Option<(String, &str)> {
    if let Some(quoted) = line.strip_prefix('"') {
        let (name, rest) = quoted.split_once('"')?;
        let value = rest.trim_start().strip_prefix('=')?;
        return Some((name.to_owned(), value.trim()));
    }
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let plain = !name.is_empty() && !name.contains(char::is_whitespace);
    plain.then(|| (name.to_owned(), value.trim()))
}

/// `host=… port=…` of a connection string; a value in single quotes doubles those inside.
fn home(text: &str) -> Option<Home> {
    let mut home = Home {
        host: None,
        port: PORT.to_owned(),
    };
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = connection_value(after.trim_start())?;
        match key.trim() {
            "host" => home.host = Some(value).filter(|host| !host.starts_with('/')),
            "port" => home.port = value,
            key if key.is_empty() || key.contains(char::is_whitespace) => return None,
            _ => {}
        }
        rest = after.trim_start();
    }
    Some(home)
}

fn connection_value(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: &str) -> Home {
        Home {
            host: Some(host.to_owned()),
            port: port.to_owned(),
        }
    }

    #[test]
    fn databases_are_read_and_other_sections_are_not() {
        let text = "; a comment\n%include other.ini\n[databases]\n\
                    app = host=10.0.0.1 port=6000 password='it''s; host=x' dbname=a\n\
                    \"odd name\" = port=1 host='::1'\nlocal =\n[pgbouncer]\n\
                    host = 1.2.3.4\nlisten_port = 6432\n";
        let read = databases(text).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read["app"], at("10.0.0.1", "6000"));
        assert_eq!(read["odd name"], at("::1", "1"));
        assert_eq!(
            (&read["local"].host, read["local"].port.as_str()),
            (&None, "5432")
        );
    }

    #[test]
    fn included_list_has_no_section() {
        let read = databases("app = host=10.0.0.1\n").unwrap();
        assert_eq!(read["app"], at("10.0.0.1", "5432"));
    }

    #[test]
    fn what_would_stop_pgbouncer_is_refused_without_showing_it() {
        for (text, error) in [
            ("[databases]\nhunter2\n", IniError::Line(2)),
            ("[databases\n", IniError::Line(1)),
            ("[databases]\na = host='hunter2\n", IniError::Connection(2)),
            ("[databases]\na = hunter2\n", IniError::Connection(2)),
            ("[databases]\na = \na =\n", IniError::Twice("a".to_owned())),
        ] {
            let refused = databases(text).unwrap_err();
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("hunter2"));
        }
    }
}
