//! Replaces fields inside a connection string (`host=db1 port=5432 dbname=app`), and nothing else.
//!
//! Pure and textual, like `url`. libpq and PgBouncer read these strings differently where a quote
//! or a backslash has to be escaped; such strings are refused. No error carries a value.
//!
//! Source: PostgreSQL manual 34.1.1.1 (keyword/value connection strings) and 34.1.1.3 (several
//! hosts); PgBouncer manual, section `[databases]`.

use std::ops::Range;

/// Why a connection string cannot be edited. Never contains the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// It cannot be read.
    #[error("it is no connection string of the form host=… port=…")]
    Unreadable,
    /// Escapes are read differently.
    #[error("it has a backslash or a doubled quote, which libpq and PgBouncer read differently")]
    Escaped,
    /// No such field.
    #[error("it has no field {0}")]
    FieldMissing(String),
    /// Which one counts depends on the program.
    #[error("it has field {0} more than once")]
    FieldRepeated(String),
    /// Another field wins, so that changing the host would change nothing.
    #[error("its field hostaddr overrides host; remove it, or set it too")]
    OverriddenByHostaddr,
    /// libpq refuses such lists.
    #[error("it would name more than one host with another number of ports")]
    UnevenLists,
    /// The new value would be read differently by different programs.
    #[error("the new value of field {0} needs quotes or escapes that are not there")]
    BadNewValue(String),
}

/// `value` with these fields replaced; each must be there once.
///
/// # Errors
/// When the string is not one that libpq and PgBouncer read the same way, before and after.
pub fn set(value: &str, fields: &[(&str, &str)]) -> Result<String, ConninfoError> {
    let pairs = pairs(value)?;
    let mut replacements = Vec::new();
    for (name, new) in fields {
        let pair = only(&pairs, name)?;
        let old = value.get(pair.value.clone()).unwrap_or("");
        if old != *new && !is_writable(new, pair.quoted) {
            return Err(ConninfoError::BadNewValue((*name).to_owned()));
        }
        replacements.push((pair.value.clone(), new.as_bytes().to_vec()));
    }
    let sets = |name: &str| fields.iter().any(|(field, _)| *field == name);
    if sets("host") && !sets("hostaddr") && pairs.iter().any(|pair| pair.name == "hostaddr") {
        return Err(ConninfoError::OverriddenByHostaddr);
    }
    let new = super::change::replace(value.as_bytes(), replacements);
    let new = String::from_utf8(new).map_err(|_| ConninfoError::Unreadable)?;
    check_lists(&new)?;
    Ok(new)
}

/// One port may serve all hosts; otherwise each host has its own.
fn check_lists(value: &str) -> Result<(), ConninfoError> {
    let pairs = pairs(value)?;
    let count = |name: &str| {
        let pair = pairs.iter().find(|pair| pair.name == name)?;
        let list = value.get(pair.value.clone())?;
        Some(list.split(',').count())
    };
    let hosts = count("hostaddr").or(count("host")).unwrap_or(1);
    let ports = count("port").unwrap_or(1);
    match ports == 1 || ports == hosts {
        true => Ok(()),
        false => Err(ConninfoError::UnevenLists),
    }
}

struct Pair<'a> {
    name: &'a str,
    /// Without quotes.
    value: Range<usize>,
    quoted: bool,
}

fn only<'a, 'b>(pairs: &'b [Pair<'a>], name: &str) -> Result<&'b Pair<'a>, ConninfoError> {
    let mut found = pairs.iter().filter(|pair| pair.name == name);
    let first = found
        .next()
        .ok_or_else(|| ConninfoError::FieldMissing(name.to_owned()))?;
    match found.next() {
        None => Ok(first),
        Some(_) => Err(ConninfoError::FieldRepeated(name.to_owned())),
    }
}

fn pairs(value: &str) -> Result<Vec<Pair<'_>>, ConninfoError> {
    if value.contains('\\') {
        return Err(ConninfoError::Escaped);
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(ConninfoError::Unreadable);
    }
    let mut pairs = Vec::new();
    let mut at = skip_blanks(value, 0);
    while at < value.len() {
        let rest = value.get(at..).unwrap_or("");
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or("");
        let equals = skip_blanks(value, at + length);
        if name.is_empty() || value.as_bytes().get(equals) != Some(&b'=') {
            return Err(ConninfoError::Unreadable);
        }
        let start = skip_blanks(value, equals + 1);
        let pair = read_value(value, name, start)?;
        let read = value.get(pair.value.clone()).unwrap_or("");
        if start > equals + 1 && !pair.quoted && read.contains('=') {
            // "host= port=1" gives host the value "port=1": nobody means that.
            return Err(ConninfoError::Unreadable);
        }
        let end = pair.value.end + usize::from(pair.quoted);
        at = skip_blanks(value, end);
        if at == end && at < value.len() {
            // Right behind the closing quote: "''" is one quote to PgBouncer, an end to libpq.
            return Err(ConninfoError::Escaped);
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

fn read_value<'a>(text: &str, name: &'a str, start: usize) -> Result<Pair<'a>, ConninfoError> {
    let rest = text.get(start..).unwrap_or("");
    if let Some(quoted) = rest.strip_prefix('\'') {
        let length = quoted.find('\'').ok_or(ConninfoError::Unreadable)?;
        return Ok(Pair {
            name,
            value: start + 1..start + 1 + length,
            quoted: true,
        });
    }
    let length = rest.find([' ', '\t']).unwrap_or(rest.len());
    let value = rest.get(..length).unwrap_or("");
    // An empty value must be quoted.
    if value.is_empty() || value.contains('\'') {
        return Err(ConninfoError::Unreadable);
    }
    Ok(Pair {
        name,
        value: start..start + length,
        quoted: false,
    })
}

fn skip_blanks(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or("");
    from + rest.len() - rest.trim_start_matches([' ', '\t']).len()
}

fn is_writable(new: &str, quoted: bool) -> bool {
    let never = |c: char| c.is_control() || "'\\".contains(c);
    let bare = !new.is_empty() && !new.chars().any(char::is_whitespace) && !new.starts_with('=');
    !new.chars().any(never) && (quoted || bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_changes_and_nothing_else() {
        for (before, after) in [
            ("host=db1 port=5432", "host=db2 port=5433"),
            (
                "  dbname = app\thost='db1'  port = 5432 password='a b#c;' ",
                "  dbname = app\thost='db2'  port = 5433 password='a b#c;' ",
            ),
            ("port=1 host=a,b,c", "port=5433 host=db2"),
            ("port=1,2 host=a,b user=''", "port=5433 host=db2 user=''"),
            ("host='' port=6432 x=a=b", "host='db2' port=5433 x=a=b"),
        ] {
            let fields = [("host", "db2"), ("port", "5433")];
            assert_eq!(set(before, &fields).as_deref(), Ok(after), "{before}");
        }
    }

    #[test]
    fn what_libpq_and_pgbouncer_read_differently_is_refused() {
        let field = || "host".to_owned();
        for (value, error) in [
            ("port=1", ConninfoError::FieldMissing(field())),
            ("host=a host=b", ConninfoError::FieldRepeated(field())),
            (
                "host=a hostaddr=10.0.0.1",
                ConninfoError::OverriddenByHostaddr,
            ),
            ("host=a,b port=1,2", ConninfoError::UnevenLists),
            ("host=a password=x\\'y", ConninfoError::Escaped),
            ("host=a password='x''y'", ConninfoError::Escaped),
            ("host=a password='x'y=1", ConninfoError::Escaped),
            ("host=a password='x", ConninfoError::Unreadable),
            ("host=a password=x'y", ConninfoError::Unreadable),
            ("host= port=1", ConninfoError::Unreadable),
            ("host", ConninfoError::Unreadable),
            ("=a", ConninfoError::Unreadable),
            ("host=", ConninfoError::Unreadable),
            ("postgres://h/d", ConninfoError::Unreadable),
        ] {
            assert_eq!(set(value, &[("host", "db2")]), Err(error), "{value}");
        }
        for new in ["", "a b", "a'b", "a\\b", "=a"] {
            let result = set("host=a", &[("host", new)]);
            assert_eq!(result, Err(ConninfoError::BadNewValue(field())), "{new}");
        }
    }
}
