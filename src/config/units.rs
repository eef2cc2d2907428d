//! Texts with units (`"2s"`, `"16MiB"`) to and from values.

use std::time::Duration;

use super::problem::{Refusal, quoted};

/// What a duration may end in, with its length in milliseconds; longest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// What a size may end in, with its length in bytes; longest first.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// What to say to somebody who left the unit out.
pub(super) const DURATION_HINT: &str = "units: ms, s, m, h, d; e.g. \"1500ms\" or \"2s\"";

/// What to say to somebody who left the unit out.
pub(super) const SIZE_HINT: &str = "units: B, KiB, MiB, GiB; e.g. \"16MiB\"";

/// Reads `"1500ms"`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    amount(text, &DURATION_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Refusal::new(format!("not a duration: {}", quoted(text))).hint(DURATION_HINT)
        })
}

/// Reads `"16MiB"`.
pub(super) fn size(text: &str) -> Result<u64, Refusal> {
    amount(text, &SIZE_UNITS)
        .ok_or_else(|| Refusal::new(format!("not a size: {}", quoted(text))).hint(SIZE_HINT))
}

/// Digits, then exactly one known unit; `None` for everything else, overflow included.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration as it would be written in the file. Parts of a millisecond are cut off.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    // Above a minute, "90s" reads better than "1m30s", which the file does not accept anyway.
    show_amount(millis, &DURATION_UNITS)
}

/// A size as it would be written in the file.
pub(super) fn show_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    show_amount(bytes, &SIZE_UNITS)
}

/// In the longest unit that divides it.
fn show_amount(amount: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| amount.is_multiple_of(*factor))
        .map_or_else(
            || amount.to_string(),
            |(unit, factor)| format!("{}{unit}", amount / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_a_unit_is_read_and_shown_again() {
        for text in ["0s", "1ms", "1500ms", "2s", "90s", "10m", "1h", "2d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["0B", "1B", "64KiB", "16MiB", "1GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }

    #[test]
    fn text_without_exactly_one_unit_is_refused() {
        for text in [
            "",
            "2",
            "s",
            "2 s",
            "1.5s",
            "-1s",
            "1m30s",
            "2S",
            "99999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["16", "16MB", "16mib", "MiB", "99999999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
