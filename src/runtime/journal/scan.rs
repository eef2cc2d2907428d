//! The bytes of one journal file → its lines, its torn tail, or what is damaged. Pure.

use std::path::Path;

use super::JournalError;
use crate::model::journal::JournalLine;
use crate::runtime::checked_line;

/// What one file says.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) lines: Vec<JournalLine>,
    /// The length of the whole lines.
    pub(super) good_bytes: u64,
    /// The unfinished last line, if there is one.
    pub(super) torn: Option<Vec<u8>>,
}

/// Reads all lines; only the last may be unfinished.
pub(super) fn scan(path: &Path, bytes: &[u8]) -> Result<Scan, JournalError> {
    let (scan, fault) = scan_readable(path, bytes);
    match fault {
        Some(fault) => Err(fault),
        None => Ok(scan),
    }
}

/// As [`scan`], and also returns what stands before the fault.
pub(super) fn scan_readable(path: &Path, bytes: &[u8]) -> (Scan, Option<JournalError>) {
    let mut lines: Vec<JournalLine> = Vec::new();
    let mut offset = 0;
    let mut torn = None;
    let mut fault = None;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let newline = rest.iter().position(|byte| *byte == b'\n');
        let is_last = newline.is_none_or(|end| end + 1 == rest.len());
        let text = rest.get(..newline.unwrap_or(rest.len())).unwrap_or(rest);
        let decoded = checked_line::decode(text);
        let number = lines.len() + 1;
        match (decoded, newline) {
            (Ok(json), Some(end)) => match understand(path, number, offset, json, lines.last()) {
                Ok(line) => {
                    lines.push(line);
                    offset += end + 1;
                    continue;
                }
                Err(error) => fault = Some(error),
            },
            // A line without its newline is unfinished even if all of its text is there: `append`
            // cannot have returned.
            (Ok(_), None) => torn = Some(rest.to_vec()),
            (Err(_), _) if is_last && !checked_line::lost_newline(rest) => {
                torn = Some(rest.to_vec());
            }
            (Err(why), _) => {
                fault = Some(damaged(path, number, offset, why.to_string()));
            }
        }
        break;
    }
    let scan = Scan {
        lines,
        good_bytes: offset as u64,
        torn,
    };
    (scan, fault)
}

fn understand(
    path: &Path,
    line: usize,
    offset: usize,
    json: &[u8],
    before: Option<&JournalLine>,
) -> Result<JournalLine, JournalError> {
    let parsed: JournalLine =
        serde_json::from_slice(json).map_err(|source| JournalError::NotUnderstood {
            path: path.to_path_buf(),
            line,
            source,
        })?;
    match before {
        Some(before) if before.number + 1 != parsed.number => Err(damaged(
            path,
            line,
            offset,
            format!("number {} follows number {}", parsed.number, before.number),
        )),
        Some(_) | None => Ok(parsed),
    }
}

fn damaged(path: &Path, line: usize, offset: usize, why: String) -> JournalError {
    JournalError::Damaged {
        path: path.to_path_buf(),
        line,
        offset,
        why,
    }
}
