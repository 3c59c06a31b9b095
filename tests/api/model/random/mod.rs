//! How requests are made up: of few words, so that they meet often.

mod kv;

use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    model::requests::{
        Address, Cursor, Data, Field, Flag, Form, Metadata, Number, Page, Request, Sequence,
        Settings, Verb,
    },
    sequences::Caller,
};

/// Sequences of requests. Within a choice, what comes first is what shrinking goes for.
pub fn sequence() -> impl Strategy<Value = Sequence> {
    let caller = select(&Caller::ALL[..]);
    // Most often there is something to work on from the beginning.
    let first = prop::option::weighted(0.7, (metadata(), object()));
    (caller, first, vec(request(), 0..=24)).prop_map(|(caller, first, mut requests)| {
        if let Some((metadata, data)) = first {
            let path = "a".to_owned();
            requests.insert(0, Request::Create { path, metadata, data, typo: false });
        }
        Sequence { caller, requests }
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        8 => (path(), metadata(), data(), typo()).prop_map(|(path, metadata, data, typo)| {
            Request::Create { path: path.to_owned(), metadata, data, typo }
        }),
        8 => (address(), option(number()), flag()).prop_map(|(at, version, include_data)| {
            Request::Read { at, version, include_data }
        }),
        10 => (address(), option(number()), metadata(), data_or_none(), typo()).prop_map(
            |(at, cas, metadata, data, typo)| Request::Update { at, cas, metadata, data, typo }
        ),
        10 => (address(), verb(), option(number()), data(), typo()).prop_map(
            |(at, by, cas, data, typo)| Request::AddVersion { at, by, cas, data, typo }
        ),
        3 => address().prop_map(|at| Request::Delete { at }),
        8 => (address(), number(), state(), typo()).prop_map(|(at, version, state, typo)| {
            Request::SetState { at, version, state, typo }
        }),
        4 => (address(), number(), flag()).prop_map(|(at, version, include_data)| {
            Request::ReadVersion { at, version, include_data }
        }),
        4 => (address(), page()).prop_map(|(at, page)| Request::ListVersions { at, page }),
        4 => page().prop_map(|page| Request::List { page }),
        4 => (settings(), typo()).prop_map(|(settings, typo)| {
            Request::UpdateConfig { settings, typo }
        }),
        1 => Just(Request::ReadConfig),
        5 => select(&[1_000, 500, 2_000, 3_000, 60_000][..])
            .prop_map(|millis| Request::Wait { millis }),
        2 => address().prop_map(|at| Request::FillVersions { at }),
        2 => Just(Request::FillSecrets),
        68 => kv::request().prop_map(Request::Kv),
    ]
}

/// Beside a plain path, one below it, and one that ends like the address of a list of versions.
fn path() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("a"),
        2 => Just("a/b"),
        1 => select(&["b.c:d=e@f-g_H", "a/version"][..]),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    let path = prop_oneof![40 => path(), 1 => select(&["a//b", "/a", "a/", "a/../b", "a%20b"][..])];
    let form = select(&[Form::Raw, Form::Encoded, Form::Odd][..]);
    let form = prop_oneof![30 => form, 1 => Just(Form::Twice)];
    (path, form, prop::bool::weighted(0.1)).prop_map(|(path, form, central)| {
        // Raw, this would be the list of versions of another secret.
        let form = match form {
            Form::Raw if path == "a/version" => Form::Encoded,
            Form::Twice if !path.contains('/') => Form::Encoded,
            form => form,
        };
        Address { path: path.to_owned(), form, central }
    })
}

/// The current version more often than any other.
fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        30 => Just(Number::Current(0)),
        12 => (1_i64..5).prop_map(Number::Exactly),
        4 => select(&[-1_i64, 1, -2][..]).prop_map(Number::Current),
        2 => Just(Number::Exactly(0)),
        1 => Just(Number::Exactly(24_000)),
        1 => select(&["24001", "x", "1.0", "+1", "99999999999"][..]).prop_map(Number::Text),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let custom = prop_oneof![
        24 => field(select(&CUSTOM[..]).boxed()),
        1 => Just(Field::Is(&[("bad", "")][..])),
    ];
    (settings(), custom, any::<bool>()).prop_map(|(settings, custom, flat)| Metadata {
        settings,
        custom,
        flat,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let max_versions = prop_oneof![
        24 => (0_i64..4).boxed(),
        4 => Just(12).boxed(),
        1 => select(&[-1_i64, 24_001][..]).boxed(),
    ];
    let lifetime = prop_oneof![
        24 => select(&["0s", "2s", "3", "1s500ms", "1m", "0h", "1d", "90m5s"][..]),
        1 => select(&["", "1 s", "-1s", "1w", "500ms"][..]),
    ];
    (
        field(any::<bool>().boxed()),
        field(max_versions.boxed()),
        field(lifetime.boxed()),
        any::<bool>(),
    )
        .prop_map(|(cas_required, max_versions, deactivate_version_after, snake_case)| {
            Settings { cas_required, max_versions, deactivate_version_after, snake_case }
        })
}

fn field<T: std::fmt::Debug + Clone + 'static>(
    value: BoxedStrategy<T>,
) -> impl Strategy<Value = Field<T>> {
    prop_oneof![6 => Just(Field::Absent), 3 => value.prop_map(Field::Is), 1 => Just(Field::Null)]
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        30 => object(),
        1 => select(&[Data::Absent, Data::Missing, Data::Null, Data::Array][..]),
    ]
}

fn object() -> impl Strategy<Value = Data> {
    select(&OBJECTS[..]).prop_map(|(sent, kept)| Data::Object(sent, kept))
}

fn data_or_none() -> impl Strategy<Value = Data> {
    prop_oneof![1 => Just(Data::Absent), 2 => data()]
}

fn state() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        20 => select(&[Some("deactivated"), Some("active"), Some("deleted")][..]),
        1 => select(&[None, Some("ACTIVE"), Some("")][..]),
    ]
}

fn page() -> impl Strategy<Value = Page> {
    let size = prop_oneof![
        10 => select(&[None, Some("10"), Some("11"), Some("12"), Some("13"), Some("500")][..]),
        1 => select(&[Some("9"), Some("501"), Some("x"), Some("")][..]),
    ];
    let cursor = prop_oneof![
        10 => select(&[Cursor::Absent, Cursor::Next, Cursor::Empty][..]),
        1 => Just(Cursor::Junk),
    ];
    (size, cursor).prop_map(|(size, cursor)| Page { size, cursor })
}

fn flag() -> impl Strategy<Value = Flag> {
    prop_oneof![
        20 => select(&[Flag::Absent, Flag::True, Flag::True, Flag::False][..]),
        1 => Just(Flag::Junk),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    select(&[Verb::Post, Verb::Put][..])
}

fn typo() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.05)
}

fn option<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.5, value)
}

/// Order and digits that a careless reader would change.
const OBJECTS: [(&str, &str); 5] = [
    (r#"{"k":"v"}"#, r#"{"k":"v"}"#),
    ("{}", "{}"),
    (r#"{"o":{"p":{"q":1},"s":[]},"b":{}}"#, r#"{"o":{"p":{"q":1},"s":[]},"b":{}}"#),
    (r#"{"z":1.10,"a":[1,{"n":null}]}"#, r#"{"z":1.10,"a":[1,{"n":null}]}"#),
    (r#"{ "u" : "\u00e9\/", "e": 1E400 }"#, r#"{"u":"é/","e":1E400}"#),
];

const CUSTOM: [&[(&str, &str)]; 3] = [&[], &[("k", "v")], &[("z", "1"), ("a", "x%2Fy")]];
