//! The path to a value in a nested file: `servers[0].host`, `"a.b".c`.

/// Steps from the top of a file to one of its values; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath(Vec<Segment>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Into a table, by key.
    Key(String),
    /// Into a list, counting from 0.
    Index(usize),
}

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyPathError {
    /// Nothing between two dots, or nothing at all.
    #[error("a part of it is empty")]
    Empty,
    /// A quoted part has no end, or text follows it.
    #[error("a quoted part must be closed, and be followed by a dot, a bracket or nothing")]
    Quote,
    /// What stands in brackets is no number.
    #[error("in brackets stands the position in a list, counting from 0")]
    Index,
}

impl KeyPath {
    /// Reads `a.b`, `a[0].b` or `"a.b".c`. A backslash means itself.
    ///
    /// # Errors
    /// When a part is empty, a quote is not closed, or an index is no number.
    pub fn parse(text: &str) -> Result<Self, KeyPathError> {
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            rest = match rest.strip_prefix('[') {
                // Only a list at the top of the file begins like this.
                Some(_) if segments.is_empty() => rest,
                Some(_) | None => {
                    let (key, after) = key(rest)?;
                    segments.push(Segment::Key(key));
                    after
                }
            };
            while let Some(indexed) = rest.strip_prefix('[') {
                let (index, after) = indexed.split_once(']').ok_or(KeyPathError::Index)?;
                let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
                let index = index.parse().ok().filter(|_| digits);
                segments.push(Segment::Index(index.ok_or(KeyPathError::Index)?));
                rest = after;
            }
            if rest.is_empty() {
                return Ok(Self(segments));
            }
            rest = rest.strip_prefix('.').ok_or(KeyPathError::Quote)?;
        }
    }

    /// Its steps, from the top.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }
}

/// A key at the start of `text`, and what follows it.
fn key(text: &str) -> Result<(String, &str), KeyPathError> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, after) = quoted.split_once('"').ok_or(KeyPathError::Quote)?;
        return Ok((key.to_owned(), after));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, after) = text.split_at(end);
    if key.is_empty() {
        return Err(KeyPathError::Empty);
    }
    if key.contains(['"', ']']) {
        return Err(KeyPathError::Quote);
    }
    Ok((key.to_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_with_indices_and_quoted_parts() {
        let key = |text: &str| Segment::Key(text.to_owned());
        for (text, segments) in [
            ("a", vec![key("a")]),
            ("a.b-c", vec![key("a"), key("b-c")]),
            ("a[0].b", vec![key("a"), Segment::Index(0), key("b")]),
            (
                "a[1][2]",
                vec![key("a"), Segment::Index(1), Segment::Index(2)],
            ),
            ("[3].a", vec![Segment::Index(3), key("a")]),
            ("\"a.b\".c", vec![key("a.b"), key("c")]),
            (
                "c.\"x y\"[7]",
                vec![key("c"), key("x y"), Segment::Index(7)],
            ),
            ("\"\"", vec![key("")]),
        ] {
            assert_eq!(KeyPath::parse(text), Ok(KeyPath(segments)), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (text, error) in [
            ("", KeyPathError::Empty),
            ("a..b", KeyPathError::Empty),
            (".a", KeyPathError::Empty),
            ("a.", KeyPathError::Empty),
            ("a.[0]", KeyPathError::Empty),
            ("a[x]", KeyPathError::Index),
            ("a[+1]", KeyPathError::Index),
            ("a[0", KeyPathError::Index),
            ("a[99999999999999999999999]", KeyPathError::Index),
            ("\"a", KeyPathError::Quote),
            ("\"a\"b", KeyPathError::Quote),
            ("a\"b\"", KeyPathError::Quote),
            ("a[0]b", KeyPathError::Quote),
        ] {
            assert_eq!(KeyPath::parse(text), Err(error), "{text}");
        }
    }
}
