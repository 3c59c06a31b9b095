use x509_parser::{extensions::GeneralName, extensions::ParsedExtension};

use super::{NOW, authority, der, extensions, parse, seconds};
use crate::pki::Authority;

const DAY: i64 = 86_400;

#[test]
fn an_authority_has_the_form_that_strict_clients_want() {
    let authority = authority();
    let der = der(authority.certificate_pem());
    let certificate = parse(&der);
    assert_eq!(certificate.subject().to_string(), "CN=okmsd test CA");
    assert_eq!(certificate.issuer().as_raw(), certificate.subject().as_raw());
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), seconds(NOW) - 3_600);
    assert_eq!(validity.not_after.timestamp(), seconds(NOW) - 3_600 + 3650 * DAY);
    let basic = certificate.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert_eq!(usage.value.flags.count_ones(), 2);
    assert_eq!(
        extensions(&certificate),
        [("2.5.29.14".into(), false), ("2.5.29.15".into(), true), ("2.5.29.19".into(), true)]
    );
    assert!(certificate.verify_signature(None).is_ok());
}

#[test]
fn an_authority_can_be_loaded_again() {
    let made = authority();
    let loaded = Authority::load(made.certificate_pem(), made.private_key_pem()).unwrap();
    assert_eq!(loaded.certificate_pem(), made.certificate_pem());
    let issued = loaded.issue_server(&["localhost".into()], NOW, 30).unwrap();
    let (issuer, leaf) = (der(made.certificate_pem()), der(&issued.certificate_pem));
    assert!(parse(&leaf).verify_signature(Some(parse(&issuer).public_key())).is_ok());
}

#[test]
fn an_authority_is_refused_with_another_key() {
    let (one, other) = (authority(), authority());
    let error = Authority::load(one.certificate_pem(), other.private_key_pem()).unwrap_err();
    assert_eq!(error.to_string(), "the authority's key is not the key of its certificate");
}

#[test]
fn a_server_certificate_is_no_authority() {
    let issued = authority().issue_server(&["localhost".into()], NOW, 30).unwrap();
    let error = Authority::load(&issued.certificate_pem, &issued.private_key_pem).unwrap_err();
    assert!(error.to_string().contains("not that of an authority"), "{error}");
}

#[test]
fn texts_that_are_no_authority_are_refused() {
    let made = authority();
    assert!(Authority::load("", made.private_key_pem()).is_err());
    assert!(Authority::load(made.certificate_pem(), "").is_err());
    assert!(Authority::load(made.certificate_pem(), made.certificate_pem()).is_err());
    let twice = format!("{0}{0}", made.certificate_pem());
    assert!(Authority::load(&twice, made.private_key_pem()).is_err());
}

#[test]
fn an_authority_whose_name_would_not_be_reproduced_is_refused() {
    // Two units: rcgen's reader keeps one, so what it signs would name another issuer.
    let error = Authority::load(TWO_UNITS_CA, TWO_UNITS_KEY).unwrap_err();
    assert!(error.to_string().contains("name has a form"), "{error}");
}

#[test]
fn names_of_authorities_have_a_length() {
    assert!(Authority::generate("", NOW, 1).is_err());
    assert!(Authority::generate(&"x".repeat(65), NOW, 1).is_err());
    assert!(Authority::generate("x", NOW, 0).is_err());
}

#[test]
fn debug_output_holds_no_key() {
    let authority = authority();
    let issued = authority.issue_server(&["localhost".into()], NOW, 30).unwrap();
    assert!(!format!("{authority:?} {issued:?}").contains("PRIVATE"));
}

#[test]
fn a_server_certificate_has_the_form_that_strict_clients_want() {
    let authority = authority();
    let names = ["okms.example.com", "*.okms.example.com", "127.0.0.1", "::1"].map(String::from);
    let issued = authority.issue_server(&names, NOW, 398).unwrap();
    let der_leaf = der(&issued.certificate_pem);
    let certificate = parse(&der_leaf);
    let der_issuer = der(authority.certificate_pem());
    let issuer = parse(&der_issuer);
    assert_eq!(certificate.subject().to_string(), "CN=okms.example.com");
    assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
    assert!(certificate.verify_signature(Some(issuer.public_key())).is_ok());
    let validity = certificate.validity();
    // Browsers count the whole of it.
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 398 * DAY);

    let san = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        san.value.general_names,
        [
            GeneralName::DNSName("okms.example.com"),
            GeneralName::DNSName("*.okms.example.com"),
            GeneralName::IPAddress(&[127, 0, 0, 1]),
            GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ]
    );
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any && usage.other.is_empty());
    let key_usage = certificate.key_usage().unwrap().unwrap();
    assert_eq!(key_usage.value.flags, 1, "digitalSignature and nothing else");
    assert!(!certificate.is_ca());
    assert_eq!(
        extensions(&certificate),
        [
            ("2.5.29.14".into(), false),
            ("2.5.29.15".into(), true),
            ("2.5.29.17".into(), false),
            ("2.5.29.19".into(), true),
            ("2.5.29.35".into(), false),
            ("2.5.29.37".into(), false),
        ]
    );
    assert_eq!(authority_key_id(&certificate), subject_key_id(&issuer));
}

#[test]
fn server_certificates_that_clients_would_refuse_are_not_made() {
    let authority = authority();
    for names in [&[][..], &["".into()], &["a b".into()], &["x.".into()], &["*.*.x".into()]] {
        assert!(authority.issue_server(names, NOW, 30).is_err(), "{names:?}");
    }
    let name = ["localhost".to_owned()];
    assert!(authority.issue_server(&name, NOW, 399).is_err());
    assert!(authority.issue_server(&name, NOW, 0).is_err());
    let short = Authority::generate("short", NOW, 10).unwrap();
    assert!(short.issue_server(&name, NOW, 10).is_ok());
    let error = short.issue_server(&name, NOW, 11).unwrap_err();
    assert!(error.to_string().contains("after its authority"), "{error}");
}

fn subject_key_id(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn authority_key_id(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    })
}

const TWO_UNITS_CA: &str = "-----BEGIN CERTIFICATE-----
MIIBtjCCAV2gAwIBAgIUPoVmegB3iY3ckyMdFJzfxAchILEwCgYIKoZIzj0EAwIw
KDEMMAoGA1UECwwDb25lMQwwCgYDVQQLDAN0d28xCjAIBgNVBAMMAXgwIBcNMjYx
MTIzMDk0NzExWhgPMjEyNjEwMzAwOTQ3MTFaMCgxDDAKBgNVBAsMA29uZTEMMAoG
A1UECwwDdHdvMQowCAYDVQQDDAF4MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
Ow5GDFAQXu91iGEsMuHH+nVqZUTevNH/VqXzezDYbIRz/tYYJJecjkc3SMgpKdWK
33o+LN4JGQcm8cwNUJiUaKNjMGEwHQYDVR0OBBYEFOFB9Atke2Gs4Tyxfm7/6xSt
ZUTiMB8GA1UdIwQYMBaAFOFB9Atke2Gs4Tyxfm7/6xStZUTiMA8GA1UdEwEB/wQF
MAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49BAMCA0cAMEQCIB/+NQonAHaJ
PacdT/pcEuGDUdzO34v7MFuvez90wzTfAiACvKQ7c0zsIFOXU3JygpHuXI52ry6l
4+nieQemJlA95g==
-----END CERTIFICATE-----";

/// Made for this test; protects nothing.
const TWO_UNITS_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHE7ygcBlZYRejTxC
wyBm9YcUXkQwF7WAPfGUx43M4NahRANCAAQ7DkYMUBBe73WIYSwy4cf6dWplRN68
0f9WpfN7MNhshHP+1hgkl5yORzdIyCkp1Yrfej4s3gkZBybxzA1QmJRo
-----END PRIVATE KEY-----";
