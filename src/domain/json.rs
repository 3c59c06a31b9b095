//! Strict JSON trees for request bodies and secret data.
//!
//! `serde_json` does the reading, one level at a time, so that what matters for secrets holds:
//! numbers keep the digits they were written with (its own value type either rounds them or, with
//! `arbitrary_precision`, lets a body forge numbers by a magic key), key order is kept, duplicate
//! keys are refused, and depth and size have bounds. Errors tell the place, never the content.
//!
//! It gives strings and keys as they stand in the text; what their escapes stand for is put in here.
//! `serde_json` would do that in a buffer of its own, which it leaves in memory unwiped.

use std::{collections::HashSet, fmt};

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// How deep a body may nest: what [`SecretData`](super::SecretData) allows, and the objects that
/// the API puts around it.
pub const MAX_DEPTH: usize = 36;

/// How many values a body may hold. Secret data of the largest size cannot hold more than half as
/// many values as it has bytes (`[0,0,…]`), so no data that would be accepted is refused; a body of
/// the same length padded with small values cannot be blown up to a many times larger tree.
pub const MAX_VALUES: usize = 33_000;

/// A JSON value. What it holds is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, digit by digit as it was written.
    Number(Zeroizing<String>),
    /// A string.
    String(Zeroizing<String>),
    /// An array.
    Array(Vec<Self>),
    /// An object, in the order of the text; keys are distinct.
    Object(Vec<(Zeroizing<String>, Self)>),
}

impl Json {
    /// Reads one JSON value and nothing after it.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says what is wrong, without any content.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| Refusal::syntax(&error))?;
        let mut values = 0;
        expand(raw, MAX_DEPTH, &mut values)
    }

    /// The name of the type, for messages.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// How many levels of arrays and objects it has; 0 for a plain value.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => {
                1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Applies a JSON merge patch (RFC 7396): null removes a member, objects are merged, all else takes
    /// the place of what was there. Members keep their order; new ones come last.
    pub fn merge(&mut self, patch: &Self) {
        let Self::Object(changes) = patch else {
            *self = patch.clone();
            return;
        };
        if !matches!(self, Self::Object(_)) {
            *self = Self::Object(Vec::new());
        }
        let Self::Object(members) = self else { return };
        // Looked up by halves: a body may bring as many changes as there are members.
        let mut by_key: Vec<usize> = (0..members.len()).collect();
        by_key.sort_unstable_by(|a, b| members[*a].0.cmp(&members[*b].0));
        let mut removed = vec![false; members.len()];
        for (key, change) in changes {
            let place = by_key.binary_search_by(|place| members[*place].0.cmp(key));
            let place = place.ok().map(|found| by_key[found]);
            match (change, place) {
                (Self::Null, Some(place)) => removed[place] = true,
                (Self::Null, None) => {}
                (change, Some(place)) => members[place].1.merge(change),
                (change, None) => {
                    let mut value = Self::Null;
                    value.merge(change);
                    members.push((key.clone(), value));
                }
            }
        }
        let mut removed = removed.into_iter();
        members.retain(|_| !removed.next().unwrap_or(false));
    }

    /// The keys of objects inside objects, down to `depth` levels, with null in the place of all else;
    /// an empty object is null too. Arrays are not looked into.
    pub fn keys(&self, depth: usize) -> Self {
        match self {
            Self::Object(members) if !members.is_empty() && depth > 0 => {
                let below =
                    |(key, value): &(Zeroizing<String>, Self)| (key.clone(), value.keys(depth - 1));
                Self::Object(members.iter().map(below).collect())
            }
            _ => Self::Null,
        }
    }

    /// Writes the value without white space between its parts.
    pub fn to_compact(&self) -> Zeroizing<String> {
        // Counted first and allocated once: a growing buffer would leave unwiped copies behind.
        let mut length = Length(0);
        self.write(&mut length);
        let mut text = Zeroizing::new(String::with_capacity(length.0));
        self.write(&mut *text);
        text
    }

    fn write(&self, out: &mut impl fmt::Write) {
        // Neither sink can fail: one counts, the other grows.
        let _infallible = match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(digits) => out.write_str(digits),
            Self::String(text) => write_string(out, text),
            Self::Array(items) => {
                let _ = out.write_char('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        let _ = out.write_char(',');
                    }
                    item.write(out);
                }
                out.write_char(']')
            }
            Self::Object(members) => {
                let _ = out.write_char('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        let _ = out.write_char(',');
                    }
                    let _ = write_string(out, key);
                    let _ = out.write_char(':');
                    value.write(out);
                }
                out.write_char('}')
            }
        };
    }
}

/// Shows the type alone: what is inside may be a secret.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

/// Why a text is not taken as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON; where reading stopped.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// An object has the same key twice.
    DuplicateKey,
    /// A string holds half of a surrogate pair, which no text can.
    LoneSurrogate,
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    /// More values than [`MAX_VALUES`].
    TooManyValues,
}

impl Refusal {
    fn syntax(error: &serde_json::Error) -> Self {
        Self::Syntax { line: error.line(), column: error.column() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("must be UTF-8"),
            Self::Syntax { line, column } => {
                write!(f, "is not valid JSON (line {line}, column {column})")
            }
            Self::DuplicateKey => f.write_str("has the same key twice in one object"),
            Self::LoneSurrogate => f.write_str("has a string with half of a surrogate pair"),
            Self::TooDeep => write!(f, "nests deeper than {MAX_DEPTH} levels"),
            Self::TooManyValues => write!(f, "has more than {MAX_VALUES} values"),
        }
    }
}

/// Turns text that is known to be well-formed into a tree.
fn expand(raw: &RawValue, depth_left: usize, values: &mut usize) -> Result<Json, Refusal> {
    *values += 1;
    if *values > MAX_VALUES {
        return Err(Refusal::TooManyValues);
    }
    let text = raw.get();
    let depth_below = || depth_left.checked_sub(1).ok_or(Refusal::TooDeep);
    match text.as_bytes().first() {
        Some(b'n') => Ok(Json::Null),
        Some(b't') => Ok(Json::Bool(true)),
        Some(b'f') => Ok(Json::Bool(false)),
        Some(b'"') => Ok(Json::String(read_string(text)?)),
        Some(b'[') => {
            let below = depth_below()?;
            let Items(items) = Items::read(text)?;
            let items = items.into_iter().map(|item| expand(item, below, values));
            Ok(Json::Array(items.collect::<Result<_, _>>()?))
        }
        Some(b'{') => {
            let below = depth_below()?;
            let Members(members) = Members::read(text)?;
            let mut seen = HashSet::with_capacity(members.len());
            if !members.iter().all(|(key, _)| seen.insert(key.as_str())) {
                return Err(Refusal::DuplicateKey);
            }
            drop(seen);
            let members =
                members.into_iter().map(|(key, value)| Ok((key, expand(value, below, values)?)));
            Ok(Json::Object(members.collect::<Result<_, _>>()?))
        }
        _ => Ok(Json::Number(Zeroizing::new(text.to_owned()))),
    }
}

fn read_string(text: &str) -> Result<Zeroizing<String>, Refusal> {
    // The grammar was checked when the raw value was made; only that surrogates come in pairs was not.
    unescape(text).ok_or(Refusal::LoneSurrogate)
}

/// What a string in quotes stands for; `None` where no text does.
fn unescape(text: &str) -> Option<Zeroizing<String>> {
    let mut rest = text.strip_prefix('"')?.strip_suffix('"')?;
    // No escape is shorter than what it stands for, so this never grows: that would leave unwiped copies behind.
    let mut plain = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let (character, after) = read_escape(escape)?;
        plain.push(character);
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

/// What an escape stands for, from after its backslash, and what follows on it.
fn read_escape(text: &str) -> Option<(char, &str)> {
    let mut rest = text.chars();
    let character = match rest.next()? {
        same @ ('"' | '\\' | '/') => same,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return read_unicode_escape(rest.as_str()),
        _ => return None,
    };
    Some((character, rest.as_str()))
}

fn read_unicode_escape(text: &str) -> Option<(char, &str)> {
    let (first, rest) = read_code_unit(text)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, rest));
    }
    // Half of a surrogate pair, on which the other half has to follow.
    let (second, rest) = read_code_unit(rest.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, rest))
}

fn read_code_unit(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    // What follows would take a sign as well.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

fn write_string(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    out.write_char('"')?;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..=0x1f => "",
            _ => continue,
        };
        out.write_str(&text[plain..index])?;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}")?;
        } else {
            out.write_str(escape)?;
        }
        plain = index + 1;
    }
    out.write_str(&text[plain..])?;
    out.write_char('"')
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'a> Items<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        struct ItemsVisitor;

        impl<'a> Visitor<'a> for ItemsVisitor {
            type Value = Vec<&'a RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(items)
            }
        }

        let mut reader = serde_json::Deserializer::from_str(text);
        let items = reader.deserialize_seq(ItemsVisitor);
        items.map(Self).map_err(|error| Refusal::syntax(&error))
    }
}

struct Members<'a>(Vec<(Zeroizing<String>, &'a RawValue)>);

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        struct MembersVisitor;

        impl<'a> Visitor<'a> for MembersVisitor {
            type Value = Vec<(Zeroizing<String>, &'a RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
                    let lone = || A::Error::custom("half of a surrogate pair");
                    members.push((unescape(key.get()).ok_or_else(lone)?, value));
                }
                Ok(members)
            }
        }

        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(MembersVisitor);
        // As in `read_string`.
        members.map(Self).map_err(|_| Refusal::LoneSurrogate)
    }
}

/// Counts what is written.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compact(text: &str) -> Result<String, Refusal> {
        Json::parse(text.as_bytes()).map(|json| json.to_compact().to_string())
    }

    #[test]
    fn numbers_keep_their_digits_and_keys_their_order() {
        let text = r#"{"z":1.10,"a":100000000000000000000.0000000001,"m":1E400,"b":-0,"c":1e+5}"#;
        assert_eq!(compact(text).unwrap(), text);
        assert_eq!(compact(" { \"b\" : [ 1 , 2 ] } ").unwrap(), r#"{"b":[1,2]}"#);
    }

    /// The examples of RFC 7396, appendix A, but for those whose target or patch is no object: data always
    /// is one.
    #[test]
    fn merge_patches_do_as_their_standard_says() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{"a":"foo"}"#, r#"{"a":{"b":null,"c":1}}"#, r#"{"a":{"c":1}}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let mut json = Json::parse(target.as_bytes()).unwrap();
            json.merge(&Json::parse(patch.as_bytes()).unwrap());
            assert_eq!(json.to_compact().as_str(), expected, "{target} {patch}");
        }
    }

    #[test]
    fn keys_are_shown_without_values() {
        let json = Json::parse(br#"{"a":{"b":{"c":1},"d":"x"},"e":[{"f":1}],"g":{},"h":[]}"#);
        let json = json.unwrap();
        let keys = |depth: usize| json.keys(depth).to_compact().to_string();
        assert_eq!(keys(1), r#"{"a":null,"e":null,"g":null,"h":null}"#);
        assert_eq!(keys(2), r#"{"a":{"b":null,"d":null},"e":null,"g":null,"h":null}"#);
        let all = r#"{"a":{"b":{"c":null},"d":null},"e":null,"g":null,"h":null}"#;
        assert_eq!(keys(3), all);
        assert_eq!(keys(usize::MAX), all);
    }

    #[test]
    fn magic_keys_of_the_reader_are_plain_keys() {
        for text in [
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"$serde_json::private::RawValue":"[1]"}"#,
        ] {
            assert_eq!(compact(text).unwrap(), text);
        }
    }

    #[test]
    fn the_same_key_twice_is_refused_however_it_is_written() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"x":0,"x":0}}]"#] {
            assert_eq!(compact(text), Err(Refusal::DuplicateKey), "{text}");
        }
    }

    #[test]
    fn broken_text_is_refused_with_its_place_only() {
        for text in
            ["", "{", "{]", "[1,]", "{\"a\"}", "01", "tru", "\"\u{1}\"", "1 2", "nul", "NaN"]
        {
            assert!(matches!(compact(text), Err(Refusal::Syntax { .. })), "{text:?}");
        }
        assert_eq!(Json::parse(b"\"\xff\""), Err(Refusal::NotUtf8));
        assert_eq!(compact(r#""\ud800""#), Err(Refusal::LoneSurrogate));
        assert_eq!(compact(r#"{"\ud800":1}"#), Err(Refusal::LoneSurrogate));
        let told = compact("{\"password\": hunter2}").unwrap_err().to_string();
        assert_eq!(told, "is not valid JSON (line 1, column 14)");
    }

    #[test]
    fn escapes_stand_for_what_the_standard_says() {
        for (text, expected) in [
            (r#""""#, ""),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u0000\u001f\u007f\u0080\u07ff\u0800""#, "\0\u{1f}\u{7f}\u{80}\u{7ff}\u{800}"),
            (r#""\ud7ff\ue000\uFFFF\ufffe""#, "\u{d7ff}\u{e000}\u{ffff}\u{fffe}"),
            (r#""\ud800\udc00\uDBFF\uDFFF""#, "\u{10000}\u{10ffff}"),
            (r#""\\n\\\\\n\\u0041\u005cn""#, "\\n\\\\\n\\u0041\\n"),
            (r#""a\u00e9é\u20ac€\ud83d\ude00😀\n""#, "aéé€€😀😀\n"),
        ] {
            let json = Json::parse(text.as_bytes());
            assert_eq!(json, Ok(Json::String(Zeroizing::new(expected.to_owned()))), "{text}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_refused_wherever_it_stands() {
        let places = [("", ""), ("a", ""), ("", "b"), (r"\n", r"\u0041"), ("é", "\u{1f600}")];
        for half in [
            r"\ud800",
            r"\udbff",
            r"\udc00",
            r"\udfff",
            r"\udc00\ud800",
            r"\ud800\ud800",
            r"\ud800\n",
            r"\ud800\u0041",
            r"\ud800\\udc00",
            r"\ud800udc00",
            r"\ud800 \udc00",
            r"\ud800\ud800\udc00",
            r"\ud800\udc00\udc00",
        ] {
            for (before, after) in places {
                let text = format!("\"{before}{half}{after}\"");
                assert_eq!(compact(&text), Err(Refusal::LoneSurrogate), "{text}");
                let member = format!("{{\"a\":1,{text}:2}}");
                assert_eq!(compact(&member), Err(Refusal::LoneSurrogate), "{member}");
            }
        }
    }

    #[test]
    fn what_is_no_string_is_none_without_a_panic() {
        for text in [
            "",
            "\"",
            "a",
            "\"a",
            "a\"",
            r#""\""#,
            r#""\x""#,
            r#""\u""#,
            r#""\u004""#,
            r#""\u+041""#,
            r#""\u004g""#,
            r#""\ué41""#,
            r#""\u00é""#,
            r#""\ud800\u""#,
            r#""\ud800\udc0""#,
            r#""\U0041""#,
        ] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(compact(&nested(MAX_DEPTH + 1)), Err(Refusal::TooDeep));
        assert_eq!(compact(&nested(200_000)), Err(Refusal::TooDeep));
        let wide = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(compact(&wide(MAX_VALUES)).is_ok());
        assert_eq!(compact(&wide(MAX_VALUES + 1)), Err(Refusal::TooManyValues));
    }

    /// The text of a string, with escapes of every kind. Some are half of a surrogate pair.
    fn string_text() -> impl Strategy<Value = String> {
        let plain = any::<char>().prop_map(|character| match character {
            '"' | '\\' | '\0'..='\u{1f}' => "x".to_owned(),
            plain => plain.to_string(),
        });
        let short = [r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t"];
        let short = prop::sample::select(short.to_vec()).prop_map(str::to_owned);
        let unit = prop_oneof![
            2 => 0_u16..=0x7f,
            2 => any::<u16>(),
            1 => 0xd7fe_u16..=0xd801,
            1 => 0xdbfe_u16..=0xdc01,
            1 => 0xdffe_u16..=0xe001,
        ];
        let unit = (unit, any::<bool>()).prop_map(|(unit, is_upper)| match is_upper {
            true => format!("\\u{unit:04X}"),
            false => format!("\\u{unit:04x}"),
        });
        let pair = any::<char>().prop_map(|character| {
            let units = character.encode_utf16(&mut [0; 2]).to_vec();
            units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>()
        });
        let piece = prop_oneof![4 => plain, 3 => short, 2 => unit, 3 => pair];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// JSON whose objects have few keys, so that those of two values meet.
    fn json_of_few_keys() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            2 => Just(serde_json::Value::Null),
            1 => any::<bool>().prop_map(Into::into),
            2 => (-2_i64..3).prop_map(Into::into),
            1 => "[a-b]{0,1}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let key = prop::sample::select(&["a", "b", "c", "d", "e", ""][..]);
            let members = prop::collection::vec((key.prop_map(str::to_owned), inner.clone()), 0..6);
            prop_oneof![
                1 => prop::collection::vec(inner, 0..4).prop_map(Into::into),
                4 => members.prop_map(|members| {
                    serde_json::Value::Object(members.into_iter().collect())
                }),
            ]
        })
    }

    /// What RFC 7396 says in its second section, word by word.
    fn merge_patch(target: &mut serde_json::Value, patch: &serde_json::Value) {
        let Some(changes) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = serde_json::json!({});
        }
        let members = target.as_object_mut().unwrap();
        for (name, value) in changes {
            if value.is_null() {
                members.remove(name);
            } else {
                let member = members.entry(name.clone()).or_insert(serde_json::Value::Null);
                merge_patch(member, value);
            }
        }
    }

    fn keys_of(value: &serde_json::Value, depth: usize) -> serde_json::Value {
        let members = value.as_object().filter(|members| depth > 0 && !members.is_empty());
        members.map_or(serde_json::Value::Null, |members| {
            members.iter().map(|(key, value)| (key.clone(), keys_of(value, depth - 1))).collect()
        })
    }

    fn read(value: &serde_json::Value) -> Json {
        Json::parse(value.to_string().as_bytes()).unwrap()
    }

    fn written(json: &Json) -> serde_json::Value {
        serde_json::from_str(&json.to_compact()).unwrap()
    }

    fn member_names(json: &Json) -> Vec<String> {
        let Json::Object(members) = json else { return Vec::new() };
        members.iter().map(|(key, _)| key.to_string()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn merge_patches_do_as_a_naive_reader_of_the_standard(
            target in json_of_few_keys(),
            patch in json_of_few_keys(),
        ) {
            let mut merged = read(&target);
            merged.merge(&read(&patch));
            let mut expected = target.clone();
            merge_patch(&mut expected, &patch);
            prop_assert_eq!(written(&merged), expected);
            // What stays keeps its place, what is new comes last.
            let (before, after) = (member_names(&read(&target)), member_names(&merged));
            let is_old = |name: &&String| before.contains(name);
            let stayed: Vec<_> = after.iter().take_while(is_old).collect();
            prop_assert_eq!(stayed.len(), after.iter().filter(is_old).count());
            let places: Vec<_> =
                stayed.iter().map(|name| before.iter().position(|old| old == *name)).collect();
            prop_assert!(places.is_sorted());
        }

        #[test]
        fn keys_are_those_that_a_naive_reader_finds(
            value in json_of_few_keys(),
            depth in prop_oneof![5 => 0_usize..6, 1 => Just(usize::MAX)],
        ) {
            prop_assert_eq!(written(&read(&value).keys(depth)), keys_of(&value, depth));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_written_reads_back_the_same_in_another_reader(value in any_json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let compact = compact(&pretty).unwrap();
            prop_assert_eq!(&compact, &value.to_string());
        }

        #[test]
        fn strings_and_keys_are_what_another_reader_finds(text in string_text()) {
            let found = Json::parse(text.as_bytes());
            let member = format!("{{{text}:0}}");
            let keys = Json::parse(member.as_bytes()).map(|json| member_names(&json));
            match serde_json::from_str::<String>(&text) {
                Ok(expected) => {
                    // There was room for it from the beginning.
                    prop_assert!(expected.len() <= text.len() - 2);
                    prop_assert_eq!(keys, Ok(vec![expected.clone()]));
                    prop_assert_eq!(found, Ok(Json::String(Zeroizing::new(expected))));
                }
                Err(_) => {
                    prop_assert_eq!(keys, Err(Refusal::LoneSurrogate));
                    prop_assert_eq!(found, Err(Refusal::LoneSurrogate));
                }
            }
        }

        #[test]
        fn exactly_what_another_reader_takes_is_taken(text in "[\\[\\]{}:,\"a1.e\\\\ntrue-]{0,10}") {
            let ours = Json::parse(text.as_bytes());
            let theirs: Result<&RawValue, _> = serde_json::from_str(&text);
            match ours {
                Ok(_) => prop_assert!(theirs.is_ok()),
                Err(Refusal::Syntax { .. }) => prop_assert!(theirs.is_err()),
                Err(Refusal::DuplicateKey | Refusal::LoneSurrogate) => prop_assert!(theirs.is_ok()),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
