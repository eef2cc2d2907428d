//! A block of lines that is the agent's own, in a file that may be somebody else's. Pure.
//!
//! Two comment lines are its ends, in a file whose comments begin with `#`. What is outside of them
//! is never changed; a file without them is only taken when it is empty.

use std::path::Path;

use crate::effects::error::EffectError;

/// A block as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its lines, without their ends.
    pub lines: Vec<String>,
}

/// Why a file has no place for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// There are other lines, but not these two.
    #[error("it has lines of its own, but not the two that enclose the block")]
    NoPlace,
    /// One of the two lines is there without the other, or twice.
    #[error("the lines that enclose the block are not there exactly once each, in their order")]
    Torn,
}

impl BlockError {
    /// What a person can do about it.
    pub(super) fn in_file(self, target: &str, path: &Path) -> EffectError {
        let what = format!("{target}: cannot write into {}: {self}", path.display());
        let name = target.rsplit(':').next().unwrap_or(target);
        EffectError::permanent(what).hint(format!(
            "put the lines `{}` and `{}` where the block belongs, or name a file of its own",
            begin(name),
            end(name)
        ))
    }
}

fn begin(name: &str) -> String {
    format!("# agent: upstream {name} begins")
}

fn end(name: &str) -> String {
    format!("# agent: upstream {name} ends")
}

/// What follows on the first line, for whoever opens the file.
const NOTICE: &str = " - rendered by agent, do not edit up to the line that says \"ends\"";

impl Block {
    /// The text with this block in it.
    ///
    /// # Errors
    /// When the text has no place for it.
    pub fn put_into(&self, text: &[u8]) -> Result<Vec<u8>, BlockError> {
        let lines = lines_of(text);
        let Some((first, last)) = ends(&lines, &self.name)? else {
            let mut new = Vec::new();
            self.write(&mut new, b"");
            return Ok(new);
        };
        let (before, rest) = lines.split_at(first);
        let after = rest.get(last - first + 1..).unwrap_or_default();
        let mut new = before.concat();
        let indent: Vec<u8> = rest
            .first()
            .map(|line| {
                line.iter()
                    .copied()
                    .take_while(|sign| b" \t".contains(sign))
            })
            .map_or_else(Vec::new, Iterator::collect);
        self.write(&mut new, &indent);
        // The last line's own end stays as it was.
        if after.is_empty() && !rest.last().is_some_and(|line| line.ends_with(b"\n")) {
            new.pop();
        }
        new.extend(after.concat());
        Ok(new)
    }

    fn write(&self, into: &mut Vec<u8>, indent: &[u8]) {
        let first = format!("{}{NOTICE}", begin(&self.name));
        let last = end(&self.name);
        let lines = self.lines.iter();
        for line in std::iter::once(&first).chain(lines).chain([&last]) {
            into.extend(indent);
            into.extend(line.as_bytes());
            into.push(b'\n');
        }
    }
}

/// The lines of the block that a text has; `None`: it has none, and a place for one.
///
/// # Errors
/// When the text has no place for it.
pub fn read(text: &[u8], name: &str) -> Result<Option<Vec<String>>, BlockError> {
    let lines = lines_of(text);
    let found = ends(&lines, name)?;
    Ok(found.map(|(first, last)| {
        let inner = lines.get(first + 1..last).unwrap_or_default();
        inner
            .iter()
            .map(|line| String::from_utf8_lossy(line).trim().to_owned())
            .collect()
    }))
}

/// Lines with their ends.
fn lines_of(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|sign| *sign == b'\n').collect()
}

/// Where the two lines are; `None` when there is nothing at all.
fn ends(lines: &[&[u8]], name: &str) -> Result<Option<(usize, usize)>, BlockError> {
    let found = |mark: String| -> Vec<usize> {
        let lines = lines.iter().enumerate();
        let marked = lines.filter(|(_, line)| {
            let rest = line.trim_ascii().strip_prefix(mark.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|sign| *sign == b' '))
        });
        marked.map(|(index, _)| index).collect()
    };
    match (found(begin(name)).as_slice(), found(end(name)).as_slice()) {
        ([first], [last]) if first < last => Ok(Some((*first, *last))),
        ([], []) if lines.iter().all(|line| line.trim_ascii().is_empty()) => Ok(None),
        ([], []) => Err(BlockError::NoPlace),
        _ => Err(BlockError::Torn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &[&str]) -> Block {
        Block {
            name: "shop".to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    fn put(lines: &[&str], text: &str) -> Result<String, BlockError> {
        let text = block(lines).put_into(text.as_bytes())?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn empty_file_becomes_the_block_and_reads_as_it_was_written() {
        let text = put(&["one", "two"], "\n").unwrap();
        let ours = read(text.as_bytes(), "shop").unwrap();
        assert_eq!(ours, Some(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(put(&["one", "two"], &text).unwrap(), text);
        assert_eq!(read(b"", "shop"), Ok(None));
    }

    #[test]
    fn what_is_outside_stays_byte_by_byte_and_the_indent_is_kept() {
        let text = "backend shop\r\n  # agent: upstream shop begins\n  old\n  \
                    # agent: upstream shop ends\n\u{e4}\tother";
        let new = put(&["new"], text).unwrap();
        let (before, rest) = new.split_once("  # agent: upstream shop begins").unwrap();
        assert_eq!(before, "backend shop\r\n");
        assert!(
            rest.ends_with("\n  new\n  # agent: upstream shop ends\n\u{e4}\tother"),
            "{new}"
        );
        let open = "# agent: upstream shop begins\n# agent: upstream shop ends";
        assert!(
            put(&["new"], open)
                .unwrap()
                .ends_with("new\n# agent: upstream shop ends")
        );
    }

    #[test]
    fn file_of_somebody_else_is_refused() {
        assert_eq!(put(&[], "server { }\n"), Err(BlockError::NoPlace));
        // Another group's lines are no place for this one.
        let other = "# agent: upstream shop2 begins\n# agent: upstream shop2 ends\n";
        assert_eq!(put(&[], other), Err(BlockError::NoPlace));
    }

    #[test]
    fn torn_or_repeated_ends_are_refused() {
        let (begins, ends) = (begin("shop"), end("shop"));
        for text in [
            format!("{begins}\n"),
            format!("{ends}\n{begins}\n"),
            format!("{begins}\n{ends}\n{begins}\n{ends}\n"),
        ] {
            assert_eq!(put(&[], &text), Err(BlockError::Torn), "{text}");
        }
    }
}
