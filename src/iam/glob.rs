//! Texts with `*`, matched in linear time.

/// A text in which each `*` stands for any run of characters, the empty one and slashes included. All
/// else stands for itself.
///
/// Matching takes each literal piece at its first place and never goes back, which is right since a
/// later place of one piece leaves less for the next; so no pattern makes it slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    /// The literal texts between the `*`; one where there is no `*`.
    pieces: Vec<String>,
}

impl Glob {
    /// Makes one of the literal texts between its `*`.
    pub(super) const fn new(pieces: Vec<String>) -> Self {
        Self { pieces }
    }

    /// Reads a text in which only `*` has a meaning.
    pub(super) fn plain(text: &str) -> Self {
        Self::new(text.split('*').map(str::to_owned).collect())
    }

    /// Whether it stands for this text.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (first, middle, last) = match self.pieces.as_slice() {
            [] => return text.is_empty(),
            [only] => return text == only,
            [first, middle @ .., last] => (first, middle, last),
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for piece in middle {
            let Some((_, behind)) = rest.split_once(piece.as_str()) else { return false };
            rest = behind;
        }
        rest.ends_with(last.as_str())
    }

    /// The literal text that everything it matches begins with.
    pub(super) fn prefix(&self) -> &str {
        self.pieces.first().map_or("", String::as_str)
    }

    /// Whether it stands for every text that begins with its [prefix](Self::prefix).
    pub(super) fn is_prefix(&self) -> bool {
        !self.is_literal() && self.pieces.iter().skip(1).all(String::is_empty)
    }

    /// Whether it stands for one text only.
    pub(super) fn is_literal(&self) -> bool {
        self.pieces.len() < 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tries every length of every `*`.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            Some((letter, rest)) => {
                text.split_first().is_some_and(|(first, text)| first == letter && naive(rest, text))
            }
        }
    }

    #[test]
    fn a_star_is_any_run_of_characters_and_all_else_is_itself() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("a*", "a", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a/*/z", "a/b/c/z", true),
            ("a/*/z", "a/z", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("a.c", "abc", false),
            ("a?c", "abc", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(Glob::plain(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_makes_it_slow() {
        let text = "a".repeat(100_000);
        // What takes a matcher that goes back longer than the age of the universe.
        let glob = Glob::plain(&format!("{}b", "a*".repeat(10_000)));
        assert!(!glob.matches(&text));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn it_matches_what_trying_everything_matches(
            pattern in "[ab/*]{0,8}",
            text in "[ab/]{0,10}",
        ) {
            let expected = naive(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Glob::plain(&pattern).matches(&text), expected);
        }
    }
}
