//! The text of a TXT record as zone files and most APIs write it: in quotes, in pieces. Pure.
//!
//! Source: RFC 1035, 3.3.14 (pieces) and 5.1 (quotes and `\`).

/// The longest piece: its length is one byte.
pub(super) const PIECE_BYTES_MAX: usize = 255;

/// `"…"`, or `"…" "…"` when it is long. Texts are ASCII: the configuration takes no others.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for (place, c) in text.chars().enumerate() {
        if place > 0 && place % PIECE_BYTES_MAX == 0 {
            quoted.push_str("\" \"");
        }
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// The text without its quotes; one that has none is meant as it stands.
pub(super) fn unquoted(written: &str) -> String {
    let mut text = String::new();
    let mut rest = written.trim().chars();
    if rest.clone().next() != Some('"') {
        return written.to_owned();
    }
    let mut inside = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => inside = !inside,
            '\\' if inside => text.extend(unescaped(&mut rest)),
            _ if inside => text.push(c),
            // Between two pieces.
            _ => {}
        }
    }
    text
}

/// What follows a `\`: three digits are a byte, anything else is itself.
fn unescaped(rest: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = rest.as_str().get(..3).unwrap_or_default();
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(byte) = number.then(|| digits.parse::<u8>().ok()).flatten() {
        rest.nth(2);
        return Some(char::from(byte));
    }
    rest.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_come_and_go() {
        for text in ["v=1; site=fra", "", "a \"b\" \\ c", &"x".repeat(600)] {
            assert_eq!(unquoted(&quoted(text)), text);
        }
        assert_eq!(quoted("say \"no\""), "\"say \\\"no\\\"\"");
        let long = quoted(&"y".repeat(256));
        assert_eq!(long, format!("\"{}\" \"y\"", "y".repeat(255)));
    }

    #[test]
    fn spellings_of_others_are_read() {
        assert_eq!(unquoted("plain text"), "plain text");
        assert_eq!(unquoted("\"one\"\t\"two\""), "onetwo");
        assert_eq!(unquoted("\"\\097\\\\\\\"b\""), "a\\\"b");
    }
}
