//! Which ranges of paths a list has to look at.

use crate::domain::SecretPath;

/// The paths among which a caller may find something it may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListScope {
    /// All secrets, each of which the caller may see.
    All,
    /// The secrets in these ranges, in ascending order and apart from each other. Each secret is still
    /// to be asked about.
    Ranges(Vec<PathRange>),
}

/// Paths from one text on and before another, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathRange {
    /// The least text in the range; not always a path.
    pub from: String,
    /// The least text behind the range.
    pub to: String,
}

impl PathRange {
    /// All paths.
    pub fn all() -> Self {
        Self { from: String::new(), to: BEHIND_ALL.to_owned() }
    }

    /// All paths that begin with `prefix`, which is the beginning of a path.
    pub fn of_prefix(prefix: &str) -> Self {
        let mut bytes = prefix.as_bytes().to_vec();
        let to = match bytes.last_mut() {
            None => return Self::all(),
            Some(last) => {
                *last += 1;
                String::from_utf8(bytes)
            }
        };
        // The bytes of paths are ASCII, so the next one is, too.
        Self { from: prefix.to_owned(), to: to.unwrap_or_else(|_| BEHIND_ALL.to_owned()) }
    }

    /// This path alone.
    pub(super) fn of_path(path: &str) -> Self {
        Self { from: path.to_owned(), to: format!("{path}{BEFORE_ALL}") }
    }

    /// The least text behind a path or, where the text ends in a slash, behind all paths that begin with it.
    pub fn end_of(text: &str) -> String {
        if text.ends_with('/') { Self::of_prefix(text).to } else { Self::of_path(text).to }
    }

    /// What both ranges have in common; `None` where that is nothing.
    #[must_use]
    pub fn within(self, other: &Self) -> Option<Self> {
        let from = self.from.max(other.from.clone());
        let to = self.to.min(other.to.clone());
        (from < to).then_some(Self { from, to })
    }

    /// What of the range comes after a path; `None` where nothing does.
    #[must_use]
    pub fn after(self, path: &SecretPath) -> Option<Self> {
        let from = self.from.max(format!("{path}{BEFORE_ALL}"));
        (from < self.to).then_some(Self { from, to: self.to })
    }
}

/// Sorts ranges and joins those that touch.
pub(super) fn merge(mut ranges: Vec<PathRange>) -> Vec<PathRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PathRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.from <= last.to => {
                if last.to < range.to {
                    last.to = range.to;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What of some ranges lies outside of others. Both are in ascending order and apart from each other, and so is
/// what is left.
pub(super) fn without(ranges: Vec<PathRange>, holes: &[PathRange]) -> Vec<PathRange> {
    let mut holes = holes.iter().peekable();
    let mut left = Vec::new();
    for mut range in ranges {
        while holes.next_if(|hole| hole.to <= range.from).is_some() {}
        while let Some(hole) = holes.peek().filter(|hole| hole.from < range.to) {
            if range.from < hole.from {
                left.push(PathRange { from: range.from, to: hole.from.clone() });
            }
            range.from = hole.to.clone();
            if range.to <= range.from {
                // The hole may reach into the next range.
                break;
            }
            holes.next();
        }
        if range.from < range.to {
            left.push(range);
        }
    }
    left
}

/// Comes before every character of a path (the first is `-`), so that a text with this behind it is
/// the least after that text.
const BEFORE_ALL: &str = "!";
/// Comes behind every character of a path (the last is `z`).
const BEHIND_ALL: &str = "{";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(range: &PathRange, path: &str) -> bool {
        range.from.as_str() <= path && path < range.to.as_str()
    }

    #[test]
    fn the_characters_of_paths_lie_between_the_marks() {
        for byte in 0..=127_u8 {
            let letter = char::from(byte).to_string();
            if SecretPath::parse(&format!("x{letter}x")).is_ok() {
                assert!(BEFORE_ALL < letter.as_str() && letter.as_str() < BEHIND_ALL, "{letter}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn ranges_hold_what_they_say(
            prefixes in prop::collection::vec("[-./a-cz]{0,3}", 0..4),
            holes in prop::collection::vec("[-./a-cz]{0,3}", 0..4),
            exact in prop::collection::vec("[-./a-cz]{1,3}", 0..3),
            path in "[-a-cz][-./a-cz]{0,3}[-a-cz]",
            after in "[-a-cz][-./a-cz]{0,3}[-a-cz]",
        ) {
            let both = PathRange::of_prefix(&path).within(&PathRange::of_prefix(&after));
            let in_both = |text: &str| text.starts_with(&path) && text.starts_with(&after);
            for text in [&path, &after] {
                let is_in = both.as_ref().is_some_and(|range| holds(range, text));
                prop_assert_eq!(is_in, in_both(text));
            }
            let of_prefixes = prefixes.iter().map(|prefix| PathRange::of_prefix(prefix));
            let of_paths = exact.iter().map(|path| PathRange::of_path(path));
            let merged = merge(of_prefixes.chain(of_paths).collect());
            let expected = prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()))
                || exact.contains(&path);
            prop_assert_eq!(merged.iter().any(|range| holds(range, &path)), expected);
            prop_assert!(merged.windows(2).all(|pair| pair[0].to < pair[1].from));
            let is_hidden = holes.iter().any(|hole| path.starts_with(hole.as_str()));
            let holes = holes.iter().map(|hole| PathRange::of_prefix(hole)).collect();
            let left = without(merged.clone(), &merge(holes));
            let is_left = left.iter().any(|range| holds(range, &path));
            prop_assert_eq!(is_left, expected && !is_hidden);
            prop_assert!(left.windows(2).all(|pair| pair[0].to <= pair[1].from));
            prop_assert!(left.iter().all(|range| range.from < range.to));
            if let Ok(after) = SecretPath::parse(&after) {
                let rest: Vec<_> =
                    merged.into_iter().filter_map(|range| range.after(&after)).collect();
                let expected = expected && path.as_str() > after.as_str();
                prop_assert_eq!(rest.iter().any(|range| holds(range, &path)), expected);
            }
        }
    }
}
