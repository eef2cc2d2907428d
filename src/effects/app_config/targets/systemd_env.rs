//! The dialect of `EnvironmentFile=`. Pure.
//!
//! systemd skips what it does not understand with a line in its log, and starts the unit without
//! it: so it is refused here. Source: systemd.exec(5), `EnvironmentFile=`; env-file.c of systemd.

/// Why systemd would not read a file as it was meant. Contains no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A shell's word; systemd takes `export NAME` for a name and skips the line.
    #[error("line {0} begins with export, which is a shell's")]
    Export(usize),
    /// No assignment.
    #[error("line {0} is no NAME=value")]
    NotAssigned(usize),
    /// Letters, digits and `_`, no digit first.
    #[error("the name on line {0} is no name of a variable")]
    Name(usize),
    /// A quote without an end takes the rest of the file.
    #[error("the quote that opens on line {0} is not closed")]
    Quote(usize),
    /// The last line ends with a backslash.
    #[error("line {0} is continued, but nothing follows")]
    Continued(usize),
}

/// The assignments of a file, as systemd reads them.
///
/// # Errors
/// When systemd would skip a line of it.
pub fn assignments(text: &str) -> Result<Vec<(String, String)>, EnvError> {
    let mut read = Vec::new();
    let mut signs = Signs::of(text);
    while signs.skip_to_assignment()? {
        let line = signs.line;
        let name = signs.name(line)?;
        let value = signs.value()?;
        read.push((name, value));
    }
    Ok(read)
}

/// The text that is left, and where it is.
struct Signs<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl<'a> Signs<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            rest: text.chars().peekable(),
            line: 1,
        }
    }

    fn next(&mut self) -> Option<char> {
        let sign = self.rest.next()?;
        if sign == '\n' {
            self.line += 1;
        }
        Some(sign)
    }

    /// Past blanks and comments; false at the end of the text.
    fn skip_to_assignment(&mut self) -> Result<bool, EnvError> {
        while let Some(&sign) = self.rest.peek() {
            match sign {
                ' ' | '\t' | '\r' | '\n' => drop(self.next()),
                '#' | ';' => self.skip_comment()?,
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// A comment may be continued by a backslash, too.
    fn skip_comment(&mut self) -> Result<(), EnvError> {
        let line = self.line;
        while let Some(sign) = self.next() {
            if sign == '\n' {
                return Ok(());
            }
            if sign == '\\' && self.next().is_none() {
                return Err(EnvError::Continued(line));
            }
        }
        Ok(())
    }

    fn name(&mut self, line: usize) -> Result<String, EnvError> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('=') => break,
                None | Some('\n') => return Err(EnvError::NotAssigned(line)),
                Some(sign) => name.push(sign),
            }
        }
        let name = name.trim();
        if name.starts_with("export ") || name.starts_with("export\t") {
            return Err(EnvError::Export(line));
        }
        let fits = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
        let begins_with_digit = name.starts_with(|sign: char| sign.is_ascii_digit());
        match name.is_empty() || begins_with_digit || !name.chars().all(fits) {
            true => Err(EnvError::Name(line)),
            false => Ok(name.to_owned()),
        }
    }

    /// Up to the end of the line, quotes and continuations resolved. A quote means something only
    /// where the value begins and right after another quote; blanks at the end count only in one.
    fn value(&mut self) -> Result<String, EnvError> {
        let mut value = String::new();
        let mut kept = 0;
        let mut begins = true;
        loop {
            let line = self.line;
            match self.next() {
                None | Some('\n') => break,
                Some('\\') => {
                    begins = false;
                    match self.next() {
                        None => return Err(EnvError::Continued(line)),
                        Some('\n') => {}
                        Some(sign) => value.push(sign),
                    }
                    kept = value.len();
                }
                Some(quote @ ('"' | '\'')) if begins => {
                    self.quoted(quote, line, &mut value)?;
                    kept = value.len();
                }
                Some(' ' | '\t' | '\r') if begins => {}
                Some(blank @ (' ' | '\t' | '\r')) => value.push(blank),
                Some(sign) => {
                    begins = false;
                    value.push(sign);
                    kept = value.len();
                }
            }
        }
        value.truncate(kept);
        Ok(value)
    }

    fn quoted(&mut self, quote: char, line: usize, value: &mut String) -> Result<(), EnvError> {
        loop {
            match self.next() {
                None => return Err(EnvError::Quote(line)),
                Some(sign) if sign == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.next() {
                    None => return Err(EnvError::Quote(line)),
                    Some('\n') => {}
                    // Source: POSIX shell, 2.2.3: what a backslash takes its meaning from there.
                    Some(sign @ ('"' | '\\' | '`' | '$')) => value.push(sign),
                    Some(sign) => {
                        value.push('\\');
                        value.push(sign);
                    }
                },
                Some(sign) => value.push(sign),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        assignments(text).unwrap()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        let text = "# a comment\n; another\n\nHOST=10.0.0.1\n  PORT = 5432  \n\
                    QUOTED=\"a b\" 'c d'\nMID=it's\nLONG=one\\\ntwo\nESCAPED=\"\\$x \\d\"\nEMPTY=\n\
                    LAST=end";
        let expected = [
            pair("HOST", "10.0.0.1"),
            pair("PORT", "5432"),
            pair("QUOTED", "a bc d"),
            pair("MID", "it's"),
            pair("LONG", "onetwo"),
            pair("ESCAPED", "$x \\d"),
            pair("EMPTY", ""),
            pair("LAST", "end"),
        ];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn nothing_is_expanded_and_a_hash_in_a_value_is_no_comment() {
        assert_eq!(read("A=$B#c\n"), [pair("A", "$B#c")]);
    }

    #[test]
    fn lines_that_systemd_would_skip_are_refused_without_their_values() {
        for (text, error) in [
            ("A=1\nexport B=hunter2\n", EnvError::Export(2)),
            ("hunter2\n", EnvError::NotAssigned(1)),
            ("1A=hunter2\n", EnvError::Name(1)),
            ("A-B=hunter2\n", EnvError::Name(1)),
            ("A=1\nB=\"hunter2\nC=3\n", EnvError::Quote(2)),
            ("A=hunter2\\", EnvError::Continued(1)),
        ] {
            let refused = assignments(text).unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }
}
