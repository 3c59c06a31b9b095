use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SanType};
use x509_parser::{extensions::GeneralName, public_key::PublicKey};

use super::{NOW, authority, der, extensions, parse, seconds};
use crate::{
    domain::OkmsId,
    pki::{AccessCertificate, AccessKey, Error, IssuedAccess},
};

const OKMS_ID: &str = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";

fn request(credential_id: &str, key: AccessKey) -> AccessCertificate {
    AccessCertificate {
        credential_id: credential_id.parse().unwrap(),
        okms_id: OKMS_ID.parse().unwrap(),
        not_before: NOW,
        not_after: NOW.plus_seconds(365 * 86_400),
        key,
    }
}

/// The bytes of the serial number as they stand in the certificate.
fn serial_of(credential_id: &str) -> Vec<u8> {
    let issued = authority().issue_access(request(credential_id, AccessKey::Ecdsa)).unwrap();
    parse(&der(&issued.certificate_pem)).raw_serial().to_vec()
}

#[test]
fn an_access_certificate_has_the_form_of_the_contract() {
    let authority = authority();
    let id = "1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f1";
    let issued = authority.issue_access(request(id, AccessKey::Ecdsa)).unwrap();
    let der_leaf = der(&issued.certificate_pem);
    let certificate = parse(&der_leaf);
    let der_issuer = der(authority.certificate_pem());
    let issuer = parse(&der_issuer);

    assert_eq!(certificate.version().0, 2, "X.509 v3");
    assert_eq!(certificate.issuer().to_string(), "CN=okmsd test CA");
    assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
    assert_eq!(certificate.subject().to_string(), format!("CN={OKMS_ID}"));
    assert_eq!(
        certificate.raw_serial(),
        uuid::Uuid::parse_str(id).unwrap().as_bytes(),
        "the serial number is the UUID"
    );
    assert_eq!(certificate.validity().not_before.timestamp(), seconds(NOW));
    assert_eq!(certificate.validity().not_after.timestamp(), seconds(NOW) + 365 * 86_400);

    let san = certificate.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    let [GeneralName::OtherName(oid, value)] = &san.value.general_names[..] else {
        panic!("one other name, not {:?}", san.value);
    };
    assert_eq!(oid.to_id_string(), "1.3.6.1.4.1.311.20.2.3");
    let text = format!("okms.domain:{OKMS_ID}");
    // [0] EXPLICIT UTF8String
    assert_eq!(&value[..4], [0xa0, 50, 0x0c, 48]);
    assert_eq!(&value[4..], text.as_bytes());

    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
    // Neither key usage nor basic constraints, AIA or CRL distribution points.
    assert_eq!(
        extensions(&certificate),
        [("2.5.29.17".into(), true), ("2.5.29.35".into(), false), ("2.5.29.37".into(), false)]
    );
    // ECDSA with SHA-256
    assert_eq!(certificate.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
    assert!(certificate.verify_signature(Some(issuer.public_key())).is_ok());

    assert_eq!(issued.fingerprint[..], *digest(&SHA256, &der_leaf).as_ref());
    let key = KeyPair::from_pem(issued.private_key_pem.as_ref().unwrap()).unwrap();
    assert_eq!(key.public_key_raw(), &*certificate.public_key().subject_public_key.data);
    assert!(!format!("{issued:?}").contains("PRIVATE"));
}

#[test]
fn a_serial_number_keeps_its_value_with_high_bits_and_leading_zeros() {
    let high = serial_of("ffeeddcc-bbaa-4988-8766-554433221100");
    assert_eq!(high[..3], [0, 0xff, 0xee], "a zero byte so that it is not negative");
    assert_eq!(high.len(), 17);
    let low = serial_of("00001234-bbaa-4988-8766-554433221100");
    assert_eq!(low[..2], [0x12, 0x34], "no leading zeros in DER");
    assert_eq!(low.len(), 14);
    let low_then_high = serial_of("0000ff34-bbaa-4988-8766-554433221100");
    assert_eq!(low_then_high[..2], [0, 0xff]);
}

#[test]
fn the_nil_uuid_is_refused() {
    let nil = request("00000000-0000-0000-0000-000000000000", AccessKey::Ecdsa);
    assert!(authority().issue_access(nil).is_err());
}

#[test]
fn impossible_times_are_refused() {
    let authority = authority();
    let mut backwards = request("1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f1", AccessKey::Ecdsa);
    backwards.not_after = backwards.not_before;
    assert!(authority.issue_access(backwards.clone()).is_err());
    backwards.not_after = NOW.plus_seconds(u64::MAX);
    assert!(authority.issue_access(backwards.clone()).is_err());
    backwards.not_after = NOW.plus_seconds(3650 * 86_400);
    let error = authority.issue_access(backwards).unwrap_err();
    assert!(error.to_string().contains("after its authority"), "{error}");
}

#[test]
fn an_rsa_key_has_3072_bits() {
    let request = request("1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f1", AccessKey::Rsa);
    let issued = authority().issue_access(request).unwrap();
    let der = der(&issued.certificate_pem);
    let certificate = parse(&der);
    let PublicKey::RSA(key) = certificate.public_key().parsed().unwrap() else {
        panic!("not an RSA key");
    };
    assert_eq!(key.key_size(), 3072);
    assert!(KeyPair::from_pem(&issued.private_key_pem.unwrap()).is_ok());
}

fn issue_csr(csr: impl Into<String>) -> Result<IssuedAccess, Error> {
    let id = "1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f1";
    authority().issue_access(request(id, AccessKey::Csr(csr.into())))
}

#[test]
fn nothing_but_the_public_key_is_taken_from_a_signing_request() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "00000000-aaaa-4aaa-8aaa-aaaaaaaaaaaa");
    params.subject_alt_names = vec![SanType::DnsName("evil.example".try_into().unwrap())];
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();

    let issued = issue_csr(csr).unwrap();
    assert!(issued.private_key_pem.is_none());
    let der = der(&issued.certificate_pem);
    let certificate = parse(&der);
    assert_eq!(&*certificate.public_key().subject_public_key.data, key.public_key_raw());
    assert_eq!(certificate.subject().to_string(), format!("CN={OKMS_ID}"));
    assert_eq!(certificate.extensions().len(), 3);
    let san = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names.len(), 1);
    assert!(!certificate.is_ca());
    let okms_id: OkmsId = OKMS_ID.parse().unwrap();
    assert_eq!(certificate.subject().to_string(), format!("CN={okms_id}"));
}

#[test]
fn the_kind_of_key_comes_from_the_key_not_from_the_signature() {
    // P-256, signed with SHA-384; a reader that goes by the signature would call it P-384.
    let issued = issue_csr(P256_WITH_SHA384).unwrap();
    let der = der(&issued.certificate_pem);
    let certificate = parse(&der);
    let curve = certificate.public_key().algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
    assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7");
    assert!(issue_csr(RSA_2048).is_ok());
}

#[test]
fn bad_signing_requests_are_refused_with_a_reason() {
    let key = KeyPair::generate().unwrap();
    let good = CertificateParams::default().serialize_request(&key).unwrap();
    // A signature that is not the key's.
    let mut forged = good.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, forged)
    );
    for (csr, reason) in [
        ("", "not PEM"),
        ("hello", "not PEM"),
        (&authority().certificate_pem().replace("CERTIFICATE", "CERTIFICATE REQUEST"), "PKCS#10"),
        (&forged, "signature is not its key's"),
        (RSA_1024, "an RSA key of 1024 bits; accepted are 2048 to 4096"),
        (ED25519, "unsupported kind"),
        (&"x".repeat(40_000), "too long"),
    ] {
        let error = issue_csr(csr).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} does not say {reason}");
    }
}

const RSA_1024: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBTjCBuAIBADAPMQ0wCwYDVQQDDAR3ZWFrMIGfMA0GCSqGSIb3DQEBAQUAA4GN
ADCBiQKBgQCiHksIeqEb6WQ4ZtuZLewk0CVr4Zd3DeBCpyVbxCVkMOO1dCBrupLC
Qi8jg+6vm0ElQiYDcXxFZOsVmZvkjv1cTkK23NikfW/ldYmjx4ModhoRQYi697/o
PULcn/3c8k3O8wShTktV21WuZ1pKD/OV+OeoeND5c5Fv4IwsE+OxmQIDAQABoAAw
DQYJKoZIhvcNAQELBQADgYEALAJEmKz4lynOM3eXjvmQkT2P98G/YiE3BdTnX718
u68ZrdYssUuziSgByhDPbLQJchTv+ZNnNckBWuAfF5sK8jHrS9Ho3Y0s4vgNFjkO
poycRMxRiuVcDYLYG0LoHj/sHARGIFbRwXNOELdjrD3xC+iSBx1hK979Z23XA4oK
ZyY=
-----END CERTIFICATE REQUEST-----";

const ED25519: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIGMMEACAQAwDTELMAkGA1UEAwwCZWQwKjAFBgMrZXADIQDflxVVmlWSb1p81UwZ
oPAJjBPFEXrh6xXJbX86QI5tDaAAMAUGAytlcANBAHVAP4kJOYIhQxntmyf35rq2
MdB1+UFO1pNsUgc6y7MtE3b/Ne6TWrXHHCpWean5eQcKhecJGavmWXqc69/cIAU=
-----END CERTIFICATE REQUEST-----";

const P256_WITH_SHA384: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHGMG4CAQAwDDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
BE7Nn/gIKTGrf1imAhaEhJF8FjKARUbZH6MbWeWqoFI187n1jm+madhN+zy3Z3dA
TCsQoEFnQfqwiiMi2UdJmkegADAKBggqhkjOPQQDAwNIADBFAiBod38YcksQkfn2
LkWzeU5xZ2xGOVLjT14bOQU5szSLrwIhAIWeICK2RzLyROMxlZQJf34JqMbtzUGG
VHkq8FAYplds
-----END CERTIFICATE REQUEST-----";

const RSA_2048: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIICUTCCATkCAQAwDDEKMAgGA1UEAwwBeDCCASIwDQYJKoZIhvcNAQEBBQADggEP
ADCCAQoCggEBAORYArzlX6/TvAduDRQk9yBgumClTgGkxzsIroXSaMwxmj4LQxpN
RFwI3obuSSGC0BD+6DVOuO5VbTPFvDNvVe4/FDjkPA7UtWZxnZMnz8LLTOhmTTN+
KFqu6/Q8B5XI+LLXCxu+GlrCaEjI9ImWZYQjq28htK93qGkAUa3W11mZbHt9hZh2
tbRXymylJefBSWykMC0G219cHHtwmg0xvfbRW5k43rImn2SqgdlkdI+HvB7f7+xq
6h0cRHS8PIpJqmCOkUm3b98GFcaruLSFpI+k/KPQ+1JqYmwitNiLxaHbr8tUybGT
WuYwEfFKCKmz9ABq790sYYF5O3EIJetx23kCAwEAAaAAMA0GCSqGSIb3DQEBCwUA
A4IBAQDHSROhQsz/Z/VNzxI1D9cBTLIq4qJjXXtqzSN+PunQn9Xvn7oaYPpyEYl9
W0C+tun8NKnxpyAple+qX1202rhPPoKeT/Hpb/SM+EDcOzC+PfJ5e6qSCdyRcKBu
YjPtZ+cWaLzxhGLFZDtWCjYvkh6u6qYuEwXG/dOqBMO4LZh8FQoeEUqI7ZTzqWSP
hA/OxlqUe8WB1f6Ht5XTjkA0kUjXOnVqYzMpmbCXvKG9wy1zpuLFbor6Rs0v4iOC
ZWQk4UkmTTDG48mESDZDboW9ydHUomMgkmkdSBxY0LMj2BiMfLkV3ZWGBmyHetGj
9ariOPqHZp2UVEMQ9ambcKYmLzeu
-----END CERTIFICATE REQUEST-----";
