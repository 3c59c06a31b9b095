//! How requests to KV2 are made up.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    CUSTOM, address, data, field, number, object, option, page, path, settings, typo, verb,
};
use crate::model::requests::{
    Address, Asked, Cas, Data, Field, Form, Kv, KvSettings, Media, Number, Operation, Versions,
    VersionsForm,
};

pub fn request() -> impl Strategy<Value = Kv> {
    prop_oneof![
        9 => (at(), verb(), option(cas()), data(), typo()).prop_map(|(at, by, cas, data, typo)| {
            Kv::Write { at, by, cas, data, typo }
        }),
        8 => (at(), media(), option(cas()), patch(), typo()).prop_map(
            |(at, media, cas, data, typo)| Kv::Patch { at, media, cas, data, typo }
        ),
        7 => (at(), option(number())).prop_map(|(at, version)| Kv::Read { at, version }),
        4 => (at(), option(number()), depth()).prop_map(|(at, version, depth)| {
            Kv::ReadKeys { at, version, depth }
        }),
        3 => at().prop_map(|at| Kv::DeleteData { at }),
        9 => (at(), verb(), operation(), versions(), typo()).prop_map(
            |(at, by, operation, versions, typo)| Kv::SetStates { at, by, operation, versions, typo }
        ),
        5 => at().prop_map(|at| Kv::ReadMetadata { at }),
        6 => (at(), verb(), kv_settings(), custom(), typo()).prop_map(
            |(at, by, settings, custom, typo)| Kv::WriteMetadata { at, by, settings, custom, typo }
        ),
        5 => (at(), media(), kv_settings(), custom_patch(), typo()).prop_map(
            |(at, media, settings, custom, typo)| {
                Kv::PatchMetadata { at, media, settings, custom, typo }
            }
        ),
        2 => at().prop_map(|at| Kv::Delete { at }),
        6 => (option(folder()), any::<bool>(), asked(), page()).prop_map(
            |(folder, slash, asked, page)| {
                let asked = match asked {
                    // Below the root this would be a secret.
                    Asked::Nothing if folder.is_some() => Asked::Method,
                    asked => asked,
                };
                Kv::List { folder, slash, asked, page }
            }
        ),
        3 => (verb(), kv_settings(), typo()).prop_map(|(by, settings, typo)| {
            Kv::WriteConfig { by, settings, typo }
        }),
        1 => Just(Kv::ReadConfig),
    ]
}

fn at() -> impl Strategy<Value = Address> {
    address().prop_map(|at| Address { central: false, ..at })
}

/// Folders with secrets in them, and addresses that are none.
fn folder() -> impl Strategy<Value = Address> {
    let path = prop_oneof![4 => Just("a"), 4 => Just("fill"), 1 => path(), 1 => Just("fill/09")];
    let form = select(&[Form::Raw, Form::Encoded, Form::Odd][..]);
    let plain = (path, form);
    let plain = plain.prop_map(|(path, form)| Address { path: path.into(), form, central: false });
    prop_oneof![12 => plain, 1 => at()]
}

fn cas() -> impl Strategy<Value = Cas> {
    prop_oneof![
        6 => number().prop_map(Cas::Number),
        3 => number().prop_map(Cas::Text),
        1 => Just(Cas::Null),
    ]
}

fn media() -> impl Strategy<Value = Media> {
    select(&[Media::Json, Media::MergePatch][..])
}

/// Merge patches, and what is none.
fn patch() -> impl Strategy<Value = Data> {
    let patch = select(&PATCHES[..]).prop_map(|patch| Data::Object(patch, patch));
    prop_oneof![
        20 => patch,
        6 => object(),
        1 => select(&[Data::Absent, Data::Null, Data::Array][..]),
    ]
}

fn depth() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        12 => select(&[None, Some("0"), Some("1"), Some("2"), Some("3")][..]),
        1 => select(&[Some("x"), Some("-1"), Some("")][..]),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    select(&[Operation::Delete, Operation::Undelete, Operation::Destroy][..])
}

fn versions() -> impl Strategy<Value = Versions> {
    let form = prop_oneof![
        10 => Just(VersionsForm::Numbers),
        10 => Just(VersionsForm::Texts),
        10 => Just(VersionsForm::Commas),
        1 => Just(VersionsForm::Absent),
    ];
    let numbers = prop_oneof![12 => vec(version(), 1..4), 1 => Just(Vec::new())];
    (numbers, form).prop_map(|(numbers, form)| Versions { numbers, form })
}

/// As [`number`], with less of what spoils the others beside it.
fn version() -> impl Strategy<Value = Number> {
    prop_oneof![
        4 => Just(Number::Current(0)),
        4 => (1_i64..5).prop_map(Number::Exactly),
        1 => number(),
    ]
}

fn kv_settings() -> impl Strategy<Value = KvSettings> {
    (settings(), any::<bool>()).prop_map(|(values, quoted)| KvSettings { values, quoted })
}

fn custom() -> impl Strategy<Value = Field<&'static [(&'static str, &'static str)]>> {
    prop_oneof![
        24 => field(select(&CUSTOM[..]).boxed()),
        1 => Just(Field::Is(&[("bad", "")][..])),
    ]
}

fn custom_patch() -> impl Strategy<Value = Field<&'static [(&'static str, Option<&'static str>)]>> {
    prop_oneof![
        24 => field(select(&CUSTOM_PATCHES[..]).boxed()),
        1 => Just(Field::Is(&[("bad", Some(""))][..])),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    select(&[Asked::True, Asked::One, Asked::Method, Asked::Nothing][..])
}

/// What they remove, replace and merge stands in the objects of [`object`].
const PATCHES: [&str; 8] = [
    r#"{"k":"w"}"#,
    r#"{"k":null}"#,
    "{}",
    r#"{"z":2.50,"n":1e+5}"#,
    r#"{"a":{"n":1.0,"m":null}}"#,
    r#"{"a":{"n":{"o":null,"p":[1,{"q":null}]}},"z":null}"#,
    r#"{"u":null,"b":{},"e":{"x":{"y":null}}}"#,
    r#"{"o":{"p":{"q":null,"r":-0.0}},"k":{"l":1}}"#,
];

const CUSTOM_PATCHES: [&[(&str, Option<&str>)]; 4] =
    [&[("k", Some("w"))], &[("k", None)], &[], &[("a", None), ("b", Some("2")), ("z", None)]];
