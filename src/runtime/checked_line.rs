//! One line of durable text: checksum, length, JSON. Shared by the journal and the vote file.
//!
//! `<first 16 hex digits of SHA-256> <length> <json>\n`. The checksum tells a torn or rotten line
//! from a whole one; the length tells a lost newline from a changed text; grep still works.
//! Knows nothing of files.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Hex digits of the checksum that are kept: 64 bits, against accidents, not against people.
const SUM_LEN: usize = 16;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It does not begin with a checksum and a length.
    #[error("it does not begin with a checksum and a length")]
    Shape,
    /// The text is longer or shorter than the line says.
    #[error("its length is not the one it states")]
    Length,
    /// The text is not the one that was written.
    #[error("its checksum does not match")]
    Checksum,
}

/// The line for this JSON text, which must not contain a newline (`serde_json` writes none).
#[must_use]
pub fn encode(json: &str) -> String {
    let mut line = checksum(json.as_bytes());
    // Writing to a String cannot fail.
    let _infallible = writeln!(line, " {} {json}", json.len());
    line
}

/// The JSON text of a line given without its newline.
///
/// # Errors
///
/// What is wrong with the line.
pub fn decode(line: &[u8]) -> Result<&[u8], LineFault> {
    let (sum, length, json) = split(line).ok_or(LineFault::Shape)?;
    if json.len() != length {
        return Err(LineFault::Length);
    }
    if sum != checksum(json).as_bytes() {
        return Err(LineFault::Checksum);
    }
    Ok(json)
}

/// True if `bytes` begin with a whole line whose newline was turned into something else. Tells a
/// damaged newline, which glues two good lines together, from a line that was never finished.
#[must_use]
pub fn lost_newline(bytes: &[u8]) -> bool {
    let Some((sum, length, rest)) = split(bytes) else {
        return false;
    };
    let Some((json, after)) = rest.split_at_checked(length) else {
        return false;
    };
    !after.is_empty() && !after.starts_with(b"\n") && sum == checksum(json).as_bytes()
}

fn split(line: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let (sum, rest) = line.split_at_checked(SUM_LEN)?;
    let rest = rest.strip_prefix(b" ")?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let (digits, json) = rest.split_at_checked(end)?;
    // `parse` would accept a sign and leading zeros, which nobody writes here.
    let canonical = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    let length = std::str::from_utf8(digits).ok()?.parse().ok()?;
    canonical.then_some(())?;
    Some((sum, length, json.strip_prefix(b" ")?))
}

fn checksum(json: &[u8]) -> String {
    let mut hex = String::with_capacity(SUM_LEN);
    for byte in Sha256::digest(json).iter().take(SUM_LEN / 2) {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_comes_back_and_every_flipped_bit_is_noticed() {
        let line = encode(r#"{"a":"ü"}"#);
        let bytes = line.strip_suffix('\n').unwrap().as_bytes();
        assert_eq!(decode(bytes).unwrap(), r#"{"a":"ü"}"#.as_bytes());
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[index] ^= 1 << bit;
                assert!(decode(&flipped).is_err(), "byte {index}, bit {bit}");
            }
        }
    }

    #[test]
    fn two_lines_glued_together_are_not_an_unfinished_line() {
        let (first, second) = (encode("{}"), encode("[]"));
        let glued = format!("{}X{second}", first.trim_end());
        assert!(lost_newline(glued.as_bytes()));
        assert!(!lost_newline(first.trim_end().as_bytes()));
        for end in 0..second.len() {
            assert!(!lost_newline(&second.as_bytes()[..end]));
        }
    }
}
