use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{ManualClock, NOW, OKMS_ID, certificate, material};
use crate::{
    domain::{Claim, Peer, Timestamp},
    pki::Authority,
    server::{ExternalAuthority, LiveTls, RevocationList, peer::ConnectedPeer},
};

const USER: &str = "urn:v1:eu:identity:user:ab12345-ovh/alice";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + seconds * 1_000)
}

fn date(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at(seconds).as_millis() / 1_000).unwrap()
}

/// From and until so many seconds after now.
pub(super) fn ca(name: &str, begins: i64, ends: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date(begins), date(ends));
    params
}

/// A client below an intermediate below a root, each with a time of its own, and a list with another.
fn chain_and_live() -> (Vec<CertificateDer<'static>>, Arc<LiveTls>) {
    let (root_params, root_key) = (ca("root", -100, 900), KeyPair::generate().unwrap());
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, root_key);
    let (middle_params, middle_key) = (ca("middle", -50, 500), KeyPair::generate().unwrap());
    let middle = middle_params.signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(middle_params, middle_key);
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    leaf.subject_alt_names = vec![SanType::URI(USER.try_into().unwrap())];
    (leaf.not_before, leaf.not_after) = (date(-20), date(700));
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &middle_issuer).unwrap();
    let list = CertificateRevocationListParams {
        this_update: date(-10),
        next_update: date(300),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&middle_issuer).unwrap().pem().unwrap();
    let authority = Authority::generate("CA", NOW, 3650).unwrap();
    let mut material = material(&authority);
    material.external_authorities.push(ExternalAuthority {
        name: "x".to_owned(),
        okms_id: OKMS_ID.parse().unwrap(),
        pem: format!("{}{}", root.pem(), middle.pem()),
    });
    material
        .revocation_lists
        .push(RevocationList { name: "y".to_owned(), content: list.into_bytes() });
    let live = LiveTls::new(&material, false, ManualClock::new()).unwrap();
    (vec![certificate(&leaf.pem())], live)
}

#[test]
fn a_verdict_says_who_it_is_and_why_not() {
    let (chain, live) = chain_and_live();
    let peer = ConnectedPeer::new(chain, live);
    let found = peer.certificate(NOW).unwrap();
    assert_eq!(found.claim, Claim::External(vec![USER.to_owned()]));
    assert_eq!(found.okms_id.to_string(), OKMS_ID);
    // Until the list is stale; then until the intermediate has ended, and so on.
    assert!(peer.certificate(Timestamp::from_millis(at(300).as_millis() - 1)).is_ok());
    for (seconds, reason) in [
        (300, "the revocation list of its authority is stale"),
        (501, "the certificate or an authority of it has expired"),
        (701, "the certificate or an authority of it has expired"),
        (901, "the certificate or an authority of it has expired"),
        (-21, "the certificate or an authority of it is not valid yet"),
        (-200, "the certificate or an authority of it is not valid yet"),
    ] {
        assert_eq!(peer.certificate(at(seconds)).unwrap_err(), reason, "{seconds}");
    }
    assert!(peer.certificate(NOW).is_ok());
}

/// What is remembered is what would be found out anew, at whatever time and in whatever order, clocks
/// that go back included.
#[test]
fn a_remembered_verdict_is_never_another_one() {
    let (chain, live) = chain_and_live();
    let edges = [-100_000, -50_000, -20_000, -10_000, 0, 300_000, 500_000, 700_000, 900_000_i64];
    let near = (prop::sample::select(edges.to_vec()), -1_100..1_100_i64).prop_map(|(a, b)| a + b);
    let times = prop::collection::vec(prop_oneof![near, -200_000..1_000_000_i64], 1..20);
    proptest!(ProptestConfig::with_cases(500), |(times in times)| {
        let remembering = ConnectedPeer::new(chain.clone(), live.clone());
        for millis in times {
            let now = Timestamp::from_millis(NOW.as_millis() + millis);
            let anew = ConnectedPeer::new(chain.clone(), live.clone()).certificate(now);
            prop_assert_eq!(remembering.certificate(now), anew, "at {}", millis);
        }
    });
}
