//! The comment by which a file remembers the epoch that wrote it (S8).

use std::ops::Range;

use super::change::replace;
use super::lines::{BOM, Line, lines, part, trimmed};
use crate::effects::app_config::format::EditError;
use crate::model::Epoch;

/// Its head, behind the sign that begins a comment.
pub(crate) const EPOCH_MARK: &[u8] = b"managed-by-agent epoch=";

/// Where an epoch's number stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EpochMark {
    /// Counts from 1, for people.
    pub(crate) line: usize,
    /// The number, and what else is on the line behind it.
    pub(crate) number: Range<usize>,
}

/// The highest epoch of these marks.
pub(crate) fn epoch(text: &[u8], marks: &[EpochMark]) -> Result<Option<Epoch>, EditError> {
    let mut highest = None;
    for mark in marks {
        let digits = str::from_utf8(part(text, &mark.number)).unwrap_or("");
        let epoch = digits
            .trim()
            .parse()
            .map_err(|_| EditError::EpochUnreadable { line: mark.line })?;
        highest = highest.max(Some(Epoch(epoch)));
    }
    Ok(highest)
}

/// The text with its marks updated, or with one put on top: `sign` begins a comment.
pub(crate) fn with_epoch(text: &[u8], marks: &[EpochMark], sign: &str, epoch: Epoch) -> Vec<u8> {
    let number = epoch.to_string().into_bytes();
    let mut replacements: Vec<_> = marks
        .iter()
        .map(|mark| (mark.number.clone(), number.clone()))
        .collect();
    if replacements.is_empty() {
        let top = if text.starts_with(BOM) { BOM.len() } else { 0 };
        let first_end = text.iter().position(|byte| *byte == b'\n');
        let before_end = first_end.and_then(|end| end.checked_sub(1));
        let crlf = before_end.and_then(|end| text.get(end)) == Some(&b'\r');
        let line_end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let comment = [sign.as_bytes(), b" ", EPOCH_MARK, &number, line_end].concat();
        replacements.push((top..top, comment));
    }
    replace(text, replacements)
}

/// The mark on this line, if it is a comment that begins with one of `signs` and has one.
pub(super) fn mark_on(text: &[u8], line: &Line, signs: &[u8]) -> Option<EpochMark> {
    let comment = trimmed(text, &line.range);
    let first = part(text, &comment).first()?;
    if !signs.contains(first) {
        return None;
    }
    let said = trimmed(text, &(comment.start + 1..comment.end));
    let number = said.start + EPOCH_MARK.len()..line.range.end;
    part(text, &said)
        .starts_with(EPOCH_MARK)
        .then_some(EpochMark {
            line: line.number,
            number,
        })
}

/// The marks on the lines of a text for which `is_comment` holds.
pub(super) fn marks(
    text: &[u8],
    signs: &[u8],
    is_comment: impl Fn(&Line) -> bool,
) -> Vec<EpochMark> {
    lines(text)
        .iter()
        .filter(|line| is_comment(line))
        .filter_map(|line| mark_on(text, line, signs))
        .collect()
}
