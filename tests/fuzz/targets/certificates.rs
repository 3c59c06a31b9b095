//! Client certificates, signing requests and revocation lists, as DER and as PEM.

#![no_main]

use okmsd::{domain::Timestamp, pki, server};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    revocation_list::CertificateRevocationList,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(peer) = server::peer_certificate(bytes) {
        let (rest, certificate) = X509Certificate::from_der(bytes).expect("a certificate");
        assert!(rest.is_empty(), "something follows");
        assert!(!certificate.is_ca());
        // The domain stands in it twice: as its name, and as its user principal name.
        let okms_id = peer.okms_id.to_string();
        let name = certificate.subject().iter_common_name().next().expect("a name");
        assert_eq!(name.as_str().expect("text").to_lowercase(), okms_id);
        let usage = certificate.extended_key_usage().expect("readable").expect("a usage").value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert!(server::peer_certificate(&[bytes, &[0]].concat()).is_err());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && pki::fuzzing::takes_request(text)
    {
        assert!(text.contains("CERTIFICATE REQUEST") && text.len() <= 32 * 1024);
    }
    // Nobody but its holder signs in the name of an authority.
    for list in server::fuzzing::usable_revocation_lists(bytes, AUTHORITY, NOW) {
        assert_eq!(signed_part(&list), signed_part(LIST), "a list by nobody is used");
    }
});

fn signed_part(list: &[u8]) -> Vec<u8> {
    let (_, list) = CertificateRevocationList::from_der(list).expect("a list");
    list.tbs_cert_list.as_ref().to_vec()
}

const AUTHORITY: &str = include_str!("../corpus/certificates/ca.pem");
/// The only list that it signed.
const LIST: &[u8] = include_bytes!("../corpus/certificates/list.der");
/// 2027, when the list is in force.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
