//! How requests are made up: of few words, so that they meet often.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{differences::DIFFERENCES, requests::Request};
use crate::sequences::Caller;

/// Sequences of requests. Within a choice, what comes first is what shrinking goes for.
pub fn sequence() -> impl Strategy<Value = (Caller, Vec<Request>)> {
    (select(&Caller::ALL[..]), vec(request(), 1..=24))
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        12 => (write(), path(), data(), options()).prop_map(|(method, path, data, options)| {
            with_body(method, format!("data/{path}"), &[data, options])
        }),
        6 => (path(), patch_data(), options()).prop_map(|(path, data, options)| {
            with_body("PATCH", format!("data/{path}"), &[data, options])
        }),
        5 => (path(), version_query()).prop_map(|(path, query)| {
            Request::get(format!("data/{path}{query}"))
        }),
        3 => (path(), select(&SUBKEYS_QUERIES[..])).prop_map(|(path, query)| {
            Request::get(format!("subkeys/{path}{query}"))
        }),
        4 => path().prop_map(|path| Request::new("DELETE", format!("data/{path}"), None)),
        12 => (operation(), write(), path(), versions()).prop_map(
            |(operation, method, path, versions)| {
                let body = format!(r#"{{"versions":{versions}}}"#);
                Request::new(method, format!("{operation}/{path}"), Some(body))
            }
        ),
        7 => (write(), path(), settings(), custom(CUSTOM)).prop_map(
            |(method, path, [cas, max, after], custom)| {
                with_body(method, format!("metadata/{path}"), &[cas, max, after, custom])
            }
        ),
        6 => (path(), settings(), custom(CUSTOM_PATCHES)).prop_map(
            |(path, [cas, max, after], custom)| {
                with_body("PATCH", format!("metadata/{path}"), &[cas, max, after, custom])
            }
        ),
        2 => path().prop_map(|path| Request::get(format!("metadata/{path}"))),
        2 => path().prop_map(|path| Request::new("DELETE", format!("metadata/{path}"), None)),
        4 => select(&LISTS[..]).prop_map(|(method, target)| Request::new(method, target, None)),
        3 => (write(), settings()).prop_map(|(method, settings)| {
            with_body(method, "config".to_owned(), &settings)
        }),
        1 => Just(Request::get("config")),
        1 => example(),
    ]
}

/// One from the table of differences, where it may meet others.
fn example() -> impl Strategy<Value = Request> {
    let lines = DIFFERENCES.iter().flat_map(|difference| difference.example).copied();
    select(lines.collect::<Vec<_>>()).prop_map(Request::parse)
}

/// A request whose body has these fields; those without a value are left out.
fn with_body(method: &str, target: String, fields: &[Field]) -> Request {
    let fields = fields.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let fields: Vec<_> = fields.map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    Request::new(method, target, Some(format!("{{{}}}", fields.join(","))))
}

/// A field's name, and its value as JSON.
type Field = (&'static str, Option<&'static str>);

fn write() -> impl Strategy<Value = &'static str> {
    select(&["PUT", "POST"][..])
}

/// Two of them are a secret and a folder at once, and two stand beside the folder in the order of bytes. Some are
/// written in another way, and some have letters that few paths have, or that none has here.
fn path() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        32 => select(&["a", "a", "a", "a/b", "a/b/c", "d", "a-b", "a0"][..]),
        6 => select(&["a%2Fb", "a%2fb/c", "%61", "a%2D%62"][..]),
        3 => select(&["a:b=c@d", "a%3Ab%3Dc%40d", "..a/b.", "_/metadata", "config"][..]),
        1 => select(&ODD_PATHS[..]),
    ]
}

fn operation() -> impl Strategy<Value = &'static str> {
    select(&["delete", "undelete", "destroy", "undelete"][..])
}

fn data() -> impl Strategy<Value = Field> {
    let usual = select(&DATA[..]);
    prop_oneof![
        24 => usual.prop_map(|data| ("data", Some(data))),
        1 => Just(("data", None)),
    ]
}

fn patch_data() -> impl Strategy<Value = Field> {
    prop_oneof![
        24 => select(&PATCHES[..]).prop_map(|data| ("data", Some(data))),
        1 => Just(("data", None)),
    ]
}

/// Most often none, or one that fits.
fn options() -> impl Strategy<Value = Field> {
    let options = prop_oneof![
        12 => Just(None),
        2 => select(&[Some("{}"), Some("null"), Some(r#"{"cas":null}"#)][..]),
        8 => Just(Some(r#"{"cas":{current}}"#)),
        3 => Just(Some(r#"{"cas":"{current}"}"#)),
        4 => select(&WRONG_CAS[..]).prop_map(Some),
    ];
    options.prop_map(|options| ("options", options))
}

fn version_query() -> impl Strategy<Value = &'static str> {
    select(&VERSION_QUERIES[..])
}

fn versions() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => select(&VERSIONS[..]), 1 => select(&NO_VERSIONS[..])]
}

fn settings() -> impl Strategy<Value = [Field; 3]> {
    let field = |name: &'static str, [usual, odd, rare]: [&'static [&str]; 3]| {
        prop_oneof![
            20 => Just(None),
            16 => select(usual).prop_map(Some),
            2 => select(odd).prop_map(Some),
            1 => select(rare).prop_map(Some),
        ]
        .prop_map(move |value| (name, value))
    };
    (
        field("cas_required", [&["false", "true"], &["null", r#""true""#, "0"], &[r#""x""#, "[]"]]),
        field("max_versions", [&["0", "1", "2", "3"], &["null", r#""2""#], &[r#""x""#, "[]"]]),
        field(
            "delete_version_after",
            [
                &[r#""0s""#, r#""2h""#, r#""3h30m""#],
                &[
                    "null",
                    "7200",
                    r#""7200""#,
                    r#""48h0m0s""#,
                    r#""1d""#,
                    r#""x""#,
                    r#""-1h""#,
                    "[]",
                ],
                // Each version that is written under it takes a second.
                &[r#""1s""#],
            ],
        ),
    )
        .prop_map(<[Field; 3]>::from)
}

fn custom(values: &'static [&str]) -> impl Strategy<Value = Field> {
    let value = prop_oneof![1 => Just(None), 1 => select(values).prop_map(Some)];
    value.prop_map(|value| ("custom_metadata", value))
}

const DATA: [&str; 7] = [
    r#"{"k":"v"}"#,
    "{}",
    r#"{"k":"w","n":null}"#,
    r#"{"o":{"p":{"q":1},"r":[1,{"s":2}]},"k":"v"}"#,
    r#"{"e":{},"l":[],"t":true}"#,
    r#"{"n":1.5,"big":12345678901234567890,"u":"é"}"#,
    r#"{"o":"plain"}"#,
];

const PATCHES: [&str; 8] = [
    r#"{"k":"x"}"#,
    "{}",
    r#"{"k":null}"#,
    r#"{"o":{"p":null}}"#,
    r#"{"o":{"p":{"z":2,"none":null}}}"#,
    r#"{"o":[1,null]}"#,
    r#"{"absent":null,"new":{"x":null,"y":{}}}"#,
    r#"{"k":{"deep":{"er":1}}}"#,
];

const WRONG_CAS: [&str; 7] = [
    r#"{"cas":0}"#,
    r#"{"cas":{before}}"#,
    r#"{"cas":{next}}"#,
    r#"{"cas":"0"}"#,
    r#"{"cas":-1}"#,
    r#"{"cas":"x"}"#,
    r#"{"cas":1.5}"#,
];

const VERSION_QUERIES: [&str; 9] = [
    "",
    "?version={current}",
    "?version={before}",
    "?version=1",
    "?version=2",
    "?version=0",
    "?version={next}",
    "?version=99999",
    "?version=x",
];

const SUBKEYS_QUERIES: [&str; 10] = [
    "",
    "?depth=1",
    "?depth=2",
    "?depth=3",
    "?depth=0",
    "?version={before}",
    "?version=1&depth=2",
    "?depth=1&version={current}",
    "?depth=99",
    "?depth=x",
];

const VERSIONS: [&str; 12] = [
    "[{current}]",
    "[1]",
    "[{before}]",
    r#"["{current}"]"#,
    "[1,2]",
    r#"["1","2"]"#,
    r#""1,2""#,
    r#""{before},{current}""#,
    r#""{current}""#,
    "{current}",
    "[{next},1]",
    "[1,1,99999]",
];

const NO_VERSIONS: [&str; 7] =
    ["[]", "null", r#""""#, r#"["x"]"#, "[1.5]", r#""1,x""#, r#"{"1":1}"#];

const CUSTOM: &[&str] = &[
    r#"{"k":"v"}"#,
    "{}",
    r#"{"k":"w","team":"x"}"#,
    "null",
    r#"{"k":""}"#,
    r#"{"k":["v"]}"#,
    r#""k""#,
];

const CUSTOM_PATCHES: &[&str] = &[
    r#"{"k":"p"}"#,
    r#"{"k":null}"#,
    r#"{"team":"y","absent":null}"#,
    "{}",
    "null",
    r#"{"k":""}"#,
    r#""k""#,
];

/// Paths that are none here; some of them are none in OpenBao either.
const ODD_PATHS: [&str; 10] =
    ["a%20b", "a+b", "a%252Fb", "%C3%A9", "a~b", "a//b", "a/", "a/../d", "%2Fa", "a%2F%2e%2e%2Fd"];

const LISTS: [(&str, &str); 16] = [
    ("LIST", "metadata"),
    ("GET", "metadata?list=true"),
    ("LIST", "metadata/"),
    ("LIST", "metadata/a"),
    ("GET", "metadata/a?list=true"),
    ("LIST", "metadata/a/b/"),
    ("LIST", "metadata/d"),
    ("GET", "metadata/?list=true"),
    ("GET", "metadata"),
    ("LIST", "metadata/a%2Fb"),
    ("GET", "metadata/%61%2F?list=true"),
    ("LIST", "metadata/config"),
    ("LIST", "metadata?limit=2"),
    ("LIST", "metadata?after=a&limit=1"),
    ("LIST", "metadata/a?after=b"),
    ("GET", "metadata/a?scan=true"),
];
