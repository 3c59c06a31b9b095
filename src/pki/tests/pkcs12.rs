use p12_keystore::{KeyStore, Pkcs12ImportPolicy};

use super::{NOW, authority, der};
use crate::pki::{AccessCertificate, AccessKey, pkcs12};

#[test]
fn a_pkcs12_file_holds_key_certificate_and_authority() {
    let authority = authority();
    let issued = authority
        .issue_access(AccessCertificate {
            credential_id: "1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f1".parse().unwrap(),
            okms_id: "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b".parse().unwrap(),
            not_before: NOW,
            not_after: NOW.plus_seconds(86_400),
            key: AccessKey::Ecdsa,
        })
        .unwrap();
    let key = issued.private_key_pem.unwrap();
    let make = |key: &str, name, password| {
        pkcs12(&issued.certificate_pem, key, authority.certificate_pem(), name, password)
    };
    let file = make(&key, "alice", "pass wörd").unwrap();

    let store = KeyStore::from_pkcs12(&file, "pass wörd", Pkcs12ImportPolicy::Strict).unwrap();
    let (name, chain) = store.private_key_chain().unwrap();
    assert_eq!(name, "alice");
    assert_eq!(chain.key().as_der(), der(&key));
    assert_eq!(chain.certs()[0].as_der(), der(&issued.certificate_pem));
    assert_eq!(chain.certs()[1].as_der(), der(authority.certificate_pem()));
    assert!(KeyStore::from_pkcs12(&file, "other", Pkcs12ImportPolicy::Strict).is_err());

    assert!(make(&key, "alice", "").is_err());
    assert!(make(&key, "alice", "\u{1f511}").is_err());
    assert!(make(&key, "\u{1f511}", "x").is_err());
    assert!(make("", "alice", "x").is_err());
    let other = authority.issue_server(&["localhost".into()], NOW, 1).unwrap();
    let error = make(&other.private_key_pem, "alice", "x").unwrap_err();
    assert_eq!(error.to_string(), "the private key is not the key of the certificate");
}
