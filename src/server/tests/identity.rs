use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, SerialNumber,
};

use super::{CREDENTIAL_ID, NOW, OKMS_ID, access_from, certificate};
use crate::{
    domain::{Claim, CredentialId},
    pki::{AccessCertificate, AccessKey, Authority},
    server::peer_certificate,
};

const OTHER_OKMS_ID: &str = "00000000-0a6b-4a0c-9a3f-5c9d0e1f2a3b";
const UPN: [u64; 10] = [1, 3, 6, 1, 4, 1, 311, 20, 2, 3];

/// What an access certificate says, made by other means than `pki`.
pub(super) fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, OKMS_ID);
    params.serial_number = Some(SerialNumber::from_slice(&[1; 16]));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![upn(&format!("okms.domain:{OKMS_ID}"))];
    params
}

fn upn(text: &str) -> SanType {
    SanType::OtherName((UPN.to_vec(), text.into()))
}

fn refusal(change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = params();
    change(&mut params);
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    peer_certificate(&der).unwrap_err().to_string()
}

#[test]
fn what_pki_issues_is_read_back() {
    let authority = Authority::generate("CA", NOW, 3650).unwrap();
    for id in [
        CREDENTIAL_ID,
        "00000034-bbaa-4988-8766-554433221100",
        "000000f4-bbaa-4988-8766-554433221100",
        "7fffffff-ffff-4fff-bfff-ffffffffffff",
        "00000000-0000-0000-0000-000000000001",
        "00000000-0000-0000-0000-000000000080",
    ] {
        let issued = authority
            .issue_access(AccessCertificate {
                credential_id: id.parse().unwrap(),
                okms_id: OKMS_ID.parse().unwrap(),
                not_before: NOW,
                not_after: NOW.plus_seconds(60),
                key: AccessKey::Ecdsa,
            })
            .unwrap();
        let read = peer_certificate(&certificate(&issued.certificate_pem)).unwrap();
        assert_eq!(read.claim, Claim::Issued(id.parse().unwrap()));
        assert_eq!(read.okms_id.to_string(), OKMS_ID);
        assert_eq!(read.fingerprint, issued.fingerprint);
    }
}

#[test]
fn two_certificates_of_one_credential_have_two_fingerprints() {
    let authority = Authority::generate("CA", NOW, 3650).unwrap();
    let read = || {
        let (pem, _) = access_from(&authority, AccessKey::Ecdsa);
        peer_certificate(&certificate(&pem)).unwrap()
    };
    let (one, other) = (read(), read());
    assert_eq!(one.claim, other.claim);
    assert_ne!(one.fingerprint, other.fingerprint);
}

#[test]
fn the_same_form_made_by_others_is_read() {
    let der = params().self_signed(&KeyPair::generate().unwrap()).unwrap();
    let id = CredentialId::new(uuid::Uuid::from_bytes([1; 16]));
    assert_eq!(peer_certificate(der.der()).unwrap().claim, Claim::Issued(id));
}

#[test]
fn any_other_form_is_refused() {
    let okms_domain = format!("okms.domain:{OKMS_ID}");
    let cases = [
        (refusal(|p| p.serial_number = Some(vec![1; 17].into())), "longer than 16 bytes"),
        (refusal(|p| p.serial_number = Some(vec![0x80; 17].into())), "longer than 16 bytes"),
        (refusal(|p| p.serial_number = Some(vec![0].into())), "not positive"),
        (refusal(|p| p.extended_key_usages.clear()), "no extended key usage"),
        (
            refusal(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "not client authentication only",
        ),
        (
            refusal(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
            "not client authentication only",
        ),
        (
            refusal(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
            "not client authentication only",
        ),
        (
            refusal(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "certificate of an authority",
        ),
        (refusal(|p| p.distinguished_name = DistinguishedName::new()), "exactly one common name"),
        (
            // rcgen keeps one name of a kind; by its number it is another kind.
            refusal(|p| {
                p.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), OKMS_ID);
            }),
            "exactly one common name",
        ),
        (
            refusal(|p| p.distinguished_name.push(DnType::CommonName, "*")),
            "common name is not an okmsId",
        ),
        (
            refusal(|p| {
                p.distinguished_name.push(DnType::CommonName, format!("{OKMS_ID}\0.example.org"));
            }),
            "common name is not an okmsId",
        ),
        (refusal(|p| p.subject_alt_names = vec![upn("okms.domain:*")]), "not okms.domain:"),
        (
            refusal(|p| p.subject_alt_names = vec![upn(&format!("{okms_domain}\0x"))]),
            "not okms.domain:",
        ),
        (
            refusal(|p| p.distinguished_name.push(DnType::CommonName, "alice")),
            "common name is not an okmsId",
        ),
        (
            refusal(|p| p.distinguished_name.push(DnType::CommonName, OTHER_OKMS_ID)),
            "different domains",
        ),
        (refusal(|p| p.subject_alt_names.clear()), "no subject alternative name"),
        (refusal(|p| p.subject_alt_names.push(upn(&okms_domain))), "not exactly one otherName"),
        (
            refusal(|p| {
                p.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
            }),
            "not exactly one otherName",
        ),
        (
            refusal(|p| {
                p.subject_alt_names = vec![SanType::Rfc822Name("a@b.c".try_into().unwrap())];
            }),
            "not exactly one otherName",
        ),
        (
            refusal(|p| {
                p.subject_alt_names =
                    vec![SanType::OtherName((vec![1, 2, 3], okms_domain.as_str().into()))];
            }),
            "not a user principal name",
        ),
        (refusal(|p| p.subject_alt_names = vec![upn(OKMS_ID)]), "not okms.domain:"),
        (refusal(|p| p.subject_alt_names = vec![upn("okms.domain:")]), "not okms.domain:"),
        (
            refusal(|p| p.subject_alt_names = vec![upn(&format!("{okms_domain} "))]),
            "not okms.domain:",
        ),
        (
            refusal(|p| {
                // A second extension of the kind; the first could hide it.
                let content = vec![0x30, 0x03, 0x82, 0x01, b'x'];
                p.custom_extensions =
                    vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], content)];
            }),
            "more than one subject alternative name",
        ),
    ];
    for (refusal, reason) in cases {
        assert!(refusal.contains(reason), "{refusal:?} does not say {reason:?}");
    }
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let der = params().self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert!(peer_certificate(&[]).is_err());
    assert!(peer_certificate(&der[..der.len() - 1]).is_err());
    let mut longer = der;
    longer.push(0);
    assert!(peer_certificate(&longer).is_err());
}
