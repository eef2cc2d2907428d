//! A text as lines, at byte offsets: what every line-based format begins with.

use std::ops::Range;

/// The mark some editors put at the start of a UTF-8 file.
pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Counts from 1, for people.
    pub(super) number: usize,
    /// Its text, without the line end.
    pub(super) range: Range<usize>,
}

/// Every line, without the byte order mark and without `\n` or `\r\n`.
pub(super) fn lines(text: &[u8]) -> Vec<Line> {
    let mut start = if text.starts_with(BOM) { BOM.len() } else { 0 };
    let mut found = Vec::new();
    let rest = text.get(start..).unwrap_or(&[]);
    for (number, line) in (1..).zip(rest.split_inclusive(|byte| *byte == b'\n')) {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let bare = match line.len() == bare.len() {
            true => bare,
            false => bare.strip_suffix(b"\r").unwrap_or(bare),
        };
        found.push(Line {
            number,
            range: start..start + bare.len(),
        });
        start += line.len();
    }
    found
}

/// The number of the line in which `offset` lies.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The bytes of a range; empty when it does not lie within the text.
pub(super) fn part<'a>(text: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    text.get(range.clone()).unwrap_or(&[])
}

/// Where `bytes` begin after their blanks and tabs, and where they end before them.
pub(super) fn trimmed(text: &[u8], range: &Range<usize>) -> Range<usize> {
    let bytes = part(text, range);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let lead = bytes.iter().take_while(|byte| blank(byte)).count();
    let tail = bytes.iter().rev().take_while(|byte| blank(byte)).count();
    let start = range.start + lead;
    start..(range.end - tail.min(range.len())).max(start)
}
