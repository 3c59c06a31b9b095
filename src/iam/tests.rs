//! Documents, and decisions about them.

use std::fmt::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::{Error, OkmsId, SecretPath};

const ID: &str = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";
const OTHER_ID: &str = "0b8f3a52-9c1d-4e6f-8a7b-1c2d3e4f5a6b";
const USER: &str = "urn:v1:eu:identity:user:a/one";
const OTHER: &str = "urn:v1:eu:identity:user:a/two";
const GROUP: &str = "urn:v1:eu:identity:group:a/all";
const ROOT: &str = "urn:v1:eu:identity:account:a";

fn id() -> OkmsId {
    ID.parse().unwrap()
}

fn path(text: &str) -> SecretPath {
    SecretPath::parse(text).unwrap()
}

fn urn(below: &str) -> Value {
    json!({"urn": format!("urn:v1:eu:resource:okms:{ID}{below}")})
}

fn document(name: &str, permissions: &Value) -> Value {
    json!({"name": name, "identities": [USER], "resources": [urn("")], "permissions": permissions})
}

fn parse(document: &Value) -> Result<Policy, String> {
    Policy::parse(&document.to_string()).map_err(|error| match error {
        Error::Malformed(text) => text,
        error => panic!("{error:?}"),
    })
}

fn set(documents: &[Value]) -> PolicySet {
    let policies = documents.iter().map(|document| parse(document).unwrap()).collect();
    PolicySet::new(0, policies, Vec::new())
}

fn decided(set: &PolicySet, identities: &[&str], action: Action, path: Option<&str>) -> String {
    let identities: Vec<String> = identities.iter().map(|urn| (*urn).to_owned()).collect();
    let path = path.map(self::path);
    let rights = set.rights(&set.with_groups(identities), "eu", id());
    let decision = rights.decide(action, path.as_ref());
    let by = decision.decided_by().unwrap_or("nothing");
    format!("{} by {by}", if decision.is_allowed() { "allowed" } else { "denied" })
}

#[test]
fn a_deny_wins_over_every_allow_and_root_over_every_deny() {
    let get = json!([{"action": "okms:apikms:secret/get"}]);
    let documents = [
        document("allows", &json!({"allow": get})),
        document("denies", &json!({"deny": get})),
        document("excepts", &json!({"allow": [{"action": "*"}], "except": get})),
    ];
    let decide = |which: &[usize], identities: &[&str], action| {
        let documents: Vec<_> = which.iter().map(|index| documents[*index].clone()).collect();
        decided(&set(&documents), identities, action, Some("a"))
    };
    let get = Action::SecretGet;
    assert_eq!(decide(&[0], &[USER], get), "allowed by allows");
    assert_eq!(decide(&[0], &[OTHER], get), "denied by nothing");
    assert_eq!(decide(&[0], &[USER], Action::SecretDelete), "denied by nothing");
    assert_eq!(decide(&[0, 1], &[USER], get), "denied by denies");
    assert_eq!(decide(&[1, 0], &[USER], get), "denied by denies");
    assert_eq!(decide(&[2], &[USER], get), "denied by nothing");
    assert_eq!(decide(&[2], &[USER], Action::SecretDelete), "allowed by excepts");
    assert_eq!(decide(&[0, 2], &[USER], get), "allowed by allows", "except binds its own policy");
    assert_eq!(decide(&[0, 1, 2], &[USER, ROOT], get), "allowed by root");
    assert_eq!(decide(&[], &[ROOT], get), "allowed by root");
    assert_eq!(decide(&[], &[], get), "denied by nothing");
}

#[test]
fn a_policy_counts_in_its_own_domain_and_region_only() {
    let all = json!({"allow": [{"action": "*"}]});
    let set = set(&[document("p", &all)]);
    let identities = [USER.to_owned()];
    let is_allowed = |region: &str, id: &str| {
        let rights = set.rights(&identities, region, id.parse().unwrap());
        rights.decide(Action::ConfigGet, None).is_allowed()
    };
    assert!(is_allowed("eu", ID));
    assert!(!is_allowed("eu", OTHER_ID));
    assert!(!is_allowed("us", ID));
}

#[test]
fn members_of_a_group_have_its_rights_and_one_group_only_lends_to_its_own() {
    let mut policy = document("p", &json!({"allow": [{"action": "*"}]}));
    policy["identities"] = json!([GROUP]);
    let members = vec![(GROUP.to_owned(), USER.to_owned())];
    let set = PolicySet::new(0, vec![parse(&policy).unwrap()], members);
    assert_eq!(decided(&set, &[USER], Action::SecretGet, Some("a")), "allowed by p");
    assert_eq!(decided(&set, &[OTHER], Action::SecretGet, Some("a")), "denied by nothing");
    assert_eq!(decided(&set, &[GROUP], Action::SecretGet, Some("a")), "allowed by p");
    assert_eq!(set.with_groups(vec![USER.to_owned()]), [USER, GROUP]);
    assert!(!set.is_without_rights(&[USER.to_owned()]));
    assert!(set.is_without_rights(&[OTHER.to_owned()]));
    assert!(!set.is_without_rights(&[ROOT.to_owned()]));
}

#[test]
fn a_decision_knows_its_lines() {
    let text = format!(
        "\n{{\n  \"name\": \"p\",\n  \"identities\": [\n    \"{OTHER}\",\n    \"{USER}\"\n  ],\n  \
         \"resources\": [\n    {{\"urn\": \"urn:v1:eu:resource:okms:{ID}/secret/b\"}},\n    \
         {{\n      \"urn\": \"urn:v1:eu:resource:okms:{ID}/secret/a*\"\n    }}\n  ],\n  \
         \"permissions\": {{\n    \"allow\": [\n      {{\"action\": \"okms:apikms:secret/create\"}},\n      \
         {{\"action\": \"okms:apikms:*\"}}\n    ],\n    \"except\": [{{\"action\": \"*/delete\"}}],\n    \
         \"deny\": [\n{{\"action\": \"okms:apikms:secretConfig/*\"}},\n\n{{\"action\": \"*/version/create\"}}]\n  }}\n}}\n"
    );
    let set = PolicySet::new(0, vec![Policy::parse(&text).unwrap()], Vec::new());
    let rights = set.rights(&[USER.to_owned()], "eu", id());
    let lines = |action: Action, secret: &str| {
        let decision = rights.decide(action, Some(&path(secret)));
        let ground = decision.ground().unwrap();
        let line = |number: usize| text.lines().nth(number - 1).unwrap().trim().to_owned();
        assert!(line(ground.identity_line).contains(USER));
        (line(ground.resource_line), line(ground.action_line), decision.is_allowed())
    };
    let (resource, action, is_allowed) = lines(Action::SecretGet, "a");
    assert_eq!((resource.as_str(), is_allowed), ("{", true), "where the entry begins");
    assert_eq!(action, "{\"action\": \"okms:apikms:*\"}");
    let (resource, action, is_allowed) = lines(Action::VersionCreate, "b");
    assert!(resource.ends_with("/secret/b\"},") && !is_allowed);
    assert_eq!(action, "{\"action\": \"*/version/create\"}]");
    let misses = rights.near_misses(Action::SecretDelete, Some(&path("a")));
    let Miss::Excepted(line) = misses[0].miss else { panic!("{misses:?}") };
    assert!(text.lines().nth(line - 1).unwrap().contains("except"));
    assert_eq!(rights.near_misses(Action::SecretGet, Some(&path("c")))[0].miss, Miss::Resource);
}

#[test]
fn what_is_not_understood_is_refused_and_says_where() {
    let good = document("p", &json!({"allow": [{"action": "okms:apikms:secret/get"}]}));
    assert!(parse(&good).is_ok());
    let with = |pointer: &str, value: Value| {
        let mut document = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[name] = value;
        parse(&document).map(|_| ())
    };
    let get = |action: &str| json!([{"action": action}]);
    for (pointer, value, rule) in [
        ("/conditions", json!({"operator": "AND"}), "conditions is not enforced"),
        ("/expiredAt", json!("2027-01-01T00:00:00Z"), "expiredAt is not enforced"),
        ("/permissionsGroups", json!([]), "unknown field `permissionsGroups`"),
        ("/Name", json!("x"), "unknown field `Name`"),
        ("/name", json!(""), "1 to 64 characters"),
        ("/name", json!("n".repeat(65)), "1 to 64 characters"),
        ("/name", json!("a\nb"), "control characters"),
        ("/name", json!(" a"), "blanks at its ends"),
        ("/name", json!("Root"), "kept for what root does"),
        ("/name", json!(1), "expected a string"),
        ("/permissions", json!(1), "expected an object with `allow`, `except` or `deny`"),
        ("/identities", json!([]), "without identities"),
        ("/identities", json!(["*"]), "line 1, identities: an identity is a URN"),
        ("/identities", json!(["urn:v1:eu:identity:user:a b"]), "an identity is a URN"),
        ("/identities", json!([1]), "identities: invalid type"),
        ("/identities", json!(vec![USER; 501]), "identities has at most 500 entries"),
        ("/identities", json!(USER), "invalid type"),
        ("/resources", json!([]), "without resources"),
        ("/resources", json!(["x"]), "line 1, resources: invalid type"),
        ("/resources", json!(["x"]), "expected an object with a `urn`"),
        ("/resources", json!([{"urn": "x", "tags": {}}]), "unknown field `tags`"),
        ("/resources", json!([{}]), "missing field `urn`"),
        ("/resources", json!([{"urn": "*"}]), "a resource is urn:v1:"),
        ("/resources", json!([urn("/secret/a/%2e%2e/b")]), "segments '.' or '..'"),
        ("/resources", json!(vec![urn(""); 501]), "resources has at most 500 entries"),
        ("/permissions", json!({}), "it says nothing"),
        ("/permissions", json!({"except": get("*")}), "it says nothing"),
        ("/permissions", json!({"grant": get("*")}), "unknown field `grant`"),
        ("/permissions", Value::Null, "invalid type"),
        ("/permissions/allow", get("okms:apikms:secret/gett"), "there is no such action"),
        ("/permissions/allow", json!(["*"]), "permissions.allow: invalid type"),
        ("/permissions/allow", json!(["*"]), "expected an object with an `action`"),
        ("/permissions/allow", json!([{"action": "*", "on": 1}]), "unknown field `on`"),
        ("/permissions/deny", get("okms:apikms:secret/list"), "line 1, permissions.deny: there is"),
        ("/permissions/except", get(""), "there is no such action"),
        ("/permissions/allow", json!(vec![json!({"action": "*"}); 501]), "at most 500 entries"),
        ("/description", json!("x".repeat(64 * 1024)), "at most 64 KiB"),
    ] {
        let refused = with(pointer, value).unwrap_err();
        assert!(refused.contains(rule), "{pointer}: {refused}");
    }
    let twice = good.to_string().replacen('{', "{\"name\":\"q\",", 1);
    assert!(format!("{:?}", Policy::parse(&twice)).contains("duplicate field `name`"));
    for missing in ["name", "identities", "resources", "permissions"] {
        let mut document = good.clone();
        document.as_object_mut().unwrap().remove(missing);
        assert!(parse(&document).unwrap_err().contains("missing field"), "{missing}");
    }
    assert!(with("/identities", json!(vec![USER; 500])).is_ok());
    assert!(with("/name", json!("n".repeat(64))).is_ok());
}

#[test]
fn what_the_service_adds_to_a_document_is_taken_and_ignored() {
    let mut exported =
        document("p", &json!({"allow": [{"action": "*"}], "except": null, "deny": null}));
    for (name, value) in [
        ("id", json!("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        ("owner", json!("ab12345-ovh")),
        ("readOnly", json!(false)),
        ("createdAt", json!("2026-01-01T00:00:00Z")),
        ("updatedAt", Value::Null),
        ("description", json!("For CI")),
        ("conditions", Value::Null),
        ("expiredAt", Value::Null),
    ] {
        exported[name] = value;
    }
    let policy = parse(&exported).unwrap();
    assert_eq!((policy.description(), policy.warnings()), ("For CI", &[][..]));
}

#[test]
fn what_has_no_effect_here_is_told() {
    let mut policy = document(
        "p",
        &json!({
            "allow": [{"action": "okms:apiovh:secret/get"}, {"action": "okms:apikms:secret/get"}],
        }),
    );
    policy["resources"] = json!([urn("/serviceKey/*"), urn("")]);
    policy["identities"] = json!([USER, ROOT]);
    let policy = parse(&policy).unwrap();
    assert_eq!(
        policy.warnings(),
        [
            "line 1: this identity is root, whom no policy binds",
            "line 1: this resource has no effect here",
            "line 1: this action has no effect here",
        ]
    );
}

#[test]
fn a_file_holds_one_document_or_several() {
    let one = "\n {\"name\": 1}\n";
    assert_eq!(documents(one).unwrap(), [one]);
    assert_eq!(documents(" [ {\"a\": 1},\n{}]").unwrap(), ["{\"a\": 1}", "{}"]);
    for wrong in ["[]", "[{}", "[{}] x"] {
        assert!(documents(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn scopes_are_the_prefixes_of_what_is_allowed() {
    let policy = |name: &str, below: &[&str], permissions: Value| {
        let mut policy = document(name, &permissions);
        policy["resources"] = below.iter().map(|below| urn(below)).collect();
        policy
    };
    let get = json!({"allow": [{"action": "okms:apikms:secret/get"}]});
    let scope = |documents: &[Value]| {
        let set = set(documents);
        match set.rights(&[USER.to_owned()], "eu", id()).scope(Action::SecretGet) {
            ListScope::All => "all".to_owned(),
            ListScope::Ranges(ranges) => ranges.iter().fold(String::new(), |mut text, range| {
                write!(text, "[{},{})", range.from, range.to).unwrap();
                text
            }),
        }
    };
    assert_eq!(scope(&[]), "");
    let create = json!({"allow": [{"action": "okms:apikms:secret/create"}]});
    assert_eq!(scope(&[policy("p", &[""], create)]), "");
    let excepted = json!({"allow": [{"action": "*"}], "except": [{"action": "*/get"}]});
    assert_eq!(scope(&[policy("p", &[""], excepted)]), "");
    assert_eq!(scope(&[policy("p", &["/serviceKey/*"], get.clone())]), "");
    for everything in ["", "/*", "/sec*", "/secret/*", "/secret/*/x", "/*z"] {
        assert_eq!(scope(&[policy("p", &[everything], get.clone())]), "[,{)", "{everything}");
    }
    let some = ["/secret/prod%2F*", "/secret/b", "/secret/prod/a*x", "/secret/az*"];
    assert_eq!(scope(&[policy("p", &some, get.clone())]), "[az,a{)[b,b!)[prod/,prod0)");
    // What is denied by the beginning of its path is not looked through.
    let denied = |action: &str, below: &[&str]| {
        let deny = json!({"deny": [{"action": action}]});
        scope(&[policy("p", &some, get.clone()), policy("q", below, deny)])
    };
    for (below, expected) in [
        (
            &["/secret/prod/b*", "/secret/prod/h/*"][..],
            "[az,a{)[b,b!)[prod/,prod/b)[prod/c,prod/h/)[prod/h0,prod0)",
        ),
        (&["/secret/a*", "/secret/pr**", "/secret/x*"], "[b,b!)"),
        (&["/secret/az%2F*", "/secret/prod/*"], "[az,az/)[az0,a{)[b,b!)"),
        (&["/secret/*/b", "/secret/b", "/secret/prod/*x*"], "[az,a{)[b,b!)[prod/,prod0)"),
        (&["/sec*"], ""),
        (&[""], ""),
        (&["/serviceKey/*"], "[az,a{)[b,b!)[prod/,prod0)"),
    ] {
        assert_eq!(denied("okms:apikms:secret/*", below), expected, "{below:?}");
        assert_eq!(denied("*/delete", below), denied("*/get", &["/serviceKey/*"]), "{below:?}");
    }
}

/// A decision by the words of the rules alone, over the documents as JSON: every URN is written out in
/// full and compared as text, `*` by trying everything.
fn naive(documents: &[Value], identities: &[String], action: Action, path: Option<&str>) -> bool {
    fn matches(pattern: &str, text: &str) -> bool {
        match (pattern.chars().next(), text.chars().next()) {
            (None, first) => first.is_none(),
            (Some('*'), _) => (0..=text.len()).any(|taken| matches(&pattern[1..], &text[taken..])),
            (letter, first) => letter == first && matches(&pattern[1..], &text[1..]),
        }
    }
    if identities.iter().any(|urn| urn.split(':').nth(4) == Some("account")) {
        return true;
    }
    let names = |value: &Value, field: &str, name: &str| {
        let list = value[field].as_array().cloned().unwrap_or_default();
        list.iter().any(|entry| matches(entry["action"].as_str().unwrap(), name))
    };
    let domain = format!("urn:v1:eu:resource:okms:{ID}");
    let applies = |document: &&Value| {
        let named = document["identities"].as_array().unwrap();
        let resources = document["resources"].as_array().unwrap();
        named.iter().any(|urn| identities.iter().any(|own| urn == own))
            && resources.iter().any(|resource| {
                let pattern = resource["urn"].as_str().unwrap().replace("%2F", "/");
                match path {
                    _ if pattern == domain => true,
                    Some(path) => matches(&pattern, &format!("{domain}/secret/{path}")),
                    None => matches(&pattern, &domain),
                }
            })
    };
    let applying: Vec<&Value> = documents.iter().filter(applies).collect();
    let (mut allowed, mut denied) = (false, false);
    for document in applying {
        let permissions = &document["permissions"];
        denied |= names(permissions, "deny", action.as_str());
        allowed |= names(permissions, "allow", action.as_str())
            && !names(permissions, "except", action.as_str());
    }
    allowed && !denied
}

/// Choices, each by a byte of its own, so that a hundred thousand of them are made in seconds.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn number(&mut self, below: usize) -> usize {
        usize::from(*self.0.next().expect("enough bytes")) % below
    }

    fn pick<'c>(&mut self, choices: &[&'c str]) -> &'c str {
        choices[self.number(choices.len())]
    }

    fn actions(&mut self, most: usize) -> Value {
        let names = [
            "okms:apikms:secret/get",
            "okms:apikms:secret/version/getData",
            "okms:apikms:secretConfig/get",
            "okms:apikms:secret/*",
            "okms:apikms:secret/version/*",
            "okms:apikms:*",
            "*/get",
            "*",
            "okms:apiovh:secret/get",
        ];
        (0..self.number(most + 1)).map(|_| json!({"action": self.pick(&names)})).collect()
    }

    fn resource(&mut self) -> Value {
        let region = self.pick(&["eu", "eu", "eu", "us"]);
        let id = self.pick(&[ID, ID, ID, OTHER_ID]);
        let mut below =
            self.pick(&["", "/*", "/sec*", "/secret/", "/secret/", "/secret/"]).to_owned();
        if below.ends_with('/') {
            below.push_str(self.pick(&SEGMENTS));
            for _ in 0..self.number(3) {
                below.push_str(self.pick(&["/", "%2F"]));
                below.push_str(self.pick(&SEGMENTS));
            }
        }
        json!({"urn": format!("urn:v1:{region}:resource:okms:{id}{below}")})
    }

    fn document(&mut self) -> Value {
        let identities: Value =
            (0..=self.number(2)).map(|_| json!(self.pick(&[USER, OTHER, GROUP]))).collect();
        let resources: Value = (0..=self.number(3)).map(|_| self.resource()).collect();
        let (mut allow, except) = (self.actions(2), self.actions(1));
        let deny = if self.number(3) == 0 { self.actions(1) } else { json!([]) };
        if allow == deny {
            // Both are empty, and a policy has to say something.
            allow = json!([{"action": "*"}]);
        }
        json!({
            "name": "p",
            "identities": identities,
            "resources": resources,
            "permissions": {"allow": allow, "except": except, "deny": deny},
        })
    }
}

const SEGMENTS: [&str; 9] = ["a", "b", "ab", "ba", "*", "a*", "*b", "**", "a*b"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn decisions_are_those_of_the_words_of_the_rules(
        bytes in prop::array::uniform32(any::<[u8; 8]>()),
    ) {
        let bytes = bytes.concat();
        let mut dice = Dice(bytes.iter());
        let documents: Vec<Value> = (0..dice.number(4)).map(|_| dice.document()).collect();
        let identities: Vec<String> =
            (0..dice.number(3)).map(|_| dice.pick(&[USER, USER, OTHER, GROUP, ROOT]).to_owned()).collect();
        let action = [
            Action::SecretGet, Action::VersionGetData, Action::ConfigGet, Action::SecretDelete,
        ][dice.number(4)];
        let mut secret = dice.pick(&SEGMENTS[..4]).to_owned();
        for _ in 0..dice.number(3) {
            secret = format!("{secret}/{}", dice.pick(&SEGMENTS[..4]));
        }
        let secret = action.is_of_secret().then_some(secret);
        let expected = naive(&documents, &identities, action, secret.as_deref());
        let path = secret.as_deref().map(self::path);
        let policies: Vec<_> =
            documents.iter().map(|document| parse(document).unwrap()).collect();
        let decide = |policies: Vec<Policy>| {
            let set = PolicySet::new(0, policies, Vec::new());
            let rights = set.rights(&identities, "eu", id());
            // Whatever may be seen lies in the ranges that a list looks at.
            let is_in_scope = match rights.scope(action) {
                ListScope::All => true,
                ListScope::Ranges(ranges) => ranges.iter().any(|range| {
                    secret.as_deref().is_none_or(|path| *range.from <= *path && *path < *range.to)
                }),
            };
            (rights.decide(action, path.as_ref()).is_allowed(), is_in_scope)
        };
        let (is_allowed, is_in_scope) = decide(policies.clone());
        prop_assert_eq!(is_allowed, expected);
        prop_assert!(is_in_scope || !is_allowed || secret.is_none());
        let reversed: Vec<_> = policies.into_iter().rev().collect();
        prop_assert_eq!(decide(reversed).0, expected, "the order of policies does not matter");
    }

    #[test]
    fn no_spelling_of_a_pattern_or_a_path_escapes(
        below in "[aA.%2eEfF5*/]{0,10}",
        secret in "[aA.%2eEfF5/]{1,8}",
    ) {
        let document = json!({
            "name": "p",
            "identities": [USER],
            "resources": [urn(&format!("/secret/team/{below}"))],
            "permissions": {"allow": [{"action": "*"}]},
        });
        // What is taken stays below its literal beginning, whatever is asked for.
        if let (Ok(policy), Ok(path)) = (parse(&document), SecretPath::parse(&secret)) {
            let set = PolicySet::new(0, vec![policy], Vec::new());
            let rights = set.rights(&[USER.to_owned()], "eu", id());
            prop_assert!(!rights.decide(Action::SecretGet, Some(&path)).is_allowed());
            if let Ok(path) = SecretPath::parse(&format!("team/{secret}")) {
                let decoded = below.replace("%2F", "/").replace("%2f", "/").replace("%2E", ".");
                let decoded = decoded.replace("%2e", ".");
                if !decoded.contains(['*', '%']) {
                    let is_allowed = rights.decide(Action::SecretGet, Some(&path)).is_allowed();
                    prop_assert_eq!(is_allowed, decoded == secret);
                }
            }
        }
    }
}
