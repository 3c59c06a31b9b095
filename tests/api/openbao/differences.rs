//! Where this server does not do as OpenBao does, on purpose.

use serde_json::Value;

use super::{replay::STATUS, requests::Request};

/// A row of the table.
pub struct Difference {
    pub name: &'static str,
    /// Why it is so.
    pub reason: &'static str,
    /// A sequence in which it occurs.
    pub example: &'static [&'static str],
    /// Whether the two hold different things from then on.
    pub ends: bool,
    /// Whether a difference is this one.
    pub is_this: fn(&Step<'_>, &Leaf) -> bool,
}

/// A request and its answers.
pub struct Step<'s> {
    pub request: &'s Request,
    /// The last request before this one that changes something.
    pub change: Option<&'s Request>,
    /// The statuses.
    pub ours: u16,
    pub theirs: u16,
    /// The defaults as they were last read.
    pub config: &'s Value,
    /// The metadata of the secret as it was last read; null where there was none.
    pub secret: &'s Value,
    /// The body of our answer, with its times as words.
    pub body: &'s Value,
}

/// A place where the answers differ: in the bodies, or the status.
pub struct Leaf {
    pub place: String,
    /// None where there is nothing at the place.
    pub ours: Option<Value>,
    pub theirs: Option<Value>,
}

/// All of them: those of form, those of rules, and what OpenBao takes and this server refuses.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "envelope",
        reason: "what says nothing is absent; OpenBao has a null there",
        example: &["GET config"],
        ends: false,
        is_this: |step, leaf| step.ours < 400 && is_envelope(leaf),
    },
    Difference {
        name: "errors",
        reason: "errors have the contract's form: a text, a code and a request id",
        example: &["GET data/a"],
        ends: false,
        is_this: |step, leaf| {
            let form = ["/errors", "/errors/0", "/error_id", "/error_code", "/request_id"];
            // Errors with data beside them are whole answers there.
            let lease = ["/lease_id", "/renewable", "/lease_duration"];
            let has_none = leaf.ours.is_none() && lease.contains(&&leaf.place[..]);
            step.ours >= 400 && (is_envelope(leaf) || has_none || form.contains(&&leaf.place[..]))
        },
    },
    Difference {
        name: "texts of warnings",
        reason: "they say the same in other words",
        example: &[
            r#"PUT config {"cas_required":true}"#,
            r#"PUT metadata/a {"cas_required":false}"#,
        ],
        ends: false,
        is_this: |_, leaf| {
            leaf.place.starts_with("/warnings/") && leaf.ours.is_some() && leaf.theirs.is_some()
        },
    },
    Difference {
        name: "urn",
        reason: "the contract adds the URN of the secret to its metadata",
        example: &[r#"PUT metadata/a {"max_versions":1}"#],
        ends: false,
        is_this: |_, leaf| leaf.place == "/data/urn" && leaf.theirs.is_none(),
    },
    Difference {
        name: "check-and-set of metadata",
        reason: "it is OpenBao's alone, and not in the contract",
        example: &["GET config"],
        ends: false,
        is_this: |_, leaf| {
            let places = ["/data/metadata_cas_required", "/data/current_metadata_version"];
            places.contains(&&leaf.place[..]) && leaf.ours.is_none()
        },
    },
    Difference {
        name: "max_versions of both",
        reason: "the secret's own counts where it is set, as in v2; OpenBao takes the larger one",
        example: &[
            r#"PUT config {"max_versions":3}"#,
            r#"PUT metadata/a {"max_versions":1}"#,
            r#"PUT data/a {"data":{}}"#,
            r#"PUT data/a {"data":{}}"#,
        ],
        ends: true,
        is_this: |step, leaf| {
            let own = number(step.secret, "/max_versions");
            let current = number(step.body, "/data/current_version");
            let gone = current.saturating_sub(own);
            let version = leaf.place.strip_prefix("/data/versions/");
            let pruned = version
                .and_then(|version| version.parse().ok())
                .is_some_and(|version: u64| version <= gone && leaf.ours.is_none());
            let oldest =
                leaf.place == "/data/oldest_version" && leaf.ours == Some((gone + 1).into());
            let larger = number(step.config, "/max_versions") > own;
            own > 0 && larger && gone > 0 && (pruned || oldest)
        },
    },
    Difference {
        name: "delete_version_after of both",
        reason: "the secret's own counts where it is set, as in v2; OpenBao takes the shorter one",
        example: &[
            r#"PUT config {"delete_version_after":"2h"}"#,
            r#"PUT metadata/a {"delete_version_after":"3h30m"}"#,
            r#"PUT data/a {"data":{}}"#,
        ],
        ends: true,
        is_this: |step, leaf| {
            let planned = (lifetime(step.secret), lifetime(step.config));
            let (own, domain) = planned;
            let says = |value: &Option<Value>, seconds: u64| match seconds {
                0..600 => text(value) == Some("past"),
                _ => text(value) == Some(&format!("in {} min", seconds / 60)),
            };
            leaf.place.ends_with("/deletion_time")
                && 0 < domain
                && domain < own
                && says(&leaf.ours, own)
                && says(&leaf.theirs, domain)
        },
    },
    Difference {
        name: "oldest_version before one was pruned",
        reason: "0 until a version was pruned, as in v2; OpenBao says 1 from the last one that fits on",
        example: &[r#"PUT metadata/a {"max_versions":1}"#, r#"PUT data/a {"data":{}}"#],
        ends: false,
        is_this: |_, leaf| {
            leaf.place == "/data/oldest_version"
                && leaf.ours == Some(0.into())
                && leaf.theirs == Some(1.into())
        },
    },
    Difference {
        name: "deletion_time of a destroyed version",
        reason: "when it was destroyed, if not deleted before, as in v2; OpenBao leaves it as it was",
        example: &[r#"PUT data/a {"data":{}}"#, r#"PUT destroy/a {"versions":[1]}"#],
        ends: false,
        is_this: |step, leaf| {
            let Some(version) = leaf.place.strip_suffix("/deletion_time") else { return false };
            let destroyed = step.body.pointer(&format!("{version}/destroyed"));
            destroyed == Some(&Value::Bool(true)) && text(&leaf.ours) == Some("past")
        },
    },
    Difference {
        name: "an empty root",
        reason: "clients of the contract take a 404 for a failure; OpenBao has no empty lists",
        example: &["LIST metadata"],
        ends: false,
        is_this: |step, leaf| {
            is_status(leaf, step, 200, &[404])
                && is_root_list(step.request)
                && step.body.pointer("/data/keys") == Some(&Value::Array(Vec::new()))
        },
    },
    Difference {
        name: "GET of the root",
        reason: "a list without list=true in the contract; nothing in OpenBao",
        example: &[r#"PUT data/a {"data":{}}"#, "GET metadata"],
        ends: false,
        is_this: |step, leaf| {
            is_status(leaf, step, 200, &[404])
                && is_root_list(step.request)
                && !step.request.is_list()
        },
    },
    Difference {
        name: "numbers",
        reason: "they are kept digit by digit; OpenBao makes 64-bit floats of them",
        example: &[r#"PUT data/a {"data":{"n":12345678901234567890}}"#, "GET data/a"],
        ends: false,
        is_this: |_, leaf| {
            let float = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64);
            leaf.place.starts_with("/data/data/")
                && float(&leaf.ours).is_some()
                && float(&leaf.ours) == float(&leaf.theirs)
        },
    },
    Difference {
        name: "numbers beyond floats",
        reason: "they are kept digit by digit; OpenBao cannot hold them",
        example: &[r#"PUT data/a {"data":{"n":1e400}}"#],
        ends: true,
        is_this: |step, leaf| {
            is_status(leaf, step, 200, &[400]) && body(step.request).contains("1e400")
        },
    },
    Difference {
        name: "cas null",
        reason: "it is as if it were not there, like any null; OpenBao takes it for 0",
        example: &[r#"PUT data/a {"data":{}}"#, r#"PUT data/a {"data":{},"options":{"cas":null}}"#],
        ends: true,
        is_this: |step, leaf| {
            let options = step.request.field("/options");
            let null = options.get("cas") == Some(&Value::Null);
            null && match number(step.secret, "/current_version") {
                // Nothing is required, or else it would have been refused here, too. A patch finds the
                // current version closed.
                1.. => is_status(leaf, step, 200, &[400]) || is_status(leaf, step, 404, &[400]),
                // Here it is required; there, a patch finds nothing to patch.
                0 => is_status(leaf, step, 400, &[200, 404]),
            }
        },
    },
    Difference {
        name: "a patch that takes delete_version_after away",
        reason: "null and 0s do, as they do with other settings; OpenBao leaves the old one",
        example: &[
            r#"PUT metadata/a {"delete_version_after":"2h"}"#,
            r#"PATCH metadata/a {"delete_version_after":null}"#,
        ],
        ends: true,
        is_this: |step, leaf| {
            let taken_away = step.change.is_some_and(|change| {
                let body = change.field("");
                let after = body.get("delete_version_after");
                is_patch_of(change, "metadata")
                    && change.path() == step.request.path()
                    && after.is_some_and(|after| after.is_null() || after == "0s")
            });
            taken_away
                && leaf.place == "/data/delete_version_after"
                && text(&leaf.ours) == Some("0s")
                && leaf.theirs.as_ref() == step.secret.get("delete_version_after")
        },
    },
    Difference {
        name: "a patch without effect of metadata that is not there",
        reason: "a 404, like any other patch of it; OpenBao does not look",
        example: &["PATCH metadata/a {}", r#"PATCH metadata/a {"delete_version_after":null}"#],
        ends: false,
        is_this: |step, leaf| {
            let body = step.request.field("");
            let without_effect = body.as_object().is_some_and(|fields| {
                fields.iter().all(|(name, value)| name == "delete_version_after" && value.is_null())
            });
            is_status(leaf, step, 404, &[204])
                && is_patch_of(step.request, "metadata")
                && without_effect
        },
    },
    Difference {
        name: "bad custom_metadata in a patch of metadata that is not there",
        reason: "that there is nothing to patch is said first; OpenBao looks at the values first",
        example: &[r#"PATCH metadata/a {"custom_metadata":{"k":""}}"#],
        ends: false,
        is_this: |step, leaf| {
            is_status(leaf, step, 404, &[400])
                && is_patch_of(step.request, "metadata")
                && step.request.field("/custom_metadata").is_object()
        },
    },
    Difference {
        name: "a bad cas in a patch of data that is not there",
        reason: "a body is checked before anything is read; OpenBao looks for the secret first",
        example: &[r#"PATCH data/a {"data":{},"options":{"cas":"x"}}"#],
        ends: false,
        is_this: |step, leaf| {
            is_status(leaf, step, 400, &[404])
                && is_patch_of(step.request, "data")
                && !is_digits(&step.request.field("/options/cas"))
        },
    },
    Difference {
        name: "days beside other units",
        reason: "the contract's durations may have days; OpenBao's only alone",
        example: &[r#"PUT metadata/a {"delete_version_after":"7d1h"}"#],
        ends: true,
        is_this: |step, leaf| {
            is_status(leaf, step, 204, &[400])
                && step.request.field("/delete_version_after") == "7d1h"
        },
    },
    Difference {
        name: "durations out of bounds",
        reason: "they end at 100 years and begin at a second, and none is negative; OpenBao cuts to \
                 seconds, and a negative default switches deletion by age off for all",
        example: &[r#"PUT config {"delete_version_after":"-1h"}"#],
        ends: true,
        is_this: |step, leaf| {
            let after = step.request.field("/delete_version_after");
            let out = ["36526d", "500ms"].iter().any(|text| after == *text);
            let negative = step.request.operation() == "config" && after == "-1h";
            is_status(leaf, step, 400, &[204]) && (out || negative)
        },
    },
    Difference {
        name: "max_versions out of bounds",
        reason: "0 to 24000 in the contract; OpenBao takes any 32 bits, and makes numbers of anything",
        example: &[r#"PUT config {"max_versions":24001}"#],
        ends: true,
        is_this: |step, leaf| {
            let versions = step.request.field("/max_versions");
            is_status(leaf, step, 400, &[204])
                && !versions.is_null()
                && (!is_digits(&versions) || versions.as_u64().is_some_and(|n| n > 24_000))
        },
    },
    Difference {
        name: "booleans that are none",
        reason: "a mistyped setting must not pass in silence; OpenBao makes something of it",
        example: &[r#"PUT metadata/a {"cas_required":""}"#],
        ends: true,
        is_this: |step, leaf| {
            let cas_required = step.request.field("/cas_required");
            // With a warning, if what OpenBao makes of it has no effect.
            let is_none = cas_required == "" || cas_required == "t";
            is_none && is_status(leaf, step, 400, &[200, 204])
        },
    },
    Difference {
        name: "a field that does not exist",
        reason: "a mistyped setting must not pass in silence; OpenBao does not look",
        example: &[r#"PUT config {"max_version":1}"#],
        ends: true,
        is_this: |step, leaf| {
            is_status(leaf, step, 400, &[200, 204]) && !step.request.field("/max_version").is_null()
        },
    },
    Difference {
        name: "a key twice",
        reason: "which of them counts is a guess; OpenBao takes the last one",
        example: &[r#"PUT data/a {"data":{"k":1,"k":2}}"#],
        ends: true,
        is_this: |step, leaf| {
            is_status(leaf, step, 400, &[200]) && body(step.request).matches(r#""k":"#).count() == 2
        },
    },
    Difference {
        name: "letters and kinds of custom_metadata",
        reason: "texts in the contract's letters; OpenBao takes any that can be printed, and makes texts \
                 of other values",
        example: &[r#"PUT metadata/a {"custom_metadata":{"k":"a b"}}"#],
        ends: true,
        is_this: |step, leaf| {
            let value = step.request.field("/custom_metadata/k");
            is_status(leaf, step, 400, &[204]) && (value == "a b" || value == 1)
        },
    },
    Difference {
        name: "a patch of custom_metadata with a number",
        reason: "a 400, as where it is written; OpenBao looks for the secret first, and then fails",
        example: &[
            r#"PATCH metadata/a {"custom_metadata":{"k":1}}"#,
            r#"PUT metadata/a {"max_versions":1}"#,
            r#"PATCH metadata/a {"custom_metadata":{"k":1}}"#,
        ],
        ends: false,
        is_this: |step, leaf| {
            is_status(leaf, step, 400, &[404, 500])
                && is_patch_of(step.request, "metadata")
                && step.request.field("/custom_metadata/k") == 1
        },
    },
    Difference {
        name: "data that is no object",
        reason: "data is an object in the contract; OpenBao makes an empty one of it",
        example: &[r#"PUT data/a {"data":null}"#],
        ends: true,
        is_this: |step, leaf| {
            is_status(leaf, step, 400, &[200])
                && step.request.operation() == "data"
                && step.request.changes()
                && !step.request.field("/data").is_object()
        },
    },
    Difference {
        name: "data that is too large",
        reason: "64 KiB a version in the contract",
        example: &[r#"PUT data/a {"data":{"k":"{large}"}}"#],
        ends: true,
        is_this: |step, leaf| {
            is_status(leaf, step, 400, &[200]) && body(step.request).len() > 65_536
        },
    },
    Difference {
        name: "options that are no object, or a cas that is no number",
        reason: "a mistyped cas must not pass in silence; OpenBao takes it for none, or for 0",
        example: &[r#"PUT data/a {"data":{},"options":{"cas":""}}"#],
        ends: true,
        is_this: |step, leaf| {
            let options = step.request.field("/options");
            let cas = options.get("cas").is_some_and(|cas| !cas.is_null() && !is_digits(cas));
            is_status(leaf, step, 400, &[200])
                && (cas || !options.is_null() && !options.is_object())
        },
    },
    Difference {
        name: "versions that are no numbers",
        reason: "what cannot be a version is refused; OpenBao passes it over, or makes something of it",
        example: &[r#"PUT data/a {"data":{}}"#, r#"PUT destroy/a {"versions":[-1]}"#],
        ends: true,
        is_this: |step, leaf| {
            let versions = step.request.field("/versions");
            let odd = match &versions {
                Value::Array(versions) => versions.iter().any(|version| !is_digits(version)),
                Value::String(text) => {
                    text.split(',').any(|version| version.parse::<u32>().is_err())
                }
                other => !is_digits(other),
            };
            is_status(leaf, step, 400, &[204]) && odd
        },
    },
    Difference {
        name: "blanks between versions",
        reason: "\"1, 2\" says the same as \"1,2\"",
        example: &[r#"PUT data/a {"data":{}}"#, r#"PUT delete/a {"versions":"1, 2"}"#],
        ends: true,
        is_this: |step, leaf| {
            let versions = step.request.field("/versions");
            is_status(leaf, step, 204, &[400])
                && versions.as_str().is_some_and(|versions| versions.contains(", "))
        },
    },
    Difference {
        name: "numbers in a query",
        reason: "what is no number from 0 on is refused; OpenBao takes some of it for the current version",
        example: &[r#"PUT data/a {"data":{}}"#, "GET data/a?version=-1", "GET subkeys/a?depth="],
        ends: false,
        is_this: |step, leaf| {
            let values = ["version", "depth"].map(|name| step.request.query(name));
            is_status(leaf, step, 400, &[200, 404])
                && ["data", "subkeys"].contains(&step.request.operation())
                && values.iter().flatten().any(|value| value.parse::<u32>().is_err())
        },
    },
    Difference {
        name: "paths",
        reason: "the contract's letters, and no slash at an end or twice; OpenBao takes nearly anything",
        example: &[r#"PUT data/a%20b {"data":{}}"#],
        ends: true,
        is_this: |step, leaf| {
            // It fails at the data of a path that ends in a slash.
            let theirs = [200, 204, 307, 404, 500];
            let path = step.request.path();
            is_status(leaf, step, 400, &theirs) && !path.is_empty() && !is_path(&path)
        },
    },
    Difference {
        name: "other lists",
        reason: "pages by after and limit, and scans, are OpenBao's alone, neither Vault's nor the contract's: who asks \
                 for one does not expect the list that there is",
        example: &[
            r#"PUT data/a {"data":{}}"#,
            "LIST metadata?limit=1",
            "LIST metadata?after=a",
            "GET metadata?scan=true",
        ],
        ends: false,
        is_this: |step, leaf| {
            let mut names = ["after", "limit", "scan"].iter();
            is_status(leaf, step, 400, &[200, 404])
                && step.request.operation() == "metadata"
                && names.any(|name| step.request.query(name).is_some())
        },
    },
];

/// Whether a path is one in the contract.
pub fn is_path(path: &str) -> bool {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_.:/=@-".contains(letter);
    path.chars().all(is_good) && path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

fn is_envelope(leaf: &Leaf) -> bool {
    let fields = ["/wrap_info", "/warnings", "/auth"];
    let null = matches!(&leaf.theirs, Some(Value::Null)) && leaf.place == "/data";
    leaf.ours.is_none() && (null || fields.contains(&&leaf.place[..]))
}

fn is_status(leaf: &Leaf, step: &Step<'_>, ours: u16, theirs: &[u16]) -> bool {
    leaf.place == STATUS && step.ours == ours && theirs.contains(&step.theirs)
}

fn is_root_list(request: &Request) -> bool {
    !request.changes() && request.operation() == "metadata" && request.path().is_empty()
}

fn is_patch_of(request: &Request, operation: &str) -> bool {
    request.method == "PATCH" && request.operation() == operation
}

fn body(request: &Request) -> &str {
    request.body.as_deref().unwrap_or_default()
}

/// Whether a value is a whole number from 0 on, or the text of one.
fn is_digits(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_u64(),
        Value::String(text) => text.parse::<u64>().is_ok(),
        _ => false,
    }
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn text(value: &Option<Value>) -> Option<&str> {
    value.as_ref().and_then(Value::as_str)
}

/// The seconds of `delete_version_after`, which is written as `3h30m0s`; 0 where it is not set.
pub fn lifetime(settings: &Value) -> u64 {
    let mut rest = settings["delete_version_after"].as_str().unwrap_or_default();
    let units = [("h", 3_600), ("m", 60), ("s", 1)].map(|(unit, seconds)| {
        let (number, behind) = rest.split_once(unit).unwrap_or(("0", rest));
        rest = behind;
        number.parse::<u64>().unwrap_or(0) * seconds
    });
    units.iter().sum()
}
