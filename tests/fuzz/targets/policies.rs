//! Documents of policies: what they allow stays within what they say.

#![no_main]

use okmsd::{
    domain::SecretPath,
    iam::{Action, Policy, PolicySet, documents},
};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(texts) = documents(text) else { return };
    for text in texts {
        let Ok(policy) = Policy::parse(text) else { continue };
        let document: serde_json::Value = serde_json::from_str(text).expect("a policy is JSON");
        assert!(text.len() <= Policy::MAX_DOCUMENT_BYTES);
        assert!((1..=Policy::MAX_NAME_LEN).contains(&policy.name().chars().count()));
        assert!(Policy::parse_stored(policy.name(), text).is_ok(), "not read once it is stored");
        assert!(Policy::parse_stored("another", text).is_err() || policy.name() == "another");
        let identities: Vec<String> =
            policy.identities().map(|urn| urn.as_str().to_owned()).collect();
        let domains: Vec<_> =
            policy.domains().map(|(region, okms_id)| (region.to_owned(), okms_id)).collect();
        let denies_all = document["permissions"]["deny"].to_string().contains("\"*\"");
        let set = PolicySet::new(1, vec![policy], []);
        let path = SecretPath::parse("prod/database").expect("a path");
        let stranger = ["urn:v1:eu:identity:user:nobody/at-all".to_owned()];
        for (region, okms_id) in &domains {
            for action in [Action::SecretGet, Action::SecretCreate, Action::VersionCreate] {
                for path in [None, Some(&path)] {
                    let allowed = set.rights(&identities, region, *okms_id).decide(action, path);
                    let is_root = okmsd::iam::is_root(&identities);
                    assert!(!(allowed.is_allowed() && denies_all) || is_root, "denied and allowed");
                    // The same rights, elsewhere or for someone else, are none.
                    let elsewhere = set.rights(&identities, "another-region", *okms_id);
                    let is_elsewhere = domains.iter().any(|(region, _)| region == "another-region");
                    assert!(
                        !elsewhere.decide(action, path).is_allowed() || is_root || is_elsewhere
                    );
                    let named = identities.contains(&stranger[0]);
                    let strange = set.rights(&stranger, region, *okms_id).decide(action, path);
                    assert!(!strange.is_allowed() || named);
                }
            }
        }
    }
});
