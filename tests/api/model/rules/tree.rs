//! Data as a tree of texts, for merge patches (RFC 7396) and for the keys inside.

use std::fmt;

/// An object with its members in order, or the text of anything else.
#[derive(Debug, Clone)]
pub enum Tree {
    Object(Vec<(String, Tree)>),
    Other(String),
}

impl Tree {
    /// Reads compact JSON whose texts have neither quotes nor brackets nor commas in them, as those of
    /// the alphabet do.
    pub fn read(text: &str) -> Self {
        let Some(inside) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            return Self::Other(text.to_owned());
        };
        let (mut parts, mut depth) = (vec![String::new()], 0);
        for letter in inside.chars() {
            match letter {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                _ => {}
            }
            if letter == ',' && depth == 0 {
                parts.push(String::new());
            } else {
                parts.last_mut().expect("the first part").push(letter);
            }
        }
        let parts = parts.iter().filter_map(|part| part.split_once(':'));
        Self::Object(parts.map(|(key, value)| (key.to_owned(), Self::read(value))).collect())
    }

    /// This after a merge patch.
    pub fn merged(&self, patch: &Self) -> Self {
        let Self::Object(changes) = patch else { return patch.clone() };
        let mut members = match self {
            Self::Object(members) => members.clone(),
            Self::Other(_) => Vec::new(),
        };
        for (key, change) in changes {
            let place = members.iter().position(|(present, _)| present == key);
            match (change, place) {
                (Self::Other(text), place) if text == "null" => {
                    if let Some(place) = place {
                        members.remove(place);
                    }
                }
                (change, Some(place)) => members[place].1 = members[place].1.merged(change),
                (change, None) => {
                    let value = Self::Object(Vec::new()).merged(change);
                    members.push((key.clone(), value));
                }
            }
        }
        Self::Object(members)
    }

    /// Its keys down to `depth` levels, and null in the place of all else.
    pub fn keys(&self, depth: usize) -> Self {
        let Self::Object(members) = self else { return Self::Other("null".to_owned()) };
        let keys = members.iter().map(|(key, value)| {
            let has_keys = matches!(value, Self::Object(members) if !members.is_empty());
            let goes_on = has_keys && depth > 1;
            let below =
                if goes_on { value.keys(depth - 1) } else { Self::Other("null".to_owned()) };
            (key.clone(), below)
        });
        Self::Object(keys.collect())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(text) => f.write_str(text),
            Self::Object(members) => {
                let members = members.iter().map(|(key, value)| format!("{key}:{value}"));
                write!(f, "{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }
}
