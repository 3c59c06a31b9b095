use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

use super::{ManualClock, NOW, OKMS_ID, material};
use crate::{
    pki::Authority,
    server::{ExternalAuthority, LiveTls, TlsMaterial},
};

const OTHER_OKMS_ID: &str = "00000000-0a6b-4a0c-9a3f-5c9d0e1f2a3b";

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A root and its certificate, PEM.
fn root(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let (params, key) = (ca(name), KeyPair::generate().unwrap());
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// Files of authorities: the domain of each and what is in it.
type Files<'a> = &'a [(&'a str, &'a [&'a str])];

fn files(base: &TlsMaterial, files: Files<'_>) -> TlsMaterial {
    let external_authorities = files.iter().enumerate().map(|(number, (okms_id, pems))| {
        let name = format!("{number}.pem");
        ExternalAuthority { name, okms_id: okms_id.parse().unwrap(), pem: pems.concat() }
    });
    TlsMaterial { external_authorities: external_authorities.collect(), ..base.clone() }
}

/// In whose file a certificate is says which lists and which clients it is for: to divide them in another
/// way is a change, which the tickets of before do not outlive.
#[test]
fn the_same_certificates_in_other_files_are_another_set() {
    let authority = Authority::generate("CA", NOW, 3650).unwrap();
    let base = material(&authority);
    let ((_, a), (b_issuer, b)) = (root("A"), root("B"));
    let middle = ca("M").signed_by(&KeyPair::generate().unwrap(), &b_issuer).unwrap().pem();
    let (a, b, m) = (a.as_str(), b.as_str(), middle.as_str());
    // In order, each has the same certificates one after the other.
    let divided: [(&str, Files<'_>); 6] = [
        ("one file", &[(OKMS_ID, &[a, b, m])]),
        ("two files", &[(OKMS_ID, &[a]), (OKMS_ID, &[b, m])]),
        ("the second of another domain", &[(OKMS_ID, &[a]), (OTHER_OKMS_ID, &[b, m])]),
        ("the first of another domain", &[(OTHER_OKMS_ID, &[a]), (OKMS_ID, &[b, m])]),
        ("both of another domain", &[(OTHER_OKMS_ID, &[a]), (OTHER_OKMS_ID, &[b, m])]),
        ("one file of another domain", &[(OTHER_OKMS_ID, &[a, b, m])]),
    ];
    for (from, before) in &divided {
        for (to, after) in &divided {
            let live = LiveTls::new(&files(&base, before), false, ManualClock::new()).unwrap();
            let ticketer = || live.api().current().ticketer.clone();
            let ticket = ticketer().encrypt(b"session").unwrap();
            assert_eq!(live.replace(&files(&base, after)).unwrap(), from != to, "{from} to {to}");
            let read = ticketer().decrypt(&ticket);
            assert_eq!(read.is_some(), from == to, "{from} to {to}");
        }
    }
}
