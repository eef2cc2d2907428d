//! "Did you mean": the nearest of the known words.

/// Longer words are not compared: the table below grows with the square of the length.
const LENGTH_MAX: usize = 64;

/// The known word nearest to `word`, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    // A third of the letters wrong is still recognisable; more is a different word.
    let limit = (lower.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter_map(|candidate| Some((distance(&lower, &candidate.to_lowercase())?, candidate)))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint that goes with it.
pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, known).map(|candidate| format!("did you mean \"{candidate}\"?"))
}

/// Edits between two words: insert, delete, replace, or swap two neighbours (optimal string
/// alignment). `None` when a word is too long to bother.
fn distance(left: &str, right: &str) -> Option<usize> {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    if left.len() > LENGTH_MAX || right.len() > LENGTH_MAX {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let replaced = last.get(column)? + usize::from(a != b);
            let deleted = last.get(column + 1)? + 1;
            let inserted = current.get(column)? + 1;
            let mut best = replaced.min(deleted).min(inserted);
            let swapped = row > 0
                && column > 0
                && left.get(row - 1) == Some(b)
                && right.get(column - 1) == Some(a);
            if swapped {
                best = best.min(before_last.get(column - 1)? + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_of_the_finger_finds_the_word() {
        let known = ["port", "host", "data_dir", "bin_dir"];
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("datadir", known), Some("data_dir"));
        assert_eq!(nearest("HOST", known), Some("host"));
    }

    #[test]
    fn unrelated_word_finds_nothing() {
        assert_eq!(nearest("colour", ["port", "host"]), None);
        assert_eq!(nearest("", ["port"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), ["port"]), None);
    }

    #[test]
    fn distance_counts_a_swap_as_one() {
        assert_eq!(distance("prot", "port"), Some(1));
        assert_eq!(distance("kitten", "sitting"), Some(3));
        assert_eq!(distance("", "abc"), Some(3));
    }
}
